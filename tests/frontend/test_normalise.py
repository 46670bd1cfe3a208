"""The normal form: what is folded, renamed, ordered, removed and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_helpers import ops, parse, run, same_results, save, shape_of, stored
from onnx import helper, numpy_helper

from h4hc.errors import ModelError, OptionError
from h4hc.frontend import load_model, normalise

RNG = np.random.default_rng(0)


def image(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_a_file_is_loaded_with_its_source(tmp_path: Path) -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Relu (x) }")
    loaded = load_model(save(model, tmp_path / "net.onnx"))
    assert loaded.source.name == "net"
    assert loaded.source.path == str(tmp_path / "net.onnx")
    assert len(loaded.source.sha256) == 64
    assert ops(loaded.model) == ["Relu"]


def test_the_model_given_is_not_changed() -> None:
    model = parse("(float[N,2] x) => (float[N,2] y) { a = Constant <value_float=1.0> () y = Add (x, a) }")
    before = model.SerializeToString()
    normalise(model)
    assert model.SerializeToString() == before


def test_normalising_twice_changes_nothing() -> None:
    model = parse(
        "(float[N,4] x) => (float[N,2,2] y) { s = Shape (x) z = Constant <value_ints=[2,2]> () "
        "n = Constant <value_ints=[0]> () b = Gather (s, n) d = Concat <axis=0> (b, z) y = Reshape (x, d) }"
    )
    once = normalise(model)
    assert normalise(once) == once


def test_shape_arithmetic_becomes_a_constant() -> None:
    model = parse(
        "(float[1,8,6] x) => (float[A,B] y) { s = Shape (x) "
        "i = Constant <value_ints=[1]> () c = Gather (s, i) "
        "m = Constant <value_ints=[-1]> () d = Concat <axis=0> (m, c) y = Reshape (x, d) }"
    )
    result = normalise(model)
    assert ops(result) == ["Reshape"]
    assert stored(result)["d"].tolist() == [-1, 8]
    assert shape_of(result, "y") == (6, 8)
    same_results(model, result, {"x": image(1, 8, 6)})


def test_shape_takes_start_and_end_into_account() -> None:
    model = parse(
        "(float[1,4,8,16] x) => (float[A,B] y) { s = Shape <start=1, end=3> (x) y = ConstantOfShape (s) }"
    )
    assert shape_of(normalise(model), "y") == (4, 8)


def test_deep_chains_of_computed_shapes_need_no_rounds() -> None:
    steps = []
    for i in range(200):
        steps.append(f"s{i} = Shape (x{i}) r{i} = Gather (s{i}, swap) x{i + 1} = Reshape (x{i}, r{i})")
    model = parse("(float[N,3] x0) => (float[A,B] x200) <int64[2] swap = {1,0}> {" + " ".join(steps) + "}")
    result = normalise(model, {"x0": (5, 3)})
    assert ops(result) == ["Reshape"] * 200
    assert shape_of(result, "x199") == (3, 5)


def test_float_arithmetic_on_constants_stays() -> None:
    model = parse(
        "(float[1,2] x) => (float[1,2] y) <float[2,2] w = {1,2,3,4}> { t = Transpose (w) y = MatMul (x, t) }"
    )
    assert ops(normalise(model)) == ["Transpose", "MatMul"]


def test_float_scales_of_a_resize_become_a_constant() -> None:
    model = parse(
        "(float[1,1,4,4] x) => (float[A,B,C,D] y) <int64[1] two = {2}, float[2] one = {1,1}> "
        '{ f = Cast <to=1> (two) c = Concat <axis=0> (one, f, f) y = Resize (x, "", c) }'
    )
    result = normalise(model)
    assert ops(result) == ["Resize"]
    assert shape_of(result, "y") == (1, 1, 8, 8)
    same_results(model, result, {"x": image(1, 1, 4, 4)})


def test_a_folded_node_that_computes_an_output_stays_and_its_readers_get_the_value() -> None:
    model = parse("(float[2,3] x) => (int64[2] s, float[A,B] y) { s = Shape (x) y = Expand (x, s) }")
    result = normalise(model)
    assert ops(result) == ["Shape", "Expand"]
    assert result.graph.node[1].input[1] != "s"
    same_results(model, result, {"x": image(2, 3)})


def test_one_output_of_a_folded_split_is_a_graph_output() -> None:
    model = parse(
        "(float[2,3] x) => (int64[1] a, float[N] y) <float[1] one = {1}> "
        "{ s = Shape (x) a, b = Split <axis=0, num_outputs=2> (s) y = Expand (one, b) }"
    )
    result = normalise(model)
    assert ops(result) == ["Split", "Expand"]
    assert shape_of(result, "y") == (3,)
    same_results(model, result, {"x": image(2, 3)})


def test_dead_nodes_and_unused_initializers_go() -> None:
    model = parse(
        "(float[2] x, float[2] unused) => (float[2] y) <float[2] w = {1,2}> "
        "{ d = Add (x, w) e = Neg (d) y = Relu (x) }"
    )
    result = normalise(model)
    assert ops(result) == ["Relu"] and not result.graph.initializer
    assert [value.name for value in result.graph.input] == ["x", "unused"]


def test_unsorted_nodes_are_sorted_and_sorted_ones_keep_their_order() -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Neg (b) b = Relu (a) c = Abs (x) a = Exp (x) }")
    assert ops(normalise(model)) == ["Exp", "Relu", "Neg"]


def test_every_node_gets_a_name_of_its_own() -> None:
    model = parse("(float[2] x) => (float[2] y) { a = Relu (x) b = Relu (a) c = Relu (b) y = Relu (c) }")
    for node, name in zip(model.graph.node, ["n", "n", "", "n_1"], strict=True):
        node.name = name
    names = [node.name for node in normalise(model).graph.node]
    assert len(set(names)) == 4 and "" not in names
    assert names[0] == "n" and names[3] == "n_1"


def test_every_tensor_gets_a_static_type() -> None:
    result = normalise(
        parse("(float[N,3,8,8] x, float[4,3,3,3] w) => (float[A,B,C,D] y) { c = Conv (x, w) y = Relu (c) }")
    )
    assert shape_of(result, "x") == (1, 3, 8, 8)
    assert shape_of(result, "c") == shape_of(result, "y") == (1, 4, 6, 6)


def test_a_stored_tensor_that_is_an_output_is_copied_to_it() -> None:
    model = parse("(float[2] x) => (float[2] y, float[2] w) <float[2] w = {1,2}> { y = Add (x, w) }")
    result = normalise(model)
    assert ops(result) == ["Add", "Identity"]
    same_results(model, result, {"x": image(2)})


def test_a_graph_input_may_be_an_output() -> None:
    model = parse("(float[2] x) => (float[2] y, float[2] x) { y = Relu (x) }")
    result = normalise(model)
    assert [value.name for value in result.graph.output] == ["y", "x"]
    same_results(model, result, {"x": image(2)})


def test_initializers_listed_as_inputs_are_constants_before_ir_4() -> None:
    model = parse("(float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }", ir=3, opset=9)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    result = normalise(model)
    assert [value.name for value in result.graph.input] == ["x"] and result.ir_version == 4
    same_results(model, result, {"x": image(2)})


def test_initializers_listed_as_inputs_stay_listed_from_ir_4_on() -> None:
    model = parse("(float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    result = normalise(model)
    assert [value.name for value in result.graph.input] == ["x", "w"]
    same_results(model, result, {"x": image(2)})


def test_dequantized_activations_are_private_to_their_readers() -> None:
    model = parse(
        "(float[2] x) => (float[2] y, float[2] z, float[2] d) "
        "<float s = {0.5}, int8 o = {0}, int8[2] q8 = {1,2}> {"
        "q = QuantizeLinear (x, s, o) d = DequantizeLinear (q, s, o) w = DequantizeLinear (q8, s, o)"
        "a = Add (d, w) b = Mul (d, d) y = Sub (a, w) z = Sub (b, d) }"
    )
    result = normalise(model)
    # One for the output d, and one for each of Add, Mul and Sub; the weight's keeps its two readers.
    assert ops(result).count("DequantizeLinear") == 5
    readers = [name for node in result.graph.node for name in set(node.input)]
    activations = [
        n.output[0] for n in result.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "q"
    ]
    assert [readers.count(name) for name in activations] == [0, 1, 1, 1]
    assert all(shape_of(result, name) == (2,) for name in activations)
    assert normalise(result, weightless=True) is result
    same_results(model, result, {"x": image(2)})


def test_ir_14_is_lowered_and_the_opset_kept() -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Relu (x) }", opset=26)
    model.ir_version = 14
    result = normalise(model)
    assert result.ir_version == 13 and result.opset_import[0].version == 26


def test_an_old_opset_passes_if_its_operators_are_unchanged() -> None:
    model = parse(
        "(float[1,1,4,4] x, float[1,1,1,1] w) => (float[A,B,C,D] y) { c = Conv (x, w) y = Relu (c) }", opset=6
    )
    assert normalise(model).opset_import[0].version == 6


def test_the_alias_of_the_standard_domain_is_understood() -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Relu (x) }")
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    result = normalise(model)
    assert result.graph.node[0].domain == result.opset_import[0].domain == ""


def test_unused_operator_sets_are_dropped() -> None:
    model = parse("(float[2] x) => (float[2] y) { y = Relu (x) }", extra=', "com.microsoft": 1')
    assert len(normalise(model).opset_import) == 1


def test_optional_inputs_may_be_left_out() -> None:
    model = parse('(float[4] x) => (float[4] y) <float top = {1}> { y = Clip (x, "", top) }')
    result = normalise(model)
    same_results(model, result, {"x": image(4)})


def test_a_stated_shape_is_taken_where_none_can_be_inferred() -> None:
    model = parse("(float[2,3] x, int64[1] axes) => (float[2] y) { y = ReduceSum <keepdims=0> (x, axes) }")
    assert shape_of(normalise(model), "y") == (2,)
    model.graph.output[0].type.tensor_type.shape.dim[0].ClearField("dim_value")
    with pytest.raises(ModelError) as caught:
        normalise(model)
    assert caught.value.code == "dynamic-shape"


def test_wrong_stated_shapes_are_corrected() -> None:
    assert shape_of(normalise(parse("(float[2,3] x) => (float[7,7] y) { y = Relu (x) }")), "y") == (2, 3)


def test_a_weightless_model_is_accepted_only_when_asked_for() -> None:
    model = parse("(float[1,3,8,8] x) => (float[A,B,C,D] y) { c = Conv (x, w) y = Relu (c) }")
    model.graph.initializer.add(name="w", data_type=1, dims=[4, 3, 3, 3])
    with pytest.raises(ModelError):
        normalise(model)
    result = normalise(model, weightless=True)
    assert shape_of(result, "y") == (1, 4, 6, 6)
    assert normalise(result, weightless=True) is result


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.graph.node[0].ClearField("name"),
        lambda m: m.graph.ClearField("value_info"),
        lambda m: m.graph.node.insert(0, m.graph.node.pop()),
        lambda m: m.graph.node.append(helper.make_node("Relu", ["x"], ["dead"], name="dead")),
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_value"),
        lambda m: m.functions.add(name="f", domain="local"),
    ],
    ids=["unnamed", "untyped", "unsorted", "dead", "dynamic", "function"],
)
def test_a_weightless_model_that_is_not_normal_is_noticed(spoil) -> None:
    model = normalise(parse("(float[1,2] x) => (float[1,2] y) { a = Relu (x) y = Neg (a) }"))
    assert normalise(model, weightless=True) is model
    spoil(model)
    fixed = normalise(model, weightless=True)
    assert fixed is not model and ops(fixed) == ["Relu", "Neg"]


def test_a_hundred_thousand_nodes_in_reverse_order(tmp_path: Path) -> None:
    count = 100_000
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in reversed(range(count))]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("t0", 1, [1, 4])],
        [helper.make_tensor_value_info(f"t{count}", 1, [1, 4])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    result = load_model(save(model, tmp_path / "chain.onnx")).model
    assert len(result.graph.node) == count
    assert result.graph.node[0].input[0] == "t0"


SHIPPED = Path(onnx.__file__).parent / "backend" / "test" / "data"


@pytest.mark.parametrize("path", sorted((SHIPPED / "light").glob("*.onnx")), ids=lambda path: path.stem)
def test_classic_networks_keep_their_interface(path: Path) -> None:
    result = load_model(path).model
    assert len(result.graph.input) <= 2
    assert normalise(result, weightless=True) is result


def test_a_classic_network_computes_the_same_bits() -> None:
    path = SHIPPED / "light" / "light_squeezenet.onnx"
    result = load_model(path).model
    feeds = {result.graph.input[0].name: image(1, 3, 224, 224)}
    assert run(result, feeds)[0].shape == (1, 1000, 1, 1)
    same_results(onnx.load(path), result, feeds)


@pytest.mark.parametrize(
    ("folder", "at_least"), [("simple", 7), ("pytorch-operator", 24), ("pytorch-converted", 59)]
)
def test_shipped_backend_models_are_normalised_or_refused_cleanly(folder: str, at_least: int) -> None:
    accepted = 0
    for path in sorted((SHIPPED / folder).glob("*/model.onnx")):
        try:
            result = load_model(path).model
        except ModelError as error:
            assert str(error).isprintable()
            continue
        accepted += 1
        assert normalise(result) == result
    assert accepted >= at_least


def test_options_error_names_the_inputs() -> None:
    model = parse("(float[1,3,H,W] image) => (float[N] y) { y = Relu (image) }")
    with pytest.raises(OptionError) as caught:
        normalise(model, {"img": (1, 3, 8, 8)})
    assert "image (1x3xHxW)" in str(caught.value)
