"""Weights that are fetched with several frames in flight."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h4hc
from h4hc.cli.limits import limited
from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import Schedule
from h4hc.runtime.run import run_bundle
from tests.verify.compiled import mixed_pins, save_mixed

SHAPE = (64, 64, 64), (512, 512)  # convolutions and products
PINS = "cnch"
THROUGHPUT = {"objective": "throughput", "frames": 2}


def compiled(model: Path, pins: str, products: int, sram: str = "", **options: Any) -> Compilation:
    target = h4hc.load_target("npu+cim")
    compiler = h4hc.Compiler(limited(target, (f"sram={sram}",)) if sram else target)
    loaded = h4hc.load_model(model)
    chosen = h4hc.Options(**{"baselines": False, "constraints": mixed_pins(pins, products), **options})
    return compiler.compile(loaded.model, chosen, loaded.source)


def problems(result: Compilation, model: Path, folder: Path, timings: int = 2) -> list[tuple[str, str]]:
    h4hc.write_bundle(result, folder)
    report = h4hc.verify_bundle(folder, model, seeds=1, isolate=False, timings=timings)
    return [(check.code, check.detail) for check in report.checks if not check.passed]


def schedule_of(result: Compilation) -> Schedule:
    assert result.schedule is not None
    return result.schedule


def pace(result: Compilation) -> tuple[int, int]:
    schedule = schedule_of(result)
    return schedule.initiation_interval, schedule.latency


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mixed(tmp_path_factory.mktemp("mixed"), *SHAPE)


@pytest.mark.parametrize("frames", [2, 3])
def test_frames_follow_each_other_faster(mixed: Path, tmp_path: Path, frames: int) -> None:
    found = compiled(mixed, PINS, 2, objective="throughput", frames=frames)
    without = compiled(mixed, PINS, 2, objective="throughput", frames=frames, prefetch=False)
    schedule = schedule_of(found)
    assert schedule.frames_in_flight > 1 and found.prefetching is not None and without.prefetching is None
    assert schedule.initiation_interval < 0.9 * schedule_of(without).initiation_interval
    assert round(found.prefetching.interval * 1e9) == schedule_of(without).initiation_interval
    assert schedule.interval_bound <= schedule.initiation_interval
    assert any(name.endswith(".fetch") for name, _ in schedule.queues)
    assert problems(found, mixed, tmp_path / "b", timings=20) == []
    assert run_bundle(tmp_path / "b", mixed, frames=8, delay=1e-3).passed


def test_the_same_twice(mixed: Path) -> None:
    first, second = (compiled(mixed, PINS, 2, **THROUGHPUT) for _ in range(2))
    assert first.prefetching is not None
    assert first.schedule == second.schedule


def test_less_room_means_fewer_fetches(mixed: Path, tmp_path: Path) -> None:
    paces = []
    for sram in ("2MiB", "160KiB", "96KiB"):
        found = compiled(mixed, PINS, 2, sram, **THROUGHPUT)
        assert problems(found, mixed, tmp_path / sram) == []
        assert pace(found) <= pace(compiled(mixed, PINS, 2, sram, prefetch=False, **THROUGHPUT))
        paces.append(pace(found)[0])
    assert paces == sorted(paces) and paces[0] < paces[-1]


def test_a_frame_rate_has_a_shorter_latency(mixed: Path, tmp_path: Path) -> None:
    period = pace(compiled(mixed, PINS, 2, prefetch=False))[1] * 0.95e-9
    found = compiled(mixed, PINS, 2, interval_seconds=period)
    without = compiled(mixed, PINS, 2, interval_seconds=period, prefetch=False)
    assert found.prefetching is not None and schedule_of(without).frames_in_flight > 1
    assert pace(found)[0] == pace(without)[0] == round(period * 1e9)
    assert pace(found)[1] < pace(without)[1]
    assert problems(found, mixed, tmp_path / "b") == []


def test_a_single_frame_at_a_rate_is_fetched_for_too(mixed: Path, tmp_path: Path) -> None:
    alone = compiled(mixed, PINS, 2)
    period = pace(compiled(mixed, PINS, 2, prefetch=False))[1] * 1.1e-9
    found = compiled(mixed, PINS, 2, interval_seconds=period)
    assert pace(found) == (round(period * 1e9), pace(alone)[1])
    assert problems(found, mixed, tmp_path / "b") == []


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_a_frame_rate_may_need_fetches(mixed: Path, tmp_path: Path, objective: str) -> None:
    fast, slow = (
        pace(compiled(mixed, PINS, 2, objective="throughput", frames=3, prefetch=prefetch))[0]
        for prefetch in (True, False)
    )
    rate = {"objective": objective, "frames": 3, "interval_seconds": (fast + slow) / 2 * 1e-9}
    found = compiled(mixed, PINS, 2, **rate)
    assert pace(found)[0] == round(rate["interval_seconds"] * 1e9)
    assert problems(found, mixed, tmp_path / "b") == []
    with pytest.raises(InfeasibleError, match="a frame every"):
        compiled(mixed, PINS, 2, prefetch=False, **rate)
    with pytest.raises(InfeasibleError, match="a frame every"):
        compiled(mixed, PINS, 2, **rate | {"interval_seconds": fast * 0.9e-9})


def test_exact_bounds_hold_beside_fetches(mixed: Path, tmp_path: Path) -> None:
    pytest.importorskip("ortools")
    found = compiled(mixed, PINS, 2, effort="exact", evaluations=100, **THROUGHPUT)
    claims = {claim.kind: claim.value for claim in found.claims}
    assert found.prefetching is not None
    assert claims["initiation-interval"] <= claims["interval-in-flight"] <= pace(found)[0]
    assert problems(found, mixed, tmp_path / "b") == []


def test_copies_of_weights_cost_what_they_cost(tmp_path: Path) -> None:
    """A plan found without copies is searched on with them, in order: their work is that of copies then."""
    model = save_mixed(tmp_path, [16, 16, 16], [64])
    found = compiled(model, "cnnn", 1, effort="balanced", prefetch=False, **THROUGHPUT)
    assert found.placement is not None
    assert found.placement.modes[0] == "resident x2"
    assert problems(found, model, tmp_path / "b") == []


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_schedules_are_valid_and_no_slower(data: st.DataObject) -> None:
    """Every check of the independent verifier, with random timings; V19 holds the bound against the interval."""
    width = st.sampled_from([16, 32, 64])
    convolutions = data.draw(st.lists(width, min_size=1, max_size=4))
    products = data.draw(st.lists(st.sampled_from([64, 256, 512]), min_size=1, max_size=3))
    count = len(convolutions) + 1
    pins = data.draw(st.text("nc", min_size=count - 1, max_size=count - 1)) + data.draw(st.sampled_from("nh"))
    sram = data.draw(st.sampled_from(["", "128KiB", "300KiB"]))
    options = {"objective": "throughput", "frames": data.draw(st.integers(2, 4))}
    with TemporaryDirectory() as name:
        model = save_mixed(Path(name), convolutions, products)
        without = compiled(model, pins, len(products), sram, prefetch=False, **options)
        found = compiled(model, pins, len(products), sram, **options)
        assert pace(found) <= pace(without)
        if found.prefetching is not None:
            assert problems(found, model, Path(name) / "b") == []
