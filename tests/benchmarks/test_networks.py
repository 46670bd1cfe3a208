"""Rebuilt networks have the MACs and parameters that are published for them, and run."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import h4hc
from benchmarks.networks import NAMES, build
from benchmarks.networks.__main__ import main
from h4hc.frontend import normalise

# Multiply-accumulates as h4hc counts them; parameters as the source counts them.
PUBLISHED = {
    # torchvision and timm models: batch norm has a scale and a shift per channel.
    "mobilenet_v1_1.0_224": (568_740_352, 4_231_976),
    "mobilenet_v2_1.0_224": (300_774_272, 3_504_872),
    "mobilenet_v3_large": (216_589_760, 5_483_032),
    "inception_v1": (1_498_376_192, 6_624_904),
    "resnet18": (1_814_073_344, 11_689_512),
    "resnet50": (4_089_184_256, 25_557_032),
    "squeezenet_1.1": (349_151_936, 1_235_496),
    "deit_tiny": (1_253_683_200, 5_717_416),
    # Keras models of MLPerf Tiny: four numbers per channel of a batch norm, beside a convolution's bias.
    "mlperf_tiny_kws": (2_656_768, 24_908),
    "mlperf_tiny_vww": (7_489_664, 221_794),
    "mlperf_tiny_ic": (12_501_632, 78_666),
    "mlperf_tiny_ad": (264_192, 269_992),
}
# Channels of convolutions that have a bias and no batch norm behind them.
PLAIN_BIASES = {
    "squeezenet_1.1": 2952 + 992,
    "mobilenet_v3_large": 5080,
    "deit_tiny": 192,
    "mlperf_tiny_ic": 32 + 64,
}
HIDDEN_NORMS = {"mlperf_tiny_ad": 8 * 128 + 8}


def stored(model: onnx.ModelProto) -> dict[str, int]:
    """Elements of every float tensor with at least one axis."""
    return {
        tensor.name: math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT
    }


def macs(model: onnx.ModelProto) -> int:
    graph = (
        h4hc.Compiler(h4hc.load_target("npu"))
        .compile(normalise(model, {}), observe=lambda step, *_: step.name == "fuse")
        .graph
    )
    return sum(operator.kernel.workload.macs for operator in graph.operators)


@pytest.fixture(scope="module", params=sorted({*NAMES, *PUBLISHED}))
def network(request):
    return request.param, build(request.param)


def test_it_is_valid_and_runs(network):
    _, model = network
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape[0] == 1
    values = np.random.default_rng(1).standard_normal(given.shape, dtype=np.float32)
    (result,) = session.run(None, {given.name: values})
    assert np.isfinite(result).all()
    assert result.std() > 0


def test_it_has_the_published_size(network):
    name, model = network
    if name not in PUBLISHED:
        pytest.skip("checked by its family")
    assert (macs(model), parameters(name, model)) == PUBLISHED[name]


def parameters(name: str, model: onnx.ModelProto) -> int:
    """Parameters with batch norm unfolded as the source of `PUBLISHED` has it."""
    sizes = stored(model)
    biases = [node.input[2] for node in model.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    normed = sum(sizes[bias] for bias in biases) - PLAIN_BIASES.get(name, 0) + HIDDEN_NORMS.get(name, 0)
    return sum(sizes.values()) + normed * (4 if name.startswith("mlperf") else 1)


@pytest.mark.parametrize(
    ("name", "million"),
    [
        ("mobilenet_v1_0.25_224", 41.0), ("mobilenet_v1_0.5_224", 149.5), ("mobilenet_v1_0.75_224", 325.4),
        ("mobilenet_v2_0.35_224", 59.3), ("mobilenet_v2_1.4_224", 582.2), ("mobilenet_v2_0.5_224", 97.0),
    ],
)  # fmt: skip
def test_other_widths_have_the_published_macs(name, million):
    assert macs(build(name)) / 1e6 == pytest.approx(million, rel=0.01)


def test_classes_change_the_last_layer_only():
    small, large = build("mobilenet_v2_0.35_128_2"), build("mobilenet_v2_0.35_128")
    difference = sum(stored(large).values()) - sum(stored(small).values())
    assert difference == (1280 + 1) * 998


def test_weights_are_the_same_every_time():
    assert build("mlperf_tiny_kws").SerializeToString() == build("mlperf_tiny_kws").SerializeToString()


def test_the_command_writes_a_file(tmp_path: Path, monkeypatch, capsys):
    path = tmp_path / "kws.onnx"
    monkeypatch.setattr("sys.argv", ["networks", "mlperf_tiny_kws", "-o", str(path)])
    assert main() == 0
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[2].dim_value == 49


@pytest.mark.parametrize("name", ["resnet-18", "mobilenet_v2_1_224", "mobilenet_v4_1.0_224"])
def test_an_unknown_name_is_told(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["networks", name])
    with pytest.raises(SystemExit):
        main()
    assert f"there is no network {name}" in capsys.readouterr().err
