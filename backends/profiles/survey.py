"""What a profile holds, and how much of a model it covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.backends.profiles.calibration import Whole
from h4hc.backends.profiles.model import LEVELS, Profiled
from h4hc.backends.profiles.table import Profile
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.workload import CLASSES, Kernel, kernel_class

if TYPE_CHECKING:
    from h4hc.backends.base import Backend


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Rows of one class of kernels: how many, with energy, and the seconds they add up to."""

    name: str
    rows: int
    kernels: int
    with_energy: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Covered:
    """Operators of a model by where their cost comes from; `error` is the mean uncertainty, weighted by time."""

    level: str
    operators: int
    seconds: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """A model on a device: all levels, and the operators by class that no measurement of their own covers.

    `precisions` are those of the model's operators (``8x8``: activation bits x weight bits).
    """

    levels: tuple[Covered, ...]
    refused: int
    not_measured: Mapping[str, int]
    operators: tuple[tuple[str, str, float, str, float | None], ...]
    precisions: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Sum over the operators that the device runs."""
        return sum(level.seconds for level in self.levels)


def precisions(kernels: Iterable[Kernel]) -> tuple[str, ...]:
    """The operand widths of `kernels`, such as ``8x8``, views aside."""
    found = {k.precision for k in kernels if kernel_class(k) != "view"}
    return tuple(f"{p.activation_bits}x{p.weight_bits}" for p in sorted(found))


def rows_by_class(profile: Profile) -> list[ClassRows]:
    """The rows of operators, by class."""
    found = []
    for name in CLASSES:
        rows = [
            r
            for r in profile.rows
            if r.kernel is not None and r.status == "ok" and kernel_class(r.kernel) == name
        ]
        if rows:
            found.append(
                ClassRows(
                    name,
                    len(rows),
                    len({row.kernel for row in rows}),
                    sum(row.joules is not None for row in rows),
                    sum(row.seconds for row in rows),
                )
            )
    return found


def coverage(operators: Iterable[tuple[str, Kernel]], backend: Profiled) -> Coverage:
    """Where the cost of each operator (name, kernel) comes from: of each, the fastest mode."""
    rows: list[tuple[str, str, float, str, float | None]] = []
    groups: dict[str, list[Cost]] = {level: [] for level in LEVELS}
    missing: dict[str, int] = {}
    operators = list(operators)
    refused = 0
    for name, kernel in operators:
        found = backend.costs(kernel)
        if isinstance(found, Refusal):
            refused += 1
            continue
        cost = min(found, key=lambda c: c.seconds)
        level = level_of(cost)
        groups[level].append(cost)
        rows.append((name, kernel_class(kernel), cost.seconds, cost.source, cost.uncertainty))
        if level != "measured" and cost.seconds > 0:
            missing[kernel_class(kernel)] = missing.get(kernel_class(kernel), 0) + 1
    levels = tuple(_covered(level, groups[level]) for level in LEVELS)
    widths = precisions(kernel for _, kernel in operators)
    return Coverage(levels, refused, missing, tuple(rows), widths)


def level_of(cost: Cost) -> str:
    """The level of a source; the host's roofline is analytical, too."""
    first = cost.source.partition(" ")[0]
    return first if first in LEVELS else "analytical"


def _covered(level: str, costs: Sequence[Cost]) -> Covered:
    known = [
        (cost.seconds, cost.uncertainty)
        for cost in costs
        if cost.uncertainty is not None and cost.seconds > 0
    ]
    total = sum(seconds for seconds, _ in known)
    error = sum(seconds * uncertainty for seconds, uncertainty in known) / total if total else None
    return Covered(level, len(costs), sum(cost.seconds for cost in costs), error)


def wholes_of(
    profile: Profile, models: Mapping[str, Sequence[tuple[str, Kernel]]], model: Backend
) -> list[Whole]:
    """The rows of models and blocks whose operators are known, by model name.

    `model` is the analytical model at the clock of the profile. A block is the operators whose node names begin with its `node`.
    """
    found = []
    for row in profile.rows:
        operators = models.get(row.model)
        if operators is None or row.granularity == "op" or row.status != "ok" or row.overlapped_with:
            continue
        beginning = row.node if row.granularity == "block" else ""
        kernels = tuple(kernel for name, kernel in operators if name.startswith(beginning))
        if kernels:
            found.append(Whole(row.seconds, kernels, model))
    return found
