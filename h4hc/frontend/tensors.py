"""Checks on stored tensors: type, size, data."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import TensorProto

from h4hc.errors import ModelError
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import (
    ALL_TYPED_FIELDS,
    DTYPES,
    FLOATS,
    TYPED_FIELDS,
    Node,
    TensorType,
    label,
    quoted,
    shape_text,
    tensor_array,
    type_name,
)

# Operators whose constant operands are weights: a NaN or an infinity there is a damaged model.
# Elsewhere they may be meant (the -inf of an attention mask).
_WEIGHT_READERS = frozenset(
    {
        "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DequantizeLinear", "DeformConv",
        "Einsum", "GRU", "Gemm", "GroupNormalization", "InstanceNormalization", "LSTM",
        "LayerNormalization", "MatMul", "PRelu", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
        "RMSNormalization", "RNN",
    }
)  # fmt: skip
_PASS_THROUGH = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def check_tensor_type(tensor: TensorProto, limits: Limits) -> TensorType:
    """The type of a stored tensor, if it is one that can be handled."""
    name = quoted(tensor.name)
    if tensor.data_type not in DTYPES:
        raise ModelError(
            f"tensor {name} has the unsupported element type {type_name(tensor.data_type)}",
            code="unsupported-type",
            hint=f"supported: {', '.join(DTYPES.values())}",
        )
    kind = TensorType(tensor.data_type, tuple(tensor.dims))
    if len(kind.shape) > limits.rank:
        raise ModelError(f"tensor {name} has {len(kind.shape)} dimensions", code="too-large")
    if min(kind.shape, default=0) < 0:
        raise ModelError(f"tensor {name} has a negative dimension: {shape_text(kind.shape)}", code="shape")
    if kind.nbytes > limits.weight_bytes:
        raise ModelError(f"tensor {name} states {kind.nbytes} bytes of data", code="too-large")
    return kind


def check_tensor(tensor: TensorProto, limits: Limits, *, weightless: bool) -> TensorType:
    """The type of a stored tensor whose data is present and has the right length.

    `weightless` also accepts a tensor without any data.
    """
    kind = check_tensor_type(tensor, limits)
    name = quoted(tensor.name)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            f"tensor {name} has external data, which is not loaded",
            code="external-data",
            hint="load the model from its file",
        )
    if tensor.HasField("segment"):
        raise ModelError(f"tensor {name} is stored in segments, which no runtime reads", code="tensor-data")
    field = TYPED_FIELDS[kind.code]
    for other in ALL_TYPED_FIELDS:
        if other != field and len(getattr(tensor, other)):
            raise ModelError(f"tensor {name} keeps {kind.dtype} elements in {other}", code="tensor-data")
    typed = len(getattr(tensor, field))
    if tensor.HasField("raw_data"):
        found, expected, unit = len(tensor.raw_data), kind.nbytes, "bytes"
        if typed:
            raise ModelError(f"tensor {name} holds its data twice", code="tensor-data")
    else:
        found, expected, unit = typed, kind.elements, "elements"
        if weightless and not typed:
            return kind
    if found != expected:
        raise ModelError(
            f"tensor {name} of shape {shape_text(kind.shape)} needs {expected} {unit}, has {found}",
            code="tensor-data",
        )
    return kind


def has_data(tensor: TensorProto, kind: TensorType) -> bool:
    """Whether the elements of a checked tensor are there (they are not in a weightless model)."""
    return (
        tensor.HasField("raw_data") or kind.elements == 0 or len(getattr(tensor, TYPED_FIELDS[kind.code])) > 0
    )


def check_weights(nodes: Iterable[Node], tensors: dict[str, TensorProto]) -> None:
    """Refuse NaN and infinite weights. `nodes` in topological order."""
    readers: dict[str, Node] = {}
    for node in reversed(list(nodes)):
        if node.op in _WEIGHT_READERS:
            for name in node.inputs:
                readers.setdefault(name, node)
        elif node.op in _PASS_THROUGH and node.outputs[0] in readers:
            readers.setdefault(node.inputs[0], readers[node.outputs[0]])
    for name, tensor in tensors.items():
        if name in readers and tensor.data_type in FLOATS:
            array = tensor_array(tensor) if has_data(tensor, _kind(tensor)) else np.zeros(0)
            if not np.isfinite(array).all():
                raise ModelError(
                    f"tensor {quoted(name)}, a weight of {label(readers[name])}, holds NaN or infinity",
                    code="nan-weights",
                    hint="export the model from a healthy checkpoint",
                )


def _kind(tensor: TensorProto) -> TensorType:
    return TensorType(tensor.data_type, tuple(tensor.dims))
