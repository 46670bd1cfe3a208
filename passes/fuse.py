"""Fuse: ONNX nodes to operators.

In:  the normalised ONNX model. Out: `Compilation.graph`, one operator per kernel.

Rules, in the order in which a node meets them:
1. A view (reshape, squeeze, identity, a transpose that only moves unit axes) belongs to the operator whose
   result it views; it costs nothing. A view of a graph input is an operator that copies, because the
   input's buffer is the caller's.
2. A decomposed layer norm, softmax or L2 norm is one operator.
3. A chain or a small graph of unary functions of one tensor (SiLU, GELU, hard-swish as exported) is one
   table look-up. It joins the operator that computes its input if nobody else reads that input.
4. Bias, scale and batch-norm by constants join the operator in front in the same way; directly behind a product,
   several in a row are one.
5. A residual add (or product) of two run-time tensors joins one of the operators that compute them: the
   later one, if nobody else reads its result.
6. Quantise nodes join the operator that computes their input; dequantise and expand nodes join their only reader,
   pad nodes a convolution or pooling.
7. Everything else starts an operator.
The groups are found in `h4hc.passes.grouping`; here each becomes an operator.
An operator takes in only nodes that read its last result when nobody else does, or that read nothing else at
run time: fusing cannot create a cycle.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace

from h4hc.frontend.lowering import (
    Lowered,
    accelerated,
    elementwise,
    follow_block,
    generic,
    lower,
    reduced_axes,
    split_at,
)
from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.frontend.streams import Position
from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Graph, Operator, Streamed, Tensor
from h4hc.ir.workload import Kernel, Move, Precision, Reduction
from h4hc.passes.grouping import Fuser, Group, is_view, pointwise_kind
from h4hc.passes.places import arranged, room_of
from h4hc.passes.regions import REDUCTIONS

_INT8 = Precision(8, 8)
_REGION_KINDS = {"Softmax": "softmax", "LpNormalization": "l2_norm", "LayerNormalization": "layer_norm"}
_ELEMENT_BITS = {"int64": 64, "uint64": 64, "float64": 64, "complex64": 64, "complex128": 128, "int32": 32,
                 "uint32": 32, "float32": 32, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fuse:
    """Group the nodes of the model into operators and lower each to a kernel."""

    name: str = "fuse"
    needs: tuple[str, ...] = ("model",)
    provides: tuple[str, ...] = ("graph",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `graph`, unless the compilation begins with it."""
        if compilation.graph is not None:
            return compilation
        nodes = NodeGraph(compilation.model)
        precision = compilation.options.precision
        graph = build_graph(nodes, precision)
        return replace(compilation, graph=arranged(nodes, graph, room_of(compilation.target), precision))


def build_graph(graph: NodeGraph, precision: str, entering: Mapping[str, Position] | None = None) -> Graph:
    """Fuse and lower all run-time nodes of `graph`.

    `entering`: the positions along which inputs arrive, for a part of a larger model.
    """
    fuser = Fuser(graph)
    groups = _sorted_groups(graph, fuser.run())
    produced: dict[str, Position] = dict(entering or {})
    operators = [_operator(graph, group, fuser, produced, precision) for group in groups]
    boundary = dict.fromkeys((*graph.inputs, *graph.outputs))
    for operator in operators:
        for name in operator.inputs:
            boundary[name] = None
        for name in operator.outputs:
            boundary[name] = None
    roots = {view: root for view, root in fuser.roots.items() if view in boundary}
    for root in roots.values():
        boundary.setdefault(root)
    constants = graph.constants
    tensors = {name: Tensor(name, *graph.parsed(name), name in constants) for name in boundary}
    return Graph(graph.name, graph.inputs, graph.outputs, tensors, tuple(operators), roots)


def _sorted_groups(graph: NodeGraph, groups: list[Group]) -> list[Group]:
    """Groups in topological order, ties by the anchor's place in the model."""
    owner = {output: i for i, group in enumerate(groups) for node in group.nodes for output in node.outputs}
    waiting: list[int] = []
    successors: list[list[int]] = [[] for _ in groups]
    for i, group in enumerate(groups):
        sources = {owner[name] for node in group.nodes for name in node.inputs if name in owner} - {i}
        waiting.append(len(sources))
        for source in sources:
            successors[source].append(i)
    ready = [(group.anchor.index, i) for i, group in enumerate(groups) if not waiting[i]]
    heapq.heapify(ready)
    order = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(groups[i])
        for successor in successors[i]:
            waiting[successor] -= 1
            if not waiting[successor]:
                heapq.heappush(ready, (groups[successor].anchor.index, successor))
    return order


