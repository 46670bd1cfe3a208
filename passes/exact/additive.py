"""Optima of costs that add up, and of the load of the busiest resource, by mixed-integer programming (HiGHS).

Variables: one binary per operator and mode; per tensor and pair of memories, whether it is copied (continuous: at the
optimum it is 0 or 1). A copy into memory b is forced by ``sum_a z[t, a, b] + x[producer in b] >= x[reader in b]``, the
form whose relaxation is nearly integral. Resident weights stay within the capacity of every device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Any

from h4hc.passes.exact.piece import machine_of
from h4hc.passes.exact.solver import math_opt

_NODES = 4000  # of the search tree: a limit that no machine changes
_HULL_POINTS = 40
_INFINITE = 1e300
# Bits of a time in a constraint: with 30 HiGHS was seen to return a wrong optimum, with 31 to fail.
_LARGEST = 28


@dataclass(frozen=True, slots=True)
class Placement:
    """What a program found: `modes` (empty: nothing), its `value`, and a bound on any."""

    modes: tuple[int, ...]
    value: int
    bound: int

    @property
    def proved(self) -> bool:
        """Whether the value is the least, to one part in 10^8 (the solver computes in floating point)."""
        return bool(self.modes) and self.bound >= self.value * (1 - 1e-8)


class Program:
    """The constraints of a placement; solve it for one objective after the other."""

    def __init__(self, data: Mapping[str, Any], seconds: float | None = None) -> None:
        self.data = data
        self.seconds = seconds
        self.mathopt = math_opt()
        self.model = self.mathopt.Model()
        self.machine = machine_of(data)
        self.choice: list[dict[int, Any]] = []  # per operator: mode -> binary
        self.places: list[dict[int, Any]] = []  # per operator: memory -> sum of binaries
        self.copies: list[tuple[Any, int, int]] = []  # variable, link, tensor
        for v in range(data["operators"]):
            self._operator(v)
        for tensor in range(data["tensors"]):
            self._tensor(tensor)
        self._capacity()
        self.peak_unit = unit_of(data)
        self.peak = self._peak()

    def _operator(self, v: int) -> None:
        data, add = self.data, self.model.add_binary_variable
        start = data["mode_ptr"][v]
        modes = {
            m - start: add()
            for m in range(start, data["mode_ptr"][v + 1])
            if data["mode_resident"][m] <= data["dev_capacity"][data["mode_device"][m]]
        }
        self.model.add_linear_constraint(self.mathopt.fast_sum(modes.values()) == 1)
        places: dict[int, Any] = {}
        for number, variable in modes.items():
            memory = data["dev_memory"][data["mode_device"][data["mode_ptr"][v] + number]]
            places[memory] = places[memory] + variable if memory in places else variable
        self.choice.append(modes)
        self.places.append(places)

    def _tensor(self, tensor: int) -> None:
        data = self.data
        producer, io = data["producer"][tensor], data["io_memory"]
        home: dict[int, Any] = {io: 1.0} if producer < 0 else self.places[producer]
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        needs: dict[int, list[Any]] = {}
        for v in readers:
            for memory, here in self.places[v].items():
                needs.setdefault(memory, []).append(here)
        if data["sink"][tensor]:
            needs.setdefault(io, []).append(1.0)
        for memory, wanted in needs.items():
            arriving: Any = home.get(memory, 0.0)
            for source, here in home.items():
                if source != memory:
                    copy = self.model.add_variable(lb=0.0, ub=1.0)
                    self.copies.append((copy, self.machine.link(source, memory), tensor))
                    arriving = arriving + copy
                    if producer >= 0:
                        self.model.add_linear_constraint(copy - here <= 0)
            for there in wanted:
                difference = arriving - there
                if not isinstance(difference, float):
                    self.model.add_linear_constraint(difference >= 0)

    def _capacity(self) -> None:
        for device, limit in enumerate(self.data["dev_capacity"]):
            used = [
                self.data["mode_resident"][m] * variable
                for m, variable in self._variables()
                if self.data["mode_device"][m] == device and self.data["mode_resident"][m]
            ]
            if used:
                self.model.add_linear_constraint(self.mathopt.fast_sum(used) <= limit)

    def _variables(self) -> list[tuple[int, Any]]:
        """(mode of the whole problem, binary)."""
        pointers = self.data["mode_ptr"]
        return [(pointers[v] + m, x) for v, modes in enumerate(self.choice) for m, x in modes.items()]

    def _peak(self) -> Any:
        """A variable, in `peak_unit` ticks, that is no less than the work of any device or, per channel, of any link."""
        data, unit = self.data, self.peak_unit
        peak = self.model.add_variable(lb=0.0)
        for device in range(data["devices"]):
            work = [
                data["mode_work"][m] / unit * x
                for m, x in self._variables()
                if data["mode_device"][m] == device
            ]
            if work:
                self.model.add_linear_constraint(self.mathopt.fast_sum(work) - peak <= 0)
        for link, channels in enumerate(data["link_channels"]):
            work = [
                data["xfer_work"][link * data["tensors"] + tensor] / unit * copy
                for copy, other, tensor in self.copies
                if other == link
            ]
            if work:
                self.model.add_linear_constraint(self.mathopt.fast_sum(work) - channels * peak <= 0)
        return peak

    def least_sum(self, time: int, energy: int) -> Placement:
        """The placement whose `time` * ticks + `energy` * picojoules, summed over all tasks, is least."""
        data = self.data
        terms = [
            (time * data["mode_work"][m] + energy * data["mode_energy"][m]) * x for m, x in self._variables()
        ]
        for copy, link, tensor in self.copies:
            at = link * data["tensors"] + tensor
            terms.append((time * data["xfer_work"][at] + energy * data["xfer_energy"][at]) * copy)
        found = self._solve(self.mathopt.fast_sum(terms))
        ticks, joules = sums(data, found.modes) if found.modes else (0, 0)
        return Placement(found.modes, time * ticks + energy * joules, found.bound)

    def least_peak(self) -> Placement:
        """The placement whose busiest device or channel has the least work: no initiation interval is below."""
        found = self._solve(self.peak, self.peak_unit)
        return Placement(found.modes, busiest(self.data, found.modes) if found.modes else 0, found.bound)

    def _solve(self, objective: Any, unit: int = 1) -> Placement:
        """The least `objective`, which counts in `unit`s."""
        mathopt = self.mathopt
        self.model.minimize(objective)
        limit = None if self.seconds is None else timedelta(seconds=self.seconds)
        parameters = mathopt.SolveParameters(
            time_limit=limit, node_limit=_NODES, random_seed=1, relative_gap_tolerance=0.0,
            absolute_gap_tolerance=0.25 / unit,
        )  # fmt: skip
        try:
            result = mathopt.solve(self.model, mathopt.SolverType.HIGHS, params=parameters)
        except (AttributeError, RuntimeError) as error:
            # OR-Tools 9.14 cannot tell what HiGHS found when the limit of nodes was reached
            if "HighsModelStatus" not in f"{error} {error.__context__}":
                raise
            result = mathopt.solve(self.model, mathopt.SolverType.GSCIP, params=parameters)
        bound = unit * result.termination.objective_bounds.dual_bound
        least = ceil(bound - max(1e-6, 1e-9 * abs(bound))) if abs(bound) < _INFINITE else 0
        if not result.has_primal_feasible_solution():
            return Placement((), 0, least)
        values = result.variable_values()
        modes = tuple([max(row, key=lambda m: values[row[m]]) for row in self.choice])
        return Placement(modes, 0, least)


def unit_of(data: Mapping[str, Any]) -> int:
    """Ticks, a power of two, in which the times of `data` are numbers that the solver can do with."""
    longest: int = max([*data["mode_work"], *data["xfer_work"]], default=0)
    return 1 << max(0, longest.bit_length() - _LARGEST)


def moved(data: Mapping[str, Any], modes: Sequence[int]) -> list[tuple[int, int]]:
    """(link, tensor) of every transfer that a placement needs."""
    machine = machine_of(data)
    memory = [data["dev_memory"][data["mode_device"][data["mode_ptr"][v] + m]] for v, m in enumerate(modes)]
    transfers = []
    for tensor, producer in enumerate(data["producer"]):
        home = data["io_memory"] if producer < 0 else memory[producer]
        readers = data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]]
        wanted = {memory[v] for v in readers}
        if data["sink"][tensor]:
            wanted.add(data["io_memory"])
        transfers += [(machine.link(home, there), tensor) for there in sorted(wanted - {home})]
    return transfers


def sums(data: Mapping[str, Any], modes: Sequence[int]) -> tuple[int, int]:
    """Ticks and picojoules of all tasks of a placement."""
    chosen = [data["mode_ptr"][v] + m for v, m in enumerate(modes)]
    copies = [link * data["tensors"] + tensor for link, tensor in moved(data, modes)]
    ticks = sum(data["mode_work"][m] for m in chosen) + sum(data["xfer_work"][at] for at in copies)
    joules = sum(data["mode_energy"][m] for m in chosen) + sum(data["xfer_energy"][at] for at in copies)
    return ticks, joules


def busiest(data: Mapping[str, Any], modes: Sequence[int]) -> int:
    """The work of the busiest device or channel of a placement, if the channels of a link share evenly."""
    devices = [0] * data["devices"]
    links = [0] * data["links"]
    for v, mode in enumerate(modes):
        m = data["mode_ptr"][v] + mode
        devices[data["mode_device"][m]] += data["mode_work"][m]
    for link, tensor in moved(data, modes):
        links[link] += data["xfer_work"][link * data["tensors"] + tensor]
    shares = [-(-work // channels) for work, channels in zip(links, data["link_channels"], strict=True)]
    return max([*devices, *shares], default=0)


def least_product(program: Program, static: float) -> Placement:
    """The placement with the least energy-delay product, in picojoules * ticks, if tasks run one after the other.

    Energy is that of the tasks and `static` picojoules per tick. The product is quasi-concave, so its minimum over
    the hull of all (ticks, picojoules) is at a corner, and every corner minimises some weighted sum: between two
    corners, the sum whose weights make them equal finds the next one, or shows that there is none.
    """
    ends = [program.least_sum(1, 0), program.least_sum(0, 1)]
    points: dict[tuple[int, int], tuple[int, ...]] = {}
    proved = all(end.proved for end in ends)
    if not all(end.modes for end in ends):
        return Placement((), 0, 0)
    spans = [(sums(program.data, ends[0].modes), sums(program.data, ends[1].modes))]
    points = {span: end.modes for span, end in zip(spans[0], ends, strict=True)}
    while spans and len(points) < _HULL_POINTS:
        (t0, e0), (t1, e1) = spans.pop()
        time, energy = e0 - e1, t1 - t0
        if time <= 0 or energy <= 0:
            continue
        scale = max(1, max(time, energy) >> 20)
        found = program.least_sum(time // scale, energy // scale)
        proved = proved and found.proved
        corner = sums(program.data, found.modes) if found.modes else (t0, e0)
        if corner in points or corner[0] * time + corner[1] * energy >= t0 * time + e0 * energy:
            continue
        points[corner] = found.modes
        spans += [((t0, e0), corner), (corner, (t1, e1))]
    products = {corner: round(corner[0] * (corner[1] + static * corner[0])) for corner in points}
    best = min(products, key=lambda corner: (products[corner], corner))
    complete = proved and not spans
    return Placement(points[best], products[best], products[best] if complete else 0)
