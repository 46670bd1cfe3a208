"""Whole trainings: killed and resumed, frozen, with several processes, and refused."""

# ruff: noqa: E402  (what needs PyTorch is imported only where it is there)
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch")
pytest.importorskip("safetensors", reason="checkpoints are safetensors files")

from h4hc.errors import CheckpointError, H4hcError, RecipeError, TrainingError
from h4hc.search.training.checkpoint import find_checkpoint
from h4hc.search.training.log import METRICS
from h4hc.search.training.loop import Options, train
from h4hc.search.training.recipes import load_recipe, select_phases
from h4hc.search.training.trained import load_trained

torch.set_num_threads(1)
SMALL = {
    "data": {"kind": "synthetic", "channels": 1, "size": 8, "train": 48, "validation": 20, "test": 2,
             "augment": {"noise": 0.2}},
    "batch": 8, "calibration": 16, "drop_path": 0.2, "schedule.warmup": 1, "phases.0.epochs": 2,
}  # fmt: skip
PATIENCE = 1200  # seconds
TPI = {**SMALL, "phases.0.epochs": 1, "phases.1.epochs": 2}  # 6 + 12 steps
RUN = """
import json, os, signal, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from h4hc.search.training.recipes import load_recipe
from h4hc.search.training.loop import Options, train
name, changes, folder, options, kill = json.loads(sys.argv[1])
def report(progress):
    if progress.step == kill.get("step"):
        os.kill(os.getpid(), signal.SIGKILL)
if "fsync" in kill:
    real, left = os.fsync, [kill["fsync"]]
    def fsync(handle):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)
    os.fsync = fsync
train(load_recipe(name, changes), Path(folder), Options(device="cpu", **options), print, report)
threads = [Path(path, "comm").read_text() for path in Path("/proc/self/task").glob("*")]
assert not any("gloo" in name for name in threads), threads  # would abort the interpreter now and then
"""


def trained(folder: Path, name: str = "vanilla", changes: Any = None, **options: Any) -> dict[str, Any]:
    return train(
        load_recipe(name, changes or SMALL), folder, Options(device="cpu", **options), lambda _: None
    )


