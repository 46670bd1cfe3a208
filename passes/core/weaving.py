"""Several frames woven together, by beam search: Python twin of native/weave.c.

The operators are cut into strands. In every interval each strand runs once, each for another frame: a job shop of as many
jobs, in which every operator goes to a device of its choice. It is filled operator by operator, on every device one behind the
other. States with as many operators are rated by what is done and idle on the devices and what is left at least, both at
prices per tick, and by the longest way to the end of a strand. Of the best, few with the same next operators are kept.

Operators have one tile. What a strand reads of another one was made in a window before; its transfers, and those of results, are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_STRANDS = 8
MOST_STATES = 100_000

Queue = tuple[int, int]  # device, -1; or link, channel


@dataclass(slots=True)
class _State:
    """Next operators and ends by strand, when queues are free, bytes by device, the price of all that, devices and ends of
    operators, ends of copies."""

    next: list[int]
    ready: list[int]
    free: dict[Queue, int]
    used: list[int]
    cost: int
    device: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    copied: dict[tuple[int, int], int] = field(default_factory=dict)
    steps: tuple[Any, ...] = ()  # (operator, mode, start), behind those before

    def copy(self) -> _State:
        """Another one with the same contents."""
        return _State(
            list(self.next), list(self.ready), dict(self.free), list(self.used), self.cost,
            dict(self.device), dict(self.end), dict(self.copied), self.steps,
        )  # fmt: skip


class _Child(NamedTuple):
    cost: int
    late: int
    parent: int
    mode: int  # of all modes
    begin: int


def weave(
    data: Mapping[str, Any],
    cuts: Sequence[int],
    prices: Sequence[int],
    byte_prices: Sequence[int],
    beam: int,
    alike: int,
) -> tuple[int, list[int], list[int]] | None:
    """Ticks of an interval, modes, and when the tasks of a frame start; None: the capacities do not allow what was tried.

    Strand k is the operators from `cuts[k]` to before `cuts[k + 1]`; prices by device; `beam` states are kept, `alike` with the
    same next operators. The starts are as in `Problem.steady`; those of transfers are not known.
    """
    if not 1 <= len(cuts) - 1 <= MAX_STRANDS or not 1 <= beam <= MOST_STATES or alike < 1:
        raise ValueError("1 to 8 strands and 1 to 100000 states are woven")
    n: int = data["operators"]
    if cuts[0] or cuts[-1] != n or list(cuts) != sorted(cuts):
        raise ValueError("cuts are not in order")
    weaver = _Weaver(data, cuts, prices, byte_prices)
    strands = len(cuts) - 1
    first = _State(list(cuts[:-1]), [0] * strands, {}, [0] * data["devices"], sum(weaver.least))
    states = [first]
    for _ in range(n):
        states = weaver.widened(states, beam, alike)
    if not states:
        return None
    best = min(states, key=weaver.latest)
    ticks = weaver.latest(best)
    modes, starts = [0] * n, [-1] * (n + data["tensors"] * data["memories"])
    steps = best.steps
    while steps:
        steps, (v, mode, begin) = steps
        modes[v] = mode - data["mode_ptr"][v]
        starts[v] = begin + weaver.strand[v] * ticks
    return ticks, modes, starts


class _Weaver:
    """One problem, its strands and prices."""

    def __init__(
        self,
        data: Mapping[str, Any],
        cuts: Sequence[int],
        prices: Sequence[int],
        byte_prices: Sequence[int],
    ) -> None:
        self.data, self.cuts, self.prices, self.byte_prices = data, cuts, prices, byte_prices
        self.whole = sum(prices)
        n = data["operators"]
        self.strand = [0] * n
        for k, first in enumerate(cuts[:-1]):
            self.strand[first : cuts[k + 1]] = [k] * (cuts[k + 1] - first)
        self.least, self.tail = [0] * n, [0] * n
        for v in range(n - 1, -1, -1):
            modes = range(data["mode_ptr"][v], data["mode_ptr"][v + 1])
            self.least[v] = min(self._price(m) for m in modes)
            made = data["out_tensor"][data["out_ptr"][v] : data["out_ptr"][v + 1]]
            readers = [
                c for t in made for c in data["cons_op"][data["cons_ptr"][t] : data["cons_ptr"][t + 1]]
            ]
            after = max((self.tail[c] for c in readers if self.strand[c] == self.strand[v]), default=0)
            self.tail[v] = min(data["mode_work"][m] for m in modes) + after

    def _price(self, m: int) -> int:
        data, d = self.data, self.data["mode_device"][m]
        price: int = self.prices[d] * data["mode_work"][m] + self.byte_prices[d] * data["mode_resident"][m]
        return price

    def latest(self, state: _State) -> int:
        """When all devices are free."""
        return max((state.free.get((d, -1), 0) for d in range(self.data["devices"])), default=0)

    def widened(self, states: Sequence[_State], beam: int, alike: int) -> list[_State]:
        """The best states with an operator more."""
        children = [child for number, state in enumerate(states) for child in self._children(state, number)]
        kept: list[_State] = []
        cells: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
        for child in sorted(children):
            if len(kept) == beam:
                break
            state = states[child.parent].copy()
            v = next(
                v
                for v, end in zip(state.next, self.cuts[1:], strict=True)
                if v < end and self.data["mode_ptr"][v] <= child.mode < self.data["mode_ptr"][v + 1]
            )
            self._place(state, v, child.mode)
            cell = cells.setdefault(tuple(state.next), set())
            far = (*state.ready, *(state.free.get((d, -1), 0) for d in range(self.data["devices"])))
            if far not in cell and len(cell) < alike:
                cell.add(far)
                kept.append(state)
        return kept

    def _children(self, state: _State, number: int) -> list[_Child]:
        """What may come next: what begins before anything could be done."""
        data, found, soonest = self.data, list[_Child](), 1 << 62
        for k, v in enumerate(state.next):
            if v == self.cuts[k + 1]:
                continue
            for m in range(data["mode_ptr"][v], data["mode_ptr"][v + 1]):
                d, resident = data["mode_device"][m], data["mode_resident"][m]
                if resident and state.used[d] + resident > data["dev_capacity"][d]:
                    continue
                begin, _ = self._begin(state, v, m)
                end = begin + data["mode_work"][m]
                ways = [self._way(state, j, end if j == k else None) for j in range(len(state.next))]
                cost = state.cost - self.least[v] + self._grown(state, m, end)
                found.append(_Child(max(cost, self.whole * max(ways)), sum(ways), number, m, begin))
                soonest = min(soonest, end)
        return [
            c for c in found if c.begin < soonest or (c.begin == soonest and not data["mode_work"][c.mode])
        ]

    def _way(self, state: _State, j: int, end: int | None) -> int:
        """When strand j is done at least; `end`: of its next operator, if that comes next."""
        following, done = state.next[j], state.ready[j]
        if end is not None:
            following, done = following + 1, max(done, end)
        left: int = self.tail[following] if following < self.cuts[j + 1] else 0
        return done + left

    def _grown(self, state: _State, m: int, end: int) -> int:
        """The price of mode `m` that ends at `end`, and of idle ticks before."""
        d = self.data["mode_device"][m]
        busy: int = self.prices[d] * (end - state.free.get((d, -1), 0))
        resident: int = self.byte_prices[d] * self.data["mode_resident"][m]
        return busy + resident

    def _begin(self, state: _State, v: int, m: int) -> tuple[int, dict[Any, int]]:
        """When operator `v` begins in mode `m` behind all of a state; new ends of copies and channels."""
        data, strand = self.data, self.strand
        d = data["mode_device"][m]
        memory = data["dev_memory"][d]
        begin = state.free.get((d, -1), 0)
        free: dict[Queue, int] = {}
        copies: dict[tuple[int, int], int] = {}
        for tensor in dict.fromkeys(data["in_tensor"][data["in_ptr"][v] : data["in_ptr"][v + 1]]):
            u, home, end = data["producer"][tensor], data["io_memory"], 0
            if u >= 0:
                if strand[u] != strand[v]:
                    continue
                home, end = data["dev_memory"][state.device[u]], state.end[u]
            if home == memory:
                end += data["handoff"] if u >= 0 and state.device[u] != d else 0
            elif state.copied.get((tensor, memory)):
                end = state.copied[tensor, memory]
            else:
                link = data["link_of"][home * data["memories"] + memory]
                channel = (link, tensor % data["link_channels"][link])
                start = max(free.get(channel, state.free.get((~link, channel[1]), 0)), end)
                end = start + data["xfer_work"][link * data["tensors"] + tensor]
                free[channel] = copies[tensor, memory] = end
            begin = max(begin, end)
        changed: dict[Any, int] = {("free", ~link, channel): end for (link, channel), end in free.items()}
        changed |= {("copied", *copy): end for copy, end in copies.items()}
        return begin, changed

    def _place(self, state: _State, v: int, m: int) -> None:
        data, d, k = self.data, self.data["mode_device"][m], self.strand[v]
        begin, changed = self._begin(state, v, m)
        end = begin + data["mode_work"][m]
        state.cost += self._grown(state, m, end) - self.least[v]
        for (kind, a, b), moment in changed.items():
            (state.free if kind == "free" else state.copied)[a, b] = moment
        state.free[d, -1] = end
        state.next[k] = v + 1
        state.ready[k] = max(state.ready[k], end)
        state.used[d] += data["mode_resident"][m]
        state.device[v], state.end[v] = d, end
        state.steps = (state.steps, (v, m, begin))
