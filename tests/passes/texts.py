"""Small graphs as ONNX text."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from h4hc.frontend import normalise
from h4hc.frontend.nodes import NodeGraph
from h4hc.ir.graph import Graph
from h4hc.passes.fuse import build_graph


def model(text: str, opset: int = 20, **weights: tuple[int, ...]) -> onnx.ModelProto:
    """A model from `agraph (...) => (...) { ... }`; `weights` become float initializers of the given shapes."""
    parsed = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    random = np.random.default_rng(0)
    for name, shape in weights.items():
        parsed.graph.initializer.append(
            numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        )
    return parsed


def fused(text: str, opset: int = 20, **weights: tuple[int, ...]) -> Graph:
    """The graph of operators that a text becomes."""
    return build_graph(NodeGraph(normalise(model(text, opset, **weights))), "int8")


def table(graph: Graph) -> list[str]:
    """One line per operator: kind, epilogue, and how it takes its inputs."""
    lines = []
    for operator in graph.operators:
        streams = ["full" if s is None else f"{s.window}/{s.stride}" for s in operator.streams]
        lines.append(" ".join(["+".join((operator.kind, *operator.kernel.epilogue)), *streams]))
    return lines


def constants(proto: onnx.ModelProto, **values: object) -> onnx.ModelProto:
    """`proto` with int64 initializers."""
    for name, value in values.items():
        proto.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [len(value)], value))
    return proto
