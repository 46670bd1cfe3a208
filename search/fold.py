"""From the weights of a network as trained to those of the network as deployed. NumPy only.

Batch norm goes into the convolution before it, constant gains and layer scales into the dense layer, and a table of
relative positions becomes one number per head and pair of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from h4hc.search.program import Op, Program

NORM_EPSILON = 1e-5  # of batch norm and of layer norm

Array = NDArray[np.float32]


def fold(program: Program, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of the deployed network by the names of `deployed`.

    `weights` has those of the program by name, and ``<conv>.bn.mean`` and ``<conv>.bn.var``.
    """
    found: dict[str, Array] = {}
    for op in program.ops:
        for name, array in _folded(op, weights).items():
            found[name] = np.ascontiguousarray(array, np.float32)
    return found


def _folded(op: Op, weights: Mapping[str, Array]) -> dict[str, NDArray[np.float64]]:
    if not op.weights:
        return {}
    own = [weights[weight.name].astype(np.float64) for weight in op.weights]
    if op.kind == "conv":
        kernel = own[0]
        if not op.attributes["norm"]:
            return {f"{op.name}.weight": kernel} | (
                {f"{op.name}.bias": own[1]} if op.attributes["bias"] else {}
            )
        mean, var = (weights[f"{op.name}.bn.{part}"].astype(np.float64) for part in ("mean", "var"))
        scale = own[-2] / np.sqrt(var + NORM_EPSILON)
        return {
            f"{op.name}.weight": kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)),
            f"{op.name}.bias": own[-1] + ((own[1] if op.attributes["bias"] else 0.0) - mean) * scale,
        }
    if op.kind == "linear":
        factor = float(op.attributes["gain"]) * (own[2] if op.attributes["scaled"] else np.ones_like(own[1]))
        return {f"{op.name}.weight": own[0].T * factor, f"{op.name}.bias": own[1] * factor}
    if op.kind == "position":
        table = own[0]
        index = relative_positions(tuple((side + 1) // 2 for side in table.shape[1:]))
        return {f"{op.name}.bias": table.reshape(len(table), -1)[:, index][np.newaxis]}
    return {weight.name: array for weight, array in zip(op.weights, own, strict=True)}


@lru_cache(maxsize=64)
def relative_positions(extents: tuple[int, ...]) -> NDArray[np.int64]:
    """For each pair of tokens of a map of `extents`, the index of its offset into a flattened table."""
    points = np.stack([axis.ravel() for axis in np.indices(extents)])
    index = np.zeros((points.shape[1],) * 2, np.int64)
    for axis, extent in zip(points, extents, strict=True):
        index = index * (2 * extent - 1) + (axis[:, None] - axis[None, :] + extent - 1)
    return index
