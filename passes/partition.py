"""Partition: which device runs each operator, in which mode and in how many tiles.

In:  graph, choices, target. Out: `Compilation.placement`, `Compilation.simulated`, `Compilation.baselines`.

Rules:
1. Seeds: each accelerator alone (with the host for what it refuses), and minimum cuts of the additive costs.
   Resident weights of all operators on a device together stay within its capacity: a price per byte is
   raised until the cut fits, then the least useful operators move away.
2. Every seed is scheduled with several tile counts, the best with groups of operators moved to devices that are
   little slower; local searches from the best race each other. The budget is a number of schedules, more of them the
   fewer operators there are, so the result does not depend on the speed of the machine.
3. A buffer larger than its memory, or one that does not fit beside the others, lives in the backing memory,
   and the operators that touch it pay for that.
4. Where a device copies weights, higher efforts first search as if it did not, and then set out from that result and from
   minimum cuts that know all modes; so the result is never worse than on the same target without copies. Room that is
   left goes to copies and other larger modes. Fast effort has the second search alone, which then starts from the first
   one's best seed as well.
5. The result is never worse than the best single-accelerator schedule. With `Options.baselines` those are searched on
   the target without the other accelerators, exactly as they are if that is the target (with half of the budget:
   there is less to choose), and are among the seeds; else only their seeds are.
6. Throughput: the score is the interval of the periodic schedule that frames in flight settle into; plans for latency
   and for the work of the busiest resource are searched first and are among the seeds. Several of the plans found
   are passed on, because only the pipeline knows whether the frames in flight fit the memories.
7. With a parent, the search sets out from its placement (h4hc.passes.inherit) and from nothing else, with a sixth of
   the budget.
8. Higher efforts set out from what fast effort finds, among others, and keep it if they find nothing better. Their last
   local search sets out from the best plan found (h4hc.passes.thorough).
9. Exact effort goes on from there (h4hc.passes.exact.effort) and adds `Compilation.claims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from h4hc.errors import InfeasibleError
from h4hc.ir.claim import Claim
from h4hc.ir.compilation import Alternative, Baseline, Compilation
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.system import System
from h4hc.passes.core import Problem
from h4hc.passes.plans import Plan, Score, simulate, to_placement
from h4hc.passes.search import Searcher
from h4hc.passes.seeds import INTERVAL
from h4hc.passes.thorough import with_copies

_ALONE_SHARE = 2  # of the evaluations: there is less to choose on one accelerator
_ALTERNATIVES = {"fast": 2, "balanced": 4, "exact": 6}


@dataclass(frozen=True, slots=True)
class Partition:
    """Choose device, mode and tile count of every operator."""

    name: str = "partition"
    needs: tuple[str, ...] = ("graph", "choices")
    provides: tuple[str, ...] = ("placement", "simulated", "baselines", "claims", "alternatives")

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `placement`, its simulation, `baselines`, `claims` and `alternatives`."""
        searcher = Searcher(compilation)
        quick = _quickly(searcher)
        plan, alone = choose_plan(searcher, quick if searcher.thorough else [])
        plan = _best([plan, *quick])
        single = plan.single and with_copies(plan.single, searcher)
        claims: tuple[Claim, ...] = ()
        if compilation.options.effort == "exact":
            from h4hc.passes.exact.effort import improve

            plan, claims = improve(searcher.full, plan)
        return replace(
            compilation,
            placement=to_placement(plan),
            simulated=simulate(plan),
            baselines=tuple([_baseline(compilation, name, found) for name, found in alone.items()]),
            claims=claims,
            alternatives=_alternatives(searcher, plan),
            parent=None,
            rivals=_rivals(compilation, alone | ({"single": single} if single else {})),
        )


def _quickly(searcher: Searcher) -> list[Plan]:
    """What fast effort finds, at higher efforts: luck may help it, and they are never worse. Not beside a parent, for speed."""
    options = searcher.compilation.options
    if options.effort == "fast" or searcher.objective == INTERVAL or searcher.compilation.parent:
        return []
    compilation = replace(searcher.compilation, options=replace(options, effort="fast"))
    plan = _found(Searcher(compilation))
    single = _found(Searcher(compilation, copies=False)) if searcher.single else None
    plans = [plan, single and with_copies(single, searcher)]
    return [replace(plan, single=single) for plan in plans if plan]


def _found(searcher: Searcher) -> Plan | None:
    try:
        return choose_plan(searcher)[0]
    except InfeasibleError:  # more thorough searches may find something
        return None


def _baseline(compilation: Compilation, name: str, plan: Plan) -> Baseline:
    """`plan` as what accelerator `name` achieves alone; devices draw static power until the next frame begins."""
    latency, energy, used, _, _ = simulate(plan).trace
    options, interval = compilation.options, latency
    if options.window > 1:
        settled, _ = Problem(plan.system.data).steady(plan.modes, plan.tiles, options.window)
        interval = min(latency, settled)
    interval = max(interval, options.period_ticks)
    static = round(plan.system.static_power(used) * interval)
    return Baseline(name, latency * TICK_SECONDS, (energy + static) * 1e-12, interval * TICK_SECONDS)


