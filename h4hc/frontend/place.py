"""Put values that were computed at compile time into the graph, in place of the nodes that compute them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from onnx import TensorProto

from h4hc.frontend.infer import Inferred
from h4hc.frontend.protos import FLOATS, Node, tensor_proto, unique_names
from h4hc.frontend.schema import FLOAT_SHAPES
from h4hc.frontend.structure import rewire


def place_values(
    nodes: Sequence[Node], inferred: Inferred, outputs: Collection[str]
) -> tuple[list[Node], dict[str, TensorProto]]:
    """The nodes that remain, and initializers for the known values that they read.

    1. A node whose outputs are all known integers or booleans goes, unless it computes a graph
       output; its readers get initializers of the same names.
    2. Readers of known values whose node stays get initializers of new names. Float values are
       given to operands that stand for a shape only: other float arithmetic is left to run time.
    """
    values, types = inferred.values, inferred.types
    if not values:
        return list(nodes), {}
    whole = {name for name in values if types[name].code not in FLOATS}
    removed: set[str] = set()
    kept: list[Node] = []
    for node in nodes:
        produced = [name for name in node.outputs if name]
        if whole.issuperset(produced) and not any(name in outputs for name in produced):
            removed.update(produced)
        else:
            kept.append(node)
    reads = [[name for name in _operands(node, whole, values) if name] for node in kept]
    wanted = dict.fromkeys(name for names in reads for name in names)
    moved = [name for name in wanted if name not in removed]
    fresh = dict(zip(moved, unique_names([f"{name}/value" for name in moved], set(types)), strict=True))
    folded = {fresh.get(name, name): name for name in wanted}
    types.update({new: types[name] for new, name in folded.items()})
    result = [
        rewire(node, fresh) if any(name in fresh for name in names) else node
        for node, names in zip(kept, reads, strict=True)
    ]
    return result, {new: tensor_proto(new, types[name].code, values[name]) for new, name in folded.items()}


def _operands(node: Node, whole: Collection[str], values: Collection[str]) -> list[str]:
    """The inputs of `node` whose known values it shall read from an initializer."""
    floats = FLOAT_SHAPES.get(node.op, ())
    return [
        name
        for position, name in enumerate(node.inputs)
        if name in whole or (position in floats and name in values)
    ]
