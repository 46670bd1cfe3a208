"""A bound on the latency of a frame, and on the interval with few frames in flight, that sees placement, work and order at once.

In:  the arrays of h4hc.passes.core, how many frames may be in flight. Out: ticks that no initiation interval is below (with one
frame: no latency).

A program: every operator has a start, the end of its first tile, and an end; the largest end is at most `frames` intervals,
and no device or link has more work than one. Its relaxation to a linear program is solved, which takes few seconds and
comes close. Constraints that hold for every schedule:

1. The first tile of an operator in T tiles takes its work / T; more tiles take more work. The lower hull of both per mode.
2. A reader starts behind the tiles that its first one needs, and a chunk of the transfer or the hand-off between devices; it ends
   a tile behind what its last one needs. A transfer takes its whole time from the first tile on.
3. Operators on one device run one after the other: a reader on the device of its producer starts behind it, and between
   the start of an operator and the end of another, each device does all its work that lies between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from math import ceil
from typing import Any

from h4hc.passes.core.reference import MAX_TILES
from h4hc.passes.exact.additive import Program, unit_of

_SPAN = 6  # ancestors between which and an operator each device's work is summed up
MOST_OPERATORS = 600  # beyond which the program takes too long
_CERTAIN = 1e-6  # of the bound, for the solver's floating point
_ROUNDING = 2  # ticks by which whole tiles and rows may be off
_TIMES = ("mode_work", "xfer_work", "dev_overhead", "link_overhead")

Line = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Times:
    """Variables of an operator: start, end of the first tile, end; duration of the first tile; work, by device and in all."""

    start: Any
    first: Any
    end: Any
    tile: Any
    by_device: Mapping[int, Any]
    work: Any


def least_interval(data: Mapping[str, Any], frames: int, seconds: float | None = None) -> int:
    """Ticks that no interval is below with up to `frames` frames in flight; with one frame that is the latency.

    0 if the problem is too large, or `seconds` are not enough.
    """
    if not 0 < data["operators"] <= MOST_OPERATORS:
        return 0
    return _Flow(data, frames, seconds).bound()


def least_tiles(work: int, overhead: int, tiles: int) -> list[Line]:
    """Lines (slope, height) that are nowhere above the ticks of a first tile, by the ticks of all tiles, of 1 to `tiles`."""
    points = [(total := work + (count - 1) * overhead, total // count) for count in range(1, tiles + 1)]
    hull: list[tuple[int, int]] = []
    for point in points if overhead else points[-1:]:
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    lines = [(0.0, float(min(first for _, first in points)))]
    for (left, high), (right, low) in pairwise(hull):
        slope = (low - high) / (right - left)
        lines.append((slope, high - slope * left))
    return lines


def _turns_down(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])


class _Flow(Program):
    """The program of one problem and number of frames."""

    def __init__(self, data: Mapping[str, Any], frames: int, seconds: float | None) -> None:
        self.unit = unit_of(data)
        data = _in_units(data, self.unit)
        super().__init__(data, seconds)
        self.finest = [max(1, min(MAX_TILES, rows)) for rows in data["rows"]]
        self.interval = self.model.add_variable(lb=0.0)
        self._ahead(self.interval, self.peak)
        self.end = self.model.add_variable(lb=0.0)
        self._ahead(frames * self.interval, self.end)
        self.times = [self._operator_times(v) for v in range(data["operators"])]
        self._loads()
        self.whole: list[list[int]] = [[] for _ in self.times]  # inputs needed in full: their producers
        self.begins: list[set[int]] = [set() for _ in self.times]  # operators that start no later
        self.ends: list[set[int]] = [set() for _ in self.times]  # operators that end no later
        for v in range(data["operators"]):
            for e in range(data["in_ptr"][v], data["in_ptr"][v + 1]):
                self._input(v, e)
        self._outputs()
        self.starts_before, self.ends_before = _reached(self.begins), _reached(self.ends)
        for v in range(data["operators"]):
            self._between(v)

    def bound(self) -> int:
        """The least interval of the relaxation."""
        for modes in self.choice:
            for chosen in modes.values():
                chosen.integer = False
        self.model.minimize(self.interval)
        limit = None if self.seconds is None else timedelta(seconds=self.seconds)
        try:
            result = self.mathopt.solve(
                self.model,
                self.mathopt.SolverType.HIGHS,
                params=self.mathopt.SolveParameters(time_limit=limit, random_seed=1),
            )
        except (AttributeError, RuntimeError) as error:
            if "HighsStatus" not in f"{error} {error.__context__}":  # OR-Tools 9.14 has no better name for it
                raise
            return 0  # the numbers are too far apart for the solver
        if result.termination.reason != self.mathopt.TerminationReason.OPTIMAL:
            return 0
        value: float = result.objective_value()
        return max(0, ceil(self.unit * (value - max(_CERTAIN, _CERTAIN * value))))

    def _ahead(self, more: Any, less: Any) -> None:
        self.model.add_linear_constraint(more - less >= 0)

    def _sum(self, terms: list[Any]) -> Any:
        return self.mathopt.fast_sum(terms)

    def _operator_times(self, v: int) -> _Times:
        add, data = self.model.add_variable, self.data
        start, first, end = add(lb=0.0), add(lb=0.0), add(lb=0.0)
        tiles, works = [], dict[int, list[Any]]()
        for mode, chosen in self.choice[v].items():
            m = data["mode_ptr"][v] + mode
            tile, work = self._mode_times(m, chosen, self.finest[v])
            tiles.append(tile)
            works.setdefault(data["mode_device"][m], []).append(work)
        by_device = {device: self._sum(terms) for device, terms in works.items()}
        times = _Times(start, first, end, self._sum(tiles), by_device, self._sum([*by_device.values()]))
        self._ahead(first, start + times.tile)
        self._ahead(end, start + times.work)
        self._ahead(end, first)
        self._ahead(self.end, end)
        return times

    def _mode_times(self, m: int, chosen: Any, finest: int) -> tuple[Any, Any]:
        """Ticks of the first tile and of all tiles in mode `m`, both 0 unless it is chosen."""
        work, overhead = self.data["mode_work"][m], self.data["dev_overhead"][self.data["mode_device"][m]]
        if finest == 1 or not overhead:
            return work // finest * chosen, work * chosen
        tile, total = self.model.add_variable(lb=0.0), self.model.add_variable(lb=0.0)
        self._ahead(total, work * chosen)
        self._ahead((work + (finest - 1) * overhead) * chosen, total)
        for slope, height in least_tiles(work, overhead, finest):
            self._ahead(tile, slope * total + height * chosen)
        return tile, total

    def _loads(self) -> None:
        for device in range(self.data["devices"]):
            work = [times.by_device[device] for times in self.times if device in times.by_device]
            if work:
                self._ahead(self.interval, self._sum(work))

    def _input(self, v: int, e: int) -> None:
        """What input `e` of operator `v` makes it wait for."""
        data, me = self.data, self.times[v]
        tensor, rows = data["in_tensor"][e], data["in_rows"][e]
        u = data["producer"][tensor]
        if u < 0:
            self._given(v, tensor)
            return
        other = self.times[u]
        chunk, transfer, same = self._joint(u, v, tensor)
        if rows <= 0 or self.finest[u] == 1:
            self.whole[v].append(u)
            self.begins[v].add(u)
            self.ends[v].add(u)
            self._ahead(me.start, other.end + chunk)
            self._ahead(me.start, other.first + transfer)
            return
        all_rows = data["rows"][v]
        first, last = self._rows(e, all_rows // self.finest[v]), self._rows(e, all_rows)
        if first > 0:
            self.begins[v].add(u)
            self._ahead(me.start, other.start + same + chunk)
            self._ahead(me.start, other.first + chunk)
            self._ahead(me.start + _ROUNDING, other.start + first / rows * other.work + chunk)
        if last * data["rows"][u] > (data["rows"][u] - 1) * rows:
            self.ends[v].add(u)
            self._ahead(me.end, other.end + chunk + me.tile)
            self._ahead(me.end, other.first + transfer + me.tile)

    def _rows(self, e: int, made: int) -> int:
        """Rows of input `e` that the first `made` rows of its reader need."""
        data = self.data
        needed: int = (made - 1) * data["in_stride"][e] - data["in_pad"][e] + data["in_window"][e]
        rows: int = data["in_rows"][e]
        return max(0, min(needed, rows))

    def _given(self, v: int, tensor: int) -> None:
        """A graph input is copied as a whole."""
        io = self.data["io_memory"]
        for memory, here in self.places[v].items():
            if memory != io:
                self._ahead(self.times[v].start, self._transfer(tensor, io, memory) * here)

    def _transfer(self, tensor: int, source: int, destination: int) -> int:
        link = self.machine.link(source, destination)
        return int(self.data["xfer_work"][link * self.data["tensors"] + tensor])

    def _chunk(self, u: int, source: int, destination: int, ticks: int) -> int:
        """The least ticks of a chunk of a transfer of what `u` makes: more chunks take more time together."""
        overhead: int = self.data["link_overhead"][self.machine.link(source, destination)]
        return min((ticks + (count - 1) * overhead) // count for count in range(1, self.finest[u] + 1))

    def _joint(self, u: int, v: int, tensor: int) -> tuple[Any, Any, Any]:
        """What lies between `u` and `v` by their devices: a chunk of the transfer, all of it; or, on one device, the work of `u`.

        A hand-off counts as both chunk and transfer.
        """
        chunks: list[Any] = [0.0]
        transfers: list[Any] = [0.0]
        works: list[Any] = [0.0]
        pairs: dict[int, list[Any]] = {}
        readers = self._devices(v)
        for a, (chosen, least) in self._devices(u).items():
            row = []
            for b in readers:
                both = self.model.add_variable(lb=0.0, ub=1.0)
                row.append(both)
                pairs.setdefault(b, []).append(both)
                source, destination = self.data["dev_memory"][a], self.data["dev_memory"][b]
                if a == b:
                    works.append(least * both)
                elif source == destination:
                    chunks.append(self.data["handoff"] * both)
                    transfers.append(self.data["handoff"] * both)
                else:
                    ticks = self._transfer(tensor, source, destination)
                    chunks.append(self._chunk(u, source, destination, ticks) * both)
                    transfers.append(ticks * both)
            self.model.add_linear_constraint(self._sum(row) - chosen == 0)
        for b, (chosen, _) in readers.items():
            self.model.add_linear_constraint(self._sum(pairs[b]) - chosen == 0)
        return self._sum(chunks), self._sum(transfers), self._sum(works)

    def _devices(self, v: int) -> dict[int, tuple[Any, int]]:
        """By device: whether `v` runs there, and its least work there."""
        modes: dict[int, list[tuple[Any, int]]] = {}
        for mode, chosen in self.choice[v].items():
            m = self.data["mode_ptr"][v] + mode
            modes.setdefault(self.data["mode_device"][m], []).append((chosen, self.data["mode_work"][m]))
        return {
            device: (self._sum([chosen for chosen, _ in row]), min(work for _, work in row))
            for device, row in modes.items()
        }

    def _outputs(self) -> None:
        data, io = self.data, self.data["io_memory"]
        for tensor, sink in enumerate(data["sink"]):
            u = data["producer"][tensor]
            if sink and u >= 0:
                chunks = [
                    self._chunk(u, memory, io, self._transfer(tensor, memory, io)) * here
                    for memory, here in self.places[u].items()
                    if memory != io
                ]
                self._ahead(self.end, self.times[u].end + self._sum([0.0, *chunks]))

    def _between(self, v: int) -> None:
        """Each device's work between nearby operators before `v` and its end, or its start if it needs all of an input."""
        me = self.times[v]
        before = [u for u in range(v - 1, -1, -1) if self.starts_before[v] >> u & 1]
        for a in before[:_SPAN]:
            self._exclusive(me.end - self.times[a].start, [*self._among(a, v), v])
            for u in self.whole[v]:
                if u == a or self.starts_before[u] >> a & 1:
                    self._exclusive(me.start - self.times[a].start, [*self._among(a, u), u])

    def _among(self, a: int, v: int) -> list[int]:
        """The operators but `v` that do not start before `a` nor end after `v`."""
        ends = self.ends_before[v]
        return [u for u in range(a, v) if ends >> u & 1 and (u == a or self.starts_before[u] >> a & 1)]

    def _exclusive(self, duration: Any, members: list[int]) -> None:
        """No device has more work in `members` than fits in `duration`."""
        for device in range(self.data["devices"]):
            work = [self.times[u].by_device[device] for u in members if device in self.times[u].by_device]
            if len(work) > 2:
                self._ahead(duration, self._sum(work))


def _in_units(data: Mapping[str, Any], unit: int) -> Mapping[str, Any]:
    """`data` with times in units of so many ticks, rounded down: what takes no longer than before."""
    if unit == 1:
        return data
    columns = {name: [ticks // unit for ticks in data[name]] for name in _TIMES}
    return {**data, **columns, "handoff": data["handoff"] // unit}


def _reached(edges: list[set[int]]) -> list[int]:
    """Per operator the bit set of those that edges lead to, directly or through others."""
    found: list[int] = []
    for sources in edges:
        bits = 0
        for u in sources:
            bits |= found[u] | 1 << u
        found.append(bits)
    return found
