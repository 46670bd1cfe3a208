"""Networks compiled by h4hc from ONNX, against Arm's Vela compiler (ethos-u-vela 5.2.0) on the same systems.

    python -m benchmarks.references.end_to_end

`vela` compares the cost model with every decision taken from Vela: which memory holds a feature map, in which
layout, how weights are buffered. Here nothing but the network, the encoded size of its weights and the memory
system are Vela's; both compilers decide for themselves.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from onnx import ModelProto

import h4hc
from benchmarks.networks import build
from benchmarks.references.errors import Pair, Section, print_sections, read_table, summarise
from benchmarks.references.published import SCALE_BYTES, Sized, output_channels, required
from benchmarks.references.vela_rows import SYSTEMS, System
from h4hc.backends.base import load_backends
from h4hc.frontend import normalise
from h4hc.ir.graph import Graph
from h4hc.ir.target import Target

CACHE = "384 KiB"  # of SRAM, where feature maps live in DRAM
NOT_MODELLED = (
    "Vela reads a network's input from DRAM in short runs on U65 and U85, which takes half of the time of the "
    "smallest network; here it arrives in SRAM",
    "Vela's cascades, which work through several layers stripe by stripe where feature maps do not fit the SRAM, "
    "and feature maps that it keeps in DRAM by its own rules; here they spill whole",
)


def sections() -> list[Section]:
    """Total cycles per configuration, and per network over all of them."""
    pairs = [(config, row["model"], _pair(config, row)) for config in SYSTEMS for row in _rows(config)]
    reference, unit = (
        "Vela 5.2.0, nothing taken from it but the size of encoded weights",
        "cycles of a network",
    )
    return [
        Section(
            "Compiled from ONNX, per configuration",
            reference,
            unit,
            summarise(pair._replace(group=config, name=model) for config, model, pair in pairs),
            NOT_MODELLED,
        ),
        Section(
            "Compiled from ONNX, per network",
            reference,
            unit,
            summarise(pair._replace(group=model, name=config) for config, model, pair in pairs),
        ),
    ]


def _rows(config: str) -> list[dict[str, str]]:
    return [row for row in read_table("vela_whole") if row["config"] == config]


def _pair(config: str, row: dict[str, str]) -> Pair:
    target = system_target(config)
    compiler = h4hc.Compiler(target)
    model = normalised(row["network"])
    graph = required(compiler.compile(model, observe=lambda *_: True).graph)
    fuse, *others = compiler.passes
    compiler.passes = (fuse, Sized(int(row["weight_bytes"]) + scale_bytes(graph)), *others)
    schedule = required(compiler.compile(model, h4hc.Options(effort="fast", baselines=False)).schedule)
    clock = SYSTEMS[config].clock * 1e6
    return Pair("", "", float(row["cycles"]), schedule.latency * 1e-9 * clock)


@cache
def normalised(network: str) -> ModelProto:
    """The network as the compiler takes it."""
    return normalise(build(network), {})


def scale_bytes(graph: Graph) -> int:
    """Biases and scales of all layers."""
    return SCALE_BYTES * sum(output_channels(operator.kernel) for operator in graph.operators)


@cache
def system_target(config: str) -> Target:
    """The system of a configuration, without the start of a command, which Vela leaves out."""
    system = SYSTEMS[config]
    dram = system.other == "Dram"
    sram = _memory("sram", "sram", system, system.sram, (32, 32), system.burst)
    other = _memory("other", "dram" if dram else "flash", system, system.rate, system.latencies, 128)
    memories = {"memory": "sram", "weights": "sram" if system.constants else "other"}
    if dram:
        memories["spill"] = "other"
    npu: dict[str, Any] = {"name": "npu", "kind": "npu", "preset": system.preset, **memories}
    npu |= {"parameters": {"operator_cycles": 0, "overlap": 1, "clock": f"{system.clock} MHz"}}
    host = {"name": "host", "kind": "host", "preset": "cortex-m55", **memories}
    target = Target.model_validate(
        {
            "h4hc_target": "1.0",
            "name": config,
            "io": "host",
            "handoff": "1 us",
            "memories": [sram | {"bytes": CACHE if dram else "64 MiB"}, other],
            "devices": [host, npu],
        }
    )
    load_backends(target)
    return target


def _memory(
    name: str, kind: str, system: System, rate: float, latencies: tuple[int, int], burst: int
) -> dict[str, Any]:
    read, write = (f"{cycles * 1e3 / system.clock:g} ns" for cycles in latencies)
    return {
        "name": name, "kind": kind, "bytes": "512 MiB", "energy_per_byte": "1 pJ/B", "latency": read,
        "write_latency": write, "bandwidth": f"{rate * system.clock:g} MB/s", "burst": f"{burst} B",
    }  # fmt: skip


if __name__ == "__main__":
    print_sections(sections())
