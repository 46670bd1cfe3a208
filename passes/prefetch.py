"""Prefetch: fetch weights before their operator starts, while others compute.

In:  the schedule without memory, and those of each accelerator alone. Out: `Compilation.schedule` with fetches, placement to
match, `Compilation.prefetching`.

Rules:
1. An operator can have its weights fetched where its device offers that (`Backend.prefetched`), in no more time than it
   takes now, and where they fit in the device's memory.
2. Tasks keep device, tiles and order. First the weights of all operators are fetched, or of each that ends no later by
   it; then single operators change, and runs of them, as long as the objective improves (a number of schedules by effort).
3. A fetch takes its memory's port for itself (h4hc.passes.core.fetching), and room from its start to the end of its
   operator. If the memories turn out too small, it begins as late as nothing is delayed; then less room is given to weights.
4. Kept is what scores better. So that more choice is never worse, what each accelerator achieves alone, what there is without
   copies of weights, and the model without split operators are improved in the same way, and the best wins.
5. Not at fast effort: the search for a plan takes longer than all the rest of it.
6. With several frames in flight, in the cyclic order that there is (h4hc.passes.steady). The second-best order that the
   pipeline found is improved, too, and the same placement with one frame in flight: fetches may make those the faster ones.
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
from h4hc.passes.fetches import sheet
from h4hc.passes.schedule import make_schedule
from h4hc.passes.steady import steady
from h4hc.passes.trials import Always, Once, Trial, keeps_rate, score, searched

EVALUATIONS = {"balanced": 150, "exact": 1000}
_ROOM = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.7, 0.5)  # shares of the room that is there


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
        if _schedule(compilation).frames_in_flight > 1:
            single = (found for found in self._alone(compilation) if found.prefetching)
            best = min([first, *(_recorded(compilation, found) for found in single)], key=score)
        baselines = {baseline.name: baseline for baseline in compilation.baselines}
        for name, rival in compilation.rivals:
            for found in self._rivalling(compilation, first, rival):
                if name in baselines:
                    baselines[name] = _baseline(baselines[name], _schedule(found))
                if score(found) < score(best):
                    best = found
        if compilation.refusal is not None and not keeps_rate(_schedule(best), best.options):
            raise compilation.refusal
        return replace(
            best,
            baselines=tuple(baselines.values()),
            claims=compilation.claims,
            rivals=(),
            refusal=None,
        )

    def _rivalling(
        self, compilation: Compilation, first: Compilation, rival: Compilation
    ) -> Iterator[Compilation]:
        """What comes of `rival`, `first` being what came of `compilation`."""
        if rival.schedule is not None and rival.schedule.frames_in_flight > 1:
            yield _recorded(compilation, self._improved(rival))
        elif rival.placement == compilation.placement:
            yield first
        else:
            yield from self._alone(rival)

    def _alone(self, compilation: Compilation) -> Iterator[Compilation]:
        """The placement with one frame in flight and weights fetched; nothing if that is too slow for the frame rate."""
        schedule, simulated = make_schedule(compilation), compilation.simulated
        interval = compilation.options.spacing(schedule.latency)
        static = round(simulated.static_power * interval) if simulated else 0
        schedule = replace(schedule, initiation_interval=interval, static_energy=static)
        found = self._improved(replace(compilation, schedule=schedule))
        if keeps_rate(_schedule(found), found.options):
            yield found

    def _improved(self, compilation: Compilation) -> Compilation:
        """`compilation` with weights fetched, if that is better."""
        costs = dict(self._costs(compilation))
        if not costs:
            return compilation
        plan = sheet(compilation, costs)
        schedule, budget = _schedule(compilation), EVALUATIONS[compilation.options.effort]
        trial: Trial = Always(steady(plan)) if schedule.frames_in_flight > 1 else Once(plan)
        for share in _ROOM:
            found = searched(trial, trial.line(share), budget)
            if found is None:
                return compilation
            for result in trial.results(found):
                if score(result) < score(compilation) and _fits(result):
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


def _baseline(before: Baseline, schedule: Schedule) -> Baseline:
    """What an accelerator achieves alone with weights fetched in `schedule`, or without."""
    energy = min(before.energy, schedule.energy * 1e-12)
    interval = min(before.interval, schedule.initiation_interval * TICK_SECONDS)
    return Baseline(before.name, schedule.latency * TICK_SECONDS, energy, interval)


def _fits(compilation: Compilation) -> bool:
    """Whether the memories hold the schedule, as far as first fit finds out."""
    try:
        place_buffers(compilation, _schedule(compilation), quickly=True)
    except InfeasibleError:
        return False
    return True


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
        _schedule(before).initiation_interval * TICK_SECONDS,
        energy * 1e-12,
    )
    return replace(after, prefetching=record)
