"""ResNet-18 and ResNet-50 (arXiv 1512.03385), the latter with the stride in the 3x3 convolution (V1.5)."""

from __future__ import annotations

from onnx import ModelProto

from benchmarks.networks.builder import Builder, around

WIDTHS = (64, 128, 256, 512)


def resnet18(resolution: int = 224, classes: int = 1000) -> ModelProto:
    """ResNet-18: two blocks of two 3x3 convolutions per stage."""
    return _resnet("resnet18", (2, 2, 2, 2), 1, resolution, classes)


def resnet50(resolution: int = 224, classes: int = 1000) -> ModelProto:
    """ResNet-50: bottleneck blocks."""
    return _resnet("resnet50", (3, 4, 6, 3), 4, resolution, classes)


def _resnet(name: str, depths: tuple[int, ...], expansion: int, resolution: int, classes: int) -> ModelProto:
    g = Builder(f"{name}_{resolution}", (1, 3, resolution, resolution))
    x = g.relu(g.conv("input", 64, 7, 2, pads=around(7)))
    x = g.max_pool(x, 3, 2, around(3))
    for stage, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True)):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            x = _block(g, x, width, expansion, stride)
    return g.model(g.gemm(g.flatten(g.global_average(x)), classes))


def _block(g: Builder, x: str, width: int, expansion: int, stride: int) -> str:
    if expansion == 1:
        y = g.relu(g.conv(x, width, 3, stride, pads=around(3)))
        y = g.conv(y, width, 3, pads=around(3))
    else:
        y = g.relu(g.conv(x, width, 1))
        y = g.relu(g.conv(y, width, 3, stride, pads=around(3)))
        y = g.conv(y, width * expansion, 1)
    same = stride == 1 and g.shapes[x][1] == width * expansion
    shortcut = x if same else g.conv(x, width * expansion, 1, stride, pads=(0, 0, 0, 0))
    return g.relu(g.add(y, shortcut))
