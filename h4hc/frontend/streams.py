"""Along which axis an operator can consume and produce its tensors row by row.

A position (prefix, rows) names an axis of a tensor in row-major order: `prefix` is the product of the
extents before it, `rows` its length. Reshapes keep positions, so they pass through views untouched. A row
of a tensor of E elements holds E / (prefix·rows) consecutive elements in each of the `prefix` blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple


class Position(NamedTuple):
    """A streamed axis: the product of the extents before it, and its length."""

    prefix: int
    rows: int


def axis_position(shape: Sequence[int], axis: int) -> Position:
    """The position of `axis` of a tensor of `shape`."""
    return Position(prod(shape[:axis]), shape[axis])


def survives_block(position: Position, outer: int, length: int, inner: int) -> bool:
    """Whether each row holds whole blocks: an operator that mixes the `length` axis can still stream.

    The tensor is [outer, length, inner]. Rows outside the block contain complete [length, inner] slices;
    rows inside `inner` contain every index of the mixed axis.
    """
    row = outer * length * inner // (position.prefix * position.rows)
    outside = position.prefix <= outer and row % (length * inner) == 0
    inside = position.prefix % (outer * length) == 0
    return outside or inside


def scale_block(position: Position, outer: int, length: int, new_length: int) -> Position:
    """`position` in a tensor whose `length` axis became `new_length` (concat, split, slice, reduction).

    Only valid if `survives_block` holds.
    """
    if position.prefix <= outer:
        return position
    return Position(position.prefix // length * new_length, position.rows)


def transposed(
    position: Position, shape: Sequence[int], permutation: Sequence[int]
) -> tuple[Position, Position] | None:
    """Input and output position of a transpose of a tensor of `shape`, or None if it cannot stream."""
    prefix = 1
    for axis, extent in enumerate(shape):
        if prefix == position.prefix and extent > 1:
            target = list(permutation).index(axis)
            output_prefix = prod(shape[source] for source in permutation[:target])
            return Position(prefix, extent), Position(output_prefix, extent)
        prefix *= extent
    return None
