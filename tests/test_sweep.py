"""Fronts of schedules, and schedules within an energy budget."""

from __future__ import annotations

from itertools import pairwise

import pytest

import h4hc
from h4hc.errors import InfeasibleError, OptionError
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import Schedule
from h4hc.sweep import pareto, within_energy
from tests.models import EXAMPLE, light_models

FAST = h4hc.Options(effort="fast", baselines=False)
COMPILER = h4hc.Compiler(h4hc.load_target("npu+cim"))
SQUEEZENET = next(path for path in light_models() if "squeezenet" in path.name)


@pytest.fixture(scope="module", params=[EXAMPLE, SQUEEZENET], ids=lambda path: path.stem)
def loaded(request: pytest.FixtureRequest) -> h4hc.Loaded:
    return h4hc.load_model(request.param)


def schedule(compilation: Compilation) -> Schedule:
    assert compilation.schedule is not None
    return compilation.schedule


def test_a_front_trades_latency_for_energy(loaded: h4hc.Loaded) -> None:
    front = [schedule(c) for c in pareto(COMPILER, loaded.model, FAST, loaded.source, points=5)]
    assert 2 <= len(front) <= 5
    for before, after in pairwise(front):
        assert before.latency < after.latency
        assert before.energy > after.energy
    for objective, end in (("latency", front[0]), ("energy", front[-1])):
        options = h4hc.Options(effort="fast", baselines=False, objective=objective)
        alone = schedule(COMPILER.compile(loaded.model, options, loaded.source))
        assert getattr(end, objective) <= getattr(alone, objective)


def test_a_front_is_the_same_every_time(loaded: h4hc.Loaded) -> None:
    first, second = (pareto(COMPILER, loaded.model, FAST, loaded.source, points=3) for _ in range(2))
    assert [c.schedule for c in first] == [c.schedule for c in second]


def test_the_fastest_schedule_within_an_energy_budget(loaded: h4hc.Loaded) -> None:
    front = [schedule(c) for c in pareto(COMPILER, loaded.model, FAST, loaded.source, points=5)]
    joules = (front[0].energy + front[-1].energy) / 2 * 1e-12
    found = schedule(within_energy(COMPILER, loaded.model, FAST, loaded.source, joules))
    assert found.energy * 1e-12 <= joules
    assert front[0].latency <= found.latency <= front[-1].latency
    plenty = schedule(within_energy(COMPILER, loaded.model, FAST, loaded.source, 1.0))
    assert plenty.latency == schedule(COMPILER.compile(loaded.model, FAST, loaded.source)).latency


def test_too_little_energy_is_said_in_numbers(loaded: h4hc.Loaded) -> None:
    with pytest.raises(InfeasibleError, match="the most frugal one found takes") as caught:
        within_energy(COMPILER, loaded.model, FAST, loaded.source, 1e-9)
    shortage = caught.value.shortage
    assert shortage is not None
    assert (shortage.what, shortage.available, shortage.unit) == ("energy", 1e-9, "J")
    assert shortage.needed > 1e-9
    assert "energy budget" in shortage.change


def test_a_front_takes_no_budget() -> None:
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(effort="fast", budget_seconds=0.1)
    with pytest.raises(OptionError, match="no latency budget"):
        pareto(COMPILER, loaded.model, options, loaded.source)
    with pytest.raises(OptionError, match="a front of 1 points"):
        pareto(COMPILER, loaded.model, FAST, loaded.source, points=1)
