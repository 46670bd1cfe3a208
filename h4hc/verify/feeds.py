"""Random inputs of the right type and range for the functional check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from h4hc.verify.document import Value

    Feed = dict[str, np.ndarray]

# How values are drawn, from the richest to the tamest: integers may be indices, lengths or axes, floats may
# be scales or ratios, and a model may refuse what is out of range. Each attempt: the integer range of 8-bit
# types (None: all of it), that of wider types, and whether floats are standard normal or in [0, 1).
ATTEMPTS: tuple[tuple[tuple[int, int] | None, tuple[int, int], bool], ...] = (
    (None, (0, 16), True),
    ((0, 8), (0, 8), True),
    ((0, 2), (0, 2), True),
    ((1, 2), (1, 2), False),
    ((0, 1), (0, 1), False),
)
BYTE_TYPES = ("int8", "uint8")


def random_feed(values: Sequence[Value], seed: int, attempt: int = 0) -> Feed:
    """One value per input, drawn as `ATTEMPTS[attempt]` says; booleans are fair coins."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return {value.name: _draw(value, generator, attempt) for value in values}


def _draw(value: Value, generator: np.random.Generator, attempt: int) -> np.ndarray:
    import numpy as np

    narrow, wide, normal = ATTEMPTS[attempt]
    if value.dtype == "bool":
        return generator.integers(0, 2, value.shape).astype(np.bool_)
    if value.dtype.startswith(("int", "uint")):
        limits = np.iinfo(value.dtype)
        low, high = (narrow or (limits.min, limits.max + 1)) if value.dtype in BYTE_TYPES else wide
        return generator.integers(low, high, value.shape).astype(value.dtype)
    draw = generator.standard_normal if normal else generator.random
    if value.dtype.startswith("complex"):
        return np.asarray(draw(value.shape) + 1j * draw(value.shape)).astype(value.dtype)
    return np.asarray(draw(value.shape)).astype(value.dtype)
