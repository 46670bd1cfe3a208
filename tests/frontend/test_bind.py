"""Dynamic dimensions: the batch becomes 1, the rest must be given."""

from __future__ import annotations

import pytest
from frontend_helpers import parse, refusal, shape_of

from h4hc.errors import OptionError
from h4hc.frontend import normalise

TWO = "(float[N,3,H,W] x, float[N,H] z) => (float[A] y) { s = Relu (x) t = Relu (z) y = Relu (s) }"


def test_the_batch_becomes_one_everywhere() -> None:
    result = normalise(parse("(float[N,3] x, float[N] z) => (float[A] y) { y = Relu (x) }"))
    assert shape_of(result, "x") == (1, 3) and shape_of(result, "z") == (1,)


def test_an_unnamed_batch_becomes_one() -> None:
    model = parse("(float[N,3] x) => (float[A] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    assert shape_of(normalise(model), "x") == (1, 3)


def test_a_static_batch_stays() -> None:
    assert shape_of(normalise(parse("(float[8,3] x) => (float[A] y) { y = Relu (x) }")), "x") == (8, 3)


def test_a_vector_of_unknown_length_has_no_batch() -> None:
    refusal(parse("(float[N] x) => (float[A] y) { y = Relu (x) }"), "dynamic-shape")


def test_a_given_shape_binds_its_symbols_elsewhere() -> None:
    result = normalise(parse(TWO), {"x": (2, 3, 8, 6)})
    assert shape_of(result, "x") == (2, 3, 8, 6) and shape_of(result, "z") == (2, 8)


def test_an_input_without_a_shape_can_be_given_one() -> None:
    model = parse("(float[2] x) => (float[A] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    assert shape_of(normalise(model, {"x": (2, 5)}), "y") == (2, 5)


def test_the_message_says_what_to_type() -> None:
    error = refusal(parse(TWO), "dynamic-shape")
    assert "--shape x=Nx3xNxN" in str(error)


@pytest.mark.parametrize(
    ("shapes", "code"),
    [
        ({"nobody": (1,)}, "unknown-input"),
        ({"x": (1, 3, 8)}, "bad-shape"),
        ({"x": (1, 4, 8, 8)}, "bad-shape"),
        ({"x": (1, 3, 0, 8)}, "bad-shape"),
        ({"x": (1, 3, -8, 8)}, "bad-shape"),
        ({"x": (1, 3, 8, 8), "z": (1, 9)}, "bad-shape"),
        ({"x": (1, 3, 2**40, 2**40)}, "too-large"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: dict[str, tuple[int, ...]], code: str) -> None:
    error = refusal(parse(TWO), code, shapes)
    assert isinstance(error, OptionError) or code == "too-large"
