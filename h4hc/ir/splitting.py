"""Operators that run on two devices at a time."""

from __future__ import annotations

from dataclasses import dataclass


def part_names(name: str) -> tuple[str, str]:
    """What the two parts of the operator or node `name` are called."""
    return f"{name}/part0", f"{name}/part1"


def joined_name(name: str) -> str:
    """What the Concat of the parts of the operator `name` is called."""
    return f"{name}/parts"


@dataclass(frozen=True, slots=True)
class SplitOperator:
    """`operator` of the model, computed in `parts`: operators and how many of the output channels each computes."""

    operator: str
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Splitting:
    """The split operators, and what the model achieves without splitting: seconds and joules of one frame."""

    operators: tuple[SplitOperator, ...]
    latency: float
    energy: float
