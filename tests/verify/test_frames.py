"""Bundles with several frames in flight: valid ones pass, damaged ones do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import h4hc
from h4hc.bundle.recurrence import recurrence_bound
from h4hc.cli.summary import summary_json
from h4hc.errors import InfeasibleError
from h4hc.verify import verify_bundle
from tests.models import EXAMPLE

Damage = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("frames") / "out", frames=3)


def compiled(folder: Path, target: str = "npu+cim", **options: Any) -> Path:
    loaded = h4hc.load_model(EXAMPLE)
    compiler = h4hc.Compiler(h4hc.load_target(target))
    h4hc.write_bundle(
        compiler.compile(loaded.model, h4hc.Options(effort="fast", **options), loaded.source), folder
    )
    return folder


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "schedule.json").read_text())
    return found


def failed(folder: Path) -> set[str]:
    report = verify_bundle(folder, EXAMPLE, functional=False)
    return {check.code for check in report.checks if check.passed is False} - {"V01"}


@pytest.mark.parametrize("target", ["npu+cim", "npu+cim-cu4", "npu+cim-sram"])
@pytest.mark.parametrize("frames", [2, 4])
def test_frames_in_flight(tmp_path: Path, target: str, frames: int) -> None:
    folder = compiled(tmp_path / "out", target, frames=frames)
    assert not failed(folder)
    summary = document(folder)["summary"]
    assert summary["initiation_interval"] >= summary["interval_bound"]
    recurrence = recurrence_bound(document(folder))
    assert recurrence is not None and 0 < recurrence <= summary["initiation_interval"]
    assert summary["frames_in_flight"] <= frames
    assert summary["front"][0]["frames"] == 1


def test_frames_gain(bundle: Path) -> None:
    summary = document(bundle)["summary"]
    assert summary["frames_in_flight"] > 1
    assert summary["initiation_interval"] < summary["front"][0]["interval"]
    told = summary_json(document(bundle))
    assert 0 < told["recurrence_bound_seconds"] <= told["initiation_interval_seconds"]
    assert told["interval_bound_seconds"] <= told["initiation_interval_seconds"]
    assert len(told["front"]) > 1
    assert "Frames in flight" in (bundle / "report.html").read_text()
    assert not failed(bundle)
    assert verify_bundle(bundle, EXAMPLE, seeds=1).passed


def test_a_slow_camera(tmp_path: Path) -> None:
    folder = compiled(tmp_path / "out", interval_seconds=1 / 30)
    summary = document(folder)["summary"]
    assert not failed(folder)
    assert summary["initiation_interval"] == 33_333_333
    assert summary["frames_in_flight"] == 1
    assert summary["latency"] < 33_333_333
    alone = document(compiled(tmp_path / "alone"))["summary"]
    assert summary["latency"] == alone["latency"]
    ratio = summary["initiation_interval"] / alone["latency"]
    assert summary["static_energy"] == pytest.approx(alone["static_energy"] * ratio, rel=1e-6)


def test_a_fast_camera(bundle: Path, tmp_path: Path) -> None:
    """A period between the best interval and one frame's latency: kept exactly, with a shorter latency than the best's."""
    summary = document(bundle)["summary"]
    front = summary["front"]
    period = (front[0]["interval"] + summary["initiation_interval"]) // 2
    folder = compiled(tmp_path / "out", frames=4, interval_seconds=period * 1e-9)
    found = document(folder)["summary"]
    assert not failed(folder)
    assert found["initiation_interval"] == period
    assert found["frames_in_flight"] > 1


def test_too_fast_a_camera(bundle: Path) -> None:
    bound = document(bundle)["summary"]["interval_bound"]
    loaded, compiler = h4hc.load_model(EXAMPLE), h4hc.Compiler(h4hc.load_target("npu+cim"))
    options = h4hc.Options(effort="fast", frames=4, interval_seconds=bound * 0.5e-9)
    with pytest.raises(InfeasibleError, match="in any placement the busiest device works"):
        compiler.compile(loaded.model, options, loaded.source)


def reuse_waits(d: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(t, w) for t in d["tasks"] for w in t["waits"] if w["reason"] == "reuse"]


def waits_for_reuse_are_lost(d: dict[str, Any]) -> None:  # one alone may follow from the others
    for task, wait in reuse_waits(d):
        task["waits"].remove(wait)


def waits_look_a_window_too_far_back(d: dict[str, Any]) -> None:
    for _, wait in reuse_waits(d):
        wait["lag"] += 1


def a_data_wait_reads_the_frame_before(d: dict[str, Any]) -> None:
    task = next(t for t in d["tasks"] if any(w["reason"] == "data" for w in t["waits"]))
    next(w for w in task["waits"] if w["reason"] == "data")["lag"] += 1


def a_task_is_a_stage_early(d: dict[str, Any]) -> None:
    next(t for t in d["tasks"] if t["stage"] > 0)["stage"] -= 1


def the_interval_is_shorter(d: dict[str, Any]) -> None:
    d["summary"]["initiation_interval"] -= 1000


def the_bound_is_lower(d: dict[str, Any]) -> None:
    d["summary"]["interval_bound"] -= 1


def an_input_has_one_copy(d: dict[str, Any]) -> None:
    name = d["model"]["inputs"][0]["name"]
    buffer = next(b for b in d["buffers"] if b["tensor"] == name and b["copies"] > 1)
    buffer["copies"], buffer["stride"] = 1, 0


def an_output_is_gone_at_once(d: dict[str, Any]) -> None:
    name = d["model"]["outputs"][0]["name"]
    root = d["roots"].get(name, name)
    buffer = max((b for b in d["buffers"] if b["tensor"] == root), key=lambda b: b["end"])
    buffer["end"] = d["summary"]["latency"]


def copies_lie_too_close(d: dict[str, Any]) -> None:
    next(b for b in d["buffers"] if b["copies"] > 1)["stride"] -= 16


def two_tasks_change_places(d: dict[str, Any]) -> None:
    queue = max(d["queues"].values(), key=len)
    queue[0], queue[1] = queue[1], queue[0]


def fewer_frames_are_stated(d: dict[str, Any]) -> None:
    d["summary"]["frames_in_flight"] = 2 if d["summary"]["frames_in_flight"] != 2 else 3


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (waits_for_reuse_are_lost, "V11"),
        (waits_look_a_window_too_far_back, "V11"),
        (a_data_wait_reads_the_frame_before, "V06"),
        (a_task_is_a_stage_early, "V05"),
        (the_interval_is_shorter, "V04"),
        (the_bound_is_lower, "V18"),
        (an_input_has_one_copy, "V21"),
        (an_output_is_gone_at_once, "V21"),
        (copies_lie_too_close, "V19"),
        (two_tasks_change_places, "V05"),
        (fewer_frames_are_stated, "V18"),
    ],
)
def test_damage_is_found(bundle: Path, tmp_path: Path, damage: Damage, expected: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bundle, folder)
    damaged = document(folder)
    damage(damaged)
    (folder / "schedule.json").write_text(json.dumps(damaged))
    assert expected in failed(folder)
