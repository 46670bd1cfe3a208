"""Pipeline: several frames in flight.

In:  the schedule of one frame, without memory, the simulated placement. Out: the schedule with stages and lags.

Rules:
1. One frame in flight and no fixed period: nothing changes.
2. Up to `Options.window` frames in flight: the periodic schedule of the smallest initiation interval whose latency is at
   most that many intervals, and within the budget if there is one.
3. A fixed period: of the schedules that keep up, the one with the shortest latency at that period. If none does, a
   placement for the throughput is searched; if that does not keep up either, an error says what is needed, unless weights
   may be fetched ahead: then that has the last word.
4. Only schedules whose buffers fit the memories count: if none does, one frame is in flight.
5. The placement is that of one frame, but for the throughput, where every placement that the partition passed on is tried
   and the smallest interval wins. The first one is searched on in its cyclic order (h4hc.passes.tuned), and the result is
   tried, too. Data waits keep the frame, so a wait's lag is the difference of the stages.
6. A claim says below which interval no placement comes, unless exact effort has proved a better one. It holds with weights
   fetched ahead (h4hc.passes.prefetch), too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from h4hc.errors import InfeasibleError
from h4hc.ir.claim import BOUND, Claim
from h4hc.ir.compilation import Compilation, Options
from h4hc.ir.schedule import Point, Schedule, Task
from h4hc.passes.allocate import place_buffers
from h4hc.passes.closed_loop import Machine, frames_between, machine
from h4hc.passes.exact.fetched import with_fetches_free
from h4hc.passes.load import least_load
from h4hc.passes.memory import oversized
from h4hc.passes.partition import Partition
from h4hc.passes.periodic import Periodic, candidates, periodic, slowed
from h4hc.passes.problem import build_system, with_spills
from h4hc.passes.rates import impossible, too_fast
from h4hc.passes.relieve import spilling
from h4hc.passes.schedule import make_schedule
from h4hc.passes.tuned import Order, minding_memories, retuned, settled, simulation_of, tightened, tuned

_RELIEVED = 5  # buffers spilled for the sake of frames in flight
_WORTHWHILE = 0.995  # of the interval, for which a buffer is spilled
_HOPELESS = 1.35  # times the interval
_SLOWER = 8  # attempts to bring a plan down to the frames that are allowed


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A placement with its schedule of one frame, and orders to try; `tuned`: the first was searched for."""

    compilation: Compilation
    orders: Sequence[Order] = ()
    tuned: bool = False


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Overlap consecutive frames."""

    name: str = "pipeline"
    needs: tuple[str, ...] = ("graph", "placement", "simulated", "schedule")
    provides: tuple[str, ...] = ("schedule", "claims")

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `schedule` for `Options.window` frames in flight."""
        options = compilation.options
        if options.window == 1 and options.interval_seconds is None:
            return compilation
        try:
            found = _best(compilation, options.objective == "throughput")
        except InfeasibleError as error:
            if options.interval_seconds is None:
                raise
            throughput = options.objective == "throughput"
            found = _too_slow(compilation, error) if throughput else _balanced(compilation)
        rivals = found.rivals
        if options.fetches and options.interval_seconds is not None and found is not compilation:
            rivals = ("", replace(compilation, alternatives=(), rivals=())), *rivals
        return replace(found, claims=_claims(found), alternatives=(), rivals=rivals)


