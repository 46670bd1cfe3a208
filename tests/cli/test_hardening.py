"""What a careless or hostile user does to the command line: one line, no leftovers, bounded time."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from h4hc.verify.network import infer_shapes
from tests.cli.test_compile import run, small
from tests.passes.texts import model as text_model

LONG = "a" * 5000


def save(model: ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "options, message",
    [
        (["--objective", "speed"], "'speed' is not one of"),
        (["--nope"], "No such option"),
        (["more", "arguments"], "unexpected extra argument"),
        (["--target", LONG], "there is no target called aaa"),
        (["--stop-after", LONG], "there is no pass 'aaa"),
        (["--shape", f"x={'9' * 5000}"], "is not a shape"),
        (["--shape", "x=" + "x".join(["1"] * 10_000)], "does not fit input 'x'"),
        (["--budget", "1e300s"], "is out of range"),
        (["--budget", ""], "is not a time"),
        (["--output", LONG], "File name too long"),
    ],
)
def test_bad_options_give_one_line_of_bearable_length(
    options: list[str], message: str, tmp_path: Path
) -> None:
    result = run("compile", small(tmp_path), "-o", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    assert line.startswith("error: ") and message in line
    assert len(line) < 700
    assert not (tmp_path / "out").exists()


def test_help_is_still_help() -> None:
    assert "Commands" in run("--help").output
    assert "validate" in run("targets").output


def test_running_out_of_memory_is_an_error_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("h4hc.frontend.load_model", exhausted)
    result = run("compile", small(tmp_path), "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "takes more memory than there is" in result.output


@pytest.mark.parametrize("output", [".", "", "..", "/"])
def test_the_working_folder_is_not_replaced(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(tmp_path)
    (tmp_path / "above/here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above/here")
    result = run("compile", model, "-o", output)
    assert result.exit_code == 2
    assert "is the working folder or above it" in result.output
    assert Path.cwd().exists() and not list(Path.cwd().iterdir())


def test_a_target_that_is_a_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "target.yaml")
    result = run("compile", small(tmp_path), "-o", tmp_path / "out", "-t", tmp_path / "target.yaml")
    assert result.exit_code == 2
    assert "is not a regular file" in result.output


def test_a_terminated_compilation_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, h4hc.bundle.folder as f\n"
        "f._swap = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "from h4hc.cli import main\nmain()"
    )
    arguments = ["compile", str(small(tmp_path)), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=False, capture_output=True, timeout=600
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert not done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx"]


def test_thousands_of_parallel_branches_compile_in_seconds(tmp_path: Path) -> None:
    branches = 4000
    nodes = [NodeProto(op_type="Relu", input=["x"], output=[f"t{i}"]) for i in range(branches)]
    nodes.append(NodeProto(op_type="Concat", input=[f"t{i}" for i in range(branches)], output=["y"]))
    nodes[-1].attribute.append(helper.make_attribute("axis", 0))
    model = text_model("agraph (float[1,64] x) => (float[N,64] y) { }")
    model.graph.node.extend(nodes)
    started = time.process_time()
    result = run("compile", save(model, tmp_path / "wide.onnx"), "-o", tmp_path / "out", "-q")
    assert result.exit_code == 0, result.output
    assert time.process_time() - started < 200  # a hundred times what it takes


def test_more_operators_than_can_be_planned_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h4hc.passes.annotate.MAX_OPERATORS", 1)
    text = "agraph (float[1,8] x) => (float[1,8] y) { t = Softmax (x) y = Erf (t) }"
    result = run("compile", save(text_model(text), tmp_path / "m.onnx"), "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "2 operators after fusion, the limit is 1" in result.output


def test_a_model_need_not_state_the_type_or_shape_of_its_outputs(tmp_path: Path) -> None:
    for name, change in (("untyped", _untyped), ("outdated", _outdated)):
        model = text_model("agraph (float[1,8] x) => (float[1,8] y) { y = Relu (x) }")
        change(model)
        result = run(
            "compile", save(model, tmp_path / f"{name}.onnx"), "-o", tmp_path / name, "--verify", "-q"
        )
        assert result.exit_code == 0, result.output


def _untyped(model: ModelProto) -> None:
    model.graph.output[0].ClearField("type")


def _outdated(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 64


def test_long_constants_cost_the_verifier_no_memory() -> None:
    # onnx propagates values element by element: this took gigabytes.
    model = text_model(
        "agraph (int64[4194304] x) => (int64[4194304] y) { e = Expand (one, n) c = Concat <axis = 0> (e, e) y = Add (x, c) }"
    )
    model.graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    model.graph.initializer.append(helper.make_tensor("n", TensorProto.INT64, [1], [2**21]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "y" in infer_shapes(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB


def test_verification_runs_under_a_memory_limit(tmp_path: Path) -> None:
    model = small(tmp_path)
    assert run("compile", model, "-o", tmp_path / "out", "-q").exit_code == 0
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from h4hc.cli import main\nmain()"
    )
    arguments = ["verify", str(tmp_path / "out"), "-m", str(model), "-q"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=False, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stdout


def test_bundle_files_that_never_end_are_not_read(tmp_path: Path) -> None:
    assert run("compile", small(tmp_path), "-o", tmp_path / "out", "-q").exit_code == 0
    for name in ("schedule.json", "manifest.json"):
        (tmp_path / "out" / name).unlink()
        os.mkfifo(tmp_path / "out" / name)
    result = run("report", tmp_path / "out")
    assert result.exit_code == 2
    assert "schedule.json: cannot be read: not a regular file" in result.output
    result = run("compile", small(tmp_path), "-o", tmp_path / "out", "-q")
    assert result.exit_code == 2
    assert "is not empty and is not a bundle" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", LONG],
        ["report", LONG],
        ["verify", "nowhere", "--timeout", "nan"],
        ["targets", "show", LONG],
    ],
)
def test_other_commands_give_one_line_too(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("error: ") and len(line) < 700
