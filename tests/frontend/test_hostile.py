"""Models that are damaged, malicious or out of scope: each is refused with one line, quickly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_helpers import parse, refusal, save
from hostile_graphs import GRAPHS
from hostile_operators import OPERATORS
from hostile_parts import conv, field, relu, renamed_tensor
from onnx import helper, numpy_helper

from h4hc.frontend import load_model, normalise

CASES = {**GRAPHS, **OPERATORS}


@pytest.mark.parametrize("name", CASES)
def test_hostile_model_is_refused_with_one_line(name: str) -> None:
    code, build = CASES[name]
    refusal(build(), code)


def test_there_are_enough_hostile_models() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize(
    "data",
    [b"", b"hello, this is no model", b"\x00" * 1000, b"\x08\x0a", b"<html></html>", bytes(range(256)) * 8],
    ids=["empty", "text", "zeros", "no graph", "html", "noise"],
)
def test_files_that_are_no_models(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refusal(path, "not-onnx")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    data = conv("", weight="4,3,3,3").SerializeToString()
    for cut in range(1, len(data), 7):
        path = tmp_path / "model.onnx"
        path.write_bytes(data[:cut])
        refusal(path, "not-onnx")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    data = renamed_tensor("tensor_name").SerializeToString().replace(b"tensor_name", b"\xff\xfe\xfdsor_name")
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refusal(path, "name")


@pytest.mark.parametrize("where", ["model", "node", "domain"])
def test_metadata_and_domains_that_are_not_utf8_are_refused(where: str, tmp_path: Path) -> None:
    model = relu()
    if where == "domain":
        model.opset_import.add(domain="not_text", version=1)
    else:
        (model if where == "model" else model.graph.node[0]).metadata_props.add(key="not_text", value="x")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString().replace(b"not_text", b"\xff\xfe\xfd_text"))
    refusal(path, "name")


def test_numbers_of_variable_length_are_bounded_before_they_are_parsed(tmp_path: Path) -> None:
    # A byte in the file is eight in memory.
    path = tmp_path / "numbers.onnx"
    path.write_bytes(b"\x08\x0a" + field(7, field(5, field(7, bytes(76_000_000)))))
    refusal(path, "too-large")


def test_a_shape_of_a_thousand_dimensions_is_shown_in_part() -> None:
    model = relu(
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].__setattr__("dim_param", "N" * 1000)
    )
    refusal(model, "dynamic-shape")


def test_nesting_deeper_than_the_parser_allows_is_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(60):
        # graph.node = 1, node.attribute = 5, attribute.g = 6
        graph = field(1, field(5, field(6, graph)))
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x08\x0a" + field(7, graph))
    refusal(path, "not-onnx")


def test_a_file_of_empty_messages_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    # Eighteen million empty nodes: two bytes each in the file, a hundred and more in memory.
    path = tmp_path / "bomb.onnx"
    path.write_bytes(b"\x08\x0a" + field(7, field(1, b"") * 18_000_000))
    refusal(path, "too-large")


def test_an_evil_but_printable_name_is_only_a_name(tmp_path: Path) -> None:
    name = "../../etc/__import__('os').system('true')"
    loaded = load_model(save(renamed_tensor(name), tmp_path / "model.onnx"))
    assert loaded.model.graph.output[0].name == name


def test_dimension_symbols_are_not_evaluated() -> None:
    model = relu(
        lambda m: setattr(
            m.graph.input[0].type.tensor_type.shape.dim[1], "dim_param", "__import__('os').abort()"
        )
    )
    error = refusal(model, "dynamic-shape")
    assert "x" in str(error)


def test_masks_may_hold_infinities() -> None:
    model = parse(
        "(float[2,2] x) => (float[2,2] y) <float[2,2] mask = {0,-inf,0,0}> "
        "{ m = Add (x, mask) y = Softmax (m) }"
    )
    assert len(normalise(model).graph.node) == 2


def test_a_hidden_constant_bomb_in_a_function_is_bounded() -> None:
    body = helper.make_node(
        "Constant", [], ["c"], value=numpy_helper.from_array(np.zeros(2_000_000, np.float32), "c")
    )
    add = helper.make_node("Add", ["a", "c"], ["b"])
    model = relu()
    model.opset_import.add(domain="local", version=1)
    model.functions.append(
        helper.make_function("local", "f", ["a"], ["b"], [body, add], [helper.make_opsetid("", 20)])
    )
    model.graph.node.extend(
        onnx.NodeProto(op_type="f", domain="local", input=["x"], output=[f"z{i}"]) for i in range(1000)
    )
    refusal(model, "function-size")


def test_folded_values_are_bounded_in_total() -> None:
    # Each sum could be folded alone; ten thousand of them would take 640 MB.
    lines = ["s0 = Expand (one, n)"] + [f"s{i + 1} = Add (s{i}, one)" for i in range(10_000)]
    model = parse(
        "(int64[8192] x) => (int64[8192] y) <int64[1] one = {1}, int64[1] n = {8192}> {"
        + " ".join(lines)
        + " y = Add (x, s10000) }"
    )
    result = normalise(model)
    assert sum(len(tensor.raw_data) for tensor in result.graph.initializer) < 100_000_000
