"""What an operator costs on a device, and where that number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from h4hc.ir.workload import Kernel

PREFETCH = "prefetch"


@dataclass(frozen=True, slots=True)
class Fetch:
    """The copy of an operator's encoded weights to the memory of its device, before the operator starts.

    `seconds` is the time for which it occupies the port of the memory of the weights, `joules` what that memory takes;
    the other one is charged to the operator.
    """

    bytes: int
    seconds: float
    joules: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one kernel on one device in one mode.

    `seconds` is the time the device is busy, `joules` the dynamic energy (static power is
    charged once per frame by the schedule, see `Schedule`). The `*_seconds` fields are the
    terms before overlap: they do not add up to `seconds` where the hardware overlaps them. `compute_seconds`
    is the array with the unit behind it; `output_seconds` that unit alone, where a model tells them apart.
    `bound` names the term that decides (``compute``, ``weights``, ``activations``, ``output``,
    ``command``, ``write``, ``overhead``). `mode` is empty for devices with one way to run a
    kernel; a CIM device has ``resident`` (weights programmed once, occupying `resident_bytes`; ``resident x2`` and so
    on keep copies that share the rows) and ``reload`` (weights written every frame, `writes_per_cell` times a cell). In mode
    ``prefetch`` the weights are where a `fetch` has put them.
    `source` says where the time comes from: ``analytical``, ``calibrated``, ``interpolated``, ``measured``
    or ``generic`` (a roofline), the profile behind it in parentheses. `uncertainty` is the expected relative error
    of `seconds` where one was measured (leave-one-out over a profile; None: not known).
    `details` is an ordered breakdown for people (tiles, passes, bytes per memory, cycles), `energy` that of
    `joules` by term (``MACs``, ``buffer``, ``output unit``, ``memory <name>``, ``writes`` ...), whose sum is `joules`.
    """

    seconds: float
    joules: float
    utilisation: float
    source: str = "analytical"
    bound: str = "compute"
    mode: str = ""
    compute_seconds: float = 0.0
    weight_seconds: float = 0.0
    activation_seconds: float = 0.0
    write_seconds: float = 0.0
    output_seconds: float = 0.0
    overhead_seconds: float = 0.0
    resident_bytes: int = 0
    writes_per_cell: float = 0.0
    uncertainty: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    fetch: Fetch | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a device cannot run a kernel: one phrase for people."""

    reason: str


Row = Mapping[str, tuple[Cost, ...] | Refusal]


class CostRow(dict[str, "tuple[Cost, ...] | Refusal"]):
    """What one kernel costs on every device, by name. `derived`: what passes have worked out from it."""

    __slots__ = ("derived",)

    def __init__(self, entries: Mapping[str, tuple[Cost, ...] | Refusal]) -> None:
        super().__init__(entries)
        self.derived: dict[object, Any] = {}


class CostModel(Protocol):
    """The model of one device (see h4hc.backends.base.Backend)."""

    name: str
    static_watts: float
    capacity_bytes: int
    tile_overhead_seconds: float
    writes_per_frame: float

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """What `kernel` costs in each mode the device can run it in, or why it cannot."""

    def channel_granule(self, kernel: Kernel) -> int:
        """Output channels that the device computes together."""

    def prefetched(self, kernel: Kernel) -> Cost | None:
        """What `kernel` costs with its weights fetched before, and the fetch; None if it has none or the device cannot."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Per operator (in graph order) and device name: the modes it can run in, or the refusal."""

    rows: tuple[Row, ...]
