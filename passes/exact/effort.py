"""Exact effort: what can be proved about a compilation, and a long search from the proved optimum.

In:  the searcher of the partition pass and its best plan. Out: a plan that is no worse, and claims.

Rules:
1. The least latency with one tile per operator, and the least additive costs, are solved; both placements are
   candidates, the first with its order of tasks.
2. Local search goes on from every candidate in several tile counts, with a budget in schedules; the better half is
   searched on until one is left.
3. If the best schedule spills buffers, the search goes on from it with those buffers spilled from the start, and with
   half of the budget in a problem that knows the memories (h4hc.passes.roomy).
4. A claim says what was proved and how. Optima hold for buffers that are spilled because they alone exceed their memory;
   to spill more only makes schedules slower, so that as bounds they hold for all. What a placement contradicts is not
   claimed.
5. Bounds on latency, interval and energy hold with weights fetched as well: every operator takes the less of both. The
   other claims are about operators that read their weights themselves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from h4hc.ir.claim import BOUND, OPTIMAL, Claim
from h4hc.passes.core import Problem
from h4hc.passes.exact.additive import Placement, Program, busiest, least_product
from h4hc.passes.exact.additive import sums as additive_costs
from h4hc.passes.exact.bounds import critical_path
from h4hc.passes.exact.fetched import with_fetches_free
from h4hc.passes.exact.flow import least_interval
from h4hc.passes.exact.operator_level import OperatorLevel, solve_operator_level
from h4hc.passes.exact.oracle import Limit
from h4hc.passes.exact.solver import check_solver
from h4hc.passes.exact.store import Store, cache_folder
from h4hc.passes.roomy import problem_with_room
from h4hc.passes.seeds import INTERVAL

if TYPE_CHECKING:
    from h4hc.passes.plans import Plan
    from h4hc.passes.search import Searcher

EVALUATIONS = 20_000
_FULL_SIZE = 260  # operators for which the search has all of its evaluations
EFFORT = 6.0  # deterministic time of the operator-level proof, some seconds
_TILES = (1, 2, 4, 8)
_SPILL_ROUNDS = 3
_CHUNK = 500  # schedules between two looks at the clock
_EDP_UNIT = 10**6  # picojoules * ticks in a nanojoule * microsecond
_SEED = 0x2545F4914F6CDD1D
LATE = "time limit reached"
_IN_PLACE = ("operator-latency", "sequential-latency", "sequential-edp")  # claims about weights read in place

Start = tuple[tuple[int, ...], tuple[int, ...]]  # modes, tiles


@dataclass(slots=True)
class Clock:
    """The time limit, if there is one."""

    deadline: float | None
    late: bool = False

    def left(self) -> float | None:
        """Seconds left; None: no limit."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.05)

    def expired(self) -> bool:
        """Whether the time is up; remembered in `late`."""
        self.late = self.late or (self.deadline is not None and time.monotonic() > self.deadline)
        return self.late


