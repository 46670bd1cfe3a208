"""The scheduling problem in integers: what the passes from partition to allocate share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from h4hc.ir.cost import Cost
from h4hc.ir.schedule import Wait

# One schedule: latency, dynamic energy, bit mask of used devices, the tasks in the order they were scheduled, the
# buffers. A compute task is (operator, -1, -1, start, end), a transfer (tensor, memory, channel, start, end), a
# buffer (tensor, memory, first tick, last tick). See h4hc.passes.core.reference.Problem.trace.
TaskRow = tuple[int, int, int, int, int]
LifetimeRow = tuple[int, int, int, int]
Trace = tuple[int, int, int, list[TaskRow], list[LifetimeRow]]
# What a task does: device (a transfer: link), work in ticks, tiles, energy in picojoules, waits, and the numbers of the
# buffers that it reads and writes.
Content = tuple[int, int, int, int, tuple[Wait, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class System:
    """The arrays of h4hc.passes.core.reference.Problem, with names: index i of an array is name i of its list."""

    data: dict[str, Any]
    tensors: tuple[str, ...]
    devices: tuple[str, ...]
    memories: tuple[str, ...]
    mode_costs: tuple[tuple[Cost, ...], ...]  # per operator, in the order of its modes
    bytes: tuple[int, ...]  # per tensor
    overwrites: tuple[tuple[int, int, int], ...] = ()  # (operator, input, output): see Operator.overwrites
    # (operator, part, whole, bytes before it), inner ones first
    parts: tuple[tuple[int, int, int, int], ...] = ()
    idle: frozenset[int] = frozenset()  # operators that only join or divide in place
    weights: tuple[int, ...] = ()  # bytes per operator
    single: tuple[int, ...] = ()  # by mode number over all operators: the mode that it copies, or itself

    def device_mask(self, names: Iterable[str]) -> int:
        """Bit mask of the named devices."""
        wanted = set(names)
        return sum(1 << index for index, name in enumerate(self.devices) if name in wanted)

    def static_power(self, used: int) -> float:
        """Picojoules per tick of the devices in the bit mask `used`."""
        watts: list[float] = self.data["dev_static"]
        return sum(power for device, power in enumerate(watts) if used >> device & 1)


@dataclass(frozen=True, slots=True)
class Simulated:
    """A placement in the indices of `system`, and its trace."""

    system: System
    modes: tuple[int, ...]
    tiles: tuple[int, ...]
    trace: Trace

    @property
    def static_power(self) -> float:
        """Picojoules per tick of the devices that are used."""
        return self.system.static_power(self.trace[2])
