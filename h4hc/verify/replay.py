"""V20: a discrete-event run of the queues that knows only waits, tiles and durations.

end(k) of a task = start(k) + duration(k); start(k) = the latest of: the end of tile k - 1 (for k = 0: of the
queue's task before), and for each wait with a count above zero the end of the awaited tile plus the latency.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from h4hc.verify.document import Task
from h4hc.verify.plan import Plan, tile_bounds
from h4hc.verify.report import Tally

JITTER_RUNS = 4
Durations = Callable[[Task], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Times:
    """When the tiles of each task started and ended."""

    starts: Mapping[int, list[int]]
    ends: Mapping[int, list[int]]

    def span(self, task: Task) -> tuple[int, int]:
        """Start of the first tile and end of the last."""
        return self.starts[task.id][0], self.ends[task.id][-1]

    @property
    def makespan(self) -> int:
        """End of the last task."""
        return max((ends[-1] for ends in self.ends.values()), default=0)


def run(plan: Plan, durations: Durations) -> Times | None:
    """Run all queues; None if they block each other."""
    queues = [[plan.tasks[number] for number in ids] for ids in plan.document.queues.values()]
    starts: dict[int, list[int]] = {task.id: [] for tasks in queues for task in tasks}
    ends: dict[int, list[int]] = {task.id: [] for tasks in queues for task in tasks}
    position, clock = [0] * len(queues), [0] * len(queues)
    moving = True
    while moving:
        moving = False
        for index, tasks in enumerate(queues):
            while position[index] < len(tasks):
                task = tasks[position[index]]
                done = len(ends[task.id])
                clock[index] = _run_task(task, durations(task), clock[index], starts, ends)
                moving = moving or len(ends[task.id]) > done
                if len(ends[task.id]) < task.tiles:
                    break
                position[index] += 1
    finished = all(place == len(tasks) for place, tasks in zip(position, queues, strict=True))
    return Times(starts, ends) if finished else None


def _run_task(
    task: Task, durations: Sequence[int], now: int, starts: dict[int, list[int]], ends: dict[int, list[int]]
) -> int:
    """Run the tiles of `task` until one is blocked; returns the time at which the queue stands."""
    own = ends[task.id]
    for tile in range(len(own), task.tiles):
        start = now
        for wait in task.waits:
            count = wait.counts[tile]
            if not count:
                continue
            awaited = ends[wait.task]
            if len(awaited) < count:
                return now
            start = max(start, awaited[count - 1] + wait.latency)
        starts[task.id].append(start)
        now = start + durations[tile]
        own.append(now)
    return now


def nominal(task: Task) -> Sequence[int]:
    """The planned ticks of each tile."""
    return tile_bounds(task.work, task.tiles)


def nominal_replay(plan: Plan) -> tuple[Tally, Times | None]:
    """The run with planned durations gives the planned times, and the data is there in time."""
    tally = Tally()
    times = run(plan, nominal)
    if times is None:
        tally.expect(False, "the queues block each other")
        return tally, None
    summary = plan.document.summary
    several = summary.frames_in_flight > 1
    for task in plan.document.tasks:
        found = times.span(task)
        # While the first frames fill the pipeline, and at a fixed period, tasks may run ahead of the steady state.
        kept = task.idle or found[1] <= task.end if several else found == (task.start, task.end)
        tally.expect(kept, f"{task.label} runs {found[0]}..{found[1]}, planned {task.start}..{task.end}")
    if not several:
        tally.expect(
            times.makespan == summary.latency,
            f"the replay ends at {times.makespan}, stated latency {summary.latency}",
        )
    return tally, times


def jitter_replays(plan: Plan, seed: int = 0) -> Tally:
    """Runs in which every tile takes 0.5 to 1.5 times its planned time: no deadlock, no hazard."""
    tally = Tally()
    generator = random.Random(seed)

    def jittered(task: Task) -> list[int]:
        return [round(ticks * generator.uniform(0.5, 1.5)) for ticks in nominal(task)]

    for number in range(JITTER_RUNS):
        drawn = {task.id: jittered(task) for task in plan.document.tasks}
        times = run(plan, lambda task, drawn=drawn: drawn[task.id])  # type: ignore[misc]
        if (
            tally.expect(times is not None, f"run {number}: the queues block each other")
            and times is not None
        ):
            _expect_data(tally, plan, times, f"run {number}")
            _expect_memory(tally, plan, times, f"run {number}")
    return tally


def _expect_data(tally: Tally, plan: Plan, times: Times, what: str) -> None:
    for demand in plan.demands:
        there = times.ends[demand.writer.id][demand.count - 1]
        start = times.starts[demand.reader.id][demand.tile]
        tally.count += 1
        if there > start:
            tally.problems.append(
                f"{what}: tile {demand.tile} of {demand.reader.label} starts at {start}, but "
                f"{demand.tensor!r} is there at {there}"
            )


def _expect_memory(tally: Tally, plan: Plan, times: Times, what: str) -> None:
    """No buffer is written while an older one at the same address is in use."""
    for take in plan.takeovers:
        free = max((times.span(task)[1] for task in take.users), default=0)
        taken = min(times.span(task)[0] for task in take.writers)
        tally.expect(
            free <= taken,
            f"{what}: buffer {take.later.id} ({take.later.tensor!r}) is written at {taken}, but buffer "
            f"{take.earlier.id} ({take.earlier.tensor!r}) is in use until {free}",
        )