def _best(plans: Sequence[Plan]) -> Plan:
    """The best of `plans`, with the best that was found without copies of weights."""
    best, singles = min(plans, key=_score), [plan.single for plan in plans if plan.single]
    return replace(best, single=min(singles, key=_score)) if singles else best


def _score(plan: Plan) -> Score:
    return plan.score


def _rivals(compilation: Compilation, others: dict[str, Plan]) -> tuple[tuple[str, Compilation], ...]:
    """What each accelerator achieves alone, and what there is without copies of weights: fetching weights may help it more."""
    options = compilation.options
    if not options.fetches or (options.window > 1 and not options.period_ticks):
        return ()
    return tuple(
        (name, replace(compilation, placement=to_placement(plan), simulated=simulate(plan), parent=None))
        for name, plan in others.items()
    )


def _alternatives(searcher: Searcher, best: Plan) -> tuple[Alternative, ...]:
    """For the throughput: what else was found, the most promising first; under a budget also the one of least latency."""
    if searcher.objective != INTERVAL:
        return ()
    options = searcher.compilation.options
    known = {(plan.modes, plan.tiles): plan for plan in reversed(searcher.found)}
    known.pop((best.modes, best.tiles), None)
    plans = sorted(known.values(), key=lambda plan: (plan.score, plan.modes, plan.tiles))
    kept = plans[: _ALTERNATIVES[options.effort]]
    if options.budget_seconds is not None and plans:
        soonest = min(plans, key=lambda plan: simulate(plan).trace[0])
        kept += [soonest] if soonest not in kept else []
    return tuple([Alternative(to_placement(plan), simulate(plan)) for plan in kept])


def choose_plan(searcher: Searcher, known: Sequence[Plan] = ()) -> tuple[Plan, dict[str, Plan]]:
    """The best plan on all devices, and that of each accelerator alone. `known`: further plans to set out from."""
    compilation = searcher.compilation
    target = compilation.target
    accelerators = [device.name for device in target.devices if device.kind != "host"]
    everyone = searcher.base.device_mask(device.name for device in target.devices)
    alone: dict[str, Plan] = {}
    failure: InfeasibleError | None = None
    if compilation.options.baselines or len(accelerators) == 1:
        for name in accelerators:
            try:
                plan = _alone(searcher, name)
            except InfeasibleError as error:  # its memory is too small; another device's may not be
                failure = error
                continue
            if plan is not None:
                alone[name] = plan
    best = None
    if len(accelerators) != 1 or not alone:
        try:
            best = searcher.follow(compilation.parent) if compilation.parent else None
            best = best or searcher.search(everyone, [*alone.values(), *known], searcher.evaluations)
        except InfeasibleError as error:
            failure = error
    candidates = [plan for plan in (best, *alone.values()) if plan is not None]
    if not candidates:
        raise failure or _no_device_set(compilation)
    return _best(candidates), alone


def _alone(searcher: Searcher, accelerator: str) -> Plan | None:
    """The best plan on `accelerator` and the hosts, found as if there were no other device."""
    compilation = searcher.compilation
    target = compilation.target.restrict([accelerator, *compilation.target.hosts])
    if target is compilation.target:
        return searcher.search(searcher.mask_of(accelerator), [], searcher.evaluations // _ALONE_SHARE)
    other = Searcher(replace(compilation, target=target), whole=searcher.whole, copies=searcher.copies)
    plan = other.search(other.mask_of(accelerator), [], other.evaluations // _ALONE_SHARE)
    if plan is None:
        return None
    searcher.found += [lifted(found, searcher) for found in other.found]
    return lifted(plan, searcher)


def lifted(plan: Plan, searcher: Searcher) -> Plan:
    """`plan`, for a part of the target, in the system of `searcher`."""
    small, base = plan.system, searcher.base
    system = searcher.spilled_system(plan.spilled)
    modes = []
    for v, mode in enumerate(plan.modes):
        start, whole = small.data["mode_ptr"][v], base.data["mode_ptr"][v]
        device = small.data["mode_device"][start + mode]
        nth = small.data["mode_device"][start : start + mode].count(device)
        there = base.data["mode_device"][whole : base.data["mode_ptr"][v + 1]]
        modes.append(there.index(base.devices.index(small.devices[device])) + nth)
    order = _order_in(plan, base)
    single = lifted(plan.single, searcher.single) if plan.single and searcher.single else None
    same = replace(plan, system=system, modes=tuple(modes), order=order, trace=None, single=single)
    return searcher.rescored(same)


def _order_in(plan: Plan, base: System) -> tuple[int, ...] | None:
    """The order of `plan` with its transfers in the numbers of `base`."""
    if plan.order is None:
        return None
    operators, few, many = base.data["operators"], plan.system.data["memories"], base.data["memories"]
    places = [base.memories.index(name) for name in plan.system.memories]
    return tuple(
        [
            c if c < operators else operators + (c - operators) // few * many + places[(c - operators) % few]
            for c in plan.order
        ]
    )


def _no_device_set(compilation: Compilation) -> InfeasibleError:
    return InfeasibleError(
        f"no placement of {compilation.source.name} fits target {compilation.target.name}",
        code="no-placement",
        hint="enlarge its memories or its weight capacity, or add a host",
    )
