"""ONNX operators to workloads: what an anchor node computes, and how it streams.

`lower` dispatches on the operator type through `LOWERINGS`; a type that is not in the table, or whose
tensors are not the 8/16-bit or floating-point data that accelerators take, becomes `Generic`, which only the
host runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.frontend.streams import Position, axis_position, scale_block, survives_block, transposed
from h4hc.ir.graph import Streamed
from h4hc.ir.workload import Conv, Elementwise, Generic, MatMul, Move, Reduction, Workload

_ACCELERATED_DTYPES = frozenset(["float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16"])

# Integer products whose int32 accumulators are rescaled by the operators behind them.
_INT32_RESULTS = frozenset(["ConvInteger", "MatMulInteger"])

# Scalar operations per element, an upper bound, for operators that are more than one pass over their data.
GENERIC_OPERATIONS = {"LRN": 16, "TopK": 32, "NonMaxSuppression": 64, "GridSample": 32, "Attention": 64}

RELU_LIKE = frozenset(["Relu", "Clip"])
UNARY = frozenset(
    [
        "Relu",
        "Clip",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Softplus",
        "Softsign",
        "Erf",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Abs",
        "Neg",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Sin",
        "Cos",
        "Tan",
        "Asin",
        "Acos",
        "Atan",
        "Sinh",
        "Cosh",
        "Asinh",
        "Acosh",
        "Atanh",
        "Gelu",
        "Mish",
        "Swish",
        "ThresholdedRelu",
        "Shrink",
        "Cast",
        "CastLike",
        "QuantizeLinear",
        "DequantizeLinear",
        "BatchNormalization",
    ]
)
BINARY = {
    "Add": "add",
    "Sum": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Max": "max",
    "Min": "min",
    "Pow": "other",
    "PRelu": "other",
    "Mean": "other",
}


class Lowered(NamedTuple):
    """What a node computes; `streams` per input tensor (absent: needed in full), `position` of the output axis."""

    workload: Workload
    streams: Mapping[str, Streamed] = MappingProxyType({})
    position: Position = Position(1, 1)


Produced = Mapping[str, Position]


def lower(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Lower `node`. `produced` gives the position along which a run-time tensor appears, if it does row by row."""
    lowering = LOWERINGS.get(node.op)
    if lowering is None:
        return generic(graph, node)
    for tensor in node.runtime:
        if not accelerated(graph, tensor):
            return generic(graph, node)
    if node.op not in _INT32_RESULTS:
        for tensor in node.outputs:
            if tensor and not accelerated(graph, tensor):
                return generic(graph, node)
    return lowering(graph, node, produced)


def accelerated(graph: NodeGraph, tensor: str) -> bool:
    """Whether `tensor` holds data that accelerators take (not indices, conditions or doubles)."""
    return graph.dtype(tensor) in _ACCELERATED_DTYPES


def generic(graph: NodeGraph, node: Node) -> Lowered:
    """An operator of which only type and sizes are known; it needs its inputs in full."""
    inputs = sum(graph.elements(name) for name in node.runtime)
    outputs = sum(graph.elements(name) for name in node.outputs if name)
    operations = max(inputs, outputs) * GENERIC_OPERATIONS.get(node.op, 1)
    if node.op in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"):
        weights = graph.elements(node.inputs[3 if node.op == "QLinearConv" else 1])
        operations = 2 * weights * max(inputs, outputs)
    return Lowered(Generic(node.op, inputs, outputs, max(1, operations)))


# --- convolution and pooling -------------------------------------------------------------------


