"""Models whose operators are nonsense, traps or bombs, and the error codes they deserve."""

from __future__ import annotations

from frontend_helpers import parse
from hostile_parts import INT_MIN, Cases, conv, division, functions, relu, with_attribute
from onnx import helper

OPERATORS: Cases = {
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
        lambda: parse(
            "(float[1,1,4,4] x) => (float[N] y) { y = MaxPool <kernel_shape=[2,2], pads=[9,9,9,9]> (x) }"
        ),
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
        lambda: parse(
            "(float[2,3] x, float[3] w) => (float[N] y) { y = LayerNormalization <axis=2147483648> (x, w) }"
        ),
    ),
    "split into more parts than outputs": (
        "attribute",
        lambda: parse("(float[6] x) => (float[N] a, float[M] b) { a, b = Split <num_outputs=1> (x) }"),
    ),
    "negative batch dims": (
        "attribute",
        lambda: parse(
            "(float[2,2] x, int64[2,1] i) => (float[N] y) { y = GatherND <batch_dims=-2147483648> (x, i) }"
        ),
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
            "(float[1] x) => (int64[N] y) <int64 a = {0}, int64 b = {9000000000000}, int64 c = {1}> "
            "{ y = Range (a, b, c) }"
        ),
    ),
    "tile bomb": (
        "too-large",
        lambda: parse("(float[1,1] x) => (float[N] y) <int64[2] r = {100000,100000}> { y = Tile (x, r) }"),
    ),
    "pad bomb": (
        "too-large",
        lambda: parse(
            "(float[1] x) => (float[N] y) <int64[2] p = {0,4611686018427387904}> { y = Pad (x, p) }"
        ),
    ),
    "resize bomb": (
        "too-large",
        lambda: parse(
            "(float[1,1,4,4] x) => (float[N] y) <int64[4] s = {1,1,1000000,1000000}> "
            '{ y = Resize (x, "", "", s) }'
        ),
    ),
    "one hot bomb": (
        "too-large",
        lambda: parse(
            "(int64[9] x) => (float[N] y) <int64 d = {4000000000}, float[2] v = {0,1}> "
            "{ y = OneHot (x, d, v) }"
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
        lambda: relu(
            lambda m: m.functions.append(
                helper.make_function(
                    "",
                    "Relu",
                    ["a"],
                    ["b"],
                    [helper.make_node("Neg", ["a"], ["b"])],
                    [helper.make_opsetid("", 20)],
                )
            )
        ),
    ),
    "function of another opset": (
        "opset",
        lambda: functions("FN f (a) => (b) { b = Softmax (a) }", "f", body_opset=11),
    ),
    "function that computes nothing": (
        "undefined-tensor",
        lambda: functions("FN f (a) => (b) { c = Relu (a) }", "f"),
    ),
}
