"""Checks on operators that need shapes, and that onnx's shape inference does not make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from h4hc.errors import ModelError
from h4hc.frontend.protos import Node, TensorType, attribute, label, shape_text

Operands = Sequence["np.ndarray[Any, Any] | None"]
Shape = tuple[int, ...]
_SAME_ELEMENTS = frozenset({"DepthToSpace", "Flatten", "Reshape", "SpaceToDepth", "Squeeze", "Unsqueeze"})


def check_sanity(node: Node, inputs: Sequence[TensorType | None], operands: Operands) -> None:
    """Refuse convolutions, pools and the like whose operands do not fit each other."""
    check = _CHECKS.get(node.op)
    if check is not None:
        problem = check(node, [kind.shape if kind else None for kind in inputs], operands)
        if problem:
            raise ModelError(f"{label(node)} {problem}", code="malformed-node")


def check_result(node: Node, inputs: Sequence[TensorType | None], result: TensorType) -> None:
    """Refuse a change of shape that makes or loses elements."""
    source = inputs[0] if inputs else None
    if node.op in _SAME_ELEMENTS and source is not None and source.elements != result.elements:
        raise ModelError(
            f"{label(node)} makes {shape_text(result.shape)} of {shape_text(source.shape)}",
            code="shape-inference",
        )


def _conv(node: Node, shapes: Sequence[Shape | None], operands: Operands) -> str:
    position = 3 if node.op == "QLinearConv" else 1
    data, weight = shapes[0], shapes[position]
    if data is None or weight is None or len(data) < 3 or len(weight) != len(data):
        return "convolves tensors of unfit ranks"
    group = attribute(node.proto, "group", 1)
    if weight[1] * group != data[1] or weight[0] % group:
        return (
            f"has {group} groups, {data[1]} input channels and weights of {shape_text(weight)}, "
            "which do not fit each other"
        )
    return _kernel(node, weight[2:]) or _bias(node, shapes, weight[0]) or _window(node, data[2:], weight[2:])


def _conv_transpose(node: Node, shapes: Sequence[Shape | None], operands: Operands) -> str:
    data, weight = shapes[0], shapes[1]
    if data is None or weight is None or len(data) < 3 or len(weight) != len(data):
        return "convolves tensors of unfit ranks"
    group = attribute(node.proto, "group", 1)
    if weight[0] != data[1] or data[1] % group:
        return f"has {data[1]} input channels, {group} groups and weights of {shape_text(weight)}"
    return (
        _kernel(node, weight[2:]) or _bias(node, shapes, weight[1] * group) or _window(node, None, weight[2:])
    )


def _kernel(node: Node, extents: Shape) -> str:
    stated = attribute(node.proto, "kernel_shape")
    if stated and tuple(stated) != extents:
        return f"states a kernel of {shape_text(stated)}, its weights are {shape_text(extents)}"
    return ""


def _bias(node: Node, shapes: Sequence[Shape | None], channels: int) -> str:
    bias = shapes[2] if node.op in {"Conv", "ConvTranspose"} and len(shapes) > 2 else None
    return (
        f"has {channels} output channels and a bias of {shape_text(bias)}"
        if bias not in {None, (channels,)}
        else ""
    )


def _pool(node: Node, shapes: Sequence[Shape | None], operands: Operands) -> str:
    data, kernel = shapes[0], attribute(node.proto, "kernel_shape")
    if data is None or len(data) < 3 or len(kernel) != len(data) - 2:
        return f"pools {shape_text(data or ())} with a kernel of {shape_text(kernel)}"
    problem = _window(node, data[2:], kernel)
    pads, dilations = attribute(node.proto, "pads", ()), attribute(node.proto, "dilations", ())
    too_wide = any(pad >= extent for pad, extent in zip(pads, (*kernel, *kernel), strict=False))
    if not problem and too_wide and all(dilation == 1 for dilation in dilations):
        return f"pads by {shape_text(pads)}, more than its kernel of {shape_text(kernel)} reaches"
    return problem


def _window(node: Node, data: Shape | None, kernel: Shape) -> str:
    """Problems of the sliding window. `data`: spatial input extents, None for a transposed convolution."""
    rank = len(kernel)
    values = {name: attribute(node.proto, name, ()) for name in ("strides", "dilations", "pads")}
    for name, length in (("strides", rank), ("dilations", rank), ("pads", 2 * rank)):
        if values[name] and len(values[name]) != length:
            return f"has {len(values[name])} {name} for {rank} spatial dimensions"
    pads, dilations = values["pads"] or (0,) * 2 * rank, values["dilations"] or (1,) * rank
    if min(pads) < 0:
        return f"has negative pads {shape_text(pads)}"
    if data is None or attribute(node.proto, "auto_pad", b"NOTSET") not in {b"", b"NOTSET", b"VALID"}:
        return ""
    for axis in range(rank):
        window = (kernel[axis] - 1) * dilations[axis] + 1
        if window > data[axis] + pads[axis] + pads[axis + rank]:
            return f"slides a window of {window} over an extent of {data[axis]} with pads {shape_text(pads)}"
    return ""


def _gemm(node: Node, shapes: Sequence[Shape | None], operands: Operands) -> str:
    a, b = shapes[0], shapes[1]
    if a is None or b is None or len(a) != 2 or len(b) != 2:
        return "multiplies tensors that are no matrices"
    a = a[::-1] if attribute(node.proto, "transA", 0) else a
    b = b[::-1] if attribute(node.proto, "transB", 0) else b
    if a[1] != b[0]:
        return f"multiplies matrices of {shape_text(a)} and {shape_text(b)}"
    bias = shapes[2] if len(shapes) > 2 else None
    padded = (
        (1, 1, *bias)[-2:] if bias is not None and len(bias) <= 2 else (0, 0) if bias is not None else (1, 1)
    )
    if padded[0] not in {1, a[0]} or padded[1] not in {1, b[1]}:
        return f"adds a bias of {shape_text(bias or ())} to {a[0]}x{b[1]}"
    return ""


def _batch_norm(node: Node, shapes: Sequence[Shape | None], operands: Operands) -> str:
    data = shapes[0]
    channels = data[1] if data is not None and len(data) > 1 else 1
    for shape in shapes[1:]:
        if shape is not None and shape != (channels,):
            return f"normalises {channels} channels with parameters of {shape_text(shape)}"
    return ""


def _dropout(node: Node, shapes: Sequence[Shape | None], operands: Operands) -> str:
    """Dropout that drops is random, unless it names its seed. The third input (operator set 12 on) switches it on."""
    if len(operands) < 3 or not node.inputs[2] or attribute(node.proto, "seed") is not None:
        return ""
    training, ratio = operands[2], operands[1]
    if training is not None and not training.any():
        return ""
    if ratio is not None and not ratio.any():
        return ""
    return "drops values at random, which no one can verify"


_CHECKS: Mapping[str, Callable[[Node, Sequence[Shape | None], Operands], str]] = {
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvInteger": _conv,
    "ConvTranspose": _conv_transpose,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "InstanceNormalization": _batch_norm,
    "LpPool": _pool,
    "MaxPool": _pool,
    "QLinearConv": _conv,
}
