"""Prefetch: fetch weights before their operator starts, while others compute.

In:  the schedule of one frame without memory, and those of each accelerator alone. Out: `Compilation.schedule` with fetches,
placement to match, `Compilation.prefetching`.

Rules:
1. An operator can have its weights fetched where its device offers that (`Backend.prefetched`), in no more time than it
   takes now, and where they fit in the device's memory.
2. Tasks keep device, tiles and order. First the weights of all operators are fetched, or of each that ends no later by
   it; then single operators change, and runs of them, as long as the objective improves (a number of schedules by effort).
3. A fetch takes its memory's port for itself (h4hc.passes.core.fetching), and room from its start to the end of its
   operator. If the memories turn out too small, it begins as late as nothing is delayed; then less room is given to weights.
4. Kept is what scores better. So that two accelerators are never worse than one, what each achieves alone, and the
   model without split operators, is improved in the same way, and the best wins.
5. Not at fast effort: the search for a plan takes longer than all the rest of it.
6. One frame in flight, without a fixed period: with more, the next frame's fetches would have to share the port.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Baseline, Compilation
from h4hc.ir.cost import Cost
from h4hc.ir.prefetching import Prefetching
from h4hc.ir.schedule import TICK_SECONDS, WEIGHT_LOAD, Schedule
from h4hc.passes.allocate import place_buffers
from h4hc.passes.core import Line
from h4hc.passes.core.fetching import Timed
from h4hc.passes.fetched import postponed, with_fetches
from h4hc.passes.fetches import Sheet, sheet
from h4hc.passes.schedule import make_schedule

EVALUATIONS = {"balanced": 150, "exact": 1000}
_RUNS = (8, 4, 2)  # lengths of runs of operators that change together
_ROOM = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.7, 0.5)  # shares of the room that is there

Score = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Fetch weights while earlier operators compute."""

    name: str = "prefetch"
    needs: tuple[str, ...] = ("graph", "placement", "simulated", "schedule")
    provides: tuple[str, ...] = ("schedule", "prefetching")

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `prefetching`, with schedule and placement to match, if anything is fetched."""
        if not compilation.options.fetches:
            return replace(compilation, rivals=())
        first = best = self._improved(compilation)
        baselines = {baseline.name: baseline for baseline in compilation.baselines}
        for name, rival in compilation.rivals:
            found = first
            if rival.placement != compilation.placement:
                found = self._improved(replace(rival, schedule=make_schedule(rival)))
            if name in baselines:
                latency, energy = _latency_and_energy(found)
                baselines[name] = Baseline(name, latency * TICK_SECONDS, energy * 1e-12)
            if _score(found) < _score(best):
                best = found
        return replace(best, baselines=tuple(baselines.values()), claims=compilation.claims, rivals=())

    def _improved(self, compilation: Compilation) -> Compilation:
        """`compilation` with weights fetched, if that is better."""
        costs = dict(self._costs(compilation))
        if not costs:
            return compilation
        plan = sheet(compilation, costs)
        for share in _ROOM:
            found = _search(compilation, plan, plan.with_room(share))
            if found is None:
                return compilation
            for times in (found, postponed(plan, found)):
                result = with_fetches(plan, times)
                if _fits(result):
                    return _recorded(compilation, result)
        return compilation

    def _costs(self, compilation: Compilation) -> Iterator[tuple[int, Cost]]:
        """The operators whose weights can be fetched, and what they cost then."""
        graph, placement, simulated = compilation.graph, compilation.placement, compilation.simulated
        if graph is None or placement is None or simulated is None:
            raise ValueError("prefetch needs a placement")
        present = [
            costs[mode] for costs, mode in zip(simulated.system.mode_costs, simulated.modes, strict=True)
        ]
        for number, (operator, device) in enumerate(zip(graph.operators, placement.devices, strict=True)):
            if not operator.kernel.weight_bytes or present[number].resident_bytes:
                continue
            cost = compilation.backends[device].prefetched(operator.kernel)
            memory = compilation.target.device(device).memory
            if cost is None or cost.fetch is None or cost.seconds > present[number].seconds:
                continue
            if cost.fetch.bytes <= compilation.target.memory(memory).bytes:
                yield number, cost


def _fits(compilation: Compilation) -> bool:
    """Whether the memories hold the schedule, as far as first fit finds out."""
    try:
        place_buffers(compilation, _schedule(compilation), quickly=True)
    except InfeasibleError:
        return False
    return True


def _search(compilation: Compilation, plan: Sheet, line: Line) -> Timed | None:
    """The best set of fetches that was found; None if nothing improves."""
    search = _Search(compilation, plan, line)
    everything = frozenset(plan.candidates)
    search.attempt(None)
    search.attempt(everything)
    budget = EVALUATIONS[compilation.options.effort]
    improving = True
    while improving and search.done < budget:
        improving = False
        for change in _changes(sorted(everything)):
            if search.done >= budget:
                break
            improving = search.attempt(search.fetched ^ change) or improving
    return search.best


def _changes(candidates: list[int]) -> Iterator[frozenset[int]]:
    for length in (*_RUNS, 1):
        for begin in range(0, len(candidates), length):
            yield frozenset(candidates[begin : begin + length])


class _Search:
    """What was found so far."""

    def __init__(self, compilation: Compilation, plan: Sheet, line: Line) -> None:
        self.compilation, self.plan, self.line = compilation, plan, line
        self.best: Timed | None = None
        self.fetched: frozenset[int] = frozenset()
        self.done = 0
        self.score = _score(compilation)

    def attempt(self, wanted: frozenset[int] | None) -> bool:
        """Whether it is better to fetch the weights of the tasks `wanted`."""
        self.done += 1
        found = self.line.timed(None if wanted is None else sorted(wanted))
        score = self._score(found)
        if score >= self.score:
            return False
        self.best, self.score = found, score
        self.fetched = frozenset(fetch[0] for fetch in found[2])
        return True

    def _score(self, found: Timed) -> Score:
        energy = self.plan.schedule.dynamic_energy
        for fetch in found[2]:
            candidate = self.plan.candidates[fetch[0]]
            energy += candidate.fetch_energy + candidate.energy - self.plan.schedule.tasks[fetch[0]].energy
        return _rated(self.compilation, max(found[1], default=0), energy)


def _rated(compilation: Compilation, latency: int, dynamic: int) -> Score:
    """Ticks beyond the latency budget, what the objective counts, and a tie-breaker: the smaller the better."""
    simulated, options = compilation.simulated, compilation.options
    if simulated is None:
        raise ValueError("prefetch needs a simulated placement")
    energy = dynamic + (options.period_ticks or latency) * simulated.static_power
    late = options.excess(latency)
    if options.objective == "energy":
        return late, energy, latency
    if options.objective == "edp":
        return late, energy * latency, latency
    return late, latency, energy


def _score(compilation: Compilation) -> Score:
    schedule = _schedule(compilation)
    return _rated(compilation, schedule.latency, schedule.dynamic_energy)


def _schedule(compilation: Compilation) -> Schedule:
    if compilation.schedule is None:
        raise ValueError("prefetch needs a schedule")
    return compilation.schedule


def _latency_and_energy(compilation: Compilation) -> tuple[int, int]:
    schedule = _schedule(compilation)
    return schedule.latency, schedule.energy


def _recorded(before: Compilation, after: Compilation) -> Compilation:
    """`after` with what `before` achieves."""
    latency, energy = _latency_and_energy(before)
    loads = [task for task in _schedule(after).tasks if task.kind == WEIGHT_LOAD]
    record = Prefetching(
        tuple(sorted(load.operator for load in loads)),
        sum(load.bytes for load in loads),
        latency * TICK_SECONDS,
        energy * 1e-12,
    )
    return replace(after, prefetching=record)
