"""Partition: which device runs each operator, in which mode and in how many tiles.

In:  graph, choices, target. Out: `Compilation.placement`, `Compilation.simulated`, `Compilation.baselines`.

Rules:
1. Seeds: each accelerator alone (with the host for what it refuses), and minimum cuts of the additive costs.
   Resident weights of all operators on a device together stay within its capacity: a price per byte is
   raised until the cut fits, then the least useful operators move away.
2. Every seed is scheduled with several tile counts; the best one is improved by local search. The budget is a
   number of schedules, so the result does not depend on the speed of the machine.
3. A buffer larger than its memory, or one that does not fit beside the others, lives in the backing memory,
   and the operators that touch it pay for that.
4. The result is never worse than the best single-accelerator schedule. With `Options.baselines` those are
   searched in the same way (with a quarter of the budget: there is less to choose) and are among the seeds; else
   only their seeds are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import OBJECTIVES, Baseline, Compilation
from h4hc.ir.placement import Placement
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.system import Simulated, System
from h4hc.passes.core import Problem
from h4hc.passes.core.cutting import Weights
from h4hc.passes.memory import overflowing, oversized
from h4hc.passes.problem import build_system, with_spills

EVALUATIONS = {"fast": 64, "balanced": 500}
_TILE_SEEDS = (1, 4, 8)
_BALANCES = (1.0, 1.75, 3.0)
_PRICE_STEPS = 14
_SEED = 0x9E3779B97F4A7C15

Score = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Partition:
    """Choose device, mode and tile count of every operator."""

    name: str = "partition"
    needs: tuple[str, ...] = ("graph", "choices")
    provides: tuple[str, ...] = ("placement", "simulated", "baselines")

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `placement`, its simulation and `baselines`."""
        plan, baselines = choose_plan(compilation)
        trace = Problem(plan.system.data).trace(plan.modes, plan.tiles)
        simulated = Simulated(plan.system, plan.modes, plan.tiles, trace)
        return replace(compilation, placement=to_placement(plan), simulated=simulated, baselines=baselines)


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement in the indices of `system`, and its score."""

    system: System
    modes: tuple[int, ...]
    tiles: tuple[int, ...]
    score: Score
    spilled: frozenset[tuple[str, str]]


def choose_plan(compilation: Compilation) -> tuple[Plan, tuple[Baseline, ...]]:
    """The best plan on all devices, and what each accelerator achieves alone."""
    target = compilation.target
    searcher = _Searcher(compilation)
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


class _Searcher:
    """One compilation's search: the systems per set of spilled buffers, options as numbers."""

    def __init__(self, compilation: Compilation) -> None:
        options = compilation.options
        self.compilation = compilation
        self.objective = OBJECTIVES.index(options.objective)
        self.budget = int(options.budget_seconds / TICK_SECONDS) if options.budget_seconds else 0
        self.evaluations = EVALUATIONS[options.effort] if options.evaluations is None else options.evaluations
        self.base = self.system = build_system(compilation)
        large = oversized(self.system, compilation.target)
        if large:
            self.system = with_spills(self.system, compilation.target, large)
        self.spilled = large
        self.problem = Problem(self.system.data)
        self.tilings = [[min(tiles, r) for r in self.system.data["rows"]] for tiles in _TILE_SEEDS]

    def mask_of(self, accelerator: str) -> int:
        """`accelerator` and every host."""
        hosts = [device.name for device in self.compilation.target.devices if device.kind == "host"]
        return self.system.device_mask([accelerator, *hosts])

    def search(self, mask: int, warm: list[Plan], evaluations: int) -> Plan | None:
        """The best plan found on the devices of `mask`; None if some operator runs on none of them."""
        seeds = [list(modes) for modes in _distinct(self._seeds(mask))]
        scored = [(*self._best_tiling(modes), modes) for modes in seeds]
        scored += [(self._score(p.modes, p.tiles), list(p.tiles), list(p.modes)) for p in warm]
        if not scored:
            return None
        _, tiles, modes = min(scored)
        modes, tiles = self.problem.climb(modes, tiles, evaluations, _SEED, mask, self.objective, self.budget)
        return self._fit_memory(tuple(modes), tuple(tiles))

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

    def _fit_memory(self, modes: tuple[int, ...], tiles: tuple[int, ...]) -> Plan | None:
        """Spill buffers until all memories hold what lives in them."""
        system, problem, spilled = self.system, self.problem, self.spilled
        target = self.compilation.target
        while True:
            more = overflowing(system, problem.trace(modes, tiles), target, spilled)
            if not more:
                score = problem.score(modes, tiles, self.objective, self.budget)
                return Plan(system, modes, tiles, score, spilled)
            spilled |= more
            system = with_spills(self.base, target, spilled)
            problem = Problem(system.data)


def _distinct(seeds: Iterable[list[int] | None]) -> list[tuple[int, ...]]:
    return list(dict.fromkeys(tuple(seed) for seed in seeds if seed is not None))


def resident_bytes(system: System, modes: Iterable[int]) -> list[int]:
    """Bytes of resident weights per device."""
    data = system.data
    used = [0] * data["devices"]
    for v, mode in enumerate(modes):
        m = data["mode_ptr"][v] + mode
        used[data["mode_device"][m]] += data["mode_resident"][m]
    return used


def fits_capacity(system: System, modes: Iterable[int]) -> bool:
    """Whether resident weights are within the capacity of every device."""
    return all(
        used <= limit
        for used, limit in zip(resident_bytes(system, modes), system.data["dev_capacity"], strict=True)
    )


def repair_capacity(system: System, modes: list[int], mask: int) -> list[int] | None:
    """Move operators off overfull devices, those first that lose the least time per byte freed.

    None if an operator has nowhere else to go.
    """
    data = system.data
    modes = list(modes)
    used = resident_bytes(system, modes)
    for device, limit in enumerate(data["dev_capacity"]):
        if used[device] <= limit:
            continue
        moves = []
        for v, mode in enumerate(modes):
            start = data["mode_ptr"][v]
            m = start + mode
            if data["mode_device"][m] != device or not data["mode_resident"][m]:
                continue
            others = [
                (data["mode_work"][o], o - start)
                for o in range(start, data["mode_ptr"][v + 1])
                if not data["mode_resident"][o] and mask >> data["mode_device"][o] & 1
            ]
            if others:
                work, other = min(others)
                moves.append(((work - data["mode_work"][m]) / data["mode_resident"][m], v, other))
        for _, v, other in sorted(moves):
            if used[device] <= limit:
                break
            used[device] -= data["mode_resident"][data["mode_ptr"][v] + modes[v]]
            modes[v] = other
        if used[device] > limit:
            return None
    return modes
