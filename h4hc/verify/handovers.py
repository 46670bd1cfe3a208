"""Which buffers take over addresses from which."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from h4hc.verify.document import Buffer


def find_handovers(buffers: Iterable[Buffer]) -> list[tuple[Buffer, Buffer]]:
    """Pairs (earlier, later) where the later buffer takes over an address right after the earlier.

    Buffers in order of start. If each pair is ordered, so are all that share an address: the
    later one's writer is among its users, so the order is transitive.
    """
    pairs: dict[tuple[int, int], tuple[Buffer, Buffer]] = {}
    maps: dict[str, _AddressMap] = {}
    for buffer in sorted(buffers, key=lambda b: (b.start, b.end, b.id)):
        owners = maps.setdefault(buffer.memory, _AddressMap())
        for earlier in owners.claim(buffer):
            pairs[earlier.id, buffer.id] = (earlier, buffer)
    return list(pairs.values())


class _AddressMap:
    """Who used each address last: `owners[i]` from address `bounds[i]` to the next bound."""

    def __init__(self) -> None:
        self.bounds: list[int] = [0]
        self.owners: list[Buffer | None] = [None]

    def claim(self, buffer: Buffer) -> list[Buffer]:
        """Give the addresses of `buffer` to it; returns their owners so far, each once."""
        if buffer.bytes == 0:
            return []
        first = self._cut(buffer.offset)
        last = self._cut(buffer.offset + buffer.bytes)
        displaced = {owner.id: owner for owner in self.owners[first:last] if owner is not None}
        self.bounds[first:last] = [buffer.offset]
        self.owners[first:last] = [buffer]
        return list(displaced.values())

    def _cut(self, address: int) -> int:
        """The index of the bound at `address`, made if missing."""
        index = bisect_right(self.bounds, address) - 1
        if self.bounds[index] == address:
            return index
        self.bounds.insert(index + 1, address)
        self.owners.insert(index + 1, self.owners[index])
        return index + 1
