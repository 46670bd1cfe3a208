"""The entropy of stored weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

import h4hc
from h4hc.ir.compilation import Compilation
from h4hc.passes.weigh import SAMPLE, entropy

COMPILER = h4hc.Compiler(h4hc.load_target("npu+cim"))


def linear(weights: npt.NDArray[np.generic]) -> onnx.ModelProto:
    rows = weights.shape[0]
    ends = [helper.make_tensor_value_info(n, 1, [4, d]) for n, d in (("x", rows), ("y", weights.shape[1]))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "fc")]
    stored = [numpy_helper.from_array(weights, "w")]
    if weights.dtype == np.int8:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["q", "s"], ["w"], "dq"))
        stored = [numpy_helper.from_array(weights, "q"), numpy_helper.from_array(np.float32(0.1), "s")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compiled(model: onnx.ModelProto, weights: str = "stored") -> Compilation:
    return COMPILER.compile(h4hc.normalise(model), h4hc.Options(effort="fast", weights=weights))


def kernel_entropy(compilation: Compilation) -> float | None:
    assert compilation.graph is not None
    (operator,) = [o for o in compilation.graph.operators if o.kernel.weight_bytes]
    return operator.kernel.entropy


def test_uniform_bytes_have_eight_bits_and_a_bit_has_one() -> None:
    every = np.tile(np.arange(-128, 128, dtype=np.int8), (4, 1))
    assert entropy(every, 0) == 8
    assert entropy(np.array([[1, -1, 1, -1]], dtype=np.int8), 0) == 1


def test_channels_are_scaled_one_by_one() -> None:
    """A channel a thousand times smaller keeps its 255 levels."""
    channel = np.arange(-127, 128, dtype=np.float32)
    assert entropy(np.stack([channel, channel / 1000]), 0) == 8
    assert entropy(np.stack([channel, channel / 1000], axis=1), 1) == 8


def test_normal_weights_take_about_seven_bits() -> None:
    values = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    bits = entropy(values, 0)
    assert bits is not None
    assert bits == pytest.approx(np.log2(np.sqrt(2 * np.pi * np.e) * 127 / 3.3), abs=0.15)


def test_pruned_weights_take_less() -> None:
    values = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    full, pruned = entropy(values, 0), entropy(np.where(np.abs(values) < 1.5, 0, values), 0)
    assert full is not None and pruned is not None
    assert pruned < full / 3


def test_zeros_say_nothing() -> None:
    assert entropy(np.zeros((4, 4), dtype=np.float32), 0) is None
    assert entropy(np.zeros((4, 4), dtype=np.int8), 0) is None


def test_large_tensors_are_sampled_by_whole_channels() -> None:
    """Far-apart channels are looked at: the second half differs from the first."""
    first = np.zeros((SAMPLE // 8, 64), dtype=np.int8)
    second = np.tile(np.arange(64, dtype=np.int8), (SAMPLE // 8, 1))
    bits = entropy(np.concatenate([first, second]), 0)
    assert bits is not None
    assert 3 < bits < 5


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8])
def test_operators_know_the_entropy_of_their_weights(kind: type) -> None:
    values = np.sign(np.random.default_rng(1).normal(size=(32, 48))).astype(kind)
    model = linear(values)
    if kind is np.float16:
        for end in (*model.graph.input, *model.graph.output):
            end.type.tensor_type.elem_type = 10
    assert kernel_entropy(compiled(model)) == 1


def test_typical_weights_are_not_looked_at() -> None:
    model = linear(np.ones((32, 48), dtype=np.float32))
    assert kernel_entropy(compiled(model, "typical")) is None
