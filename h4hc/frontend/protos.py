"""Small views of ONNX protobuf messages that the steps of the frontend share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, TypeProto, numpy_helper

# ONNX element type -> NumPy's name. Only types that the rest of the compiler plans for and that
# onnxruntime computes with on a CPU.
DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.UINT16: "uint16",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
}
ITEM_BYTES: dict[int, int] = {code: np.dtype(name).itemsize for code, name in DTYPES.items()}
# Dimensions of a shape that an error shows.
_SHOWN_DIMS = 16
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})

# Where a TensorProto without raw_data keeps its elements.
TYPED_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.UINT8: "int32_data",
    TensorProto.INT8: "int32_data",
    TensorProto.UINT16: "int32_data",
    TensorProto.INT16: "int32_data",
    TensorProto.INT32: "int32_data",
    TensorProto.INT64: "int64_data",
    TensorProto.BOOL: "int32_data",
    TensorProto.FLOAT16: "int32_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
ALL_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


class TensorType(NamedTuple):
    """Element type (ONNX code) and static shape of a tensor."""

    code: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements; Python integers, so that it cannot overflow."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.elements * ITEM_BYTES[self.code]

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""
        return DTYPES[self.code]


class Node(NamedTuple):
    """An operator call: the protobuf message with what is read from it all the time."""

    proto: NodeProto
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def as_node(proto: NodeProto) -> Node:
    """The record of `proto`."""
    return Node(proto, proto.name, proto.op_type, tuple(proto.input), tuple(proto.output))


def label(node: Node | NodeProto) -> str:
    """How an error names a node: ``node 'conv1' (Conv)``."""
    op = node.op if isinstance(node, Node) else node.op_type
    return f"node {quoted(node.name)} ({_short(op)})"


def quoted(name: object) -> str:
    """`name` in quotes, cut to a length that fits on a line."""
    return f"'{_short(name)}'"


def _short(name: object) -> str:
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    return text if len(text) <= 80 else f"{text[:77]}..."


def type_name(code: int) -> str:
    """The name of an element type as ONNX spells it (``BFLOAT16``)."""
    return TensorProto.DataType.Name(code) if code in TensorProto.DataType.values() else f"type {code}"


def shape_text(dims: Iterable[object]) -> str:
    """Dimensions as the command line takes them: ``1x3x224x224``."""
    parts = ["?" if d is None else _short(d) for d in dims]
    if len(parts) > _SHOWN_DIMS:
        parts[_SHOWN_DIMS:] = ["..."]
    return "x".join(parts) or "scalar"


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute that was checked against the operator's schema."""
    for item in node.attribute:
        if item.name == name:
            return attribute_value(item)
    return default


def attribute_value(item: Any) -> Any:
    """The Python value of an AttributeProto of a plain kind."""
    field = _ATTRIBUTE_FIELDS[item.type]
    value = getattr(item, field)
    return tuple(value) if field in {"ints", "floats", "strings"} else value


# AttributeProto.AttributeType -> field
_ATTRIBUTE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}


def tensor_array(tensor: TensorProto) -> np.ndarray[Any, Any]:
    """The elements of a checked tensor."""
    if tensor.HasField("raw_data"):
        little = np.dtype(DTYPES[tensor.data_type]).newbyteorder("<")
        return np.frombuffer(tensor.raw_data, dtype=little).reshape(tuple(tensor.dims))
    return numpy_helper.to_array(tensor)


def tensor_proto(name: str, code: int, array: np.ndarray[Any, Any]) -> TensorProto:
    """An initializer that holds `array`."""
    little = array.astype(np.dtype(DTYPES[code]).newbyteorder("<"), copy=False)
    return TensorProto(name=name, data_type=code, dims=array.shape, raw_data=little.tobytes())


def set_type(target: TypeProto, kind: TensorType) -> None:
    """Make `target` the static tensor type `kind`."""
    tensor = target.tensor_type
    tensor.Clear()
    tensor.elem_type = kind.code
    tensor.shape.SetInParent()
    for extent in kind.shape:
        tensor.shape.dim.add().dim_value = extent


def type_proto(kind: TensorType) -> TypeProto:
    """`kind` as an ONNX type."""
    result = TypeProto()
    set_type(result, kind)
    return result


def static_type(proto: TypeProto) -> TensorType | None:
    """The type in `proto`, or None unless it is a tensor whose dimensions are all numbers."""
    if not proto.HasField("tensor_type"):
        return None
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return None
    dims = tensor.shape.dim
    shape = tuple([d.dim_value for d in dims])
    if 0 in shape and not all(d.HasField("dim_value") for d in dims):
        return None
    return TensorType(tensor.elem_type, shape)


def unique_names(wanted: Sequence[str], taken: set[str]) -> Iterator[str]:
    """`wanted` with a suffix where a name is in `taken` already; adds each to `taken`."""
    counters: dict[str, int] = {}
    for base in wanted:
        name = base
        while name in taken:
            counters[base] = counters.get(base, 0) + 1
            name = f"{base}_{counters[base]}"
        taken.add(name)
        yield name
