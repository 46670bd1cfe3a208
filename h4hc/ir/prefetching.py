"""Weights that are fetched before their operator starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefetching:
    """The operators whose weights are fetched, and the bytes of all of them.

    `latency`, `interval` between frames (seconds) and `energy` (joules) are what the same schedule takes when every operator
    reads its own.
    """

    operators: tuple[str, ...]
    bytes: int
    latency: float
    interval: float
    energy: float
