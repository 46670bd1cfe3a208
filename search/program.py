"""A network as a list of operations: what the emitter, the counters and the supernet all read.

Blocks write operations through `Builder`; the ONNX emitter (`emit.py`), the PyTorch layers (`layers.py`) and the
counts below interpret them. One description, so that the three cannot disagree.

Values have no batch dimension. ``map`` values are [channels, height, width] (or [channels, length]), ``tokens`` are
[tokens, channels] and remember the extents of the map they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

Attribute = int | float | str


class Value(NamedTuple):
    """A tensor of the network; `extents` are the spatial dimensions of the map it is or came from.

    `layout`: ``map``, ``tokens``, ``heads`` ([heads, rows, columns]) or ``vector``.
    """

    name: str
    shape: tuple[int, ...]
    extents: tuple[int, ...]
    layout: str = "map"

    @property
    def width(self) -> int:
        """Channels."""
        return self.shape[0] if self.layout == "map" else self.shape[-1]


class Weight(NamedTuple):
    """A learned tensor of the supernet, as this network uses it.

    The network takes the leading part of every dimension, and the centre of the last `centred` ones.
    `start` names how it is initialised (see `h4hc.search.layers`).
    """

    name: str
    shape: tuple[int, ...]
    start: str
    centred: int = 0


class Op(NamedTuple):
    """One operation. `macs`: multiply-accumulates for one sample. `stored`: weights in the deployed network.

    Kinds: conv, linear, classifier, norm, act, add, mul, pool, mean, flatten, tokens, map, split, merge, matmul,
    position, softmax.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    weights: tuple[Weight, ...] = ()
    attributes: Mapping[str, Attribute] = {}
    macs: int = 0
    stored: int = 0


class Section(NamedTuple):
    """The operations of one block. `part`: ``stem``, ``cnn``, ``transformer`` or ``head``."""

    name: str
    part: str
    ops: tuple[Op, ...]
    result: Value


