"""Placements for the throughput, and the bound below which no interval comes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

import h4hc
from h4hc.errors import InfeasibleError
from h4hc.ir.schedule import Schedule
from h4hc.passes.load import least_load
from tests.models import EXAMPLE
from tests.passes.problems import problems


def schedule_of(compiler: h4hc.Compiler, **options: Any) -> Schedule:
    loaded = h4hc.load_model(EXAMPLE)
    chosen = h4hc.Options(**{"effort": "fast", **options})
    schedule = compiler.compile(loaded.model, chosen, loaded.source).schedule
    assert schedule is not None
    return schedule


@pytest.fixture(scope="module")
def both() -> h4hc.Compiler:
    return h4hc.Compiler(h4hc.load_target("npu+cim"))


def least_peak_by_force(d: dict[str, Any]) -> int:
    """The least work of the busiest device over all placements within the capacity, transfers left out."""
    options = [range(d["mode_ptr"][v], d["mode_ptr"][v + 1]) for v in range(d["operators"])]
    best = 1 << 60
    for modes in itertools.product(*options):
        used, load = [0] * d["devices"], [0] * d["devices"]
        for m in modes:
            used[d["mode_device"][m]] += d["mode_resident"][m]
            load[d["mode_device"][m]] += d["mode_work"][m]
        if all(u <= limit for u, limit in zip(used, d["dev_capacity"], strict=True)):
            best = min(best, max(load))
    return best


@settings(max_examples=60, deadline=None)
@given(problems(max_operators=6))
def test_the_bound_is_below_every_placement(problem: dict[str, Any]) -> None:
    found = least_load(problem)
    assert 0 <= found.ticks <= least_peak_by_force(problem)


def test_the_bound_of_equal_devices_is_half_of_the_work() -> None:
    d = {
        "operators": 4, "devices": 2, "mode_ptr": [0, 2, 4, 6, 8], "mode_device": [0, 1] * 4,
        "mode_work": [100] * 8, "mode_resident": [0] * 8, "dev_capacity": [0, 0],
    }  # fmt: skip
    assert least_load(d).ticks == 200
    assert least_load(d, mask=1).ticks == 400


def test_capacity_raises_the_bound() -> None:
    """On device 1 everything is fast, but only one of the four operators has room there."""
    d = {
        "operators": 4, "devices": 2, "mode_ptr": [0, 2, 4, 6, 8], "mode_device": [0, 1] * 4,
        "mode_work": [100, 1] * 4, "mode_resident": [0, 10] * 4, "dev_capacity": [0, 10],
    }  # fmt: skip
    assert 250 <= least_load(d).ticks <= 300


@pytest.mark.parametrize("frames", [2, 3])
def test_more_frames_a_second_than_by_the_placement_for_latency(both: h4hc.Compiler, frames: int) -> None:
    balanced = schedule_of(both, objective="throughput", frames=frames)
    fastest = schedule_of(both, frames=frames)
    assert balanced.initiation_interval < fastest.initiation_interval
    assert balanced.frames_in_flight <= frames
    assert balanced.interval_bound < fastest.interval_bound


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_a_budget_holds_for_frames_in_flight(both: h4hc.Compiler, objective: str) -> None:
    """Of the schedules within the budget the one of most frames a second; without a budget a later one has more."""
    alone, free = schedule_of(both), schedule_of(both, objective=objective, frames=2)
    budget = alone.latency * 1.1e-9
    held = schedule_of(both, objective=objective, frames=2, budget_seconds=budget)
    assert held.latency * 1e-9 <= budget < free.latency * 1e-9
    assert free.initiation_interval <= held.initiation_interval <= alone.latency
    for point in held.front:
        assert point.latency * 1e-9 > budget or point.interval >= held.initiation_interval


def test_two_frames_are_in_flight_if_nobody_says(both: h4hc.Compiler) -> None:
    assert h4hc.Options(objective="throughput").window == 2
    assert schedule_of(both, objective="throughput").frames_in_flight == 2


def test_one_frame_in_flight_is_the_latency_objective(both: h4hc.Compiler) -> None:
    alone = schedule_of(both, objective="throughput", frames=1)
    assert alone == schedule_of(both)


def test_two_accelerators_have_at_least_the_throughput_of_each(both: h4hc.Compiler) -> None:
    interval = schedule_of(both, objective="throughput").initiation_interval
    for name in ("npu", "cim"):
        alone = h4hc.Compiler(h4hc.load_target(name))
        assert interval <= schedule_of(alone, objective="throughput").initiation_interval


def test_baselines_have_frames_in_flight_too(both: h4hc.Compiler) -> None:
    """About the interval that an accelerator reaches alone, and energy with static power for that long only."""
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(effort="fast", objective="throughput", frames=3)
    for baseline in both.compile(loaded.model, options, loaded.source).baselines:
        alone = h4hc.Compiler(h4hc.load_target(baseline.name))
        schedule = schedule_of(alone, objective="throughput", frames=3)
        assert baseline.interval == pytest.approx(schedule.initiation_interval * 1e-9, rel=0.03)
        assert baseline.energy == pytest.approx(schedule.energy * 1e-12, rel=0.1)
        assert baseline.interval < baseline.latency


def test_a_rate_that_only_a_balanced_placement_keeps(both: h4hc.Compiler, tmp_path: Path) -> None:
    """Faster than the busiest device of the fastest placement works, but not than that of a balanced one."""
    fastest = schedule_of(both, frames=2)
    balanced = schedule_of(both, objective="throughput")
    period = (fastest.interval_bound + balanced.initiation_interval) // 2
    assert balanced.initiation_interval < period < fastest.interval_bound
    found = schedule_of(both, frames=2, interval_seconds=period * 1e-9)
    assert found.initiation_interval == period
    roomy = schedule_of(both, frames=4, interval_seconds=period * 1e-9)
    assert (roomy.frames_in_flight, roomy.latency) == (found.frames_in_flight, found.latency), (
        "not later than need be"
    )
    with pytest.raises(InfeasibleError, match="is not possible: in any placement"):
        schedule_of(both, frames=2, interval_seconds=balanced.initiation_interval * 0.5e-9)


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_a_claim_bounds_the_interval_and_is_verified(
    both: h4hc.Compiler, tmp_path: Path, objective: str
) -> None:
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(effort="fast", objective=objective, frames=2)
    compilation = both.compile(loaded.model, options, loaded.source)
    assert compilation.schedule is not None
    (claim,) = compilation.claims
    assert (claim.kind, claim.status) == ("initiation-interval", "bound")
    assert 0.5 * compilation.schedule.initiation_interval < claim.value
    assert claim.value <= compilation.schedule.interval_bound
    h4hc.write_bundle(compilation, tmp_path)
    from h4hc.verify import verify_bundle

    report = verify_bundle(tmp_path, EXAMPLE, functional=False)
    assert report.passed, [check for check in report.checks if check.passed is False]


@pytest.mark.parametrize("frames", [2, 4])
def test_the_same_options_give_the_same_schedule(both: h4hc.Compiler, frames: int) -> None:
    options = {"objective": "throughput", "frames": frames, "evaluations": 30}
    assert schedule_of(both, **options) == schedule_of(both, **options)
