"""The tables of schedule.h4hs, row by row: the structs of `schedule.fbs` and of `h4hc_format.h`.

Fields stand in the order of the structs; `FORMATS` says how a row is packed. Times are ticks, sizes bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import NamedTuple

MAJOR, MINOR = 1, 0
NONE = 0xFFFFFFFF
HASH_BYTES = 32

FEATURE_TILES, FEATURE_PIPELINED, FEATURE_WEIGHT_LOAD, FEATURE_LATENCY = 1, 2, 4, 8
FEATURES = 15

ENGINE_DEVICE, ENGINE_CHANNEL, ENGINE_FETCH = range(3)
COMPUTE, TRANSFER, WEIGHT_LOAD = range(3)
READS_INPUT, WRITES_OUTPUT = 1, 2


class Header(NamedTuple):
    """What a reader looks at first. `crc32` and `size` are those of the file, 0 in tables for C."""

    crc32: int
    major: int
    minor: int
    min_reader: int
    features: int
    latency: int
    interval: int
    frames_in_flight: int
    last_stage: int
    tick_picoseconds: int
    size: int
    model_sha256: bytes
    target_sha256: bytes


class Engine(NamedTuple):
    """A queue: a device, a DMA channel of a link, or the fetch channel of a memory (`owner`, by `kind`)."""

    first_task: int
    tasks: int
    tiles: int
    owner: int
    kind: int
    channel: int


class Task(NamedTuple):
    """An entry of a queue; tasks stand engine by engine in the order of the queues."""

    start: int
    work: int
    tiles: int
    item: int
    first_wait: int
    waits: int
    first_use: int
    id: int
    reads: int
    writes: int
    stage: int
    kind: int
    flags: int


class Wait(NamedTuple):
    """For i < tiles: before tile (tile + i) in window w, counter `engine` is at value + i·step + tiles(engine)·(w - lag).

    `latency` is an index into `Tables.latencies`.
    """

    value: int
    tile: int
    tiles: int
    step: int
    engine: int
    lag: int
    latency: int


class Memory(NamedTuple):
    """A memory and its arena of `peak` bytes; `kind` as in `codes.MEMORY_KINDS`."""

    capacity: int
    peak: int
    weights: int
    alignment: int
    kind: int


class Device(NamedTuple):
    """A device; `kind` as in `codes.DEVICE_KINDS`."""

    memory: int
    kind: int


class Buffer(NamedTuple):
    """Frame f finds it at offset + (f mod copies)·stride."""

    offset: int
    bytes: int
    stride: int
    tensor: int
    memory: int
    copies: int


class Tensor(NamedTuple):
    """Shape and type; `dtype` as in onnx.TensorProto.DataType."""

    first_dim: int
    quant: int
    rank: int
    dtype: int
    quants: int
    axis: int


class Quant(NamedTuple):
    """real = scale·(stored - zero_point)."""

    scale: float
    zero_point: int


class Transfer(NamedTuple):
    """`slabs` pieces of `rows` rows each; after k of T tiles rows·k//T rows of each have been moved."""

    bytes: int
    source: int
    destination: int
    slabs: int
    rows: int


class Kernel(NamedTuple):
    """Operator i: params[first_param ..] holds extents, epilogue codes and constants."""

    first_param: int
    slabs: int
    rows: int
    epilogue: int
    constants: int
    params: int
    workload: int
    kind: int
    weight_copies: int


class Lifetime(NamedTuple):
    """From when to when a buffer is in use, in frame 0."""

    start: int
    end: int


FORMATS: dict[type, struct.Struct] = {
    Header: struct.Struct("<I2H2I2Q4I32s32s"),
    Engine: struct.Struct("<3IH2B"),
    Task: struct.Struct("<2Q6I3H2B"),
    Wait: struct.Struct("<2I3H2B"),
    Memory: struct.Struct("<3QIB3x"),
    Device: struct.Struct("<HBx"),
    Buffer: struct.Struct("<3QI2H"),
    Tensor: struct.Struct("<2I2BHB3x"),
    Quant: struct.Struct("<fi"),
    Transfer: struct.Struct("<Q4I"),
    Kernel: struct.Struct("<3I2H4B"),
    Lifetime: struct.Struct("<2Q"),
}


@dataclass(frozen=True, slots=True)
class Tables:
    """What firmware needs of a schedule. Plain integers are indices or extents; fields in the order of schedule.fbs."""

    header: Header
    engines: tuple[Engine, ...]
    tasks: tuple[Task, ...]
    waits: tuple[Wait, ...]
    uses: tuple[int, ...]
    latencies: tuple[int, ...]
    memories: tuple[Memory, ...]
    devices: tuple[Device, ...]
    buffers: tuple[Buffer, ...]
    tensors: tuple[Tensor, ...]
    dims: tuple[int, ...]
    quants: tuple[Quant, ...]
    transfers: tuple[Transfer, ...]
    kernels: tuple[Kernel, ...]
    params: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """What the indices of the tables stand for."""

    model: str
    devices: tuple[str, ...]
    links: tuple[str, ...]
    memories: tuple[str, ...]
    operators: tuple[str, ...]
    tensors: tuple[str, ...]
    constants: tuple[str, ...]


# Which row each vector of `Tables` holds; int: 32-bit integers.
ROWS: dict[str, type] = {
    "engines": Engine, "tasks": Task, "waits": Wait, "uses": int, "latencies": int, "memories": Memory,
    "devices": Device, "buffers": Buffer, "tensors": Tensor, "dims": int, "quants": Quant, "transfers": Transfer,
    "kernels": Kernel, "params": int, "inputs": int, "outputs": int,
}  # fmt: skip
# What the integers are, where a row is one.
INTEGERS: dict[str, str] = {
    "uses": "buffer", "latencies": "ticks", "dims": "extent", "inputs": "buffer", "outputs": "buffer",
    "params": "extents, epilogue codes, constants of each kernel",
}  # fmt: skip
VECTORS = tuple(field.name for field in fields(Tables))[1:]
NAMES = tuple(field.name for field in fields(Names))
