"""`--pareto`, `--energy-budget`, `--memory`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from h4hc.cli import main
from tests.models import EXAMPLE


def compiled(folder: Path, *arguments: str) -> Result:
    fixed = ["compile", str(EXAMPLE), "--effort", "fast", "-o", str(folder)]
    return CliRunner().invoke(main, [*fixed, *arguments])


def test_a_front_is_a_folder_of_bundles(tmp_path: Path) -> None:
    folder = tmp_path / "front"
    result = compiled(folder, "--pareto", "latency,energy", "--points", "3")
    assert result.exit_code == 0, result.output
    front = json.loads((folder / "front.json").read_text())
    assert f"Front of {len(front['points'])} schedules" in result.output
    for point in front["points"]:
        document = json.loads((folder / point["folder"] / "schedule.json").read_text())
        assert document["summary"]["latency_seconds"] == pytest.approx(point["latency_seconds"])
        verified = CliRunner().invoke(
            main, ["verify", str(folder / point["folder"]), "--model", str(EXAMPLE), "--no-functional"]
        )
        assert verified.exit_code == 0, verified.output
    again = compiled(folder, "--pareto", "energy,latency", "--points", "3", "--json", "--verify")
    assert again.exit_code == 0, again.output
    assert json.loads(again.output) == front
    (folder / "mine.txt").write_text("keep")
    assert compiled(folder, "--pareto", "latency,energy").exit_code == 2
    assert (folder / "mine.txt").exists()


def test_a_front_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, Path]] = []

    def second_fails(folder: Path, model: Path) -> SimpleNamespace:
        seen.append((folder, model))
        return SimpleNamespace(passed=folder.name != "point-1")

    monkeypatch.setattr("h4hc.verify.verify_bundle", second_fails)
    folder = tmp_path / "front"
    result = compiled(folder, "--pareto", "latency,energy", "--points", "3", "-q", "--verify")
    assert result.exit_code == 1
    assert "point-1 fails verification" in " ".join(result.output.split())
    assert seen == [(folder / "point-0", EXAMPLE), (folder / "point-1", EXAMPLE)]


def test_a_front_of_intervals(tmp_path: Path) -> None:
    folder = tmp_path / "front"
    result = compiled(folder, "--pareto", "interval,latency", "--frames", "2", "--json")
    assert result.exit_code == 0, result.output
    points = json.loads(result.output)["points"]
    assert len(points) == 2
    assert points[0]["latency_seconds"] < points[1]["latency_seconds"]
    assert points[0]["interval_seconds"] > points[1]["interval_seconds"]
    document = json.loads((folder / "point-1" / "schedule.json").read_text())
    assert document["summary"]["frames_in_flight"] == 2


def test_energy_budgets(tmp_path: Path) -> None:
    assert compiled(tmp_path / "a", "--energy-budget", "1 J", "-q").exit_code == 0
    result = compiled(tmp_path / "b", "--energy-budget", "1nJ", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)["infeasible"]
    assert told["code"] == "energy"
    assert told["shortage"]["needed"] > told["shortage"]["available"] == 1e-9
    assert not (tmp_path / "b").exists()


def test_a_memory_budget_changes_the_schedule(tmp_path: Path) -> None:
    assert compiled(tmp_path / "a", "-q").exit_code == 0
    assert compiled(tmp_path / "b", "--memory", "sram=200KiB", "-q").exit_code == 0
    peaks = {}
    for name in "ab":
        document = json.loads((tmp_path / name / "schedule.json").read_text())
        peaks[name] = {m["name"]: m["peak"] for m in document["memories"]}
    assert peaks["b"]["sram"] <= 200 * 1024 < peaks["a"]["sram"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--energy-budget", "5"], "is no energy"),
        (["--energy-budget", "-1uJ"], "is no energy"),
        (["--energy-budget", "nan J"], "is no energy"),
        (["--memory", "l2=1MiB"], "the target has no memory 'l2'"),
        (["--memory", "sram"], "write a number and one of the units"),
        (["--memory", "sram=1 parsec"], "write a number and one of the units"),
        (["--memory", "sram=0B"], "a byte at least"),
        (["--pareto", "latency,energy", "--energy-budget", "1mJ"], "exclude each other"),
        (["--pareto", "latency,energy", "--stop-after", "schedule"], "for one schedule; drop --pareto"),
        (["--energy-budget", "1mJ", "--print-after", "partition"], "for one schedule; drop --energy-budget"),
        (["--pareto", "latency"], "is no front"),
        (["--pareto", "latency,area"], "is no front"),
        (["--pareto", "latency,interval", "--fps", "30"], "no frame rate"),
        (["--pareto", "latency,energy", "--budget", "2ms"], "no latency budget"),
    ],
)
def test_nonsense_is_told(tmp_path: Path, arguments: list[str], expected: str) -> None:
    result = compiled(tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
