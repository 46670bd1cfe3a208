"""How much of a tensor is needed: the arithmetic of row-major prefixes.

A `Need(prefix, elements)` of a tensor of N elements says: cut the tensor into `prefix` equal slabs of N /
prefix consecutive elements; the first `elements` of every slab are needed. Slabs and elements are counted in
row-major order, so a reshape does not change a need. Every function here may return more than
is needed, never less: a larger need is always safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple


class Need(NamedTuple):
    """The first `elements` of each of `prefix` slabs."""

    prefix: int
    elements: int


NOTHING = Need(1, 0)


def everything(total: int) -> Need:
    """The whole of a tensor of `total` elements."""
    return Need(1, total)


def ceil_div(a: int, b: int) -> int:
    """`a` / `b`, rounded up."""
    return -(-a // b)


def elements_at(need: Need, total: int, prefix: int) -> int:
    """Elements needed of each slab if the tensor is cut into `prefix` slabs instead."""
    if total == 0 or need.elements <= 0:
        return 0
    if need.prefix == prefix:
        return min(need.elements, total // prefix)
    if need.prefix % prefix == 0:  # larger slabs: all of the old slabs but the last, and its beginning
        old = total // need.prefix
        return (need.prefix // prefix - 1) * old + min(need.elements, old)
    if prefix % need.prefix == 0:  # smaller slabs: the first of them decides
        return min(need.elements, total // prefix)
    return total // prefix


def recut(need: Need, total: int, prefix: int) -> Need:
    """`need` as a need of `prefix` slabs."""
    return Need(prefix, elements_at(need, total, prefix))


def union(first: Need, second: Need, total: int) -> Need:
    """A need that covers both."""
    if first.elements == 0:
        return second
    if second.elements == 0:
        return first
    candidates = [
        Need(prefix, max(elements_at(first, total, prefix), elements_at(second, total, prefix)))
        for prefix in dict.fromkeys((first.prefix, second.prefix, gcd(first.prefix, second.prefix)))
    ]
    return min(candidates, key=lambda need: need.prefix * need.elements)


def through_block(need: Need, outer: int, out_length: int, in_length: int, inner: int) -> Need:
    """The need of the input of an operator that mixes the middle axis of [outer, length, inner].

    The output is [outer, out_length, inner], the input [outer, in_length, inner]; output (o, l, i) reads
    input (o, *, i) for all of the middle axis.
    """
    total = outer * out_length * inner
    if need.prefix % (outer * out_length) == 0:
        part = need.prefix // (outer * out_length)
        return Need(outer * in_length * part, need.elements)
    prefix = need.prefix if outer % need.prefix == 0 else outer
    blocks = ceil_div(elements_at(need, total, prefix), out_length * inner)
    return Need(prefix, blocks * in_length * inner)


def along_axis(need: Need, shape: Sequence[int]) -> tuple[int, int]:
    """The axis of `shape` that `need` runs along, and how many of its indices are needed.

    All indices of all other axes may be needed. Where `need` does not start at an axis, the next axis before
    is taken.
    """
    total = prod(shape)
    axis, prefix = 0, 1
    running = 1
    for index, extent in enumerate(shape):
        if need.prefix % running == 0:
            axis, prefix = index, running
        running *= extent
    inner = prod(shape[axis + 1 :])
    return axis, min(shape[axis], ceil_div(elements_at(need, total, prefix), inner))


def axis_need(shape: Sequence[int], axis: int, rows: int) -> Need:
    """The need of indices [0, rows) of `axis`, all of the other axes."""
    rows = max(0, min(rows, shape[axis]))
    return Need(prod(shape[:axis]), rows * prod(shape[axis + 1 :]))


def through_broadcast(need: Need, shape: Sequence[int], operand: Sequence[int]) -> Need:
    """The need of an operand that is broadcast to `shape`."""
    if tuple(operand) == tuple(shape):
        return need
    total = prod(shape)
    extents = list(shape)
    kept = [1] * (len(shape) - len(operand)) + list(operand)
    start = _open_axis(need.prefix, extents, kept)
    prefix = prod(extents[:start])
    elements = elements_at(need, total, prefix)
    return Need(prod(kept[:start]), _project(elements, extents[start:], kept[start:]))


def through_transpose(need: Need, shape: Sequence[int], permutation: Sequence[int]) -> Need:
    """The need of the input, of `shape`, of a transpose whose output axis i is input axis permutation[i].

    Axes that stay neighbours count as one, and axes of extent 1 not at all: if only those move, the order of
    the elements stays as it is, and the need too.
    """
    # A block is its first input axis, its place among the parts of that axis, and its extent.
    blocks: list[tuple[int, int, int]] = []
    last = -1
    for axis in (axis for axis in permutation if shape[axis] != 1):
        if blocks and axis > last and all(extent == 1 for extent in shape[last + 1 : axis]):
            blocks[-1] = (*blocks[-1][:2], blocks[-1][2] * shape[axis])
        else:
            blocks.append((axis, 0, shape[axis]))
        last = axis
    if len(blocks) <= 1:
        return need
    cut = _cut_inside(need.prefix, [extent for _, _, extent in blocks])
    if cut is not None:
        index, part = cut
        axis, _, extent = blocks[index]
        blocks[index : index + 1] = [(axis, 0, part), (axis, 1, extent // part)]
    index, rows = along_axis(need, [extent for _, _, extent in blocks])
    before = sorted(blocks)
    return axis_need([extent for _, _, extent in before], before.index(blocks[index]), rows)


def _cut_inside(prefix: int, extents: Sequence[int]) -> tuple[int, int] | None:
    """The axis inside which slabs of `prefix` start, and into how many parts they cut it; None if none."""
    running = 1
    for index, extent in enumerate(extents):
        part = prefix // running
        if prefix % running != 0 or part == 1:
            break
        if part < extent and extent % part == 0:
            return index, part
        running *= extent
    return None


def _open_axis(prefix: int, extents: list[int], kept: list[int]) -> int:
    """The axis at which slabs of `prefix` start; cuts an axis in two where they start inside it."""
    cut = _cut_inside(prefix, extents)
    if cut is not None:
        index, part = cut
        extent = extents[index]
        extents[index : index + 1] = [part, extent // part]
        kept[index : index + 1] = [1, 1] if kept[index] == 1 else [part, extent // part]
        return index + 1
    running, start = 1, 0
    for index, extent in enumerate(extents):
        if prefix % running != 0:
            break
        start = index
        if prefix == running:
            break
        running *= extent
    return start


def _project(elements: int, extents: Sequence[int], kept: Sequence[int]) -> int:
    """Leading elements of the operand that the first `elements` of the broadcast result read."""
    needed = 0
    for index, extent in enumerate(extents):
        inner, inner_kept = prod(extents[index + 1 :]), prod(kept[index + 1 :])
        whole = elements // inner if inner else 0
        if whole >= extent:
            return needed + kept[index] * inner_kept
        if whole and kept[index] == 1:
            return needed + inner_kept
        needed += whole * inner_kept
        elements -= whole * inner
    return needed
