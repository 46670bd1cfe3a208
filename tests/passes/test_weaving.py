"""Frames woven together: what the beam search returns is feasible, no better than the best, and the same in C and Python."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.passes import core
from h4hc.passes.core.weaving import weave
from h4hc.passes.load import least_load
from h4hc.passes.woven import Line, cuts, weaves
from tests.passes.brute import every_placement
from tests.passes.problems import problems

Woven = tuple[int, list[int], list[int]]


@st.composite
def cases(
    draw: st.DrawFn, most: int = 12
) -> tuple[dict[str, Any], list[int], list[int], list[int], int, int]:
    """A problem, cuts, prices, prices of bytes, states, states with the same next operators."""
    problem = draw(problems(max_operators=most))
    inner = draw(st.lists(st.integers(0, problem["operators"]), max_size=3))
    prices = draw(st.lists(st.integers(0, 9), min_size=3, max_size=3))
    byte_prices = draw(st.lists(st.integers(0, 3), min_size=3, max_size=3))
    places = [0, *sorted(inner), problem["operators"]]
    return problem, places, prices, byte_prices, draw(st.integers(1, 20)), draw(st.integers(1, 4))


@settings(max_examples=80, deadline=None)
@given(cases())
def test_weave_is_the_same_in_c_and_python(case: Any) -> None:
    problem, *arguments = case
    assert core.Problem(problem).weave(*arguments) == weave(problem, *arguments)


@settings(max_examples=80, deadline=None)
@given(cases())
def test_woven_frames_are_feasible(case: Any) -> None:
    problem, places, *arguments = case
    found = core.Problem(problem).weave(places, *arguments)
    if found is None:
        assert any(problem["mode_resident"])
        return
    _check(problem, places, found)


@settings(max_examples=40, deadline=None)
@given(cases(most=4))
def test_nothing_woven_is_shorter_than_the_best_of_all_orders(case: Any) -> None:
    problem, places, *arguments = case
    found = core.Problem(problem).weave(places, *arguments)
    if found is not None:
        assert found[0] >= _least(problem, places)


def test_two_strands_keep_two_devices_busy() -> None:
    """Each of two operators is fast on its own device: in every interval both run, for different frames."""
    problem = _two_operators()
    found = core.Problem(problem).weave([0, 1, 2], [1, 1], [0, 0], 10, 2)
    assert found == (10, [0, 1], [0, 10, -1, -1, -1])
    assert (
        core.Problem(problem).weave([0, 2], [1, 1], [0, 0], 10, 2)[0] == 20
    )  # one strand: one after the other


@pytest.mark.parametrize(
    "arguments",
    [([0], [1, 1], [0, 0], 5, 1), ([0, 1, 2], [1, 1], [0, 0], 0, 1), ([0, 2, 1, 2], [1, 1], [0, 0], 5, 1)],
)
def test_impossible_strands_are_refused(arguments: Any) -> None:
    problem = _two_operators()
    for attempt in (core.Problem(problem).weave, lambda *rest: weave(problem, *rest)):
        with pytest.raises(ValueError, match=r"woven|order"):
            attempt(*arguments)


@settings(max_examples=40, deadline=None)
@given(problems(min_operators=4), st.integers(2, 4))
def test_woven_frames_are_sorted_and_above_the_bound(problem: dict[str, Any], frames: int) -> None:
    bound = least_load(problem)
    found = weaves(core.Problem(problem), problem, bound, frames, 0)
    assert found == sorted(found)
    assert all(ticks >= bound.ticks for ticks, _, _ in found)
    for ticks, modes, starts in found[:3]:
        order = core.Problem(problem).tune(modes, [1] * len(modes), ticks, starts, 0, 1, 7, 0, frames)
        assert order[2] >= bound.ticks


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30), st.integers(2, 8), st.integers(0, 5), st.data())
def test_cuts_are_where_they_may_be(work: list[int], frames: int, number: int, data: st.DataObject) -> None:
    allowed = sorted(data.draw(st.sets(st.integers(1, len(work) - 1), min_size=1)))
    found = cuts(Line(tuple(itertools.accumulate(work, initial=0)), allowed), frames, number)
    assert len(found) == frames + 1
    assert (found[0], found[-1]) == (0, len(work))
    assert list(found) == sorted(found)
    assert set(found[1:-1]) <= set(allowed)


def _check(problem: dict[str, Any], places: Sequence[int], found: Woven) -> None:
    """No two operators of a device overlap in an interval, and none begins before its inputs are there."""
    ticks, modes, starts = found
    device, begin, end, strand = [], [], [], _strands(places)
    for v, mode in enumerate(modes):
        m = problem["mode_ptr"][v] + mode
        device.append(problem["mode_device"][m])
        begin.append(starts[v] - strand[v] * ticks)
        end.append(begin[v] + problem["mode_work"][m])
    assert ticks == max(end)
    assert min(begin) >= 0
    for a, b in itertools.combinations(range(len(modes)), 2):
        if device[a] == device[b]:
            assert end[a] <= begin[b] or end[b] <= begin[a]
    for v in range(len(modes)):
        for t in problem["in_tensor"][problem["in_ptr"][v] : problem["in_ptr"][v + 1]]:
            u = problem["producer"][t]
            if u >= 0 and strand[u] == strand[v]:
                assert end[u] + _apart(problem, t, device[u], device[v]) <= begin[v]


def _strands(places: Sequence[int]) -> list[int]:
    """The strand of every operator."""
    return [max(k for k, first in enumerate(places[:-1]) if first <= v) for v in range(places[-1])]


def _apart(problem: dict[str, Any], tensor: int, source: int, target: int) -> int:
    """Ticks between operators on two devices at least."""
    memory = problem["dev_memory"]
    if memory[source] == memory[target]:
        return int(problem["handoff"]) if source != target else 0
    link = problem["link_of"][memory[source] * problem["memories"] + memory[target]]
    return int(problem["xfer_work"][link * problem["tensors"] + tensor])


def _least(problem: dict[str, Any], places: Sequence[int]) -> int:
    """The shortest interval of all placements and orders, transfers at no cost but their time."""
    n, strand = problem["operators"], _strands(places)
    best = 1 << 40
    for modes in every_placement(problem):
        chosen = [problem["mode_ptr"][v] + mode for v, mode in enumerate(modes)]
        for order in itertools.permutations(range(n)):
            free, end = [0] * problem["devices"], {}
            for v in order:
                d, moment = problem["mode_device"][chosen[v]], 0
                for t in problem["in_tensor"][problem["in_ptr"][v] : problem["in_ptr"][v + 1]]:
                    u = problem["producer"][t]
                    if u >= 0 and strand[u] == strand[v]:
                        if u not in end:
                            break
                        moment = max(
                            moment, end[u] + _apart(problem, t, problem["mode_device"][chosen[u]], d)
                        )
                else:
                    free[d] = end[v] = max(free[d], moment) + problem["mode_work"][chosen[v]]
                    continue
                break
            else:
                best = min(best, max(free))
    return best


def _two_operators() -> dict[str, Any]:
    """One after the other on two devices at one memory; each takes 10 ticks on its own and 30 on the other."""
    return {
        "operators": 2, "tensors": 3, "devices": 2, "memories": 1, "links": 0, "io_memory": 0, "handoff": 0,
        "rows": [1, 1], "rank": [0, 0], "alike": [0, 1], "mode_ptr": [0, 2, 4], "mode_device": [0, 1, 0, 1],
        "mode_work": [10, 30, 30, 10], "mode_energy": [0] * 4, "mode_resident": [0] * 4,
        "in_ptr": [0, 1, 2], "in_tensor": [0, 1], "in_rows": [0, 0], "in_window": [1, 1], "in_stride": [1, 1],
        "in_pad": [0, 0], "producer": [-1, 0, 1], "cons_ptr": [0, 1, 2, 2], "cons_op": [0, 1], "sink": [0, 0, 1],
        "out_ptr": [0, 1, 2], "out_tensor": [1, 2], "dev_memory": [0, 0], "dev_overhead": [0, 0],
        "dev_static": [0.0, 0.0], "dev_capacity": [0, 0], "period": 0, "link_of": [-1], "link_channels": [],
        "link_overhead": [], "xfer_work": [], "xfer_energy": [],
    }  # fmt: skip
