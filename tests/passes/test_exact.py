"""The exact operator-level makespan against brute force, a second solver, itself undivided, and the heuristics."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.passes.core import Problem
from h4hc.passes.exact.additive import Placement, Program, busiest, sums
from h4hc.passes.exact.bounds import critical_path
from h4hc.passes.exact.effort import consistent
from h4hc.passes.exact.heads import ANY, PRICE_SCALE, least_ticks
from h4hc.passes.exact.model import Question, Setting, solve
from h4hc.passes.exact.operator_level import OperatorLevel, solve_operator_level
from h4hc.passes.exact.oracle import Limit
from h4hc.passes.exact.piece import cut_operators, pieces_between
from h4hc.passes.exact.store import Store
from tests.passes import brute, milp
from tests.passes.problems import placements, problems

pytest.importorskip("ortools", reason="OR-Tools (extra 'exact') is not installed")


def exact(data: dict[str, Any], cuts: list[int] | None = None) -> OperatorLevel:
    """The optimum, without a cache."""
    return solve_operator_level(data, Limit(60.0), Store(None), cuts)


@settings(max_examples=40, deadline=None)
@given(problems(min_operators=3, max_operators=8))
def test_exact_is_the_best_of_all_placements_and_orders(problem: dict[str, Any]) -> None:
    found = exact(problem)
    assert found.proved
    assert found.ticks == brute.least_makespan(problem)


@settings(max_examples=40, deadline=None)
@given(problems(min_operators=4, max_operators=7, reach=2))
def test_exact_is_the_best_where_it_takes_the_graph_apart(problem: dict[str, Any]) -> None:
    found = exact(problem)
    assert found.proved
    assert found.ticks == brute.least_makespan(problem)


@settings(max_examples=10, deadline=None)
@given(problems(min_operators=16, max_operators=30, reach=2))
def test_taking_the_graph_apart_loses_nothing(problem: dict[str, Any]) -> None:
    apart, whole = exact(problem), exact(problem, cuts=[])
    assert apart.proved
    assert whole.bound <= apart.ticks
    if whole.proved:
        assert whole.ticks == apart.ticks


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_no_heuristic_beats_exact(data: st.DataObject) -> None:
    problem = data.draw(problems(min_operators=4, max_operators=14, reach=3))
    modes, _ = data.draw(placements(problem))
    whole = {**problem, "rows": [1] * problem["operators"]}
    found = exact(whole)
    core, ones = Problem(whole), [1] * problem["operators"]
    light = [
        next(
            m - whole["mode_ptr"][v]
            for m in range(whole["mode_ptr"][v], whole["mode_ptr"][v + 1])
            if not whole["mode_resident"][m]
        )
        for v in range(whole["operators"])
    ]
    climbed, _ = core.climb(light, ones, 200, 1, 7, 0, 0)
    assert found.ticks <= core.trace(climbed, ones)[0]
    assert found.ticks <= core.trace(light, ones)[0]
    assert critical_path(problem) <= core.trace(modes, ones)[0]


@settings(max_examples=20, deadline=None)
@given(problems(min_operators=2, max_operators=6, reach=2))
def test_a_second_solver_agrees_on_every_piece(problem: dict[str, Any]) -> None:
    problem["link_channels"] = [1]
    for placed in pieces_between(problem, cut_operators(problem)):
        first = placed.first == 0
        for entry in [ANY] if first else range(3):
            for leave in [ANY] if placed.piece.last else range(3):
                question = Question(entry, leave)
                (answer,) = solve(placed.piece, question, iter([Setting()]))
                expected = milp.least_makespan(placed.piece, question)
                assert (answer.ticks if answer.found else None) == expected
                if answer.found:
                    assert (least_ticks(placed.piece, question) or 0) <= answer.ticks
                    assert answer.bound == PRICE_SCALE * answer.ticks


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bounds_hold_for_every_placement_in_tiles(data: st.DataObject) -> None:
    problem = data.draw(problems())
    modes, tiles = data.draw(placements(problem))
    latency = Problem(problem).trace(modes, tiles)[0]
    assert critical_path(problem) <= latency
    assert busiest(problem, modes) <= latency


@settings(max_examples=30, deadline=None)
@given(problems(max_operators=6))
def test_additive_optima_are_the_best_of_all_placements(problem: dict[str, Any]) -> None:
    found = brute.every_placement(problem)
    program = Program(problem)
    for time, energy in ((1, 0), (0, 1), (3, 2)):
        expected = min(time * ticks + energy * joules for ticks, joules in (sums(problem, m) for m in found))
        assert program.least_sum(time, energy).value == expected
    assert program.least_peak().value == min(busiest(problem, modes) for modes in found)


@settings(max_examples=20, deadline=None)
@given(problems(max_operators=6))
def test_long_times_are_no_trouble(problem: dict[str, Any]) -> None:
    """Of seconds, which the program counts in more than a tick. The work of a link's channels is a share of a tick, rounded up."""
    long = {
        **problem,
        "mode_work": [work << 28 for work in problem["mode_work"]],
        "xfer_work": [work << 28 for work in problem["xfer_work"]],
    }
    found = Program(long).least_peak()
    short = Program(problem).least_peak().value
    assert (short - 1) << 28 < found.value <= short << 28
    assert found.bound == pytest.approx(found.value, rel=1e-6)


def test_a_bound_that_a_placement_contradicts_is_not_claimed() -> None:
    data = {
        "operators": 1, "devices": 2, "memories": 1, "links": 0, "io_memory": 0, "producer": [-1, 0], "tensors": 2,
        "cons_ptr": [0, 1, 1], "cons_op": [0], "sink": [0, 1], "dev_memory": [0, 0], "mode_ptr": [0, 2], "mode_device": [0, 1],
        "mode_work": [10, 20], "mode_energy": [7, 3], "link_of": [-1], "link_channels": [], "xfer_work": [], "xfer_energy": [],
        "link_overhead": [], "handoff": 0,
    }  # fmt: skip
    right = {
        "sequential-latency": Placement((0,), 10, 10),
        "dynamic-energy": Placement((1,), 3, 3),
        "initiation-interval": Placement((0,), 10, 10),
        "sequential-edp": Placement((1,), 60, 60),
    }
    assert consistent(right, data, data, 0.0) == right
    wrong = {**right, "initiation-interval": Placement((1,), 20, 20)}
    assert set(consistent(wrong, data, data, 0.0)) == set(right) - {"initiation-interval"}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_an_order_is_followed(data: st.DataObject) -> None:
    """Replaying the list scheduler's own order gives its schedule; an order that cannot be followed is refused."""
    problem = data.draw(problems())
    modes, tiles = data.draw(placements(problem))
    core = Problem(problem)
    trace = core.trace(modes, tiles)
    n, memories = problem["operators"], problem["memories"]
    order = [row[0] if row[1] < 0 else n + row[0] * memories + row[1] for row in trace[3]]
    assert core.trace(modes, tiles, order) == trace
    assert core.score(modes, tiles, 0, 0, order) == core.score(modes, tiles, 0, 0)
    operators = [c for c in order if c < n]
    for broken in (operators[:-1], [*operators, operators[0]], [*operators, 10**6]):
        with pytest.raises(ValueError, match="order"):
            core.trace(modes, tiles, broken)
