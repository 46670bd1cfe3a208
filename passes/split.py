"""Split: compute an operator on two devices, each a part of its output channels.

In:  the finished partition. Out: the same for a model with split operators, if that is better.

Rules:
1. Convolutions and products with constant weights are candidates where two accelerators can run them and where the bits of
   every channel stay the same (see h4hc.frontend.splitting). Pinned operators are not, nor those that a
   constraint names exactly; patterns that rule out devices must be about the parts, too.
2. The fraction is the one at which both parts, with the transfer of the result, finish at the same time (for the energy
   objective: that takes the least energy), and the best one whose weights fit in the room that the placement leaves; in
   whole granules of one of the devices.
3. Candidates are those that would gain something noticeable if nothing else changed: first what there is room for, then by
   gain; exact effort also tries them by gain alone. Balanced effort counts a copy that puts the parts together, exact
   effort does not: it may overlap with other work.
4. A candidate is tried by rewriting the model, running the passes before the partition again, and searching from the
   placement so far. It is kept if the objective improves, and then the next one is tried on top.
5. What another search finds is no gain of splitting: the same search, without the split, sets out from the result of a
   trial, and the trial must be better than that.
6. Exact effort then searches the model as thoroughly as the whole one, with a time limit of its own. Nothing is split
   unless the result is better by `LEAST_GAIN` than any that was found for the whole model. Claims are about the model
   as it is split.
7. Nothing is split for throughput: with several frames in flight, both devices have other work to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple, Protocol

from h4hc.errors import H4hcError
from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Operator
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.splitting import SplitOperator, Splitting, part_names
from h4hc.passes.portion import Portion, portions
from h4hc.passes.transplant import searched_from

if TYPE_CHECKING:
    from h4hc.frontend.slicing import Cut
    from h4hc.frontend.splitting import Splitter

PARTITION = "partition"
LEAST_GAIN = 0.005
NOTICEABLE = {"balanced": 0.005, "exact": 0.001}
TRIALS = {"balanced": 2, "exact": 8}
SHARE = {"balanced": 4, "exact": 2}  # one in so many evaluations of balanced effort for each trial


class Step(Protocol):
    """A pass."""

    @property
    def name(self) -> str: ...
    def run(self, compilation: Compilation) -> Compilation: ...


class Candidate(NamedTuple):
    """An operator that can be split, where, and the devices of its parts."""

    cut: Cut
    devices: tuple[str, str]

    @property
    def operator(self) -> str:
        """Its name."""
        return self.cut.operator.operator


class Attempt(NamedTuple):
    """The best compilation found, and the operators that it splits."""

    found: Compilation
    chosen: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """Compute single operators on two devices at a time, where that pays.

    `earlier` are the passes that have run before, the partition among them.
    """

    earlier: tuple[Step, ...] = ()
    name: str = "split"
    needs: tuple[str, ...] = ("graph", "choices", "placement", "simulated")
    provides: tuple[str, ...] = ("splitting",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `splitting`, with `model`, `graph`, costs and placement to match, if anything is split."""
        options = compilation.options
        accelerators = [device for device in compilation.target.devices if device.kind != "host"]
        wanted = options.split and options.effort in TRIALS and len(accelerators) > 1
        wanted = wanted and options.objective != "throughput"  # whole operators balance the loads well enough
        if not wanted or PARTITION not in [step.name for step in self.earlier]:
            return compilation
        found = portions(compilation, count_join=options.effort != "exact", least=_noticeable(compilation))
        if not found:
            return compilation
        from h4hc.frontend.splitting import Splitter

        trials = Trials(compilation, Splitter(compilation.model), self.earlier)
        orders = [found]
        if options.effort == "exact":
            orders.append(sorted(found, key=lambda p: (-p.gain, p.number, p.devices)))
        attempts = [trials.attempt(order) for order in orders]
        best = min(attempts, key=lambda attempt: _value(attempt.found))
        whole = trials.whole
        if not best.chosen or not _better(_value(best.found), _value(whole)):
            return whole
        return replace(
            best.found,
            baselines=compilation.baselines,
            splitting=_record(whole, best.chosen),
            rivals=(*compilation.rivals, ("whole", replace(whole, rivals=()))),
        )


