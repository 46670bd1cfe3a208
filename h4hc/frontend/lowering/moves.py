"""Data movement."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from h4hc.frontend.lowering.base import Lowered, Produced, normalised_axis, split_at
from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.frontend.streams import scale_block, survives_block, transposed
from h4hc.ir.graph import Streamed
from h4hc.ir.workload import Move

MOVES = {
    "Resize": "resize",
    "Upsample": "resize",
    "Expand": "expand",
    "Tile": "expand",
    "DepthToSpace": "transpose",
    "SpaceToDepth": "transpose",
}


def transpose(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Transpose; rows pass along whichever axis they lie."""
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


def concat(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Concat; rows pass unless they lie along the joined axis."""
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


def split(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Split into equal parts; rows pass unless they lie along the divided axis."""
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


def slice_or_pad(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Slice and Pad: rows pass where they change one axis that the rows do not lie along."""
    source, output = node.inputs[0], node.outputs[0]
    shape, out_shape = graph.shape(source), graph.shape(output)
    kind = "pad" if node.op == "Pad" else "slice"
    changed = [axis for axis, (a, b) in enumerate(zip(shape, out_shape, strict=True)) if a != b]
    inner = prod(out_shape[changed[-1] :]) if changed else 1
    read, written = _sizes(graph, node)
    workload = Move(kind, min(read, written) if kind == "slice" else read, written, inner)
    position = produced.get(source)
    if position is None or len(changed) != 1 or not _touches_only(graph, node, changed[0]):
        return Lowered(workload)
    outer, length, inner = split_at(shape, changed[0], changed[0])
    if not survives_block(position, outer, length, inner):
        return Lowered(workload)
    scaled = scale_block(position, outer, length, out_shape[changed[0]])
    return Lowered(workload, {source: Streamed(*position)}, scaled)


def gather(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Gather; by constant consecutive indices it is a slice."""
    read, written = _sizes(graph, node)
    shape = graph.shape(node.inputs[0])
    indices = graph.integers(node.inputs[1]) if node.inputs[1] in graph.constants else None
    if not indices or any(b != a + 1 for a, b in pairwise(indices)):
        return Lowered(Move("gather", read, written))
    axis = normalised_axis(node.integer("axis", 0), len(shape))
    _, _, inner = split_at(shape, axis, axis)
    return Lowered(Move("slice", written, written, inner * len(indices)))


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


def move(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """Movement that needs its input in full."""
    return Lowered(Move(MOVES[node.op], *_sizes(graph, node)))


def _sizes(graph: NodeGraph, node: Node) -> tuple[int, int]:
    read = sum(graph.elements(name) for name in node.runtime)
    return read, sum(graph.elements(name) for name in node.outputs if name)
