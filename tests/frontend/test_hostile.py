"""Models that are damaged, malicious or out of scope: each is refused with one line, quickly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_helpers import parse, refusal, save
from onnx import ModelProto, TensorProto, helper, numpy_helper

from h4hc.frontend import load_model, normalise

INT_MIN = -(2**63)


def relu(edit: Callable[[ModelProto], object] | None = None) -> ModelProto:
    """A small good model, changed by `edit`."""
    model = parse("(float[2,3] x) => (float[2,3] y) { y = Relu (x) }")
    if edit:
        edit(model)
    return model


def conv(attributes: str = "", weight: str = "4,3,3,3", data: str = "1,3,8,8", op: str = "Conv") -> ModelProto:
    return parse(f"(float[{data}] x, float[{weight}] w) => (float[N] y) {{ y = {op}{attributes} (x, w) }}")


def weight(value: TensorProto) -> ModelProto:
    """A convolution whose weight is `value`."""
    model = parse("(float[1,1,4,4] x) => (float[N] y) { y = Conv (x, w) }")
    value.name = "w"
    model.graph.initializer.append(value)
    return model


def weight_tensor(**fields: object) -> TensorProto:
    return TensorProto(**{"data_type": 1, "dims": [1, 1, 1, 1], **fields})  # type: ignore[arg-type]


def ints(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def with_attribute(name: str, value: object) -> ModelProto:
    return relu(lambda m: m.graph.node[0].attribute.append(helper.make_attribute(name, value)))


def opset(version: int) -> ModelProto:
    return relu(lambda m: setattr(m.opset_import[0], "version", version))


def renamed_tensor(name: str) -> ModelProto:
    def edit(model: ModelProto) -> None:
        model.graph.node[0].output[0] = name
        model.graph.output[0].name = name

    return relu(edit)


def functions(bodies: str, call: str, *, body_opset: int = 20) -> ModelProto:
    text = bodies.replace("FN", f'<domain: "local", opset_import: ["": {body_opset}, "local": 1]>')
    return parse(
        f"(float[2] x) => (float[2] y) {{ y = local.{call} (x) }}", functions=text, extra=', "local": 1'
    )


def division(a: int, b: int, op: str = "Div") -> ModelProto:
    return parse(
        f"(float[2] x) => (float[N] y) <int64[1] a = {{{a}}}, int64[1] b = {{{b}}}> "
        f"{{ c = {op} (a, b) y = Expand (x, c) }}"
    )


CASES: dict[str, tuple[str, Callable[[], ModelProto]]] = {
    # versions
    "ir too new": ("ir-version", lambda: relu(lambda m: setattr(m, "ir_version", 15))),
    "ir too old": ("ir-version", lambda: relu(lambda m: setattr(m, "ir_version", 2))),
    "opset 999": ("opset", lambda: opset(999)),
    "opset 27": ("opset", lambda: opset(27)),
    "opset 0": ("opset", lambda: opset(0)),
    "opset negative": ("opset", lambda: opset(-1)),
    "operator changed since old opset": (
        "opset",
        lambda: parse("(float[2] x) => (float[2] y) { y = Add (x, x) }", opset=5),
    ),
    "no opset": ("opset", lambda: relu(lambda m: m.ClearField("opset_import"))),
    "opset twice": ("opset", lambda: relu(lambda m: m.opset_import.add(domain="ai.onnx", version=13))),
    # domains and operators
    "unknown domain": ("domain", lambda: relu(lambda m: setattr(m.graph.node[0], "domain", "evil"))),
    "training domain": (
        "domain",
        lambda: relu(lambda m: setattr(m.graph.node[0], "domain", "ai.onnx.preview.training")),
    ),
    "unknown operator": ("unknown-operator", lambda: relu(lambda m: setattr(m.graph.node[0], "op_type", "Foo"))),
    "operator of a later opset": (
        "unknown-operator",
        lambda: parse("(float[2] x) => (float[2] y) { y = Gelu (x) }", opset=13),
    ),
    "deprecated operator": (
        "unknown-operator",
        lambda: parse("(float[1,1,2,2] x, float[4] s) => (float[N] y) { y = Upsample (x, s) }"),
    ),
    "if": (
        "control-flow",
        lambda: parse(
            "(bool c, float[2] x) => (float[2] y) { y = If (c) <"
            "then_branch = a () => (float[2] t) { t = Relu (x) },"
            "else_branch = b () => (float[2] e) { e = Neg (x) }> }"
        ),
    ),
    "sequence operator": (
        "unsupported-operator",
        lambda: parse("(float[2] x) => (float[2] y) { s = SequenceConstruct (x) y = ConcatFromSequence <axis=0> (s) }"),
    ),
    "string operator": (
        "unsupported-operator",
        lambda: parse("(float[2] x) => (float[2] y) { y = StringNormalizer (x) }"),
    ),
    "random operator": (
        "unsupported-operator",
        lambda: parse("(float[2] x) => (float[2] y) { y = RandomNormalLike (x) }"),
    ),
    "dropout that drops": (
        "malformed-node",
        lambda: parse(
            "(float[2] x) => (float[2] y) <float r = {0.5}, bool t = {1}> { y = Dropout (x, r, t) }"
        ),
    ),
    # structure
    "no nodes": ("empty", lambda: relu(lambda m: m.graph.ClearField("node"))),
    "no outputs": ("empty", lambda: relu(lambda m: m.graph.ClearField("output"))),
    "outputs are inputs": ("empty", lambda: parse("(float[2] x) => (float[2] x) { y = Relu (x) }")),
    "cycle": (
        "cycle",
        lambda: parse("(float[2] x) => (float[2] y) { a = Add (x, b) b = Relu (a) y = Neg (b) }"),
    ),
    "self loop": ("cycle", lambda: parse("(float[2] x) => (float[2] y) { y = Add (x, y) }")),
    "undefined input": ("undefined-tensor", lambda: parse("(float[2] x) => (float[2] y) { y = Add (x, ghost) }")),
    "undefined output": ("undefined-tensor", lambda: parse("(float[2] x) => (float[2] ghost) { y = Relu (x) }")),
    "tensor computed twice": (
        "duplicate-tensor",
        lambda: parse("(float[2] x) => (float[2] y) { y = Relu (x) y = Neg (x) }"),
    ),
    "node overwrites input": (
        "duplicate-tensor",
        lambda: parse("(float[2] x) => (float[2] y) { x = Relu (x) y = Neg (x) }"),
    ),
    "initializer twice": (
        "duplicate-tensor",
        lambda: relu(lambda m: m.graph.initializer.extend([ints("w", 1), ints("w", 2)])),
    ),
    "node overwrites initializer": ("duplicate-tensor", lambda: relu(lambda m: m.graph.initializer.append(ints("y", 1)))),
    "input twice": ("duplicate-tensor", lambda: relu(lambda m: m.graph.input.append(m.graph.input[0]))),
    "output twice": ("duplicate-tensor", lambda: relu(lambda m: m.graph.output.append(m.graph.output[0]))),
    "unnamed input": ("duplicate-tensor", lambda: relu(lambda m: setattr(m.graph.input[0], "name", ""))),
    "too few inputs": ("malformed-node", lambda: relu(lambda m: m.graph.node[0].ClearField("input"))),
    "too many inputs": ("malformed-node", lambda: relu(lambda m: m.graph.node[0].input.extend(["x"] * 9))),
    "required input left out": ("malformed-node", lambda: relu(lambda m: m.graph.node[0].input.__setitem__(0, ""))),
    "no outputs of a node": (
        "malformed-node",
        lambda: relu(lambda m: m.graph.node.add(op_type="Relu", input=["x"], output=[""])),
    ),
    "a hundred thousand inputs of a node": (
        "too-large",
        lambda: relu(lambda m: m.graph.node[0].input.extend(["x"] * 100_000)),
    ),
    # names
    "newline in a name": ("name", lambda: renamed_tensor("a\nb")),
    "nul in a name": ("name", lambda: renamed_tensor("a\0b")),
    "bidirectional override in a name": ("name", lambda: renamed_tensor("a\u202eb")),
    "terminal escape in a node name": (
        "name",
        lambda: relu(lambda m: setattr(m.graph.node[0], "name", "\x1b[31m")),
    ),
    "very long name": ("name", lambda: renamed_tensor("a" * 100_000)),
    # types and stored tensors
    "string input": (
        "unsupported-type",
        lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.STRING)),
    ),
    "bfloat16 input": (
        "unsupported-type",
        lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.BFLOAT16)),
    ),
    "unknown element type": (
        "unsupported-type",
        lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77)),
    ),
    "sequence input": (
        "unsupported-type",
        lambda: relu(lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent()),
    ),
    "untyped input": ("unsupported-type", lambda: relu(lambda m: m.graph.input[0].ClearField("type"))),
    "sparse initializer": (
        "unsupported-type",
        lambda: relu(lambda m: m.graph.sparse_initializer.add()),
    ),
    "cast to float8": (
        "unsupported-type",
        lambda: parse("(float[2] x) => (float[2] z) { y = Cast <to=17> (x) z = Cast <to=1> (y) }"),
    ),
    "int4 weights": ("unsupported-type", lambda: weight(weight_tensor(data_type=TensorProto.INT4))),
    "string constant": (
        "unsupported-type",
        lambda: parse('(float[2] x) => (float[2] y) { s = Constant <value_string="a"> () y = Relu (x) }'),
    ),
    "weights cut short": ("tensor-data", lambda: weight(weight_tensor(dims=[1, 1, 2, 2], raw_data=b"1234"))),
    "weights too long": ("tensor-data", lambda: weight(weight_tensor(raw_data=b"12345678"))),
    "weights without data": ("tensor-data", lambda: weight(weight_tensor())),
    "weights in two places": (
        "tensor-data",
        lambda: weight(weight_tensor(raw_data=b"1234", float_data=[1.0])),
    ),
    "weights in the wrong field": ("tensor-data", lambda: weight(weight_tensor(int64_data=[1]))),
    "weights in segments": (
        "tensor-data",
        lambda: weight(weight_tensor(raw_data=b"1234", segment=TensorProto.Segment(begin=0, end=1))),
    ),
    "negative weight dimension": ("shape", lambda: weight(weight_tensor(dims=[1, 1, -1, -1], raw_data=b"1234"))),
    "overflowing weight dimensions": (
        "too-large",
        lambda: weight(weight_tensor(dims=[2**62, 2**62, 4, 4], raw_data=b"")),
    ),
    "weight of rank 1000": ("too-large", lambda: weight(weight_tensor(dims=[1] * 1000, raw_data=b"1234"))),
    "nan weights": ("nan-weights", lambda: weight(weight_tensor(float_data=[float("nan")]))),
    "infinite weights": ("nan-weights", lambda: weight(weight_tensor(float_data=[float("inf")]))),
    "float16 nan weights": (
        "nan-weights",
        lambda: parse("(float16[1,1,2,2] x) => (float16[N] y) <float16[1,1,1,1] w = {nan}> { y = Conv (x, w) }"),
    ),
    "nan weights behind a transpose": (
        "nan-weights",
        lambda: parse("(float[1,2] x) => (float[1,2] y) <float[2,2] w = {nan,1,2,3}> { t = Transpose (w) y = MatMul (x, t) }"),
    ),
    "default value of another shape": (
        "tensor-data",
        lambda: relu(lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros((9, 9), np.float32), "x"))),
    ),
    # shapes
    "negative input dimension": ("shape", lambda: parse("(float[2,3] x) => (float[N] y) { y = Relu (x) }") if False else relu(
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -5))),
    "zero-size input": (
        "zero-size",
        lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 0)),
    ),
    "zero-size result": (
        "zero-size",
        lambda: parse(
            "(float[2] x) => (float[N] y) <int64[1] s = {2}, int64[1] e = {2}> { y = Slice (x, s, e) }"
        ),
    ),
    "huge input": (
        "too-large",
        lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 2**62)),
    ),
    "dynamic shape": ("dynamic-shape", lambda: parse("(float[1,3,H,W] x) => (float[N] y) { y = Relu (x) }")),
    "input without rank": ("dynamic-shape", lambda: relu(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"))),
    "data-dependent shape": (
        "dynamic-shape",
        lambda: parse("(float[5] x) => (int64[A,B] y) { y = NonZero (x) }"),
    ),
    "impossible reshape": (
        "shape-inference",
        lambda: parse("(float[2,3] x) => (float[N] y) <int64[1] s = {5}> { y = Reshape (x, s) }"),
    ),
    "impossible broadcast": (
        "shape-inference",
        lambda: parse("(float[2,3] x, float[4] z) => (float[N] y) { y = Add (x, z) }"),
    ),
    "impossible matmul": (
        "shape-inference",
        lambda: parse("(float[2,3] x, float[4,5] z) => (float[N] y) { y = MatMul (x, z) }"),
    ),
    "mixed element types": ("type", lambda: parse("(float[2] x, int64[2] z) => (float[2] y) { y = Add (x, z) }")),
    "unfit element type": ("type", lambda: parse("(int64[1,1,4,4] x, int64[1,1,1,1] w) => (int64[N] y) { y = Conv (x, w) }")),
    "output stated as another type": ("type", lambda: parse("(float[2] x) => (int64[2] y) { y = Relu (x) }")),
    "gather out of range": (
        "constant-folding",
        lambda: parse(
            "(float[2,3] x) => (float[N] y) <int64[1] i = {100}> { s = Shape (x) d = Gather (s, i) y = Expand (x, d) }"
        ),
    ),
    # attributes
    "group 0": ("attribute", lambda: conv("<group=0>")),
    "group does not divide": ("malformed-node", lambda: conv("<group=2>")),
    "stride 0": ("attribute", lambda: conv("<strides=[0,0]>")),
    "dilation 0": ("attribute", lambda: conv("<dilations=[0,1]>")),
    "absurd dilation": ("malformed-node", lambda: conv("<dilations=[1000000,1]>")),
    "absurd pads": ("attribute", lambda: conv("<pads=[0,0,9223372036854775807,0]>")),
    "pads that make a giant": ("too-large", lambda: conv("<pads=[0,0,2147483647,0]>")),
    "negative pads": ("malformed-node", lambda: conv("<pads=[-1,0,0,0]>")),
    "too many strides": ("malformed-node", lambda: conv("<strides=[1,1,1]>")),
    "kernel contradicts weights": ("malformed-node", lambda: conv("<kernel_shape=[5,5]>")),
    "kernel larger than input": ("malformed-node", lambda: conv(data="1,3,2,2")),
    "wrong channels": ("malformed-node", lambda: conv(weight="4,5,3,3")),
    "weights of rank 2": ("malformed-node", lambda: conv(weight="4,3")),
    "transposed convolution of wrong channels": ("malformed-node", lambda: conv(op="ConvTranspose")),
    "pool kernel 0": (
        "attribute",
        lambda: parse("(float[1,1,4,4] x) => (float[N] y) { y = MaxPool <kernel_shape=[0,0]> (x) }"),
    ),
    "pool pads beyond kernel": (
        "malformed-node",
        lambda: parse("(float[1,1,4,4] x) => (float[N] y) { y = MaxPool <kernel_shape=[2,2], pads=[9,9,9,9]> (x) }"),
    ),
    "depth to space by 0": (
        "attribute",
        lambda: parse("(float[1,4,2,2] x) => (float[N] y) { y = DepthToSpace <blocksize=0> (x) }"),
    ),
    "gemm that does not fit": (
        "malformed-node",
        lambda: parse("(float[2,3] x, float[4,5] w) => (float[N] y) { y = Gemm (x, w) }"),
    ),
    "batch norm of other channels": (
        "malformed-node",
        lambda: parse(
            "(float[1,3,2,2] x, float[5] s) => (float[N] y) { y = BatchNormalization (x, s, s, s, s) }"
        ),
    ),
    # The next five crash or hang onnx's native shape inference.
    "layer norm axis beyond the int range": (
        "attribute",
        lambda: parse("(float[2,3] x, float[3] w) => (float[N] y) { y = LayerNormalization <axis=2147483648> (x, w) }"),
    ),
    "split into more parts than outputs": (
        "attribute",
        lambda: parse("(float[6] x) => (float[N] a, float[M] b) { a, b = Split <num_outputs=1> (x) }"),
    ),
    "negative batch dims": (
        "attribute",
        lambda: parse("(float[2,2] x, int64[2,1] i) => (float[N] y) { y = GatherND <batch_dims=-2147483648> (x, i) }"),
    ),
    "einsum of bytes": (
        "attribute",
        lambda: relu(
            lambda m: (
                setattr(m.graph.node[0], "op_type", "Einsum"),
                m.graph.node[0].attribute.append(helper.make_attribute("equation", b"\xff")),
            )
        ),
    ),
    "einsum of a dot": (
        "attribute",
        lambda: parse('(float[5] x) => (float[N] y) { y = Einsum <equation=".a->a"> (x) }'),
    ),
    "permutation that is none": (
        "attribute",
        lambda: parse("(float[2,3] x) => (float[N] y) { y = Transpose <perm=[0,0]> (x) }"),
    ),
    "axis out of range": (
        "attribute",
        lambda: parse("(float[2,3] x) => (float[N] y) { y = Softmax <axis=7> (x) }"),
    ),
    "unknown attribute": ("attribute", lambda: with_attribute("evil", 1)),
    "attribute of another type": (
        "attribute",
        lambda: parse('(float[2,3] x) => (float[N] y) { y = Softmax <axis="a"> (x) }'),
    ),
    "attribute twice": (
        "attribute",
        lambda: parse("(float[2,3] x) => (float[N] y) { y = Softmax <axis=0, axis=1> (x) }"),
    ),
    "attribute missing": ("attribute", lambda: parse("(float[2] x) => (float[N] y) { y = Concat (x, x) }")),
    "graph attribute": ("attribute", lambda: with_attribute("body", relu().graph)),
    "attribute reference outside a function": (
        "attribute",
        lambda: parse("(float[2,3] x) => (float[N] y) { y = Softmax <axis: int = @a> (x) }"),
    ),
    # arithmetic that traps
    "integer division by zero": ("integer-division", lambda: division(5, 0)),
    "least integer by -1": ("integer-division", lambda: division(INT_MIN, -1)),
    "integer modulo zero": ("integer-division", lambda: division(5, 0, "Mod")),
    "least integer modulo -1": ("integer-division", lambda: division(INT_MIN, -1, "Mod")),
    "run-time division by constant zero": (
        "integer-division",
        lambda: parse("(int64[2] x) => (int64[2] y) <int64[1] z = {0}> { y = Div (x, z) }"),
    ),
    "division by a large tensor of zeros": (
        "integer-division",
        lambda: parse(
            "(int64[100000] x) => (int64[100000] y) <int64[1] n = {100000}> "
            "{ z = ConstantOfShape <value: tensor = int64[1] {0}> (n) v = Identity (z) y = Div (x, v) }"
        ),
    ),
    # bombs
    "constant of shape bomb": (
        "too-large",
        lambda: parse("() => (float[N] y) <int64[2] s = {25000, 25000}> { y = ConstantOfShape (s) }"),
    ),
    "expand bomb": (
        "too-large",
        lambda: parse("(float[1] x) => (float[N] y) <int64[3] s = {4096,4096,4096}> { y = Expand (x, s) }"),
    ),
    "range bomb": (
        "too-large",
        lambda: parse(
            "(float[1] x) => (int64[N] y) <int64 a = {0}, int64 b = {9000000000000}, int64 c = {1}> { y = Range (a, b, c) }"
        ),
    ),
    "tile bomb": (
        "too-large",
        lambda: parse("(float[1,1] x) => (float[N] y) <int64[2] r = {100000,100000}> { y = Tile (x, r) }"),
    ),
    "pad bomb": (
        "too-large",
        lambda: parse("(float[1] x) => (float[N] y) <int64[2] p = {0,4611686018427387904}> { y = Pad (x, p) }"),
    ),
    "resize bomb": (
        "too-large",
        lambda: parse(
            '(float[1,1,4,4] x) => (float[N] y) <int64[4] s = {1,1,1000000,1000000}> { y = Resize (x, "", "", s) }'
        ),
    ),
    "one hot bomb": (
        "too-large",
        lambda: parse(
            "(int64[9] x) => (float[N] y) <int64 d = {4000000000}, float[2] v = {0,1}> { y = OneHot (x, d, v) }"
        ),
    ),
    "broadcast bomb": (
        "too-large",
        lambda: parse("(float[1,100000] x, float[100000,1] z) => (float[N] y) { y = Add (x, z) }"),
    ),
    # functions
    "function that calls itself": (
        "function-recursion",
        lambda: functions("FN f (a) => (b) { b = local.f (a) }", "f"),
    ),
    "functions that call each other": (
        "function-recursion",
        lambda: functions("FN f (a) => (b) { b = local.g (a) }\nFN g (a) => (b) { b = local.f (a) }", "f"),
    ),
    "functions that double forty times": (
        "function-size",
        lambda: functions(
            "\n".join(
                f"FN f{i} (a) => (c) {{ b = local.f{i + 1} (a) c = local.f{i + 1} (b) }}" for i in range(40)
            )
            + "\nFN f40 (a) => (b) { b = Relu (a) }",
            "f0",
        ),
    ),
    "function defined twice": (
        "function",
        lambda: functions("FN f (a) => (b) { b = Relu (a) }\nFN f (a) => (b) { b = Neg (a) }", "f"),
    ),
    "function called with too much": (
        "function",
        lambda: parse(
            "(float[2] x) => (float[2] y) { y = local.f (x, x) }",
            functions='<domain: "local", opset_import: ["": 20]> f (a) => (b) { b = Relu (a) }',
            extra=', "local": 1',
        ),
    ),
    "function that redefines an operator": (
        "function",
        lambda: relu(lambda m: m.functions.append(helper.make_function("", "Relu", ["a"], ["b"], [
            helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 20)]))),
    ),
    "function of another opset": (
        "opset",
        lambda: functions("FN f (a) => (b) { b = Softmax (a) }", "f", body_opset=11),
    ),
    "function that computes nothing": (
        "undefined-tensor",
        lambda: functions("FN f (a) => (b) { c = Relu (a) }", "f"),
    ),
}  # fmt: skip


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


def test_nesting_deeper_than_the_parser_allows_is_refused(tmp_path: Path) -> None:
    model = relu()
    for _ in range(60):
        outer = relu()
        outer.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))
        model = outer
    refusal(save(model, tmp_path / "deep.onnx"), "not-onnx")


def test_a_file_of_empty_messages_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    # Eighteen million empty nodes: two bytes each in the file, a hundred and more in memory.
    nodes = b"\x0a\x00" * 18_000_000
    length = len(nodes)
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    path = tmp_path / "bomb.onnx"
    path.write_bytes(b"\x08\x0a\x3a" + bytes(varint) + nodes)
    refusal(path, "too-large")


def test_an_evil_but_printable_name_is_only_a_name(tmp_path: Path) -> None:
    name = "../../etc/__import__('os').system('true')"
    loaded = load_model(save(renamed_tensor(name), tmp_path / "model.onnx"))
    assert loaded.model.graph.output[0].name == name


def test_dimension_symbols_are_not_evaluated() -> None:
    model = relu(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_param", "__import__('os').abort()"))
    error = refusal(model, "dynamic-shape")
    assert "x" in str(error)


def test_masks_may_hold_infinities() -> None:
    model = parse(
        "(float[2,2] x) => (float[2,2] y) <float[2,2] mask = {0,-inf,0,0}> { m = Add (x, mask) y = Softmax (m) }"
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
