"""The measurements of a device, by what they measured, beside what its analytical model says of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from h4hc.backends.profiles.kernels import canonical
from h4hc.backends.profiles.table import Measurement, Profile
from h4hc.ir.cost import Cost
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction, kernel_class

if TYPE_CHECKING:
    from h4hc.backends.base import Backend
    from h4hc.backends.profiles.fit import Array

FALLBACK_RATIO = 5.0
ENOUGH = 8  # rows that tell what is usual
MOST_DISAGREEMENT = 1.3
REACH = math.log(2.0)
_TERMS = tuple(
    f"{name}_seconds" for name in ("compute", "weight", "activation", "write", "output", "overhead")
)
_NEIGHBOURS = 8


class Key(NamedTuple):
    """What a row answers for: a canonical kernel in a mode."""

    kernel: Kernel
    mode: str


@dataclass(frozen=True)
class Entry:
    """All rows of one kernel: medians. `spread` is the relative standard deviation, `lines` where they stand.

    `model` is the analytical model at the clock of the measurement. `joules` are without idle power.
    """

    key: Key
    seconds: float
    joules: float | None
    spread: float | None
    models: tuple[str, ...]
    lines: tuple[int, ...]
    file: str
    model: Backend
    entropy: float | None

    @cached_property
    def kernel_class(self) -> str:
        return kernel_class(self.key.kernel)

    @cached_property
    def analytical(self) -> Cost | None:
        """What the model says of the kernel in this mode; None if it refuses it, or says that it is free."""
        found = self.model.costs(self.key.kernel._replace(entropy=self.entropy))
        if not isinstance(found, tuple):
            return None
        return next((cost for cost in found if cost.mode == self.key.mode and cost.seconds > 0), None)

    @cached_property
    def ratio(self) -> float | None:
        """Measured over analytical seconds."""
        return self.seconds / self.analytical.seconds if self.analytical else None

    @cached_property
    def joule_ratio(self) -> float | None:
        """Measured over analytical joules."""
        if self.joules is None or self.analytical is None or self.analytical.joules <= 0:
            return None
        return self.joules / self.analytical.joules


class Guess(NamedTuple):
    """Ratios of measured to analytical seconds and joules (None: no neighbour has its energy)."""

    seconds: float
    joules: float | None
    neighbours: int


class Book:
    """Entries by kernel, and their neighbours.

    `refused` maps kernels that the device did not run to the status; `unused` counts rows that say nothing of this
    device, by reason. `keep_fallbacks`: let rows that look like fallbacks into interpolation and calibration.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        refused: Mapping[Kernel, str] | None = None,
        unused: Mapping[str, int] | None = None,
        keep_fallbacks: bool = False,
    ) -> None:
        self.entries = {entry.key: entry for entry in entries}
        self.refused = refused or {}
        self.unused = unused or {}
        self.keep_fallbacks = keep_fallbacks
        self._groups: dict[tuple[object, ...], list[Entry]] = {}
        for entry in self.entries.values():
            self._groups.setdefault(_group(entry.key), []).append(entry)
        self._places: dict[tuple[object, ...], Array] = {}

    @cached_property
    def slowest(self) -> float:
        """The ratio of measured to analytical time above which something else probably ran a kernel.

        Five; or where the model is too fast for most of what was measured, five times the usual ratio.
        """
        ratios = [entry.ratio for entry in self.entries.values() if entry.ratio is not None]
        return FALLBACK_RATIO * (max(1.0, median(ratios)) if len(ratios) >= ENOUGH else 1.0)

    def fallbacks(self) -> list[Entry]:
        """Entries slower than that."""
        return [entry for entry in self.entries.values() if (entry.ratio or 0.0) > self.slowest]

    def trusted(self, entry: Entry) -> bool:
        """Whether an entry may speak for others."""
        return entry.ratio is not None and (self.keep_fallbacks or entry.ratio <= self.slowest)

    def guess(self, key: Key, without: Entry | None = None) -> Guess | None:
        """The ratio that the neighbours of a kernel suggest; None if there are too few or they disagree.

        Neighbours are of the same class, kernel size and width, and within a factor of two in work, bytes and
        channels. The nearest count most: by inverse squared distance of the logarithms, which are averaged.
        """
        group = _group(key)
        entries = self._groups.get(group)
        if entries is None or len(entries) < 2 + (without is not None):
            return None
        import numpy as np

        places = self._places.get(group)
        if places is None:
            places = self._places[group] = np.array([_place(entry.key.kernel) for entry in entries])
        away = np.abs(places - np.array(_place(key.kernel)))
        near = [int(index) for index in np.flatnonzero((away <= REACH + 1e-9).all(axis=1))]
        distance = (away**2).sum(axis=1)
        near.sort(key=lambda index: (float(distance[index]), index))
        found = [i for i in near if entries[i] is not without and self.trusted(entries[i])][:_NEIGHBOURS]
        if len(found) < 2:
            return None
        ratios = [entries[i].ratio or 1.0 for i in found]
        if max(ratios) > MOST_DISAGREEMENT * min(ratios):
            return None
        weights = [1.0 / (float(distance[i]) + 1e-3) for i in found]
        energy = [(w, entries[i].joule_ratio) for w, i in zip(weights, found, strict=True)]
        known = [(w, ratio) for w, ratio in energy if ratio is not None]
        return Guess(
            _log_mean(list(zip(weights, ratios, strict=True))),
            _log_mean(known) if len(known) >= 2 else None,
            len(found),
        )

    def interpolation_error(self, name: str) -> float | None:
        """Mean relative error over the class of what neighbours say of each entry without it."""
        errors = []
        for entry in self.entries.values():
            if entry.kernel_class == name and self.trusted(entry) and entry.ratio is not None:
                guess = self.guess(entry.key, without=entry)
                if guess is not None:
                    errors.append(abs(guess.seconds / entry.ratio - 1))
        return sum(errors) / len(errors) if errors else None


