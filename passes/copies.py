"""Copies of weights: modes that hold an operator's weights several times, in capacity that would be idle.

A device that keeps weights may offer a mode and modes ``<mode> x2``, ``<mode> x4`` ... that take as many times the room and
less time. The partitioner searches as if there were none, and then spends the room that is left: a schedule
never gets worse by them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

from h4hc.ir.system import System

_ARRAYS = ("mode_work", "mode_energy", "mode_resident")


def single_modes(modes: Sequence[tuple[int, str]]) -> list[int]:
    """By mode (device, name) of one operator: the number of the mode that it copies, or its own."""
    known: dict[tuple[int, str], int] = {}
    single = []
    for number, (device, name) in enumerate(modes):
        known[device, name] = number
        single.append(known.get((device, name.partition(" x")[0]), number))
    return single


def without_copies(system: System) -> System:
    """`system` with every copied mode as dear, and as small, as the one it copies: none is worth choosing.

    Mode numbers stay what they are.
    """
    single = system.single
    if single == tuple(range(len(single))):
        return system
    data: dict[str, Any] = dict(system.data)
    for name in _ARRAYS:
        values = data[name]
        data[name] = [values[m] for m in single]
    return replace(system, data=data)


def has_copies(system: System) -> bool:
    """Whether some mode is a copy of another."""
    return system.single != tuple(range(len(system.single)))


def of_single_modes(system: System) -> System:
    """`system` without the modes that are copies: the problem of a target that does not offer them."""
    data = dict(system.data)
    kept = [m for m, single in enumerate(system.single) if m == single]
    for name in (*_ARRAYS, "mode_device"):
        data[name] = [data[name][m] for m in kept]
    starts = data["mode_ptr"]
    data["mode_ptr"] = [bisect_left(kept, start) for start in starts]
    costs = tuple([
        tuple([cost for m, cost in enumerate(offered, start) if system.single[m] == m])
        for start, offered in zip(starts, system.mode_costs, strict=False)
    ])  # fmt: skip
    return replace(system, data=data, mode_costs=costs, single=tuple(range(len(kept))))


def singled(system: System, modes: Sequence[int]) -> list[int]:
    """`modes` with every copy replaced by what it copies."""
    single = system.single
    return [single[first + mode] - first for first, mode in zip(system.data["mode_ptr"], modes, strict=False)]


def among_copies(system: System, modes: Sequence[int]) -> list[int]:
    """The numbers in `system` of `modes` in the system of its single modes."""
    return [singles[mode] for mode, singles in zip(modes, _singles(system), strict=True)]


def of_copies(system: System, modes: Sequence[int]) -> list[int]:
    """The numbers in the system of its single modes of what `modes` of `system` copy, or are."""
    return [kept.index(mode) for mode, kept in zip(singled(system, modes), _singles(system), strict=True)]


def _singles(system: System) -> list[list[int]]:
    """By operator the numbers of its modes that are no copies."""
    return [
        [m - start for m in range(start, end) if system.single[m] == m]
        for start, end in pairwise(system.data["mode_ptr"])
    ]


def offers_choice(system: System) -> bool:
    """Whether some device runs some operator in several modes."""
    device_of, starts = system.data["mode_device"], set(system.data["mode_ptr"])
    return any(a == b and m not in starts for m, (a, b) in enumerate(pairwise(device_of), 1))


def fill(
    system: System,
    modes: Sequence[int],
    room: Sequence[int],
    score: Callable[[Sequence[int]], tuple[float, ...]],
    evaluations: int,
) -> list[int]:
    """`modes` with operators in modes of their devices that take more of the `room` (bytes by device) and less time.

    The first attempt takes what fits, most time saved per byte first; then follow single changes. Kept is what
    `score` prefers, in at most `evaluations` (but two) scores. The result never scores worse than `modes`.
    """
    best, left = list(modes), list(room)
    wanted = _larger_modes(system, best)
    if not wanted:
        return best
    least = score(best)
    attempt, spare = list(best), list(left)
    _take_all(system, attempt, spare, wanted)
    found = score(attempt)
    if found < least:
        best, left, least = attempt, spare, found
    for _, v, mode in wanted[: max(0, evaluations - 2)]:
        attempt, spare = list(best), list(left)
        if _worth(system, best, left, v, mode) is None:
            continue
        _take(system, attempt, spare, v, mode)
        found = score(attempt)
        if found < least:
            best, left, least = attempt, spare, found
    return best


def _larger_modes(system: System, modes: Sequence[int]) -> list[tuple[float, int, int]]:
    """(less time saved per byte, operator, mode) of the modes of its device that are larger and faster, best first."""
    data = system.data
    pointers, device_of = data["mode_ptr"], data["mode_device"]
    work, resident = data["mode_work"], data["mode_resident"]
    wanted = []
    for v, mode in enumerate(modes):
        start = pointers[v]
        now = start + mode
        device, ticks, size = device_of[now], work[now], resident[now]
        for m in range(start, pointers[v + 1]):
            if device_of[m] == device and work[m] < ticks and resident[m] > size:
                wanted.append(((work[m] - ticks) / (resident[m] - size), v, m - start))
    return sorted(wanted)


def _worth(system: System, modes: Sequence[int], room: Sequence[int], v: int, mode: int) -> float | None:
    """Time saved per byte of `room` if operator `v` goes to `mode`; None if it has no room or saves nothing."""
    data = system.data
    now, then = data["mode_ptr"][v] + modes[v], data["mode_ptr"][v] + mode
    device = data["mode_device"][then]
    more = data["mode_resident"][then] - data["mode_resident"][now]
    saved = data["mode_work"][now] - data["mode_work"][then]
    if device != data["mode_device"][now] or saved <= 0 or not 0 < more <= room[device]:
        return None
    return float(saved / more)


def _take(system: System, modes: list[int], room: list[int], v: int, mode: int) -> None:
    data = system.data
    now, then = data["mode_ptr"][v] + modes[v], data["mode_ptr"][v] + mode
    room[data["mode_device"][then]] -= data["mode_resident"][then] - data["mode_resident"][now]
    modes[v] = mode


def _take_all(
    system: System, modes: list[int], room: list[int], wanted: Iterable[tuple[float, int, int]]
) -> None:
    """Take the best of `wanted` again and again. What is left is worth less once its operator has changed."""
    queue = list(wanted)
    heapify(queue)
    while queue:
        promised, v, mode = heappop(queue)
        worth = _worth(system, modes, room, v, mode)
        if worth is None:
            continue
        if -worth > promised:
            heappush(queue, (-worth, v, mode))
        else:
            _take(system, modes, room, v, mode)
