"""`schedule.json` as typed records: the checker's own reading of the format.

Times are integer ticks, energies integer picojoules, sizes bytes, unless a field says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetMemory:
    """A memory as the target describes it; `bandwidth` in bytes per second, `energy_per_byte` in joules, `latency` in seconds."""

    bytes: int
    alignment: int
    bandwidth: float
    energy_per_byte: float
    latency: float = 0.0


@dataclass(frozen=True, slots=True)
class TargetDevice:
    """A device as the target describes it; memories that it lacks are empty texts."""

    kind: str
    memory: str
    spill: str
    weights: str


@dataclass(frozen=True, slots=True)
class TargetLink:
    """A link as the target describes it, in SI units."""

    memories: tuple[str, ...]
    channels: int
    bandwidth: float
    latency: float
    tile_overhead: float
    energy_per_byte: float


@dataclass(frozen=True, slots=True)
class Target:
    """What the checker needs of the embedded target description, by name; `handoff` in seconds."""

    io: str
    handoff: float
    memories: Mapping[str, TargetMemory]
    devices: Mapping[str, TargetDevice]
    links: Mapping[str, TargetLink]


@dataclass(frozen=True, slots=True)
class Value:
    """A graph input or output of the model."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Device:
    """A device. `capacity` and `resident` are bytes of weights that stay in its array.

    `tile_overhead` is what every further tile of a task costs, in ticks.
    """

    name: str
    kind: str
    memory: str
    spill: str
    static_watts: float
    tile_overhead: int
    capacity: int
    resident: int
    busy: int
    operators: int
    macs: int


@dataclass(frozen=True, slots=True)
class Link:
    """A DMA link between two memories. `bandwidth` is in bytes per second, `energy_per_byte` in joules."""

    name: str
    memories: tuple[str, str]
    channels: int
    latency: int
    tile_overhead: int
    bandwidth: float
    energy_per_byte: float


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory, the weights kept in it and the peak of its activations."""

    name: str
    capacity: int
    alignment: int
    weights: int
    peak: int
    lower_bound: int


@dataclass(frozen=True, slots=True)
class Stream:
    """The stated row window of one operator input."""

    prefix: int
    rows: int
    window: int
    stride: int
    pad: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Stated cost of the copy of an operator's encoded weights, in seconds and joules."""

    bytes: int
    seconds: float
    joules: float


@dataclass(frozen=True, slots=True)
class ModeCost:
    """Stated cost of an operator on a device in one mode, in seconds and joules. `memories`: those that it says it moves bytes at."""

    seconds: float
    joules: float
    resident_bytes: int
    fetch: Fetch | None = None
    memories: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Operator:
    """One fused kernel. `costs` holds per device the modes, or the reason of the refusal.

    `moves_nothing`: its workload is a view.
    """

    name: str
    kind: str
    macs: int
    weight_bytes: int
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...]
    rows: int
    prefix: int
    streams: tuple[Stream | None, ...]
    device: str
    mode: str
    tiles: int
    work: int
    energy: int
    resident_bytes: int
    costs: Mapping[str, Mapping[str, ModeCost] | str]
    moves_nothing: bool = False

    @property
    def cost(self) -> ModeCost | None:
        """The stated cost on its device in its mode; None if there is none."""
        modes = self.costs.get(self.device)
        return None if modes is None or isinstance(modes, str) else modes.get(self.mode)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor that crosses operators, and the bytes planned for it."""

    shape: tuple[int, ...]
    dtype: str
    bytes: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


@dataclass(frozen=True, slots=True)
class Buffer:
    """`bytes` at `offset` of `memory`, holding root tensor `tensor` from `start` to `end`.

    Frame f uses copy f mod `copies`, which lies `stride` bytes behind the one before. Where `weights` names an operator, it
    holds no tensor, but the weights of that one.
    """

    id: int
    tensor: str
    memory: str
    offset: int
    bytes: int
    start: int
    end: int
    copies: int = 1
    stride: int = 0
    weights: str = ""

    @property
    def holds(self) -> str:
        """How messages say what is in the buffer."""
        return f"weights of {self.weights!r}" if self.weights else repr(self.tensor)

    def touches(self, other: Buffer) -> bool:
        """Whether the two share an address."""
        return (
            self.memory == other.memory
            and self.offset < other.offset + other.bytes
            and other.offset < self.offset + self.bytes
        )


@dataclass(frozen=True, slots=True)
class Wait:
    """Tile k waits for `counts[k]` tiles of `task`, `lag` windows ago, and `latency` ticks more."""

    task: int
    counts: tuple[int, ...]
    latency: int
    reason: str
    lag: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One entry of a queue. `idle`: the checker's own entry for a frame that there is not; it only waits and counts."""

    id: int
    kind: str
    resource: str
    operator: str
    tensor: str
    start: int
    end: int
    work: int
    tiles: int
    energy: int
    bytes: int
    waits: tuple[Wait, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    stage: int = 0
    idle: bool = False

    @property
    def label(self) -> str:
        """How messages name the task."""
        return f"task {self.id} ({self.operator or self.tensor})"


@dataclass(frozen=True, slots=True)
class Summary:
    """The stated totals."""

    latency: int
    initiation_interval: int
    energy: int
    dynamic_energy: int
    static_energy: int
    latency_seconds: float
    energy_joules: float
    frames_per_second: float
    macs: int
    transfers: int
    transferred_bytes: int
    budget_met: bool | None
    frames_in_flight: int = 1
    interval_bound: int = 0
    front: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said to be proved: nothing is below `value`, and if `status` is ``optimal``, something attains it."""

    kind: str
    value: int
    status: str


@dataclass(frozen=True, slots=True)
class Prefetch:
    """What is said about fetched weights: operators, bytes, and the latency in seconds without."""

    operators: tuple[str, ...]
    bytes: int
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class Document:
    """The whole of schedule.json."""

    schema_version: str
    model_name: str
    model_path: str
    model_sha256: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    target: Target
    precision: str
    budget_seconds: float | None
    interval_seconds: float | None
    tick_seconds: float
    summary: Summary
    handoff: int
    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    memories: tuple[Memory, ...]
    operators: tuple[Operator, ...]
    roots: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    buffers: tuple[Buffer, ...]
    tasks: tuple[Task, ...]
    queues: Mapping[str, tuple[int, ...]]
    claims: tuple[Claim, ...] = ()
    prefetch: Prefetch | None = None

    def root(self, tensor: str) -> str:
        """The tensor whose storage `tensor` shares."""
        return self.roots.get(tensor, tensor)
