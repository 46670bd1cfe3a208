"""The functional check: it sees a single wrong bit, survives a crash, and says why it did not run."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

from h4hc.verify import execute, verify_bundle
from h4hc.verify.document import Value
from h4hc.verify.execute import Request, Step, compare, decode_request, encode_request
from h4hc.verify.feeds import ATTEMPTS, random_feed
from h4hc.verify.report import Check
from tests.verify.maker import Maker, write_manifest


@pytest.fixture
def build(tmp_path: Path) -> Path:
    Maker(2).make().write(tmp_path / "build")
    return tmp_path / "build"


def functional(build: Path, **options: object) -> list[Check]:
    report = verify_bundle(build, build.parent / "mini.onnx", **options)  # type: ignore[arg-type]
    return [check for check in report.checks if check.code.startswith("F")]


def flip_bit(path: Path) -> None:
    """Change one high bit of the mantissa of the first weight."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.data_type == 1)
    data = bytearray(tensor.raw_data)
    data[2] ^= 0x40
    tensor.raw_data = bytes(data)
    onnx.save(model, path)


def test_one_bit_in_the_partitioned_model(build: Path) -> None:
    flip_bit(build / "partitioned.onnx")
    write_manifest(build)
    first, second = functional(build)
    assert (first.code, first.passed, second.passed) == ("F01", False, True)
    assert "of 5 elements, by at most" in first.detail


def test_one_bit_in_a_subgraph(build: Path) -> None:
    flip_bit(next(p for p in sorted((build / "subgraphs").glob("*.onnx")) if onnx.load(p).graph.initializer))
    write_manifest(build)
    first, second = functional(build)
    assert (first.passed, second.code, second.passed) == (True, "F02", False)


def test_without_the_model_the_chain_is_held_against_the_partitioned_model(
    build: Path, tmp_path: Path
) -> None:
    (tmp_path / "mini.onnx").unlink()
    report = verify_bundle(build)
    checks = {check.code: check for check in report.checks}
    assert checks["F01"].passed is None
    assert checks["F01"].detail == "the model was not found"
    assert checks["F02"].passed is True
    assert checks["S03"].passed is None
    assert report.exit_code == 0


def test_a_subgraph_that_does_not_run(build: Path) -> None:
    path = sorted((build / "subgraphs").glob("*.onnx"))[0]
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, path)
    write_manifest(build)
    _, chain = functional(build)
    assert chain.passed is False
    assert "does not run" in chain.detail


def test_a_crash_is_a_failed_check(build: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    (fake / "onnxruntime").mkdir(parents=True)
    (fake / "onnxruntime/__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGFPE)\n")
    monkeypatch.setattr("h4hc.verify.functional._environment", lambda: path_of(fake))
    assert [(c.passed, c.detail) for c in functional(build)] == [
        (False, "onnxruntime was killed by SIGFPE")
    ] * 2


def test_a_hang_is_a_failed_check(build: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    (fake / "onnxruntime").mkdir(parents=True)
    (fake / "onnxruntime/__init__.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("h4hc.verify.functional._environment", lambda: path_of(fake))
    checks = functional(build, timeout=1.0)
    assert [(c.passed, c.detail) for c in checks] == [(False, "onnxruntime did not finish within 1 s")] * 2


def path_of(folder: Path) -> dict[str, str]:
    package = str(Path(execute.__file__).resolve().parents[2])
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(folder), package, *sys.path])}


def save(folder: Path, text: str) -> str:
    model: ModelProto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    path = folder / "model.onnx"
    onnx.save(model, path)
    return str(path)


def request(path: str, *inputs: Value) -> Request:
    step = Step(path, tuple(value.name for value in inputs), ("y",))
    return Request(path, path, (step,), inputs, ("y",), 2)


def test_a_random_model_cannot_be_compared(tmp_path: Path) -> None:
    path = save(tmp_path, "g (float[3] x) => (float[3] y) { r = RandomNormalLike(x) y = Add(x, r) }")
    verdicts = compare(request(path, Value("x", (3,), "float32")))
    assert [v.skipped for v in verdicts] == [
        "the model is not deterministic: two runs on one input differ"
    ] * 2


def test_indices_are_tamed_until_the_model_runs(tmp_path: Path) -> None:
    path = save(tmp_path, "g (float[2,3] x, int64[4] i) => (float[4,3] y) { y = Gather(x, i) }")
    verdicts = compare(request(path, Value("x", (2, 3), "float32"), Value("i", (4,), "int64")))
    assert [(v.compared, v.problems, v.skipped) for v in verdicts] == [(2, (), "")] * 2


def test_a_model_that_never_runs_is_skipped_with_the_reason(tmp_path: Path) -> None:
    path = save(tmp_path, "g (float[251] x, int64[2] s) => (float[251,1] y) { y = Reshape(x, s) }")
    verdicts = compare(request(path, Value("x", (251,), "float32"), Value("s", (2,), "int64")))
    assert ["runs the model on no input that was tried" in v.skipped for v in verdicts] == [True, True], (
        verdicts
    )


def test_nan_equals_the_same_nan(tmp_path: Path) -> None:
    path = save(tmp_path, "g (float[8] x) => (float[8] y) { y = Log(x) }")
    verdicts = compare(request(path, Value("x", (8,), "float32")))
    assert [(v.compared, v.problems) for v in verdicts] == [(2, ())] * 2


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "int8", "uint8", "int32", "uint64", "bool", "complex64"]
)
@pytest.mark.parametrize("attempt", range(len(ATTEMPTS)))
def test_feeds_have_the_type_and_repeat(dtype: str, attempt: int) -> None:
    value = Value("x", (40, 3), dtype)
    first, again = random_feed([value], 3, attempt)["x"], random_feed([value], 3, attempt)["x"]
    assert first.dtype == np.dtype(dtype)
    assert first.shape == (40, 3)
    np.testing.assert_array_equal(first, again)


def test_scalar_feed() -> None:
    assert random_feed([Value("x", (), "float32")], 0)["x"].shape == ()


def test_requests_survive_the_way_to_the_child() -> None:
    sent = request("/a b/ü.onnx", Value("x", (1, 2), "float32"))
    assert decode_request(encode_request(sent)) == sent


def test_half_precision_is_compared_where_it_is_rounded(tmp_path: Path) -> None:
    """onnxruntime rounds to float16 only where the graph is cut, so a cut alone changes bits; pinning does not."""
    whole = save(
        tmp_path,
        "g (float16[8,8] x) => (float16[8,8] y) { a = MatMul(x, x) b = Softmax(a) y = MatMul(b, a) }",
    )
    parts = []
    for name, text in (
        ("one", "g (float16[8,8] x) => (float16[8,8] a) { a = MatMul(x, x) }"),
        ("two", "g (float16[8,8] a) => (float16[8,8] y) { b = Softmax(a) y = MatMul(b, a) }"),
    ):
        (tmp_path / name).mkdir()
        parts.append(save(tmp_path / name, text))
    steps = (Step(parts[0], ("x",), ("a",)), Step(parts[1], ("a",), ("y",)))
    inputs = (Value("x", (8, 8), "float16"),)
    loose = Request(whole, whole, steps, inputs, ("y",), 2)
    assert compare(loose)[1].problems != ()
    assert [v.problems for v in compare(replace(loose, pinned=True))] == [(), ()]
