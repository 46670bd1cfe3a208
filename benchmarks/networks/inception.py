"""Inception V1 (GoogLeNet, arXiv 1409.4842) with batch norm, and 3x3 in place of 5x5 as TensorFlow's model has it."""

from __future__ import annotations

from onnx import ModelProto

from benchmarks.networks.builder import Builder, around

# Channels of 1x1; of 3x3, reduced and out; of the second 3x3, reduced and out; behind the pool. A pool between stages.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)  # fmt: skip


def inception_v1(resolution: int = 224, classes: int = 1000) -> ModelProto:
    """The network without its auxiliary classifiers."""
    g = Builder(f"inception_v1_{resolution}", (1, 3, resolution, resolution))
    x = g.relu(g.conv("input", 64, 7, 2, pads=around(7)))
    x = g.relu(g.conv(g.max_pool(x, 3, 2, ceil=True), 64, 1))
    x = g.relu(g.conv(x, 192, 3))
    for stage, blocks in enumerate(STAGES):
        x = g.max_pool(x, 2 if stage == 2 else 3, 2, ceil=True)
        for block in blocks:
            x = _block(g, x, block)
    return g.model(g.gemm(g.flatten(g.global_average(x)), classes))


def _block(g: Builder, x: str, channels: tuple[int, ...]) -> str:
    one, reduced, three, small, five, behind = channels
    parts = [
        g.relu(g.conv(x, one, 1)),
        g.relu(g.conv(g.relu(g.conv(x, reduced, 1)), three, 3)),
        g.relu(g.conv(g.relu(g.conv(x, small, 1)), five, 3)),
        g.relu(g.conv(g.max_pool(x, 3, 1, around(3)), behind, 1)),
    ]
    _, _, height, width = g.shapes[x]
    return g.node("Concat", parts, (1, one + three + five + behind, height, width), axis=1)