def start(
    folder: Path, name: str, changes: Any, options: Any, kill: Any, launcher: Any = (), **environment: str
) -> Any:
    arguments = json.dumps([name, changes, str(folder), options, kill])
    return subprocess.Popen(
        [sys.executable, *launcher, "-c", RUN, arguments], env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def final(folder: Path) -> dict[str, Any]:
    """All tensors of the newest checkpoint, by file and name."""
    found = find_checkpoint(folder, pytest.fail)
    return {f"{file}/{name}": t for file, tensors in found.tensors.items() for name, t in tensors.items()}


def steps(folder: Path) -> list[Any]:
    """The metrics, but for times."""
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines]


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted TPI training."""
    folder = tmp_path_factory.mktemp("whole")
    trained(folder, "tpi-unfreeze", TPI)
    return folder


def test_killed_and_resumed_is_as_uninterrupted(tmp_path: Path, whole: Path) -> None:
    """kill -9 after a random step, and in the middle of writing a random checkpoint."""
    draw = random.SystemRandom().randrange
    kills = {"step": {"step": draw(3, 18)}, "fsync": {"fsync": draw(8, 55)}}  # there are 54
    processes = {
        how: start(tmp_path / how, "tpi-unfreeze", TPI, {"checkpoint_steps": 2}, kill)
        for how, kill in kills.items()
    }
    for how, process in processes.items():
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGKILL, (kills, output)
        results = trained(tmp_path / how, "tpi-unfreeze", TPI, resume=True)
        assert_same(final(tmp_path / how), final(whole))
        assert steps(tmp_path / how) == steps(whole), kills
        assert results == json.loads((whole / "result.json").read_text())


def test_a_broken_newest_checkpoint_costs_steps_and_nothing_else(tmp_path: Path, whole: Path) -> None:
    def report(progress: Any) -> None:
        if progress.step == 17:
            raise KeyboardInterrupt

    recipe = load_recipe("tpi-unfreeze", TPI)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, Options(device="cpu", checkpoint_steps=3), pytest.fail, report)
    broken = tmp_path / "checkpoints" / "step-000000015" / "ema.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    told: list[str] = []
    train(recipe, tmp_path, Options(device="cpu", resume=True), told.append)
    assert "ema.safetensors is damaged; going back" in told[0]
    assert told[-1] == "resuming from step-000000012"
    assert_same(final(tmp_path), final(whole))


def test_a_trained_supernet_is_read_back(whole: Path) -> None:
    trained_net = load_trained(whole)
    assert trained_net.recipe == load_recipe("tpi-unfreeze", TPI)
    assert len(trained_net.class_names) == 10
    averages = find_checkpoint(whole, pytest.fail)
    assert trained_net.digest == averages.state["files"]["ema"]
    assert_same(dict(trained_net.network.state_dict()), dict(averages.tensors["ema"]))


def test_a_signal_lets_the_step_end(tmp_path: Path, whole: Path) -> None:
    def report(progress: Any) -> None:
        if progress.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        train(load_recipe("tpi-unfreeze", TPI), tmp_path, Options(device="cpu"), lambda _: None, report)
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert find_checkpoint(tmp_path, pytest.fail).state["step"] == 8
    trained(tmp_path, "tpi-unfreeze", TPI, resume=True)
    assert_same(final(tmp_path), final(whole))


def test_phase_two_alone_from_phase_one_is_the_whole_recipe(tmp_path: Path, whole: Path) -> None:
    recipe = load_recipe("tpi-unfreeze", TPI)
    for name, init in (("cnn", None), ("hybrid", tmp_path / "cnn")):
        options = Options(device="cpu", init=init)
        train(select_phases(recipe, [name]), tmp_path / name, options, lambda _: None)
    assert_same(final(tmp_path / "hybrid"), final(whole))


def test_workers_make_no_difference(tmp_path: Path, whole: Path) -> None:
    trained(tmp_path, "tpi-unfreeze", TPI, workers=2)
    assert_same(final(tmp_path), final(whole))


@pytest.mark.parametrize("trainable", [[], ["head"], ["head", "affine"]])
def test_freeze_leaves_the_frozen_tensors_bit_identical(tmp_path: Path, trainable: list[str]) -> None:
    changes = {**TPI, "phases.1.trainable": trainable, "phases.1.epochs": 1}
    trained(tmp_path, "tpi-freeze", changes)
    before = find_checkpoint(tmp_path / "checkpoints" / "step-000000006-cnn", pytest.fail).tensors["ema"]
    state = find_checkpoint(tmp_path, pytest.fail)
    assert state.name == "step-000000012-hybrid"
    for tensors in (state.tensors["weights"], state.tensors["ema"]):
        changed = {name for name, tensor in tensors.items() if not torch.equal(tensor, before[name])}
        parts = {name: _part(name) for name in before}
        assert {parts[name] for name in changed} == {"transformer", *trainable}
        assert all(name in changed for name, part in parts.items() if part == "head" and "head" in trainable)


def _part(name: str) -> str:
    if name.startswith("head"):
        return "head"
    if ".vit" in name or ".tr" in name:
        return "transformer"
    return "affine" if name.endswith((".bn.weight", ".bn.bias")) else "cnn"


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """The same global batch in one process of two shards, and in two of one each (gloo)."""
    changes = {**SMALL, "shards": 2, "phases.0.epochs": 1}
    trained(tmp_path / "one", changes=changes)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2",
                "--no-python", sys.executable]  # fmt: skip
    process = start(tmp_path / "two", "vanilla", changes, {}, {}, launcher, OMP_NUM_THREADS="1")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], rtol=1e-5, atol=1e-7), name
    assert [s["step"] for s in steps(tmp_path / "one")] == [s["step"] for s in steps(tmp_path / "two")]


def test_an_existing_training_is_not_overwritten(tmp_path: Path) -> None:
    trained(tmp_path, changes={**SMALL, "phases.0.epochs": 1})
    before = final(tmp_path)
    with pytest.raises(CheckpointError, match="holds a training already; go on with --resume"):
        trained(tmp_path)
    with pytest.raises(CheckpointError, match="was trained with another batch, phases"):
        trained(tmp_path, changes={**SMALL, "batch": 4}, resume=True)
    with pytest.raises(CheckpointError, match="trained for 10 classes and 1 channels, the data have 7 and 1"):
        trained(tmp_path, changes={**SMALL, "data.classes": 7}, resume=True)
    with pytest.raises(CheckpointError, match="trained for 10 classes and 1 channels, the data have 7 and 1"):
        trained(tmp_path / "new", changes={**SMALL, "data.classes": 7}, init=tmp_path)
    assert_same(final(tmp_path), before)


def test_of_another_space(tmp_path: Path) -> None:
    trained(tmp_path, changes={**SMALL, "phases.0.epochs": 1})
    space = tmp_path / "space.yaml"
    text = (Path(__file__).parents[2] / "search" / "spaces" / "h4h-tiny.yaml").read_text()
    space.write_text(text.replace("{width: [4, 8]", "{width: [4, 12]"))
    with pytest.raises(CheckpointError, match=r"stem\.conv\.weight is .*, the network needs"):
        trained(tmp_path / "new", changes={**SMALL, "space": str(space)}, init=tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch": 64}, RecipeError, "a batch of 64 is more than the 48 training samples"),
        ({"data.dimensions": 1}, RecipeError, "is for inputs of 2 dimensions"),
        ({"space": "h4h-huge"}, H4hcError, "there is no space called h4h-huge"),
        ({"phases.0.min_transformers": 90}, RecipeError, "has 90 transformers"),
        ({"optimizer": {"name": "sgd", "lr": 1e6}, "clip.norm": None, "schedule.warmup": 0, "phases.0.epochs": 9},
         TrainingError, "training diverged; lower optimizer.lr"),
        ({"precision": "fp16"}, H4hcError, "fp16 training needs a GPU"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained(tmp_path: Path, changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        trained(tmp_path, changes={**SMALL, **changes})
    assert message in str(caught.value)


def test_training_learns(tmp_path: Path) -> None:
    """Far above chance (10 %) after a few seconds; also without average and with projection and alpha."""
    changes = {**SMALL, "data.train": 200, "data.classes": 4, "data.augment": {}, "batch": 20, "calibration": 100,
               "data.validation": 100, "phases.0.epochs": 6, "ema": None, "distill.loss": "alpha",
               "projection.enabled": True, "optimizer.lr": 0.005}  # fmt: skip
    results = trained(tmp_path, changes=changes)
    assert results["hybrid"]["largest"]["correct"] > 50
    assert "ema" not in find_checkpoint(tmp_path, pytest.fail).tensors


def test_mixed_precision_is_near_full_precision(tmp_path: Path) -> None:
    changes = {**SMALL, "phases.0.epochs": 1, "data.train": 16}
    losses = []
    for precision in ("fp32", "bf16"):
        trained(tmp_path / precision, changes={**changes, "precision": precision})
        losses.append(steps(tmp_path / precision)[1]["loss_largest"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_samples_of_another_size(tmp_path: Path) -> None:
    """Samples of another size are resized to each subnet's resolution."""
    results = trained(tmp_path, changes={**SMALL, "data.size": 12, "phases.0.epochs": 1})
    assert results["hybrid"]["largest"]["total"] == 20


def test_series(tmp_path: Path) -> None:
    """A space of one dimension with two lengths."""
    text = (Path(__file__).parents[2] / "search" / "spaces" / "h4h-tiny.yaml").read_text()
    (tmp_path / "s.yaml").write_text(text.replace("resolutions: 8", "dims: 1\nresolutions: [16, 32]"))
    changes = {**SMALL, "data": {"kind": "series", "size": 32, "train": 16, "validation": 10}}
    results = trained(tmp_path, changes={**changes, "space": str(tmp_path / "s.yaml"), "phases.0.epochs": 1})
    assert results["hybrid"]["smallest"]["total"] == 10


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is optional")
    trained(tmp_path, changes={**SMALL, "phases.0.epochs": 1}, tensorboard=True)
    assert list((tmp_path / "tensorboard").iterdir())
