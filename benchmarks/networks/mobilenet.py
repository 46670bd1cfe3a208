"""MobileNet V1, V2 and V3 and SqueezeNet 1.1, at any width, resolution and number of classes.

V1 and V2 end in a softmax, as the TensorFlow models that are deployed do.
"""

from __future__ import annotations

from onnx import ModelProto

from benchmarks.networks.builder import Builder, around, divisible

V1_BLOCKS = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    *((1, 512),) * 5,
    (2, 1024),
    (1, 1024),
)
V2_BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
V3_BLOCKS = (
    (3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard", 2), (3, 200, 80, False, "hard", 1), (3, 184, 80, False, "hard", 1),
    (3, 184, 80, False, "hard", 1), (3, 480, 112, True, "hard", 1), (3, 672, 112, True, "hard", 1),
    (5, 672, 160, True, "hard", 2), (5, 960, 160, True, "hard", 1), (5, 960, 160, True, "hard", 1),
)  # fmt: skip
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def mobilenet_v1(alpha: float = 1.0, resolution: int = 224, classes: int = 1000) -> ModelProto:
    """MobileNetV1 (arXiv 1704.04861): a strided stem and 13 pairs of depthwise and pointwise convolutions."""
    g = Builder(f"mobilenet_v1_{alpha:g}_{resolution}", (1, 3, resolution, resolution))
    x = g.relu6(g.conv("input", int(32 * alpha), 3, 2))
    for stride, channels in V1_BLOCKS:
        x = g.relu6(g.depthwise(x, 3, stride))
        x = g.relu6(g.conv(x, int(channels * alpha), 1))
    return g.model(g.softmax(g.gemm(g.flatten(g.global_average(x)), classes)))


def mobilenet_v2(alpha: float = 1.0, resolution: int = 224, classes: int = 1000) -> ModelProto:
    """MobileNetV2 (arXiv 1801.04381): inverted residuals with linear bottlenecks."""
    g = Builder(f"mobilenet_v2_{alpha:g}_{resolution}", (1, 3, resolution, resolution))
    x = g.relu6(g.conv("input", divisible(32 * alpha), 3, 2))
    for expansion, base, repeats, first_stride in V2_BLOCKS:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            x = _inverted_residual(g, x, expansion, divisible(base * alpha), stride)
    x = g.relu6(g.conv(x, divisible(1280 * max(1.0, alpha)), 1))
    return g.model(g.softmax(g.gemm(g.flatten(g.global_average(x)), classes)))


def _inverted_residual(g: Builder, x: str, expansion: int, channels: int, stride: int) -> str:
    depth = g.shapes[x][1]
    y = g.relu6(g.conv(x, depth * expansion, 1)) if expansion > 1 else x
    y = g.conv(g.relu6(g.depthwise(y, 3, stride)), channels, 1)
    return g.add(x, y) if stride == 1 and depth == channels else y


def mobilenet_v3_large(resolution: int = 224, classes: int = 1000) -> ModelProto:
    """MobileNetV3-Large (arXiv 1905.02244), padded as torchvision does."""
    g = Builder(f"mobilenet_v3_large_{resolution}", (1, 3, resolution, resolution))
    x = _hard_swish(g, g.conv("input", 16, 3, 2, pads=around(3)))
    for kernel, expanded, channels, squeeze, activation, stride in V3_BLOCKS:
        depth, y = g.shapes[x][1], x
        activate = g.relu if activation == "relu" else lambda v: _hard_swish(g, v)
        if expanded != depth:
            y = activate(g.conv(y, expanded, 1))
        y = activate(g.depthwise(y, kernel, stride, around(kernel)))
        if squeeze:
            y = _squeeze_excite(g, y)
        y = g.conv(y, channels, 1)
        x = g.add(x, y) if stride == 1 and depth == channels else y
    x = _hard_swish(g, g.conv(x, 960, 1))
    x = _hard_swish(g, g.gemm(g.flatten(g.global_average(x)), 1280))
    return g.model(g.gemm(x, classes))


def _hard_swish(g: Builder, x: str) -> str:
    return g.node("HardSwish", [x], g.shapes[x])


def _squeeze_excite(g: Builder, x: str) -> str:
    channels = g.shapes[x][1]
    y = g.relu(g.conv(g.global_average(x), divisible(channels / 4), 1))
    y = g.conv(y, channels, 1)
    y = g.node("HardSigmoid", [y], g.shapes[y], alpha=1 / 6, beta=0.5)
    return g.multiply(x, y)


def squeezenet_1_1(resolution: int = 224, classes: int = 1000) -> ModelProto:
    """SqueezeNet 1.1 (arXiv 1602.07360 and its repository), padded as torchvision does."""
    g = Builder(f"squeezenet_1_1_{resolution}", (1, 3, resolution, resolution))
    x = g.relu(g.conv("input", 64, 3, 2, pads=(0, 0, 0, 0)))
    for index, (squeezed, expanded) in enumerate(FIRES):
        if index in (0, 2, 4):
            x = g.max_pool(x, 3, 2, ceil=True)
        x = g.relu(g.conv(x, squeezed, 1))
        parts = [g.relu(g.conv(x, expanded, 1)), g.relu(g.conv(x, expanded, 3))]
        _, _, height, width = g.shapes[x]
        x = g.node("Concat", parts, (1, 2 * expanded, height, width), axis=1)
    x = g.relu(g.conv(x, classes, 1))
    return g.model(g.flatten(g.global_average(x)))
