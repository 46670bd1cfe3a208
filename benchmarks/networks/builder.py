"""A small writer of ONNX graphs: float32, NCHW, batch 1, batch norm folded into biases, seeded weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

Pads = tuple[int, int, int, int]  # top, left, bottom, right


class Builder:
    """A graph that grows node by node. Values are named by what makes them, shapes are kept beside them."""

    def __init__(self, name: str, input_shape: Sequence[int], seed: int = 0) -> None:
        self.name = name
        self.input_shape = tuple(input_shape)
        self.shapes: dict[str, tuple[int, ...]] = {"input": self.input_shape}
        self._random = np.random.default_rng(seed)
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def node(self, op_type: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """Append a node with one output of `shape`; returns the output's name."""
        name = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        self.shapes[name] = tuple(shape)
        return name

    def unbind(self, x: str) -> list[str]:
        """The slices of x along its first axis, without that axis: a Split and Squeezes, as exporters write it."""
        count, *shape = self.shapes[x]
        name = f"split_{len(self._nodes)}"
        parts = [f"{name}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node("Split", [x], parts, name=name, axis=0))
        first = self.constant(np.array([0], np.int64))
        return [self.node("Squeeze", [part, first], shape) for part in parts]

    def constant(self, values: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        """A stored tensor; returns its name."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        self.shapes[name] = values.shape
        return name

    def weight(self, shape: Sequence[int], fan_in: int) -> str:
        """Normal weights of variance 1 / `fan_in`, which keep activations near 1."""
        values = self._random.standard_normal(tuple(shape), dtype=np.float32)
        values /= np.float32(math.sqrt(fan_in))
        return self.constant(values)

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        pads: Pads | None = None,
        bias: bool = True,
    ) -> str:
        """A convolution; `pads` default to those of TensorFlow's SAME, which put the odd one last."""
        _, depth, height, width = self.shapes[x]
        k, s = _pair(kernel), _pair(stride)
        pads = pads if pads is not None else same_pads((height, width), k, s)
        out = _extent((height, width), k, s, pads)
        per_group = depth // groups
        inputs = [x, self.weight((channels, per_group, *k), per_group * k[0] * k[1])]
        if bias:
            inputs.append(self.weight((channels,), 100))
        return self.node(
            "Conv", inputs, (1, channels, *out), kernel_shape=k, strides=s, pads=pads, group=groups
        )

    def depthwise(self, x: str, kernel: int, stride: int = 1, pads: Pads | None = None) -> str:
        """A convolution of each channel alone."""
        channels = self.shapes[x][1]
        return self.conv(x, channels, kernel, stride, groups=channels, pads=pads)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", [x], self.shapes[x])

    def relu6(self, x: str) -> str:
        """min(max(x, 0), 6)."""
        bounds = [self.constant(np.array(value, np.float32)) for value in (0.0, 6.0)]
        return self.node("Clip", [x, *bounds], self.shapes[x])

    def add(self, a: str, b: str) -> str:
        """a + b, of a's shape."""
        return self.node("Add", [a, b], self.shapes[a])

    def multiply(self, a: str, b: str) -> str:
        """a x b, of a's shape."""
        return self.node("Mul", [a, b], self.shapes[a])

    def max_pool(
        self, x: str, kernel: int, stride: int, pads: Pads = (0, 0, 0, 0), ceil: bool = False
    ) -> str:
        """Maximum over windows; `ceil` keeps a last window that hangs over the edge."""
        _, channels, height, width = self.shapes[x]
        k, s = (kernel, kernel), (stride, stride)
        out = _extent((height, width), k, s, pads, up=stride - 1 if ceil else 0)
        return self.node(
            "MaxPool", [x], (1, channels, *out), kernel_shape=k, strides=s, pads=pads, ceil_mode=int(ceil)
        )

    def global_average(self, x: str) -> str:
        """Mean over height and width, kept as a 1x1 map."""
        return self.node("GlobalAveragePool", [x], (1, self.shapes[x][1], 1, 1))

    def flatten(self, x: str) -> str:
        """All but the batch in one axis."""
        return self.node("Flatten", [x], (1, math.prod(self.shapes[x][1:])), axis=1)

    def gemm(self, x: str, outputs: int) -> str:
        """A fully connected layer on one row."""
        depth = self.shapes[x][1]
        operands = [x, self.weight((outputs, depth), depth), self.weight((outputs,), 100)]
        return self.node("Gemm", operands, (1, outputs), transB=1)

    def linear(self, x: str, outputs: int) -> str:
        """A fully connected layer on the last axis."""
        *rows, depth = self.shapes[x]
        product = self.node("MatMul", [x, self.weight((depth, outputs), depth)], (*rows, outputs))
        return self.node("Add", [product, self.weight((outputs,), 100)], (*rows, outputs))

    def matmul(self, a: str, b: str) -> str:
        """The product of two run-time operands."""
        return self.node("MatMul", [a, b], (*self.shapes[a][:-1], self.shapes[b][-1]))

    def scale(self, x: str, factor: float) -> str:
        """x times a number."""
        return self.multiply(x, self.constant(np.array(factor, np.float32)))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """The same elements in another shape."""
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Axes in another order."""
        return self.node("Transpose", [x], [self.shapes[x][axis] for axis in order], perm=list(order))

    def layer_norm(self, x: str) -> str:
        """Layer normalisation over the last axis."""
        depth = self.shapes[x][-1]
        ones, zeros = np.ones(depth, np.float32), np.zeros(depth, np.float32)
        operands = [x, self.constant(ones), self.constant(zeros)]
        return self.node("LayerNormalization", operands, self.shapes[x], axis=-1, epsilon=1e-6)

    def softmax(self, x: str) -> str:
        """Softmax over the last axis."""
        return self.node("Softmax", [x], self.shapes[x], axis=-1)

    def gelu(self, x: str) -> str:
        """x/2 (1 + erf(x / sqrt 2)), spelt out as exporters do at this opset."""
        shape = self.shapes[x]
        inner = self.node("Erf", [self.scale(x, math.sqrt(0.5))], shape)
        inner = self.node("Add", [inner, self.constant(np.array(1.0, np.float32))], shape)
        return self.scale(self.multiply(x, inner), 0.5)

    def model(self, output: str) -> ModelProto:
        """The finished model, with `output` as its output."""

        def info(name: str) -> ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name])

        graph = helper.make_graph(self._nodes, self.name, [info("input")], [info(output)], self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="h4hc")


def same_pads(extent: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]) -> Pads:
    """Padding that makes the output ceil(extent / stride), the odd pixel at the end."""
    first, last = [], []
    for size, k, s in zip(extent, kernel, stride, strict=True):
        total = max(0, (-(-size // s) - 1) * s + k - size)
        first.append(total // 2)
        last.append(total - total // 2)
    return first[0], first[1], last[0], last[1]


def around(kernel: int) -> Pads:
    """Padding by half the kernel on every side, as PyTorch models have it."""
    half = kernel // 2
    return half, half, half, half


def divisible(channels: float, by: int = 8) -> int:
    """`channels` rounded to a multiple of `by`, at most a tenth below, as the MobileNet papers' code does."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _extent(
    extent: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], pads: Pads, up: int = 0
) -> tuple[int, int]:
    sizes = [
        (size + pads[axis] + pads[axis + 2] - kernel[axis] + up) // stride[axis] + 1
        for axis, size in enumerate(extent)
    ]
    return sizes[0], sizes[1]
