"""S03: partitioned.onnx computes what the model computes, node by node.

Both graphs are walked together from their outputs towards their inputs. The walk passes through Transfer
and Identity nodes. Where partitioned.onnx has an initializer, the model must have the same bytes,
or an expression of initializers and shapes, whose value the functional check then covers. Where it joins parts of
a tensor that the model computes whole, the walk goes on with each part (h4hc.verify.splits).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.verify.network import DEFAULT_DOMAINS, RANDOM, SHAPE_ONLY, Network, Node
from h4hc.verify.report import Tally
from h4hc.verify.splits import Part, is_range, is_range_of_shape, joined_parts, operands
from h4hc.verify.structure import fingerprint

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

MAX_INLINED_NODES = 200_000
Signature = tuple[str, str, str]
Pair = tuple[
    str, str, Part | None
]  # tensors of the model and of partitioned.onnx; the part that the latter is


def same_computation(original: ModelProto, partitioned: Network) -> Tally:
    """Every output of `partitioned` is computed by the nodes that compute it in `original`."""
    tally = Tally()
    reason = _obstacle(original)
    if reason:
        tally.skipped = reason
        return tally
    model = Network(inlined(original))
    pending: list[Pair] = [(name, name, None) for name in partitioned.outputs]
    seen = set(pending)
    while pending:
        theirs, ours, part = pending.pop()
        theirs, ours = _resolve(model, theirs), _resolve(partitioned, ours)
        if part is None:
            pairs = _compare(tally, model, theirs, partitioned, ours)
        else:
            pairs = _compare_part(tally, model, theirs, partitioned, ours, part)
        for pair in pairs:
            if pair not in seen:
                seen.add(pair)
                pending.append(pair)
    return tally


def _obstacle(original: ModelProto) -> str:
    """Why the model cannot be compared node by node, or an empty text."""
    if any(a.HasField("g") or a.graphs for node in original.graph.node for a in node.attribute):
        return "the model has control flow"
    size = expanded_size(original)
    if size is None or size > MAX_INLINED_NODES:
        return f"the functions of the model expand to more than {MAX_INLINED_NODES} nodes"
    return ""


def expanded_size(model: ModelProto) -> int | None:
    """Nodes of the graph once all functions are inlined; None if a function calls itself."""
    calls = {
        (f.domain, f.name, f.overload): [(n.domain, n.op_type, n.overload) for n in f.node]
        for f in model.functions
    }
    callers: dict[Signature, list[Signature]] = {}
    open_calls: dict[Signature, int] = {}
    for caller, called in calls.items():
        known = {signature for signature in called if signature in calls}
        open_calls[caller] = len(known)
        for signature in known:
            callers.setdefault(signature, []).append(caller)
    sizes: dict[Signature, int] = {}
    ready = [signature for signature, count in open_calls.items() if count == 0]
    while ready:
        signature = ready.pop()
        sizes[signature] = min(MAX_INLINED_NODES + 1, sum(sizes.get(c, 1) for c in calls[signature]))
        for caller in callers.get(signature, ()):
            open_calls[caller] -= 1
            if open_calls[caller] == 0:
                ready.append(caller)
    if len(sizes) < len(calls):
        return None
    return sum(sizes.get((n.domain, n.op_type, n.overload), 1) for n in model.graph.node)


def inlined(original: ModelProto) -> ModelProto:
    """The model with calls of its own functions replaced by their bodies."""
    if not original.functions:
        return original
    import onnx.inliner

    return onnx.inliner.inline_local_functions(_with_defaults(original))


def _with_defaults(original: ModelProto) -> ModelProto:
    """The model with default attributes written out at every call: onnx.inliner does not apply them."""
    from onnx import ModelProto

    model = ModelProto()
    model.CopyFrom(original)
    defaults = {(f.domain, f.name, f.overload): list(f.attribute_proto) for f in model.functions}
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            given = {attribute.name for attribute in node.attribute}
            missing = defaults.get((node.domain, node.op_type, node.overload), ())
            node.attribute.extend(a for a in missing if a.name not in given)
    return model


def _resolve(network: Network, tensor: str) -> str:
    """The tensor whose value `tensor` carries on through Transfer and Identity nodes."""
    for _ in range(len(network.nodes) + 1):
        node = network.producers.get(tensor)
        passes = node is not None and (
            node.is_transfer or (node.op == "Identity" and node.domain in DEFAULT_DOMAINS)
        )
        if node is None or not passes or not node.inputs:
            break
        tensor = node.inputs[0]
    return tensor


def _compare(tally: Tally, model: Network, theirs: str, partitioned: Network, ours: str) -> list[Pair]:
    """Compare what computes tensor `ours` with what computes `theirs`; returns the pairs to compare next."""
    weight = partitioned.initializers.get(ours)
    if weight is not None or ours in partitioned.sparse:
        tally.expect(
            _same_constant(model, theirs, weight),
            f"initializer {ours!r} is not what the model has for {theirs!r}",
        )
        return []
    if ours in partitioned.inputs or theirs in model.inputs:
        tally.expect(
            ours == theirs, f"partitioned.onnx reads input {ours!r} where the model reads {theirs!r}"
        )
        return []
    node, twin = partitioned.producers.get(ours), model.producers.get(theirs)
    if node is None or twin is None:
        tally.expect(False, f"nothing computes {ours!r} or, in the model, {theirs!r}")
        return []
    same = _same_node(node, ours, twin, theirs)
    parts = [] if same else joined_parts(partitioned, node)
    if parts:
        return [(theirs, name, part) for name, part in parts]
    if not tally.expect(same, f"{node.label} computes {ours!r}, the model has {twin.label}"):
        return []
    pairs = zip(_trimmed(twin), _trimmed(node), strict=True)
    return [(a, b, None) for a, b in pairs if a or b]


def _compare_part(
    tally: Tally, model: Network, theirs: str, partitioned: Network, ours: str, part: Part
) -> list[Pair]:
    """As `_compare`, for a tensor `ours` that is a part of `theirs`."""
    what = f"{ours!r} is not the part {part.start} to {part.stop} of {part.total} of the model's {theirs!r}"
    weight = partitioned.initializers.get(ours)
    if weight is not None:
        known = _stored(model, theirs)
        tally.expect(known is not None and is_range(known, weight, part), f"initializer {what}")
        return []
    node, twin = partitioned.producers.get(ours), model.producers.get(theirs)
    if node is None or twin is None or not _same_node(node, ours, twin, theirs):
        tally.expect(False, what)
        return []
    if node.op == "ConstantOfShape":
        shapes = [
            _stored(network, _resolve(network, (*reader.inputs, "")[0]))
            for network, reader in ((model, twin), (partitioned, node))
        ]
        tally.expect(is_range_of_shape(shapes[0], shapes[1], part), f"{node.label}: {what}")
        return []
    needed = operands(partitioned, node, part)
    if not tally.expect(needed is not None, f"{node.label}: its channels do not stand alone, {what}"):
        return []
    inputs = dict(needed or ())
    pairs = enumerate(zip(_trimmed(twin), _trimmed(node), strict=True))
    return [(a, b, inputs.get(index)) for index, (a, b) in pairs if a or b]


def _same_node(node: Node, ours: str, twin: Node, theirs: str) -> bool:
    domains = [("" if n.domain in DEFAULT_DOMAINS else n.domain) for n in (node, twin)]
    mine, other = _trimmed(node), _trimmed(twin)
    return (
        domains[0] == domains[1]
        and node.op == twin.op
        and node.outputs.index(ours) == twin.outputs.index(theirs)
        and [bool(name) for name in mine] == [bool(name) for name in other]
        and fingerprint(node.proto) == fingerprint(twin.proto)
    )


def _trimmed(node: Node) -> tuple[str, ...]:
    """The inputs without absent ones at the end."""
    inputs = list(node.inputs)
    while inputs and not inputs[-1]:
        inputs.pop()
    return tuple(inputs)


def _same_constant(model: Network, theirs: str, weight: TensorProto | None) -> bool:
    """Whether the model has the same bytes for `theirs`, or computes it from constants and shapes."""
    known = _stored(model, theirs)
    if known is not None and weight is not None:
        return _same_bytes(known, weight)
    return theirs in model.sparse or is_foldable(model, theirs)


def _stored(model: Network, tensor: str) -> TensorProto | None:
    """The initializer `tensor`, or the value of the Constant node that writes it."""
    known = model.initializers.get(tensor)
    node = model.producers.get(tensor)
    if known is None and node is not None and node.op == "Constant":
        value = node.attribute("value")
        known = value if value is not None and hasattr(value, "dims") else None
    return known


def _same_bytes(first: TensorProto, second: TensorProto) -> bool:
    from onnx import TensorProto, numpy_helper

    if (first.data_type, list(first.dims)) != (second.data_type, list(second.dims)):
        return False
    if TensorProto.EXTERNAL in (first.data_location, second.data_location):
        return True  # not read here; the functional check covers the values
    if first.raw_data and second.raw_data:
        return bool(first.raw_data == second.raw_data)
    return bool(numpy_helper.to_array(first).tobytes() == numpy_helper.to_array(second).tobytes())


def is_foldable(network: Network, tensor: str) -> bool:
    """Whether `tensor` depends on constants and on shapes alone."""
    pending, seen = [tensor], {tensor}
    while pending:
        name = pending.pop()
        if name in network.initializers or name in network.sparse:
            continue
        node = network.producers.get(name)
        if node is None or node.op in RANDOM:
            return False
        if node.op in SHAPE_ONLY:
            continue
        for other in node.inputs:
            if other and other not in seen:
                seen.add(other)
                pending.append(other)
    return True
