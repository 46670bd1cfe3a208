"""Places: which tensors lie inside others, and which inputs an operator may write over.

Rules:
1. A Concat whose inputs follow one another in its output (nothing but ones in front of the axis) joins in place: its
   producers write where it would copy to, and it becomes a view. So does a Split or Slice whose outputs are
   contiguous parts of its input: it divides in place.
2. Not if a part is a graph input or output, or would begin at an address that is not aligned; nor if the whole is a
   graph input, or has more bytes than the smallest memory it may have to lie in. A tensor lies inside one
   other only: the larger join or division goes first.
3. An operator may write over an input that it reads element by element, through nothing but element-wise nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import lcm, prod
from typing import NamedTuple

from h4hc.frontend.lowering import BINARY, UNARY
from h4hc.frontend.lowering.base import normalised_axis
from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.ir.graph import Graph, Operator, Part
from h4hc.ir.target import Target
from h4hc.ir.workload import Move
from h4hc.passes.problem import planned_bytes

_RESHAPES = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"])
_ELEMENTWISE = _RESHAPES | UNARY | frozenset(BINARY)


class Room(NamedTuple):
    """What the memories of activations ask for: bytes to align to, and the most bytes of a whole."""

    alignment: int
    most: int


def room_of(target: Target) -> Room:
    """The room that every memory of activations of `target` has."""
    near = [target.memory(device.memory) for device in target.devices]
    far = [target.memory(device.spill) for device in target.devices if device.spill]
    alignment = lcm(*(memory.alignment for memory in (*near, *far)))
    return Room(alignment, min(memory.bytes for memory in near))


def arranged(nodes: NodeGraph, graph: Graph, room: Room, precision: str) -> Graph:
    """`graph` with parts and overwrites."""
    by_name = {node.name: node for node in nodes.nodes}
    groups = {operator.name: [by_name[name] for name in operator.nodes] for operator in graph.operators}
    parts = _parts(nodes, graph, groups, room, precision)
    placed = {part.operator for part in parts.values()}
    operators = []
    for operator in graph.operators:
        if operator.name in placed:
            size = max(operator.kernel.workload.input_elements, operator.kernel.workload.output_elements)
            operator = replace(
                operator, kernel=operator.kernel._replace(workload=Move("view", size, size, size))
            )
        else:
            found = _overwrites(nodes, graph, operator, groups[operator.name])
            operator = replace(operator, overwrites=found) if found else operator
        operators.append(operator)
    return replace(graph, operators=tuple(operators), parts=parts)


def _overwrites(nodes: NodeGraph, graph: Graph, operator: Operator, group: list[Node]) -> tuple[str, ...]:
    """Rule 3: the inputs that `operator` may write over."""
    roots = {graph.root(name) for name in operator.outputs}
    if len(roots) != 1:
        return ()
    size = graph.tensors[roots.pop()].elements
    same = [name for name in operator.inputs if nodes.elements(name) == size]
    return tuple(name for name in same if _pointwise(nodes, group, name))


def _pointwise(nodes: NodeGraph, group: list[Node], tensor: str) -> bool:
    """Whether what `group` computes from `tensor` comes from it element by element."""
    reached, size = {tensor}, nodes.elements(tensor)
    for node in group:
        reads = [i for i, name in enumerate(node.inputs) if name in reached]
        if not reads:
            continue
        if node.op not in _ELEMENTWISE or (node.op not in BINARY and reads != [0]):
            return False
        if len(node.outputs) != 1 or nodes.elements(node.outputs[0]) != size:
            return False
        reached.add(node.outputs[0])
    return len(reached) > 1


def _parts(
    nodes: NodeGraph, graph: Graph, groups: Mapping[str, list[Node]], room: Room, precision: str
) -> dict[str, Part]:
    """Rules 1 and 2, inner parts first."""
    joins = []
    for number, operator in enumerate(graph.operators):
        found = _division(nodes, graph, operator, groups[operator.name])
        if found and _allowed(graph, found, room, precision):
            moved = sum(graph.tensors[name].elements for name in found)
            joins.append((-moved, number, found))
    parts: dict[str, Part] = {}
    for _, _, found in sorted(joins, key=lambda join: join[:2]):
        if parts.keys().isdisjoint(found):
            parts.update(found)
    depth: dict[str, int] = {}
    for name in parts:
        depth[name], whole = 0, name
        while whole in parts:
            depth[name], whole = depth[name] + 1, parts[whole].whole
    return dict(sorted(parts.items(), key=lambda item: (-depth[item[0]], item[0])))


def _allowed(graph: Graph, parts: Mapping[str, Part], room: Room, precision: str) -> bool:
    """Rule 2, but for what other joins take."""
    outside = {graph.root(name) for name in (*graph.inputs, *graph.outputs)}
    given = {graph.root(name) for name in graph.inputs}
    for name, part in parts.items():
        tensor, whole = graph.tensors[name], graph.tensors[part.whole]
        size = planned_bytes(whole, precision)
        before = part.elements * size
        if name in outside or part.whole in given or tensor.dtype != whole.dtype or size > room.most:
            return False
        if not 0 < tensor.elements < whole.elements or before % whole.elements:
            return False
        if before // whole.elements % room.alignment:
            return False
    return True


def _division(nodes: NodeGraph, graph: Graph, operator: Operator, group: list[Node]) -> dict[str, Part]:
    """Rule 1: the parts that `operator` joins or divides; none if it does anything else."""
    working = [node for node in group if node.op not in _RESHAPES]
    if len(working) != 1 or not isinstance(operator.kernel.workload, Move) or operator.kernel.epilogue:
        return {}
    node = working[0]
    if node.op == "Concat":
        return _joined(nodes, graph, operator, node)
    leaving = {graph.root(name) for name in operator.outputs}
    if node.op == "Split":
        axis = normalised_axis(node.integer("axis", 0), len(nodes.shape(node.inputs[0])))
        return _divided(nodes, graph, operator, node, axis, 0, leaving)
    cut = _cut(nodes, node) if node.op == "Slice" else None
    return {} if cut is None else _divided(nodes, graph, operator, node, *cut, leaving)


def _joined(nodes: NodeGraph, graph: Graph, operator: Operator, node: Node) -> dict[str, Part]:
    shape = nodes.shape(node.outputs[0])
    axis = normalised_axis(node.integer("axis", 1), len(shape))
    whole, before = graph.root(node.outputs[0]), 0
    parts: dict[str, Part] = {}
    for name in node.inputs:
        root = graph.root(name)
        if name in nodes.constants or root in parts or prod(shape[:axis]) != 1:
            return {}
        parts[root] = Part(operator.name, whole, before)
        before += nodes.elements(name)
    return parts


def _divided(
    nodes: NodeGraph, graph: Graph, operator: Operator, node: Node, axis: int, start: int, leaving: set[str]
) -> dict[str, Part]:
    """The outputs of `node`, which cuts `axis` from index `start` on."""
    shape, whole = nodes.shape(node.inputs[0]), graph.root(node.inputs[0])
    if node.inputs[0] in nodes.constants or prod(shape[:axis]) != 1:
        return {}
    before, parts = start * prod(shape[axis + 1 :]), {}
    for name in node.outputs:
        if name in leaving:
            parts[name] = Part(operator.name, whole, before)
        before += nodes.elements(name) if name else 0
    return parts if len(parts) == len(leaving) else {}


def _cut(nodes: NodeGraph, node: Node) -> tuple[int, int] | None:
    """Axis and first index of a Slice that cuts one axis without steps."""
    shape, out_shape = nodes.shape(node.inputs[0]), nodes.shape(node.outputs[0])
    changed = [axis for axis, (a, b) in enumerate(zip(shape, out_shape, strict=True)) if a != b]
    lists = [nodes.integers(name) if name else None for name in node.inputs[1:]]
    if len(changed) != 1 or len(lists) < 2 or lists[0] is None:
        return None
    starts = lists[0]
    axes = lists[2] if len(lists) > 2 and node.inputs[3] else tuple(range(len(starts)))
    steps = lists[3] if len(lists) > 3 and node.inputs[4] else (1,) * len(starts)
    if axes is None or steps is None or any(step != 1 for step in steps):
        return None
    axis = changed[0]
    at = dict(zip([normalised_axis(a, len(shape)) for a in axes], starts, strict=True)).get(axis)
    if at is None:
        return None
    return axis, max(0, min(shape[axis], at + shape[axis] if at < 0 else at))
