"""Checks on a model that need no inference: versions, names, counts, boundary tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from h4hc.errors import ModelError
from h4hc.frontend.limits import MAX_IR, MAX_OPSET, MIN_IR, MIN_OPSET, Limits
from h4hc.frontend.protos import DTYPES, TensorType, quoted, type_name
from h4hc.frontend.tensors import check_tensor

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def check_versions(model: ModelProto) -> int:
    """Refuse IR and operator set versions out of range; returns the version of the standard set.

    Writes the standard domain's alias ``ai.onnx`` as the empty name. IR version 14 adds nothing to
    what is supported, so it is lowered to the newest that onnxruntime reads.
    """
    versions: dict[str, int] = {}
    for item in model.opset_import:
        if not isinstance(item.domain, str):
            raise ModelError(f"the domain {quoted(item.domain)} is not UTF-8", code="name")
        if item.domain == "ai.onnx":
            item.domain = ""
        if item.domain in versions:
            raise ModelError(f"the model imports the domain {quoted(item.domain)} twice", code="opset")
        versions[item.domain] = item.version
    opset = versions.get("")
    if opset is None:
        raise ModelError("the model imports no standard ONNX operator set", code="opset")
    # Sets older than the supported ones pass if no operator in use has changed since (check_nodes).
    if not 1 <= opset <= MAX_OPSET:
        raise ModelError(
            f"the model uses ONNX operator set {opset}; supported are {MIN_OPSET} to {MAX_OPSET}",
            code="opset",
            hint=f"export it with opset {min(max(opset, 18), MAX_OPSET)}",
        )
    if not MIN_IR <= model.ir_version <= MAX_IR + 1:
        raise ModelError(
            f"the model has ONNX IR version {model.ir_version}; supported are {MIN_IR} to {MAX_IR + 1}",
            code="ir-version",
            hint="export it with a current exporter and opset",
        )
    model.ir_version = min(model.ir_version, MAX_IR)
    return opset


def check_counts(model: ModelProto, limits: Limits) -> None:
    """Refuse graphs with an absurd number of parts."""
    graph = model.graph
    for count, limit, what in (
        (len(graph.node), limits.nodes, "nodes"),
        (len(graph.initializer), limits.initializers, "initializers"),
        (len(graph.input), limits.inputs + limits.initializers, "inputs"),
        (len(graph.output), limits.outputs, "outputs"),
        (len(model.functions), limits.functions, "functions"),
    ):
        if count > limit:
            raise ModelError(f"the model has {count} {what}, the limit is {limit}", code="too-large")
    if not graph.node:
        raise ModelError("the model has no operators", code="empty")
    if not graph.output:
        raise ModelError("the model has no outputs", code="empty")
    if graph.sparse_initializer:
        raise ModelError(
            "the model has sparse initializers",
            code="unsupported-type",
            hint="store the weights as dense tensors",
        )


def check_metadata(model: ModelProto) -> None:
    """Refuse metadata, which the bundle hands on, that is not text."""
    graph = model.graph
    bodies = (node for function in model.functions for node in function.node)
    for item in (model, graph, *graph.node, *bodies):
        for entry in item.metadata_props:
            if not isinstance(entry.key, str) or not isinstance(entry.value, str):
                raise ModelError(
                    f"the model's metadata {quoted(entry.key)} is not UTF-8",
                    code="name",
                    hint="remove it from metadata_props",
                )


def check_name(name: object, what: str, limits: Limits) -> str:
    """`name`, if it is text that can be printed on a line."""
    if not isinstance(name, str):
        raise ModelError(f"the {what} name {quoted(name)} is not UTF-8", code="name")
    if len(name) > limits.name_length:
        raise ModelError(f"the {what} name {quoted(name)} has {len(name)} characters", code="name")
    if not name.isprintable() and _CONTROL.search(name):
        raise ModelError(f"the {what} name {quoted(name)} has control characters", code="name")
    return name


def check_node_names(nodes: Iterable[NodeProto], limits: Limits) -> None:
    """Refuse nodes whose names, types or number of inputs and outputs make no sense."""
    for node in nodes:
        check_name(node.name, "node", limits)
        check_name(node.op_type, "operator", limits)
        check_name(node.domain, "domain", limits)
        if len(node.input) + len(node.output) > limits.ports or len(node.attribute) > limits.attributes:
            raise ModelError(
                f"node {quoted(node.name)} has too many inputs, outputs or attributes", code="too-large"
            )
        for name in node.input:
            check_name(name, "tensor", limits)
        for name in node.output:
            check_name(name, "tensor", limits)


def check_initializers(
    tensors: Iterable[TensorProto], limits: Limits, *, weightless: bool
) -> dict[str, TensorProto]:
    """The stored tensors by name, each checked."""
    result: dict[str, TensorProto] = {}
    total = 0
    for tensor in tensors:
        name = check_name(tensor.name, "tensor", limits)
        if not name or name in result:
            raise (
                ModelError(f"there are two initializers named {quoted(name)}", code="duplicate-tensor")
                if name
                else ModelError("an initializer has no name", code="name")
            )
        total += check_tensor(tensor, limits, weightless=weightless).nbytes
        if total > limits.weight_bytes:
            raise ModelError(f"the model's weights exceed {limits.weight_bytes} bytes", code="too-large")
        result[name] = tensor
    return result


def check_boundary(model: ModelProto, limits: Limits) -> None:
    """Refuse graph inputs and outputs that are unnamed, repeated or no plain tensors."""
    for values, what in ((model.graph.input, "input"), (model.graph.output, "output")):
        seen: set[str] = set()
        for value in values:
            name = check_name(value.name, what, limits)
            if not name or name in seen:
                problem = f"two {what}s named {quoted(name)}" if name else f"an {what} without a name"
                raise ModelError(f"the model has {problem}", code="duplicate-tensor")
            seen.add(name)
            if what == "input" or value.HasField("type"):
                _check_value_type(value, what)


def _check_value_type(value: ValueInfoProto, what: str) -> None:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        stated = kind.removesuffix("_type") if kind else "untyped value"
        raise ModelError(
            f"{what} {quoted(value.name)} is no tensor but a {stated}",
            code="unsupported-type",
            hint="only models on plain tensors can be compiled",
        )
    code = value.type.tensor_type.elem_type
    if code not in DTYPES and not (what == "output" and code == TensorProto.UNDEFINED):
        raise ModelError(
            f"{what} {quoted(value.name)} has the unsupported element type {type_name(code)}",
            code="unsupported-type",
            hint=f"supported: {', '.join(DTYPES.values())}",
        )


def check_computed(name: str, kind: TensorType, where: str, limits: Limits) -> None:
    """Refuse a computed tensor that is of an unsupported type, empty or absurdly large."""
    if kind.code not in DTYPES:
        raise ModelError(
            f"{where} computes {quoted(name)} of the unsupported element type {type_name(kind.code)}",
            code="unsupported-type",
        )
    if kind.shape and (min(kind.shape) < 0 or len(kind.shape) > limits.rank):
        raise ModelError(f"{where} computes {quoted(name)} of an impossible shape", code="shape")
    if kind.nbytes > limits.tensor_bytes:
        raise ModelError(
            f"{where} computes {quoted(name)} of {kind.nbytes} bytes, the limit is {limits.tensor_bytes}",
            code="too-large",
        )
