"""`h4hc explore` as a hardware architect meets it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from h4hc.cli import main
from h4hc.explore import Point, with_front
from tests.models import EXAMPLE


def h4hc(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["explore", *(str(a) for a in arguments)])


def points(*arguments: object) -> Any:
    done = h4hc(EXAMPLE, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_points_are_what_compile_says(tmp_path: Path) -> None:
    """The same figures as those of a target file with the value written into it."""
    found = points("--sweep", "cim.compute_units=1,4")
    assert [point["values"] for point in found] == [{}, {"cim.compute_units": 1}, {"cim.compute_units": 4}]
    assert found[0] | {"values": 0, "on_front": 0} == found[1] | {"values": 0, "on_front": 0}
    text = (Path(__file__).parents[2] / "backends/targets/npu+cim.yaml").read_text()
    target = tmp_path / "four.yaml"
    target.write_text(text.replace("      macros: {", "      compute_units: 4\n      macros: {"))
    summary = tmp_path / "build"
    done = CliRunner().invoke(
        main, ["compile", str(EXAMPLE), "-t", str(target), "-o", str(summary), "--effort", "fast", "-q"]
    )
    assert done.exit_code == 0, done.output
    stated = json.loads((summary / "schedule.json").read_bytes())["summary"]
    assert found[2]["latency"] == pytest.approx(stated["latency_seconds"], rel=1e-12)
    assert found[2]["energy"] == pytest.approx(stated["energy_joules"], rel=1e-12)
    assert found[2]["latency"] < found[1]["latency"]


def test_all_combinations_once() -> None:
    found = points("--sweep", "axi.channels=1,2,1", "--sweep", "axi.bandwidth=6.4GB/s,12.8 GB/s")
    assert len(found) == 5
    assert found[1]["values"] == {"axi.channels": 1, "axi.bandwidth": "6.4GB/s"}
    assert any(point["on_front"] for point in found)


def test_a_model_that_does_not_fit_is_a_point_with_a_reason() -> None:
    found = points("--sweep", "dram.bytes=1KiB", "--sweep", "sram.bytes=1KiB")
    assert not found[0]["problem"]
    assert found[1]["problem"]
    assert not found[1]["on_front"]
    done = h4hc(EXAMPLE, "--sweep", "dram.bytes=1KiB", "--sweep", "sram.bytes=1KiB")
    assert done.exit_code == 0
    assert found[1]["problem"][:40] in done.output.replace("\n", " ")


def test_at_the_rate_of_a_camera() -> None:
    """The same latencies, but devices draw static power until the next frame; what does not keep up has no figures."""
    sweep = ("--sweep", "cim.compute_units=1,4")
    alone, slow = points(*sweep), points(*sweep, "--fps", 20)
    for one, other in zip(alone, slow, strict=True):
        assert other["interval"] == 0.05
        assert other["latency"] == one["latency"] == one["interval"]
        assert other["energy"] > one["energy"]
        assert other["busy"]["npu"] == pytest.approx(one["busy"]["npu"] * one["latency"] / 0.05)
    assert all("a frame every" in point["problem"] for point in points(*sweep, "--fps", 5000))


def test_frames_in_flight_have_an_interval_of_their_own() -> None:
    done = h4hc(EXAMPLE, "--sweep", "cim.compute_units=1,4", "--objective", "throughput", "--frames", 2)
    assert done.exit_code == 0
    assert "interval" in done.output
    assert "interval" not in h4hc(EXAMPLE, "--sweep", "cim.compute_units=1,4").output


def test_files(tmp_path: Path) -> None:
    table, data, picture = tmp_path / "t.csv", tmp_path / "t.json", tmp_path / "t.svg"
    arguments = (EXAMPLE, "--sweep", "cim.macros=2,4", "-q")
    assert h4hc(*arguments, "-o", table).exit_code == 0
    assert h4hc(*arguments, "-o", data, "--plot", picture).exit_code == 0
    rows = list(csv.DictReader(table.open()))
    assert [row["cim.macros"] for row in rows] == ["", "2", "4"]
    assert [float(row["latency_s"]) for row in rows] == [p["latency"] for p in json.loads(data.read_text())]
    first = picture.read_bytes()
    assert b"<svg" in first
    assert h4hc(*arguments, "--plot", picture).exit_code == 0
    assert picture.read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "t.json", "t.svg"}


def test_a_template(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        'h4hc_template: "1.0"\nname: t\ntarget: npu\ngenes: {npu.preset: [ethos-u55-128, ethos-u55-256]}\n'
    )
    found = points("--template", path)
    assert [point["values"].get("npu.preset") for point in found] == [None, "ethos-u55-128", "ethos-u55-256"]
    assert found[1]["latency"] > found[2]["latency"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "nothing is to be varied"),
        (["--sweep", "cim.macros"], "is no sweep"),
        (["--sweep", "cim.macros="], "is no sweep"),
        (["--sweep", "cim.macros=1,,2"], "is no sweep"),
        (["--sweep", "cim.marcos=1"], "did you mean cim.macros?"),
        (["--sweep", "cim.macros=0"], "cim.macros=0"),
        (["--sweep", "cim.macros=1", "--sweep", "cim.macros=2"], "is given twice"),
        (["--sweep", "cim.macros=" + ",".join(map(str, range(1, 80))), "--sweep", "axi.channels=" +
          ",".join(map(str, range(1, 80)))], "combinations, more than"),
        (["--sweep", "cim.macros=1", "-o", "x.txt"], "the ending decides"),
        (["--sweep", "cim.macros=1", "--plot", "x.gif"], "the ending decides"),
        (["--sweep", "cim.macros=1", "-o", "/nowhere/at/all/x.csv"], "cannot be written"),
        (["--sweep", "cim.macros=1", "--template", "t.yaml"], "exclude each other"),
        (["--template", "none.yaml"], "cannot be read"),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], problem: str) -> None:
    done = h4hc(EXAMPLE, *arguments)
    assert done.exit_code == 2
    assert problem in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_knobs_are_listed() -> None:
    done = h4hc("--knobs", "-t", "npu+cim")
    assert done.exit_code == 0
    assert "cim.compute_units" in done.output.splitlines()
    assert h4hc().exit_code == 2


def test_the_front() -> None:
    """Equal points are all on it; a point without a schedule never is."""
    given = [(1, 5), (2, 4), (2, 5), (1, 5), (3, 4)]
    made = [Point({}, latency=x, energy=y) for x, y in given] + [Point({}, problem="none")]
    assert [point.on_front for point in with_front(made)] == [True, True, False, True, False, False]
