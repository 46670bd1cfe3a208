"""Wear: operators that write the same cells in every frame share the writes that these cells bear.

In:  rows of costs, writes that devices bear. Out: the rows, without the modes that would together wear a device out too soon.

Rules:
1. A device bears `Backend.writes_per_frame` writes of a cell in a frame. If all its operators together write more,
   some lose their modes that write, so that any placement of the others keeps within it.
2. Those keep them that have nothing else to run in, then those that gain most by each write against their best
   mode that stays in no array: room in an array is not to be counted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from h4hc.ir.cost import Cost, CostRow, Refusal, Row


def lasting(rows: Sequence[Row], bearable: Mapping[str, float]) -> list[Row]:
    """`rows` (one per operator) whose modes together write a cell of a device at most `bearable` times a frame."""
    found = list(rows)
    for device, most in bearable.items():
        if most != inf:
            _relieve(found, device, most)
    return found


def _relieve(rows: list[Row], device: str, most: float) -> None:
    """Take the modes that write `device` from some of `rows`, until they write no more than `most` together."""
    writing = {v: writes for v, row in enumerate(rows) if (writes := _writes(row[device]))}
    if sum(writing.values()) <= most:
        return
    gains = {v: (_elsewhere(rows[v]) - _reloading(rows[v][device])) / writes for v, writes in writing.items()}
    left = most
    for v in sorted(writing, key=lambda v: (-gains[v], v)):
        if writing[v] <= left:
            left -= writing[v]
        else:
            rows[v] = CostRow({**rows[v], device: _spared(rows[v][device])})


def _modes(entry: tuple[Cost, ...] | Refusal) -> tuple[Cost, ...]:
    return () if isinstance(entry, Refusal) else entry


def _writes(entry: tuple[Cost, ...] | Refusal) -> float:
    return max((mode.writes_per_cell for mode in _modes(entry)), default=0.0)


def _reloading(entry: tuple[Cost, ...] | Refusal) -> float:
    return min(mode.seconds for mode in _modes(entry) if mode.writes_per_cell)


def _elsewhere(row: Row) -> float:
    """Seconds of the fastest mode that neither writes cells nor stays in them; infinite if there is none."""
    free = (
        mode.seconds
        for entry in row.values()
        for mode in _modes(entry)
        if not mode.writes_per_cell and not mode.resident_bytes
    )
    return min(free, default=inf)


def _spared(entry: tuple[Cost, ...] | Refusal) -> tuple[Cost, ...] | Refusal:
    kept = tuple(mode for mode in _modes(entry) if not mode.writes_per_cell)
    return kept or Refusal("with the other operators that write it every frame, it would wear the array out")