def conv_axes(shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Batch, channels, height and width of an NCHW or NCL tensor; a 1-D map lies along the height."""
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return shape[0], shape[1], shape[2], 1
    return None


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride, dilation and top padding of a sliding window."""

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int


def read_window(node: Node, kernel: tuple[int, ...], input_h: int, output_h: int) -> Window:
    """The window attributes of a Conv or pooling node over 1 or 2 spatial axes."""
    rank = len(kernel)
    strides = node.integers("strides") or (1,) * rank
    dilations = node.integers("dilations") or (1,) * rank
    pads = node.integers("pads") or (0,) * (2 * rank)
    pad_top = pads[0]
    automatic = node.text("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = max(0, (output_h - 1) * strides[0] + (kernel[0] - 1) * dilations[0] + 1 - input_h)
        pad_top = (total + (automatic == "SAME_LOWER")) // 2
    elif automatic == "VALID":
        pad_top = 0
    wide = rank > 1
    return Window(
        kernel[0], kernel[1] if wide else 1, strides[0], strides[1] if wide else 1,
        dilations[0], dilations[1] if wide else 1, pad_top,
    )  # fmt: skip


def _window_stream(
    source: str, shape: tuple[int, ...], out_shape: tuple[int, ...], window: Window
) -> Lowered:
    """The streams of a sliding window over rows; the workload is filled in by the caller."""
    prefix, rows = axis_position(shape, 2)
    reach = (window.kernel_h - 1) * window.dilation_h + 1
    stream = Streamed(prefix, rows, reach, window.stride_h, window.pad_top)
    return Lowered(Move("view", 0, 0), {source: stream}, axis_position(out_shape, 2))


def _conv(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    quantised = node.op == "QLinearConv"
    source, weight = node.inputs[0], node.inputs[3 if quantised else 1]
    shape, out_shape, kernel_shape = graph.shape(source), graph.shape(node.outputs[0]), graph.shape(weight)
    data, out = conv_axes(shape), conv_axes(out_shape)
    if data is None or out is None or weight not in graph.constants:
        return generic(graph, node)
    transposed_conv = node.op == "ConvTranspose"
    window = read_window(node, kernel_shape[2:], data[2], out[2])
    workload = Conv(
        data[0], data[1], out[1], data[2], data[3], out[2], out[3], window.kernel_h, window.kernel_w,
        window.stride_h, window.stride_w, window.dilation_h, window.dilation_w,
        node.integer("group", 1), transposed_conv,
    )  # fmt: skip
    if transposed_conv:
        return Lowered(workload)
    streaming = _window_stream(source, shape, out_shape, window)
    return Lowered(workload, streaming.streams, streaming.position)


def _pool(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    source = node.inputs[0]
    shape, out_shape = graph.shape(source), graph.shape(node.outputs[0])
    data, out = conv_axes(shape), conv_axes(out_shape)
    if data is None or out is None or any(node.outputs[1:]):
        return generic(graph, node)
    kind = "max_pool" if "Max" in node.op else "average_pool"
    if node.op.startswith("Global"):
        workload = Reduction(kind, data[0], data[1], data[2], data[3], 1, 1, data[2], data[3])
        return Lowered(workload)
    window = read_window(node, node.integers("kernel_shape"), data[2], out[2])
    workload = Reduction(
        kind, data[0], data[1], data[2], data[3], out[2], out[3], window.kernel_h, window.kernel_w
    )
    streaming = _window_stream(source, shape, out_shape, window)
    return Lowered(workload, streaming.streams, streaming.position)


# --- matrix products ----------------------------------------------------------------------------


def _matmul(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    left, right = node.inputs[0], node.inputs[3 if node.op == "QLinearMatMul" else 1]
    left_shape, right_shape = graph.shape(left), graph.shape(right)
    if len(left_shape) < 2 or len(right_shape) < 2:
        return generic(graph, node)
    m, k, n = left_shape[-2], left_shape[-1], right_shape[-1]
    batch = prod(graph.shape(node.outputs[0])[:-2])
    if left in graph.constants:
        # constant x activation: the same product transposed
        shared = prod(left_shape[:-2]) == 1
        return Lowered(MatMul(1 if shared else batch, n * batch if shared else n, k, m))
    dynamic = right not in graph.constants
    if not dynamic and prod(right_shape[:-2]) == 1:
        workload = MatMul(1, m * batch, k, n)
    else:
        workload = MatMul(batch, m, k, n, dynamic)
    return _row_streams(graph, node, workload, (left, right), produced)


def _row_streams(
    graph: NodeGraph, node: Node, workload: MatMul, operands: tuple[str, str], produced: Produced
) -> Lowered:
    """A product streams by rows of its left operand; by whole batches if that is how the operand arrives."""
    left, right = operands
    shape, out_shape = graph.shape(left), graph.shape(node.outputs[0])
    if prod(shape[:-2]) != prod(out_shape[:-2]):
        return Lowered(workload)
    arriving = produced.get(left)
    matrix = shape[-2] * shape[-1]
    if arriving is not None and prod(shape) // (arriving.prefix * arriving.rows) % matrix == 0:
        streams = {left: Streamed(*arriving)}
        if workload.dynamic and graph.shape(right)[:-2] == shape[:-2] and right != left:
            streams[right] = Streamed(*arriving)
        elif right == left:
            streams = {}
        return Lowered(workload, streams, arriving)
    if left == right:
        return Lowered(workload)
    position = axis_position(shape, len(shape) - 2)
    return Lowered(workload, {left: Streamed(*position)}, axis_position(out_shape, len(out_shape) - 2))


def _gemm(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    left, right = node.inputs[0], node.inputs[1]
    rows, inner = graph.shape(left)
    if node.integer("transA", 0):
        rows, inner = inner, rows
    columns = graph.shape(node.outputs[0])[1]
    if left in graph.constants:
        return Lowered(MatMul(1, columns, inner, rows))
    workload = MatMul(1, rows, inner, columns, right not in graph.constants)
    if node.integer("transA", 0) or left == right:
        return Lowered(workload)
    return Lowered(workload, {left: Streamed(1, rows)}, Position(1, rows))


def _einsum(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    equation = node.text("equation", "").replace(" ", "")
    terms, arrow, output = equation.partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or not arrow or "." in equation or any(len(set(t)) != len(t) for t in operands):
        return generic(graph, node)
    extents: dict[str, int] = {}
    for term, name in zip(operands, node.inputs, strict=True):
        extents.update(zip(term, graph.shape(name), strict=True))
    first, second, kept = set(operands[0]), set(operands[1]), set(output)
    if not (first & second - kept) or (first ^ second) - kept:
        return generic(graph, node)

    def extent(letters: set[str]) -> int:
        return prod(extents[letter] for letter in letters)

    batch, inner = extent(first & second & kept), extent(first & second - kept)
    m, n = extent(first - second), extent(second - first)
    if node.inputs[0] in graph.constants:
        m, n = n, m
    constant = any(name in graph.constants for name in node.inputs)
    return Lowered(MatMul(batch, m, inner, n, not constant))


# --- reductions and normalisation ------------------------------------------------------------------


def follow_block(
    graph: NodeGraph, source: str, produced: Produced, block: tuple[int, int, int], workload: Workload
) -> Lowered:
    """An operator that mixes the middle axis of `source` = [outer, length, inner] and keeps the shape."""
    position = produced.get(source)
    if position is None or not survives_block(position, *block):
        position = _outermost(graph.shape(source), block[0])
    if position.rows == 1:
        return Lowered(workload)
    return Lowered(workload, {source: Streamed(*position)}, position)


def _outermost(shape: tuple[int, ...], limit: int) -> Position:
    """The longest axis whose prefix times length does not exceed `limit`."""
    best, prefix = Position(1, 1), 1
    for extent in shape:
        if prefix * extent <= limit and extent >= best.rows:
            best = Position(prefix, extent)
        prefix *= extent
    return best


def normalised_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    return axis + rank if axis < 0 else axis


def split_at(shape: tuple[int, ...], first: int, last: int) -> tuple[int, int, int]:
    """Extents before axis `first`, of axes `first` to `last`, and after."""
    return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])


def _softmax(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    shape = graph.shape(node.inputs[0])
    if graph.opset >= 13:
        axis = normalised_axis(node.integer("axis", -1), len(shape))
        block = split_at(shape, axis, axis)
    else:
        axis = normalised_axis(node.integer("axis", 1), len(shape))
        block = split_at(shape, axis, len(shape) - 1)
    workload = Reduction("softmax", 1, block[1], block[0] * block[2], 1, block[0] * block[2], 1)
    return follow_block(graph, node.inputs[0], produced, block, workload)


def _layer_norm(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    if any(node.outputs[1:]):
        return generic(graph, node)
    shape = graph.shape(node.inputs[0])
    block = _norm_block(node, shape)
    rows = block[0] * block[2]
    kind = "l2_norm" if node.op == "LpNormalization" else "layer_norm"
    workload = Reduction(kind, 1, block[1], rows, 1, rows, 1)
    return follow_block(graph, node.inputs[0], produced, block, workload)


def _norm_block(node: Node, shape: tuple[int, ...]) -> tuple[int, int, int]:
    last = len(shape) - 1
    if node.op == "InstanceNormalization":
        return split_at(shape, 2, last)
    if node.op == "GroupNormalization":
        groups = node.integer("num_groups", 1)
        return shape[0] * groups, prod(shape[1:]) // groups, 1
    axis = normalised_axis(node.integer("axis", -1), len(shape))
    return split_at(shape, axis, axis if node.op == "LpNormalization" else last)


_REDUCE_KINDS = {"ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "max", "ReduceSum": "sum"}


def reduced_axes(graph: NodeGraph, node: Node) -> tuple[int, ...] | None:
    """The axes a Reduce* node reduces over, sorted; None if they are not known."""
    rank = len(graph.shape(node.inputs[0]))
    if len(node.inputs) > 1 and node.inputs[1]:
        given = graph.integers(node.inputs[1])
        if given is None:
            return None
    else:
        given = node.integers("axes")
    if not given:
        return () if node.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(normalised_axis(axis, rank) for axis in given))


def _reduce(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    source = node.inputs[0]
    shape = graph.shape(source)
    axes = reduced_axes(graph, node)
    if not axes or axes != tuple(range(axes[0], axes[-1] + 1)):
        return generic(graph, node)
    outer, length, inner = split_at(shape, axes[0], axes[-1])
    rows = shape[axes[0]] if len(axes) == 2 else length
    columns = length // rows if rows else 1
    workload = Reduction(_REDUCE_KINDS[node.op], 1, outer * inner, rows, columns, 1, 1, rows, columns)
    position = produced.get(source)
    if position is not None and survives_block(position, outer, length, inner):
        return Lowered(workload, {source: Streamed(*position)}, scale_block(position, outer, length, 1))
    return Lowered(workload)


# --- elementwise ---------------------------------------------------------------------------------------


def _unary(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    kind = "relu" if node.op in RELU_LIKE else "lut"
    operands = node.runtime
    if len(operands) != 1 or any(node.outputs[1:]):
        return generic(graph, node)
    return elementwise(graph, node.outputs[0], produced, kind, operands)


def _binary(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    operands = node.runtime
    if len(operands) > 2:
        return generic(graph, node)
    return elementwise(graph, node.outputs[0], produced, BINARY[node.op], operands)


def elementwise(
    graph: NodeGraph, output: str, produced: Produced, kind: str, operands: Sequence[str]
) -> Lowered:
    """One pass over `output`; every operand of the output's size streams along with it."""
    elements = graph.elements(output)
    whole = [name for name in operands if graph.elements(name) == elements]
    arriving = [produced[name] for name in whole if name in produced]
    if arriving:
        position = max(arriving, key=lambda p: p.rows)
    else:
        position = default_position(graph.shape(output))
    streams = {name: Streamed(*position) for name in whole}
    return Lowered(Elementwise(elements, max(1, len(operands)), kind), streams, position)


def default_position(shape: tuple[int, ...]) -> Position:
    """The axis along which an operator streams that may choose: rows of NCHW maps, tokens otherwise."""
    if len(shape) == 4:
        return axis_position(shape, 2)
    if len(shape) >= 2:
        return axis_position(shape, len(shape) - 2)
    return Position(1, 1)


# --- movement --------------------------------------------------------------------------------------------


def _sizes(graph: NodeGraph, node: Node) -> tuple[int, int]:
    read = sum(graph.elements(name) for name in node.runtime)
    return read, sum(graph.elements(name) for name in node.outputs if name)


def _transpose(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    source = node.inputs[0]
    shape = graph.shape(source)
    permutation = node.integers("perm") or tuple(reversed(range(len(shape))))
    run, axis = 1, len(shape) - 1
    while axis >= 0 and permutation[axis] == axis:
        run *= shape[axis]
        axis -= 1
    workload = Move("transpose", *_sizes(graph, node), run)
    position = produced.get(source)
    streaming = transposed(position, shape, permutation) if position is not None else None
    if streaming is None:
        return Lowered(workload)
    return Lowered(workload, {source: Streamed(*streaming[0])}, streaming[1])


def _concat(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    shape = graph.shape(node.outputs[0])
    axis = normalised_axis(node.integer("axis", 1), len(shape))
    outer, length, inner = split_at(shape, axis, axis)
    workload = Move("concat", *_sizes(graph, node), inner)
    names = node.runtime
    lengths = {name: graph.shape(name)[axis] for name in names}
    for name in names:
        arriving = produced.get(name)
        if arriving is None or not survives_block(arriving, outer, lengths[name], inner):
            continue
        position = scale_block(arriving, outer, lengths[name], length)
        streams = {other: Streamed(*scale_block(position, outer, length, lengths[other])) for other in names}
        return Lowered(workload, streams, position)
    return Lowered(workload)


def _split(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    source = node.inputs[0]
    shape = graph.shape(source)
    axis = normalised_axis(node.integer("axis", 0), len(shape))
    outer, length, inner = split_at(shape, axis, axis)
    parts = {graph.shape(name)[axis] for name in node.outputs if name}
    workload = Move("split", *_sizes(graph, node), inner)
    position = produced.get(source)
    if position is None or len(parts) != 1 or not survives_block(position, outer, length, inner):
        return Lowered(workload)
    part = parts.pop()
    return Lowered(workload, {source: Streamed(*position)}, scale_block(position, outer, length, part))


def _slice(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Slice and Pad: rows pass where they change one axis that the rows do not lie along."""
    source, output = node.inputs[0], node.outputs[0]
    shape, out_shape = graph.shape(source), graph.shape(output)
    kind = "pad" if node.op == "Pad" else "slice"
    changed = [axis for axis, (a, b) in enumerate(zip(shape, out_shape, strict=True)) if a != b]
    inner = prod(out_shape[changed[-1] :]) if changed else 1
    workload = Move(kind, *_sizes(graph, node), inner)
    position = produced.get(source)
    if position is None or len(changed) != 1 or not _touches_only(graph, node, changed[0]):
        return Lowered(workload)
    outer, length, inner = split_at(shape, changed[0], changed[0])
    if not survives_block(position, outer, length, inner):
        return Lowered(workload)
    scaled = scale_block(position, outer, length, out_shape[changed[0]])
    return Lowered(workload, {source: Streamed(*position)}, scaled)


def _touches_only(graph: NodeGraph, node: Node, axis: int) -> bool:
    """Whether a Slice or Pad leaves every axis but `axis` in place (no reversal, no shift)."""
    rank = len(graph.shape(node.inputs[0]))
    if node.op == "Slice":
        steps = graph.integers(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else ()
        return steps is not None and all(step > 0 for step in steps)
    pads = node.integers("pads") if node.has("pads") else graph.integers(node.inputs[1])
    if pads is None or len(pads) != 2 * rank:
        return False
    return all(pads[i] == 0 and pads[i + rank] == 0 for i in range(rank) if i != axis)


def _move(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    return Lowered(Move(_MOVES[node.op], *_sizes(graph, node)))


_MOVES = {
    "Resize": "resize",
    "Upsample": "resize",
    "Gather": "gather",
    "Expand": "expand",
    "Tile": "expand",
    "DepthToSpace": "transpose",
    "SpaceToDepth": "transpose",
}

Lowering = Callable[[NodeGraph, Node, Produced], Lowered]

LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(["Conv", "ConvTranspose", "ConvInteger", "QLinearConv"], _conv),
    **dict.fromkeys(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"], _pool),
    **dict.fromkeys(["MatMul", "MatMulInteger", "QLinearMatMul"], _matmul),
    "Gemm": _gemm,
    "Einsum": _einsum,
    **dict.fromkeys(["Softmax", "LogSoftmax"], _softmax),
    **dict.fromkeys(
        [
            "LayerNormalization",
            "RMSNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "LpNormalization",
        ],
        _layer_norm,
    ),  # fmt: skip
    **dict.fromkeys(_REDUCE_KINDS, _reduce),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _binary),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _slice,
    **dict.fromkeys(_MOVES, _move),
}
