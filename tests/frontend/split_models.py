"""Models of one or two operators, whole and in parts, and their results in stock onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, numpy_helper, parser

from h4hc.frontend import normalise
from h4hc.frontend.nodes import NodeGraph
from h4hc.frontend.slicing import Cut, split_model
from h4hc.frontend.splitting import Splittable, Splitter
from h4hc.passes.fuse import build_graph

Arrays = Mapping[str, np.ndarray]


def text_model(body: str, arrays: Arrays, *, opset: int = 20) -> ModelProto:
    """The normalised model ``(float[..] x) => (float[..] y) { ... }`` with `arrays` as initializers."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> g {body}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    return normalise(model)


def random_arrays(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Standard normal float32 arrays."""
    generator = np.random.default_rng(7)
    return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def found(model: ModelProto, name: str) -> Splittable | None:
    """How the operator with the node `name` can be computed in parts."""
    operators = build_graph(NodeGraph(model), "int8").operators
    return Splitter(model).splittable(next(o for o in operators if name in o.nodes))


def in_parts(model: ModelProto, name: str, first: int) -> ModelProto:
    """`model` with the operator `name` in two parts."""
    operator = found(model, name)
    assert operator is not None and operator.allows(first)
    return split_model(model, Splitter(model), [Cut(operator, first)])


def results(model: ModelProto) -> list[np.ndarray]:
    """The outputs for a random input, computed as `h4hc verify` does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(11)
    feed = {i.name: generator.standard_normal(i.shape, np.float32) for i in session.get_inputs()}
    outputs: list[np.ndarray] = session.run(None, feed)
    return outputs


def same_bits(first: ModelProto, second: ModelProto) -> bool:
    """Whether both models give the same bits."""
    pairs = zip(results(first), results(second), strict=True)
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)
