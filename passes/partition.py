"""Partition: which device runs each operator, in which mode and in how many tiles.

In:  graph, choices, target. Out: `Compilation.placement`, `Compilation.simulated`, `Compilation.baselines`.

Rules:
1. Seeds: each accelerator alone (with the host for what it refuses), and minimum cuts of the additive costs.
   Resident weights of all operators on a device together stay within its capacity: a price per byte is
   raised until the cut fits, then the least useful operators move away.
2. Every seed is scheduled with several tile counts, the best with groups of operators moved to devices that are
   little slower; local search improves one or two. The budget is a number of schedules, more of them the fewer
   operators there are, so the result does not depend on the speed of the machine.
3. A buffer larger than its memory, or one that does not fit beside the others, lives in the backing memory,
   and the operators that touch it pay for that.
4. A first search knows no copies of weights and changes no operator's mode on its device. A second one starts from
   its result with the room that is left given to copies and other larger modes, or from minimum cuts that know
   them. It never ends worse than the first.
5. The result is never worse than the best single-accelerator schedule. With `Options.baselines` those are
   searched in the same way (with a quarter of the budget: there is less to choose) and are among the seeds; else
   only their seeds are.
6. Exact effort goes on from there (h4hc.passes.exact.effort) and adds `Compilation.claims`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace

from h4hc.errors import InfeasibleError
from h4hc.ir.claim import Claim
from h4hc.ir.compilation import OBJECTIVES, Baseline, Compilation
from h4hc.ir.placement import Placement
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.system import Simulated, System
from h4hc.passes.capacity import fits_capacity, knapsack, repair_capacity, resident_bytes
from h4hc.passes.copies import fill, offers_choice, single_modes, without_copies
from h4hc.passes.core import Problem
from h4hc.passes.core.cutting import Weights
from h4hc.passes.memory import overflowing, oversized
from h4hc.passes.problem import build_system, with_spills

EVALUATIONS = {"fast": 64, "balanced": 500, "exact": 500}
_TILE_SEEDS = (1, 4, 8)
_BALANCES = (1.0, 1.75, 3.0)
_MORE_TILES = (2, 16)
_SLOWDOWNS = (1.0, 1.5, 2.5)
_PRICE_STEPS = 14
_FULL_SIZE = 250  # operators; smaller problems have more evaluations
_MOST_TIMES = 8.0
_STARTS = {"fast": 1, "balanced": 2, "exact": 2}  # seeds from which the search sets out
_SPILL_ROUNDS = {"fast": 1, "balanced": 3, "exact": 3}
_SEED = 0x9E3779B97F4A7C15

Score = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Partition:
    """Choose device, mode and tile count of every operator."""

    name: str = "partition"
    needs: tuple[str, ...] = ("graph", "choices")
    provides: tuple[str, ...] = ("placement", "simulated", "baselines", "claims")

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `placement`, its simulation, `baselines` and `claims`."""
        searcher = Searcher(compilation)
        plan, baselines = choose_plan(searcher)
        claims: tuple[Claim, ...] = ()
        if compilation.options.effort == "exact":
            from h4hc.passes.exact.effort import improve

            plan, claims = improve(searcher.full, plan)
        trace = Problem(plan.system.data).trace(plan.modes, plan.tiles, plan.order)
        simulated = Simulated(plan.system, plan.modes, plan.tiles, trace)
        return replace(
            compilation, placement=to_placement(plan), simulated=simulated, baselines=baselines, claims=claims
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement in the indices of `system`, and its score; `order` if it is not the list scheduler's."""

    system: System
    modes: tuple[int, ...]
    tiles: tuple[int, ...]
    score: Score
    spilled: frozenset[tuple[str, str]]
    order: tuple[int, ...] | None = None


def choose_plan(searcher: Searcher) -> tuple[Plan, tuple[Baseline, ...]]:
    """The best plan on all devices, and what each accelerator achieves alone."""
    compilation = searcher.compilation
    target = compilation.target
    accelerators = [device.name for device in target.devices if device.kind != "host"]
    everyone = searcher.system.device_mask(device.name for device in target.devices)
    alone: dict[str, Plan] = {}
    if compilation.options.baselines or len(accelerators) == 1:
        for name in accelerators:
            plan = searcher.search(searcher.mask_of(name), [], searcher.evaluations // 4)
            if plan is not None:
                alone[name] = plan
    best = None
    if len(accelerators) != 1 or not alone:
        best = searcher.search(everyone, list(alone.values()), searcher.evaluations)
    candidates = [plan for plan in (best, *alone.values()) if plan is not None]
    if not candidates:
        raise _no_device_set(compilation)
    baselines = tuple(Baseline(name, *searcher.seconds_and_joules(plan)) for name, plan in alone.items())
    return min(candidates, key=lambda plan: plan.score), baselines


def _no_device_set(compilation: Compilation) -> InfeasibleError:
    return InfeasibleError(
        f"no placement of {compilation.source.name} fits target {compilation.target.name}",
        code="no-placement",
        hint="enlarge its memories or its weight capacity, or add a host",
    )


def to_placement(plan: Plan) -> Placement:
    """`plan` by device and mode names."""
    data, system = plan.system.data, plan.system
    chosen = [data["mode_ptr"][v] + mode for v, mode in enumerate(plan.modes)]
    devices = tuple(system.devices[data["mode_device"][m]] for m in chosen)
    modes = tuple(costs[mode].mode for costs, mode in zip(system.mode_costs, plan.modes, strict=True))
    return Placement(devices, modes, plan.tiles, plan.spilled)


class Searcher:
    """One compilation's search: the systems per set of spilled buffers, options as numbers.

    `system` is the problem with the buffers of `spilled` in backing memory, `base` the one with none there.
    """

    def __init__(self, compilation: Compilation, *, whole: bool = False) -> None:
        """`whole`: operators run in one tile each, and the memory of activations has no limit."""
        options = compilation.options
        self.compilation = compilation
        self.objective = OBJECTIVES.index(options.objective)
        self.budget = int(options.budget_seconds / TICK_SECONDS) if options.budget_seconds else 0
        self.whole = whole
        self.base = build_system(compilation)
        operators = self.base.data["operators"]
        if whole:
            self.base = replace(self.base, data={**self.base.data, "rows": [1] * operators})
        times = max(1.0, min(_FULL_SIZE / max(1, operators), _MOST_TIMES))
        self.evaluations = int(EVALUATIONS[options.effort] * times)
        if options.evaluations is not None:
            self.evaluations = options.evaluations
        rows = self.base.data["rows"]
        self.tilings = [[min(tiles, r) for r in rows] for tiles in ((1,) if whole else _TILE_SEEDS)]
        self.single = single_modes(self.base)
        self._spill(oversized(self.base, compilation.target))

    def _spill(self, spilled: frozenset[tuple[str, str]]) -> None:
        self.spilled = spilled
        self.system = with_spills(self.base, self.compilation.target, spilled) if spilled else self.base
        self.problem = Problem(self.system.data)
        self.bound_by_capacity = False  # whether some cut has had more weights than there is room for
        self.with_copies: Searcher | None = None
        if offers_choice(self.system):
            self.with_copies = copy(self)
            self.system = without_copies(self.system, self.single)
            self.problem = Problem(self.system.data)

    def spilling(self, spilled: frozenset[tuple[str, str]]) -> Searcher:
        """A searcher like this one, with these buffers in backing memory from the start."""
        other = copy(self)
        other._spill(spilled)
        return other

    @property
    def full(self) -> Searcher:
        """The searcher that knows copies of weights."""
        return self.with_copies or self

    def mask_of(self, accelerator: str) -> int:
        """`accelerator` and every host."""
        hosts = [device.name for device in self.compilation.target.devices if device.kind == "host"]
        return self.system.device_mask([accelerator, *hosts])

    def search(self, mask: int, warm: list[Plan], evaluations: int) -> Plan | None:
        """The best plan found on the devices of `mask`; None if some operator runs on none of them.

        What a plan spills is not known before it is there: as long as that helps, the search goes on with those buffers
        spilled from the start.
        """
        parts = [self._rescored(p) for p in self._of_factors(mask, warm, evaluations)]
        plan = self._search(mask, [*warm, *parts], evaluations)
        plan = min([*([plan] if plan else []), *parts], key=lambda plan: plan.score, default=None)
        for _ in range(_SPILL_ROUNDS[self.compilation.options.effort]):
            if plan is None or plan.spilled == self.spilled:
                break
            again = self.spilling(plan.spilled)._search(mask, [plan], evaluations // 2)
            if again is None or again.score >= plan.score:
                break
            plan = again
        return plan

    def _of_factors(self, mask: int, warm: list[Plan], evaluations: int) -> list[Plan]:
        """For the energy-delay product, plans for delay and for energy: its optimum lies between theirs."""
        plans = []
        for objective in (0, 1) if OBJECTIVES[self.objective] == "edp" else ():
            other = copy(self)
            other.objective = objective
            if other.with_copies:
                other.with_copies = copy(other.with_copies)
                other.with_copies.objective = objective
            plans.append(other._search(mask, warm, evaluations))
        return [plan for plan in plans if plan is not None]

    def _rescored(self, plan: Plan) -> Plan:
        problem = Problem(plan.system.data)
        return replace(
            plan, score=problem.score(plan.modes, plan.tiles, self.objective, self.budget, plan.order)
        )

    def _search(self, mask: int, warm: list[Plan], evaluations: int) -> Plan | None:
        seeds = [list(modes) for modes in _distinct(self._seeds(mask))]
        scored = [(*self._best_tiling(modes), modes) for modes in seeds]
        singles = [(self._without_copies(p.modes), list(p.tiles)) for p in warm]
        scored += [(self._score(modes, tiles), tiles, modes) for modes, tiles in singles]
        if not scored:
            return None
        climbed = []
        for start in sorted(scored)[: _STARTS[self.compilation.options.effort]]:
            _, tiles, modes = self._offloaded(*start, mask)
            modes, tiles = self.problem.climb(
                modes, tiles, evaluations, _SEED, mask, self.objective, self.budget
            )
            climbed.append((self._score(modes, tiles), tiles, modes))
        _, tiles, modes = min(climbed)
        modes = self._without_copies(modes) if self.with_copies else modes
        plan = self.fit_memory(tuple(modes), tuple(tiles))
        if self.with_copies is None:
            return plan
        try:
            improved = self.with_copies.improve(modes, tiles, mask, evaluations // 2)
        except InfeasibleError:  # its activations fit no memory; those of `plan` do
            return plan
        return min(plan, improved, key=lambda plan: plan.score)

    def improve(self, modes: list[int], tiles: list[int], mask: int, evaluations: int) -> Plan:
        """The better of the given plan with copies in the room it leaves and the best one found with them (rule 4)."""
        given = self._filled(modes, tiles, evaluations)
        seeds = [(*self._best_tiling(list(modes)), list(modes)) for modes in _distinct(self._seeds(mask))]
        best = min([given, *seeds])
        _, tiles, modes = best if best == given else self._offloaded(*best, mask)
        modes, tiles = self.problem.climb(modes, tiles, evaluations, _SEED, mask, self.objective, self.budget)
        _, tiles, modes = min(given, self._filled(modes, tiles, evaluations))
        return self.fit_memory(tuple(modes), tuple(tiles))

    def _offloaded(
        self, score: Score, tiles: list[int], modes: list[int], mask: int
    ) -> tuple[Score, list[int], list[int]]:
        """The better of a placement and ones that put all operators on a device that it slows down by little.

        A minimum cut sees no gain in a second device that is no faster; overlap makes it one.
        """
        best = score, tiles, modes
        for count in _MORE_TILES:
            finer = [min(count, rows) for rows in self.base.data["rows"]]
            best = min(best, (self._score(modes, finer), finer, modes))
        data = self.system.data
        pointers, work, device_of = data["mode_ptr"], data["mode_work"], data["mode_device"]
        for device in [d for d in range(data["devices"]) if mask >> d & 1]:
            slowdowns = [
                (work[pointers[v] + m] / max(1, work[pointers[v] + best[2][v]]), v, m)
                for v, m in self._light_modes(device)
                if device_of[pointers[v] + best[2][v]] != device
            ]
            moved = list(best[2])
            for low, high in zip((0.0, *_SLOWDOWNS), _SLOWDOWNS, strict=False):
                chosen = [(v, m) for slowdown, v, m in slowdowns if low < slowdown <= high]
                for v, m in chosen:
                    moved[v] = m
                for tiling in (best[1], self.tilings[-1]) if chosen else ():
                    best = min(best, (self._score(moved, tiling), tiling, list(moved)))
        return best

    def _light_modes(self, device: int) -> list[tuple[int, int]]:
        """(operator, mode) of the first mode on `device` that keeps no weights there, where there is one."""
        data = self.system.data
        pointers, device_of, resident = data["mode_ptr"], data["mode_device"], data["mode_resident"]
        return [
            (v, m - pointers[v])
            for v in range(len(pointers) - 1)
            for m in range(pointers[v], pointers[v + 1])
            if device_of[m] == device and not resident[m]
        ][::-1]

    def _filled(
        self, modes: Sequence[int], tiles: list[int], evaluations: int
    ) -> tuple[Score, list[int], list[int]]:
        limits = self.system.data["dev_capacity"]
        room = [limit - used for limit, used in zip(limits, resident_bytes(self.system, modes), strict=True)]
        found = fill(self.system, modes, room, lambda chosen: self._score(chosen, tiles), evaluations)
        return self._score(found, tiles), tiles, found

    def _without_copies(self, modes: Sequence[int]) -> list[int]:
        pointers = self.system.data["mode_ptr"]
        return [self.single[pointers[v] + mode] - pointers[v] for v, mode in enumerate(modes)]

    def seconds_and_joules(self, plan: Plan) -> tuple[float, float]:
        """Latency and energy of `plan`."""
        latency, energy, used, _, _ = Problem(plan.system.data).trace(plan.modes, plan.tiles)
        static = sum(w for d, w in enumerate(plan.system.data["dev_static"]) if used >> d & 1)
        return latency * TICK_SECONDS, (energy + round(static * latency)) * 1e-12

    def _score(self, modes: Sequence[int], tiles: Sequence[int]) -> Score:
        return self.problem.score(modes, tiles, self.objective, self.budget)

    def _best_tiling(self, modes: list[int]) -> tuple[Score, list[int]]:
        return min((self._score(modes, tiles), tiles) for tiles in self.tilings)

    def _seeds(self, mask: int) -> Iterable[list[int] | None]:
        devices = [d for d in range(self.system.data["devices"]) if mask >> d & 1]
        kinds = {device.name: device.kind for device in self.compilation.target.devices}
        accelerators = [d for d in devices if kinds[self.system.devices[d]] != "host"]
        for device in accelerators or devices:
            yield self._fitted(self.problem.prefer(device, mask), mask)
        pairs = [(a, b) for i, a in enumerate(accelerators) for b in accelerators[i + 1 :]]
        if len(accelerators) == 1:
            pairs = [(accelerators[0], host) for host in devices if host not in accelerators]
        for first, second in pairs:
            for weights in self._weights(devices, len(accelerators) > 1):
                yield self._cut(first, second, weights, mask)
        if self.bound_by_capacity:
            for device in accelerators:
                yield knapsack(self.system, device, mask)

    def _weights(self, devices: list[int], pairs_accelerators: bool) -> list[Weights]:
        static = sum(self.system.data["dev_static"][d] for d in devices)
        if self.objective == 0 and not self.budget:
            return [Weights(balance=balance) for balance in (_BALANCES if pairs_accelerators else (1.0,))]
        energy = Weights(time=static, energy=1.0)
        if self.objective == 1 and not self.budget:
            return [energy]
        mixed = [Weights(time=static + price, energy=1.0) for price in (3.0, 30.0, 300.0)]
        return [energy, *mixed, Weights()]

    def _cut(self, first: int, second: int, weights: Weights, mask: int) -> list[int] | None:
        modes = self._priced_cut(first, second, weights, mask)
        if modes is None or fits_capacity(self.system, modes):
            return modes
        self.bound_by_capacity = True
        low, high, fitting = 0.0, self._highest_price(weights), None
        for _ in range(_PRICE_STEPS):
            price = (low + high) / 2
            priced = self._priced_cut(first, second, replace(weights, price=price), mask)
            if priced is not None and fits_capacity(self.system, priced):
                high, fitting = price, priced
            else:
                low = price
        return fitting if fitting is not None else self._fitted(modes, mask)

    def _priced_cut(self, first: int, second: int, weights: Weights, mask: int) -> list[int] | None:
        w = weights
        return self.problem.cut(first, second, mask, w.time, w.energy, w.balance, w.price)

    def _highest_price(self, weights: Weights) -> float:
        """A price per byte at which no resident mode is worth its weights."""
        data = self.system.data
        worst = 1.0
        for m, resident in enumerate(data["mode_resident"]):
            if resident:
                cost = weights.time * data["mode_work"][m] + weights.energy * data["mode_energy"][m]
                worst = max(worst, 64 * (cost + 1) / resident)
        return worst

    def _fitted(self, modes: list[int] | None, mask: int) -> list[int] | None:
        return None if modes is None else repair_capacity(self.system, modes, mask)

    def fit_memory(
        self, modes: tuple[int, ...], tiles: tuple[int, ...], order: tuple[int, ...] | None = None
    ) -> Plan:
        """Spill buffers until all memories hold what lives in them."""
        system, problem, spilled = self.system, self.problem, self.spilled
        target = self.compilation.target
        while True:
            trace = problem.trace(modes, tiles, order)
            more = frozenset[tuple[str, str]]() if self.whole else overflowing(system, modes, trace, target, spilled)
            if not more:
                score = problem.score(modes, tiles, self.objective, self.budget, order)
                return Plan(system, modes, tiles, score, spilled, order)
            spilled |= more
            system = with_spills(self.base, target, spilled)
            problem = Problem(system.data)


def _distinct(seeds: Iterable[list[int] | None]) -> list[tuple[int, ...]]:
    return list(dict.fromkeys(tuple(seed) for seed in seeds if seed is not None))
