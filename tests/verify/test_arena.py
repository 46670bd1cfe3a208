"""Bundles, run by the C executor in arenas: valid ones pass under any timing, and every mutation is noticed by somebody."""

from __future__ import annotations

import ctypes
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from h4hc.backends import load_target
from h4hc.bundle import load_document
from h4hc.cli import main
from h4hc.cli.limits import limited
from h4hc.errors import BundleError
from h4hc.handoff.binary import encode
from h4hc.ir.compilation import Options
from h4hc.verify.arena.executor import built, compiler
from h4hc.verify.arena.replay import Job, replay
from h4hc.verify.arena.slots import decoded, encoded, scale_of
from tests.verify.arenas import compiled, subject
from tests.verify.compiled import save_hybrid, save_weighty
from tests.verify.maker_ops import text_model
from tests.verify.mutations import MUTATIONS, Mutant, Subject, detect

SEEDS = 5
MUTANTS = 4

JOINED = """
<ir_version: 8, opset_import: ["" : 17]>
joined (float[1,8,16,16] x, int64[1,4] i) => (float[1,24,16,16] y, float[1,8,16,16] z, int64[1,4] j, bool[1,8,16,16] b) {
  a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1)
  r = Relu(a)
  c = Conv<kernel_shape=[1,1]>(r, w2)
  d = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(c, w1)
  s = Sigmoid(d)
  y = Concat<axis=1>(r, c, s)
  p, z = Split<axis=1>(y, parts)
  zero = Sub(p, p)
  b = Greater(d, c)
  j = Add(i, i)
}
"""


def save_joined(folder: Path) -> Path:
    """Several types, a Concat and a Split."""
    model = text_model(JOINED.replace("p, z = Split", "p, z0 = Split").replace("zero = Sub(p, p)", "z = Relu(z0)"),
                       {"w1": (8, 8, 3, 3), "w2": (8, 8, 1, 1)})  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array([16, 8], np.int64), "parts"))
    path = folder / "joined.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def needs_a_compiler() -> None:
    try:
        compiler()
    except BundleError as error:
        pytest.skip(str(error))


SAVERS = {"hybrid": save_hybrid, "weighty": save_weighty, "joined": save_joined}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save(folder) for name, save in SAVERS.items()}


@pytest.fixture(scope="module")
def library() -> Iterator[ctypes.CDLL]:
    with built() as found:
        yield found


def problems(model: Path, build: Path, seeds: int = SEEDS, frames: int = 0) -> list[str]:
    first, second = replay(Job(str(build), str(model), seeds, frames))
    assert not first.skipped and not second.skipped
    assert second.count or second.problems
    return [*first.problems, *second.problems]


@pytest.mark.parametrize("target", ["npu+cim", "npu+cim-sram", "npu", "cim", "ort-cpu"])
@pytest.mark.parametrize("name", SAVERS)
def test_one_frame_after_the_other(name: str, target: str, models: dict[str, Path], tmp_path: Path) -> None:
    assert problems(models[name], compiled(models[name], target, tmp_path / "b")) == []


@pytest.mark.parametrize("frames", [2, 3])
def test_several_frames_in_flight(frames: int, models: dict[str, Path], tmp_path: Path) -> None:
    build = compiled(models["hybrid"], "npu+cim", tmp_path / "b", Options(frames=frames))
    assert load_document(build)["summary"]["frames_in_flight"] > 1
    assert problems(models["hybrid"], build) == []


def test_tensors_in_the_memory_behind(models: dict[str, Path], tmp_path: Path) -> None:
    target = limited(load_target("npu+cim"), ("sram=48KiB", "cim_sram=48KiB"))
    build = compiled(models["hybrid"], target, tmp_path / "b")
    memories = {buffer["memory"] for buffer in load_document(build)["buffers"]}
    assert "dram" in memories
    assert problems(models["hybrid"], build) == []


def test_weights_fetched_ahead(models: dict[str, Path], tmp_path: Path) -> None:
    build = compiled(models["weighty"], "npu", tmp_path / "b")
    assert any(task["kind"] == "weight_load" for task in load_document(build)["tasks"])
    assert problems(models["weighty"], build) == []


