"""Capacity: resident weights of all operators on a device, together, against what the device holds.

In:  a system and modes. Out: whether they fit, modes that do, and the best use of the room by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from h4hc.ir.system import System

_BUCKETS = 512  # of the capacity, in the knapsack


def resident_bytes(system: System, modes: Iterable[int]) -> list[int]:
    """Bytes of resident weights per device."""
    data = system.data
    used = [0] * data["devices"]
    for v, mode in enumerate(modes):
        m = data["mode_ptr"][v] + mode
        used[data["mode_device"][m]] += data["mode_resident"][m]
    return used


def fits_capacity(system: System, modes: Iterable[int]) -> bool:
    """Whether resident weights are within the capacity of every device."""
    return all(
        used <= limit
        for used, limit in zip(resident_bytes(system, modes), system.data["dev_capacity"], strict=True)
    )


def repair_capacity(system: System, modes: list[int], mask: int) -> list[int] | None:
    """Move operators off overfull devices, those first that lose the least time per byte freed.

    None if an operator has nowhere else to go.
    """
    data = system.data
    modes = list(modes)
    used = resident_bytes(system, modes)
    for device, limit in enumerate(data["dev_capacity"]):
        if used[device] <= limit:
            continue
        moves = []
        for v, mode in enumerate(modes):
            start = data["mode_ptr"][v]
            m = start + mode
            if data["mode_device"][m] != device or not data["mode_resident"][m]:
                continue
            others = [
                (data["mode_work"][o], o - start)
                for o in range(start, data["mode_ptr"][v + 1])
                if not data["mode_resident"][o] and mask >> data["mode_device"][o] & 1
            ]
            if others:
                work, other = min(others)
                moves.append(((work - data["mode_work"][m]) / data["mode_resident"][m], v, other))
        for _, v, other in sorted(moves):
            if used[device] <= limit:
                break
            used[device] -= data["mode_resident"][data["mode_ptr"][v] + modes[v]]
            modes[v] = other
        if used[device] > limit:
            return None
    return modes


def knapsack(system: System, device: int, mask: int) -> list[int] | None:
    """Resident on `device` what saves the most time in all, everything else where it is fastest without.

    A knapsack by dynamic programming over parts of the capacity (sizes are rounded up); transfers do not count. None if
    nothing can be resident, or an operator has no other mode.
    """
    import numpy as np

    data = system.data
    modes, items = [], []  # items: (buckets, ticks saved, operator, mode)
    capacity = data["dev_capacity"][device]
    for v in range(data["operators"]):
        start = data["mode_ptr"][v]
        rows = [
            (data["mode_work"][m], data["mode_resident"][m], m - start, data["mode_device"][m])
            for m in range(start, data["mode_ptr"][v + 1])
            if mask >> data["mode_device"][m] & 1
        ]
        light = min((row for row in rows if not row[1]), default=None)
        if light is None:
            return None
        modes.append(light[2])
        for work, size, mode, where in rows:
            if where == device and 0 < size <= capacity and work < light[0]:
                items.append((-(-size * _BUCKETS // capacity), light[0] - work, v, mode))
                break
    if not items:
        return None
    best = np.zeros(_BUCKETS + 1, dtype=np.int64)
    taken = []
    for buckets, saved, _, _ in items:
        better = best[:-buckets] + saved
        chosen = better > best[buckets:]
        best[buckets:] = np.where(chosen, better, best[buckets:])
        taken.append(chosen)
    room = _BUCKETS
    for (buckets, _, v, mode), chosen in zip(items[::-1], taken[::-1], strict=True):
        if room >= buckets and chosen[room - buckets]:
            modes[v] = mode
            room -= buckets
    return modes
