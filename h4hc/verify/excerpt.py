"""Some nodes of a network as a model of their own, which onnxruntime can run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from h4hc.errors import BundleError
from h4hc.verify.network import Network, Node
from h4hc.verify.pinning import pin_node

if TYPE_CHECKING:
    from onnx import NodeProto, ValueInfoProto


def excerpt(
    network: Network, nodes: Sequence[NodeProto], reads: Iterable[str], writes: Iterable[str], pinned: bool
) -> bytes:
    """The content of a file with a model of `nodes` and of the constants that they read, from `reads` to `writes`.

    `pinned`: every tensor is rounded, see pinning.py. Raises BundleError if a tensor has no type.
    """
    from onnx import ModelProto

    source, writes = network.model, list(writes)
    nodes = [*(node.proto for node in _constant_nodes(network, nodes)), *nodes]
    used = {name for node in nodes for name in node.input} | set(writes)
    model = ModelProto(ir_version=source.ir_version)
    model.opset_import.extend(source.opset_import)
    model.functions.extend(source.functions)
    graph = model.graph
    graph.name = "excerpt"
    graph.input.extend(_info(network, name) for name in reads)
    graph.output.extend(_info(network, name) for name in writes)
    graph.initializer.extend(t for t in source.graph.initializer if t.name in used)
    graph.sparse_initializer.extend(t for t in source.graph.sparse_initializer if t.values.name in used)
    # An initializer that a caller may override is prepared in another way by onnxruntime: keep it one.
    graph.input.extend(info for info in source.graph.input if info.name in network.overridable & used)
    for node in nodes:
        graph.node.extend(pin_node(node) if pinned else [node])
    for node in graph.node:
        del node.device_configurations[:]
    content: bytes = model.SerializeToString()
    return content


def _constant_nodes(network: Network, nodes: Sequence[NodeProto]) -> list[Node]:
    """The nodes of the constant expressions that `nodes` read, operands first."""
    own = {name for node in nodes for name in node.output}
    found: dict[int, Node] = {}
    pending = [name for node in nodes for name in node.input]
    while pending:
        name = pending.pop()
        node = network.producers.get(name)
        if node is None or name in own or name not in network.constants or node.index in found:
            continue
        found[node.index] = node
        pending.extend(node.inputs)
    return [found[index] for index in sorted(found)]


def _info(network: Network, name: str) -> ValueInfoProto:
    from onnx import helper

    shape, element = network.shape(name), network.element_type(name)
    if element is None:
        raise BundleError(
            f"partitioned.onnx: tensor {name!r} has no type",
            code="untyped-tensor",
            hint="compile the model again",
        )
    return helper.make_tensor_value_info(name, element, shape)
