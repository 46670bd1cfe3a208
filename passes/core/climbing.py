"""Moves of the local search: Python twin of native/climb.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MASK = (1 << 64) - 1


class Mover:
    """Changes a placement at random, within the capacity of every device.

    Moves: operators or runs of up to eight go to a device of `mask`, and perhaps, with their neighbours, to another
    tile count; a run gets another tile count; an operator gets another mode of its device, if need be in exchange
    with another operator; all operators that are alike go to a device or get another tile count, or both.
    They begin at an operator of `focus`, or at any if that is empty.
    """

    def __init__(self, data: Mapping[str, Any], mask: int, seed: int, focus: Sequence[int] = ()) -> None:
        self.d = data
        self.n: int = data["operators"]
        self.nd: int = data["devices"]
        self.mask = mask
        self.focus = focus or range(self.n)
        self.random = _Random(seed or 1)
        self.resident = [0] * self.nd

    def fill_resident(self, mode: Sequence[int]) -> None:
        """Set out from `mode`."""
        self.resident = [0] * self.nd
        for v in range(self.n):
            m = self.d["mode_ptr"][v] + mode[v]
            self.resident[self.d["mode_device"][m]] += self.d["mode_resident"][m]

    def _place(self, mode: list[int], v: int, device: int) -> bool:
        d = self.d
        first = d["mode_ptr"][v]
        old = first + mode[v]
        if d["mode_device"][old] == device:
            return False
        for m in range(first, d["mode_ptr"][v + 1]):
            if d["mode_device"][m] != device:
                continue
            if self.resident[device] + d["mode_resident"][m] > d["dev_capacity"][device]:
                continue
            self.resident[d["mode_device"][old]] -= d["mode_resident"][old]
            self.resident[device] += d["mode_resident"][m]
            mode[v] = m - first
            return True
        return False

    def _exchange(self, mode: list[int], v: int) -> bool | None:
        """Give operator `v` another mode of its device, if need be in the room of another operator.

        That one then keeps fewer bytes. None: the mode drawn is none of that kind.
        """
        d, random = self.d, self.random
        pointers, device_of, resident = d["mode_ptr"], d["mode_device"], d["mode_resident"]
        old = pointers[v] + mode[v]
        device = device_of[old]
        m = pointers[v] + random.next() % (pointers[v + 1] - pointers[v])
        if m == old or device_of[m] != device:
            return None
        used = self.resident[device] - resident[old] + resident[m]
        if used > d["dev_capacity"][device]:
            w = random.next() % self.n
            now = pointers[w] + mode[w]
            if w == v or device_of[now] != device:
                return False
            smaller = [
                x
                for x in range(pointers[w], pointers[w + 1])
                if device_of[x] == device and resident[x] < resident[now]
            ]
            if not smaller:
                return False
            used += resident[smaller[0]] - resident[now]
            if used > d["dev_capacity"][device]:
                return False
            mode[w] = smaller[0] - pointers[w]
        self.resident[device] = used
        mode[v] = m - pointers[v]
        return True

    def _retile(self, tiles: list[int], v: int, wanted: int) -> bool:
        before = tiles[v]
        count: int = min(wanted, max(1, self.d["rows"][v]))
        tiles[v] = count
        return count != before

    def _mutate_alike(self, mode: list[int], tiles: list[int], v: int, device: int, wanted: int) -> bool:
        """All operators that are like `v` go to `device`, unless that is -1, and to `wanted` tiles, unless that is 0."""
        alike = self.d["alike"]
        change = False
        for w in range(self.n):
            if alike[w] == alike[v]:
                change |= device >= 0 and self._place(mode, w, device)
                change |= wanted > 0 and self._retile(tiles, w, wanted)
        return change

    def mutate(self, mode: list[int], tiles: list[int]) -> bool:
        """Change `mode` and `tiles`; whether that changed anything."""
        random = self.random
        change, device = False, -1
        kind = random.next() % 11
        first = self.focus[random.next() % len(self.focus)]
        length = 1 if kind < 3 else 1 + random.next() % 8
        last = min(first + length, self.n)
        if kind == 0:
            exchanged = self._exchange(mode, first)
            if exchanged is not None:
                return exchanged
        if kind < 6 or kind > 8:
            number = random.next()
            devices = [device for device in range(self.nd) if self.mask >> device & 1]
            if not devices:
                return False
            device = devices[number % len(devices)]
        if kind > 7:
            many = 1 << (random.next() % 5) if kind < 10 else 0
            return self._mutate_alike(mode, tiles, first, device, many)
        if kind < 6:
            for v in range(first, last):
                change |= self._place(mode, v, device)
            if kind < 4 or not change:
                return change
            first, last = max(0, first - 1), min(last + 1, self.n)
        wanted = 1 << (random.next() % 5)
        for v in range(first, last):
            change |= self._retile(tiles, v, wanted)
        return change


class _Random:
    """xorshift64*, upper 32 bits."""

    def __init__(self, seed: int) -> None:
        self.state = seed & _MASK

    def next(self) -> int:
        x = self.state
        x ^= x >> 12
        x ^= (x << 25) & _MASK
        x ^= x >> 27
        self.state = x
        return ((x * 0x2545F4914F6CDD1D) & _MASK) >> 32
