"""Where operators run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """Per operator, in graph order: device name, mode of that device and tile count.

    `spilled` holds (root tensor, memory) pairs: buffers that live in the backing memory of that memory.
    """

    devices: tuple[str, ...]
    modes: tuple[str, ...]
    tiles: tuple[int, ...]
    spilled: frozenset[tuple[str, str]] = frozenset()
