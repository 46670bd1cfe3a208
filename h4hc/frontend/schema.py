"""What the ONNX standard says about an operator, distilled once per operator and version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from onnx import TensorProto, defs

from h4hc.frontend.protos import DTYPES

_ELEMENT_NAMES = {
    TensorProto.FLOAT: "float",
    TensorProto.DOUBLE: "double",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.UINT16: "uint16",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
}
_CODES = {f"tensor({name})": code for code, name in _ELEMENT_NAMES.items()}

# Float operands that are shapes in disguise: operator -> input positions.
FLOAT_SHAPES: Mapping[str, tuple[int, ...]] = {
    "OneHot": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
    "Upsample": (1,),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A formal input: `allowed` element types, and the type variable that must agree within a node."""

    required: bool
    variadic: bool
    variable: str
    allowed: frozenset[int]


@dataclass(frozen=True, slots=True)
class Signature:
    """An operator at one version. `attributes` maps a name to its AttributeProto type."""

    op: str
    since: int
    deprecated: bool
    inputs: tuple[Parameter, ...]
    min_inputs: int
    max_inputs: int
    min_outputs: int
    max_outputs: int
    attributes: Mapping[str, int]
    required: tuple[str, ...]


@lru_cache(maxsize=4096)
def signature(op: str, opset: int) -> Signature | None:
    """The standard operator `op` as operator set `opset` defines it, or None if it does not."""
    schema = onnx_schema(op, opset)
    if schema is None:
        return None
    return Signature(
        op=op,
        since=schema.since_version,
        deprecated=schema.deprecated,
        inputs=tuple(_parameter(formal) for formal in schema.inputs),
        min_inputs=schema.min_input,
        max_inputs=schema.max_input,
        min_outputs=schema.min_output,
        max_outputs=schema.max_output,
        attributes={name: _code(item.type) for name, item in schema.attributes.items()},
        required=tuple(name for name, item in schema.attributes.items() if item.required),
    )


@lru_cache(maxsize=4096)
def onnx_schema(op: str, opset: int) -> defs.OpSchema | None:
    """onnx's own record of a standard operator."""
    try:
        return defs.get_schema(op, opset, "")
    except defs.SchemaError:
        return None


def _code(kind: Any) -> int:
    """AttributeProto's number of an attribute type (a native enumeration, which onnx's stubs leave bare)."""
    return int(kind.value)


def _parameter(formal: defs.OpSchema.FormalParameter) -> Parameter:
    options = defs.OpSchema.FormalParameterOption
    return Parameter(
        required=formal.option == options.Single,
        variadic=formal.option == options.Variadic,
        variable=formal.type_str if formal.is_homogeneous else "",
        allowed=frozenset(_CODES[text] for text in formal.types if text in _CODES),
    )


@lru_cache(maxsize=16384)
def type_problem(op: str, opset: int, codes: tuple[int, ...]) -> str:
    """Why inputs of these element types do not fit the operator; empty if they do. 0: input left out."""
    known = signature(op, opset)
    if known is None or not known.inputs:
        return ""
    bound: dict[str, int] = {}
    for position, code in enumerate(codes):
        formal = known.inputs[min(position, len(known.inputs) - 1)]
        if code == 0:
            continue
        if code not in formal.allowed:
            return f"does not take {DTYPES[code]} as input {position}"
        if formal.variable and bound.setdefault(formal.variable, code) != code:
            return f"mixes {DTYPES[bound[formal.variable]]} and {DTYPES[code]}"
    return ""
