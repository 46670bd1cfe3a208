"""Convolutions and matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from h4hc.frontend.lowering.base import Lowered, Produced, generic
from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.frontend.streams import Position, axis_position
from h4hc.ir.graph import Streamed
from h4hc.ir.workload import Conv, MatMul, Move


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


def window_stream(source: str, shape: tuple[int, ...], out_shape: tuple[int, ...], window: Window) -> Lowered:
    """The streams of a sliding window over rows; the workload is filled in by the caller."""
    prefix, rows = axis_position(shape, 2)
    reach = (window.kernel_h - 1) * window.dilation_h + 1
    stream = Streamed(prefix, rows, reach, window.stride_h, window.pad_top)
    return Lowered(Move("view", 0, 0), {source: stream}, axis_position(out_shape, 2))


def conv(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Conv, ConvTranspose and the integer forms; weights must be constant."""
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
    streaming = window_stream(source, shape, out_shape, window)
    return Lowered(workload, streaming.streams, streaming.position)


def matmul(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """MatMul and the integer forms; a constant operand makes it a linear layer."""
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


def gemm(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Gemm; the bias is part of the epilogue by definition."""
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


def einsum(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Einsum of two operands that is a batched matrix product; anything else is generic."""
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