def test_half_precision(models: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(models["hybrid"])
    del model.graph.value_info[:]
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    assert problems(path, compiled(path, "npu+cim", tmp_path / "b")) == []


def test_planned_as_stored(models: dict[str, Path], tmp_path: Path) -> None:
    build = compiled(models["joined"], "ort-cpu", tmp_path / "b", Options(precision="model"))
    assert problems(models["joined"], build) == []


def test_the_first_difference_is_named(models: dict[str, Path], tmp_path: Path, library: ctypes.CDLL) -> None:
    build = compiled(models["hybrid"], "npu+cim", tmp_path / "b")
    document = load_document(build)
    reader = next(t for t in document["tasks"] if t["kind"] == "transfer" and t["waits"])
    writer = next(t for t in document["tasks"] if t["id"] == reader["waits"][0]["task"])
    reader["waits"] = []
    (build / "schedule.json").write_text(json.dumps(document))
    (build / "schedule.h4hs").write_bytes(encode(document))
    (problem,) = problems(models["hybrid"], build)
    assert problem.startswith(("planned timing: ", "timing "))
    assert (
        f"task {reader['id']} ({reader['tensor']}), tile 0 of {reader['tiles']}, frame 0, reads " in problem
    )
    assert (
        "nothing has been written there" in problem
        or f"task {writer['id']} ({writer['operator']})" in problem
    )


def test_a_model_of_other_values(models: dict[str, Path], tmp_path: Path) -> None:
    build = compiled(models["hybrid"], "npu+cim", tmp_path / "b")
    model = onnx.load(models["hybrid"])
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    weights.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weights), "w2"))
    onnx.save(model, tmp_path / "other.onnx")
    assert "does not give the model's bits" in problems(tmp_path / "other.onnx", build)[0]


@pytest.fixture(scope="module", params=[1, 3], ids=["single", "pipelined"])
def victim(
    request: pytest.FixtureRequest,
    models: dict[str, Path],
    library: ctypes.CDLL,
    tmp_path_factory: pytest.TempPathFactory,
) -> Subject:
    frames = request.param
    options = Options(frames=frames) if frames > 1 else None
    build = compiled(models["hybrid"], "npu+cim", tmp_path_factory.mktemp("victim") / "b", options)
    return subject(library, models["hybrid"], build, 2 if frames == 1 else 6, SEEDS)


def test_without_mutation_nobody_complains(victim: Subject) -> None:
    assert not detect(victim, Mutant(victim.document, victim.binary)).caught


@pytest.mark.parametrize("name", MUTATIONS)
def test_no_mutation_survives(name: str, victim: Subject) -> None:
    """`pytest -s` prints the table of docs/verification.md."""
    found = [detect(victim, mutant) for mutant in islice(MUTATIONS[name](victim, random.Random(0)), MUTANTS)]
    assert len(found) == MUTANTS
    counts = [sum(getattr(d, who) for d in found) for who in ("reader", "checker", "replay")]
    print(f"\n{name:<45} {len(found)} reader {counts[0]} checker {counts[1]} replay {counts[2]}")
    assert all(detection.caught for detection in found)


def test_values_fill_their_slots() -> None:
    arrays = [
        np.arange(6).reshape(2, 3).astype(kind) for kind in (np.float32, np.int64, np.bool_, np.float64)
    ]
    planned = [6, 48, 6, 6]
    scale = scale_of(zip(arrays, planned, strict=True))
    assert scale == 8
    for array, size in zip(arrays, planned, strict=True):
        image = encoded(array, size, scale)
        assert len(image) == size * scale
        again = decoded(image, array)
        assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BundleError, match="there is no C compiler"):
        compiler()


def test_the_command(models: dict[str, Path], tmp_path: Path) -> None:
    build = compiled(models["hybrid"], "npu+cim", tmp_path / "b")
    arguments = ["verify", str(build), "--model", str(models["hybrid"]), "--no-functional", "--json"]
    done = CliRunner().invoke(main, [*arguments, "--replay", "--seeds", "2", "--frames", "3"])
    assert done.exit_code == 0, done.output
    checks = {check["code"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["R01"]["passed"] and checks["R02"]["passed"]
    assert "R02" not in {c["code"] for c in json.loads(CliRunner().invoke(main, arguments).stdout)["checks"]}
    assert CliRunner().invoke(main, ["verify", str(build), "--frames", "3"]).exit_code == 2


def test_a_damaged_binary(models: dict[str, Path], tmp_path: Path) -> None:
    build = compiled(models["hybrid"], "npu+cim", tmp_path / "b")
    path = build / "schedule.h4hs"
    for data in (b"", b"H4HS" * 8, path.read_bytes()[:-8]):
        path.write_bytes(data)
        first, second = replay(Job(str(build), str(models["hybrid"]), 1, 0))
        assert "the executor refuses it" in first.problems[0]
        assert second.skipped == "R01 failed"