def _best(compilation: Compilation, balanced: bool) -> Compilation:
    """`compilation`, or one of its alternatives that may be better, with frames overlapped.

    `balanced`: by placements for the throughput. Then what would be better but for its memory is tried again with a
    buffer of it spilled, or searched on with less memory.
    """
    done: list[Compilation] = []
    failure: InfeasibleError | None = None
    given = (compilation, *_alternatives(compilation))
    waiting = [(_Candidate(other, settled(other) if balanced else ()), _RELIEVED) for other in given]
    if balanced:
        waiting[:0] = [(candidate, _RELIEVED) for candidate in _searched(compilation)]
    while waiting:
        candidate, rounds = waiting.pop(0)
        least = min(done, key=_interval_and_latency, default=None)
        if least is not None and candidate.compilation is not compilation and _hopeless(candidate, least):
            continue
        lacks: list[tuple[Schedule, InfeasibleError]] = []
        try:
            found = _overlapped(candidate, lacks)
        except InfeasibleError as error:
            failure = failure or error
            found = None
        if found is not None:
            done.append(found)
        least = min(done, key=_interval_and_latency, default=None)
        if balanced and rounds:
            better = _relieved(candidate, lacks, least, tighten=rounds == _RELIEVED)
            if better is not None:  # what was searched for is worth most, and then spares the others
                waiting.insert(0 if better.tuned else len(waiting), (better, rounds - 1))
    if not done:
        raise failure or ValueError("pipeline has nothing to choose from")
    best, *others = sorted(done, key=_interval_and_latency)
    if not others or not compilation.options.fetches or compilation.options.period_ticks:
        return best
    return replace(best, rivals=(*best.rivals, ("", replace(others[0], alternatives=(), rivals=()))))


def _hopeless(candidate: _Candidate, least: Compilation) -> bool:
    """Whether in the closed loop every order is so much slower than `least` that no other order of its tasks makes up for it."""
    late, interval, _ = _interval_and_latency(least)
    return (
        not late
        and bool(candidate.orders)
        and min(o.period for o in candidate.orders) >= interval * _HOPELESS
    )


def _overlapped(candidate: _Candidate, lacks: list[tuple[Schedule, InfeasibleError]]) -> Compilation:
    """The candidate with frames overlapped; schedules for which there is no room are added to `lacks`."""
    compilation = candidate.compilation
    schedule, simulated = compilation.schedule, simulation_of(compilation)
    if schedule is None:
        raise ValueError("pipeline needs a schedule")

    def fits(schedule: Schedule) -> bool:
        try:
            place_buffers(compilation, schedule)
        except InfeasibleError as error:
            lacks.append((schedule, error))
            return False
        return True

    known = [(order.frames, order.period, order.starts(simulated)) for order in candidate.orders]
    options, bases = compilation.options, [schedule]
    if candidate.tuned and not options.period_ticks:
        bases += _dealt(compilation, schedule)
    found = [overlapped(base, options, fits, known) for base in bases]
    schedule = min(found, key=lambda s: (options.excess(s.latency), s.initiation_interval))
    static = round(simulated.static_power * schedule.initiation_interval)
    return replace(compilation, schedule=replace(schedule, static_energy=static))


def _dealt(compilation: Compilation, schedule: Schedule) -> list[Schedule]:
    """The schedule of one frame with its transfers on the channels that a search in their order has them on
    (h4hc.passes.core.tuning); none if these are the same. Its times are too early where two of them are then on one.
    """
    channels = {link.name: link.channels for link in compilation.target.links}
    tasks, queues = list[Task](), {name: list[int]() for name, _ in schedule.queues}
    work: dict[str, int] = {}
    for task, row in zip(schedule.tasks, simulation_of(compilation).trace[3], strict=True):
        if task.kind == "transfer":
            link, _, _ = task.resource.rpartition(".")
            task = task._replace(resource=f"{link}.{row[0] % channels[link]}")
        tasks.append(task)
        queues.setdefault(task.resource, []).append(task.id)
        work[task.resource] = work.get(task.resource, 0) + task.work
    if tuple(tasks) == schedule.tasks:
        return []
    used = tuple((name, tuple(queue)) for name, queue in queues.items() if queue)
    return [replace(schedule, tasks=tuple(tasks), queues=used, interval_bound=max(work.values()))]


def _searched(compilation: Compilation) -> Iterator[_Candidate]:
    """What searches in the order of `compilation` find, and before it what those in other orders find, if it is better."""
    first = _tuned(compilation)
    better = retuned(first.compilation, first.orders[0])
    if better is not None:
        found, order = better
        yield _Candidate(replace(found, schedule=make_schedule(found)), (order,), tuned=True)
    yield first


def _tuned(compilation: Compilation, order: Order | None = None) -> _Candidate:
    """What a search in the order of `compilation` finds."""
    found, order = tuned(compilation, order)
    return _Candidate(replace(found, schedule=make_schedule(found)), (order,), tuned=True)


