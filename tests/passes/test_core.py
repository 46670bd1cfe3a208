"""The compiled inner loops against their Python twin, and both against first principles."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.ir.schedule import Wait
from h4hc.passes import core
from h4hc.passes.core import packing, reference, reuse
from h4hc.passes.core.balancing import busiest
from tests.passes.problems import placements, problems, with_memories

native = pytest.importorskip("h4hc.passes.core._native") if core.COMPILED else None
needs_native = pytest.mark.skipif(native is None, reason="built without a C compiler")


@needs_native
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_trace_and_score_are_the_same_in_c_and_python(data: st.DataObject) -> None:
    problem = data.draw(problems())
    modes, tiles = data.draw(placements(problem))
    compiled, python = native.Problem(problem), reference.Problem(problem)
    trace = compiled.trace(modes, tiles)
    assert trace == python.trace(modes, tiles)
    arguments = modes, tiles, trace[3], trace[4], Wait(0, ())
    assert repr(compiled.contents(*arguments)) == repr(python.contents(*arguments))  # of the same types
    frames = data.draw(st.integers(1, 3))
    for objective in range(5):
        score = (modes, tiles, objective, 150, None, frames)
        assert compiled.score(*score) == python.score(*score)
    assert compiled.steady(modes, tiles, frames) == python.steady(modes, tiles, frames)
    tasks = problem["operators"] + problem["tensors"] * problem["memories"]
    order = [*data.draw(st.lists(st.integers(0, tasks - 1), max_size=3)), *range(problem["operators"])]
    if len(order) == problem["operators"] or not set(order[: -problem["operators"]]) & set(
        range(problem["operators"])
    ):
        assert compiled.trace(modes, tiles, order) == python.trace(modes, tiles, order)
    else:  # an operator twice
        for problem_type in (compiled, python):
            with pytest.raises(ValueError, match="order"):
                problem_type.trace(modes, tiles, order)


@needs_native
@given(problems(), st.sampled_from([(1000, -1), (0, 1000), (-1, -1), (1000, 0)]))
def test_contents_refuse_rows_of_another_problem(problem: dict[str, Any], row: tuple[int, int]) -> None:
    compiled, count = native.Problem(problem), problem["operators"]
    with pytest.raises(ValueError, match="row of no trace"):
        compiled.contents([0] * count, [1] * count, [(*row, -1, 0, 0)], [], Wait(0, ()))
    with pytest.raises(ValueError, match="row of no trace"):
        compiled.contents([0] * count, [1] * count, [], [(*row, 0, 0)], Wait(0, ()))
    with pytest.raises(TypeError, match="wait"):
        compiled.contents([0] * count, [1] * count, [], [], (0, ()))


@needs_native
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_climb_is_the_same_in_c_and_python(data: st.DataObject) -> None:
    problem = data.draw(problems())
    modes, tiles = data.draw(placements(problem))
    seed = data.draw(st.integers(0, 2**64 - 1))
    arguments = (
        modes,
        tiles,
        40,
        seed,
        data.draw(st.integers(0, 7)),
        data.draw(st.integers(0, 4)),
        100,
        data.draw(st.integers(1, 3)),
        data.draw(st.lists(st.integers(0, problem["operators"] - 1), max_size=4)),
    )
    assert native.Problem(problem).climb(*arguments) == reference.Problem(problem).climb(*arguments)


@needs_native
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_scores_with_short_memories_are_the_same_in_c_and_python(data: st.DataObject) -> None:
    problem = data.draw(with_memories(data.draw(problems())))
    modes, tiles = data.draw(placements(problem))
    arguments = (modes, tiles, data.draw(st.integers(0, 4)), 150, None, data.draw(st.integers(1, 4)))
    assert native.Problem(problem).score(*arguments) == reference.Problem(problem).score(*arguments)


@needs_native
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_climb_with_short_memories_is_the_same_in_c_and_python(data: st.DataObject) -> None:
    problem = data.draw(with_memories(data.draw(problems(max_operators=20))))
    modes, tiles = data.draw(placements(problem))
    arguments = (modes, tiles, 80, 5, 7, data.draw(st.integers(0, 2)), data.draw(st.sampled_from([0, 200])))
    found = native.Problem(problem).climb(*arguments)
    assert found == reference.Problem(problem).climb(*arguments)
    given = core.Problem(problem).score(modes, tiles, *arguments[-2:])
    assert core.Problem(problem).score(*found, *arguments[-2:]) <= given


@needs_native
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_tune_is_the_same_in_c_and_python(data: st.DataObject) -> None:
    problem = data.draw(with_memories(data.draw(problems())))
    modes, tiles = data.draw(placements(problem))
    budget, frames = data.draw(st.sampled_from([0, 300])), data.draw(st.integers(1, 3))
    order = native.Problem(problem).steady(modes, tiles, frames)
    arguments = (modes, tiles, *order, 40, 11, data.draw(st.integers(0, 7)), budget, frames)
    found = native.Problem(problem).tune(*arguments)
    assert found == reference.Problem(problem).tune(*arguments)
    assert busiest(problem, *found[:2]) <= found[2]
    unmoved = native.Problem(problem).tune(*arguments[:4], 0, *arguments[5:])
    assert (unmoved[0], unmoved[1]) == (modes, tiles)


def test_tune_refuses_operators_that_never_start() -> None:
    problem = two_operators(rows=4, in_rows=0, window=1)
    with pytest.raises(ValueError, match="start"):
        core.Problem(problem).tune([0, 0], [1, 1], 10, [-1] * 5, 5, 1, 1, 0, 2)


def test_bytes_without_room_count_as_ticks_of_one_frame() -> None:
    """While the second operator runs, its input and its output are alive: 180 bytes."""
    problem = two_operators(rows=4, in_rows=0, window=1)
    held = {"held": [60, 100, 80], "heir": [-1, -1, -1], "mem_limit": [150], "mem_price": [0.5]}
    given = core.Problem(problem).score([0, 0], [4, 4], 0, 0)
    short = core.Problem({**problem, **held}).score([0, 0], [4, 4], 0, 0)
    assert short[1] == given[1] + 0.5 * 30


@needs_native
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_balance_is_the_same_in_c_and_python(data: st.DataObject) -> None:
    problem = data.draw(with_memories(data.draw(problems())))
    modes, tiles = data.draw(placements(problem))
    objective, budget = data.draw(st.sampled_from([3, 4])), data.draw(st.sampled_from([0, 300]))
    arguments = (
        modes,
        tiles,
        40,
        11,
        data.draw(st.integers(0, 7)),
        objective,
        budget,
        data.draw(st.integers(1, 3)),
    )
    found = native.Problem(problem).balance(*arguments)
    assert found == reference.Problem(problem).balance(*arguments)
    given = core.Problem(problem).score(modes, tiles, objective, budget, None, arguments[-1])
    assert core.Problem(problem).score(*found, objective, budget, None, arguments[-1]) <= given


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_interval_is_below_the_load_that_balance_looks_at(data: st.DataObject) -> None:
    problem = data.draw(problems())
    modes, tiles = data.draw(placements(problem))
    for objective in (3, 4):
        score = core.Problem(problem).score(modes, tiles, objective, 0, None, 2)
        assert busiest(problem, modes, tiles) <= score[1]


@needs_native
@settings(max_examples=15, deadline=None)
@given(problems(max_operators=40, min_operators=20, reach=3), st.integers(0, 2), st.sampled_from([0, 400]))
def test_a_long_climb_is_the_same_in_c_and_python(
    problem: dict[str, Any], objective: int, budget: int
) -> None:
    """The compiled search evaluates only what a move changes, and gives up where a schedule is too late."""
    modes = [0] * problem["operators"]
    arguments = (modes, [1] * len(modes), 150, 7, 7, objective, budget)
    assert native.Problem(problem).climb(*arguments) == reference.Problem(problem).climb(*arguments)


@needs_native
@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([(1.0, 0.0, 1.0, 0.0), (0.5, 1.0, 1.75, 0.0), (1.0, 0.0, 1.0, 0.8)]))
def test_cut_is_the_same_in_c_and_python(problem: dict[str, Any], weights: tuple[float, ...]) -> None:
    for device, mask in ((0, 7), (1, 7), (1, 3), (2, 4)):
        assert native.Problem(problem).prefer(device, mask) == reference.Problem(problem).prefer(device, mask)
    compiled = native.Problem(problem).cut(0, 1, 7, *weights)
    assert compiled == reference.Problem(problem).cut(0, 1, 7, *weights)
    for scarce in (problem, problem | {"dev_capacity": [size // 3 for size in problem["dev_capacity"]]}):
        fitting = native.Problem(scarce).cut_within(0, 1, 7, *weights[:3])
        assert fitting == reference.Problem(scarce).cut_within(0, 1, 7, *weights[:3])


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(0, 200))
def test_a_cut_within_the_capacity_fits(problem: dict[str, Any], capacity: int) -> None:
    d = problem | {"dev_capacity": [capacity] * problem["devices"]}
    status, modes = core.Problem(d).cut_within(0, 1, 7, 1.0, 0.0, 1.0)
    plain = core.Problem(d).cut(0, 1, 7, 1.0, 0.0, 1.0, 0.0)

    def fits(chosen: list[int]) -> bool:
        return all(size <= capacity for size in resident(d, chosen))

    assert fits(modes) == (status >= 0)
    assert (modes == plain) or not fits(plain)
    assert (status == 0) == fits(plain)


def resident(d: dict[str, Any], modes: list[int]) -> list[int]:
    """Resident bytes per device."""
    used = [0] * d["devices"]
    for start, mode in zip(d["mode_ptr"], modes, strict=False):
        used[d["mode_device"][start + mode]] += d["mode_resident"][start + mode]
    return used


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(0, 2000), st.sampled_from([3, 7]))
def test_the_knapsack_fits_and_is_the_same_in_c_and_python(
    problem: dict[str, Any], capacity: int, mask: int
) -> None:
    d = problem | {"dev_capacity": [capacity] * problem["devices"]}
    for device in range(d["devices"]):
        modes = core.Problem(d).knapsack(device, mask)
        assert modes == reference.Problem(d).knapsack(device, mask)
        if modes is not None:
            assert 0 < resident(d, modes)[device] <= capacity


def additive_cost(d: dict[str, Any], modes: tuple[int, ...]) -> int:
    """Work of all operators plus one transfer per tensor and memory."""
    chosen = [d["mode_ptr"][v] + m for v, m in enumerate(modes)]
    memory = [d["dev_memory"][d["mode_device"][m]] for m in chosen]
    cost = sum(d["mode_work"][m] for m in chosen)
    for tensor, producer in enumerate(d["producer"]):
        home = d["io_memory"] if producer < 0 else memory[producer]
        wanted = {memory[v] for v in d["cons_op"][d["cons_ptr"][tensor] : d["cons_ptr"][tensor + 1]]}
        if d["sink"][tensor]:
            wanted.add(d["io_memory"])
        cost += d["xfer_work"][tensor] * len(wanted - {home})
    return cost


@settings(max_examples=60, deadline=None)
@given(problems(max_operators=6))
def test_cut_is_the_cheapest_of_all_placements(problem: dict[str, Any]) -> None:
    """Every operator on NPU or CIM if it can, else on the host: the cut beats every such placement."""
    d = problem
    best = core.Problem(d).cut(0, 1, 7, 1.0, 0.0, 1.0, 0.0)
    options = []
    for v in range(d["operators"]):
        modes = range(d["mode_ptr"][v], d["mode_ptr"][v + 1])
        accelerated = [m - modes.start for m in modes if d["mode_device"][m] < 2]
        options.append(accelerated or [m - modes.start for m in modes])
    cheapest = min(additive_cost(d, modes) for modes in itertools.product(*options))
    assert additive_cost(d, tuple(best)) == cheapest


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_climb_never_returns_something_worse_or_over_capacity(data: st.DataObject) -> None:
    problem = data.draw(problems())
    p = core.Problem(problem)
    modes = [problem["mode_ptr"][v + 1] - problem["mode_ptr"][v] - 1 for v in range(problem["operators"])]
    tiles = [1] * len(modes)
    better_modes, better_tiles = p.climb(modes, tiles, 200, 1, 7, 0, 0)
    assert p.score(better_modes, better_tiles, 0, 0) <= p.score(modes, tiles, 0, 0)
    chosen = [problem["mode_ptr"][v] + m for v, m in enumerate(better_modes)]
    resident = sum(problem["mode_resident"][m] for m in chosen if problem["mode_device"][m] == 1)
    assert resident <= problem["dev_capacity"][1]


def test_a_streamed_consumer_starts_on_the_first_tile() -> None:
    """Two operators of 4 tiles and 40 ticks: the second one, elsewhere, trails the first by one tile."""
    d = two_operators(rows=4, in_rows=4, window=1)
    latency, _, _, tasks, _ = core.Problem(d).trace([0, 0], [4, 4])
    assert tasks == [(0, -1, -1, 0, 40), (1, -1, -1, 10, 50)]
    assert latency == 50


def test_a_halo_of_two_rows_delays_the_consumer_by_two_tiles() -> None:
    d = two_operators(rows=4, in_rows=4, window=3)
    _, _, _, tasks, _ = core.Problem(d).trace([0, 0], [4, 4])
    assert tasks[1] == (1, -1, -1, 30, 70)


def test_a_full_input_waits_for_the_end() -> None:
    d = two_operators(rows=4, in_rows=0, window=1)
    _, _, _, tasks, _ = core.Problem(d).trace([0, 0], [4, 4])
    assert tasks[1] == (1, -1, -1, 40, 80)


def two_operators(rows: int, in_rows: int, window: int) -> dict[str, Any]:
    """A chain of two operators of 40 ticks on two devices that share a memory."""
    return {
        "operators": 2, "tensors": 3, "devices": 2, "memories": 1, "links": 0, "io_memory": 0, "handoff": 0,
        "rows": [rows, rows], "rank": [2, 1], "alike": [0, 1], "producer": [-1, 0, 1], "out_ptr": [0, 1, 2], "out_tensor": [1, 2],
        "in_ptr": [0, 1, 2], "in_tensor": [0, 1], "in_rows": [0, in_rows], "in_window": [1, window],
        "in_stride": [1, 1], "in_pad": [0, 0], "cons_ptr": [0, 1, 2, 2], "cons_op": [0, 1], "sink": [0, 0, 1],
        "dev_memory": [0, 0], "dev_overhead": [0, 0], "dev_static": [0.0, 0.0], "dev_capacity": [0, 0],
        "link_of": [-1], "link_channels": [], "link_overhead": [], "xfer_work": [], "xfer_energy": [],
        "mode_ptr": [0, 1, 2], "mode_device": [0, 1], "mode_work": [40, 40], "mode_energy": [0, 0],
        "mode_resident": [0, 0],
    }  # fmt: skip


spans = st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(1, 9))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(spans, max_size=20), st.integers(0, 60), st.sampled_from([0, 60]), st.sampled_from([1, 1 << 40])
)
def test_packing_never_overlaps_and_is_the_same_in_c_and_python(
    buffers: list[tuple[int, int, int]], enough: int, steps: int, unit: int
) -> None:
    starts = [start * unit for start, _, _ in buffers]
    ends = [(start + length) * unit for start, length, _ in buffers]
    sizes = [size * unit for _, _, size in buffers]
    offsets, peak, bound = core.pack(starts, ends, sizes, enough, steps)
    assert (offsets, peak, bound) == packing.pack(starts, ends, sizes, enough, steps)
    assert peak == max((o + size for o, size in zip(offsets, sizes, strict=True)), default=0)
    assert peak >= bound == packing.peak_bytes(starts, ends, sizes)[0]
    _check_apart(offsets, starts, ends, sizes)


def test_a_climb_over_orders_lowers_the_peak() -> None:
    starts, ends, sizes = [4, 1, 8, 5, 3, 1, 6, 7], [7, 2, 11, 9, 5, 7, 10, 10], [4, 5, 5, 3, 8, 2, 1, 1]
    assert core.pack(starts, ends, sizes, 0, 0)[1] == packing.pack(starts, ends, sizes, 0, 0)[1] == 15
    assert core.pack(starts, ends, sizes, 0, 400)[1] == packing.pack(starts, ends, sizes, 0, 400)[1] == 14


def _check_apart(offsets: list[int], starts: list[int], ends: list[int], sizes: list[int]) -> None:
    """Buffers that live at the same time do not overlap."""
    for a, b in itertools.combinations(range(len(offsets)), 2):
        if starts[a] < ends[b] and starts[b] < ends[a]:
            assert offsets[a] + sizes[a] <= offsets[b] or offsets[b] + sizes[b] <= offsets[a]


@settings(max_examples=100, deadline=None)
@given(st.lists(spans, max_size=20))
def test_the_peak_is_the_most_bytes_alive_at_any_tick(buffers: list[tuple[int, int, int]]) -> None:
    columns = [b[0] for b in buffers], [b[0] + b[1] for b in buffers], [b[2] for b in buffers]
    alive = [sum(size for start, length, size in buffers if start <= t < start + length) for t in range(61)]
    assert core.peak_bytes(*columns) == packing.peak_bytes(*columns)
    assert core.peak_bytes(*columns) == (max(alive), alive.index(max(alive)))


@needs_native
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_starts_are_the_same_in_c_and_python_and_no_worse(data: st.DataObject) -> None:
    problem = data.draw(problems())
    if data.draw(st.booleans()):
        problem = data.draw(with_memories(problem))
    given = [data.draw(placements(problem)) for _ in range(3)]
    rated = data.draw(st.integers(0, 4)), data.draw(st.sampled_from([0, 100])), data.draw(st.integers(1, 3))
    compiled, python = native.Problem(problem), reference.Problem(problem)
    choices = [modes for modes, _ in given], [tiles for _, tiles in given]
    best = compiled.best(*choices, *rated)
    assert best == python.best(*choices, *rated)
    finest, mask = data.draw(placements(problem))[1], data.draw(st.integers(0, 7))
    found = compiled.offload(*best, mask, finest, *rated)
    assert found == python.offload(*best, mask, finest, *rated)
    assert found <= best
    objective, budget, frames = rated
    for score, tiles, modes in (best, found):
        scores = [python.score(modes, tiles, objective, budget, None, count) for count in {2, frames}]
        assert score == (
            min(scores) if objective == 3 else python.score(modes, tiles, objective, budget, None, frames)
        )


def test_the_best_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to choose"):
        core.Problem(two_operators(1, 0, 1)).best([], [[1, 1]], 0, 0, 1)


@needs_native
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_to_spill_is_the_same_in_c_and_python_and_enough(data: st.DataObject) -> None:
    problem = data.draw(problems())
    modes, tiles = data.draw(placements(problem))
    n, tensors = problem["operators"], problem["tensors"]
    _, _, _, rows, buffers = reference.Problem(problem).trace(modes, tiles)
    sizes = data.draw(
        st.lists(st.sampled_from([0, 8, 16, 20, 64, 64, 100]), min_size=tensors, max_size=tensors)
    )
    inputs = [problem["in_tensor"][problem["in_ptr"][v] : problem["in_ptr"][v + 1]] for v in range(n)]
    joins = data.draw(st.sets(st.integers(0, n - 1), max_size=3))
    parts = [
        (v, tensor, v + 1, 8 * k) for v in sorted(joins, reverse=True) for k, tensor in enumerate(inputs[v])
    ]
    writes = [(v, data.draw(st.sampled_from(inputs[v])), v + 1) for v in range(n) if data.draw(st.booleans())]
    rooms = [(data.draw(st.sampled_from([1, 16])), data.draw(st.integers(-1, 400))) for _ in range(2)]
    gone = sorted(data.draw(st.sets(st.tuples(st.integers(0, tensors - 1), st.integers(0, 1)), max_size=3)))
    arguments = modes, rows, buffers, sizes, parts, writes, rooms
    spilled = native.Problem(problem).overflowing(*arguments, gone)
    assert spilled == reference.Problem(problem).overflowing(*arguments, gone)
    assert not native.Problem(problem).overflowing(*arguments, [*gone, *spilled])


@needs_native
def test_spilling_refuses_what_is_no_trace() -> None:
    problem = native.Problem(two_operators(1, 0, 1))
    good: dict[str, Any] = {
        "modes": [0, 0], "rows": [], "buffers": [], "sizes": [1, 1, 1], "parts": [], "writes": [],
        "rooms": [(1, 10)], "gone": [],
    }  # fmt: skip
    assert problem.overflowing(*good.values()) == []
    for name, value, error in (
        ("modes", [0, 2], ValueError), ("rows", [(5, -1, -1, 0, 1)], ValueError), ("rows", [(0, 1)], TypeError),
        ("buffers", [(3, 0, 0, 1)], ValueError), ("buffers", [(0, 1, 0, 1)], ValueError), ("sizes", [1], ValueError),
        ("parts", [(0, 0, 9, 0)], ValueError), ("writes", [(2, 0, 1)], ValueError), ("rooms", [], ValueError),
        ("rooms", [(0, 10)], ValueError), ("gone", [(0, 4)], ValueError), ("gone", [("a", 0)], TypeError),
    ):  # fmt: skip
        with pytest.raises(error):
            problem.overflowing(*{**good, name: value}.values())


@needs_native
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_reuse_waits_are_the_same_in_c_and_python(data: st.DataObject) -> None:
    """Random tasks in random queues, each waiting for random earlier ones and using random buffers, some inside others."""
    n = data.draw(st.integers(1, 12))
    queue = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    place = [queue[:t].count(queue[t]) for t in range(n)]
    waits = [sorted(data.draw(st.sets(st.integers(0, t - 1), max_size=2))) if t else [] for t in range(n)]
    done = [data.draw(st.integers(-1, 1)) for group in waits for _ in group]
    buffers = [
        (data.draw(st.integers(0, 1)), data.draw(st.integers(0, 6)), data.draw(st.integers(0, 4)))
        for _ in range(n)
    ]
    reads = [sorted(data.draw(st.sets(st.integers(0, t - 1), max_size=3))) if t else [] for t in range(n)]
    writes = [[t, *data.draw(st.sets(st.integers(0, n - 1), max_size=1))] for t in range(n)]
    arguments = (
        [10 * t for t in range(n)], [10 * t + 5 for t in range(n)], queue, place,
        [0, *itertools.accumulate(map(len, waits))], [u for group in waits for u in group], done,
        [0, *itertools.accumulate(map(len, reads))], [b for group in reads for b in group],
        [0, *itertools.accumulate(map(len, writes))], [b for group in writes for b in group],
        [b[0] for b in buffers], [b[1] for b in buffers], [b[2] for b in buffers],
        [10 * t for t in range(n)], [10 * t + 5 for t in range(n)],
    )  # fmt: skip
    assert native.reuse_waits(*arguments) == reuse.reuse_waits(*arguments)
