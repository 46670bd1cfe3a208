"""What the frontend's tests share: models from text, refusals, and runs in onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

from h4hc.errors import H4hcError
from h4hc.frontend import load_model, normalise

SECONDS = 200.0  # where the time grows as it should, a hundredth of this


def parse(body: str, *, ir: int = 10, opset: int = 20, functions: str = "", extra: str = "") -> ModelProto:
    """A model from ONNX text: ``(float[2] x) => (float[2] y) { y = Relu (x) }``."""
    return parser.parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}{extra}]> g {body}\n{functions}')


def refusal(
    model: ModelProto | bytes | Path, code: str, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> H4hcError:
    """Expect that `model` is refused, with one line and in bounded time."""
    started = time.process_time()
    with pytest.raises(H4hcError) as caught:
        if isinstance(model, Path):
            load_model(model, shapes)
        elif isinstance(model, bytes):
            raise TypeError("write the bytes to a file first")
        else:
            normalise(model, shapes)
    assert time.process_time() - started < SECONDS
    error = caught.value
    text = str(error)
    assert error.code == code, text
    assert error.exit_code == 2
    assert text.isprintable() and len(text) < 700
    return error


def save(model: ModelProto, path: Path) -> Path:
    """Write `model` to the file `path`."""
    path.write_bytes(model.SerializeToString())
    return path


def run(model: ModelProto, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Outputs of `model` in onnxruntime, every kernel as written."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray[Any, Any]] = session.run(None, dict(feeds))
    return outputs


def same_results(before: ModelProto, after: ModelProto, feeds: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Expect bit-identical outputs of the two models."""
    for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
        assert expected.dtype == found.dtype and expected.shape == found.shape
        assert expected.tobytes() == found.tobytes()


def ops(model: ModelProto) -> list[str]:
    """Operator types in order."""
    return [node.op_type for node in model.graph.node]


def stored(model: ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """Values of the initializers."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def shape_of(model: ModelProto, name: str) -> tuple[int, ...]:
    """The shape that `model` states for a tensor."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == name:
            return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    raise AssertionError(f"{name} has no type")
