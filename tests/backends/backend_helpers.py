"""Builds targets for the tests of cost models."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from h4hc.backends import load_backends
from h4hc.backends.base import Backend
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.target import Target
from h4hc.ir.workload import Kernel

DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def description(**changes: Any) -> dict[str, Any]:
    """A small valid target as a file would hold it."""
    memory = {
        "name": "sram",
        "kind": "sram",
        "bytes": "2 MiB",
        "bandwidth": "16 GB/s",
        "latency": "32 ns",
        "energy_per_byte": "5.9 pJ/B",
    }
    return {
        "h4hc_target": "1.0",
        "name": "test",
        "io": "host",
        "handoff": "1 us",
        "memories": [memory],
        "devices": [{"name": "host", "kind": "host", "preset": "cortex-m55", "memory": "sram"}],
    } | changes


def one_device(
    kind: str,
    preset: str,
    io: dict[str, str] | None = None,
    weights: dict[str, str] | None = None,
    **parameters: Any,
) -> Backend:
    """The cost model of one device with its own SRAM, and weights in 4 GB/s, 64 pJ/B DRAM.

    `io` and `weights` change fields of the two memories.
    """
    base = description()["memories"][0]
    sram = base | {"name": "own"} | (io or {})
    dram = base | {"name": "dram", "kind": "dram", "bandwidth": "4 GB/s", "energy_per_byte": "64 pJ/B"}
    dram |= {"latency": "100 ns", "bytes": "256 MiB"} | (weights or {})
    device = {"name": "d", "kind": kind, "preset": preset, "memory": "own", "weights": "dram"}
    link = {"name": "l", "memories": ["sram", "own"], "bandwidth": "1 GB/s", "latency": "1 us"}
    link |= {"tile_overhead": "0 s", "energy_per_byte": "0 pJ/B"}
    target = Target.model_validate(
        description(
            memories=[base, sram, dram],
            devices=[*description()["devices"], device | {"parameters": parameters}],
            links=[link],
        )
    )
    return load_backends(target)["d"]


def one_cost(backend: Backend, kernel: Kernel, mode: str | None = None) -> Cost:
    """The cost in `mode` (default: the only one)."""
    found = backend.costs(kernel)
    assert not isinstance(found, Refusal), found.reason
    chosen = [cost for cost in found if mode is None or cost.mode == mode]
    assert len(chosen) == 1
    return chosen[0]


def refusal(backend: Backend, kernel: Kernel) -> str:
    found = backend.costs(kernel)
    assert isinstance(found, Refusal)
    return found.reason
