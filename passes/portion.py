"""Which operators two devices might compute faster together, and how many channels each takes.

Judged by the costs of the operator alone, beside its cost in the placement so far: see h4hc.passes.split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from math import lcm
from typing import NamedTuple

from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.workload import Conv, Kernel, MatMul, Move
from h4hc.passes.problem import link_joules

_STEPS = 4  # fractions that are looked at: quarters, what the costs of the whole suggest, and what there is room for
_CLOSER_LOOKS = 8  # operators


class Portion(NamedTuple):
    """Operator `number` in two parts on `devices`, the first with `first` channels; `gain` in seconds or joules.

    `fits`: whether there is room for the weights of the parts beside those that the placement keeps.
    """

    gain: float
    number: int
    devices: tuple[str, str]
    first: int
    fits: bool


def output_channels(kernel: Kernel) -> int:
    """The output channels that parts of `kernel` can share out; 0 if it has no such parts."""
    match kernel.workload:
        case Conv() as conv if conv.groups == 1 and not conv.transposed and conv.out_h * conv.out_w > 1:
            return conv.out_channels
        case MatMul(dynamic=False, batch=1) as product:
            return product.n
        case _:
            return 0


def with_channels(kernel: Kernel, channels: int) -> Kernel:
    """The part of `kernel` that computes `channels` of its output channels."""
    workload = kernel.workload
    if isinstance(workload, Conv):
        return kernel._replace(workload=replace(workload, out_channels=channels))
    if isinstance(workload, MatMul):
        return kernel._replace(workload=replace(workload, n=channels))
    raise TypeError(f"{type(workload).__name__} has no output channels")


def portions(compilation: Compilation, *, count_join: bool, least: float = 0.0) -> list[Portion]:
    """The operators of `compilation` that may gain by being split: first what there is room for, then by gain.

    `count_join`: whether the copy that puts the parts together counts. Gains below `least` do not.
    """
    return _Estimator(compilation, count_join, least).portions()


class _Estimator:
    """Costs of parts, as the objective counts them: seconds, or joules."""

    def __init__(self, compilation: Compilation, count_join: bool, least: float) -> None:
        self._least_gain = least
        self._compilation = compilation
        self._target = target = compilation.target
        self._count_join = count_join
        self._by_energy = compilation.options.objective == "energy"
        self._accelerators = [device.name for device in target.devices if device.kind != "host"]
        used = [name for device in target.devices for name in (device.memory, device.spill) if name]
        self._alignment = lcm(*(target.memory(name).alignment for name in used))
        self._known: dict[tuple[str, Kernel], Cost | None] = {}
        self._used: dict[str, list[int]] = {}

    def portions(self) -> list[Portion]:
        promising = sorted(self._promising(), key=lambda p: (-p.gain, p.number, p.devices))
        found = dict.fromkeys(
            better for portion in promising[:_CLOSER_LOOKS] for better in self._best_portions(portion)
        )
        return sorted(found, key=lambda p: (not p.fits, -p.gain, p.number, p.devices))

    def _promising(self) -> Iterable[Portion]:
        """What could be gained at best, if parts cost no more than their share of the whole."""
        compilation = self._compilation
        graph, choices, placement = compilation.graph, compilation.choices, compilation.placement
        if graph is None or choices is None or placement is None:
            raise ValueError("splitting needs graph, choices and placement")
        for index, (operator, row) in enumerate(zip(graph.operators, choices.rows, strict=True)):
            channels = output_channels(operator.kernel)
            able = {name: self._least(row[name]) for name in self._accelerators}
            found = {name: self._measure(cost) for name, cost in able.items() if cost is not None}
            if channels < 2 or len(found) < 2:
                continue
            now = self._current(row[placement.devices[index]], placement.modes[index])
            joined = self._join(operator.kernel, 0)[0]
            for a, b in combinations(found, 2):
                ideal = min(found[a], found[b]) if self._by_energy else _together(found[a], found[b])
                if now - ideal - joined > self._least_gain:
                    first = round(channels * found[b] / (found[a] + found[b]))
                    yield Portion(now - ideal - joined, index, (a, b), first, False)

    def _best_portions(self, portion: Portion) -> list[Portion]:
        """`portion` with the best numbers of channels in whole granules: of all, and of those that fit now."""
        compilation = self._compilation
        if compilation.graph is None or compilation.choices is None or compilation.placement is None:
            raise ValueError("splitting needs graph, choices and placement")
        kernel = compilation.graph.operators[portion.number].kernel
        entry = compilation.choices.rows[portion.number][compilation.placement.devices[portion.number]]
        now = self._current(entry, compilation.placement.modes[portion.number])
        channels = output_channels(kernel)
        room = [self._room_for_channels(name, portion.number, kernel) for name in portion.devices]
        near = [portion.first, room[0], channels - room[1]]
        granules = [compilation.backends[name].channel_granule(kernel) for name in portion.devices]
        found = []
        for first in cut_points(channels, near, granules):
            joined, memory = self._join(kernel, first)
            measures, fits = [], True
            for name, count in zip(portion.devices, (first, channels - first), strict=True):
                part = with_channels(kernel, count)
                cost = self._asked(name, part)
                if cost is not None:
                    measures.append(self._measure(cost) + self._delivery(name, part, memory))
                    fits = fits and cost.resident_bytes <= self._room(name, portion.number)
            if len(measures) == 2:
                gain = now - (sum(measures) if self._by_energy else max(measures)) - joined
                found.append(Portion(gain, portion.number, portion.devices, first, fits))
        gaining = [portion for portion in found if portion.gain > self._least_gain]
        groups = [gaining, [portion for portion in gaining if portion.fits]]
        return [max(group, key=lambda p: (p.gain, -p.first)) for group in groups if group]

    def _room(self, device: str, number: int) -> int:
        """Bytes of resident weights that `device` has left, and what operator `number` takes of them now."""
        placement, choices = self._compilation.placement, self._compilation.choices
        if placement is None or choices is None:
            raise ValueError("splitting needs choices and placement")
        if device not in self._used:
            places = zip(choices.rows, placement.devices, placement.modes, strict=True)
            self._used[device] = [
                _cost_in(row[device], mode).resident_bytes if place == device else 0
                for row, place, mode in places
            ]
        used = self._used[device]
        return self._compilation.backends[device].capacity_bytes - sum(used) + used[number]

    def _room_for_channels(self, device: str, number: int, kernel: Kernel) -> int:
        """Output channels of `kernel` whose weights `device` has room for."""
        cost = self._asked(device, kernel)
        channels = output_channels(kernel)
        if cost is None or not cost.resident_bytes:
            return channels
        return max(0, min(channels, channels * self._room(device, number) // cost.resident_bytes))

    def _delivery(self, device: str, kernel: Kernel, memory: str) -> float:
        """Bringing the result of `kernel` on `device` to `memory`."""
        own = self._target.device(device).memory
        if own == memory:
            return 0.0
        link = self._target.link_between(own, memory)
        if self._by_energy:
            return kernel.output_bytes * link_joules(self._target, link)
        return link.latency + kernel.output_bytes / link.bandwidth

    def _join(self, kernel: Kernel, first: int) -> tuple[float, str]:
        """What it costs to put the parts of `kernel` together, and the memory where that is cheapest.

        Nothing if the parts follow one another in the result, the second at an aligned address.
        """
        elements = kernel.workload.output_elements
        run = elements // max(1, output_channels(kernel)) if isinstance(kernel.workload, Conv) else 1
        copy = Kernel(Move("concat", elements, elements, run), (), kernel.precision)
        costs = [(self._asked(name, copy), name) for name in (*self._accelerators, self._target.io)]
        known = [(self._measure(cost), name) for cost, name in costs if cost is not None]
        if not known:
            return float("inf"), self._target.device(self._target.io).memory
        cost, name = min(known, key=lambda item: item[0])
        bits = elements // max(1, output_channels(kernel)) * first * kernel.precision.activation_bits
        free = not self._count_join or (_contiguous(kernel) and bits % (8 * self._alignment) == 0)
        return 0.0 if free else cost, self._target.device(name).memory

    def _asked(self, device: str, kernel: Kernel) -> Cost | None:
        """The least cost of `kernel` on `device`; None if it is refused."""
        key = device, kernel
        if key not in self._known:
            self._known[key] = self._least(self._compilation.backends[device].costs(kernel))
        return self._known[key]

    def _least(self, entry: tuple[Cost, ...] | Refusal) -> Cost | None:
        return None if isinstance(entry, Refusal) else min(entry, key=self._measure)

    def _current(self, entry: tuple[Cost, ...] | Refusal, mode: str) -> float:
        return self._measure(_cost_in(entry, mode))

    def _measure(self, cost: Cost) -> float:
        return cost.joules if self._by_energy else cost.seconds


def _cost_in(entry: tuple[Cost, ...] | Refusal, mode: str) -> Cost:
    """The cost of the mode that a placement has chosen."""
    if isinstance(entry, Refusal):
        raise TypeError(f"the placement uses a device that refuses: {entry.reason}")
    return next(cost for cost in entry if cost.mode == mode)


def _contiguous(kernel: Kernel) -> bool:
    """Whether the result's channels lie one behind the other."""
    workload = kernel.workload
    return (
        workload.batch == 1
        if isinstance(workload, Conv)
        else isinstance(workload, MatMul) and workload.m == 1
    )


def _together(first: float, second: float) -> float:
    """The time of two devices that share the work so that they finish together."""
    return first * second / (first + second) if first + second > 0 else 0.0


def cut_points(channels: int, near: Iterable[int], granules: Sequence[int]) -> list[int]:
    """Numbers of channels of the first part: whole granules of the first device, or of the second for the rest.

    `near` are numbers to look at, rounded down for either device; quarters are added because parts cost more than their share.
    """
    first, second = granules
    found = set()
    for point in (*near, *(channels * step // _STEPS for step in range(1, _STEPS))):
        found.add(point // first * first)
        found.add(channels - (channels - point) // second * second)
    return sorted(point for point in found if 0 < point < channels)
