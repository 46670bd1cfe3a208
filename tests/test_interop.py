"""The files of a bundle in other people's tools."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

import h4hc
from tests.models import EXAMPLE


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    folder = tmp_path_factory.mktemp("interop") / "bundle"
    loaded = h4hc.load_model(EXAMPLE)
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    h4hc.write_bundle(compiler.compile(loaded.model, h4hc.Options(effort="fast"), loaded.source), folder)
    return onnx.load(folder / "partitioned.onnx")


def outputs(model: onnx.ModelProto) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal((1, 3, 192, 192)).astype(np.float32)
    return np.asarray(session.run(None, {"image": image})[0])


def test_stock_onnxruntime_gives_the_bits_of_the_original(partitioned: onnx.ModelProto) -> None:
    assert np.array_equal(outputs(partitioned), outputs(onnx.load(EXAMPLE)))


def test_the_onnx_checker_accepts_it(partitioned: onnx.ModelProto) -> None:
    onnx.checker.check_model(partitioned, full_check=True)


def test_transfers_survive_graphsurgeon(partitioned: onnx.ModelProto) -> None:
    graph = gs.import_onnx(partitioned)
    again = gs.export_onnx(graph.cleanup().toposort())
    again.ir_version = partitioned.ir_version

    def transfers(model: onnx.ModelProto) -> int:
        return sum(node.op_type == "Transfer" for node in model.graph.node)

    assert transfers(again) == transfers(partitioned) > 0
    assert np.array_equal(outputs(again), outputs(partitioned))


def test_devices_are_onnx_multi_device_annotations(partitioned: onnx.ModelProto) -> None:
    assert partitioned.ir_version >= 11
    names = {name for configuration in partitioned.configuration for name in configuration.device}
    assert {"npu", "cim"} <= names
    configured = {c.configuration_id for node in partitioned.graph.node for c in node.device_configurations}
    assert configured <= {configuration.name for configuration in partitioned.configuration}
    assert configured
