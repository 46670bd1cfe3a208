"""Waits that protect reused memory. Python twin of native/reuse.c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


def reuse_waits(
    start: Sequence[int],
    end: Sequence[int],
    queue: Sequence[int],
    place: Sequence[int],
    wait_ptr: Sequence[int],
    wait_task: Sequence[int],
    wait_done: Sequence[int],
    read_ptr: Sequence[int],
    read: Sequence[int],
    write_ptr: Sequence[int],
    write: Sequence[int],
    memory: Sequence[int],
    offset: Sequence[int],
    size: Sequence[int],
    born: Sequence[int],
    died: Sequence[int],
) -> list[tuple[int, int]]:
    """(writer, user) pairs: the writer of a buffer must wait for a last user of the addresses it takes over.

    Per task: planned start and end, queue and place in it, its waits (`wait_done`: 1 if the awaited task has finished, 0
    if it has only started, -1 if neither is certain), the buffers it reads and writes. Per buffer: memory, offset, size,
    lifetime. Pairs that queue order and waits imply are left out; a vector clock per task counts how many tasks of each
    queue have certainly finished when it starts.
    """
    reads = [read[read_ptr[t] : read_ptr[t + 1]] for t in range(len(start))]
    writes = [write[write_ptr[t] : write_ptr[t + 1]] for t in range(len(start))]
    uses = Uses(reads, writes, [*zip(memory, offset, size, strict=True)])
    queues = max(queue, default=0) + 1
    ranking = sorted(range(len(memory)), key=lambda b: (born[b], died[b], b))
    position = {b: i for i, b in enumerate(ranking)}
    clocks = [[0] * queues for _ in start]
    last: list[int | None] = [None] * queues
    pairs = []
    for t in sorted(range(len(start)), key=lambda i: (start[i], end[i], i)):
        before = last[queue[t]]
        now = list(clocks[before]) if before is not None else [0] * queues
        now[queue[t]] = place[t]
        last[queue[t]] = t
        for w in range(wait_ptr[t], wait_ptr[t + 1]):
            if wait_done[w] >= 0:
                _join(now, clocks[wait_task[w]])
            if wait_done[w] == 1:
                u = wait_task[w]
                now[queue[u]] = max(now[queue[u]], place[u] + 1)
        users: set[int] = set()
        for b in uses.written[t]:
            for o in ranking[: position[b]]:
                if uses.touch(o, b):
                    users.update(uses.users[o])
        users.discard(t)
        for u in sorted(users, key=lambda user: (-end[user], user)):
            if now[queue[u]] <= place[u]:
                _join(now, clocks[u])
                now[queue[u]] = max(now[queue[u]], place[u] + 1)
                pairs.append((t, u))
        clocks[t] = now
    return pairs


def _join(clock: list[int], other: Sequence[int]) -> None:
    for k, value in enumerate(other):
        clock[k] = max(clock[k], value)


class _Shared(NamedTuple):
    """`task` reads `old` and writes `new`, which have bytes in common: all of them (`same`), or one lies inside the other."""

    task: int
    old: int
    new: int
    same: bool


class Uses:
    """Which tasks use which addresses.

    `written`: per task what it writes; nothing, if its results lie in what it reads or the other way round: they are there
    already. `users`: per buffer that is written, the tasks that must be done with its addresses before others take them
    over. Those are its own users, and those of the buffers inside it or around it; but not the writer of what is
    overwritten: the data waits of the task that does so order the two, tile by tile.
    """

    def __init__(
        self,
        reads: Sequence[Sequence[int]],
        writes: Sequence[Sequence[int]],
        places: Sequence[tuple[int, int, int]],
    ) -> None:
        """`places`: memory, offset and size per buffer."""
        self.places = places
        shared = [
            _Shared(task, old, new, places[old] == places[new])
            for task, results in enumerate(writes)
            for new in results
            for old in reads[task]
            if self.touch(old, new)
        ]
        idle = {task for task, _, _, same in shared if not same}
        self.written = [() if task in idle else results for task, results in enumerate(writes)]
        self.users = self._families(self._own(reads, writes, shared), shared)

    def touch(self, a: int, b: int) -> bool:
        """Whether two buffers have bytes in common."""
        (memory, low, size), (there, begin, length) = self.places[a], self.places[b]
        return memory == there and low < begin + length and begin < low + size

    def _own(
        self, reads: Sequence[Sequence[int]], writes: Sequence[Sequence[int]], shared: Sequence[_Shared]
    ) -> list[list[int]]:
        own: list[list[int]] = [[] for _ in self.places]
        for task, (inputs, results) in enumerate(zip(reads, writes, strict=True)):
            for buffer in (*inputs, *results):
                own[buffer].append(task)
        for replaced in {old for _, old, _, same in shared if same}:
            own[replaced] = [user for user in own[replaced] if replaced not in self.written[user]]
        return own

    def _families(self, own: list[list[int]], shared: Sequence[_Shared]) -> list[list[int]]:
        joined: dict[int, list[int]] = {}
        for _, old, new, same in shared:
            if not same:
                joined.setdefault(old, []).append(new)
                joined.setdefault(new, []).append(old)
        real = {buffer for results in self.written for buffer in results}
        found = [users if b in real or b not in joined else [] for b, users in enumerate(own)]
        for b in real.intersection(joined):
            members, waiting = {b}, [b]
            while waiting:
                for other in joined.get(waiting.pop(), ()):
                    if other not in members and self.touch(other, b):
                        members.add(other)
                        waiting.append(other)
            found[b] = [user for member in members for user in own[member]]
        return found
