"""Tables of Vela's performance estimates with the shapes of every operator, one row each.

The columns are those of Vela's internal records: ``op``, ``op_cycles`` (with memory), ``npu_cycles``, shapes of
input, second input and output, kernel, memories, data types, encoded weight bytes and traffic by memory. Such tables
come from scripts that run the compiler as a library; ``config`` names the device.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod

from h4hc.backends.profiles.formats import Said
from h4hc.backends.profiles.formats.cells import Cells, needed, read_cells
from h4hc.backends.profiles.kernels import TYPES, canonical
from h4hc.backends.profiles.table import Measurement, Places, Profile, ProfileMemory
from h4hc.errors import ProfileError
from h4hc.ir.workload import Conv, Elementwise, Kernel, MatMul, Move, Precision, Reduction, Workload

_MEMORIES = {"Sram": "sram", "Dram": "dram", "OffChipFlash": "flash", "OnChipFlash": "nvm"}
_CLOCKS = {"u55": 5e8, "u65": 1e9, "u85": 1e9}  # Vela's high-end system configurations
_TRAFFIC = re.compile(rf"({'|'.join(_MEMORIES)})(FeatureMap|Weights|Scales)_(read|write)")
_FUSED = {"Relu": "relu", "Relu6": "relu", "ReluN1To1": "relu", "LUT": "lut", "Sigmoid": "lut", "Tanh": "lut"}
_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Minimum": "min", "Maximum": "max", "Div": "div"}
_UNARY = {
    "Relu": "relu",
    "Relu6": "relu",
    "LUT": "lut",
    "Quantize": "lut",
    "Abs": "lut",
    "Sigmoid": "lut",
    "Tanh": "lut",
}
_POOLS = {"MaxPool": "max_pool", "AvgPool": "average_pool", "ReduceSum": "sum", "ReduceMean": "mean"}


def read(data: bytes, name: str, said: Said) -> Profile:
    """One row per operator; activations that Vela fused (no cycles of their own) join the row before them."""
    rows: list[Measurement] = []
    configs: dict[str, int] = {}
    clock = said.clock
    for cells in read_cells(data, name):
        config = cells.text("config")
        configs.setdefault(config, cells.line)
        clock = said.clock or _CLOCKS.get(config.partition("-")[0])
        if cells.number("op_cycles") > 0:
            needed(said, name, clock=clock)
            rows.append(_measurement(cells, said.model, clock or 1.0))
        elif rows and cells.text("op") in _FUSED and rows[-1].model == (said.model or cells.text("model")):
            rows[-1] = _with_step(rows[-1], _FUSED[cells.text("op")])
    if len(configs) > 1:
        raise ProfileError(
            f"{name}: holds rows of {len(configs)} devices ({', '.join(list(configs)[:4])})",
            code="mixed-profiles",
            hint="a profile is of one device: split the file by its column config",
        )
    needed(said, name, compiler=said.compiler, device=said.device or "".join(configs))
    return Profile(
        device=said.device or f"Ethos-{''.join(configs).upper()}",
        compiler=said.compiler,
        rows=tuple(rows),
        clock=clock,
        accelerator="npu",
        macs_per_cycle=_macs_per_cycle("".join(configs)),
        method="estimate of the Vela compiler, not a measurement",
        date=said.date,
        memories=_memories(rows),
    )


def _macs_per_cycle(config: str) -> float | None:
    """That of a configuration such as ``u55-128``."""
    found = re.match(r"u[0-9]+-([0-9]+)", config)
    return float(found[1]) if found else None


def _measurement(cells: Cells, model: str, clock: float) -> Measurement:
    workload = _workload(cells)
    bits = TYPES.get(cells.text("ifm_dtype").lower(), 8)
    traffic = _traffic(cells)
    cycles = cells.number("op_cycles")
    weighted = workload is not None and workload.weight_elements > 0
    held = _MEMORIES.get(cells.text("ifm_memory"), ""), _MEMORIES.get(cells.text("ofm_memory"), "")
    return Measurement(
        kernel=None if workload is None else canonical(Kernel(workload, (), Precision(bits, 8))),
        seconds=cycles / clock,
        granularity="block" if workload is None else "op",
        model=model or cells.text("model"),
        node="" if workload is None else cells.text("name"),
        onnx_op="*" if workload is None else "",
        placement=Places(held[0], _weight_memory(cells) if weighted else "", held[1]),
        cycles=cycles,
        cycles_active=cells.number("npu_cycles") or None,
        macs=cells.count("macs") if workload is None else None,
        encoded_bytes=cells.count("weight_total_bytes") or None if weighted else None,
        traffic=traffic,
        comment="" if workload is not None else cells.text("op"),
        line=cells.line,
    )


def _with_step(row: Measurement, step: str) -> Measurement:
    if row.kernel is None:
        return row
    kernel = row.kernel
    return replace(row, kernel=kernel._replace(epilogue=(*kernel.epilogue, step)))


def _workload(cells: Cells) -> Workload | None:
    """What a row computes; None for what h4hc has no name for."""
    op = cells.text("op")
    n, height, width, channels = (max(1, cells.count(f"ofm_shape_{axis}")) for axis in "nhwc")
    in_h, in_w, in_c = (max(1, cells.count(f"ifm_shape_{axis}")) for axis in "hwc")
    elements = n * height * width * channels
    kernel_h, kernel_w = (max(1, cells.count(f"kernel_size_{axis}")) for axis in "yx")
    if op in ("Conv2D", "DepthwiseConv2D"):
        sh, sw = (max(1, cells.count(f"kernel_stride_{axis}")) for axis in "yx")
        dh, dw = (max(1, cells.count(f"kernel_dilation_{axis}")) for axis in "yx")
        groups = in_c if op == "DepthwiseConv2D" else 1
        sizes = (n, in_c, channels, in_h, in_w, height, width, kernel_h, kernel_w, sh, sw, dh, dw, groups)
        return Conv(*sizes)
    if op == "FullyConnected":
        return MatMul(1, n * height * width, in_c, channels)
    if op == "MatMul":
        # Of a batch, the estimates for U85 count one product only: the MACs tell how many are meant.
        counted = cells.count("macs") // (width * in_c * channels)
        return MatMul(counted or n * height, width, in_c, channels, dynamic=True)
    if op in _POOLS:
        return Reduction(_POOLS[op], n, channels, in_h, in_w, height, width, kernel_h, kernel_w)
    if op in _BINARY:
        constant = cells.count("ifm2_shape_h") == 0
        return Elementwise(elements, 1 if constant else 2, _BINARY[op])
    if op in _UNARY:
        return Elementwise(elements, 1, _UNARY[op])
    if op in ("Transpose", "MemoryCopy"):
        read = prod((n, in_h, in_w, in_c))
        return (
            Move("transpose", read, elements, 1) if op == "Transpose" else Move("slice", read, elements, in_c)
        )
    return None


def _weight_memory(cells: Cells) -> str:
    """Where the weights live: off chip, if any are read from there."""
    for memory in ("Dram", "OffChipFlash", "OnChipFlash"):
        if cells.count(f"{memory}Weights_read") or cells.number(f"{memory}Weights_ac"):
            return _MEMORIES[memory]
    return "sram"


def _traffic(cells: Cells) -> tuple[tuple[str, int, int], ...]:
    moved: dict[str, list[int]] = {}
    for column in cells.values:
        match = _TRAFFIC.fullmatch(column)
        if match and cells.values[column].strip():
            way = moved.setdefault(_MEMORIES[match[1]], [0, 0])
            way[match[3] == "write"] += cells.count(column)
    return tuple((memory, read, wrote) for memory, (read, wrote) in sorted(moved.items()) if read or wrote)


def _memories(rows: list[Measurement]) -> tuple[ProfileMemory, ...]:
    names = sorted({memory for row in rows for memory, _, _ in row.traffic})
    return tuple(ProfileMemory(memory, kind=memory) for memory in names)
