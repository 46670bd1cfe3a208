"""Capacity: resident weights of all operators on a device, together, against what the device holds.

In:  a system and modes. Out: whether they fit, modes that do.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import add

from h4hc.ir.system import System


def resident_bytes(system: System, modes: Iterable[int]) -> list[int]:
    """Bytes of resident weights per device."""
    data = system.data
    device_of, resident = data["mode_device"], data["mode_resident"]
    used = [0] * data["devices"]
    for m in map(add, data["mode_ptr"], modes):
        size = resident[m]
        if size:
            used[device_of[m]] += size
    return used


def repair_capacity(system: System, modes: list[int], mask: int) -> list[int] | None:
    """Move operators off overfull devices, those first that lose the least time per byte freed.

    None if an operator has nowhere else to go.
    """
    data = system.data
    pointers, device_of = data["mode_ptr"], data["mode_device"]
    work, resident = data["mode_work"], data["mode_resident"]
    modes = list(modes)
    used = resident_bytes(system, modes)
    for device, limit in enumerate(data["dev_capacity"]):
        if used[device] <= limit:
            continue
        moves = []
        for v, mode in enumerate(modes):
            start = pointers[v]
            m = start + mode
            if device_of[m] != device or not resident[m]:
                continue
            others = [
                (work[o], o - start)
                for o in range(start, pointers[v + 1])
                if not resident[o] and mask >> device_of[o] & 1
            ]
            if others:
                least, other = min(others)
                moves.append(((least - work[m]) / resident[m], v, other))
        for _, v, other in sorted(moves):
            if used[device] <= limit:
                break
            used[device] -= resident[pointers[v] + modes[v]]
            modes[v] = other
        if used[device] > limit:
            return None
    return modes
