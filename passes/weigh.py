"""Weigh: how far the stored weights compress.

In:  graph, model. Out: `Compilation.graph` with `Kernel.entropy`, if `Options.weights` is ``stored``.

Rules:
1. Stored 8-bit weights are taken as they are. Others are rounded to 8 bits, symmetrically per output channel,
   as a deployed model has them.
2. A large tensor is judged by whole output channels, evenly spaced, of at least `SAMPLE` weights together.
3. Weights that are all zero, or whose data is absent, say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Operator
from h4hc.ir.workload import MatMul

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

SAMPLE = 1 << 15
STEPS = 16  # of entropy per bit: near-equal layers share a kernel

_BYTES = {2: np.uint8, 3: np.int8}


@dataclass(frozen=True, slots=True)
class Weigh:
    """Entropy of the stored weights of every operator."""

    name: str = "weigh"
    needs: tuple[str, ...] = ("graph",)
    provides: tuple[str, ...] = ("graph",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `graph`."""
        if compilation.graph is None:
            raise ValueError("weigh needs a graph")
        if compilation.options.weights != "stored":
            return compilation
        weights = _Weights(compilation.model)
        operators = tuple(_weighed(operator, weights) for operator in compilation.graph.operators)
        return replace(compilation, graph=replace(compilation.graph, operators=operators))


def entropy(weights: npt.NDArray[Any], channel_axis: int) -> float | None:
    """Bits per weight of `weights` as 8-bit numbers, in steps of 1/`STEPS`; None if all are zero."""
    channels = np.moveaxis(weights, channel_axis, 0).reshape(weights.shape[channel_axis], -1)
    wanted = max(1, -(-SAMPLE // channels.shape[1]))
    channels = channels[:: max(1, channels.shape[0] // wanted)]
    if channels.dtype.itemsize > 1:
        values = channels.astype(np.float32)
        largest = np.abs(values).max(axis=1, keepdims=True)
        if not largest.any():
            return None
        scale = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0)
        channels = np.rint(values * scale).astype(np.int8)
    counts = np.bincount(np.ascontiguousarray(channels).view(np.uint8).ravel(), minlength=256)
    if counts.max() == counts.sum() and not channels.any():
        return None
    shares = counts[counts > 0] / counts.sum()
    bits = float(-(shares * np.log2(shares)).sum())
    return max(1, round(bits * STEPS)) / STEPS


class _Weights:
    """The stored tensors of a model, found through the constant nodes that view or dequantise them."""

    def __init__(self, model: ModelProto) -> None:
        self.tensors: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes: dict[str, NodeProto] = {}
        for node in model.graph.node:
            self.nodes |= dict.fromkeys(node.output, node)

    def stored(self, name: str) -> TensorProto | None:
        """The stored tensor behind the constant `name`."""
        seen = 0
        while name in self.nodes and seen < len(self.nodes):
            name = self.nodes[name].input[0] if self.nodes[name].input else ""
            seen += 1
        return self.tensors.get(name)


def _weighed(operator: Operator, weights: _Weights) -> Operator:
    """`operator` with the entropy of its largest constant, which holds its weights."""
    if not operator.kernel.workload.weight_elements:
        return operator
    found = [tensor for name in operator.constants if (tensor := weights.stored(name)) is not None]
    tensor = max(found, key=lambda t: int(np.prod(t.dims, dtype=np.int64)), default=None)
    if tensor is None or not tensor.dims:
        return operator
    values = _values(tensor)
    if values is None:
        return operator
    workload = operator.kernel.workload
    rows = isinstance(workload, MatMul) and values.shape[-1] == workload.n
    bits = entropy(values, values.ndim - 1 if rows else 0)
    return replace(operator, kernel=operator.kernel._replace(entropy=bits))


def _values(tensor: TensorProto) -> npt.NDArray[Any] | None:
    """The elements of `tensor`; None if it holds none, or no numbers that an array of weights has."""
    from onnx.numpy_helper import to_array

    size = int(np.prod(tensor.dims, dtype=np.int64))
    if not size:
        return None
    kind = _BYTES.get(tensor.data_type)
    if kind is not None and len(tensor.raw_data) == size:
        return np.frombuffer(tensor.raw_data, kind).reshape(tuple(tensor.dims))
    try:
        values = to_array(tensor)
    except (ValueError, TypeError):  # a model without its weights
        return None
    return values if np.issubdtype(values.dtype, np.number) else None
