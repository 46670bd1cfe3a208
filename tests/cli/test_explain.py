"""`h4hc explain` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

from h4hc.backends.validation import Validation, validation, validations
from h4hc.bundle import load_document
from h4hc.bundle.advice import advice
from h4hc.bundle.document import read_kernel, workload_record
from h4hc.bundle.report import page_json
from h4hc.bundle.store import encode
from h4hc.bundle.texts import RecordTexts
from h4hc.bundle.timing import replay
from h4hc.cli import main
from h4hc.cli.explanation import explain_operator, subject_of_model
from h4hc.cli.units import size
from h4hc.ir.compilation import Options
from h4hc.ir.workload import Conv, Elementwise, Kernel, MatMul
from tests.models import EXAMPLE
from tests.passes.texts import model as text_model

NET = """agraph (float[1,8,8,8] x) => (float[1,10] y) {
    c = Conv (x, w)  r = Relu (c)  m = GlobalAveragePool (r)  f = Flatten (m)  y = Gemm (f, v)
}"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def explained(*arguments: object) -> Any:
    result = run("explain", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "net.onnx"
    model = text_model(NET, w=(32, 8, 1, 1), v=(32, 10))
    for node, name in zip(
        model.graph.node, ("body/conv", "body/relu", "pool", "flat", "head/conv_like"), strict=True
    ):
        node.name = name
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "out"
    assert run("compile", EXAMPLE, "-o", folder, "--effort", "fast", "-q").exit_code == 0
    return folder


def test_one_operator_on_every_device(net: Path) -> None:
    found = explained(net, "--op", "body/relu")
    assert found["operator"]["nodes"] == ["body/conv", "body/relu"]
    assert found["operator"]["class"] == "pointwise"
    assert found["operator"]["shapes"] == {"x": [1, 8, 8, 8], "r": [1, 32, 8, 8]}
    assert list(found["devices"]) == ["cim", "host", "npu"]
    for device in found["devices"].values():
        for cost in device["modes"].values():
            assert sum(cost["energy"].values()) == pytest.approx(cost["joules"], rel=1e-2)
            assert max(cost["terms"].values()) <= cost["seconds"] * 1.01
            assert cost["advice"]
            assert cost["source"] == "analytical"
        assert all(entry["source"] for entry in device["parameters"].values())
    assert found["chosen"] is None


@pytest.mark.parametrize("target", ["npu", "cim", "npu+cim-sram", "npu+cim-u65"])
def test_every_cost_has_advice(target: str) -> None:
    subject = subject_of_model(EXAMPLE, target, Options())
    for operator in subject.operators:
        found = explain_operator(subject, operator, subject.devices, every_source=False)
        for device in found["devices"].values():
            for cost in device.get("modes", {}).values():
                assert cost["advice"].isprintable()
                assert " 0 s" not in cost["advice"]
                assert sum(cost["energy"].values()) == pytest.approx(cost["joules"], rel=1e-2)
            assert device.get("parameters", True) or not any(
                cost["seconds"] for cost in device["modes"].values()
            )


def test_refusals_are_told(net: Path) -> None:
    assert "refused" in explained(net, "--op", "pool")["devices"]["cim"]
    assert "refused: " in run("explain", net, "--op", "pool").output


@pytest.mark.parametrize("columns", [50, 80, 300])
def test_text_says_what_json_says(net: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = run("explain", net, "--op", "body/conv", "--device", "npu").output
    assert all(len(line) <= max(columns, 66) for line in printed.splitlines())  # bars are as long as they are
    text = " ".join(printed.split())
    found = explained(net, "--op", "body/conv", "--device", "npu")["devices"]
    assert list(found) == ["npu"]
    cost, fetched = found["npu"]["modes"][""], found["npu"]["modes"]["prefetch"]["fetch"]
    for part in (
        cost["bound"],
        cost["advice"],
        *cost["terms"],
        *cost["energy"],
        "ethos-u85-256",
        "body/relu",
        f"after a fetch of {size(fetched['bytes'])}",
    ):
        assert part in text
    assert "cortex" not in text


@pytest.mark.parametrize("name", ["body/conv", "body/relu", "BODY", "relu", "#0"])
def test_names_numbers_and_unique_parts_find_the_operator(net: Path, name: str) -> None:
    assert explained(net, "--op", name)["operator"]["nodes"][0] == "body/conv"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv", "'conv' is part of 2 operators: body/conv, head/conv_like; give more of the name"),
        ("body/konv", "no operator or node called 'body/konv'; did you mean body/conv"),
        ("#9", "no operator or node called '#9'"),
        ("zzzzzz", "without --op, all operators are listed"),
        ("", "is part of 3 operators"),
        ("x" * 500, "called 'xxx"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
    ],
)
def test_a_name_that_fits_none_or_several_is_one_line(net: Path, name: str, message: str) -> None:
    result = run("explain", net, "--op", name)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1


def test_an_unknown_device_is_one_line(net: Path) -> None:
    result = run("explain", net, "--device", "tpu")
    assert result.exit_code == 2
    assert "no device 'tpu'; it has npu, cim, host" in result.output


def test_the_list_is_sorted_by_time(net: Path) -> None:
    found = explained(net)
    assert found["total"] == 3
    times = [row["seconds"] for row in found["operators"]]
    assert times == sorted(times, reverse=True)
    assert len(explained(net, "--top", 1)["operators"]) == 1
    text = run("explain", net, "--device", "host").output
    assert "npu" not in text.splitlines()[1]
    assert "3 of 3 operators" in text


def test_all_sources_on_request(net: Path) -> None:
    few = explained(net, "--op", "head")["devices"]["npu"]["parameters"]
    many = explained(net, "--op", "head", "--sources")["devices"]["npu"]["parameters"]
    assert few.items() <= many.items()
    assert {"clock", "mac_energy", "weights bandwidth", "activations energy per byte"} <= many.keys()


def test_a_bundle_says_what_was_chosen(bundle: Path) -> None:
    operator = load_document(bundle)["operators"][0]
    found = explained(bundle, "--op", operator["name"])
    assert found["chosen"] == {"device": operator["device"], "mode": operator["mode"]}
    assert "(chosen)" in run("explain", bundle, "--op", operator["name"]).output
    assert "parameters" in found["devices"]["host"]
    refused = run("explain", bundle, "--target", "npu")
    assert refused.exit_code == 2
    assert "is a bundle" in refused.output


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("target", "devices", 0, "memory"), "nowhere"),
        (("target", "devices", 0, "preset"), "no-such-preset"),
        (("target", "devices", 0, "parameters"), 3),
        (("target", "memories", 0, "sources"), {"bandwidth": 3}),
        (("operators", 0, "costs"), {"tpu": {"refused": "no"}}),
        (("operators", 0, "costs"), {}),
        (("operators", 0, "workload"), {"type": "Conv"}),
        (("operators", 0, "costs", "npu"), {"": {"seconds": 1}}),
        (("operators", 0, "epilogue"), None),
    ],
)
def test_a_damaged_bundle_is_no_traceback(
    bundle: Path, tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    document: Any = json.loads((bundle / "schedule.json").read_text())
    part = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (tmp_path / "schedule.json").write_text(json.dumps(document))
    for arguments in (["--op", "#0"], []):
        result = run("explain", tmp_path, *arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert result.exit_code in (0, 2)


def test_a_bundle_and_its_model_agree(bundle: Path) -> None:
    name = load_document(bundle)["operators"][2]["name"]
    ours, theirs = explained(bundle, "--op", name), explained(EXAMPLE, "--op", name)
    assert ours["devices"] == theirs["devices"]
    assert ours["operator"] == theirs["operator"]


def test_the_report_has_every_breakdown_once(bundle: Path) -> None:
    document = load_document(bundle)
    page = json.loads(page_json(document, replay(document), None, RecordTexts(encode)))
    assert len(page["costs"]) < len(document["operators"])
    for operator, record in zip(page["operators"], document["operators"], strict=True):
        row = page["costs"][operator["costs"]]
        for device, modes in record["costs"].items():
            for mode, cost in modes.items():
                if mode != "refused":
                    assert row[device][mode].items() >= cost.items()
                    assert row[device][mode]["advice"]
    text = (bundle / "report.html").read_text("utf-8")
    assert "h4hc explain" in text
    assert "Not validated against a reference" in text


def test_what_a_preset_was_compared_with(tmp_path: Path) -> None:
    path = tmp_path / "fidelity.json"
    assert validations(path) == {}
    assert validation("ethos-u55-128", "convolution", path) is None
    entry = {"reference": "Vela", "layers": 12, "error": 0.031, "bias": -0.01}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"ethos-u55-128": {"convolution": entry}}))
    found = validation("ethos-u55-128", "convolution", other)
    assert found == Validation("Vela", 12, 0.031, -0.01)
    assert str(found) == "Vela: mean error 3.1% on 12 layers, bias -1.0%"
    assert validation(None, "convolution", other) is None


