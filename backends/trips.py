"""Operators that run as a chain of passes through the output unit: softmax and norms."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from h4hc.backends.traffic import Moved

WIDE = 4  # bytes of an intermediate result

_NotNegative = Annotated[float, Field(ge=0)]


class Trip(NamedTuple):
    """One pass, per element: cycles, bytes read and written at 8 bit, bytes of 32-bit intermediate results read
    and written, and bytes of constants."""

    cycles: _NotNegative
    read: _NotNegative
    written: _NotNegative
    scratch_read: _NotNegative
    scratch_written: _NotNegative
    constants: _NotNegative


def moves(trip: Trip, elements: float, width: int) -> tuple[Moved, ...]:
    """Bytes of one pass; intermediate results stay as they are at wider activations."""
    return (
        Moved("input", "second", trip.read * elements * width),
        Moved("output", "output", trip.written * elements * width),
        Moved("scratch", "second", trip.scratch_read * elements),
        Moved("scratch", "output", trip.scratch_written * elements),
        Moved("weights", "second", trip.constants * elements),
    )
