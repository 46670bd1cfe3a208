"""Division and multiples, rounded up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.signedinteger[Any]]


def quotient(numerator: int, denominator: int) -> int:
    """`numerator` / `denominator`, rounded up."""
    return -(-numerator // denominator)


def multiple(value: int, of: int) -> int:
    """The smallest multiple of `of` that is not below `value`."""
    return -(-value // of) * of


def multiples(values: Ints, of: int) -> Ints:
    """`multiple` of each of `values`."""
    return (values + (of - 1)) // of * of