WEIGHTED = MatMul(1, 9, 192, 768)
TARGET = {
    "devices": [{"name": "d", "memory": "sram", "weights": "dram"}],
    "memories": [
        {"name": "sram", "bandwidth": 32e9, "latency": 0.0},
        {"name": "dram", "bandwidth": 4e9, "latency": 0.0},
    ],
}


@pytest.mark.parametrize(
    ("bound", "terms", "details", "kernel", "line"),
    [
        ("weights", {"weights": 40e-6, "compute": 10e-6}, {}, Kernel(WEIGHTED),
         "fetching weights from dram at 4 GB/s takes 40 us, compute 10 us: needs >= 16 GB/s, "
         "or 36 rows in place of 9 to share them"),
        ("activations", {"activations": 40e-6, "compute": 10e-6}, {}, Kernel(Elementwise(9, 2, "add")),
         "moving 1.28 MB through sram takes 40 us, compute 10 us: needs >= 128 GB/s, or fusion"),
        ("compute", {"compute": 40e-6}, {}, Kernel(Conv(1, 9, 9, 9, 9, 9, 9, 3, 3, groups=9)),
         "25% of the peak is used: each output channel has one input channel"),
        ("compute", {"compute": 40e-6}, {"tiles": 6, "macros": 4, "array utilisation": 0.3}, Kernel(WEIGHTED),
         "the shape fills 30% of its 6 tiles, which take 2 rounds of 4 macros"),
        ("output", {"output": 40e-6, "compute": 40e-6, "weights": 10e-6}, {}, Kernel(WEIGHTED),
         "the output unit takes 40 us, weights 10 us"),
        ("write", {"write": 40e-6}, {"bytes written": 1000}, Kernel(WEIGHTED),
         "writing 1 kB from dram into the macros takes 40 us of 50 us every frame"),
        ("overhead", {"overhead": 40e-6}, {}, Kernel(WEIGHTED), "starting it takes 40 us of 50 us"),
    ],
)  # fmt: skip
def test_advice_names_what_would_help(
    bound: str, terms: dict[str, float], details: dict[str, float], kernel: Kernel, line: str
) -> None:
    cost = {"bound": bound, "seconds": 50e-6, "utilisation": 0.25, "terms": terms, "details": details}
    assert line in advice(cost, kernel, "d", TARGET)


def test_a_kernel_survives_its_record() -> None:
    kernel = Kernel(Conv(1, 8, 16, 9, 9, 9, 9, 3, 1, dilation_h=2), ("bias", "relu"))
    record = {"workload": workload_record(kernel.workload), "epilogue": list(kernel.epilogue)}
    assert read_kernel(record) == kernel


def test_dynamic_shapes_are_given_as_for_compile(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    onnx.save(text_model("agraph (float[4,N] x) => (float[4,N] y) { y = Relu (x) }"), path)
    assert run("explain", path, "--op", "#0").exit_code == 2
    assert explained(path, "--op", "#0", "--shape", "x=4x3")["operator"]["workload"]["elements"] == 12
