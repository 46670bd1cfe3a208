"""Running models in onnxruntime the way a verifier does: no optimisation, one thread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

Arrays = dict[str, NDArray[Any]]


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options)


def run(model: bytes | str, feed: Mapping[str, NDArray[Any]]) -> Arrays:
    running = session(model)
    names = [output.name for output in running.get_outputs()]
    return dict(zip(names, running.run(names, dict(feed)), strict=True))


def random_feed(model: ModelProto, seed: int = 0) -> Arrays:
    generator = np.random.default_rng(seed)
    constant = {tensor.name for tensor in model.graph.initializer}
    feed = {}
    for info in model.graph.input:
        if info.name not in constant:
            kind = info.type.tensor_type
            shape = [dim.dim_value for dim in kind.shape.dim]
            feed[info.name] = generator.standard_normal(shape).astype(
                helper.tensor_dtype_to_np_dtype(kind.elem_type)
            )
    return feed


def run_chain(bundle: Path, feed: Mapping[str, NDArray[Any]]) -> Arrays:
    """Feed a dictionary of tensors through the files of subgraphs/index.json, in order."""
    index = json.loads((bundle / "subgraphs/index.json").read_text())
    tensors = {name: feed[name] for name in index["inputs"]}
    for entry in index["files"]:
        results = run(str(bundle / "subgraphs" / entry["file"]), {n: tensors[n] for n in entry["inputs"]})
        assert list(results) == entry["outputs"]
        tensors.update(results)
    return {name: tensors[name] for name in index["outputs"]}


def assert_identical(expected: Arrays, found: Arrays) -> None:
    assert list(expected) == list(found)
    for name, array in expected.items():
        assert array.dtype == found[name].dtype
        assert array.tobytes() == found[name].tobytes(), name


def assert_bundle_computes(bundle: Path, model: ModelProto) -> None:
    """The partitioned model and the chain of subgraphs compute what `model` does, bit for bit."""
    feed = random_feed(model)
    expected = run(model.SerializeToString(), feed)
    onnx.checker.check_model(str(bundle / "partitioned.onnx"), full_check=True)
    assert_identical(expected, run(str(bundle / "partitioned.onnx"), feed))
    assert_identical(expected, run_chain(bundle, feed))


BINARY = ("Add", "Mul", "Sub")
UNARY = ("Relu", "Neg", "Identity", "Transpose")


@st.composite
def random_models(draw: st.DrawFn) -> ModelProto:
    """Small graphs over two inputs and a weight; views and constant expressions occur."""
    square = (3, 3)
    tensors = ["x", "y", "w"]
    nodes = []
    for index in range(draw(st.integers(1, 9))):
        op = draw(st.sampled_from(BINARY + UNARY))
        operands = [draw(st.sampled_from(tensors)) for _ in range(2 if op in BINARY else 1)]
        nodes.append(helper.make_node(op, operands, [f"t{index}"], name=f"n{index}"))
        tensors.append(f"t{index}")
    produced = tensors[3:]
    chosen = draw(st.lists(st.sampled_from(produced), min_size=1, max_size=3, unique=True))
    needed = set(chosen)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.insert(0, node)
            needed.update(node.input)

    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, square)

    weight = helper.make_tensor("w", TensorProto.FLOAT, square, [0.1 * i - 0.4 for i in range(9)])
    graph = helper.make_graph(
        kept, "random", [info("x"), info("y")], [info(name) for name in chosen], [weight]
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
