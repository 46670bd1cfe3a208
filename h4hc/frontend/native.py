"""Ask onnx's native shape inference about one node at a time.

Nodes alike in everything but names are asked about once. The caller has checked the node against
its operator's signature and its operands against each other: native inference trusts both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import EncodeError
from onnx import OperatorSetIdProto, TypeProto, checker, shape_inference

from h4hc.errors import ModelError
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import Node, TensorType, label, tensor_proto, type_proto
from h4hc.frontend.schema import FLOAT_SHAPES, onnx_schema

Array = np.ndarray[Any, Any]
# What native inference raises on nonsense.
_NATIVE_ERRORS = (
    shape_inference.InferenceError,
    checker.ValidationError,
    EncodeError,
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
)


class PartialType(NamedTuple):
    """What onnx infers: element type (0: unknown), and dimensions of which some or all may be unknown."""

    code: int
    dims: tuple[int | None, ...] | None

    @property
    def static(self) -> TensorType | None:
        """The type, if all of it is known."""
        if not self.code or self.dims is None:
            return None
        shape = tuple([extent for extent in self.dims if extent is not None])
        return TensorType(self.code, shape) if len(shape) == len(self.dims) else None


class NativeInference:
    """onnx's inference for one operator set, with a memory of what was asked."""

    def __init__(self, opset: int, limits: Limits) -> None:
        self._opset = opset
        self._imports = [OperatorSetIdProto(version=opset)]
        self._limits = limits
        self._known: dict[Any, list[PartialType]] = {}

    def outputs(
        self, node: Node, inputs: Sequence[TensorType | None], operands: Sequence[Array | None]
    ) -> list[PartialType]:
        """The types of the outputs of `node`. `operands` are the values of its inputs, where known."""
        values = [self._relevant(node, position, value) for position, value in enumerate(operands)]
        key = (
            node.op,
            tuple([bool(name) for name in node.outputs]),
            tuple([item.SerializeToString() for item in node.proto.attribute]),
            tuple(inputs),
            tuple([None if value is None else value.tobytes() for value in values]),
        )
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._ask(node, inputs, values)
        return known

    def _relevant(self, node: Node, position: int, value: Array | None) -> Array | None:
        """`value`, if it may say something about shapes."""
        if value is None or value.size > self._limits.inference_elements:
            return None
        if value.dtype.kind == "f" and position not in FLOAT_SHAPES.get(node.op, ()):
            return None
        return value

    def _ask(
        self, node: Node, inputs: Sequence[TensorType | None], values: Sequence[Array | None]
    ) -> list[PartialType]:
        schema = onnx_schema(node.op, self._opset)
        if schema is None:
            raise ModelError(f"{label(node)} is unknown", code="unknown-operator")
        kinds = dict(zip(node.inputs, inputs, strict=True))
        types = {name: type_proto(kind) for name, kind in kinds.items() if kind is not None}
        data = {
            name: tensor_proto(name, kind.code, value)
            for (name, kind), value in zip(kinds.items(), _by_name(node, values), strict=True)
            if value is not None and kind is not None
        }
        try:
            found = shape_inference.infer_node_outputs(
                schema, node.proto, types, data, opset_imports=self._imports, ir_version=10
            )
        except _NATIVE_ERRORS as error:
            raise ModelError(f"{label(node)}: {_first_sentence(error)}", code="shape-inference") from error
        return [_partial(found.get(name)) for name in node.outputs]


def _by_name(node: Node, values: Sequence[Array | None]) -> list[Array | None]:
    """The values in the order of the node's distinct inputs."""
    return list(dict(zip(node.inputs, values, strict=True)).values())


def _partial(proto: TypeProto | None) -> PartialType:
    if proto is None:
        return PartialType(0, None)
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return PartialType(tensor.elem_type, None)
    dims = tuple([d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim])
    return PartialType(tensor.elem_type, dims)


def _first_sentence(error: Exception) -> str:
    """The useful part of a native message."""
    text = str(error).strip()
    for mark in ("[ShapeInferenceError] ", "[TypeInferenceError] "):
        text = text.rsplit(mark, 1)[-1]
    return " ".join(text.split())[:200] or type(error).__name__