def _relieved(
    candidate: _Candidate,
    lacks: Sequence[tuple[Schedule, InfeasibleError]],
    best: Compilation | None,
    *,
    tighten: bool,
) -> _Candidate | None:
    """The candidate with less in memory, if there would then be room for a schedule that is better than `best`.

    `tighten`: what was searched for is searched on with less memory before anything is spilled.
    """
    compilation = candidate.compilation
    limit = best.schedule.initiation_interval if best and best.schedule else None
    wanted = [lack for lack in lacks if limit is None or lack[0].initiation_interval < limit * _WORTHWHILE]
    if not wanted:
        return None
    schedule, error = min(wanted, key=lambda lack: (lack[0].initiation_interval, lack[0].latency))
    tight = tightened(compilation, error) if candidate.tuned and tighten else None
    if tight is not None:
        return _tuned(tight, candidate.orders[0])
    relieved = spilling(compilation, schedule, error)
    if relieved is None:
        return None
    if candidate.tuned:
        return _tuned(minding_memories(relieved), candidate.orders[0])
    return _Candidate(replace(relieved, schedule=make_schedule(relieved)), settled(relieved))


def _interval_and_latency(compilation: Compilation) -> tuple[float, int, int]:
    schedule = compilation.schedule
    if schedule is None:
        raise ValueError("pipeline needs a schedule")
    return compilation.options.excess(schedule.latency), schedule.initiation_interval, schedule.latency


def _alternatives(compilation: Compilation) -> Iterator[Compilation]:
    for other in compilation.alternatives:
        candidate = replace(compilation, placement=other.placement, simulated=other.simulated)
        yield replace(candidate, schedule=make_schedule(candidate))


def _balanced(compilation: Compilation) -> Compilation:
    """`compilation` with a placement that keeps its period; raises InfeasibleError if there is none.

    Few frames in flight are tried first: a frame is done within as many periods.
    """
    options = compilation.options
    least = _least_interval(compilation)
    if least > options.period_ticks:
        raise impossible(least, options.period_ticks)
    best = None
    for frames in range(min(2, options.window), options.window + 1):
        wanted = replace(options, objective="throughput", frames=frames, baselines=False)
        found = Partition().run(replace(compilation, options=wanted))
        found = replace(found, schedule=make_schedule(found), options=replace(options, frames=frames))
        try:
            best = _best(found, balanced=True)
            break
        except InfeasibleError as error:
            best = _too_slow(found, error) if frames == options.window else None
    if best is None:
        raise ValueError("a fixed rate has at least one frame in flight")
    return replace(
        best,
        baselines=compilation.baselines,
        claims=_claims(compilation, least),
        rivals=compilation.rivals,
        options=options,
    )


def _too_slow(compilation: Compilation, error: InfeasibleError) -> Compilation:
    """`compilation` at the interval that it reaches, as fetching weights ahead may make up for the rest.

    Raises `error` if weights are not fetched, or if there is no schedule at all.
    """
    options = compilation.options
    if not options.fetches:
        raise error
    free = replace(options, interval_seconds=None, frames=options.window)
    try:
        found = _best(replace(compilation, options=free), balanced=True)
    except InfeasibleError:
        raise error from None
    return replace(found, options=options, refusal=error, rivals=compilation.rivals)


def _claims(compilation: Compilation, least: int | None = None) -> tuple[Claim, ...]:
    """The claims with a bound on the interval: `least`, if that is known."""
    kind = "initiation-interval"
    if any(claim.kind == kind for claim in compilation.claims):
        return compilation.claims
    method = "prices per tick of every device and byte of capacity, in whole numbers"
    bound = Claim(kind, _least_interval(compilation) if least is None else least, BOUND, method)
    return tuple(sorted((*compilation.claims, bound), key=lambda claim: claim.kind))


def _least_interval(compilation: Compilation) -> int:
    """Ticks below which no placement's interval is, also with weights fetched ahead."""
    system = build_system(compilation)
    system = with_spills(system, compilation.target, oversized(system, compilation.target))
    return least_load(with_fetches_free(compilation, system)).ticks


