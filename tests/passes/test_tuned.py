"""Searches in the order of a placement's tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest

import h4hc
from h4hc.ir.compilation import Compilation
from h4hc.passes import pipeline
from h4hc.passes import tuned as module
from h4hc.passes.core import Problem
from h4hc.passes.load import least_load
from h4hc.passes.schedule import make_schedule
from h4hc.passes.tuned import Order, retuned, simulation_of, tuned
from tests.models import EXAMPLE

FRAMES = 3


@pytest.fixture(scope="module")
def compiled() -> Compilation:
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(objective="throughput", frames=FRAMES, effort="fast", baselines=False)
    found = h4hc.Compiler(h4hc.load_target("npu+cim-sram")).compile(loaded.model, options, loaded.source)
    return replace(found, options=replace(options, effort="balanced", evaluations=300))


@pytest.fixture(scope="module")
def first(compiled: Compilation) -> tuple[Compilation, Order]:
    return tuned(compiled)


def test_what_is_far_from_the_bound_is_searched_again(
    first: tuple[Compilation, Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = first[1]._replace(period=1 << 40)
    found = retuned(first[0], slow)
    assert found is not None
    placed, order = found
    assert order.period < slow.period
    assert order.frames == FRAMES
    modes, tiles = simulation_of(placed).modes, simulation_of(placed).tiles
    problem = Problem(simulation_of(placed).system.data)
    again = problem.tune(modes, tiles, order.period, order.offsets, 0, 1, 7, 0, FRAMES)
    assert again[2] == order.period
    assert retuned(first[0], slow) == found
    monkeypatch.setattr(module, "_ROUNDS", {"balanced": 0})
    assert retuned(first[0], slow) is None


def test_nothing_is_searched_again_near_the_bound(first: tuple[Compilation, Order]) -> None:
    placed, order = first
    assert retuned(placed, order._replace(period=1)) is None


def test_what_is_no_better_is_not_returned(
    first: tuple[Compilation, Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FAR", 0.0)
    placed, order = first
    assert retuned(placed, order._replace(period=1)) is None


def test_the_order_of_one_frame_alone(compiled: Compilation) -> None:
    simulated = simulation_of(compiled)
    problem = Problem(simulated.system.data)
    order = module._alone(problem, simulated.system.data, simulated.modes, simulated.tiles, FRAMES)
    rows = problem.trace(simulated.modes, simulated.tiles)[3]
    latency = max(row[-1] for row in rows)
    assert order.frames == FRAMES
    assert (order.period - 1) * FRAMES < latency <= order.period * FRAMES
    assert sorted(start for start in order.offsets if start >= 0) == sorted(row[3] for row in rows)
    assert all(order.offsets[row[0]] == row[3] for row in rows if row[1] < 0)


def test_frames_are_woven_only_far_from_the_bound(compiled: Compilation) -> None:
    data = simulation_of(compiled).system.data
    problem, options = Problem(data), compiled.options
    bound = least_load(data)
    found = module._woven(problem, data, bound, 1 << 40, options, 20)
    [(period, modes, tiles, order)] = found
    assert problem.tune(modes, tiles, period, order.offsets, 0, 1, 7, 0, FRAMES)[2] == period
    assert module._woven(problem, data, bound, 1 << 40, options, 20) == found
    assert module._woven(problem, data, bound, 1, options, 20) == []
    assert module._woven(problem, data, bound, 1 << 40, replace(options, budget_seconds=1.0), 20) == []


@pytest.mark.parametrize("seed", [0, 3])
def test_the_schedule_is_as_fast_as_the_search_saw_it(
    compiled: Compilation, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a link has two channels, on which the search has transfers by their tensors."""
    monkeypatch.setattr(module, "_SEED", seed)
    placed, order = tuned(compiled)
    candidate = pipeline._Candidate(replace(placed, schedule=make_schedule(placed)), (order,), tuned=True)
    schedule = pipeline._overlapped(candidate, []).schedule
    assert schedule is not None
    assert schedule.initiation_interval <= order.period
