"""Operators with weights as matrix products, and how a product lies in the tiles of a macro."""

from __future__ import annotations

from typing import NamedTuple

from h4hc.backends.rounding import quotient
from h4hc.ir.workload import Conv, MatMul


class Product(NamedTuple):
    """`groups` independent products [m x k] x [k x n]; `dynamic`: both operands are made at run time."""

    groups: int
    m: int
    k: int
    n: int
    dynamic: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.groups * self.m * self.k * self.n


class Tiling(NamedTuple):
    """How a product lies in tiles of rows x words: `packed` groups share a tile block-diagonally."""

    packed: int
    row_tiles: int
    column_tiles: int
    tiles: int


def product(workload: object) -> Product | None:
    """`workload` as products, or None if it is no weighted operator.

    A transposed convolution is the convolution over its zero-stuffed input, zeros computed.
    """
    if isinstance(workload, Conv):
        return Product(
            workload.groups,
            workload.batch * workload.out_h * workload.out_w,
            workload.in_channels // workload.groups * workload.kernel_h * workload.kernel_w,
            workload.out_channels // workload.groups,
        )
    if isinstance(workload, MatMul):
        return Product(workload.batch, workload.m, workload.k, workload.n, workload.dynamic)
    return None


def tiling(item: Product, rows: int, words: int, pack: bool = True) -> Tiling:
    """The tiles of `item` on an array that reduces `rows` weights of `words` columns."""
    packed = 1
    if pack and item.groups > 1:
        packed = max(1, min(rows // item.k, words // item.n, item.groups))
    row_tiles = quotient(packed * item.k, rows)
    column_tiles = quotient(packed * item.n, words)
    return Tiling(packed, row_tiles, column_tiles, row_tiles * column_tiles * quotient(item.groups, packed))
