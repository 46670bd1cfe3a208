"""The per-layer table of Arm's Vela compiler: ``vela --verbose-performance`` writes ``*_per-layer.csv``.

Two headings are in use: up to Vela 4 (``TFLite_operator``, ``SRAM Usage``, ``Peak%`` ...), and since its new
compiler core (``Original Operator``, ``Staging Usage`` ...). The table has cycles, MACs and names, but no shapes: rows
are matched with the operators of the model in order, by kind and number of MACs. What finds no match stays a
block of known MACs.
"""

from __future__ import annotations

from collections.abc import Sequence

from h4hc.backends.profiles.formats import Operator, Said
from h4hc.backends.profiles.formats.cells import Cells, needed, read_cells
from h4hc.backends.profiles.kernels import canonical
from h4hc.backends.profiles.table import Measurement, Profile
from h4hc.ir.workload import Conv, Elementwise, Kernel, MatMul, Move, Reduction

_KINDS = {
    "Conv2D": "conv", "Conv2DBias": "conv", "ConvolutionBias": "conv", "TransposeConv2D": "conv",
    "DepthwiseConv2D": "depthwise", "DepthwiseConv2DBias": "depthwise",
    "FullyConnected": "linear", "QuantizedMatMul": "linear", "MatMul": "linear", "BatchMatMul": "linear",
    "Add": "add", "Sub": "sub", "Mul": "mul", "Minimum": "min", "Maximum": "max",
    "MaxPool": "max_pool", "QuantizedMaxPool": "max_pool", "AvgPool": "average_pool",
    "QuantizedAvgPool": "average_pool", "ReduceSum": "sum", "Softmax": "softmax", "ResizeBilinear": "resize",
    "ResizeNearestNeighbor": "resize", "Transpose": "transpose",
}  # fmt: skip


def read(data: bytes, name: str, said: Said) -> Profile:
    """One row per operator that Vela scheduled on the NPU."""
    needed(said, name, device=said.device, compiler=said.compiler, clock=said.clock)
    rows = [cells for cells in read_cells(data, name) if cells.number("Op Cycles") > 0]
    matched = match(rows, said.operators)
    clock = said.clock or 1.0
    measurements = []
    for index, cells in enumerate(rows):
        operator = matched.get(index)
        cycles = cells.number("Op Cycles")
        measurements.append(
            Measurement(
                kernel=canonical(operator.kernel) if operator else None,
                seconds=cycles / clock,
                granularity="op" if operator else "block",
                model=said.model,
                node=operator.node if operator else "",
                onnx_op="" if operator else "*",
                cycles=cycles,
                cycles_active=cells.number("NPU") or None,
                macs=None if operator else cells.count("MAC Count"),
                comment=cells.text("Name"),
                line=cells.line,
            )
        )
    return Profile(
        device=said.device,
        compiler=said.compiler,
        rows=tuple(measurements),
        clock=said.clock,
        accelerator="npu",
        method="estimate of the Vela compiler, not a measurement",
        date=said.date,
    )


def match(rows: Sequence[Cells], operators: Sequence[Operator]) -> dict[int, Operator]:
    """The operator that each row is, by its position: both lists are in the order in which they run.

    A row that finds no operator ahead of the last match, of its kind and MACs, has none.
    """
    found: dict[int, Operator] = {}
    position = 0
    for index, cells in enumerate(rows):
        kind, macs = _KINDS.get(cells.text("NNG Operator"), ""), cells.count("MAC Count")
        for ahead in range(position, len(operators)):
            if kind and _kind(operators[ahead].kernel) == kind and _same_macs(operators[ahead].kernel, macs):
                found[index] = operators[ahead]
                position = ahead + 1
                break
    return found


def _same_macs(kernel: Kernel, macs: int) -> bool:
    """Vela counts MACs for pools and the like, too; those follow by kind alone."""
    return kernel.workload.macs in (0, macs)


def _kind(kernel: Kernel) -> str:
    match kernel.workload:
        case Conv() as conv:
            return "depthwise" if conv.depthwise else "conv"
        case MatMul():
            return "linear"
        case Elementwise(kind=kind) | Reduction(kind=kind) | Move(kind=kind):
            return kind
        case _:
            return ""
