"""Model-local functions become part of the graph."""

from __future__ import annotations

import time

import numpy as np
from frontend_helpers import SECONDS, ops, parse, refusal, run, same_results
from onnx import ModelProto, helper

from h4hc.frontend import normalise

X = np.array([-1.0, 2.0], np.float32)


def with_functions(body: str, functions: str) -> ModelProto:
    text = functions.replace("FN", '<domain: "local", opset_import: ["": 20, "local": 1]>')
    return parse(f"(float[2] x) => (float[2] y) {{ {body} }}", functions=text, extra=', "local": 1')


def test_nested_calls_are_expanded_with_readable_names() -> None:
    model = with_functions(
        "t = local.outer (x) y = local.outer (t)",
        "FN outer (a) => (b) { c = local.inner (a) b = Neg (c) } "
        "FN inner (a) => (b) { t = Relu (a) b = Exp (t) }",
    )
    model.graph.node[0].name, model.graph.node[1].name = "first", "second"
    result = normalise(model)
    assert ops(result) == ["Relu", "Exp", "Neg"] * 2
    assert result.graph.node[0].name == "first/inner/Relu"
    assert result.graph.node[0].output[0] == "first/inner/t"
    assert not result.functions and len(result.opset_import) == 1
    same_results(model, result, {"x": X})


def test_attributes_are_passed_defaulted_and_left_out() -> None:
    function = helper.make_function(
        "local",
        "f",
        ["a"],
        ["c"],
        [
            helper.make_node("LeakyRelu", ["a"], ["b"]),
            helper.make_node("Selu", ["b"], ["c"]),
        ],
        [helper.make_opsetid("", 20)],
        attributes=["slope"],
        attribute_protos=[helper.make_attribute("gain", 2.0)],
    )
    for node, name, source in zip(function.node, ["alpha", "gamma"], ["slope", "gain"], strict=True):
        node.attribute.add(name=name, type=1, ref_attr_name=source)
    model = parse(
        "(float[2] x) => (float[2] y) { t = local.f <slope=0.5> (x) y = local.f <gain=3.0> (t) }",
        extra=', "local": 1',
    )
    model.functions.append(function)
    result = normalise(model)
    attributes = [[(a.name, a.f) for a in node.attribute] for node in result.graph.node]
    assert attributes == [[("alpha", 0.5)], [("gamma", 2.0)], [], [("gamma", 3.0)]]
    same_results(model, result, {"x": X})


def test_optional_inputs_and_outputs_may_be_left_out() -> None:
    model = with_functions(
        "y = local.f (x)",
        "FN f (a, top) => (b, c) { b = Clip (a, top) c = Neg (b) }",
    )
    result = normalise(model)
    assert ops(result) == ["Clip"]


def test_an_output_may_be_an_input() -> None:
    model = with_functions("a, y = local.f (x)", "FN f (a) => (a, b) { b = Relu (a) }")
    model.graph.output.append(helper.make_tensor_value_info("a", 1, [2]))
    result = normalise(model)
    assert sorted(ops(result)) == ["Identity", "Relu"]
    relu, same = run(result, {"x": X})
    assert relu.tolist() == [0.0, 2.0] and same.tolist() == X.tolist()


def test_names_that_collide_are_told_apart() -> None:
    model = with_functions(
        "a = local.f (x) b = local.f (a) y = Neg (b)", "FN f (a) => (c) { b = Relu (a) c = Exp (b) }"
    )
    # The graph itself uses the name that inlining would give to the tensor b of the first call.
    for node, name in zip(model.graph.node, ["call", "other", "last"], strict=True):
        node.name = name
        node.input[:] = ["call/b" if name == "a" else name for name in node.input]
        node.output[:] = ["call/b" if name == "a" else name for name in node.output]
    result = normalise(model)
    names = [name for node in result.graph.node for name in node.output]
    assert len(set(names)) == len(names) == 5
    same_results(model, result, {"x": X})


def test_a_function_of_another_opset_passes_if_its_operators_are_the_same() -> None:
    model = parse(
        "(float[2] x) => (float[2] y) { y = local.f (x) }",
        functions='<domain: "local", opset_import: ["": 15]> f (a) => (b) { b = Relu (a) }',
        extra=', "local": 1',
    )
    assert ops(normalise(model)) == ["Relu"]


def test_a_function_that_imports_the_standard_set_twice_is_refused() -> None:
    model = with_functions("y = local.f (x)", "FN f (a) => (b) { b = Relu (a) }")
    model.functions[0].opset_import.append(helper.make_opsetid("ai.onnx", 13))
    refusal(model, "opset")


def test_a_chain_of_two_thousand_functions_needs_no_recursion() -> None:
    depth = 2000
    nodes = [f"FN f{i} (a) => (b) {{ b = local.f{i + 1} (a) }}" for i in range(depth)]
    model = with_functions(
        "y = local.f0 (x)", "\n".join([*nodes, f"FN f{depth} (a) => (b) {{ b = Relu (a) }}"])
    )
    started = time.process_time()
    result = normalise(model)
    assert ops(result) == ["Relu"]
    assert len(result.graph.node[0].name) < 500
    assert time.process_time() - started < SECONDS


def test_functions_that_nothing_calls_cost_nothing() -> None:
    model = with_functions("y = Relu (x)", "FN f (a) => (b) { b = Relu (a) }")
    assert ops(normalise(model)) == ["Relu"]
