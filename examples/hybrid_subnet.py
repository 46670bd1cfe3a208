"""Build hybrid_subnet.onnx: a small CNN + ViT subnet of the kind that the search samples.

Stem, then two stages of MBConv blocks (depthwise convolutions, squeeze-and-excite, hard-swish) each followed by
transformer blocks (layer norm, multi-head attention, GELU MLP), then a classifier for 100 classes on
1x3x192x192 images. Weights are synthetic (seeded, 16 levels), so the accuracy is that of a coin.

    python examples/hybrid_subnet.py examples/hybrid_subnet.onnx
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Builder:
    """Nodes and weights of the model while it grows. Maps are NCHW, token sequences [1, T, C]."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, shape: tuple[int, ...], scale: float) -> str:
        levels = self.random.integers(-8, 8, size=shape).astype(np.float32) + 0.5
        self.weights.append(numpy_helper.from_array((levels * scale / 5).astype(np.float32), name))
        return name

    def constant(self, name: str, values: object, dtype: type = np.int64) -> str:
        self.weights.append(numpy_helper.from_array(np.array(values, dtype=dtype), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(self, x: str, name: str, shape: tuple[int, int, int], stride: int = 1, groups: int = 1) -> str:
        """`shape`: input channels, output channels, kernel; same padding, with bias."""
        inputs, outputs, kernel = shape
        fan_in = inputs // groups * kernel * kernel
        weight = self.weight(f"{name}.weight", (outputs, inputs // groups, kernel, kernel), fan_in**-0.5)
        bias = self.weight(f"{name}.bias", (outputs,), 0.1)
        pad = kernel // 2
        return self.node(
            "Conv",
            [x, weight, bias],
            name,
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
            kernel_shape=[kernel] * 2,
        )

    def squeeze_excite(self, x: str, name: str, channels: int) -> str:
        reduced = max(8, channels // 4)
        pooled = self.node("GlobalAveragePool", [x], f"{name}.pool")
        hidden = self.node(
            "Relu", [self.conv(pooled, f"{name}.reduce", (channels, reduced, 1))], f"{name}.relu"
        )
        gate = self.node(
            "HardSigmoid", [self.conv(hidden, f"{name}.expand", (reduced, channels, 1))], f"{name}.gate"
        )
        return self.node("Mul", [x, gate], f"{name}.scale")

    def mbconv(self, x: str, name: str, channels: tuple[int, int], stride: int, kernel: int = 3) -> str:
        """Expand, depthwise, squeeze-and-excite, project; residual where the shapes allow."""
        inputs, outputs = channels
        hidden = 4 * inputs
        y = self.node("HardSwish", [self.conv(x, f"{name}.expand", (inputs, hidden, 1))], f"{name}.act1")
        y = self.conv(y, f"{name}.depthwise", (hidden, hidden, kernel), stride, hidden)
        y = self.squeeze_excite(self.node("HardSwish", [y], f"{name}.act2"), f"{name}.se", hidden)
        y = self.conv(y, f"{name}.project", (hidden, outputs, 1))
        return self.node("Add", [x, y], f"{name}.add") if stride == 1 and inputs == outputs else y

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        weight = self.weight(f"{name}.weight", (inputs, outputs), inputs**-0.5)
        product = self.node("MatMul", [x, weight], f"{name}.matmul")
        return self.node("Add", [product, self.weight(f"{name}.bias", (outputs,), 0.1)], f"{name}.bias_add")

    def layer_norm(self, x: str, name: str, width: int) -> str:
        scale = self.constant(f"{name}.weight", np.ones(width), np.float32)
        shift = self.weight(f"{name}.bias", (width,), 0.1)
        return self.node("LayerNormalization", [x, scale, shift], name, axis=-1)

    def attention(self, x: str, name: str, tokens: int, width: int, heads: int) -> str:
        """Multi-head self-attention over [1, T, C]."""
        size = width // heads
        split = self.constant(f"{name}.split", [1, tokens, heads, size])

        def head(part: str, permutation: list[int]) -> str:
            projected = self.linear(x, f"{name}.{part}", width, width)
            shaped = self.node("Reshape", [projected, split], f"{name}.{part}.heads")
            return self.node("Transpose", [shaped], f"{name}.{part}.transpose", perm=permutation)

        query, key, value = head("q", [0, 2, 1, 3]), head("k", [0, 2, 3, 1]), head("v", [0, 2, 1, 3])
        scaled = self.node(
            "Mul", [query, self.constant(f"{name}.scale", size**-0.5, np.float32)], f"{name}.q.scale"
        )
        scores = self.node(
            "Softmax", [self.node("MatMul", [scaled, key], f"{name}.scores")], f"{name}.softmax", axis=-1
        )
        mixed = self.node("Transpose", [self.node("MatMul", [scores, value], f"{name}.mix")], f"{name}.back",
                          perm=[0, 2, 1, 3])  # fmt: skip
        joined = self.node(
            "Reshape", [mixed, self.constant(f"{name}.joined", [1, tokens, width])], f"{name}.join"
        )
        return self.linear(joined, f"{name}.out", width, width)

    def transformer(self, x: str, name: str, tokens: int, width: int, heads: int) -> str:
        y = self.attention(
            self.layer_norm(x, f"{name}.norm1", width), f"{name}.attention", tokens, width, heads
        )
        x = self.node("Add", [x, y], f"{name}.add1")
        y = self.linear(self.layer_norm(x, f"{name}.norm2", width), f"{name}.mlp1", width, 2 * width)
        y = self.linear(self.node("Gelu", [y], f"{name}.gelu"), f"{name}.mlp2", 2 * width, width)
        return self.node("Add", [x, y], f"{name}.add2")

    def transformer_group(self, x: str, name: str, shape: tuple[int, int], depth: int, heads: int) -> str:
        """`depth` transformer blocks over the pixels of a square map of `shape` = (channels, extent)."""
        width, extent = shape
        tokens = extent * extent
        flat = self.node("Reshape", [x, self.constant(f"{name}.flat", [1, width, tokens])], f"{name}.flatten")
        y = self.node("Transpose", [flat], f"{name}.tokens", perm=[0, 2, 1])
        for block in range(depth):
            y = self.transformer(y, f"{name}.{block}", tokens, width, heads)
        y = self.node("Transpose", [y], f"{name}.channels", perm=[0, 2, 1])
        return self.node(
            "Reshape", [y, self.constant(f"{name}.map", [1, width, extent, extent])], f"{name}.unflatten"
        )


def build(seed: int = 0, depths: tuple[int, int] = (2, 2)) -> onnx.ModelProto:
    """The model, checked, with inferred shapes; `depths` are the transformer blocks of its two stages."""
    b = Builder(np.random.default_rng(seed))
    x = b.node("HardSwish", [b.conv("image", "stem", (3, 16, 3), 2)], "stem.act")
    x = b.mbconv(x, "stage1.0", (16, 24), 2)
    x = b.mbconv(x, "stage1.1", (24, 24), 1)
    x = b.mbconv(x, "stage2.0", (24, 48), 2, 5)
    x = b.mbconv(x, "stage2.1", (48, 48), 1)
    x = b.mbconv(x, "stage3.0", (48, 64), 2)
    x = b.transformer_group(x, "stage3.vit", (64, 12), depths[0], 4)
    x = b.mbconv(x, "stage4.0", (64, 96), 2, 5)
    x = b.transformer_group(x, "stage4.vit", (96, 6), depths[1], 6)
    x = b.node("HardSwish", [b.conv(x, "head", (96, 192, 1))], "head.act")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x], "pool")], "flatten")
    weight, bias = (
        b.weight("classifier.weight", (100, 192), 192**-0.5),
        b.weight("classifier.bias", (100,), 0.1),
    )
    b.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], name="classifier", transB=1))
    graph = helper.make_graph(
        b.nodes,
        "hybrid_subnet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 192, 192])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 100])],
        b.weights,
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


if __name__ == "__main__":
    onnx.save(build(), sys.argv[1])
