"""What every lowering shares: the result, the fallback, and shape arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.frontend.streams import Position, axis_position, survives_block
from h4hc.ir.graph import Streamed
from h4hc.ir.workload import Generic, Workload

_ACCELERATED_DTYPES = frozenset(["float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16"])

# Scalar operations per element, an upper bound, for operators that are more than one pass over their data.
GENERIC_OPERATIONS = {"LRN": 16, "TopK": 32, "NonMaxSuppression": 64, "GridSample": 32, "Attention": 64}


class Lowered(NamedTuple):
    """What a node computes; `streams` per input tensor (absent: needed in full), `position` of the output axis."""

    workload: Workload
    streams: Mapping[str, Streamed] = MappingProxyType({})
    position: Position = Position(1, 1)


Produced = Mapping[str, Position]
Lowering = Callable[[NodeGraph, Node, Produced], Lowered]


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


def normalised_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    return axis + rank if axis < 0 else axis


def split_at(shape: tuple[int, ...], first: int, last: int) -> tuple[int, int, int]:
    """Extents before axis `first`, of axes `first` to `last`, and after."""
    return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])


def default_position(shape: tuple[int, ...]) -> Position:
    """The axis along which an operator streams that may choose: rows of NCHW maps, tokens otherwise."""
    if len(shape) == 4:
        return axis_position(shape, 2)
    if len(shape) >= 2:
        return axis_position(shape, len(shape) - 2)
    return Position(1, 1)


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
