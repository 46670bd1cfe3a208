"""S03 on operators in parts: right ones pass, anything else does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, numpy_helper, parser

from h4hc.verify.network import Network
from h4hc.verify.sameness import same_computation

WHOLE = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[1,8,6,6] x) => (float[1,12,6,6] y) {
  c = Conv<pads=[1,1,1,1]>(x, w, b)
  n = BatchNormalization(c, s, t, m, v)
  k = Clip(n, low, high)
  z = Sigmoid(k)
  p = Mul(k, z)
  q = QuantizeLinear<axis=1>(p, qs, qz)
  y = DequantizeLinear<axis=1>(q, qs, qz)
}
"""
SHAPES = {"w": (12, 8, 3, 3), "b": (12,), "s": (12,), "t": (12,), "m": (12,)}
CUT = 4


def _random(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _whole() -> ModelProto:
    model = parser.parse_model(WHOLE)
    arrays = {name: _random(shape) for name, shape in SHAPES.items()}
    arrays |= {"v": np.abs(_random((12,))) + 1, "low": np.float32(-2), "high": np.float32(2)}
    arrays |= {"qs": np.linspace(0.01, 0.1, 12, dtype=np.float32), "qz": np.arange(12, dtype=np.uint8)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    for node in model.graph.node:
        node.name = node.op_type
    return model


def _in_parts(model: ModelProto, cut: int = CUT) -> ModelProto:
    """The model in two parts, written out by hand."""
    split = ModelProto()
    split.CopyFrom(model)
    graph = split.graph
    nodes = list(graph.node)
    del graph.node[:]
    sliced = set(SHAPES) | {"v", "qs", "qz"}
    for number, (start, stop) in enumerate(((0, cut), (cut, 12))):
        for name in sliced:
            array = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
            graph.initializer.append(numpy_helper.from_array(array[start:stop].copy(), f"{name}{number}"))
        local = sliced | {node.output[0] for node in nodes}
        for node in nodes:
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{node.name}{number}"
            copy.input[:] = [f"{name}{number}" if name in local else name for name in node.input]
            copy.output[0] = f"{node.output[0]}{number}"
    graph.node.append(onnx.helper.make_node("Concat", ["y0", "y1"], ["y"], "join", axis=1))
    onnx.checker.check_model(split, full_check=True)
    return split


def _passes(split: ModelProto, whole: ModelProto | None = None) -> bool:
    return not same_computation(whole or _whole(), Network(split)).problems


def _node(model: ModelProto, name: str) -> NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def test_parts_of_an_operator_pass() -> None:
    assert _passes(_in_parts(_whole()))
    assert _passes(_in_parts(_whole(), 10))


def _swap_parts(model: ModelProto) -> None:
    _node(model, "join").input[:] = ["y1", "y0"]


def _repeat_a_part(model: ModelProto) -> None:
    _node(model, "join").input[:] = ["y0", "y0"]


def _leave_out_a_part(model: ModelProto) -> None:
    _node(model, "join").input[:] = ["y1"]


def _other_axis(model: ModelProto) -> None:
    _node(model, "join").attribute[0].i = 2


def _other_attribute(model: ModelProto) -> None:
    _node(model, "Conv1").attribute[0].ints[:] = [1, 1, 0, 2]


def _other_function(model: ModelProto) -> None:
    _node(model, "Sigmoid0").op_type = "Tanh"


def _other_operand(model: ModelProto) -> None:
    _node(model, "Mul1").input[1] = "k1"


def _other_input(model: ModelProto) -> None:
    _node(model, "Conv1").input[0] = "elsewhere"
    model.graph.node.insert(0, onnx.helper.make_node("Relu", ["x"], ["elsewhere"], "detour"))


def _bias_of_other_part(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(_random((12,))[:8].copy(), "wrong"))
    _node(model, "Conv1").input[2] = "wrong"


def _other_weights(model: ModelProto) -> None:
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    array = numpy_helper.to_array(weights).copy()
    array[3, 2, 1, 0] += 1e-6
    weights.CopyFrom(numpy_helper.from_array(array, "w1"))


def _scale_of_other_part(model: ModelProto) -> None:
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "qs0")
    scale.CopyFrom(numpy_helper.from_array(np.linspace(0.01, 0.1, 12, dtype=np.float32)[8:].copy(), "qs0"))


DAMAGE: tuple[Callable[[ModelProto], None], ...] = (
    _swap_parts, _repeat_a_part, _leave_out_a_part, _other_axis, _other_attribute, _other_function, _other_operand,
    _other_input, _bias_of_other_part, _other_weights, _scale_of_other_part,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.strip("_"))
def test_damaged_parts_are_caught(damage: Callable[[ModelProto], None]) -> None:
    split = _in_parts(_whole())
    damage(split)
    assert not _passes(split)


def _texts(whole: str, split: str, **shapes: tuple[int, ...]) -> tuple[ModelProto, ModelProto]:
    models = []
    for body in (whole, split):
        model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {body}')
        arrays = {name: _random(shape) for name, shape in shapes.items()}
        arrays |= {f"{n}0": a[..., :4] for n, a in arrays.items()} | {
            f"{n}1": a[..., 4:] for n, a in arrays.items()
        }
        for number, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}{number}"
        model.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()
        )
        models.append(model)
    return models[0], models[1]


