"""Least squares of a few physical unknowns, none negative, robust against outliers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

HUBER = 0.25  # logarithmic error beyond which a row counts linearly: about 28 %
_ROUNDS = 60
_CONVERGED = 1e-10


def nnls(matrix: Array, vector: Array) -> Array:
    """The x >= 0 that minimises |matrix x - vector| (Lawson and Hanson, 1974)."""
    gram, target = matrix.T @ matrix, matrix.T @ vector
    return nnls_gram(gram, target)


def nnls_gram(gram: Array, target: Array) -> Array:
    """The same from the normal equations: gram = A'A, target = A'b. Few unknowns, so their loss of digits is harmless."""
    count = len(target)
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    scaled, aim = gram / np.outer(scale, scale), target / scale
    x = np.zeros(count)
    free = np.zeros(count, dtype=bool)
    for _ in range(3 * count + 10):
        slope = aim - scaled @ x
        slope[free] = -np.inf
        best = int(np.argmax(slope))
        if slope[best] <= 1e-12 * max(1.0, float(np.abs(aim).max())):
            break
        free[best] = True
        x, free = _descend(scaled, aim, x, free)
    return x / scale


def _descend(
    gram: Array, target: Array, x: Array, free: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.bool_]]:
    """The minimum over the free unknowns, those that would turn negative pinned to zero one after the other."""
    while free.any():
        wanted = np.zeros_like(x)
        index = np.flatnonzero(free)
        wanted[index] = np.linalg.lstsq(gram[np.ix_(index, index)], target[index], rcond=None)[0]
        negative = free & (wanted <= 0)
        if not negative.any():
            return wanted, free
        step = float(np.min(x[negative] / (x[negative] - wanted[negative] + 1e-300)))
        x = np.maximum(x + step * (wanted - x), 0.0)
        pinned = negative & (x <= 1e-15 + 1e-12 * float(x.max()))
        free = free & ~(pinned if pinned.any() else negative)
        x[~free] = 0.0
    return x, free


def line(positions: Array, values: Array) -> tuple[float, float]:
    """The offset and slope, neither negative, of values = offset + slope x positions.

    Least squares of the plain differences, because the errors of differences of times and of mean powers do not
    grow with them; rows beyond three deviations count linearly.
    """
    features = np.stack([np.ones(len(values)), positions], axis=1)
    weights = np.ones(len(values))
    x = np.zeros(2)
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        before, x = x, nnls(features * root[:, None], values * root)
        if np.allclose(before, x, rtol=_CONVERGED, atol=0):
            break
        error = np.abs(features @ x - values)
        limit = 3 * 1.4826 * float(np.median(error))
        weights = np.minimum(1.0, limit / np.maximum(error, 1e-300)) if limit > 0 else weights
    return float(x[0]), float(x[1])


def row_weights(relative: Array) -> Array:
    """Weights of squared relative differences, from predictions p relative to measurements t.

    A row counts by (log p - log t) / (p / t - 1), which turns the squared difference into the squared
    logarithmic one, and less the farther it is beyond `HUBER`.
    """
    ratio = np.clip(relative, 1e-6, 1e6)
    error = np.log(ratio)
    difference = ratio - 1.0
    near = np.abs(difference) < 1e-6
    slope = np.where(near, 1.0, error / np.where(near, 1.0, difference))
    huber = np.minimum(1.0, HUBER / np.maximum(np.abs(error), 1e-12))
    weights: Array = slope**2 * huber
    return weights


def robust_loss(predicted: Array, measured: Array) -> float:
    """Huber's loss of the logarithmic error, summed."""
    error = np.abs(np.log(np.maximum(predicted, 1e-300) / measured))
    return float(np.where(error <= HUBER, error**2 / 2, HUBER * (error - HUBER / 2)).sum())


def shrink(factor: float, rows: int) -> float:
    """`factor` pulled towards 1 where it rests on fewer than eight rows, as if four more had said 1."""
    return factor if rows >= 8 else (rows * factor + 4) / (rows + 4)
