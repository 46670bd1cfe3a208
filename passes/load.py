"""The least work of the busiest device: a bound on the initiation interval of any placement.

Lagrangian: for prices per tick on every device (that add up to one) and per resident byte, every operator in its cheapest
mode, less the price of the capacity, is no more than the work of the busiest device of any placement. The prices follow
the loads. Transfers are left out. Prices and sums are integers, so that the bound is exact on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

_ROUNDS = 240
_UNIT = 1 << 16  # what prices per tick add up to
_STEP = 0.8  # of the prices per tick, relative
_BYTE_STEP = 0.3
_MOST_OVER = 2.0  # times the capacity: a small one may be exceeded a hundredfold, and prices raised by that take long to fall


@dataclass(frozen=True, slots=True)
class Bound:
    """No placement has less than `ticks` on its busiest device; `prices` per tick and resident byte, by device, that show it."""

    ticks: int
    prices: tuple[int, ...]
    byte_prices: tuple[int, ...]


def least_load(data: Mapping[str, Any], mask: int = -1) -> Bound:
    """The bound for placements on the devices of `mask` (bit by device)."""
    import numpy as np

    usable = np.array([bool(mask >> device & 1) for device in data["mode_device"]], dtype=bool)
    operator = np.repeat(np.arange(data["operators"]), np.diff(data["mode_ptr"]))[usable]
    device = np.array(data["mode_device"], dtype=np.int64)[usable]
    work = np.array(data["mode_work"], dtype=np.int64)[usable]
    resident = np.array(data["mode_resident"], dtype=np.int64)[usable]
    first = np.flatnonzero(np.diff(operator, prepend=-1))
    devices, capacity = data["devices"], data["dev_capacity"]
    shares = [1.0 if mask >> d & 1 else 0.0 for d in range(devices)]
    per_byte = [0.0] * devices
    best = Bound(0, tuple([_UNIT if share else 0 for share in shares]), (0,) * devices)
    if not len(first):
        return best
    for number in range(_ROUNDS):
        whole = sum(shares)
        prices = [int(_UNIT * share / whole) for share in shares]
        bytes_ = [int(_UNIT * price) for price in per_byte]
        cost = (
            np.array(prices, dtype=np.int64)[device] * work
            + np.array(bytes_, dtype=np.int64)[device] * resident
        )
        least = np.minimum.reduceat(cost, first)
        total = int(least.sum()) - sum(price * limit for price, limit in zip(bytes_, capacity, strict=True))
        value = -(-total // max(1, sum(prices)))
        if value > best.ticks:
            best = Bound(value, tuple(prices), tuple(bytes_))
        cheapest = np.flatnonzero(cost == np.repeat(least, np.diff(np.append(first, len(cost)))))
        chosen = cheapest[np.searchsorted(cheapest, first)]
        loads, used = [0] * devices, [0] * devices
        for d in range(devices):
            mine = chosen[device[chosen] == d]
            loads[d], used[d] = int(work[mine].sum()), int(resident[mine].sum())
        step, peak = 2 / (2 + sqrt(number)), max(1, *loads)
        for d in range(devices):
            shares[d] = shares[d] / whole * (1 + _STEP * step * (loads[d] / peak - 0.5))
            if capacity[d]:
                over = min(_MOST_OVER, (used[d] - capacity[d]) / capacity[d])
                per_byte[d] = max(0.0, per_byte[d] + _BYTE_STEP * step * over * best.ticks / capacity[d])
    return best
