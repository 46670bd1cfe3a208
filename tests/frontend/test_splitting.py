"""Operators in parts of their output channels: the bits are those of the whole, and where they might not be, no parts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from h4hc.frontend import normalise
from h4hc.frontend.splitting import Splitter
from h4hc.ir.graph import Operator
from h4hc.ir.workload import Kernel, MatMul
from tests.frontend.split_models import found, in_parts, random_arrays, same_bits, text_model

KERNEL = Kernel(MatMul(1, 4, 8, 16))


def convolution(
    channels: int = 16,
    out: int = 48,
    size: int = 9,
    kernel: int = 3,
    stride: int = 1,
    tail: str = "y = Identity(c)",
) -> ModelProto:
    pad = kernel // 2
    end = (size + 2 * pad - kernel) // stride + 1
    return text_model(
        f"""(float[1,{channels},{size},{size}] x) => (float[1,{out},{end},{end}] y) {{
          c = Conv<pads=[{pad},{pad},{pad},{pad}], strides=[{stride},{stride}]>(x, w, b)
          {tail}
        }}""",
        random_arrays(
            w=(out, channels, kernel, kernel), b=(out,), scale=(out,), mean=(out,), bias=(1, out, 1, 1)
        )
        | {"variance": np.linspace(0.5, 2, out, dtype=np.float32)},
    )


EPILOGUES = {
    "relu": "y = Relu(c)",
    "silu": "s = Sigmoid(c) y = Mul(c, s)",
    "hard-swish": "y = HardSwish(c)",
    "gelu": "d = Mul(c, c) e = Erf(d) y = Mul(c, e)",
    "batch norm": "n = BatchNormalization(c, scale, bias2, mean, variance) y = Relu(n)",
    "bias": "d = Add(c, bias) y = Tanh(d)",
}


@pytest.mark.parametrize("name", EPILOGUES)
def test_epilogue_is_repeated(name: str) -> None:
    tail = EPILOGUES[name].replace("bias2", "b")
    model = convolution(tail=tail)
    split = in_parts(model, "Conv_0", 16)
    assert [node.op_type for node in split.graph.node][-1] == "Concat"
    assert [node.op_type for node in split.graph.node].count("Conv") == 2
    onnx.checker.check_model(split, full_check=True)
    assert same_bits(model, split)


def test_names_and_leftovers() -> None:
    split = in_parts(convolution(tail="y = Relu(c)"), "Conv_0", 16)
    assert [node.name for node in split.graph.node] == [
        "Conv_0/part0", "Relu_1/part0", "Conv_0/part1", "Relu_1/part1", "Conv_0/parts",
    ]  # fmt: skip
    kept = {tensor.name: list(tensor.dims) for tensor in split.graph.initializer if tensor.name[0] in "wb"}
    assert kept["w/part0"] == [16, 16, 3, 3] and kept["w/part1"] == [32, 16, 3, 3]
    assert "w" not in kept and "b" not in kept
    assert "c" not in {info.name for info in split.graph.value_info}


@pytest.mark.parametrize("function", ["Softplus", "Selu", "Log", "Sin", "Softmax"])
def test_what_depends_on_position_stays_behind(function: str) -> None:
    model = convolution(tail=f"y = {function}(c)")
    operator = found(model, "Conv_0")
    assert operator is not None and operator.nodes == ("Conv_0",) and operator.output == "c"
    assert same_bits(model, in_parts(model, "Conv_0", 24))


def test_a_residual_add_stays_behind() -> None:
    model = convolution(channels=48, tail="r = Relu(c) y = Add(r, x)")
    operator = found(model, "Conv_0")
    assert operator is not None and operator.nodes == ("Conv_0", "Relu_1")
    assert same_bits(model, in_parts(model, "Conv_0", 16))


@settings(max_examples=40, deadline=None)
@given(
    channels=st.sampled_from([3, 16, 24, 96, 160]),
    out=st.sampled_from([16, 40, 96, 200]),
    size=st.integers(2, 17),
    kernel=st.sampled_from([1, 3, 5]),
    share=st.floats(0, 1),
)
def test_convolutions_keep_their_bits(channels: int, out: int, size: int, kernel: int, share: float) -> None:
    model = convolution(channels, out, size, kernel)
    assert same_bits(model, in_parts(model, "Conv_0", 2 + round(share * (out - 4))))


def product(rows: int, depth: int, columns: int, operator: str = "y = MatMul(x, w)") -> ModelProto:
    return text_model(
        f"(float[{rows},{depth}] x) => (float[{rows},{columns}] y) {{ {operator} }}",
        random_arrays(w=(depth, columns), t=(columns, depth), b=(columns,)),
    )


@settings(max_examples=40, deadline=None)
@given(
    rows=st.sampled_from([1, 2, 3, 16, 49]),
    depth=st.sampled_from([16, 100, 129, 384, 1000]),
    columns=st.sampled_from([24, 100, 256, 390]),
    operator=st.sampled_from(
        [
            "y = MatMul(x, w)",
            "y = Gemm(x, w, b)",
            "y = Gemm<transB=1>(x, t, b)",
            "a = MatMul(x, w) y = Add(a, b)",
        ]
    ),
    share=st.floats(0, 1),
)
def test_products_keep_their_bits(rows: int, depth: int, columns: int, operator: str, share: float) -> None:
    model = product(rows, depth, columns, operator)
    first = 2 + round(share * (columns - 4))
    name = next(node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm"))
    assert same_bits(model, in_parts(model, name, first))


def quantised_product(rows: int, depth: int, columns: int) -> ModelProto:
    """A product whose second operand is dequantised when it runs."""
    integers = np.random.default_rng(3).integers(-128, 128, (depth, columns)).astype(np.int8)
    scales = np.linspace(0.001, 0.02, columns, dtype=np.float32)
    return text_model(
        f"""(float[{rows},{depth}] x) => (float[{rows},{columns}] y) {{
          w = DequantizeLinear<axis=1>(q, s, z) y = MatMul(x, w)
        }}""",
        {"q": integers, "s": scales, "z": np.zeros(columns, np.int8)},
    )


@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize(
    ("depth", "columns", "first"), [(128, 40, 8), (768, 192, 96), (513, 300, 65), (1000, 1000, 100)]
)
def test_computed_operands_of_products(rows: int, depth: int, columns: int, first: int) -> None:
    model = quantised_product(rows, depth, columns)
    assert same_bits(model, in_parts(model, "MatMul_1", first))


def test_narrow_parts_of_computed_operands_are_refused() -> None:
    """Columns are added up in deeper blocks if there are few: 64 of 192 columns differ from the whole."""
    operator = found(quantised_product(64, 768, 192), "MatMul_1")
    assert operator is not None
    assert [operator.allows(first) for first in (2, 64, 65, 96, 127, 128)] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert found(quantised_product(64, 768, 120), "MatMul_1").allows(60) is False  # type: ignore[union-attr]


def test_quantised_convolution() -> None:
    generator = np.random.default_rng(5)
    model = text_model(
        """(float[1,24,10,10] x) => (float[1,40,10,10] y) {
          xq = QuantizeLinear(x, sx, zx) xd = DequantizeLinear(xq, sx, zx)
          w = DequantizeLinear<axis=0>(q, s, z) b = DequantizeLinear<axis=0>(qb, sb)
          c = Conv<pads=[1,1,1,1]>(xd, w, b) r = Relu(c)
          yq = QuantizeLinear(r, sy, zy) y = DequantizeLinear(yq, sy, zy)
        }""",
        {
            "q": generator.integers(-128, 128, (40, 24, 3, 3)).astype(np.int8),
            "s": np.linspace(0.001, 0.02, 40, dtype=np.float32), "z": np.zeros(40, np.int8),
            "qb": generator.integers(-999, 999, 40).astype(np.int32), "sb": np.full(40, 0.01, np.float32),
            "sx": np.float32(0.03), "zx": np.uint8(128), "sy": np.float32(0.05), "zy": np.uint8(3),
        },
    )  # fmt: skip
    operator = found(model, "Conv_4")
    assert operator is not None and operator.nodes[:2] == ("Conv_4", "Relu_5")
    split = in_parts(model, "Conv_4", 8)
    onnx.checker.check_model(split, full_check=True)
    assert same_bits(model, split)
    assert {t.name for t in split.graph.initializer} >= {"q/part0", "s/part1", "qb/part0", "sb/part1"}


REFUSED = {
    "depthwise": ("(float[1,8,6,6] x) => (float[1,8,6,6] y) { y = Conv<pads=[1,1,1,1], group=8>(x, w) }", (8, 1, 3, 3)),
    "grouped": ("(float[1,8,6,6] x) => (float[1,8,6,6] y) { y = Conv<pads=[1,1,1,1], group=2>(x, w) }", (8, 4, 3, 3)),
    "one pixel": ("(float[1,8,1,1] x) => (float[1,64,1,1] y) { y = Conv(x, w) }", (64, 8, 1, 1)),
    "shrunk to a pixel": ("(float[1,8,2,2] x) => (float[1,64,1,1] y) { y = Conv<strides=[2,2]>(x, w) }", (64, 8, 1, 1)),
    "three dimensions": ("(float[1,8,4,4,4] x) => (float[1,16,4,4,4] y) { y = Conv(x, w) }", (16, 8, 1, 1, 1)),
    "transposed": ("(float[1,8,4,4] x) => (float[1,16,4,4] y) { y = ConvTranspose(x, w) }", (8, 16, 1, 1)),
    "batches of weights": ("(float[3,4,8] x) => (float[3,4,16] y) { y = MatMul(x, w) }", (3, 8, 16)),
    "weights first": ("(float[8,16] x) => (float[4,16] y) { y = MatMul(w, x) }", (4, 8)),
    "transposed input": ("(float[8,4] x) => (float[4,16] y) { y = Gemm<transA=1>(x, w) }", (8, 16)),
    "computed weights": ("(float[4,8] x) => (float[4,16] y) { t = Transpose(w) y = MatMul(x, t) }", (16, 8)),
    "half precision": ("(float16[4,8] x) => (float16[4,16] y) { y = MatMul(x, w) }", (8, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    body, shape = REFUSED[name]
    weights = random_arrays(w=shape)
    if "float16" in body:
        weights = {"w": weights["w"].astype(np.float16)}
    model = text_model(body, weights)
    anchor = next(
        n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm")
    )
    assert found(model, anchor) is None


def test_a_part_of_one_channel_is_refused() -> None:
    operator = found(convolution(), "Conv_0")
    assert operator is not None
    assert [operator.allows(first) for first in (0, 1, 2, 46, 47, 48)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_overridable_weights_are_refused() -> None:
    model = product(4, 8, 16)
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [8, 16]))
    assert found(normalise(model), "MatMul_0") is None


def test_a_taken_name_is_refused() -> None:
    model = convolution(tail="y = Relu(c)")
    model.graph.node[1].name = "Conv_0/part1"
    assert found(model, "Conv_0") is None


def test_shared_weights_stay_for_the_other_reader() -> None:
    model = text_model(
        "(float[4,8] x) => (float[4,16] y, float[4,16] z) { y = MatMul(x, w) n = Neg(x) z = MatMul(n, w) }",
        random_arrays(w=(8, 16)),
    )
    split = in_parts(model, "MatMul_0", 8)
    assert {tensor.name for tensor in split.graph.initializer} == {"w", "w/part0", "w/part1"}
    assert same_bits(model, split)


def test_weights_of_one_value() -> None:
    model = text_model(
        "(float[1,8,5,5] x) => (float[1,32,5,5] y) { w = ConstantOfShape(dims) y = Conv(x, w) }",
        {"dims": np.array([32, 8, 1, 1])},
    )
    assert same_bits(model, in_parts(model, "Conv_1", 8))


def test_another_domain_is_refused() -> None:
    model = product(4, 8, 16)
    model.graph.node[0].domain = "com.acme"
    assert (
        Splitter(model).splittable(
            Operator("MatMul_0", "MatMul", KERNEL, ("x",), ("y",), ("w",), ("MatMul_0",))
        )
        is None
    )
