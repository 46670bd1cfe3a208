"""The bound of times and work: below every schedule, and where it is known, at it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.passes import core
from h4hc.passes.exact.flow import least_interval, least_tiles
from tests.passes.brute import least_makespan
from tests.passes.problems import placements, problems

pytest.importorskip("ortools", reason="OR-Tools (extra 'exact') is not installed")


def fits(problem: dict[str, Any], modes: list[int]) -> bool:
    used = [0] * problem["devices"]
    for v, mode in enumerate(modes):
        m = problem["mode_ptr"][v] + mode
        used[problem["mode_device"][m]] += problem["mode_resident"][m]
    return all(bytes_ <= limit for bytes_, limit in zip(used, problem["dev_capacity"], strict=True))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_schedule_is_faster(data: st.DataObject) -> None:
    problem = data.draw(problems(max_operators=8))
    bound = least_interval(problem, 1)
    modes, tiles = data.draw(placements(problem))
    solver = core.Problem(problem)
    if fits(problem, modes):
        found = solver.climb(modes, tiles, 200, 3, 7, 0, 0)
        assert bound <= solver.trace(*found)[0]
    if problem["operators"] <= 4:
        whole = least_makespan(problem)
        assert whole is None or bound <= whole


def test_long_times_are_no_trouble() -> None:
    """Of operators of several seconds, for which the program counts in more than a tick."""
    works = [70_000, 30_000, 90_001, 50_003]
    short = least_interval(chain(2, works, 7), 2)
    long = least_interval(chain(2, [work << 16 for work in works], 7), 2)
    assert short << 16 == pytest.approx(long, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(problems(max_operators=8))
def test_more_frames_need_no_longer_intervals(problem: dict[str, Any]) -> None:
    bounds = [least_interval(problem, frames) for frames in (1, 2, 3, 8)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] <= 8 * bounds[-1] + 8


def chain(devices: int, works: list[int], rows: int) -> dict[str, Any]:
    """Operators one behind the other, each on any of `devices` devices that share a memory."""
    n = len(works)
    return {
        "operators": n, "tensors": n + 1, "devices": devices, "memories": 1, "links": 0, "io_memory": 0, "handoff": 0,
        "rows": [rows] * n, "producer": [-1, *range(n)], "out_ptr": [*range(n + 1)], "out_tensor": [*range(1, n + 1)],
        "dev_memory": [0] * devices, "dev_overhead": [0] * devices, "dev_static": [0.0] * devices,
        "dev_capacity": [0] * devices, "link_of": [-1], "link_channels": [], "link_overhead": [], "xfer_work": [],
        "xfer_energy": [], "mode_ptr": [*range(0, devices * n + 1, devices)], "mode_device": [*range(devices)] * n,
        "mode_work": [work for work in works for _ in range(devices)], "mode_energy": [0] * (devices * n),
        "mode_resident": [0] * (devices * n), "rank": [0] * n, "alike": [*range(n)], "in_ptr": [*range(n + 1)],
        "in_tensor": [*range(n)], "in_rows": [0, *[rows] * (n - 1)], "in_window": [1] * n, "in_stride": [1] * n,
        "in_pad": [0] * n, "cons_ptr": [*range(n + 1), n], "cons_op": [*range(n)], "sink": [0] * n + [1],
    }  # fmt: skip


def test_operators_on_one_device_do_not_overlap() -> None:
    """However finely they stream."""
    assert least_interval(chain(1, [1600, 800, 1600], 16), 1) == 4000
    assert least_interval(chain(1, [1600, 800, 1600], 16), 3) == 4000


def test_two_devices_share_the_work_of_several_frames() -> None:
    whole = chain(2, [1600, 1600], 1)
    assert least_interval(whole, 1) == 3200
    assert least_interval(whole, 2) == 1600
    assert least_interval(chain(2, [1600, 1600], 16), 1) == 1700  # the second a tile behind the first


@given(st.integers(0, 500), st.integers(0, 50), st.integers(1, 16))
def test_first_tiles_are_above_their_hull(work: int, overhead: int, tiles: int) -> None:
    for count in range(1, tiles + 1):
        total = work + (count - 1) * overhead
        for slope, height in least_tiles(work, overhead, tiles):
            assert slope * total + height <= total // count + 1e-6
