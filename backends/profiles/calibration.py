"""Calibrations: what a profile says about the unknowns of a device's analytical model, and what that is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h4hc.backends.profiles.book import FALLBACK_RATIO, Book, Entry
from h4hc.backends.profiles.fit import shrink
from h4hc.backends.profiles.overlap import Factors, Observation, Shape, Term, fit, seconds_of, term_of
from h4hc.backends.profiles.sums import Increment, Power
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.workload import CLASSES, Kernel, kernel_class

if TYPE_CHECKING:
    from h4hc.backends.base import Backend

MOST_FOLDS = 20


@dataclass(frozen=True, slots=True)
class ClassFit:
    """What is known of a class: its `rows`, its factor, and mean relative errors of rows that were left out.

    `before` is the error of the analytical model, `calibrated` and `interpolated` those of the two levels;
    `energy` is the factor on joules (None: never measured).
    """

    rows: int
    factor: float
    before: float
    calibrated: float | None = None
    interpolated: float | None = None
    energy: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkFit:
    """A model whose operators were measured: sums in seconds, each operator predicted without that model's rows."""

    name: str
    rows: int
    measured: float
    analytical: float
    predicted: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Factors of a device's model, the errors they leave, and what whole models say.

    `base` identifies the analytical model they belong to; `device`, `compiler` and `files` (name and SHA-256)
    the profiles they come from. `slowest` is the ratio above which rows were taken for fallbacks.
    """

    device: str
    compiler: str
    base: str
    shape: Shape
    factors: Factors
    classes: Mapping[str, ClassFit]
    networks: tuple[NetworkFit, ...] = ()
    increment: Increment | None = None
    power: Power | None = None
    files: tuple[tuple[str, str], ...] = ()
    slowest: float = FALLBACK_RATIO

    @property
    def label(self) -> str:
        """How costs name it."""
        return ", ".join(name for name, _ in self.files)

    def covers(self, name: str, cost: Cost) -> bool:
        """Whether the calibration has anything to say of a kernel."""
        if name in self.factors.classes:
            return True
        return self.increment is not None and cost.weight_seconds > 0

    def seconds(self, name: str, cost: Cost) -> float:
        """The calibrated time of a kernel of class `name` with an analytical cost."""
        return seconds_of(term_of(name, cost, self.shape), self.factors, self.shape)

    def joules(self, name: str, cost: Cost) -> float:
        """The calibrated energy, without idle power."""
        found = self.classes.get(name)
        return cost.joules * (found.energy if found and found.energy else 1.0)


@dataclass(frozen=True, slots=True)
class Whole:
    """A block or model that was measured as one: its seconds, the kernels it is made of, and their analytical model."""

    seconds: float
    kernels: tuple[Kernel, ...]
    model: Backend


@dataclass(slots=True)
class _Rows:
    """The rows that take part in a fit, as observations; `entries` and `single` belong together."""

    entries: list[Entry] = field(default_factory=list)
    single: list[Observation] = field(default_factory=list)
    sums: list[Observation] = field(default_factory=list)


def shape_of(backend: Backend) -> Shape:
    """How the model of a device combines its terms."""
    device, parameters = backend.device, backend.parameters
    shared = device.weights is None or device.weights == device.memory
    clock, cycles = getattr(parameters, "clock", None), getattr(parameters, "operator_cycles", None)
    command = cycles / clock if clock and cycles else 0.0
    return Shape(shared, float(getattr(parameters, "overlap", 1.0)), command)


def calibrate(
    book: Book,
    backend: Backend,
    increment: Increment | None = None,
    wholes: Sequence[Whole] = (),
    thorough: bool = True,
) -> tuple[Shape, Factors, dict[str, ClassFit], tuple[NetworkFit, ...]]:
    """Fit the model of `backend` to a book, with what it leaves out row by row (and `thorough`ly, model by model).

    A bandwidth from pairs of models (`increment`) stands where no operator says more.
    """
    shape = shape_of(backend)
    rows = _rows(book, shape)
    rows.sums = [found for whole in wholes if (found := sum_of(whole, shape)) is not None]
    factors = fit([*rows.single, *rows.sums], shape) if rows.single or rows.sums else shape.identity
    factors = _with_bandwidth(factors, increment, backend)
    left_out = _left_out(rows, shape, factors.overlap)
    classes = _classes(book, rows, factors, left_out)
    networks = _networks(rows, shape, factors.overlap) if thorough else ()
    return shape, factors, classes, networks


def _rows(book: Book, shape: Shape) -> _Rows:
    rows = _Rows()
    for entry in book.entries.values():
        if entry.analytical is not None and book.trusted(entry):
            rows.entries.append(entry)
            term = term_of(entry.kernel_class, entry.analytical, shape)
            rows.single.append(Observation(entry.seconds, (term,)))
    return rows


def sum_of(whole: Whole, shape: Shape) -> Observation | None:
    """What a block or model says of its kernels; None if the device does not run one of them."""
    terms: list[Term] = []
    for kernel in whole.kernels:
        found = whole.model.costs(kernel)
        if isinstance(found, Refusal):
            return None
        if found[0].seconds > 0:
            terms.append(term_of(kernel_class(kernel), found[0], shape))
    return Observation(whole.seconds, tuple(terms)) if terms else None


def _with_bandwidth(factors: Factors, increment: Increment | None, backend: Backend) -> Factors:
    if increment is None or factors.rows:
        return factors
    memory = getattr(backend, "weights", None)
    if memory is None:
        return factors
    return Factors(
        weights=memory.bandwidth / increment.bandwidth, commands=factors.commands, overlap=factors.overlap
    )


def _left_out(rows: _Rows, shape: Shape, overlap: float) -> list[float]:
    """For each entry, its time as predicted from the others: one at a time, or twenty groups if there are many.

    Rows of block and model sums stay in: they are other measurements.
    """
    count = len(rows.single)
    folds = min(count, MOST_FOLDS)
    predicted = [0.0] * count
    for fold in range(folds):
        kept = [o for index, o in enumerate(rows.single) if index % folds != fold]
        factors = fit([*kept, *rows.sums], shape, overlap) if kept or rows.sums else shape.identity
        for index in range(fold, count, folds):
            predicted[index] = seconds_of(rows.single[index].terms[0], factors, shape)
    return predicted


def _classes(book: Book, rows: _Rows, factors: Factors, left_out: Sequence[float]) -> dict[str, ClassFit]:
    found: dict[str, ClassFit] = {}
    for name in CLASSES:
        own = [index for index, entry in enumerate(rows.entries) if entry.kernel_class == name]
        if not own and name not in factors.classes:
            continue
        entries = [rows.entries[index] for index in own]
        energy = sorted(e.joule_ratio for e in entries if e.joule_ratio is not None)
        found[name] = ClassFit(
            rows=len(own),
            factor=factors.classes.get(name, 1.0),
            before=_mean(abs(1 / e.ratio - 1) for e in entries if e.ratio) or 0.0,
            calibrated=_mean(abs(left_out[i] / rows.entries[i].seconds - 1) for i in own)
            if len(own) > 1
            else None,
            interpolated=book.interpolation_error(name),
            energy=shrink(energy[len(energy) // 2], len(energy)) if energy else None,
        )
    return found


def _networks(rows: _Rows, shape: Shape, overlap: float) -> tuple[NetworkFit, ...]:
    """Each model predicted from the rows of the others; with one model, from none of its own."""
    names = sorted({name for entry in rows.entries for name in entry.models if name})[:MOST_FOLDS]
    found = []
    for name in names:
        own = [index for index, entry in enumerate(rows.entries) if name in entry.models]
        kept = [rows.single[i] for i, entry in enumerate(rows.entries) if set(entry.models) != {name}]
        factors = fit(kept, shape, overlap) if kept else shape.identity
        terms = [rows.single[index].terms[0] for index in own]
        found.append(
            NetworkFit(
                name=name,
                rows=len(own),
                measured=sum(rows.entries[index].seconds for index in own),
                analytical=sum(seconds_of(term, shape.identity, shape) for term in terms),
                predicted=sum(seconds_of(term, factors, shape) for term in terms),
            )
        )
    return tuple(found)


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
