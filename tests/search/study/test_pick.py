"""`h4hc search pick`: from a study to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner

from h4hc.cli import main
from h4hc.errors import InfeasibleError, OptionError, StudyError
from h4hc.search.study.pick import pick
from h4hc.search.study.study import Reading, read_study
from tests.search.study.toys import h4hc, searched

TEMPLATE = """h4hc_template: "1.0"
name: cluster
target: npu+cim
genes: {cim.macros: [2, 4], cim.compute_units: [1, 4]}
area_mm2: {cim.macros: [1, 2]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pick")


@pytest.fixture(scope="module")
def study(folder: Path) -> Path:
    return searched(folder / "one.db", "-t", "npu+cim")


@pytest.fixture(scope="module")
def reading(study: Path) -> Reading:
    return read_study(study)


def test_the_best_within_the_limits(reading: Reading) -> None:
    front = reading.front()
    assert len(front) > 2
    best = pick(reading, []).evaluation
    assert best.score == max(e.score or 0 for e in front)
    middle = sorted(e.measures["latency"] for e in front)[len(front) // 2]
    chosen = pick(reading, [f"latency<={middle * 1e6!r}us"]).evaluation
    fitting = [e for e in front if e.measures["latency"] <= middle]
    assert len(fitting) < len(front)
    assert chosen.score == max(e.score or 0 for e in fitting)


def test_a_subnet_by_its_id(reading: Reading) -> None:
    wanted = reading.evaluations[3]
    assert pick(reading, [], subnet=wanted.subnet[:12]).evaluation == wanted
    with pytest.raises(StudyError, match="no candidate is called"):
        pick(reading, [], subnet="zzz")
    with pytest.raises(OptionError, match="leaves nothing to choose"):
        pick(reading, ["latency<=1s"], subnet=wanted.subnet)


def test_limits_that_nothing_meets(reading: Reading) -> None:
    least = min(e.measures["latency"] for e in reading.front())
    with pytest.raises(InfeasibleError, match="no candidate of the front meets latency<=1ns") as caught:
        pick(reading, ["latency<=1ns"])
    assert caught.value.shortage is not None
    assert caught.value.shortage.needed == least
    with pytest.raises(OptionError, match="there is no measure"):
        pick(reading, ["speed<=1"])


def test_the_bundle_is_of_that_subnet(study: Path, reading: Reading, tmp_path: Path) -> None:
    wanted = reading.front()[0]
    done = h4hc("pick", study, "--subnet", wanted.subnet, "-o", tmp_path / "build", "--effort", "fast")
    assert done.exit_code == 0, done.output
    assert "the weights are random" in done.output
    assert wanted.subnet in done.output
    model = onnx.load(tmp_path / "build.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    networks = reading.networks
    assert networks is not None
    assert properties["h4hc.subnet"] == networks.subnet(wanted.vector).to_json()
    summary = json.loads((tmp_path / "build" / "schedule.json").read_bytes())["summary"]
    assert summary["latency_seconds"] <= wanted.measures["latency"] * 1.02
    verified = CliRunner().invoke(main, ["verify", str(tmp_path / "build")])
    assert verified.exit_code == 0, verified.output
    again = h4hc("pick", study, "--subnet", wanted.subnet, "-o", tmp_path / "build", "--effort", "fast", "-q")
    assert again.exit_code == 0, "a bundle may be replaced"


def test_several_targets(folder: Path) -> None:
    reading = read_study(searched(folder / "two.db", "-t", "npu", "-t", "npu+cim"))
    with pytest.raises(OptionError, match="has several targets"):
        pick(reading, [])
    with pytest.raises(OptionError, match="has no target 'gpu'"):
        pick(reading, [], "gpu")
    slowest = sorted(e.measures["latency@npu"] for e in reading.front())[2]
    chosen = pick(reading, [f"latency<={slowest * 1e6!r}us"], "npu")
    assert chosen.target.name == "npu"
    assert chosen.evaluation.measures["latency@npu"] <= slowest


def test_at_the_rate_of_a_camera(folder: Path, tmp_path: Path) -> None:
    """Energy and power count static power until the next frame; what is picked is compiled for that rate."""
    study = searched(folder / "rate.db", "-t", "npu", "--compile-fps", 1000)
    for evaluation in read_study(study).front():
        found = evaluation.measures
        assert found["interval"] == 1e-3
        assert found["power"] == pytest.approx(found["energy"] / 1e-3)
    assert h4hc("pick", study, "-o", tmp_path / "build", "--effort", "fast", "-q").exit_code == 0
    summary = json.loads((tmp_path / "build" / "schedule.json").read_bytes())["summary"]
    assert summary["frames_per_second"] == pytest.approx(1000)
    too_fast = h4hc("run", "--space", "h4h-tiny", "-a", "proxy:macs", "-b", 8, "-w", "serial", "--compile-fps", 1e6,
                    "-o", tmp_path / "fast.db", "--json")  # fmt: skip
    assert too_fast.exit_code == 0
    assert not read_study(tmp_path / "fast.db").front()


def test_a_study_of_hardware_too(folder: Path) -> None:
    (folder / "cluster.yaml").write_text(TEMPLATE)
    reading = read_study(searched(folder / "three.db", "-t", folder / "cluster.yaml", "-c", "area_mm2<=2"))
    chosen = pick(reading, ["area_mm2<=1"])
    assert chosen.target.device("cim").parameters["macros"] == 2
    assert chosen.evaluation.measures["area_mm2"] == 1


@pytest.mark.parametrize(
    ("options", "problem", "code"),
    [
        (["--latency", "1ns"], "no candidate of the front meets", 1),
        (["--latency", "soon"], "soon", 2),
        (["--target", "gpu"], "has no target 'gpu'", 2),
        (["--subnet", "0", "--energy", "1uJ"], "leaves nothing to choose", 2),
    ],
)
def test_mistakes(study: Path, tmp_path: Path, options: list[str], problem: str, code: int) -> None:
    done = h4hc("pick", study, "-o", tmp_path / "build", *options)
    assert done.exit_code == code
    assert problem in done.output
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_what_is_not_a_bundle_is_not_replaced(study: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    done = h4hc("pick", study, "-o", tmp_path / "mine")
    assert done.exit_code == 2
    assert "is not a bundle" in done.output
    assert not (tmp_path / "mine.onnx").exists()


def test_no_study(tmp_path: Path) -> None:
    done: Any = h4hc("pick", tmp_path / "none.db", "-o", tmp_path / "build")
    assert done.exit_code == 2
