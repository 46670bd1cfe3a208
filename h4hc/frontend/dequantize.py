"""Give every reader of a quantised activation a DequantizeLinear of its own.

The quantised tensor, a quarter of the size, is then what crosses between any two readers, and a
cut between devices never falls between a DequantizeLinear and its reader.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from onnx import NodeProto

from h4hc.errors import ModelError
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import Node, TensorType, as_node, label, unique_names
from h4hc.frontend.structure import rewire


def private_dequantizers(
    nodes: Sequence[Node],
    constants: Collection[str],
    outputs: Collection[str],
    types: dict[str, TensorType],
    limits: Limits,
) -> list[Node]:
    """`nodes` with each DequantizeLinear of an activation cloned, so that it has one reader.

    A graph output counts as a reader; the original node serves it, or else the first reader. A
    clone stands behind its original. Adds the clones' outputs to `types`.
    """
    readers = _readers(nodes)
    names = {node.name for node in nodes}
    taken = set(types)
    clones: dict[int, list[Node]] = {}
    rewired: dict[int, dict[str, str]] = {}
    room = limits.nodes - len(nodes)
    for index, node in enumerate(nodes):
        if node.op != "DequantizeLinear" or node.inputs[0] in constants:
            continue
        output = node.outputs[0]
        others = readers.get(output, [])[0 if output in outputs else 1 :]
        room -= len(others)
        if room < 0:
            raise ModelError(f"{label(node)} has too many readers to clone it for each", code="too-large")
        tensors = list(unique_names([f"{output}_copy"] * len(others), taken))
        types.update(dict.fromkeys(tensors, types[output]))
        copies = list(unique_names([f"{node.name}_copy"] * len(others), names))
        clones[index] = [_clone(node, *pair) for pair in zip(copies, tensors, strict=True)]
        for reader, tensor in zip(others, tensors, strict=True):
            rewired.setdefault(reader, {})[output] = tensor
    result: list[Node] = []
    for index, node in enumerate(nodes):
        result.append(rewire(node, rewired[index]) if index in rewired else node)
        result.extend(clones.get(index, ()))
    return result


def _readers(nodes: Sequence[Node]) -> dict[str, list[int]]:
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(index)
    return readers


def _clone(node: Node, name: str, output: str) -> Node:
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    proto.name = name
    proto.output[0] = output
    return as_node(proto)
