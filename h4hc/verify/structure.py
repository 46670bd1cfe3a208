"""S01, S02, S05: partitioned.onnx and the chain hold the operators of the schedule, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Set
from math import prod
from typing import TYPE_CHECKING

from h4hc.verify.network import Network, Node
from h4hc.verify.report import Tally

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto

    from h4hc.verify.document import Document, Value
    from h4hc.verify.folder import Chain, Segment
    from h4hc.verify.plan import Plan

VIEWS = frozenset(("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))

TYPE_NAMES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128",
    16: "bfloat16",
}  # fmt: skip


def type_name(element_type: int | None) -> str | None:
    """NumPy's name of an ONNX element type; None if there is none."""
    return TYPE_NAMES.get(element_type) if element_type is not None else None


def is_view(network: Network, node: Node) -> bool:
    """Whether the output of `node` is its first input's data, element by element, in the same order."""
    if not node.inputs or not node.outputs:
        return False
    source, result = node.inputs[0], node.outputs[0]
    before, after = network.shape(source), network.shape(result)
    if node.op in VIEWS:
        return True
    if node.op == "Dropout":  # with a third input it may be in training mode
        return len(node.inputs) < 3
    if node.op in ("Cast", "CastLike"):
        return network.element_type(source) == network.element_type(result)
    if before is None or after is None:
        return False
    if node.op == "Transpose":
        axes = list(range(len(before)))
        permutation = node.integers("perm") or tuple(axes[::-1])
        if set(permutation) != set(axes) or len(permutation) != len(axes):
            return False
        moved = [axis for axis in permutation if before[axis] != 1]
        return moved == sorted(moved)
    return node.op in ("Concat", "Expand") and prod(before) == prod(after)


def interface(document: Document, network: Network, original: ModelProto | None) -> Tally:
    """S01: model, schedule and partitioned.onnx have the same inputs and outputs."""
    tally = Tally()
    for what, values, names in (
        ("input", document.inputs, network.inputs),
        ("output", document.outputs, network.outputs),
    ):
        stated = [value.name for value in values]
        tally.expect(
            list(names) == stated, f"{what}s of the schedule {stated}, of partitioned.onnx {list(names)}"
        )
        for value in values:
            found = network.shape(value.name), type_name(network.element_type(value.name))
            tally.expect(
                found == (value.shape, value.dtype),
                f"{what} {value.name!r} is {value.dtype}{list(value.shape)}, partitioned.onnx says {found}",
            )
        if original is not None:
            _expect_original(tally, what, values, original, network)
    if original is not None:
        wanted = Network(original).overridable & set(network.initializers)
        _expect_overridable(tally, "partitioned.onnx", network, wanted)
    return tally


def _expect_overridable(tally: Tally, where: str, network: Network, wanted: Set[str]) -> None:
    """A runtime prepares fixed weights in other ways than replaceable ones, which may change bits."""
    odd = sorted(network.overridable ^ wanted)
    tally.expect(not odd, f"{where}: initializers {odd[:3]} can be overridden here or in the model, not both")


def _expect_original(
    tally: Tally, what: str, values: tuple[Value, ...], original: ModelProto, network: Network
) -> None:
    graph = original.graph
    weights = {tensor.name for tensor in graph.initializer}
    infos = (
        [info for info in graph.input if info.name not in weights] if what == "input" else list(graph.output)
    )
    names = [info.name for info in infos]
    stated = [value.name for value in values]
    if not tally.expect(names == stated, f"{what}s of the schedule {stated}, of the model {names}"):
        return
    for info, value in zip(infos, values, strict=True):
        kind = info.type.tensor_type
        if what == "output" and not kind.elem_type:
            continue  # a model need not say what its outputs are
        dtype = type_name(kind.elem_type)
        tally.expect(dtype == value.dtype, f"{what} {value.name!r} is {value.dtype}, the model says {dtype}")
        if not kind.HasField("shape"):
            continue
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        fits = len(dims) == len(value.shape) and all(
            dim is None or dim <= 0 or dim == extent for dim, extent in zip(dims, value.shape, strict=True)
        )
        # What a model says of its outputs may be out of date: what follows from its inputs counts.
        fits = fits or (what == "output" and network.shape(value.name) == value.shape)
        tally.expect(fits, f"{what} {value.name!r} has shape {list(value.shape)}, the model says {dims}")


def nodes_once(plan: Plan) -> Tally:
    """S02: every node belongs to exactly one operator, and operators state what their nodes read and write.

    Transfers belong to none; constant expressions may be cloned, so they belong to any number.
    """
    tally = Tally()
    network = plan.network
    claims: dict[int, list[str]] = {}
    for name, nodes in plan.groups.items():
        for node in nodes:
            claims.setdefault(node.index, []).append(name)
    for node in network.nodes:
        if node.is_transfer or _is_constant(network, node):
            continue
        owners = claims.get(node.index, [])
        tally.expect(len(owners) == 1, f"{node.label} belongs to {len(owners)} operators {owners[:3]}")
    _expect_sorted(tally, network)
    names: dict[str, int] = {}
    for node in network.nodes:
        names[node.name] = names.get(node.name, 0) + 1
    constant = {node.name for node in network.nodes if _is_constant(network, node)}
    for operator in plan.document.operators:
        for listed in operator.nodes:
            count = names.get(listed, 0)
            tally.expect(
                count == 1 or listed in constant,
                f"operator {operator.name!r}: {count} nodes are called {listed!r}",
            )
        _expect_boundary(tally, plan, operator.name)
    return tally


