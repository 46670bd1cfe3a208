"""Which weights to fetch: sets of fetches are tried as long as the objective improves.

In:  the tasks of a schedule as lines (h4hc.passes.core.fetching). Out: the best set that was found, at its times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from h4hc.ir.compilation import Compilation, Options
from h4hc.ir.schedule import Schedule
from h4hc.passes.core import Line
from h4hc.passes.core.fetching import Timed
from h4hc.passes.fetched import postponed, with_fetches
from h4hc.passes.fetches import Sheet
from h4hc.passes.steady import Steady, with_fetches_in_flight

_RUNS = (8, 4, 2)  # lengths of runs of operators that change together

Score = tuple[float, ...]


class Trial(Protocol):
    """What can be fetched, and what comes of it."""

    @property
    def sheet(self) -> Sheet:
        """The schedule with its candidates."""

    def line(self, share: float) -> Line:
        """Its tasks, with a share of the room for weights and activations."""

    def timed(self, line: Line, wanted: Sequence[int] | None) -> Timed:
        """The line with the weights of the `wanted` tasks fetched; None: of each that ends no later by it."""

    def fetched(self, found: Timed) -> list[int]:
        """The tasks whose weights are fetched."""

    def score(self, found: Timed) -> Score:
        """The smaller the better."""

    def results(self, found: Timed) -> Iterator[Compilation]:
        """The compilation with these fetches: first with early ones, then with late ones, which take less room."""


@dataclass(frozen=True, slots=True)
class Once:
    """One frame in flight."""

    sheet: Sheet

    def line(self, share: float) -> Line:
        return self.sheet.with_room(share)

    def timed(self, line: Line, wanted: Sequence[int] | None) -> Timed:
        return line.timed(wanted)

    def fetched(self, found: Timed) -> list[int]:
        return [row[0] for row in found[2]]

    def score(self, found: Timed) -> Score:
        latency = max(found[1], default=0)
        late = self.sheet.compilation.options.excess(latency)
        return late, *rated(self.sheet.compilation, latency, _energy(self.sheet, self.fetched(found)))

    def results(self, found: Timed) -> Iterator[Compilation]:
        yield with_fetches(self.sheet, found)
        yield with_fetches(self.sheet, postponed(self.sheet, found))


@dataclass(frozen=True, slots=True)
class Always:
    """Several frames in flight; sets of fetches are compared by the interval that they allow, whatever the frame rate."""

    windows: Steady

    @property
    def sheet(self) -> Sheet:
        return self.windows.once

    def line(self, share: float) -> Line:
        return self.windows.unrolled.with_room(share)

    def timed(self, line: Line, wanted: Sequence[int] | None) -> Timed:
        return self.windows.timed(line, wanted)

    def fetched(self, found: Timed) -> list[int]:
        return self.windows.fetched(found)

    def score(self, found: Timed) -> Score:
        energy = _energy(self.sheet, self.fetched(found))
        return rated(self.sheet.compilation, self.windows.interval(found), energy)

    def results(self, found: Timed) -> Iterator[Compilation]:
        for times in (found, postponed(self.windows.unrolled, found)):
            result = with_fetches_in_flight(self.windows, times)
            if result is not None:
                yield result


def searched(trial: Trial, line: Line, budget: int) -> Timed | None:
    """The best set of fetches found in about `budget` trials; None if nothing improves.

    First all, and those of each task that ends no later by it; then runs of tasks and single ones change.
    """
    search = _Search(trial, line)
    everything = sorted(trial.sheet.candidates)
    search.attempt(None)
    search.attempt(everything)
    improving = True
    while improving and search.done < budget:
        improving = False
        for change in _changes(everything):
            if search.done >= budget:
                break
            improving = search.attempt(sorted(search.fetched ^ change)) or improving
    return search.best


def _changes(candidates: list[int]) -> Iterator[frozenset[int]]:
    for length in (*_RUNS, 1):
        for begin in range(0, len(candidates), length):
            yield frozenset(candidates[begin : begin + length])


class _Search:
    """What was found so far."""

    def __init__(self, trial: Trial, line: Line) -> None:
        self.trial, self.line = trial, line
        self.best: Timed | None = None
        self.fetched: frozenset[int] = frozenset()
        self.done = 0
        self.score = trial.score(trial.timed(line, ()))

    def attempt(self, wanted: Sequence[int] | None) -> bool:
        """Whether it is better to fetch the weights of the tasks `wanted`."""
        self.done += 1
        found = self.trial.timed(self.line, wanted)
        score = self.trial.score(found)
        if score >= self.score:
            return False
        self.best, self.score = found, score
        self.fetched = frozenset(self.trial.fetched(found))
        return True


def _energy(sheet: Sheet, fetched: Sequence[int]) -> int:
    """Dynamic energy with the weights of these tasks fetched."""
    energy = sheet.schedule.dynamic_energy
    for task in fetched:
        candidate = sheet.candidates[task]
        energy += candidate.fetch_energy + candidate.energy - sheet.schedule.tasks[task].energy
    return energy


def rated(compilation: Compilation, ticks: int, dynamic: int) -> tuple[float, float]:
    """What the objective counts, and a tie-breaker. `ticks`: the latency, or those between frames."""
    simulated, options = compilation.simulated, compilation.options
    if simulated is None:
        raise ValueError("prefetch needs a simulated placement")
    energy = dynamic + options.spacing(ticks) * simulated.static_power
    if options.objective == "energy":
        return energy, ticks
    if options.objective == "edp":
        return energy * ticks, ticks
    return ticks, energy


def score(compilation: Compilation) -> Score:
    """Ticks beyond the latency budget, what the objective counts, tie-breakers: the smaller the better.

    With a fixed period the latency counts, otherwise the interval, which is the latency of a single frame in flight.
    """
    schedule, options = compilation.schedule, compilation.options
    if schedule is None:
        raise ValueError("prefetch needs a schedule")
    ticks = schedule.latency if options.period_ticks else schedule.initiation_interval
    late = options.excess(schedule.latency) if keeps_rate(schedule, options) else inf
    first, second = rated(compilation, ticks, schedule.dynamic_energy)
    if options.objective in ("energy", "edp"):
        return late, first, second, schedule.latency
    return late, first, schedule.latency, second


def keeps_rate(schedule: Schedule, options: Options) -> bool:
    """Whether frames follow each other in the fixed period, if there is one."""
    interval, period = schedule.initiation_interval, options.period_ticks
    return not period or (interval == period and schedule.latency <= schedule.frames_in_flight * period)
