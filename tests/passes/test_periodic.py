"""Several frames in flight: the cyclic schedule of a queue machine."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.ir.schedule import Task, Wait
from h4hc.passes import core
from h4hc.passes.closed_loop import Machine, closed_loop, machine
from h4hc.passes.core import looping
from h4hc.passes.periodic import Periodic, candidates, periodic, quickest, slowed


def task(id_: int, queue: str, work: int, *sources: int, tiles: int = 1) -> Task:
    waits = tuple(Wait(source, (1,) * tiles) for source in sources)
    return Task(id_, "compute", queue, f"o{id_}", "", 0, 0, work, tiles, 0, 0, waits, (), ())


def plant(*tasks: Task) -> Machine:
    queues: dict[str, list[int]] = {}
    for item in tasks:
        queues.setdefault(item.resource, []).append(item.id)
    return machine(tasks, [(name, tuple(order)) for name, order in queues.items()])


# npu 10, cim 20, npu 10: one frame takes 40; two frames fill the pauses of npu behind cim.
ZIGZAG = plant(task(0, "npu", 10), task(1, "cim", 20, 0), task(2, "npu", 10, 1))


def test_two_frames_fill_the_pauses() -> None:
    assert [min(starts) for starts in closed_loop(ZIGZAG, 1, 3)] == [0, 40, 80]
    (best, *_) = candidates(ZIGZAG, 2)
    assert best.interval == 20
    assert best.latency == 40
    assert best.stages == (0, 0, 1)
    assert best.starts == (0, 10, 30)


def test_the_interval_of_an_order() -> None:
    """In the order of one frame nothing overlaps on npu: 40. With the last task a stage behind: 20."""
    assert periodic(ZIGZAG, [0, 10, 30], 100, 2).interval == 40
    assert periodic(ZIGZAG, [0, 10, 30], 20, 2).interval == 20


def test_a_frame_begins_when_the_one_a_window_before_has_ended() -> None:
    """A chain of 10, 20 and 10 on three queues: the load allows 20, two frames in flight too, but one frame 40."""
    chain = plant(task(0, "a", 10), task(1, "b", 20, 0), task(2, "c", 10, 1))
    assert periodic(chain, [0, 10, 30], 20, 2).interval == 20
    alone = periodic(chain, [0, 10, 30], 20, 1)
    assert (alone.interval, alone.latency) == (40, 40)


def test_a_task_may_wait_for_the_frame_before() -> None:
    """Without the wait two frames overlap: 20. If each frame begins behind all of the one before: 30."""
    first, second = task(0, "a", 10), task(1, "b", 20, 0)
    assert quickest(plant(first, second), ((0,), (1,)), (0, 0), 2).interval == 20
    behind = first._replace(waits=(Wait(1, (1,), reason="order", lag=1),))
    assert quickest(plant(behind, second), ((0,), (1,)), (0, 0), 2).interval == 30


def test_slowed_down_schedules_keep_the_order_and_the_waits() -> None:
    plan = slowed(ZIGZAG, periodic(ZIGZAG, [0, 10, 30], 20, 2), 25, 2)
    assert plan.interval == 25
    assert plan.latency == 45  # the last task waits for the next frame's first one
    with pytest.raises(ValueError, match="not feasible"):
        slowed(ZIGZAG, periodic(ZIGZAG, [0, 10, 30], 20, 2), 19, 2)


machines = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(1, 30),
        st.lists(st.integers(0, 20), max_size=2),
        st.integers(1, 3),
    ),
    min_size=2,
    max_size=7,
).map(
    lambda rows: plant(
        *(
            task(i, queue, work, *dict.fromkeys(s % i for s in sources if i), tiles=min(tiles, work))
            for i, (queue, work, sources, tiles) in enumerate(rows)
        )
    )
)


def run(item: Machine, plan: Periodic, frames: int, window: int) -> list[list[list[int]]]:
    """Tile ends by frame and task if the queues run in the order of the plan as early as they can.

    At most `window` frames are in flight.
    """
    ends: list[list[list[int]]] = [[[] for _ in item.queue] for _ in range(frames)]
    free = [0] * len(item.orders)
    windows = frames + max(plan.stages)
    pending = {
        q: [
            (r - plan.stages[t], t) for r in range(windows) for t in order if 0 <= r - plan.stages[t] < frames
        ]
        for q, order in enumerate(plan.orders)
    }
    while any(pending.values()):
        moved = False
        for q, entries in pending.items():
            while entries:
                frame, t = entries[0]
                earlier = ends[frame - window] if frame >= window else []
                if any(not tiles for tiles in earlier):
                    break
                if any(not ends[frame][edge.source] for edge in item.waits[t]):
                    break
                moment = max([free[q], *(tiles[-1] for tiles in earlier)])
                for k, duration in enumerate(item.durations[t]):
                    for source, counts, latency, _ in item.waits[t]:
                        if counts[k]:
                            moment = max(moment, ends[frame][source][counts[k] - 1] + latency)
                    moment += duration
                    ends[frame][t].append(moment)
                free[q] = moment
                entries.pop(0)
                moved = True
        assert moved, "the cyclic order is a deadlock"
    return ends


@given(machines, st.integers(2, 3))
def test_plans_are_kept_by_the_machine(item: Machine, window: int) -> None:
    """Executed as early as possible, no frame is later than planned, and the interval is not overstated."""
    plans = candidates(item, window)
    assert plans
    for plan in plans:
        assert plan.interval >= max(item.load)
        assert plan.latency <= window * plan.interval
        frames = 40
        ends = run(item, plan, frames, window)
        for frame, tasks in enumerate(ends):
            for t, tiles in enumerate(tasks):
                assert tiles[-1] <= plan.ends[t] + frame * plan.interval
        finished = [max(tiles[-1] for tiles in tasks) for tasks in ends]
        assert finished[-1] - finished[15] > (plan.interval - 1) * (frames - 16) - plan.interval


def smallest_interval_by_cycles(item: Machine, plan: Periodic, window: int) -> float:
    """Maximum cycle ratio over all simple cycles of the task graph (tasks of one tile, `window` frames in flight)."""
    n = len(item.queue)
    arcs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for t, edges in enumerate(item.waits):
        for edge in edges:
            arcs.setdefault((edge.source, t), []).append(
                (item.durations[edge.source][0], plan.stages[t] - plan.stages[edge.source])
            )
    for order in plan.orders:
        for a, b in zip(order, (*order[1:], order[0]), strict=True):
            arcs.setdefault((a, b), []).append((item.durations[a][0], int(b == order[0])))
    for a, b in product(range(n), repeat=2):
        arcs.setdefault((a, b), []).append((item.durations[a][0], window + plan.stages[b] - plan.stages[a]))
    best = 0.0
    stack = [(start, start, 0, 0, frozenset([start])) for start in range(n)]
    while stack:
        start, at, length, lag, seen = stack.pop()
        for b in range(n):
            for duration, more in arcs.get((at, b), ()):
                if b == start and lag + more:
                    best = max(best, (length + duration) / (lag + more))
                elif b > start and b not in seen:
                    stack.append((start, b, length + duration, lag + more, seen | {b}))
    return best


@given(machines.filter(lambda item: len(item.queue) < 7), st.integers(1, 60), st.integers(1, 3))
def test_the_interval_is_the_maximum_cycle_ratio(item: Machine, period: int, window: int) -> None:
    single = Machine(
        item.queue, tuple((sum(d),) for d in item.durations),
        tuple(tuple(e._replace(counts=(1,)) for e in edges) for edges in item.waits), item.orders,
    )  # fmt: skip
    starts = closed_loop(single, 1, 1)[0]
    plan = periodic(single, starts, period, window)
    before = plan.interval
    exact = smallest_interval_by_cycles(single, plan, window)
    assert before == -(-round(exact * 5040) // 5040) or before == int(exact) + (exact > int(exact))


def test_all_orders_of_a_small_machine_are_no_better_than_the_load() -> None:
    """Exhaustive: every choice of stages within two frames, the best interval is the load of npu."""
    found = []
    for stages in product(range(3), repeat=3):
        offsets = [stage * 40 + start for stage, start in zip(stages, (0, 10, 30), strict=True)]
        if offsets[0] + 10 <= offsets[1] and offsets[1] + 20 <= offsets[2]:
            found.append(periodic(ZIGZAG, offsets, 40, 4).interval)
    assert min(found) == max(ZIGZAG.load) == 20


@st.composite
def loops(draw: st.DrawFn) -> dict[str, list[int]]:
    """Random tasks on up to three queues, with any counts and latencies; a wait may be for any task."""
    count, queues = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    data: dict[str, list[int]] = {
        "queue": draw(st.lists(st.integers(0, queues - 1), min_size=count, max_size=count))
    }
    data |= {
        "tile_ptr": [0],
        "duration": [],
        "wait_ptr": [0],
        "wait_task": [],
        "wait_latency": [],
        "counts": [],
    }
    tiles = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    forward = draw(st.booleans())
    for task_ in range(count):
        data["duration"] += draw(st.lists(st.integers(0, 9), min_size=tiles[task_], max_size=tiles[task_]))
        data["tile_ptr"].append(len(data["duration"]))
        last = count - 1 if forward else task_ - 1
        for source in draw(st.lists(st.integers(0, last), max_size=3)) if last >= 0 else ():
            counts = st.lists(st.integers(0, tiles[source]), min_size=tiles[task_], max_size=tiles[task_])
            data["wait_task"].append(source)
            data["wait_latency"].append(draw(st.integers(0, 4)))
            data["counts"] += sorted(draw(counts))
        data["wait_ptr"].append(len(data["wait_task"]))
    orders = [
        [t for t in draw(st.permutations(range(count))) if data["queue"][t] == q] for q in range(queues)
    ]
    data["order"] = [t for order in orders for t in order]
    data["order_ptr"] = [sum(map(len, orders[:q])) for q in range(queues + 1)]
    return data


@pytest.mark.skipif(not core.COMPILED, reason="there is no compiled core to compare with")
@given(st.data())
def test_loops_are_the_same_in_c_and_python(data: st.DataObject) -> None:
    """Also where the order has a circle, or a wait goes to a window that is still to come."""
    given_ = data.draw(loops())
    count, waits = len(given_["queue"]), len(given_["wait_task"])
    compiled, python = core.Loop(given_), looping.Loop(given_)
    frames = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), data.draw(st.integers(0, 5))
    assert compiled.closed(*frames) == python.closed(*frames)
    stages = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    lags = data.draw(st.lists(st.integers(-1, 3), min_size=waits, max_size=waits))
    given_["order"] = [t for q in range(len(given_["order_ptr"]) - 1)
                       for t in data.draw(st.permutations([t for t in given_["order"] if given_["queue"][t] == q]))]  # fmt: skip

    def outcome(loop: Any) -> Any:
        try:
            found = loop.smallest_interval(given_["order"], stages, lags, frames[0])
            return found, [
                loop.times(given_["order"], stages, lags, frames[0], found + more) for more in (-1, 0, 3)
            ]
        except ValueError as error:
            return str(error).removeprefix("loop: ")

    assert outcome(compiled) == outcome(python)


@pytest.mark.skipif(not core.COMPILED, reason="there is no compiled core to compare with")
@pytest.mark.parametrize(
    "change",
    [
        {"queue": [0, 2]},
        {"order": [0, 0]},
        {"counts": [3]},
        {"wait_task": [5]},
        {"tile_ptr": [0, 2, 1]},
        {"duration": []},
    ],
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, list[int]]) -> None:
    fine = {"queue": [0, 0], "tile_ptr": [0, 1, 2], "duration": [4, 5], "wait_ptr": [0, 0, 1], "wait_task": [0],
            "wait_latency": [0], "counts": [1], "order_ptr": [0, 2], "order": [0, 1]}  # fmt: skip
    assert core.Loop(fine).closed(1, 2, 0) == [[0, 4], [9, 13]]
    with pytest.raises(ValueError):
        core.Loop({**fine, **change})
