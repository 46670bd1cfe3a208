"""Seeds: placements that a search sets out from.

Each accelerator alone, with the host for what it refuses; minimum cuts of the additive costs, with a price per resident
byte raised until the weights fit; the best use of the capacity by itself where it is short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from h4hc.ir.system import System
from h4hc.passes.capacity import repair_capacity
from h4hc.passes.core import Problem
from h4hc.passes.core.cutting import Weights
from h4hc.passes.load import least_load

_BALANCES = (1.0, 1.75, 3.0)
LATENCY, ENERGY, EDP, INTERVAL, LOAD = range(5)  # objectives of h4hc.passes.core


def distinct(seeds: Iterable[list[int] | None]) -> list[list[int]]:
    """`seeds` without repetitions."""
    return [list(modes) for modes in dict.fromkeys(tuple(seed) for seed in seeds if seed is not None)]


def energy_of_a_tick(data: Mapping[str, Any], devices: Iterable[int]) -> float:
    """Picojoules of static power of `devices` in a tick; none at a fixed frame rate, where they draw it anyway."""
    return 0.0 if data.get("period", 0) else float(sum(data["dev_static"][d] for d in devices))


def thrifty(data: Mapping[str, Any], modes: Sequence[int], mask: int) -> list[int]:
    """`modes` with operators moved to devices of `mask` where they cost less energy, static power included.

    A cut chooses between two accelerators; this lets the host take what both could do. Transfers are left out, as is what
    keeps weights on its device.
    """
    pointers, device_of, resident = data["mode_ptr"], data["mode_device"], data["mode_resident"]
    static = energy_of_a_tick(data, [d for d in range(data["devices"]) if mask >> d & 1])
    costs = [
        energy + static * work for energy, work in zip(data["mode_energy"], data["mode_work"], strict=True)
    ]
    found = []
    for v, mode in enumerate(modes):
        here = pointers[v] + mode
        light = [
            m for m in range(pointers[v], pointers[v + 1]) if mask >> device_of[m] & 1 and not resident[m]
        ]
        found.append(min([here, *light], key=costs.__getitem__) - pointers[v])
    return found


@dataclass(slots=True)
class Seeder:
    """Makes the seeds of one system. `kinds`: of the devices, by name; `budget`: of the latency, 0 for none."""

    system: System
    problem: Problem
    kinds: Mapping[str, str]
    objective: int
    budget: int
    bound_by_capacity: bool = field(
        default=False, init=False
    )  # whether a cut had more weights than there is room for

    def seeds(self, mask: int) -> Iterable[list[int] | None]:
        """Placements on the devices of `mask`; None for what is none."""
        self.bound_by_capacity = False
        devices = [d for d in range(self.system.data["devices"]) if mask >> d & 1]
        accelerators = [d for d in devices if self.kinds[self.system.devices[d]] != "host"]
        for device in accelerators or devices:
            yield self._fitted(self.problem.prefer(device, mask), mask)
        pairs = [(a, b) for i, a in enumerate(accelerators) for b in accelerators[i + 1 :]]
        if len(accelerators) == 1:
            pairs = [(accelerators[0], host) for host in devices if host not in accelerators]
        for first, second in pairs:
            for weights in self._weights(devices, first, second):
                yield self._cut(first, second, weights, mask)
        if self.bound_by_capacity:
            for device in accelerators:
                yield self.problem.knapsack(device, mask)

    def _weights(self, devices: list[int], first: int, second: int) -> list[Weights]:
        host = "host" in (self.kinds[self.system.devices[first]], self.kinds[self.system.devices[second]])
        static = energy_of_a_tick(self.system.data, devices)
        if self.objective in (INTERVAL, LOAD):
            return [
                Weights(balance=balance) for balance in (*_BALANCES, *self._prices(devices, first, second))
            ]
        if self.objective == LATENCY and not self.budget:
            return [Weights(balance=balance) for balance in ((1.0,) if host else _BALANCES)]
        energy = Weights(time=static, energy=1.0)
        if self.objective == ENERGY and not self.budget:
            return [energy]
        mixed = [Weights(time=static + price, energy=1.0) for price in (3.0, 30.0, 300.0)]
        return [energy, *mixed, Weights()]

    def _prices(self, devices: list[int], first: int, second: int) -> list[float]:
        """What a tick of `first` is worth in ticks of `second` where the loads are as even as they can be."""
        prices = least_load(self.system.data, sum(1 << d for d in devices)).prices
        return [prices[first] / prices[second]] if prices[first] and prices[second] else []

    def _cut(self, first: int, second: int, weights: Weights, mask: int) -> list[int] | None:
        w = weights
        overfull, modes = self.problem.cut_within(first, second, mask, w.time, w.energy, w.balance)
        self.bound_by_capacity = self.bound_by_capacity or overfull != 0
        return self._fitted(modes, mask) if overfull < 0 else modes

    def _fitted(self, modes: list[int] | None, mask: int) -> list[int] | None:
        return None if modes is None else repair_capacity(self.system, modes, mask)
