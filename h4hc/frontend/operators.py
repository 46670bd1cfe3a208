"""Checks on nodes against the ONNX standard, before any shape is known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from onnx import AttributeProto

from h4hc.errors import ModelError
from h4hc.frontend.limits import MAX_OPSET, MIN_OPSET, Limits
from h4hc.frontend.protos import Node, label, quoted
from h4hc.frontend.schema import Signature, signature
from h4hc.frontend.tensors import check_tensor

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_NOT_TENSORS = {
    **dict.fromkeys(
        (
            "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
            "SequenceInsert", "SequenceLength", "SplitToSequence",
        ),
        "works on sequences",
    ),
    **dict.fromkeys(("Optional", "OptionalGetElement", "OptionalHasElement"), "works on optional values"),
    **dict.fromkeys(
        ("ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"),
        "works on strings",
    ),
    **dict.fromkeys(
        (
            "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
            "RandomUniformLike",
        ),
        "draws random numbers, which no one can verify",
    ),
    **dict.fromkeys(
        ("Compress", "NonMaxSuppression", "NonZero", "Unique"), "has an output whose size depends on the data"
    ),
}  # fmt: skip
# Refused only if neither their value nor a stated type tells the shape of the result.
_DATA_DEPENDENT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
# Attributes that must be positive wherever they occur: strides of zero and the like make native
# code divide by zero.
_POSITIVE = frozenset(
    {
        "block_shape", "blocksize", "dilations", "group", "hidden_size", "kernel_shape", "kv_num_heads",
        "num_groups", "num_outputs", "offset_group", "output_shape", "pooled_shape", "q_num_heads", "strides",
    }
)  # fmt: skip
# May be zero, meaning that it is deduced.
_ZERO_MEANS_AUTO = frozenset({"kv_num_heads", "q_num_heads"})
_SANE = 2**31
_TERM = rb"[A-Za-z]*(\.\.\.[A-Za-z]*)?"
_EQUATION = re.compile(_TERM + rb"(," + _TERM + rb")*(->" + _TERM + rb")?")


def check_nodes(nodes: Iterable[Node], opset: int, limits: Limits) -> None:
    """Refuse nodes that are no standard operators with sane attributes on plain tensors."""
    for node in nodes:
        proto = node.proto
        if proto.domain not in {"", "ai.onnx"}:
            raise ModelError(
                f"{label(node)} is of the unknown domain {quoted(proto.domain)}",
                code="domain",
                hint="export with standard ONNX operators only",
            )
        if proto.domain:
            proto.domain = ""
        check_supported(node)
        known = signature(node.op, opset)
        if known is None or known.deprecated:
            raise ModelError(
                f"{label(node)} is no operator of ONNX operator set {opset}", code="unknown-operator"
            )
        if opset < MIN_OPSET:
            _check_unchanged(node, known, opset)
        _check_ports(node, known)
        _check_attributes(node, known, limits)


def check_supported(node: Node) -> None:
    """Refuse control flow and whatever is not about tensors."""
    if node.op in _CONTROL_FLOW:
        raise ModelError(
            f"{label(node)} is control flow, which no accelerator runs",
            code="control-flow",
            hint="export a model without data-dependent branches and loops",
        )
    reason = _NOT_TENSORS.get(node.op)
    if reason and node.op not in _DATA_DEPENDENT:
        raise ModelError(f"{label(node)} {reason}", code="unsupported-operator")


def data_dependent(node: Node) -> ModelError:
    """The refusal of a node whose output shape stays unknown."""
    reason = _NOT_TENSORS.get(
        node.op, f"computes {quoted(next(filter(None, node.outputs)))} of an unknown shape"
    )
    return ModelError(
        f"{label(node)} {reason}",
        code="dynamic-shape",
        hint="every shape must follow from the shapes of the inputs",
    )


def _check_unchanged(node: Node, known: Signature, opset: int) -> None:
    """Runtimes support operator sets from 7 on. An older one will do if its operators have not changed."""
    current = signature(node.op, MIN_OPSET)
    if current is None or current.since != known.since:
        raise ModelError(
            f"{label(node)} is of ONNX operator set {opset}; supported are {MIN_OPSET} to {MAX_OPSET}",
            code="opset",
            hint="export the model with opset 18",
        )


def _check_ports(node: Node, known: Signature) -> None:
    count_in, count_out = len(node.inputs), len(node.outputs)
    if not known.min_inputs <= count_in <= known.max_inputs:
        raise ModelError(f"{label(node)} has {count_in} inputs", code="malformed-node")
    if not known.min_outputs <= count_out <= known.max_outputs or not any(node.outputs):
        raise ModelError(f"{label(node)} has {count_out} outputs", code="malformed-node")
    if "" in node.inputs:
        for position, name in enumerate(node.inputs):
            formal = known.inputs[min(position, len(known.inputs) - 1)]
            if not name and (formal.required or formal.variadic):
                raise ModelError(f"{label(node)} lacks its input {position}", code="malformed-node")


def _check_attributes(node: Node, known: Signature, limits: Limits) -> None:
    seen: set[str] = set()
    for item in node.proto.attribute:
        name = item.name
        if known.attributes.get(name) != item.type or name in seen:
            problem = "repeats" if name in seen else "has the unknown or mistyped"
            raise ModelError(f"{label(node)} {problem} attribute {quoted(name)}", code="attribute")
        seen.add(name)
        if item.ref_attr_name:
            raise ModelError(f"{label(node)} refers to an attribute outside of a function", code="attribute")
        _check_value(node, item, limits)
    for name in known.required:
        if name not in seen:
            raise ModelError(f"{label(node)} lacks the attribute {quoted(name)}", code="attribute")


_LISTS: Mapping[int, str] = {
    AttributeProto.INTS: "ints",
    AttributeProto.FLOATS: "floats",
    AttributeProto.STRINGS: "strings",
}


def _check_value(node: Node, item: AttributeProto, limits: Limits) -> None:
    kind = item.type
    if kind == AttributeProto.TENSOR and check_tensor(item.t, limits, weightless=False).elements != 1:
        raise ModelError(
            f"{label(node)} needs one element in its attribute {quoted(item.name)}", code="attribute"
        )
    if kind in {AttributeProto.STRING, AttributeProto.STRINGS}:
        _check_text(node, item, limits)
    values = getattr(item, _LISTS[kind]) if kind in _LISTS else ()
    if len(values) > limits.attribute_values:
        raise ModelError(f"{label(node)} has {len(values)} values in {quoted(item.name)}", code="too-large")
    if kind == AttributeProto.INT and item.name in _POSITIVE:
        values = (item.i,)
    if item.name in _POSITIVE:
        least = 0 if item.name in _ZERO_MEANS_AUTO else 1
        if any(not least <= value < _SANE for value in values):
            raise ModelError(
                f"{label(node)} has the attribute {item.name} = {_text(values)}, which must be positive",
                code="attribute",
            )
    elif item.name in {"pads", "output_padding"} and any(abs(value) >= _SANE for value in values):
        raise ModelError(f"{label(node)} has absurd {item.name} {_text(values)}", code="attribute")


def _check_text(node: Node, item: AttributeProto, limits: Limits) -> None:
    """Text is plain and short; an Einsum equation is one (native code loops on some that are not)."""
    for text in (item.s, *item.strings):
        plain = len(text) <= limits.name_length and text.isascii() and text.decode().isprintable()
        if not plain or (item.name == "equation" and not _EQUATION.fullmatch(text.replace(b" ", b""))):
            raise ModelError(
                f"{label(node)} has the malformed attribute {item.name} = {quoted(text)}", code="attribute"
            )


def _text(values: Iterable[int]) -> str:
    return ",".join(str(value) for value in list(values)[:8])
