"""S03 for operators in parts: a Concat of parts of output channels that together are the model's tensor.

A `Part` says that a tensor of partitioned.onnx is that range of the model's tensor along one axis. Going from outputs
towards inputs, it passes through nodes that treat each channel by itself, and ends where a convolution or a product
makes channels: its first input is the whole one, its weights are a range of the model's. A part of a graph input, or of
what any other operator computes, is not accepted.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from h4hc.verify.network import DEFAULT_DOMAINS, Network, Node

if TYPE_CHECKING:
    from onnx import TensorProto

MAX_RANK = 64
BROADCASTING = frozenset(("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "PRelu"))
UNARY = frozenset(
    ("Relu", "LeakyRelu", "ThresholdedRelu", "Clip", "Neg", "Abs", "Sqrt", "HardSigmoid", "HardSwish", "Sigmoid",
     "Tanh", "Erf")
)  # fmt: skip


class Part(NamedTuple):
    """The indices from `start` up to `stop` of the `total` along `axis`."""

    axis: int
    start: int
    stop: int
    total: int

    def along(self, axis: int) -> Part:
        """The same range of another axis."""
        return self._replace(axis=axis)


Operand = tuple[int, Part | None]  # index of an input, and the part of the model's input that it is


def joined_parts(network: Network, node: Node) -> list[tuple[str, Part]]:
    """The inputs of a Concat as parts of its output; empty for other nodes, or if a shape is not known."""
    shapes = [network.shape(name) for name in node.inputs]
    axis = node.attribute("axis")
    if node.op != "Concat" or node.domain not in DEFAULT_DOMAINS or not isinstance(axis, int):
        return []
    if len(shapes) < 2 or any(not shape or not -len(shape) <= axis < len(shape) for shape in shapes):
        return []
    extents = [shape[axis] for shape in shapes if shape]
    rank = len(shapes[0] or ())
    found, start = [], 0
    for name, extent in zip(node.inputs, extents, strict=True):
        found.append((name, Part(axis % rank, start, start + extent, sum(extents))))
        start += extent
    return found


def operands(network: Network, node: Node, part: Part) -> list[Operand] | None:
    """Which inputs of `node` are parts if its output is `part`; None if its channels do not stand alone."""
    shape = network.shape(node.outputs[0])
    if (
        not shape
        or part.axis >= len(shape)
        or part.stop - part.start < 2
        or node.domain not in DEFAULT_DOMAINS
    ):
        return None
    if node.op == "Conv":
        plain = node.attribute("group", 1) == 1 and part.axis == 1
        return [(0, None), *((i, part.along(0)) for i in (1, 2))] if plain else None
    if node.op in ("MatMul", "Gemm"):
        return _product(network, node, shape, part)
    if node.op in UNARY:
        return [(0, part), *((i, None) for i in range(1, len(node.inputs)))]
    if node.op in BROADCASTING:
        return _broadcast(network, node, range(len(node.inputs)), shape, part)
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return _scaled(network, node, shape, part)
    if node.op == "BatchNormalization" and part.axis == 1 and not node.attribute("training_mode", 0):
        return [(0, part), *((i, part.along(0)) for i in range(1, 5))]
    return None


def _product(network: Network, node: Node, shape: tuple[int, ...], part: Part) -> list[Operand] | None:
    weights = network.shape(node.inputs[1]) if len(node.inputs) > 1 else None
    if weights is None or len(weights) != 2 or part.axis != len(shape) - 1:
        return None
    if node.op == "MatMul":
        return [(0, None), (1, part.along(1))]
    added = _broadcast(network, node, range(2, len(node.inputs)), shape, part)
    if added is None:
        return None
    return [(0, None), (1, part.along(0 if node.attribute("transB", 0) else 1)), *added]


def _broadcast(
    network: Network, node: Node, indices: range, shape: tuple[int, ...], part: Part
) -> list[Operand] | None:
    """The inputs at `indices` broadcast to the output: a part where they have its extent along the axis."""
    found: list[Operand] = []
    for index in indices:
        if not node.inputs[index]:
            continue
        own = network.shape(node.inputs[index])
        if own is None or len(own) > len(shape):
            return None
        axis = part.axis - (len(shape) - len(own))
        whole = axis < 0 or own[axis] == 1
        if not whole and own[axis] != part.stop - part.start:
            return None
        found.append((index, None if whole else part.along(axis)))
    return found


def _scaled(network: Network, node: Node, shape: tuple[int, ...], part: Part) -> list[Operand] | None:
    """Scale and zero point are one for all, or one per index of an axis."""
    scale = network.shape(node.inputs[1]) if len(node.inputs) > 1 else None
    axis = node.attribute("axis", 1)
    if scale is None or len(scale) > 1 or node.attribute("block_size", 0) or not isinstance(axis, int):
        return None
    along = prod(scale) > 1 and axis % len(shape) == part.axis
    others: list[Operand] = [(i, part.along(0) if along else None) for i in range(1, len(node.inputs))]
    return [(0, part), *others]


def is_range(whole: TensorProto, weight: TensorProto, part: Part) -> bool:
    """Whether `weight` holds the bytes of `part` of `whole`."""
    from onnx import TensorProto, numpy_helper

    dims = list(whole.dims)
    if whole.data_type != weight.data_type or part.axis >= len(dims) or dims[part.axis] != part.total:
        return False
    dims[part.axis] = part.stop - part.start
    if dims != list(weight.dims):
        return False
    if TensorProto.EXTERNAL in (whole.data_location, weight.data_location):
        return True  # not read here; the functional check covers the values
    index = (slice(None),) * part.axis + (slice(part.start, part.stop),)
    try:
        return bool(numpy_helper.to_array(whole)[index].tobytes() == numpy_helper.to_array(weight).tobytes())
    except (ValueError, TypeError):  # a tensor without the data that it states
        return False


def is_range_of_shape(whole: TensorProto | None, own: TensorProto | None, part: Part) -> bool:
    """Whether `own` holds the shape of `part` of a tensor whose shape `whole` holds."""
    from onnx import numpy_helper

    if whole is None or own is None or max(*whole.dims, *own.dims, 0, 0) > MAX_RANK:
        return False
    try:
        wanted, found = (numpy_helper.to_array(tensor).tolist() for tensor in (whole, own))
    except (ValueError, TypeError):  # a tensor without the data that it states
        return False
    if not isinstance(wanted, list) or part.axis >= len(wanted) or wanted[part.axis] != part.total:
        return False
    wanted[part.axis] = part.stop - part.start
    return bool(wanted == found)