def _operator(
    graph: NodeGraph, group: Group, fuser: Fuser, produced: dict[str, Position], precision: str
) -> Operator:
    nodes = group.nodes
    if len(nodes) == 1:
        inputs = nodes[0].runtime
        constants = tuple([name for name in nodes[0].inputs if name in graph.constants])
    else:
        nodes.sort(key=lambda node: node.index)
        inside = {output for node in nodes for output in node.outputs}
        reads = dict.fromkeys([name for node in nodes for name in node.inputs if name and name not in inside])
        inputs = tuple([name for name in reads if name not in graph.constants])
        constants = tuple([name for name in reads if name in graph.constants])
    renames = _enter_prologues(graph, nodes, fuser, produced) if fuser.prologues else {}
    lowered = _lower_group(graph, group, produced)
    streams = dict(lowered.streams)
    if renames:
        streams = {renames.get(name, name): s for name, s in streams.items() if _same(graph, name, renames)}
    if group.joined:
        _stream_residual(graph, group, inputs, renames, streams, lowered.position)
    kernel = Kernel(lowered.workload, tuple(group.epilogue), _precision(graph, group, precision))
    outputs = _leaving(graph, group)
    position = lowered.position
    if position.rows > 1:
        for output in outputs:
            produced[output] = position
    return Operator(
        group.anchor.name, group.kind or group.anchor.op, kernel, inputs, outputs, constants,
        tuple([node.name for node in nodes]), tuple([streams.get(name) for name in inputs]),
        position.rows, position.prefix,
    )  # fmt: skip


def _enter_prologues(
    graph: NodeGraph, nodes: list[Node], fuser: Fuser, produced: dict[str, Position]
) -> dict[str, str]:
    """Results of the group's prologue nodes -> what they read; rows arrive through them."""
    renames = {node.outputs[0]: node.inputs[0] for node in nodes if node.outputs[0] in fuser.prologues}
    for output, source in renames.items():
        if source in produced and graph.elements(output) == graph.elements(source):
            produced[output] = produced[source]
    return renames


def _stream_residual(
    graph: NodeGraph,
    group: Group,
    inputs: tuple[str, ...],
    renames: dict[str, str],
    streams: dict[str, Streamed],
    position: Position,
) -> None:
    """The second operand of a fused add or product streams along with the result.

    If it is also what the anchor reads, the anchor's window covers the row that the add needs: a convolution
    that keeps the size of its map pads by less than its window.
    """
    anchor_reads = {renames.get(name, name) for name in group.anchor.inputs}
    for name in inputs:
        if name not in anchor_reads and graph.elements(name) == graph.elements(group.tail):
            streams[name] = Streamed(*position)


def _same(graph: NodeGraph, name: str, renames: dict[str, str]) -> bool:
    """A prologue that changes the number of elements (expand, pad) needs its input in full."""
    return name not in renames or graph.elements(name) == graph.elements(renames[name])


def _leaving(graph: NodeGraph, group: Group) -> tuple[str, ...]:
    """The tensors of the group that someone else reads (its last result, if nobody reads any)."""
    if len(group.exits) == 1:
        return (group.tail,)
    indices = {node.index for node in group.nodes}
    leaving = [
        output
        for output in group.exits
        if output in graph.output_set or any(reader.index not in indices for reader in graph.readers(output))
    ]
    return tuple(leaving) or (group.tail,)


def _lower_group(graph: NodeGraph, group: Group, produced: dict[str, Position]) -> Lowered:
    region, anchor = group.region, group.anchor
    if region is None:
        return (
            _lower_view(graph, anchor, produced) if is_view(graph, anchor) else lower(graph, anchor, produced)
        )
    if not (accelerated(graph, region.source) and accelerated(graph, region.output)):
        return generic(graph, region.nodes[-1])
    if not group.kind:
        kind = pointwise_kind(region.nodes)
        return elementwise(graph, region.output, produced, kind, [region.source])
    shape = graph.shape(region.source)
    first = next(node for node in region.nodes if node.op in REDUCTIONS)
    axes = reduced_axes(graph, first) or tuple(range(len(shape)))
    block = split_at(shape, axes[0], axes[-1])
    rows = block[0] * block[2]
    workload = Reduction(_REGION_KINDS[group.kind], 1, block[1], rows, 1, rows, 1)
    return follow_block(graph, region.source, produced, block, workload)


def _lower_view(graph: NodeGraph, node: Node, produced: dict[str, Position]) -> Lowered:
    """A view of a graph input is a copy: the input's buffer belongs to the caller."""
    source = node.inputs[0]
    elements = graph.elements(source)
    workload = Move("slice", elements, graph.elements(node.outputs[0]), elements)
    position = produced.get(source)
    if position is None:
        return Lowered(workload)
    return Lowered(workload, {source: Streamed(*position)}, position)


def _precision(graph: NodeGraph, group: Group, precision: str) -> Precision:
    if precision == "int8":
        return _INT8
    bits = _ELEMENT_BITS.get(graph.dtype(group.tail), 8)
    return Precision(bits, bits)
