"""Placements to set out from: the best of some, and operators to other devices. Python twin of native/start.c."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Score = tuple[float, float, float]
Start = tuple[Score, list[int], list[int]]  # score, tiles, modes

_FINER = (2, 16)  # tiles
_SLOWDOWNS = (0.0, 1.0, 1.5, 2.5)


def best(
    seeds: Sequence[Sequence[int]],
    tilings: Sequence[Sequence[int]],
    rate: Callable[[Sequence[int], Sequence[int]], Score],
) -> Start:
    """The best of the modes in `seeds`, each with all tile counts in `tilings`; of equals the first in order."""
    return min((rate(modes, tiles), list(tiles), list(modes)) for modes in seeds for tiles in tilings)


def offload(
    data: Mapping[str, Any],
    start: Start,
    mask: int,
    finest: Sequence[int],
    rate: Callable[[Sequence[int], Sequence[int]], Score],
) -> Start:
    """The best of `start`, the same in more tiles, and with all operators on a device that it slows down by little.

    A minimum cut sees no gain in a second device that is no faster; overlap makes it one. Devices: those of `mask`.
    Weights do not move into devices. Moved operators are tried with the tiles of the best so far and with `finest`.
    """
    best = start
    for count in _FINER:
        finer = [min(count, rows) for rows in data["rows"]]
        best = min(best, (rate(best[2], finer), finer, best[2]))
    for device in [d for d in range(data["devices"]) if mask >> d & 1]:
        slowdowns = _slowdowns(data, best[2], device)
        moved = list(best[2])
        for low, high in pairwise(_SLOWDOWNS):
            chosen = [(v, m) for slowdown, v, m in slowdowns if low < slowdown <= high]
            for v, m in chosen:
                moved[v] = m
            for tiling in (best[1], list(finest)) if chosen else ():
                best = min(best, (rate(moved, tiling), tiling, list(moved)))
    return best


def _slowdowns(data: Mapping[str, Any], modes: Sequence[int], device: int) -> list[tuple[float, int, int]]:
    """(time there over time now, operator, mode) of the modes on `device` that keep no weights there, the first one last."""
    pointers, work = data["mode_ptr"], data["mode_work"]
    device_of, resident = data["mode_device"], data["mode_resident"]
    return [
        (work[m] / max(1, work[pointers[v] + modes[v]]), v, m - pointers[v])
        for v in range(data["operators"])
        if device_of[pointers[v] + modes[v]] != device
        for m in range(pointers[v + 1] - 1, pointers[v] - 1, -1)
        if device_of[m] == device and not resident[m]
    ]
