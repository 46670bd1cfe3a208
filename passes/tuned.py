"""Tuned: a placement for several frames in flight, searched on in the cyclic order of its tasks.

In:  a compilation with a simulated placement. Out: another placement and the order that goes with it.

Rules:
1. The order set out from is that of the closed loop with two frames in flight, or as many as may be, whichever is faster.
2. Local search changes devices, modes and tile counts; what moves keeps its moment (h4hc.passes.core.tuning).
3. Where that ends far above the least work of the busiest device, further searches set out from the placement that it found, but
   from the order in which a single frame runs, begun so often that the frames allowed overlap: one that no closed loop settles into.
   Before that, searches set out from placements and orders woven from the costs (h4hc.passes.woven); where these end with
   something better, the further searches go on from there, in its order.
4. If the buffers of the result do not fit after all, as the search only counts bytes, it goes on with that much less memory;
   if that does not help, with a buffer spilled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation, Options
from h4hc.ir.placement import Placement
from h4hc.ir.system import Simulated
from h4hc.passes.core import Problem
from h4hc.passes.load import Bound, least_load
from h4hc.passes.plans import Plan, simulate, to_placement
from h4hc.passes.room import with_room
from h4hc.passes.seeds import INTERVAL
from h4hc.passes.woven import weaves

_EVALUATIONS = {"fast": 4000, "balanced": 20_000, "exact": 60_000}
_ROUNDS = {"fast": 0, "balanced": 2, "exact": 8}  # of further searches
_ROUND = 20_000  # evaluations of one, at most
_FAR = 1.25  # times the least work of the busiest device
_ASTRAY = 1.03  # times the best interval, beyond which a round sets out from the best placement again
_HEATS = {"fast": 0, "balanced": 1, "exact": 4}  # of woven frames
_RACE = (
    (24, 1500),
    (8, 4000),
    (3, 10_000),
    (1, 20_000),
)  # how many of a heat go on, for how many evaluations
_CLOSE = 1.06  # times the interval at hand, beyond which woven frames are not searched on
_AGAIN = 8  # the share of the evaluations, one in so many, after the first search
_SEED = 0xD1B54A32D192ED03


class Order(NamedTuple):
    """So many frames in flight, ticks between frames, and when each task of a frame starts (as in `Problem.steady`)."""

    frames: int
    period: int
    offsets: Sequence[int]

    def starts(self, simulated: Simulated) -> list[int]:
        """When the tasks start, in the order of the simulation."""
        data = simulated.system.data
        numbers = [
            row[0] if row[1] < 0 else data["operators"] + row[0] * data["memories"] + row[1]
            for row in simulated.trace[3]
        ]
        return [self.offsets[number] for number in numbers]


_Found = tuple[int, tuple[int, ...], tuple[int, ...], Order]  # interval, modes, tile counts, order


def settled(compilation: Compilation) -> list[Order]:
    """What the closed loop settles into with each number of frames in flight, as the search saw it."""
    simulated = simulation_of(compilation)
    problem = Problem(simulated.system.data)
    counts = range(2, compilation.options.window + 1)
    return [Order(count, *problem.steady(simulated.modes, simulated.tiles, count)) for count in counts]


def tuned(compilation: Compilation, order: Order | None = None) -> tuple[Compilation, Order]:
    """The best placement found from that of `compilation`, and its order; `order`: to go on from."""
    options, simulated = compilation.options, simulation_of(compilation)
    data = simulated.system.data
    problem, start = Problem(data), (simulated.modes, simulated.tiles)
    budget = options.budget_ticks
    evaluations = _EVALUATIONS[options.effort] if options.evaluations is None else options.evaluations
    if order is None:
        counts = sorted({2, options.window})
        frames = min(counts, key=lambda count: problem.score(*start, INTERVAL, budget, None, count))
        order = Order(frames, *problem.steady(*start, frames))
    else:
        evaluations //= _AGAIN
    modes, tiles, order = _search(problem, data, start, order, evaluations, _SEED, budget)
    return _with(compilation, modes, tiles), order


def retuned(compilation: Compilation, order: Order) -> tuple[Compilation, Order] | None:
    """The best of further searches from the placement of `compilation`, which runs in `order`; None: they are not worth while,
    or find nothing better."""
    options, simulated = compilation.options, simulation_of(compilation)
    data = simulated.system.data
    rounds = _ROUNDS[options.effort]
    bound = least_load(data)
    if not rounds or order.period <= _FAR * bound.ticks:
        return None
    problem = Problem(data)
    most = _ROUND if options.evaluations is None else min(_ROUND, options.evaluations)
    given: _Found = (order.period, tuple(simulated.modes), tuple(simulated.tiles), order)
    best = current = min([given, *_woven(problem, data, bound, order.period, options, most)], key=_period)
    own = best is not given
    for number in range(1, rounds + 1):
        _, modes, tiles, start = current
        if not own:
            start = _alone(problem, data, modes, tiles, options.window)
        found = _search(problem, data, (modes, tiles), start, most, _SEED + number, options.budget_ticks)
        current = (found[2].period, *found)
        best = min(best, current, key=_period)
        if current[0] > _ASTRAY * best[0]:
            current = best
    _, modes, tiles, better = best
    return None if better is order else (_with(compilation, modes, tiles), better)


def _period(found: _Found) -> int:
    return found[0]


def _woven(
    problem: Problem, data: Mapping[str, Any], bound: Bound, period: int, options: Options, most: int
) -> list[_Found]:
    """The best of searches of at most `most` evaluations from woven frames, by heat; none if they are much longer than
    `period`, or if the latency has a budget."""
    if options.budget_ticks:  # woven frames take their time
        return []
    whole, best = (1,) * data["operators"], list[_Found]()
    for heat in range(_HEATS[options.effort]):
        found = [
            (ticks, tuple(modes), whole, Order(options.window, ticks, starts))
            for ticks, modes, starts in weaves(problem, data, bound, options.window, heat)
            if ticks <= _CLOSE * period
        ]
        for number, (kept, evaluations) in enumerate(_RACE):
            seed, limit = _SEED + heat * len(_RACE) + number, min(most, evaluations)
            searched = [_search(problem, data, one[1:3], one[3], limit, seed, 0) for one in found[:kept]]
            found = sorted(((one[2].period, *one) for one in searched), key=_period)
        best += found[:1]
        if not found:
            break
    return best


def _search(
    problem: Problem,
    data: Mapping[str, Any],
    start: tuple[Sequence[int], Sequence[int]],
    order: Order,
    evaluations: int,
    seed: int,
    budget: int,
) -> tuple[tuple[int, ...], tuple[int, ...], Order]:
    """Modes and tile counts found from `start`, and their order."""
    everyone = (1 << data["devices"]) - 1
    modes, tiles, period, offsets = problem.tune(
        *start, order.period, order.offsets, evaluations, seed, everyone, budget, order.frames
    )
    return tuple(modes), tuple(tiles), Order(order.frames, period, offsets)


def _alone(
    problem: Problem, data: Mapping[str, Any], modes: Sequence[int], tiles: Sequence[int], frames: int
) -> Order:
    """The order in which one frame runs by itself, begun `frames` times in its latency."""
    latency, _, _, rows, _ = problem.trace(modes, tiles)
    operators, memories = data["operators"], data["memories"]
    starts = [-1] * (operators + data["tensors"] * memories)
    for number, memory, _, begin, _ in rows:
        starts[number if memory < 0 else operators + number * memories + memory] = begin
    return Order(frames, -(-latency // frames), starts)


def _with(compilation: Compilation, modes: Sequence[int], tiles: Sequence[int]) -> Compilation:
    """`compilation` with another placement."""
    system, spilled = simulation_of(compilation).system, _placement(compilation).spilled
    plan = Plan(system, tuple(modes), tuple(tiles), (0.0, 0.0, 0.0), spilled)  # nothing asks for the score
    return replace(compilation, placement=to_placement(plan), simulated=simulate(plan))


def tightened(compilation: Compilation, error: InfeasibleError) -> Compilation | None:
    """`compilation` with a problem in which the memory that was too small has as many bytes less; None: it has none."""
    simulated, shortage = simulation_of(compilation), error.shortage
    if shortage is None:
        return None
    system = simulated.system
    memory = system.memories.index(shortage.what.removeprefix("memory "))
    limits = list(system.data["mem_limit"])
    limits[memory] -= int(shortage.needed - shortage.available)
    if limits[memory] < 0:
        return None
    system = replace(system, data={**system.data, "mem_limit": limits})
    return replace(compilation, simulated=replace(simulated, system=system))


def minding_memories(compilation: Compilation) -> Compilation:
    """`compilation` with a problem that knows the memories."""
    simulated = simulation_of(compilation)
    system = with_room(simulated.system, compilation.target, _placement(compilation).spilled)
    return replace(compilation, simulated=replace(simulated, system=system))


def simulation_of(compilation: Compilation) -> Simulated:
    """The simulated placement."""
    if compilation.simulated is None:
        raise ValueError("a simulated placement is needed")
    return compilation.simulated


def _placement(compilation: Compilation) -> Placement:
    if compilation.placement is None:
        raise ValueError("a placement is needed")
    return compilation.placement
