"""Bundles that the compiler itself writes, for a hybrid of convolutions and attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from h4hc.backends import load_target
from h4hc.bundle import write_bundle
from h4hc.cli.limits import limited
from h4hc.compiler import Compiler
from h4hc.frontend import load_model
from h4hc.ir.compilation import Constraint, Options
from tests.verify.maker_ops import text_model

HYBRID = """
<ir_version: 8, opset_import: ["" : 17]>
hybrid (float[1,8,64,48] x) => (float[1,10] y, float[1,32,32,24] late) {
  c1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=32>(r1, w2)
  a1 = Add(c2, r1)
  c3 = Conv<kernel_shape=[3,1], pads=[1,0,1,0], strides=[2,2]>(a1, w3)
  late = Sigmoid(c3)
  t1 = Reshape(late, tokens)
  t2 = Transpose<perm=[0,2,1]>(t1)
  q = MatMul(t2, wq)
  kt = Transpose<perm=[0,2,1]>(t2)
  s = MatMul(q, kt)
  p = Softmax<axis=-1>(s)
  v = MatMul(p, t2)
  o = MatMul(v, wo)
  n = Add(o, q)
  m = ReduceMean<axes=[1], keepdims=0>(n)
  y = Gemm(m, wy)
}
"""
WEIGHTS = {
    "w1": (32, 8, 3, 3), "b1": (32,), "w2": (32, 1, 3, 3), "w3": (32, 32, 3, 1), "wq": (32, 32),
    "wo": (32, 32), "wy": (32, 10),
}  # fmt: skip
WEIGHTY = """
<ir_version: 8, opset_import: ["" : 17]>
weighty (float[1,32,16,16] x) => (float[1,512] y, float[1,64,256] z) {
  c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1)
  r = Relu(c)
  s = Softmax<axis=3>(r)
  d = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(s, w2)
  e = Add(d, r)
  f = Softmax<axis=3>(e)
  z = Reshape(f, tokens)
  m = ReduceMean<axes=[2], keepdims=0>(z)
  g = Gemm(m, w3)
  h = Relu(g)
  n = Softmax<axis=1>(h)
  y = Gemm(n, w4)
}
"""
WEIGHTY_WEIGHTS = {"w1": (64, 32, 3, 3), "w2": (64, 64, 3, 3), "w3": (64, 1024), "w4": (1024, 512)}
TARGETS = ("npu+cim", "npu+cim-sram", "cim")


def save_hybrid(folder: Path) -> Path:
    """Write the hybrid model into `folder`."""
    model = text_model(HYBRID, WEIGHTS)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 32, 768], np.int64), "tokens"))
    path = folder / "hybrid.onnx"
    onnx.save(model, path)
    return path


def save_weighty(folder: Path) -> Path:
    """Write a model with large weights and operators without weights between them into `folder`."""
    model = text_model(WEIGHTY, WEIGHTY_WEIGHTS)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 64, 256], np.int64), "tokens"))
    path = folder / "weighty.onnx"
    onnx.save(model, path)
    return path


def save_mixed(folder: Path, convolutions: Sequence[int], products: Sequence[int]) -> Path:
    """Write a model with convolutions of so many channels, and then products of so many columns, into `folder`.

    Convolutions compute longer than their weights take to read, products do not.
    """
    lines, weights, name, width = list[str](), dict[str, tuple[int, ...]](), "x", 32
    for i, channels in enumerate(convolutions):
        lines.append(f"c{i} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>({name}, w{i})")
        weights[f"w{i}"] = (channels, width, 3, 3)
        name, width = f"c{i}", channels
    lines.append(f"m = ReduceMean<axes=[2,3], keepdims=0>({name})")
    name = "m"
    for i, columns in enumerate(products):
        lines.append(f"g{i} = Gemm({name}, v{i})")
        weights[f"v{i}"] = (width, columns)
        name, width = f"g{i}", columns
    head = f"mixed (float[1,32,16,16] x) => (float[1,{width}] {name})"
    opset = '<ir_version: 8, opset_import: ["" : 17]>'
    path = folder / "mixed.onnx"
    onnx.save(text_model(f"{opset} {head} {{ {' '.join(lines)} }}", weights), path)
    return path


def mixed_pins(devices: str, products: int) -> tuple[Constraint, ...]:
    """Convolutions of `save_mixed` and the mean behind them on NPU, CIM or host (``n``, ``c``, ``h``), products on the NPU."""
    known = {"n": "npu", "c": "cim", "h": "host"}
    kinds = ["Conv"] * (len(devices) - 1) + ["ReduceMean"] + ["Gemm"] * products
    where = [known[letter] for letter in devices] + ["npu"] * products
    return tuple(Constraint(f"n{i}_{kind}", where[i]) for i, kind in enumerate(kinds))


def compile_bundle(
    model: Path, target: str, folder: Path, options: Options | None = None, sram: str = ""
) -> Path:
    """Compile `model` for `target`, with a smaller SRAM if one is named, into `folder`."""
    loaded, found = load_model(model, {}), load_target(target)
    compiler = Compiler(limited(found, (f"sram={sram}",)) if sram else found)
    write_bundle(compiler.compile(loaded.model, options, loaded.source), folder)
    return folder
