"""Models with a damaged or unsupported structure, types or shapes, and the error codes they deserve."""

from __future__ import annotations

import numpy as np
from frontend_helpers import parse
from hostile_parts import Cases, ints, opset, relu, renamed_tensor, weight, weight_tensor
from onnx import TensorProto, numpy_helper

GRAPHS: Cases = {
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
    "unknown operator": (
        "unknown-operator",
        lambda: relu(lambda m: setattr(m.graph.node[0], "op_type", "Foo")),
    ),
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
        lambda: parse(
            "(float[2] x) => (float[2] y) { s = SequenceConstruct (x) y = ConcatFromSequence <axis=0> (s) }"
        ),
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
    "undefined input": (
        "undefined-tensor",
        lambda: parse("(float[2] x) => (float[2] y) { y = Add (x, ghost) }"),
    ),
    "undefined output": (
        "undefined-tensor",
        lambda: parse("(float[2] x) => (float[2] ghost) { y = Relu (x) }"),
    ),
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
    "node overwrites initializer": (
        "duplicate-tensor",
        lambda: relu(lambda m: m.graph.initializer.append(ints("y", 1))),
    ),
    "input twice": ("duplicate-tensor", lambda: relu(lambda m: m.graph.input.append(m.graph.input[0]))),
    "output twice": ("duplicate-tensor", lambda: relu(lambda m: m.graph.output.append(m.graph.output[0]))),
    "unnamed input": ("duplicate-tensor", lambda: relu(lambda m: setattr(m.graph.input[0], "name", ""))),
    "too few inputs": ("malformed-node", lambda: relu(lambda m: m.graph.node[0].ClearField("input"))),
    "too many inputs": ("malformed-node", lambda: relu(lambda m: m.graph.node[0].input.extend(["x"] * 9))),
    "required input left out": (
        "malformed-node",
        lambda: relu(lambda m: m.graph.node[0].input.__setitem__(0, "")),
    ),
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
    "negative weight dimension": (
        "shape",
        lambda: weight(weight_tensor(dims=[1, 1, -1, -1], raw_data=b"1234")),
    ),
    "overflowing weight dimensions": (
        "too-large",
        lambda: weight(weight_tensor(dims=[2**62, 2**62, 4, 4], raw_data=b"")),
    ),
    "weight of rank 1000": ("too-large", lambda: weight(weight_tensor(dims=[1] * 1000, raw_data=b"1234"))),
    "nan weights": ("nan-weights", lambda: weight(weight_tensor(float_data=[float("nan")]))),
    "infinite weights": ("nan-weights", lambda: weight(weight_tensor(float_data=[float("inf")]))),
    "float16 nan weights": (
        "nan-weights",
        lambda: parse(
            "(float16[1,1] x) => (float16[1,1] y) <float16[1,1] w = {32256}> { y = MatMul (x, w) }"
        ),
    ),
    "nan weights behind a transpose": (
        "nan-weights",
        lambda: parse(
            "(float[1,2] x) => (float[1,2] y) <float[2,2] w = {nan,1,2,3}> "
            "{ t = Transpose (w) y = MatMul (x, t) }"
        ),
    ),
    "default value of another shape": (
        "tensor-data",
        lambda: relu(
            lambda m: m.graph.initializer.append(numpy_helper.from_array(np.zeros((9, 9), np.float32), "x"))
        ),
    ),
    # shapes
    "negative input dimension": (
        "shape",
        lambda: relu(lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -5)),
    ),
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
    "input without rank": (
        "dynamic-shape",
        lambda: relu(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")),
    ),
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
    "mixed element types": (
        "type",
        lambda: parse("(float[2] x, int64[2] z) => (float[2] y) { y = Add (x, z) }"),
    ),
    "unfit element type": (
        "type",
        lambda: parse("(int64[1,1,4,4] x, int64[1,1,1,1] w) => (int64[N] y) { y = Conv (x, w) }"),
    ),
    "output stated as another type": ("type", lambda: parse("(float[2] x) => (int64[2] y) { y = Relu (x) }")),
    "gather out of range": (
        "constant-folding",
        lambda: parse(
            "(float[2,3] x) => (float[N] y) <int64[1] i = {100}> "
            "{ s = Shape (x) d = Gather (s, i) y = Expand (x, d) }"
        ),
    ),
}
