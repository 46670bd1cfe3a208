"""The ONNX nodes of a placed graph: which operator and device each belongs to, and in which order.

Every node stands in exactly one operator's group, except constant expressions (nodes that read
constants alone), which follow whoever reads them. Order and levels are those of operators:

1. An operator comes after those that produce what it reads, and after those before it in its device's
   queue.
2. level(operator) = the maximum over its producers p of level(p), plus 1 where p is on another
   device. The operators of one (level, device) can run as one model: a path that leaves them
   through another device comes back at a higher level.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from onnx import ModelProto, NodeProto

from h4hc.bundle.document import finished
from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Graph, Operator
from h4hc.ir.schedule import Schedule


class Node(NamedTuple):
    """A node with its name and tensors at hand: to ask the message for them takes longer every time."""

    proto: NodeProto
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, proto: NodeProto) -> Node:
        """`proto` as it is now."""
        return cls(proto, proto.name, tuple(proto.input), tuple(proto.output))


@dataclass(frozen=True, slots=True)
class PlacedNodes:
    """The nodes of the model by operator; the tuples run parallel to the graph's operators.

    `order` lists operator indices as they are emitted. `producers` gives the operator that produces
    a tensor, `constants` the node that computes a constant tensor. `inputs` are the graph's
    inputs that are no constants.
    """

    groups: tuple[tuple[Node, ...], ...]
    order: tuple[int, ...]
    levels: tuple[int, ...]
    devices: tuple[str, ...]
    producers: Mapping[str, int]
    constants: Mapping[str, Node]
    inputs: frozenset[str]

    def constant_nodes(self, tensor: str) -> list[Node]:
        """The nodes that compute the constant `tensor`, operands first; none for an initializer."""
        found: dict[str, Node] = {}
        pending = [tensor]
        while pending:
            node = self.constants.get(pending[-1])
            missing = [] if node is None or node.name in found else self._missing(node, found)
            pending += missing
            if not missing:
                pending.pop()
                if node is not None:
                    found[node.name] = node
        return list(found.values())

    def _missing(self, node: Node, found: Mapping[str, Node]) -> list[str]:
        """The operands of a constant expression that are computed by nodes not yet found."""
        computed = (name for name in node.inputs if name in self.constants)
        return [name for name in computed if self.constants[name].name not in found]


def place_nodes(compilation: Compilation) -> PlacedNodes:
    """Groups, order and levels of the model's nodes under the compilation's placement."""
    graph, _, placement, schedule = finished(compilation)
    groups, loose = _group(compilation.model, graph.operators)
    producers = {
        tensor: index
        for index, group in enumerate(groups)
        for node in group
        for tensor in node.outputs
        if tensor
    }
    inputs = frozenset(graph.inputs)
    reads = [_producing_operators(group, index, producers) for index, group in enumerate(groups)]
    return PlacedNodes(
        groups=groups,
        order=_order(graph, placement.devices, schedule, reads),
        levels=_levels(placement.devices, reads),
        devices=placement.devices,
        producers=producers,
        constants=_constants(loose, producers, inputs),
        inputs=inputs,
    )


def _group(
    model: ModelProto, operators: Iterable[Operator]
) -> tuple[tuple[tuple[Node, ...], ...], list[Node]]:
    """The nodes of each operator, and the nodes that belong to no single one."""
    every = [*map(Node.of, model.graph.node)]
    nodes = {node.name: node for node in every}
    owners: dict[str, int] = dict.fromkeys(nodes, 0)
    for operator in operators:
        for name in operator.nodes:
            owners[name] += 1
    groups = tuple(
        tuple(nodes[name] for name in operator.nodes if owners[name] == 1) for operator in operators
    )
    return groups, [node for node in every if owners[node.name] != 1]


def _constants(loose: list[Node], producers: Mapping[str, int], inputs: frozenset[str]) -> dict[str, Node]:
    for node in loose:
        for tensor in node.inputs:
            if tensor in producers or tensor in inputs:
                raise ValueError(f"node {node.name} belongs to no operator but reads {tensor}, no constant")
    return {tensor: node for node in loose for tensor in node.outputs if tensor}


def _producing_operators(group: tuple[Node, ...], index: int, producers: Mapping[str, int]) -> list[int]:
    """The other operators that `group` reads from, each once."""
    found = dict.fromkeys(producers.get(tensor, index) for node in group for tensor in node.inputs)
    found.pop(index, None)
    return list(found)


def _levels(devices: tuple[str, ...], reads: list[list[int]]) -> tuple[int, ...]:
    levels: list[int] = []
    for index, device in enumerate(devices):
        levels.append(max((levels[p] + (devices[p] != device) for p in reads[index]), default=0))
    return tuple(levels)


def _order(
    graph: Graph, devices: tuple[str, ...], schedule: Schedule, reads: list[list[int]]
) -> tuple[int, ...]:
    """Operators by start time, producers and queue predecessors first."""
    starts, queue_edges = _queue_constraints(graph, devices, schedule)
    before = [list(dict.fromkeys((*own, *queue_edges.get(i, ())))) for i, own in enumerate(reads)]
    followers: dict[int, list[int]] = {}
    for index, earlier in enumerate(before):
        for p in earlier:
            followers.setdefault(p, []).append(index)
    open_count = [len(earlier) for earlier in before]
    ready = [(starts.get(i, 0), i) for i, count in enumerate(open_count) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, index = heapq.heappop(ready)
        order.append(index)
        for follower in followers.get(index, ()):
            open_count[follower] -= 1
            if open_count[follower] == 0:
                heapq.heappush(ready, (starts.get(follower, 0), follower))
    if len(order) != len(before):
        raise ValueError("the device queues contradict the order of the graph")
    return tuple(order)


def _queue_constraints(
    graph: Graph, devices: tuple[str, ...], schedule: Schedule
) -> tuple[dict[int, int], dict[int, tuple[int, ...]]]:
    """Start tick of each scheduled operator, and the operator before it in its device's queue."""
    index_of = {operator.name: index for index, operator in enumerate(graph.operators)}
    tasks = {task.id: task for task in schedule.tasks}
    known = set(devices)
    starts: dict[int, int] = {}
    previous: dict[int, tuple[int, ...]] = {}
    for resource, ids in schedule.queues:
        if resource not in known:
            continue
        of_frame = sorted(ids, key=lambda id_: tasks[id_].stage)  # as one frame goes through the queue
        indices = [index_of[tasks[id_].operator] for id_ in of_frame]
        starts.update((i, tasks[id_].start) for i, id_ in zip(indices, of_frame, strict=True))
        previous.update((later, (earlier,)) for earlier, later in pairwise(indices))
    return starts, previous
