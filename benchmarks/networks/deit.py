"""DeiT-tiny (arXiv 2012.12877): a vision transformer of 12 blocks, 192 wide, 3 heads, on 16x16 patches."""

from __future__ import annotations

import math

import numpy as np
from onnx import ModelProto

from benchmarks.networks.builder import Builder

PATCH = 16


def deit_tiny(
    resolution: int = 224, classes: int = 1000, depth: int = 12, width: int = 192, heads: int = 3
) -> ModelProto:
    """The model with a class token and no distillation token."""
    g = Builder(f"deit_tiny_{resolution}", (1, 3, resolution, resolution))
    side = resolution // PATCH
    x = g.conv("input", width, PATCH, PATCH, pads=(0, 0, 0, 0))
    x = g.transpose(g.reshape(x, (1, width, side * side)), (0, 2, 1))
    tokens = side * side + 1
    x = g.node("Concat", [g.weight((1, 1, width), 1), x], (1, tokens, width), axis=1)
    x = g.add(x, g.weight((1, tokens, width), 1))
    for _ in range(depth):
        x = g.add(x, _attention(g, g.layer_norm(x), heads))
        hidden = g.gelu(g.linear(g.layer_norm(x), 4 * width))
        x = g.add(x, g.linear(hidden, width))
    first = g.constant(np.array(0, np.int64))
    x = g.node("Gather", [g.layer_norm(x), first], (1, width), axis=1)
    return g.model(g.gemm(x, classes))


def _attention(g: Builder, x: str, heads: int) -> str:
    _, tokens, width = g.shapes[x]
    size = width // heads
    joint = g.reshape(g.linear(x, 3 * width), (1, tokens, 3, heads, size))
    joint = g.transpose(joint, (2, 0, 3, 1, 4))
    query, key, value = g.unbind(joint)
    scores = g.matmul(g.scale(query, 1 / math.sqrt(size)), g.transpose(key, (0, 1, 3, 2)))
    mixed = g.transpose(g.matmul(g.softmax(scores), value), (0, 2, 1, 3))
    return g.linear(g.reshape(mixed, (1, tokens, width)), width)
