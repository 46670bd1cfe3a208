"""Put a node list in order: constants, names, topological order, dead nodes."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from h4hc.errors import ModelError
from h4hc.frontend.protos import Node, as_node, attribute_value, label, quoted, unique_names

_SCALARS = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}


def lift_constants(nodes: Iterable[NodeProto]) -> tuple[list[NodeProto], list[TensorProto]]:
    """`nodes` without the Constant nodes, and those as initializers."""
    kept: list[NodeProto] = []
    tensors: list[TensorProto] = []
    for node in nodes:
        if node.op_type == "Constant" and node.domain in {"", "ai.onnx"}:
            tensors.append(_constant(node))
        else:
            kept.append(node)
    return kept, tensors


def _constant(node: NodeProto) -> TensorProto:
    if len(node.attribute) != 1 or len(node.output) != 1 or node.input:
        raise ModelError(f"{label(node)} must have one value and one output", code="malformed-node")
    item = node.attribute[0]
    if item.name == "value" and item.type == AttributeProto.TENSOR:
        tensor = TensorProto()
        tensor.CopyFrom(item.t)
        tensor.name = node.output[0]
        return tensor
    if item.name not in _SCALARS or item.type not in {1, 2, 6, 7}:
        raise ModelError(
            f"{label(node)} holds a {quoted(item.name)}, not numbers in a tensor", code="unsupported-type"
        )
    value = attribute_value(item)
    dims = [len(value)] if isinstance(value, tuple) else []
    return helper.make_tensor(node.output[0], _SCALARS[item.name], dims, value if dims else [value])


def name_nodes(nodes: Sequence[NodeProto]) -> None:
    """Give every node a name of its own; those that have one keep it."""
    names = {node.name for node in nodes}
    if len(names) == len(nodes) and "" not in names:
        return
    taken: set[str] = set()
    late: list[tuple[NodeProto, str]] = []
    for node in nodes:
        if node.name and node.name not in taken:
            taken.add(node.name)
        else:
            late.append((node, node.name or f"{node.op_type}_{node.output[0] if node.output else ''}"))
    for (node, _), name in zip(late, unique_names([base for _, base in late], taken), strict=True):
        node.name = name


def separate_outputs(
    nodes: list[NodeProto], graph: GraphProto, tensors: Iterable[TensorProto]
) -> list[NodeProto]:
    """`nodes` with an Identity for each graph output that is a stored tensor.

    The tensor is renamed, so that every graph output is computed by a node (or is a graph input).
    """
    outputs = {value.name for value in graph.output} - {value.name for value in graph.input}
    stored = {tensor.name: tensor for tensor in tensors if tensor.name in outputs}
    if not stored:
        return nodes
    taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    taken.update(name for node in nodes for name in node.output)
    fresh = dict(zip(stored, unique_names([f"{name}/value" for name in stored], taken), strict=True))
    for node in nodes:
        if any(name in fresh for name in node.input):
            node.input[:] = [fresh.get(name, name) for name in node.input]
    for name, tensor in stored.items():
        tensor.name = fresh[name]
    copies = [NodeProto(op_type="Identity", input=[inside], output=[name]) for name, inside in fresh.items()]
    return nodes + copies


def order(nodes: Sequence[Node], available: Collection[str], outputs: Iterable[str]) -> list[Node]:
    """`nodes` in topological order, unchanged if they are in one.

    `available` are graph inputs and initializers. Refuses tensors computed twice, used but
    never computed, and cycles.
    """
    producer: dict[str, int] = {}
    ready = set(available)
    ordered = True
    for index, node in enumerate(nodes):
        if ordered:
            ordered = all(name in ready or not name for name in node.inputs)
        for name in node.outputs:
            if not name:
                continue
            if name in producer or name in available:
                raise ModelError(
                    f"{label(node)} computes the tensor {quoted(name)}, which exists already",
                    code="duplicate-tensor",
                )
            producer[name] = index
            ready.add(name)
    for name in outputs:
        if name not in ready:
            raise ModelError(f"nothing computes the output {quoted(name)}", code="undefined-tensor")
    return list(nodes) if ordered else _sorted(nodes, producer, available)


def _sorted(nodes: Sequence[Node], producer: dict[str, int], available: Collection[str]) -> list[Node]:
    """Kahn's algorithm; among ready nodes the one that comes first in the file."""
    waiting = [0] * len(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for name in dict.fromkeys(node.inputs):
            if name in producer:
                readers[producer[name]].append(index)
                waiting[index] += 1
            elif name and name not in available:
                raise ModelError(
                    f"{label(node)} reads the tensor {quoted(name)}, which nothing computes",
                    code="undefined-tensor",
                )
    heap = [index for index, count in enumerate(waiting) if count == 0]
    result: list[Node] = []
    while heap:
        index = heapq.heappop(heap)
        result.append(nodes[index])
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(heap, reader)
    if len(result) < len(nodes):
        stuck = next(index for index, count in enumerate(waiting) if count > 0)
        raise ModelError(f"{label(nodes[stuck])} is part of a cycle or waits for one", code="cycle")
    return result


def live(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that the outputs depend on, in the same order."""
    wanted = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if any(name in wanted for name in node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    kept.reverse()
    return kept


def rewire(node: Node, names: dict[str, str]) -> Node:
    """`node` with its inputs renamed; changes the message in place."""
    node.proto.input[:] = [names.get(name, name) for name in node.inputs]
    return as_node(node.proto)


def constant_names(nodes: Iterable[Node], stored: Iterable[str]) -> set[str]:
    """Stored tensors and what is computed from them alone. `nodes` in topological order."""
    constants = set(stored)
    for node in nodes:
        if node.inputs and all(name in constants or not name for name in node.inputs):
            constants.update(filter(None, node.outputs))
    return constants
