"""The four models of MLPerf Tiny (github.com/mlcommons/tiny, v0.5 to v1.2)."""

from __future__ import annotations

from onnx import ModelProto

from benchmarks.networks.builder import Builder
from benchmarks.networks.mobilenet import mobilenet_v1

AUTOENCODER = (128, 128, 128, 128, 8, 128, 128, 128, 128)


def keyword_spotting() -> ModelProto:
    """DS-CNN on 49 x 10 MFCC features, 12 words."""
    g = Builder("mlperf_tiny_kws", (1, 1, 49, 10))
    x = g.relu(g.conv("input", 64, (10, 4), 2))
    for _ in range(4):
        x = g.relu(g.depthwise(x, 3))
        x = g.relu(g.conv(x, 64, 1))
    return g.model(g.softmax(g.gemm(g.flatten(g.global_average(x)), 12)))


def visual_wake_words() -> ModelProto:
    """MobileNetV1 0.25 on 96 x 96 pixels, person or not."""
    return mobilenet_v1(0.25, 96, 2)


def image_classification() -> ModelProto:
    """ResNet-8 on CIFAR-10."""
    g = Builder("mlperf_tiny_ic", (1, 3, 32, 32))
    x = g.relu(g.conv("input", 16, 3))
    for width in (16, 32, 64):
        stride = 1 if width == 16 else 2
        y = g.conv(g.relu(g.conv(x, width, 3, stride)), width, 3)
        x = g.relu(g.add(x if stride == 1 else g.conv(x, width, 1, stride), y))
    return g.model(g.softmax(g.gemm(g.flatten(g.global_average(x)), 10)))


def anomaly_detection() -> ModelProto:
    """The fully connected autoencoder on 5 frames of 128 mel bands."""
    g = Builder("mlperf_tiny_ad", (1, 640))
    x = "input"
    for width in AUTOENCODER:
        x = g.relu(g.gemm(x, width))
    return g.model(g.gemm(x, 640))
