"""Subnets that differ from the example in a few layers, as those of an architecture search do."""

from __future__ import annotations

import random
import runpy
from pathlib import Path
from typing import Any

import onnx

PROGRAM = Path(__file__).resolve().parents[1] / "examples" / "hybrid_subnet.py"
STAGES = ("stage1.0", "stage1.1", "stage2.0", "stage2.1", "stage3.0", "stage4.0")


def mutant(seed: int, changes: int = 2, depths: tuple[int, int] = (2, 2)) -> onnx.ModelProto:
    """The example with other kernels and expansions in `changes` of its convolution blocks, and `depths`.

    Seed 0 changes nothing.
    """
    draw = random.Random(seed)
    chosen = draw.sample(STAGES, changes) if seed else []
    changed = {name: (draw.choice([2, 3, 6]), draw.choice([3, 5, 7])) for name in chosen}
    names = runpy.run_path(PROGRAM.as_posix())
    original = names["Builder"].mbconv

    def mbconv(b: Any, x: str, name: str, channels: tuple[int, int], stride: int, kernel: int = 3) -> str:
        if name not in changed:
            return str(original(b, x, name, channels, stride, kernel))
        (inputs, outputs), (ratio, kernel) = channels, changed[name]
        hidden = ratio * inputs
        y = b.node("HardSwish", [b.conv(x, f"{name}.expand", (inputs, hidden, 1))], f"{name}.act1")
        y = b.conv(y, f"{name}.depthwise", (hidden, hidden, kernel), stride, hidden)
        y = b.squeeze_excite(b.node("HardSwish", [y], f"{name}.act2"), f"{name}.se", hidden)
        y = b.conv(y, f"{name}.project", (hidden, outputs, 1))
        return str(b.node("Add", [x, y], f"{name}.add")) if stride == 1 and inputs == outputs else str(y)

    names["Builder"].mbconv = mbconv
    model: onnx.ModelProto = names["build"](depths=depths)
    return model