def overlapped(
    schedule: Schedule,
    options: Options,
    fits: Callable[[Schedule], bool],
    known: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> Schedule:
    """`schedule` with up to `options.window` frames in flight, or at the fixed period of the options.

    `fits` says whether the buffers of a schedule have room. `known`: frames in flight, ticks between frames,
    and starts of the tasks to try, too.
    """
    plant = machine(schedule.tasks, schedule.queues)
    alone = Point(1, schedule.latency, schedule.latency)
    period = options.period_ticks or None
    if period is not None and period >= schedule.latency:
        return replace(schedule, initiation_interval=period, front=(alone,))
    tried = [periodic(plant, starts, period, frames) for frames, period, starts in known if period]
    found = candidates(plant, options.window, quick=bool(tried))
    slow_enough = (within(plant, plan, options.window) for plan in (*tried, *found))
    plans = [plan for plan in slow_enough if plan is not None and plan.interval < schedule.latency]
    roomy = [plan for plan in plans if fits(with_plan(schedule, plan))]
    front = (alone, *(Point(_frames(p), p.interval, p.latency) for p in _nondominated(roomy)))
    if period is None:
        choices = [schedule, *(with_plan(schedule, plan) for plan in roomy)]
        best = min(choices, key=lambda s: (options.excess(s.latency), s.initiation_interval, s.latency))
        return replace(best, front=front)
    slower = (within(plant, plan, options.window, period) for plan in plans)
    for plan in sorted((p for p in slower if p is not None), key=lambda plan: plan.latency):
        result = with_plan(schedule, plan)
        if fits(result):
            return replace(result, front=front)
    raise too_fast(schedule, options, min((plan.interval for plan in plans), default=schedule.latency))


def within(plant: Machine, plan: Periodic, frames: int, period: int = 0) -> Periodic | None:
    """`plan`, slowed down until at most `frames` frames are in flight, or to the fixed `period`.

    None if that takes more than a few steps, or if it does not keep up.
    """
    if period:
        slower = slowed(plant, plan, period, frames) if plan.interval <= period else None
        keeps = slower is not None and slower.latency <= frames * period and _in_order(plant, slower)
        return slower if keeps else None
    for _ in range(_SLOWER):
        if _frames(plan) <= frames:
            return plan if _in_order(plant, plan) else None
        plan = slowed(plant, plan, max(plan.interval + 1, -(-plan.latency // frames)), frames)
    return None


def _in_order(plant: Machine, plan: Periodic) -> bool:
    """Whether no task works on a newer frame than what it reads from does: windows wait for earlier ones only."""
    return all(
        plan.stages[task] + edge.frames >= plan.stages[edge.source]
        for task, edges in enumerate(plant.waits)
        for edge in edges
    )


def _frames(plan: Periodic) -> int:
    """How many frames are in flight at a time."""
    return -(-plan.latency // plan.interval)


def _nondominated(plans: Sequence[Periodic]) -> list[Periodic]:
    kept: list[Periodic] = []
    for plan in sorted(plans, key=lambda plan: (plan.latency, plan.interval)):
        if not kept or plan.interval < kept[-1].interval:
            kept.append(plan)
    return kept


def with_plan(schedule: Schedule, plan: Periodic) -> Schedule:
    """`schedule` with the times, stages and orders of `plan`."""
    tasks = tuple(_staged(task, plan, schedule.tasks) for task in schedule.tasks)
    names = [name for name, _ in schedule.queues]
    return replace(
        schedule,
        tasks=tasks,
        queues=tuple(zip(names, plan.orders, strict=True)),
        latency=plan.latency,
        initiation_interval=plan.interval,
        frames_in_flight=_frames(plan),
    )


def _staged(task: Task, plan: Periodic, tasks: Sequence[Task]) -> Task:
    stage = plan.stages[task.id]
    waits = tuple(
        wait._replace(lag=stage - plan.stages[wait.task] + frames_between(tasks, task, wait))
        for wait in task.waits
    )
    return task._replace(start=plan.starts[task.id], end=plan.ends[task.id], stage=stage, waits=waits)