def entries_of(
    profile: Profile, file: str, model: Backend, places: Sequence[frozenset[str]]
) -> tuple[list[Entry], dict[Kernel, str], dict[str, int]]:
    """The entries of a profile, the kernels its device does not run, and how many rows are unused, by reason.

    `places` are the names by which a row may call the device's activation and weight memory.
    """
    rows: dict[Key, list[Measurement]] = {}
    refused: dict[Kernel, str] = {}
    unused: dict[str, int] = {}
    for row in profile.rows:
        reason = _unused(row, places)
        if reason:
            unused[reason] = unused.get(reason, 0) + 1
        elif row.kernel is not None and row.status == "ok":
            rows.setdefault(Key(row.kernel, row.mode), []).append(row)
        elif row.kernel is not None:
            refused.setdefault(row.kernel, row.status)
    idle = model.static_watts if profile.energy == "total" else 0.0
    entries = [_entry(key, found, file, model, idle) for key, found in rows.items()]
    measured = {entry.key.kernel for entry in entries}
    return entries, {k: why for k, why in refused.items() if k not in measured}, unused


def _unused(row: Measurement, places: Sequence[frozenset[str]]) -> str:
    """Why a row of an operator says nothing of the device."""
    activations, weights = places
    if row.granularity != "op":
        return "of blocks and models, for calibration only"
    if row.status == "failed":
        return "failed"
    if row.overlapped_with:
        return "overlapped with other operators"
    held = row.placement
    wanted = (("activations", held.input), ("weights", held.weights), ("activations", held.output))
    for what, name in wanted:
        if name and name.lower() not in (weights if what == "weights" else activations):
            return f"with {what} in {name}"
    return ""


def _entry(key: Key, rows: list[Measurement], file: str, model: Backend, idle: float) -> Entry:
    times = [row.seconds for row in rows]
    seconds = median(times)
    dynamic = [row.joules - idle * row.seconds for row in rows if row.joules is not None]
    joules = median(dynamic) if dynamic else None
    noise = [row.seconds_std / row.seconds for row in rows if row.seconds_std is not None]
    between = (max(times) - min(times)) / 2 / seconds if len(times) > 1 else None
    spreads = [value for value in (median(noise) if noise else None, between) if value is not None]
    encoded = [row.encoded_bytes for row in rows if row.encoded_bytes]
    elements = key.kernel.workload.weight_elements
    return Entry(
        key=key,
        seconds=seconds,
        joules=joules if joules is not None and joules > 0 else None,
        spread=max(spreads) if spreads else None,
        models=tuple(dict.fromkeys(row.model for row in rows)),
        lines=tuple(row.line for row in rows),
        file=file,
        model=model,
        entropy=round(median(encoded) * 8 / elements * 16) / 16 if encoded and elements else None,
    )


def _group(key: Key) -> tuple[object, ...]:
    """What neighbours have in common: class, kernel size, kind, widths, and what runs behind, clamps aside."""
    kernel = key.kernel
    behind = tuple(step for step in kernel.epilogue if step != "relu")
    same: tuple[object, ...]
    match kernel.workload:
        case Conv() as c:
            same = (c.kernel_h, c.kernel_w, c.transposed, c.groups > 1)
        case Reduction() as r:
            same = (r.kind, r.kernel_h, r.kernel_w) if r.kernel_h < r.in_h else (r.kind, 0, 0)
        case Elementwise() as e:
            same = (e.kind, e.inputs)
        case Move() as m:
            same = (m.kind,)
        case Generic() as g:
            same = (g.op_type,)
        case _:
            same = ()
    return (kernel_class(kernel), *same, kernel.precision, behind, key.mode)


def _place(kernel: Kernel) -> tuple[float, ...]:
    """Logarithms of work, bytes and channels."""
    workload = kernel.workload
    moved = kernel.input_bytes + kernel.weight_bytes + kernel.output_bytes
    match workload:
        case Conv() as c:
            sizes = (c.macs, moved, c.in_channels, c.out_channels)
        case MatMul() as m:
            sizes = (m.macs, moved, m.k, m.n)
        case Reduction() as r:
            sizes = (r.input_elements, moved, r.channels, r.channels)
        case Move() as v:
            sizes = (v.output_elements, moved, v.run, v.run)
        case Generic() as g:
            sizes = (g.operations, moved, 1, 1)
        case _:
            sizes = (workload.output_elements, moved, 1, 1)
    return tuple(math.log(max(1, size)) for size in sizes)


def _log_mean(weighted: list[tuple[float, float]]) -> float:
    total = sum(weight for weight, _ in weighted)
    return math.exp(sum(weight * math.log(ratio) for weight, ratio in weighted) / total)


def at_mode(kernel: Kernel, mode: str) -> Key:
    """The key of a kernel that is to be costed."""
    return Key(canonical(kernel), mode)


def scaled(cost: Cost, seconds: float, joules: float, source: str, uncertainty: float | None) -> Cost:
    """`cost` with another time and energy; its terms keep their proportions."""
    ratio = seconds / cost.seconds if cost.seconds else 1.0
    energy_ratio = joules / cost.joules if cost.joules else 1.0
    return replace(
        cost,
        seconds=seconds,
        joules=joules,
        utilisation=min(1.0, cost.utilisation / ratio),
        source=source,
        uncertainty=uncertainty,
        **{name: getattr(cost, name) * ratio for name in _TERMS},
        energy={name: value * energy_ratio for name, value in cost.energy.items()},
        details={**cost.details, "analytical seconds": cost.seconds, "measured / analytical": ratio},
    )
