"""What is folded at compile time is what onnxruntime computes at run time."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_helpers import ops, parse, run, same_results
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from h4hc.frontend import normalise

# Expressions over int64 tensors a, b (2x3), v (3) and p (3, positive); the result is r.
EXPRESSIONS = {
    "add": "r = Add (a, v)",
    "sub": "r = Sub (a, b)",
    "mul": "r = Mul (a, b)",
    "div": "r = Div (a, p)",
    "div negative": "n = Neg (p) r = Div (a, n)",
    "mod": "n = Neg (p) r = Mod (a, n)",
    "fmod": "n = Neg (p) r = Mod <fmod=1> (a, n)",
    "neg": "r = Neg (a)",
    "abs": "r = Abs (a)",
    "min": "r = Min (a, b, v)",
    "max": "r = Max (a, v)",
    "clip": "z = Constant <value_int=-3> () o = Constant <value_int=5> () r = Clip (a, z, o)",
    "where": "c = Less (a, b) r = Where (c, a, v)",
    "logic": "c = Less (a, b) d = Greater (a, v) e = Equal (a, b) "
    "f = And (c, d) g = Or (f, e) h = Xor (g, c) i = Not (h) r = Cast <to=7> (i)",
    "compare": "c = LessOrEqual (a, b) d = GreaterOrEqual (a, v) e = And (c, d) r = Cast <to=7> (e)",
    "cast": "c = Cast <to=6> (a) d = Cast <to=3> (c) e = Cast <to=9> (d) r = Cast <to=7> (e)",
    "float": "f = Cast <to=1> (a) g = Cast <to=1> (p) h = Div (f, g) "
    "i = Floor (h) j = Ceil (h) k = Round (h) "
    "l = Add (i, j) m = Mul (l, k) r = Cast <to=7> (m)",
    "sqrt": "f = Cast <to=11> (p) g = Sqrt (f) h = Mul (g, f) r = Cast <to=7> (h)",
    "gather": "i = Constant <value_ints=[1,-1,0]> () r = Gather <axis=1> (a, i)",
    "gather scalar": "i = Constant <value_int=-1> () r = Gather (v, i)",
    "concat": "r = Concat <axis=-1> (a, b)",
    "slice": "s = Constant <value_ints=[1,-1]> () e = Constant <value_ints=[9,-9223372036854775808]> () "
    "k = Constant <value_ints=[0,1]> () t = Constant <value_ints=[1,-2]> () "
    "r = Slice (a, s, e, k, t)",
    "slice all axes": "s = Constant <value_ints=[0,1]> () "
    "e = Constant <value_ints=[1,-1]> () r = Slice (a, s, e)",
    "split": "q, r = Split <axis=1, num_outputs=2> (a)",
    "split sizes": "s = Constant <value_ints=[1,2]> () q, r = Split <axis=1> (a, s)",
    "reshape": "s = Constant <value_ints=[-1,2]> () r = Reshape (a, s)",
    "flatten": "r = Flatten <axis=0> (a)",
    "squeeze": "k = Constant <value_ints=[0]> () u = Unsqueeze (a, k) r = Squeeze (u)",
    "expand": "s = Constant <value_ints=[4,1,3]> () r = Expand (a, s)",
    "tile": "s = Constant <value_ints=[2,2]> () r = Tile (a, s)",
    "transpose": "r = Transpose (a)",
    "transpose perm": "r = Transpose <perm=[1,0]> (a)",
    "sum": "r = ReduceSum (a)",
    "sum axis": "k = Constant <value_ints=[-1]> () r = ReduceSum <keepdims=0> (a, k)",
    "sum of nothing": "k = Constant <value_ints: ints = []> () r = ReduceSum <noop_with_empty_axes=1> (a, k)",
    "prod": "k = Constant <value_ints=[0,1]> () r = ReduceProd <keepdims=0> (a, k)",
    "extremes": "k = Constant <value_ints=[1]> () l = ReduceMin (a, k) g = ReduceMax (a, k) r = Sub (g, l)",
    "range": "z = Constant <value_int=-2> () n = Constant <value_int=11> () t = Constant <value_int=3> () "
    "r = Range (z, n, t)",
    "constant of shape": "s = Constant <value_ints=[2,2]> () "
    "r = ConstantOfShape <value: tensor = int64[1] {7}> (s)",
    "size and shape": "n = Size (a) s = Shape (a) r = Mul (n, s)",
    "non zero": "r = NonZero (a)",
    "identity": "i = Identity (a) r = CastLike (i, x)",
}


def model_of(expression: str, **values: np.ndarray) -> ModelProto:
    """A model that reads the result of `expression` at run time."""
    model = parse(f"(int64[1] x) => (int64[N] y) {{ {expression} y = Add (x, r) }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


NUMBERS = st.integers(-20, 20)


@pytest.mark.parametrize("name", EXPRESSIONS)
@settings(max_examples=8, deadline=None)
@given(
    a=st.lists(NUMBERS, min_size=6, max_size=6),
    b=st.lists(NUMBERS, min_size=6, max_size=6),
    v=st.lists(NUMBERS, min_size=3, max_size=3),
    p=st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_folding_computes_what_the_runtime_computes(
    name: str, a: list[int], b: list[int], v: list[int], p: list[int]
) -> None:
    if name == "non zero" and not any(a):
        return
    values = {
        "a": np.array(a, np.int64).reshape(2, 3),
        "b": np.array(b, np.int64).reshape(2, 3),
        "v": np.array(v, np.int64),
        "p": np.array(p, np.int64),
    }
    model = model_of(EXPRESSIONS[name], **values)
    result = normalise(model)
    assert ops(result) == ["Add"]
    same_results(model, result, {"x": np.array([3], np.int64)})


def test_overflow_wraps_as_at_run_time() -> None:
    model = model_of("r = Mul (a, a)", a=np.array([2**62 + 3, -(2**63)], np.int64))
    result = normalise(model)
    assert ops(result) == ["Add"]
    same_results(model, result, {"x": np.array([0], np.int64)})


def test_casts_out_of_range_are_left_to_run_time() -> None:
    model = model_of("f = Cast <to=1> (a) g = Mul (f, f) r = Cast <to=7> (g)", a=np.array([2**40], np.int64))
    assert ops(normalise(model)) == ["Cast", "Mul", "Cast", "Add"]


def test_large_results_are_left_to_run_time() -> None:
    model = model_of("r = Expand (a, n)", a=np.array([1], np.int64), n=np.array([10_000], np.int64))
    assert ops(normalise(model)) == ["Expand", "Add"]


def test_attributes_of_older_operator_sets_are_understood() -> None:
    model = parse(
        "(float[2,3,4] x) => (float[A,B] y) { s = Shape (x) t = Slice <starts=[0], ends=[2], axes=[0]> (s) "
        "p = ReduceProd <axes=[0], keepdims=1> (t) m = Constant <value = int64[1] {-1}> () "
        "d = Concat <axis=0> (p, m) y = Reshape (x, d) }",
        opset=9,
        ir=8,
    )
    result = normalise(model)
    assert ops(result) == ["Reshape"]
    assert run(result, {"x": np.zeros((2, 3, 4), np.float32)})[0].shape == (6, 4)