def test_products_in_parts_pass() -> None:
    whole, split = _texts(
        "(float[3,5] x) => (float[3,12] y) { m = MatMul(x, w) y = Add(m, b) }",
        """(float[3,5] x) => (float[3,12] y) { m0 = MatMul(x, w0) y0 = Add(m0, b0)
           m1 = MatMul(x, w1) y1 = Add(b1, m1) y = Concat<axis=1>(y0, y1) }""",
        w=(5, 12), b=(12,),
    )  # fmt: skip
    assert not _passes(split, whole)  # the operands of the second sum are exchanged
    split.graph.node[3].input[:] = ["m1", "b1"]
    assert _passes(split, whole)


def test_rows_are_no_parts() -> None:
    """A product's rows are not made from a range of its weights."""
    whole, split = _texts(
        "(float[8,8] x) => (float[8,8] y) { y = MatMul(x, w) }",
        """(float[8,8] x) => (float[8,8] y) { y0 = MatMul(x, w0) y1 = MatMul(x, w1) y = Concat<axis=0>(y0, y1) }""",
        w=(8, 8),
    )
    assert not _passes(split, whole)


def test_an_operator_over_channels_has_no_parts() -> None:
    whole, split = _texts(
        "(float[3,5] x) => (float[3,12] y) { m = MatMul(x, w) y = Softmax(m) }",
        """(float[3,5] x) => (float[3,12] y) { m0 = MatMul(x, w0) y0 = Softmax(m0)
           m1 = MatMul(x, w1) y1 = Softmax(m1) y = Concat<axis=1>(y0, y1) }""",
        w=(5, 12),
    )
    assert not _passes(split, whole)


def test_a_part_of_an_input_is_not_accepted() -> None:
    whole, split = _texts(
        "(float[3,4] x) => (float[3,4] y) { y = Relu(x) }",
        "(float[3,4] x) => (float[3,8] y) { y0 = Relu(x) y = Concat<axis=1>(y0, y0) }",
    )
    assert not _passes(split, whole)


@pytest.mark.parametrize(
    ("extents", "passes"), [((4, 8), True), ((4, 7), False), ((8, 4), True), ((8, 5), False)]
)
def test_weights_of_one_value(extents: tuple[int, int], passes: bool) -> None:
    """Also where the model has the shape as a Constant node."""
    body = """(float[1,3,5,5] x) => (float[1,12,5,5] y) {
      shape = Constant<value_ints=[12,3,1,1]>() w = ConstantOfShape(shape) y = Conv(x, w) }"""
    whole = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {body}')
    shape = numpy_helper.from_array(np.array([12, 3, 1, 1]), "value")
    whole.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("value", shape))
    split = parser.parse_model("""<ir_version: 10, opset_import: ["": 20]> g
      (float[1,3,5,5] x) => (float[1,12,5,5] y) {
        w0 = ConstantOfShape(shape0) y0 = Conv(x, w0)
        w1 = ConstantOfShape(shape1) y1 = Conv(x, w1) y = Concat<axis=1>(y0, y1) }""")
    for number, channels in enumerate(extents):
        array = np.array([channels, 3, 1, 1])
        split.graph.initializer.append(numpy_helper.from_array(array, f"shape{number}"))
    assert _passes(split, whole) is passes


def test_weights_without_data_are_no_range() -> None:
    split = _in_parts(_whole())
    weights = next(tensor for tensor in split.graph.initializer if tensor.name == "w1")
    weights.raw_data = weights.raw_data[:-4]
    assert not _passes(split)