class Program(NamedTuple):
    """A whole network, from `source` (the input) to the result of the last section."""

    source: Value
    sections: tuple[Section, ...]

    @property
    def ops(self) -> tuple[Op, ...]:
        return tuple(op for section in self.sections for op in section.ops)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample: convolutions and all matrix products."""
        return sum(op.macs for section in self.sections for op in section.ops)

    @property
    def parameters(self) -> int:
        """Weights stored by the deployed network: batch norm folded, position tables expanded to all pairs."""
        return sum(op.stored for section in self.sections for op in section.ops)


class Builder:
    """Writes the operations of one block; names within a block are prefixed with the block's."""

    def __init__(self, prefix: str, activation: str, layer_scale: float) -> None:
        self.prefix = prefix
        self.activation = activation
        self.layer_scale = layer_scale
        self.ops: list[Op] = []

    def conv(
        self,
        x: Value,
        name: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        dilation: int = 1,
        norm: str = "ones",
        bias: bool = False,
        start: str = "conv",
    ) -> Value:
        """Convolution with "same" padding, then batch norm whose scale starts at `norm` (none if empty)."""
        dims = len(x.shape) - 1
        width = x.shape[0]
        path = f"{self.prefix}.{name}"
        extents = tuple(-(-extent // stride) for extent in x.shape[1:])
        shape = (channels, 1 if depthwise else width, *(kernel,) * dims)
        weights = [Weight(f"{path}.weight", shape, start, dims)]
        if bias:
            weights.append(Weight(f"{path}.bias", (channels,), "zeros"))
        if norm:
            weights.append(Weight(f"{path}.bn.weight", (channels,), norm))
            weights.append(Weight(f"{path}.bn.bias", (channels,), "zeros"))
        size = prod(shape)
        attributes: dict[str, Attribute] = {
            "kernel": kernel,
            "stride": stride,
            "dilation": dilation,
            "groups": width if depthwise else 1,
            "norm": int(bool(norm)),
            "bias": int(bias),
        }
        stored = size + (channels if norm or bias else 0)
        keeps = extents if x.layout == "map" else x.extents
        result = Value("", (channels, *extents), keeps, x.layout)
        return self._add("conv", name, (x,), result, weights, attributes, size * prod(extents), stored)

    def linear(
        self,
        x: Value,
        name: str,
        channels: int,
        *,
        gain: float = 1.0,
        scaled: bool = False,
        start: str = "linear",
    ) -> Value:
        """Dense layer over tokens, times the constant `gain`, times a learned layer scale if `scaled`."""
        tokens, width = x.shape
        path = f"{self.prefix}.{name}"
        weights = [
            Weight(f"{path}.weight", (channels, width), start),
            Weight(f"{path}.bias", (channels,), "zeros"),
        ]
        if scaled:
            weights.append(Weight(f"{path}.scale", (channels,), f"constant:{self.layer_scale!r}"))
        size = channels * width
        attributes: dict[str, Attribute] = {"gain": gain, "scaled": int(scaled)}
        result = x._replace(shape=(tokens, channels))
        return self._add("linear", name, (x,), result, weights, attributes, size * tokens, size + channels)

    def classifier(self, x: Value, name: str, classes: int) -> Value:
        """Dense layer over a vector."""
        (width,) = x.shape
        path = f"{self.prefix}.{name}" if self.prefix else name
        weights = [
            Weight(f"{path}.weight", (classes, width), "linear"),
            Weight(f"{path}.bias", (classes,), "zeros"),
        ]
        result = Value("", (classes,), (), "vector")
        return self._add(
            "classifier", name, (x,), result, weights, {}, classes * width, (width + 1) * classes
        )

    def norm(self, x: Value, name: str) -> Value:
        """Layer norm of every token over its channels."""
        path = f"{self.prefix}.{name}"
        width = x.shape[-1]
        weights = [Weight(f"{path}.weight", (width,), "ones"), Weight(f"{path}.bias", (width,), "zeros")]
        return self._add("norm", name, (x,), x, weights, stored=2 * width)

    def act(self, x: Value, name: str, kind: str = "") -> Value:
        """The activation function `kind`; by default that of the space."""
        return self._add("act", name, (x,), x, attributes={"function": kind or self.activation})

    def add(self, x: Value, y: Value, name: str, *, residual: bool = True) -> Value:
        """x + y; `residual`: y is a branch that drop path may leave out."""
        return self._add("add", name, (x, y), x, attributes={"residual": int(residual)})

    def mul(self, x: Value, gate: Value, name: str) -> Value:
        """x times `gate`, which has one number per channel."""
        return self._add("mul", name, (x, gate), x)

    def pool(self, x: Value, name: str, kind: str, stride: int) -> Value:
        """``max`` or ``average`` pooling over windows of `stride`, keeping ceil(extent / stride) positions."""
        extents = tuple(-(-extent // stride) for extent in x.extents)
        attributes: dict[str, Attribute] = {"pool": kind, "stride": stride}
        for i, extent in enumerate(x.extents):
            attributes[f"pad{i}"] = -extent % stride
        result = Value("", (x.shape[0], *extents), extents)
        return self._add("pool", name, (x,), result, attributes=attributes)

    def mean(self, x: Value, name: str) -> Value:
        """Average over all positions."""
        ones = (1,) * len(x.extents)
        return self._add("mean", name, (x,), Value("", (x.shape[0], *ones), ones))

    def flatten(self, x: Value, name: str) -> Value:
        return self._add("flatten", name, (x,), Value("", (prod(x.shape),), (), "vector"))

    def tokens(self, x: Value, name: str) -> Value:
        """A map as a sequence of its pixels."""
        return self._add("tokens", name, (x,), Value("", (prod(x.extents), x.shape[0]), x.extents, "tokens"))

    def map(self, x: Value, name: str) -> Value:
        """Tokens as the map they came from."""
        return self._add("map", name, (x,), Value("", (x.shape[1], *x.extents), x.extents))

    def split(self, x: Value, name: str, heads: int, *, transposed: bool = False) -> Value:
        """[tokens, heads * size] as [heads, tokens, size], or [heads, size, tokens] if `transposed`."""
        tokens, width = x.shape
        size = width // heads
        shape = (heads, size, tokens) if transposed else (heads, tokens, size)
        attributes: dict[str, Attribute] = {"heads": heads, "transposed": int(transposed)}
        return self._add("split", name, (x,), Value("", shape, x.extents, "heads"), attributes=attributes)

    def merge(self, x: Value, name: str) -> Value:
        """[heads, tokens, size] as [tokens, heads * size]."""
        heads, tokens, size = x.shape
        result = Value("", (tokens, heads * size), x.extents, "tokens")
        return self._add("merge", name, (x,), result, attributes={"heads": heads})

    def matmul(self, x: Value, y: Value, name: str) -> Value:
        heads, rows, inner = x.shape
        columns = y.shape[2]
        result = x._replace(shape=(heads, rows, columns))
        return self._add("matmul", name, (x, y), result, macs=heads * rows * inner * columns)

    def position(self, x: Value, name: str) -> Value:
        """Adds to scores [heads, tokens, tokens] a learned number per head and relative position."""
        heads, tokens, _ = x.shape
        table = (heads, *(2 * extent - 1 for extent in x.extents))
        weights = [Weight(f"{self.prefix}.{name}.table", table, "small", len(x.extents))]
        return self._add("position", name, (x,), x, weights, stored=heads * tokens * tokens)

    def softmax(self, x: Value, name: str) -> Value:
        return self._add("softmax", name, (x,), x)

    def _add(
        self,
        kind: str,
        name: str,
        inputs: tuple[Value, ...],
        result: Value,
        weights: list[Weight] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        macs: int = 0,
        stored: int = 0,
    ) -> Value:
        path = f"{self.prefix}.{name}" if self.prefix else name
        names = tuple(value.name for value in inputs)
        output = f"{path}.out"
        self.ops.append(
            Op(kind, path, names, output, result.shape, tuple(weights or ()), attributes or {}, macs, stored)
        )
        return result._replace(name=output)


def divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, never below 90 % of it (MobileNet's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