class Trials:
    """Trials of splitting operators of one compilation. `whole` is the best that was found without."""

    def __init__(self, compilation: Compilation, splitter: Splitter, earlier: Sequence[Step]) -> None:
        self.whole = compilation
        self._given = compilation
        self._splitter = splitter
        self._effort = compilation.options.effort
        limit = compilation.options.time_limit
        self._deadline = None if limit is None else time.monotonic() + limit
        self._before = list(takewhile(lambda step: step.name != PARTITION, earlier))
        self._partition = next(step for step in earlier if step.name == PARTITION)

    def attempt(self, order: Iterable[Portion]) -> Attempt:
        """Try one after the other; keep what helps."""
        best = Attempt(self.whole)
        for candidate in islice(_candidates(self._given, self._splitter, order), TRIALS[self._effort]):
            if candidate.operator in [other.operator for other in best.chosen] or self._late():
                continue
            chosen = (*best.chosen, candidate)
            trial = self._tried(chosen, best.found)
            if trial is not None and _better(_value(trial), _value(best.found)):
                best = self._without(best, trial)
                if _better(_value(trial), _value(best.found)):
                    best = Attempt(trial, chosen)
        if best.chosen and self._effort == "exact":
            best = Attempt(self._thorough(best.found), best.chosen)
        if len(best.chosen) > 1 or (best.chosen and self._effort == "exact"):
            self._without(Attempt(self.whole), best.found)
        return best

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _without(self, best: Attempt, trial: Compilation) -> Attempt:
        """`best`, or what is found for the same model if the search sets out from `trial`."""
        found = self._tried(best.chosen, trial)
        if found is not None and _value(found) < _value(best.found):
            best = Attempt(found, best.chosen)
        if not best.chosen and _value(best.found) < _value(self.whole):
            self.whole = best.found
        return best

    def _tried(self, chosen: Sequence[Candidate], known: Compilation) -> Compilation | None:
        """The model with all of `chosen` split, placed by a search that sets out from `known`."""
        from h4hc.frontend.slicing import split_model

        trial = self._given
        try:
            if chosen:
                model = split_model(trial.model, self._splitter, [candidate.cut for candidate in chosen])
                trial = replace(trial, model=model, graph=None, costs=None, choices=None, claims=())
                for step in self._before:
                    trial = step.run(trial)
            return searched_from(trial, known, _homes(chosen), SHARE[self._effort])
        except H4hcError:  # a constraint on a node that is gone, or no placement that fits
            return None

    def _thorough(self, quick: Compilation) -> Compilation:
        """The better of `quick` and what the partition finds, with its claims."""
        full = self._partition.run(replace(quick, options=replace(quick.options, baselines=False)))
        full = replace(full, options=quick.options)
        return full if _value(full) <= _value(quick) else replace(quick, claims=full.claims)


def _noticeable(compilation: Compilation) -> float:
    """Seconds, or joules, that one operator must gain to be worth a trial."""
    latency, energy = _latency_and_energy(compilation)
    whole = energy * 1e-12 if compilation.options.objective == "energy" else latency * TICK_SECONDS
    return NOTICEABLE[compilation.options.effort] * whole


def _candidates(
    compilation: Compilation, splitter: Splitter, found: Iterable[Portion]
) -> Iterator[Candidate]:
    """The candidates of `found` whose bits stay the same and that no constraint keeps whole."""
    from h4hc.frontend.slicing import Cut

    if compilation.graph is None:
        raise ValueError("splitting needs a graph")
    for portion in found:
        operator = compilation.graph.operators[portion.number]
        splittable = splitter.splittable(operator)
        if splittable is not None and splittable.allows(portion.first) and may_split(operator, compilation):
            yield Candidate(Cut(splittable, portion.first), portion.devices)


def may_split(operator: Operator, compilation: Compilation) -> bool:
    """Whether every constraint of the options says of the parts what it says of the whole."""
    names = (operator.name, *operator.nodes)
    parts = part_names(operator.name)
    for constraint in compilation.options.constraints:
        pattern = constraint.operators
        if pattern in names:
            return False
        if any(fnmatchcase(name, pattern) for name in names) and (
            constraint.pin or not all(fnmatchcase(name, pattern) for name in parts)
        ):
            return False
    return True


def _homes(chosen: Iterable[Candidate]) -> dict[str, str]:
    """The devices of the parts."""
    return {
        name: device
        for candidate in chosen
        for name, device in zip(part_names(candidate.operator), candidate.devices, strict=True)
    }


def _record(whole: Compilation, chosen: Iterable[Candidate]) -> Splitting:
    """What was split, beside what `whole` achieves."""
    operators = []
    for candidate in chosen:
        operator, first = candidate.cut
        counts = (first, operator.channels - first)
        parts = tuple(zip(part_names(operator.operator), counts, strict=True))
        operators.append(SplitOperator(operator.operator, parts))
    latency, energy = _latency_and_energy(whole)
    return Splitting(tuple(operators), latency * TICK_SECONDS, energy * 1e-12)


def _latency_and_energy(compilation: Compilation) -> tuple[float, float]:
    """Ticks and picojoules of one frame."""
    if compilation.simulated is None:
        raise ValueError("splitting needs a simulated placement")
    latency, energy, _, _, _ = compilation.simulated.trace
    return latency, energy + compilation.simulated.static_power * compilation.options.spacing(latency)


def _value(compilation: Compilation) -> tuple[float, float]:
    """Ticks beyond the latency budget, and what the objective counts: the smaller the better."""
    latency, energy = _latency_and_energy(compilation)
    options = compilation.options
    return options.excess(latency), {"latency": latency, "energy": energy, "edp": latency * energy}[
        options.objective
    ]


def _better(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether `first` is smaller by `LEAST_GAIN` at least, the excess over the budget before all else."""
    for mine, other in zip(first, second, strict=True):
        if mine != other:
            return mine < other * (1 - LEAST_GAIN)
    return False
