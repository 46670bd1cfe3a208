"""Addresses. Python twin of native/memory.c."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add

_CLIMB_STEPS = 400
_CLIMB_LIMIT = 2000  # buffers

_KEYS: tuple[Callable[[int, int, int], tuple[int, int]], ...] = (  # of a buffer's start, end and size
    lambda start, end, size: (-size, start),
    lambda start, end, size: (start, -size),
    lambda start, end, size: (start - end, -size),
    lambda start, end, size: (-size * (end - start), start),
    lambda start, end, size: (-end, -size),
)


def climb_steps(buffers: int) -> int:
    """Steps of the climb over orders for so many buffers; none where it takes long."""
    return _CLIMB_STEPS if buffers <= _CLIMB_LIMIT else 0


def pack(
    starts: Sequence[int], ends: Sequence[int], sizes: Sequence[int], enough: int, steps: int
) -> tuple[list[int], int, int]:
    """Offsets, their peak, and a lower bound: the most bytes alive at once.

    First fit in five orders, then `steps` of a climb over orders. A peak at the bound, or of `enough` bytes, ends that.
    """
    bound, _ = peak_bytes(starts, ends, sizes)
    goal = max(bound, enough)
    found: list[tuple[int, list[int], list[int]]] = []  # peak, order, offsets
    for key in _KEYS:
        keys = [key(*buffer) for buffer in zip(starts, ends, sizes, strict=True)]
        order = sorted(range(len(sizes)), key=keys.__getitem__)
        offsets, peak = first_fit(order, starts, ends, sizes)
        found.append((peak, order, offsets))
        if peak <= goal:
            return offsets, peak, bound
    _, best, _ = min(found, key=lambda row: row[0])
    return *lower_peak(best, starts, ends, sizes, goal, steps), bound


def first_fit(
    order: Sequence[int], starts: Sequence[int], ends: Sequence[int], sizes: Sequence[int]
) -> tuple[list[int], int]:
    """Offsets, and their peak: each buffer, in `order`, at the lowest address free during its lifetime [start, end)."""
    offsets = [0] * len(order)
    placed: list[int] = []
    for b in order:
        spans = sorted(
            (offsets[o], offsets[o] + sizes[o]) for o in placed if starts[o] < ends[b] and starts[b] < ends[o]
        )
        at = 0
        for offset, end in spans:
            if offset - at >= sizes[b]:
                break
            at = max(at, end)
        offsets[b] = at
        placed.append(b)
    return offsets, max(map(add, offsets, sizes), default=0)


def lower_peak(
    order: Sequence[int],
    starts: Sequence[int],
    ends: Sequence[int],
    sizes: Sequence[int],
    goal: int,
    steps: int,
) -> tuple[list[int], int]:
    """Offsets and their peak, by first fit in `order` and in `steps` orders derived from it, until the peak is `goal`.

    A buffer that touches the peak moves towards the front of the order; that stays so unless the peak rises (as
    Vela's allocator does).
    """
    order = list(order)
    offsets, peak = first_fit(order, starts, ends, sizes)
    for step in range(steps):
        top = [b for b in order if offsets[b] + sizes[b] == peak]
        if peak <= goal or not top:
            break
        chosen = top[step % len(top)]
        place = order.index(chosen)
        target = place * (step % 7) // 7
        trial = [*order[:target], chosen, *order[target:place], *order[place + 1 :]]
        trial_offsets, trial_peak = first_fit(trial, starts, ends, sizes)
        if trial_peak <= peak:
            order, offsets, peak = trial, trial_offsets, trial_peak
    return offsets, peak


def pack_within(
    order: Sequence[int],
    first: Sequence[int],
    count: Sequence[int],
    sizes: Sequence[int],
    sections: int,
    capacity: int,
    budget: int,
) -> tuple[int, list[int]]:
    """Offsets that stay within `capacity`: (1, offsets), or (0, []) if there are none, or (-1, []) out of budget.

    Time is a circle of `sections`; a buffer of at least one byte lives for `count` of them from `first`. Branch and
    bound over placements in order of rising offset, as MiniMalloc (Moffitt, ASPLOS 2023): the next buffer goes to the
    lowest address above all that is placed in its sections; it is not one above which another would fit; and no section
    has more bytes to come than room above its top. `order`: which buffer to try first. `budget`: nodes.
    """
    search = _Packing(order, first, count, sizes, sections, capacity, budget)
    found = search.rest(0, 0) if search.has_room(0) else 0
    return found, search.offset if found == 1 else []


class _Packing:
    """The state of one search: per section, the top of what is placed and the bytes that are not yet."""

    def __init__(
        self,
        order: Sequence[int],
        first: Sequence[int],
        count: Sequence[int],
        sizes: Sequence[int],
        sections: int,
        capacity: int,
        budget: int,
    ) -> None:
        self.order, self.sizes, self.capacity, self.budget = order, sizes, capacity, budget
        self.alive = [
            [(start + k) % sections for k in range(n)] for start, n in zip(first, count, strict=True)
        ]
        self.floor, self.left = [0] * sections, [0] * sections
        for b, alive in enumerate(self.alive):
            for section in alive:
                self.left[section] += sizes[b]
        self.offset = [0] * len(order)
        self.open = set(range(len(order)))

    def has_room(self, base: int) -> bool:
        """Whether every section still has room for its buffers, none of which comes to lie below `base`."""
        return all(
            not left or max(floor, base) + left <= self.capacity
            for floor, left in zip(self.floor, self.left, strict=True)
        )

    def rest(self, depth: int, base: int) -> int:
        """1: the other buffers are placed; 0: they cannot be; -1: out of budget."""
        if depth == len(self.order):
            return 1
        if self.budget <= 0:
            return -1
        self.budget -= 1
        at = {b: max(base, *(self.floor[k] for k in self.alive[b])) for b in self.open}
        lowest = min(offset + self.sizes[b] for b, offset in at.items())
        if any(offset + self.sizes[b] > self.capacity for b, offset in at.items()):
            return 0
        for b in self.order:
            if b not in at or at[b] >= lowest:
                continue
            saved = [self.floor[k] for k in self.alive[b]]
            for k in self.alive[b]:
                self.floor[k] = at[b] + self.sizes[b]
                self.left[k] -= self.sizes[b]
            self.open.remove(b)
            self.offset[b] = at[b]
            found = self.rest(depth + 1, at[b]) if self.has_room(at[b]) else 0
            if found:
                return found
            self.open.add(b)
            for k, floor in zip(self.alive[b], saved, strict=True):
                self.floor[k] = floor
                self.left[k] += self.sizes[b]
        return 0


def peak_bytes(starts: Sequence[int], ends: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
    """The most bytes alive at once, and the first tick at which they are. No lifetime may be empty."""
    events = [
        *zip(starts, sizes, strict=True),
        *((end, -size) for end, size in zip(ends, sizes, strict=True)),
    ]
    live = best = at = 0
    for tick, change in sorted(events):
        live += change
        if live > best:
            best, at = live, tick
    return best, at
