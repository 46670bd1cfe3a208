"""`h4hc run`: bundles executed by one worker per queue."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from h4hc.cli import main
from h4hc.errors import BundleError, CheckFailedError, ModelError
from h4hc.runtime import run_bundle
from h4hc.runtime.engine import Engine
from h4hc.runtime.pieces import Piece, Program, Wait
from h4hc.verify.network import Network
from tests.models import EXAMPLE
from tests.passes.texts import model as text_model

PATIENCE = 600  # seconds


def h4hc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def compiled(model: Path, folder: Path, *options: str) -> Path:
    done = h4hc("compile", model, "-o", folder, "--effort", "fast", "-q", *options)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(EXAMPLE, tmp_path_factory.mktemp("run") / "one")


@pytest.fixture(scope="module")
def pipelined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(EXAMPLE, tmp_path_factory.mktemp("run") / "three", "--frames", "3")


def changed(bundle: Path, folder: Path, change: Any) -> Path:
    """A copy of the bundle with `change` applied to its schedule."""
    shutil.copytree(bundle, folder)
    path = folder / "schedule.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    return folder


def test_every_frame_is_the_models(bundle: Path) -> None:
    report = run_bundle(bundle, EXAMPLE, 6)
    assert report.passed
    assert (report.frames, report.frames_in_flight, report.most_frames) == (6, 1, 1)
    tasks = json.loads((bundle / "schedule.json").read_bytes())["tasks"]
    used = {task["resource"] for task in tasks}
    assert {name for name, pieces, _ in report.queues if pieces} == used
    assert all(1 <= pieces <= len(tasks) for name, pieces, _ in report.queues if name in used)


@pytest.mark.parametrize("seed", range(3))
def test_pauses_change_nothing(pipelined: Path, seed: int) -> None:
    report = run_bundle(pipelined, EXAMPLE, 8, seed=seed, delay=0.002)
    assert report.passed
    assert report.frames_in_flight > 1


def test_frames_have_inputs_of_their_own(bundle: Path) -> None:
    """Were all frames alike, a frame that got the data of another would not be noticed."""
    from h4hc.verify.feeds import random_feed
    from h4hc.verify.folder import open_bundle

    inputs = open_bundle(bundle).document.inputs
    first, second = (random_feed(inputs, seed) for seed in (0, 1))
    assert all((first[name] != second[name]).any() for name in first)


def test_a_reader_that_does_not_wait_is_found_out(bundle: Path, tmp_path: Path) -> None:
    def forget_waits(document: Any) -> None:
        for task in document["tasks"]:
            if task["kind"] == "transfer":
                task["waits"] = []

    with pytest.raises(CheckFailedError, match=r"of frame 0 found nothing in the buffer of '"):
        run_bundle(changed(bundle, tmp_path / "b", forget_waits), EXAMPLE, 2)


def two_queues(copies: int, first: Any, second: Any) -> Engine:
    """Queue a hands `x` on to queue b by a buffer for so many frames; nothing keeps a from running ahead."""

    def piece(task: int, waits: tuple[Wait, ...], reads: tuple[str, ...], writes: tuple[str, ...]) -> Piece:
        return Piece((task,), f"task {task}", 0, waits, (), reads, writes, ())

    network = Network(text_model("agraph (float[1] x) => (float[1] y) { t = Neg (x)  y = Neg (t) }"))
    queues = {"a": (piece(0, (), ("x",), ("t",)),), "b": (piece(1, (Wait(0, 0),), ("t",), ("y",)),)}
    program = Program(network, queues, {}, {"t": copies, "x": 5}, (), 2)
    return Engine(program, {"a": [first], "b": [second]})


def run_five(engine: Engine) -> None:
    engine.run(5, lambda frame: {"x": np.array([frame], np.float32)}, lambda frame, results: None)


def test_queues_are_at_work_at_the_same_time() -> None:
    """Each waits for the other, which is then at the next frame."""
    meeting = threading.Barrier(2)

    def meet(arrays: Any, name: str, alone: int) -> Any:
        if arrays[name][0] != alone:
            meeting.wait(PATIENCE)
        return {"t" if name == "x" else "y": arrays[name]}

    engine = two_queues(5, lambda arrays: meet(arrays, "x", 0), lambda arrays: meet(arrays, "t", 4))
    run_five(engine)
    assert engine.most_at_work == 2
    assert engine.most_frames >= 2


def test_a_writer_that_comes_too_early_is_found_out() -> None:
    ahead = threading.Event()

    def fast(arrays: Any) -> Any:
        if arrays["x"][0] == 3:
            ahead.set()
        return {"t": arrays["x"]}

    def slow(arrays: Any) -> Any:
        assert ahead.wait(PATIENCE)
        return {"y": arrays["t"]}

    with pytest.raises(
        CheckFailedError, match=r"task 1 of frame [01] found the data of frame [1-4] in the buffer"
    ):
        run_five(two_queues(1, fast, slow))


def test_workers_that_wait_for_each_other(bundle: Path, tmp_path: Path) -> None:
    def circle(document: Any) -> None:
        last = document["tasks"][-1]
        first = next(t for t in document["tasks"] if t["resource"] != last["resource"])
        wait = {
            "task": last["id"],
            "counts": [last["tiles"]] * first["tiles"],
            "latency": 0,
            "reason": "data",
        }
        first["waits"] = [*first["waits"], wait | {"lag": 0}]

    with pytest.raises(CheckFailedError, match=r"wait for each other: .* at task \d+"):
        run_bundle(changed(bundle, tmp_path / "b", circle), EXAMPLE, 2)


def test_wrong_results_are_found(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(bundle, folder)
    model = onnx.load(folder / "partitioned.onnx")
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 1
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, folder / "partitioned.onnx")
    done = h4hc("run", folder, "-m", EXAMPLE, "--frames", "2")
    assert done.exit_code == 1
    assert "frame 0: output" in done.output
    assert "outputs are not the original model's." in done.output


def test_command(bundle: Path) -> None:
    done = h4hc("run", bundle, "-m", EXAMPLE, "--frames", "2", "--delay", "100us")
    assert done.exit_code == 0, done.output
    assert "All outputs of 2 frames are the original model's, bit for bit." in done.output
    found = json.loads(h4hc("run", bundle, "-m", EXAMPLE, "--frames", "2", "--json").output)
    assert found["passed"]
    assert found["frames"] == 2
    assert {entry["queue"] for entry in found["queues"]} >= {"npu", "cim"}


def test_the_model_must_be_there_and_be_the_right_one(bundle: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "b"
    shutil.copytree(bundle, alone)
    with pytest.raises(BundleError, match="is not beside it"):
        run_bundle(alone)
    other = tmp_path / "other.onnx"
    other.write_bytes(EXAMPLE.read_bytes() + b"\x08\x0a")
    with pytest.raises(BundleError, match="is not the model that the bundle was made from"):
        run_bundle(alone, other)
    shutil.copy(EXAMPLE, alone.parent / EXAMPLE.name)
    assert run_bundle(alone, frames=1).passed


def gathered(folder: Path, rows: int) -> tuple[Path, Path]:
    """A model that takes `rows` different indices, and its bundle."""
    path = folder / "gather.onnx"
    text = f"agraph (float[{rows},2] x, int64[4] i) => (float[4,2] y) {{ y = Gather <axis = 0> (x, i) }}"
    onnx.save(text_model(text), path)
    return path, compiled(path, folder / "b")


def test_indices_are_tamed_until_the_model_runs(tmp_path: Path) -> None:
    model, folder = gathered(tmp_path, 3)
    counted: list[int] = []
    report = run_bundle(folder, model, 5, observe=counted.append)
    assert report.passed
    assert counted[-5:] == [1, 2, 3, 4, 5]


def test_a_piece_that_refuses_what_the_model_takes(tmp_path: Path) -> None:
    model, folder = gathered(tmp_path, 16)
    partitioned = onnx.load(folder / "partitioned.onnx")
    (gather,) = (node for node in partitioned.graph.node if node.op_type == "Gather")
    gather.attribute[0].i = 1
    onnx.save(partitioned, folder / "partitioned.onnx")
    with pytest.raises(ModelError, match="onnxruntime cannot run it"):
        run_bundle(folder, model, 5)


def test_a_model_that_never_runs(tmp_path: Path) -> None:
    path = tmp_path / "never.onnx"
    onnx.save(
        text_model("agraph (float[251] x, int64[2] s) => (float[251,1] y) { y = Reshape (x, s) }"), path
    )
    with pytest.raises(ModelError, match="does the original model run"):
        run_bundle(compiled(path, tmp_path / "b"), path, 2)


@pytest.mark.parametrize("bad", [("--frames", "0"), ("--delay", "soon"), ("--delay", "-1s")])
def test_bad_options(bundle: Path, bad: tuple[str, str]) -> None:
    done = h4hc("run", bundle, *bad)
    assert done.exit_code == 2
    assert len(done.output.strip().splitlines()) == 1


def test_half_precision_and_constant_outputs(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.linspace(-1, 1, 64, dtype=np.float16).reshape(8, 8), "w")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
            helper.make_node("Softmax", ["h"], ["s"], name="softmax"),
            helper.make_node("MatMul", ["s", "w"], ["y"], name="again"),
            helper.make_node("Neg", ["w"], ["minus"], name="constant"),
        ],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (4, 8))],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT16, (4, 8)),
            helper.make_tensor_value_info("minus", TensorProto.FLOAT16, (8, 8)),
            helper.make_tensor_value_info("w", TensorProto.FLOAT16, (8, 8)),
        ],
        [half],
    )
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    folder = compiled(
        path, tmp_path / "b", "--pin", "product=npu", "--pin", "softmax=host", "--pin", "again=cim"
    )
    assert run_bundle(folder, path, 3).passed
