"""Pipeline: several frames in flight.

In:  the schedule of one frame, without memory, the simulated placement. Out: the schedule with stages and lags.

Rules:
1. One frame in flight and no fixed period: nothing changes.
2. Up to `Options.frames` frames in flight: the periodic schedule of the smallest initiation interval whose latency is at
   most that many intervals.
3. A fixed period: of the schedules that keep up, the one with the shortest latency at that period. If none does, an
   error says what is needed.
4. Only schedules whose buffers fit the memories count: if none does, one frame is in flight.
5. The placement is that of one frame; data waits keep the frame, so a wait's lag is the difference of the stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from h4hc.errors import InfeasibleError, Shortage
from h4hc.ir.compilation import Compilation, Options
from h4hc.ir.schedule import TICK_SECONDS, Point, Schedule, Task
from h4hc.passes.allocate import place_buffers
from h4hc.passes.periodic import Machine, Periodic, candidates, machine, slowed

_SLOWER = 8  # attempts to bring a plan down to the frames that are allowed


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Overlap consecutive frames."""

    name: str = "pipeline"
    needs: tuple[str, ...] = ("graph", "placement", "simulated", "schedule")
    provides: tuple[str, ...] = ("schedule",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `schedule` for `Options.frames` frames in flight."""
        if compilation.schedule is None:
            raise ValueError("pipeline needs a schedule")
        options = compilation.options
        if options.frames == 1 and options.interval_seconds is None:
            return compilation
        schedule = overlapped(compilation.schedule, options, partial(_fits, compilation))
        static = round(_static_power(compilation) * schedule.initiation_interval)
        return replace(compilation, schedule=replace(schedule, static_energy=static))


def _static_power(compilation: Compilation) -> float:
    """Picojoules per tick of the devices that have work; they are powered from one frame to the next."""
    if compilation.simulated is None:
        raise ValueError("pipeline needs a simulated placement")
    used = compilation.simulated.trace[2]
    watts: list[float] = compilation.simulated.system.data["dev_static"]
    return sum(power for device, power in enumerate(watts) if used >> device & 1)


def _fits(compilation: Compilation, schedule: Schedule) -> bool:
    try:
        place_buffers(compilation, schedule)
    except InfeasibleError:
        return False
    return True


def overlapped(schedule: Schedule, options: Options, fits: Callable[[Schedule], bool]) -> Schedule:
    """`schedule` with up to `options.frames` frames in flight, or at the fixed period of the options.

    `fits` says whether the buffers of a schedule have room.
    """
    plant = machine(schedule.tasks, schedule.queues)
    alone = Point(1, schedule.latency, schedule.latency)
    period = None
    if options.interval_seconds is not None:
        period = round(options.interval_seconds / TICK_SECONDS)
        if period >= schedule.latency:
            return replace(schedule, initiation_interval=period, front=(alone,))
    slow_enough = (_within(plant, plan, options.frames) for plan in candidates(plant, options.frames))
    plans = [plan for plan in slow_enough if plan is not None and plan.interval < schedule.latency]
    roomy = [plan for plan in plans if fits(_with_plan(schedule, plan))]
    front = (alone, *(Point(_frames(p), p.interval, p.latency) for p in _nondominated(roomy)))
    if period is None:
        best = min(roomy, key=lambda plan: (plan.interval, plan.latency), default=None)
        return replace(schedule if best is None else _with_plan(schedule, best), front=front)
    slower = (slowed(plant, plan, period) for plan in plans if plan.interval <= period)
    steady = [plan for plan in slower if plan.latency <= options.frames * period]
    for plan in sorted(steady, key=lambda plan: plan.latency):
        result = _with_plan(schedule, plan)
        if fits(result):
            return replace(result, front=front)
    raise _too_fast(schedule, options, plans, period)


def _within(plant: Machine, plan: Periodic, frames: int) -> Periodic | None:
    """`plan`, slowed down until at most `frames` frames are in flight; None if that takes more than a few steps."""
    for _ in range(_SLOWER):
        if _frames(plan) <= frames:
            return plan
        plan = slowed(plant, plan, max(plan.interval + 1, -(-plan.latency // frames)))
    return None


def _frames(plan: Periodic) -> int:
    """How many frames are in flight at a time."""
    return -(-plan.latency // plan.interval)


def _nondominated(plans: Sequence[Periodic]) -> list[Periodic]:
    kept: list[Periodic] = []
    for plan in sorted(plans, key=lambda plan: (plan.latency, plan.interval)):
        if not kept or plan.interval < kept[-1].interval:
            kept.append(plan)
    return kept


def _with_plan(schedule: Schedule, plan: Periodic) -> Schedule:
    tasks = tuple(_staged(task, plan) for task in schedule.tasks)
    names = [name for name, _ in schedule.queues]
    return replace(
        schedule,
        tasks=tasks,
        queues=tuple(zip(names, plan.orders, strict=True)),
        latency=plan.latency,
        initiation_interval=plan.interval,
        frames_in_flight=_frames(plan),
    )


def _staged(task: Task, plan: Periodic) -> Task:
    stage = plan.stages[task.id]
    waits = tuple(replace(wait, lag=stage - plan.stages[wait.task]) for wait in task.waits)
    return replace(task, start=plan.starts[task.id], end=plan.ends[task.id], stage=stage, waits=waits)


def _too_fast(
    schedule: Schedule, options: Options, plans: Sequence[Periodic], period: int
) -> InfeasibleError:
    best = min((plan.interval for plan in plans), default=schedule.latency)
    wanted = f"{period * TICK_SECONDS * 1e3:g} ms"
    if schedule.interval_bound > period:
        return InfeasibleError(
            f"a frame every {wanted} is not possible: the busiest device or channel works "
            f"{schedule.interval_bound * TICK_SECONDS * 1e3:g} ms a frame",
            code="interval",
            hint="choose a faster target or a smaller model, or move work to another device with --pin",
            shortage=_slow(schedule.interval_bound, period, ("frame rate", "target", "model")),
        )
    if best <= period:
        return InfeasibleError(
            f"a frame every {wanted} needs more memory for the frames in flight than the target has",
            code="interval",
            hint="enlarge the memories, or give their devices a spill memory",
        )
    return InfeasibleError(
        f"a frame every {wanted} is not reached with {options.frames} frames in flight: "
        f"the best is {best * TICK_SECONDS * 1e3:g} ms",
        code="interval",
        hint="allow more frames in flight with --frames",
        shortage=_slow(best, period, ("frames in flight", "frame rate")),
    )


def _slow(interval: int, period: int, change: tuple[str, ...]) -> Shortage:
    return Shortage("frame period", interval * TICK_SECONDS, period * TICK_SECONDS, "s", change)