def improve(searcher: Searcher, plan: Plan) -> tuple[Plan, tuple[Claim, ...]]:
    """The best plan found, and what is proved about it."""
    check_solver()
    options = searcher.compilation.options
    clock = Clock(None if options.time_limit is None else time.monotonic() + options.time_limit)
    known = searcher
    data = searcher.system.data
    budget = options.evaluations if options.evaluations is not None else EVALUATIONS
    budget = budget * _FULL_SIZE // max(_FULL_SIZE, len(plan.modes))
    level = _operator_level(searcher, clock)
    least = with_fetches_free(searcher.compilation, searcher.system)
    sums = _additive(data, least, clock)
    placements = [level.modes, *(found.modes for found in sums.values())]
    best, spent = _candidates(searcher, plan, level, placements, budget, clock)
    fits = bool(level.modes) and not _spills(searcher, level)
    for _ in range(_SPILL_ROUNDS):
        if best.spilled == searcher.spilled or clock.expired():
            break
        searcher = searcher.spilling(best.spilled).full
        found, more = _candidates(
            searcher, best, _operator_level(searcher, clock, EFFORT / 4), [], budget, clock
        )
        spent += more
        if found.score >= best.score:
            break
        best = found
    best, more = _minding_room(known, [best, plan], budget // 2, clock)
    spent += more
    claims = _claims(least, level, fits, sums, f"local search of {spent} schedules", clock, searcher.frames)
    return best, claims if least is data else tuple(map(_beside_fetches, claims))


def _minding_room(
    searcher: Searcher, plans: Sequence[Plan], evaluations: int, clock: Clock
) -> tuple[Plan, int]:
    """The best of `plans`, and if it spills, of a search from them that counts bytes without room as ticks."""
    best = min(plans, key=lambda plan: plan.score)
    if best.spilled == searcher.spilled or searcher.frames > 1 or clock.expired():
        return best, 0
    starts = [(plan.modes, plan.tiles) for plan in plans]
    found, spent = _search(searcher, problem_with_room(searcher), starts, evaluations, clock)
    return min(best, searcher.fit_memory(*found), key=lambda plan: plan.score), spent


def _beside_fetches(claim: Claim) -> Claim:
    """`claim` where weights may be fetched: as a bound if it counts on that, because all fetches may not fit in."""
    if claim.kind in _IN_PLACE:
        return replace(claim, method=f"{claim.method}; no weights fetched ahead")
    return replace(claim, status=BOUND)


def _operator_level(searcher: Searcher, clock: Clock, effort: float = EFFORT) -> OperatorLevel:
    limit = Limit(effort, clock.deadline)
    level = solve_operator_level(searcher.system.data, limit, Store(cache_folder()))
    clock.late = clock.late or limit.late
    return level


def _spills(searcher: Searcher, level: OperatorLevel) -> bool:
    """Whether the operator-level optimum needs more memory for activations than there is."""
    whole = (1,) * len(level.modes)
    return searcher.fit_memory(level.modes, whole, level.order).spilled != searcher.spilled


def _candidates(
    searcher: Searcher,
    plan: Plan,
    level: OperatorLevel,
    placements: Sequence[tuple[int, ...]],
    evaluations: int,
    clock: Clock,
) -> tuple[Plan, int]:
    """The best of `plan`, the operator-level optimum and a local search; how many schedules that evaluated."""
    rows = searcher.system.data["rows"]
    plans = [plan]
    starts = [(plan.modes, plan.tiles)]
    if level.modes:
        plans.append(searcher.fit_memory(level.modes, (1,) * len(rows), level.order))
    for modes in dict.fromkeys(placement for placement in (level.modes, *placements) if placement):
        starts += [(modes, tuple([min(tiles, r) for r in rows])) for tiles in _TILES]
    best, spent = _search(searcher, Problem(searcher.system.data), starts, evaluations, clock)
    plans.append(searcher.fit_memory(*best))
    return min(plans, key=lambda plan: plan.score), spent


def _additive(data: dict[str, Any], least: dict[str, Any], clock: Clock) -> dict[str, Placement]:
    """The placements of the additive optima, by the kind of claim. `least`: with weights fetched where that is less."""
    if clock.expired():
        return {}
    program = Program(data, clock.left())
    static = sum(data["dev_static"])
    fetching = program if least is data else Program(least, clock.left())
    sums = {
        "sequential-latency": program.least_sum(1, 0),
        "dynamic-energy": fetching.least_sum(0, 1),
        "initiation-interval": fetching.least_peak(),
    }
    if not clock.expired():
        sums["sequential-edp"] = least_product(program, static)
    return consistent(sums, data, least, static)


def consistent(
    sums: Mapping[str, Placement], data: Mapping[str, Any], least: Mapping[str, Any], static: float
) -> dict[str, Placement]:
    """Those of `sums` that no placement of another one contradicts, as it would if the solver had miscalculated."""
    placements = {found.modes for found in sums.values() if found.modes}

    def value(kind: str, modes: tuple[int, ...]) -> float:
        ticks, joules = additive_costs(data, modes)
        return {
            "sequential-latency": ticks,
            "dynamic-energy": additive_costs(least, modes)[1],
            "initiation-interval": busiest(least, modes),
            "sequential-edp": ticks * (joules + static * ticks),
        }[kind]

    return {
        kind: found
        for kind, found in sums.items()
        if all(found.bound <= ceil(value(kind, modes)) for modes in placements)
    }


def _search(
    searcher: Searcher, problem: Problem, starts: Sequence[Start], evaluations: int, clock: Clock
) -> tuple[Start, int]:
    """The best of local searches in `problem` from `starts` that share `evaluations` schedules; how many were evaluated.

    In each round the searches have an equal share; then the worse half is given up.
    """
    objective, budget = searcher.objective, searcher.budget
    mask = (1 << searcher.system.data["devices"]) - 1

    def score(start: Start) -> tuple[float, float, float]:
        return searcher.score(*start, problem)

    field = sorted(dict.fromkeys(starts), key=lambda start: (score(start), start))
    rounds = max(1, (len(field) - 1).bit_length() + 1)
    spent = seed = 0
    while True:
        share = max(1, evaluations // rounds // len(field))
        reached = []
        for modes, tiles in field:
            done = 0
            while done < share and not clock.expired():
                step = min(_CHUNK, share - done)
                seed += 1
                climb = problem.balance if objective == INTERVAL else problem.climb
                found = climb(modes, tiles, step, _SEED + seed, mask, objective, budget, searcher.frames)
                modes, tiles = tuple(found[0]), tuple(found[1])
                done += step
            spent += done
            reached.append((modes, tiles))
        field = sorted(dict.fromkeys(reached), key=lambda start: (score(start), start))
        if len(field) == 1 or clock.late:
            return field[0], spent
        field = field[: -(-len(field) // 2)] if len(field) > 1 else field


def _claims(
    data: dict[str, Any],
    level: OperatorLevel,
    fits: bool,
    sums: dict[str, Placement],
    search: str,
    clock: Clock,
    frames: int,
) -> tuple[Claim, ...]:
    late = f"; {LATE}" if clock.late else ""
    path = critical_path(data)
    claims = [
        Claim("critical-path", path, BOUND, "longest path of least times, streaming as finely as possible")
    ]
    least = max(path, _least_interval(data, 1, clock))
    load = 0
    if level.bound and level.bound < 1 << 40:
        parts = f"CP-SAT on {level.pieces} pieces between cut operators, two settings agreeing, replayed"
        memory = (
            "" if fits else "; optimum without a limit on the memory of activations" if level.proved else ""
        )
        status = OPTIMAL if level.proved and fits else BOUND
        claims.append(Claim("operator-latency", level.bound, status, parts + memory + late))
    for kind, found in sums.items():
        status = OPTIMAL if found.proved else BOUND
        value = min(found.value, found.bound) if found.modes else found.bound
        if kind == "sequential-edp":
            value //= _EDP_UNIT
        claims.append(Claim(kind, value, status, _METHODS[kind] + late))
        if kind == "initiation-interval":
            load = found.bound
    claims.append(
        Claim(
            "latency", max(least, load), BOUND,
            f"the largest of critical-path, initiation-interval and {_FLOW}; {search}{late}",
        )
    )  # fmt: skip
    if frames > 1:
        value = max(load, _least_interval(data, frames, clock))
        claims.append(
            Claim(
                "interval-in-flight", value, BOUND,
                f"the larger of initiation-interval and {_FLOW}, at most {frames} frames in flight{late}",
            )
        )  # fmt: skip
    return tuple(sorted(claims, key=lambda claim: claim.kind))


def _least_interval(data: dict[str, Any], frames: int, clock: Clock) -> int:
    return 0 if clock.expired() else least_interval(data, frames, clock.left())


_FLOW = "a linear program of times and work"
_METHODS = {
    "sequential-latency": "mixed-integer program (HiGHS), to one part in 10^8",
    "dynamic-energy": "mixed-integer program (HiGHS), to one part in 10^8",
    "initiation-interval": "mixed-integer program (HiGHS) of the busiest device or channel, to one part in 10^8",
    "sequential-edp": "lower hull of time and energy, mixed-integer programs (HiGHS), to one part in 10^6",
}