def _expect_sorted(tally: Tally, network: Network) -> None:
    """Every tensor is written once, and before it is read."""
    known = {*network.initializers, *network.sparse, *network.inputs}
    for node in network.nodes:
        unknown = [name for name in node.inputs if name and name not in known]
        tally.expect(not unknown, f"{node.label} reads {unknown[:3]} before it is written")
        again = [name for name in node.outputs if name in known]
        tally.expect(not again, f"{node.label} writes {again[:3]}, which exists already")
        known.update(name for name in node.outputs if name)
    lost = [name for name in network.outputs if name not in known]
    tally.expect(not lost, f"nothing writes the outputs {lost[:3]}")


def _is_constant(network: Network, node: Node) -> bool:
    return all(not name or name in network.constants for name in node.outputs)


def _expect_boundary(tally: Tally, plan: Plan, name: str) -> None:
    operator = plan.operators[name]
    read = {plan.stated(tensor) for tensor in plan.external_reads[name]}
    tally.expect(
        set(operator.inputs) == read and len(operator.inputs) == len(read),
        f"operator {name!r} states inputs {sorted(operator.inputs)}, its nodes read {sorted(read)}",
    )
    written = {plan.stated(tensor) for tensor in plan.external_writes[name]}
    own = {plan.stated(tensor) for node in plan.groups[name] for tensor in node.outputs}
    tally.expect(
        written <= set(operator.outputs) <= own,
        f"operator {name!r} states outputs {sorted(operator.outputs)}, others read {sorted(written)} of it",
    )


def check_chain(plan: Plan, chain: Chain, models: Mapping[str, ModelProto]) -> Tally:
    """S05: the files in subgraphs/ are the nodes of partitioned.onnx, each once, in a runnable order."""
    tally = Tally()
    network = plan.network
    tally.expect(chain.inputs == network.inputs, "the index names other graph inputs than partitioned.onnx")
    tally.expect(
        chain.outputs == network.outputs, "the index names other graph outputs than partitioned.onnx"
    )
    expected = {n.name: n for n in network.nodes if not n.is_transfer and not _is_constant(network, n)}
    there = set(chain.inputs)
    seen: set[str] = set()
    for segment in chain.segments:
        part = Network(models[segment.path])
        _expect_segment(tally, plan, segment, part)
        missing = sorted(set(segment.inputs) - there)
        tally.expect(not missing, f"{segment.path} reads {missing[:3]}, which no earlier file writes")
        there.update(segment.outputs)
        for node in part.nodes:
            if _is_constant(part, node):
                continue
            fresh = node.name in expected and node.name not in seen
            seen.add(node.name)
            if tally.expect(fresh, f"{segment.path}: {node.label} is unknown or stands in two files"):
                _expect_same_node(tally, plan, segment, node, expected[node.name])
    left = sorted(set(expected) - seen)
    tally.expect(not left, f"no file in subgraphs/ holds the nodes {left[:3]}")
    unwritten = sorted(set(chain.outputs) - there)
    tally.expect(not unwritten, f"no file in subgraphs/ writes the outputs {unwritten[:3]}")
    return tally


def _expect_segment(tally: Tally, plan: Plan, segment: Segment, part: Network) -> None:
    ports = (part.inputs, part.outputs)
    stated = (segment.inputs, segment.outputs)
    tally.expect(ports == stated, f"{segment.path}: its inputs and outputs differ from the index")
    wanted = plan.network.overridable & set(part.initializers)
    _expect_overridable(tally, segment.path, part, wanted)
    for name in segment.operators:
        operator = plan.operators.get(name)
        placed = operator is not None and operator.device == segment.device
        tally.expect(placed, f"{segment.path}: operator {name!r} does not run on {segment.device}")


def _expect_same_node(tally: Tally, plan: Plan, segment: Segment, node: Node, twin: Node) -> None:
    network = plan.network
    owner = plan.owner.get(twin.index)
    tally.expect(
        owner in segment.operators, f"{segment.path}: {node.label} is of operator {owner!r}, not listed"
    )
    read = [plan.stated(network.source(t)) for t in twin.inputs if t and t not in network.constants]
    here = [t for t in node.inputs if t in set(read)]
    same = (node.domain, node.op, fingerprint(node.proto)) == (twin.domain, twin.op, fingerprint(twin.proto))
    tally.expect(
        same and here == read and len(node.inputs) == len(twin.inputs),
        f"{segment.path}: {node.label} differs from the one in partitioned.onnx",
    )


def fingerprint(node: NodeProto) -> tuple[tuple[str, bytes], ...]:
    """The attributes of a node in a form that can be compared."""
    return tuple(sorted((a.name, _without_doc(a)) for a in node.attribute))


def _without_doc(attribute: AttributeProto) -> bytes:
    from onnx import AttributeProto

    copy = AttributeProto()
    copy.CopyFrom(attribute)
    copy.doc_string = ""
    return bytes(copy.SerializeToString(deterministic=True))
