"""Time of a kernel from its terms, with the factors that a calibration fits.

    T = max(s C, M) + (1 - eta) min(s C, M) + c O + w E,   M = max(a A, b B), or a A + b B in one memory

C: compute, A and B: activation and weight traffic, O: starting commands, E: writing weights, in seconds as the
analytical model has them; s: factor of the kernel's class; a, b, c, w: factors of the device. Where the model has no
time per command, O is 1 and c the seconds per operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from h4hc.backends.profiles.fit import Array, nnls_gram, robust_loss, row_weights, shrink
from h4hc.ir.cost import Cost

ETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
ENOUGH_ROWS = 8
_ROUNDS = 30
_PRIOR_ROWS = 0.005  # how much the preset weighs where rows do not say
_LEAST = 1e-3  # a factor of zero would make kernels free that are bound by nothing else
_WORTHWHILE = 0.95  # an overlap other than the preset's must lower the loss by this much


@dataclass(frozen=True, slots=True)
class Factors:
    """What a fit found: s by class, a, b, w, c and eta, and the `rows` of each class."""

    classes: dict[str, float] = field(default_factory=dict)
    activations: float = 1.0
    weights: float = 1.0
    writes: float = 1.0
    commands: float = 0.0
    overlap: float = 1.0
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """How the analytical model combines its terms: `shared` memory, its `overlap`, seconds of one `command` or 0."""

    shared: bool
    overlap: float
    command: float

    @property
    def identity(self) -> Factors:
        """The factors that change nothing."""
        return Factors(overlap=self.overlap, commands=1.0 if self.command else 0.0)


@dataclass(frozen=True, slots=True)
class Term:
    """One kernel: its class and its terms in seconds, scaled so that they give its analytical time."""

    kernel_class: str
    compute: float
    activations: float
    weights: float
    commands: float
    writes: float


@dataclass(frozen=True, slots=True)
class Observation:
    """Measured seconds of one kernel, or of several in sequence."""

    seconds: float
    terms: tuple[Term, ...]


def term_of(kernel_class: str, cost: Cost, shape: Shape) -> Term:
    """The terms of an analytical cost."""
    commands = cost.overhead_seconds if shape.command else 1.0
    raw = Term(
        kernel_class,
        cost.compute_seconds,
        cost.activation_seconds,
        cost.weight_seconds,
        commands,
        cost.write_seconds,
    )
    known = seconds_of(raw, shape.identity, shape)
    if known <= 0:
        return Term(kernel_class, cost.seconds, 0.0, 0.0, 1.0, 0.0)
    scale = cost.seconds / known
    return Term(
        kernel_class,
        raw.compute * scale,
        raw.activations * scale,
        raw.weights * scale,
        commands * scale if shape.command else 1.0,
        raw.writes * scale,
    )


def seconds_of(term: Term, factors: Factors, shape: Shape) -> float:
    """The formula above for one kernel."""
    compute = term.compute * factors.classes.get(term.kernel_class, 1.0)
    first, second = term.activations * factors.activations, term.weights * factors.weights
    memory = first + second if shape.shared else max(first, second)
    hidden = (1 - factors.overlap) * min(compute, memory)
    return max(compute, memory) + hidden + term.commands * factors.commands + term.writes * factors.writes


def fit(observations: Sequence[Observation], shape: Shape, overlap: float | None = None) -> Factors:
    """The factors that come nearest to the observations, pulled to the preset where those say little.

    The overlap is searched for, if enough rows can tell it, unless it is given.
    """
    problem = _Problem(observations, shape)
    search = overlap is None and len(observations) >= ENOUGH_ROWS
    overlap = shape.overlap if overlap is None else overlap
    best, loss = problem.solve(overlap)
    if search:
        for other in ETAS:
            found, cost = problem.solve(other)
            if other != shape.overlap and cost < loss * (_WORTHWHILE if overlap == shape.overlap else 1.0):
                best, loss, overlap = found, cost, other
    rows = dict.fromkeys(problem.names, 0)
    for observation in observations:
        for name in {term.kernel_class for term in observation.terms}:
            rows[name] += 1
    factors = {
        name: shrink(max(_LEAST, float(best[index])), rows[name]) for index, name in enumerate(problem.names)
    }
    activations, weights, writes, commands = (float(value) for value in best[len(factors) :])
    return Factors(factors, activations, weights, writes, commands, overlap, rows)


class _Problem:
    """Observations as arrays; unknowns are the class factors, then those of traffic, writes and commands."""

    def __init__(self, observations: Sequence[Observation], shape: Shape) -> None:
        terms = [term for observation in observations for term in observation.terms]
        self.names = sorted({term.kernel_class for term in terms})
        self.shape = shape
        self.measured: Array = np.array([o.seconds for o in observations])
        self.owner = np.repeat(np.arange(len(observations)), [len(o.terms) for o in observations])
        index = {name: position for position, name in enumerate(self.names)}
        self.kinds: NDArray[np.intp] = np.array([index[t.kernel_class] for t in terms], dtype=np.intp)
        self.terms: Array = np.array(
            [(t.compute, t.activations, t.weights, t.writes, t.commands) for t in terms]
        ).reshape(len(terms), 5)
        tenth = 0.1 * float(np.median(self.measured))
        start = shape.identity.commands
        self.expected: Array = np.array([1.0] * (len(self.names) + 3) + [start])
        scale = max(1.0, tenth / shape.command) if shape.command else tenth
        self.scales: Array = np.array([1.0] * (len(self.names) + 3) + [scale])
        if len(observations) < ENOUGH_ROWS:  # too few to tell the factors of the device from those of classes
            self.scales[len(self.names) :] *= 1e-4

    def solve(self, overlap: float) -> tuple[Array, float]:
        """The unknowns for one overlap, and their loss: which term bounds each kernel is found on the way."""
        x = self.expected.copy()
        best, least = x, self._loss(x, overlap)
        strength = _PRIOR_ROWS / self.scales**2
        for _ in range(_ROUNDS):
            columns = self._features(x, overlap) / self.measured[:, None]
            weighted = columns * row_weights(columns @ x)[:, None]
            gram = weighted.T @ columns + np.diag(strength)
            moved = nnls_gram(gram, weighted.sum(axis=0) + strength * self.expected)
            settled = np.allclose(moved, x, rtol=1e-6, atol=1e-15)
            x = moved
            loss = self._loss(x, overlap)
            if loss < least:
                best, least = x, loss
            if settled:
                break
        return best, least

    def _loss(self, x: Array, overlap: float) -> float:
        away = (x - self.expected) / self.scales
        return robust_loss(self._features(x, overlap) @ x, self.measured) + _PRIOR_ROWS / 2 * float(
            away @ away
        )

    def _features(self, x: Array, overlap: float) -> Array:
        """What each unknown multiplies, given which terms bound each kernel at `x`."""
        kinds = len(self.names)
        compute, activations, weights, writes, commands = self.terms.T
        first, second = activations * x[kinds], weights * x[kinds + 1]
        if self.shape.shared:
            memory, use_first, use_second = first + second, np.ones(len(first)), np.ones(len(first))
        else:
            use_first = (first >= second).astype(float)
            memory, use_second = np.maximum(first, second), 1 - use_first
        bound = compute * x[self.kinds] >= memory
        of_compute, of_memory = np.where(bound, 1.0, 1 - overlap), np.where(bound, 1 - overlap, 1.0)
        rows = np.zeros((len(compute), kinds + 4))
        rows[np.arange(len(compute)), self.kinds] = compute * of_compute
        rows[:, kinds] = activations * use_first * of_memory
        rows[:, kinds + 1] = weights * use_second * of_memory
        rows[:, kinds + 2], rows[:, kinds + 3] = writes, commands
        features: Array = np.zeros((len(self.measured), kinds + 4))
        np.add.at(features, self.owner, rows)
        return features
