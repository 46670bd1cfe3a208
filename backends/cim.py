"""Cost model of a cluster of compute-in-memory macros: near-memory, digital and analog.

Every operator with weights is `groups` independent products [m x k] x [k x n]. A macro reduces
`rows` weights of `words` output channels per access, for `compute_units` input vectors at once,
so that a product is cut into tiles of rows x words. A tile is stored whole: what an operator
leaves empty in it is padding that no other operator can use.

Two modes: ``resident`` (weights stay from frame to frame and take room) and ``reload`` (weights,
or the second operand of a dynamic product, are written before every run). Reloads go through a
working set of one tile per macro, which is kept free of resident weights if the macro can be
reloaded at all; a cell of it is written once per ceil(tiles / macros).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import Field, model_validator

from h4hc.backends.base import Backend, Peak, parameters, precision_refusal, precisions
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.quantity import (
    Bytes,
    BytesPerSecond,
    Hertz,
    JoulesPerBit,
    JoulesPerByte,
    JoulesPerElement,
    JoulesPerMac,
    Seconds,
    SecondsOrZero,
    Watts,
)
from h4hc.ir.target import Described, Device, Memory, PrecisionName, Target
from h4hc.ir.workload import Conv, Generic, Kernel, MatMul, Precision, bits_to_bytes

SECONDS_PER_YEAR = 365.25 * 24 * 3600
PSUM_BYTES = 4
Count = Annotated[int, Field(ge=1, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
_SECOND_OPERAND = frozenset({"add", "mul", "sub"})


class CimParameters(Described):
    """A macro, how many of them there are, and their surroundings.

    An access takes max(`read_time`, `fixed_time` + ceil(activation bits / `bits_per_cycle`) x
    `bit_time`). `endurance` is in writes per cell (absent: unlimited); `frames_per_second` and
    `least_life_years` decide whether a mode wears the macro out too soon. `adc_bits` is the
    resolution of an analog macro's converters.
    """

    family: Literal["nmc", "dcim", "acim"]
    capacity: Bytes
    rows: Count
    words: Count
    compute_units: Count
    macros: Count
    read_time: SecondsOrZero
    fixed_time: SecondsOrZero
    bit_time: SecondsOrZero
    bits_per_cycle: Count
    mac_energy: JoulesPerMac
    weight_read_energy: JoulesPerByte
    input_energy: JoulesPerByte
    output_energy: JoulesPerByte
    write_bits: Count
    write_time: Seconds
    write_energy: JoulesPerBit
    overlap_write: Fraction
    dynamic: bool
    endurance: Annotated[float, Field(gt=0)] | None = None
    frames_per_second: Annotated[float, Field(gt=0)] = 50.0
    least_life_years: Annotated[float, Field(ge=0)] = 1.0
    leakage: Watts
    io_bandwidth: BytesPerSecond
    io_energy: JoulesPerByte
    sync_time: SecondsOrZero
    tile_overhead: SecondsOrZero
    precisions: Annotated[tuple[PrecisionName, ...], Field(min_length=1)]
    output_clock: Hertz
    output_elements_per_cycle: Annotated[float, Field(gt=0)]
    output_stage: dict[str, JoulesPerElement]
    adc_bits: Annotated[int, Field(ge=1, le=16, strict=True)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CimParameters:
        if (self.family == "acim") != (self.adc_bits is not None):
            raise ValueError("adc_bits: is needed for the family acim, and for no other")
        if self.read_time == 0 and self.fixed_time + self.bit_time == 0:
            raise ValueError("read_time: an access takes no time at all; give read_time or bit_time")
        if self.capacity < self.rows * self.words:
            raise ValueError(
                f"capacity: {self.capacity} bytes hold no tile of {self.rows} x {self.words} weights"
            )
        return self


class Product(NamedTuple):
    """`groups` independent products [m x k] x [k x n]; `dynamic`: both operands are made at run time."""

    groups: int
    m: int
    k: int
    n: int
    dynamic: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.groups * self.m * self.k * self.n


class Tiling(NamedTuple):
    """How a product lies in tiles of rows x words: `packed` groups share a tile block-diagonally."""

    packed: int
    row_tiles: int
    column_tiles: int
    tiles: int


def product(workload: object) -> Product | None:
    """`workload` as products, or None if it is no weighted operator.

    A transposed convolution is the convolution over its zero-stuffed input, zeros computed.
    """
    if isinstance(workload, Conv):
        return Product(
            workload.groups,
            workload.batch * workload.out_h * workload.out_w,
            workload.in_channels // workload.groups * workload.kernel_h * workload.kernel_w,
            workload.out_channels // workload.groups,
        )
    if isinstance(workload, MatMul):
        return Product(workload.batch, workload.m, workload.k, workload.n, workload.dynamic)
    return None


def tiling(item: Product, rows: int, words: int) -> Tiling:
    """The tiles of `item` on an array that reduces `rows` weights of `words` columns."""
    packed = max(1, min(rows // item.k, words // item.n, item.groups)) if item.groups > 1 else 1
    row_tiles = _ceil(packed * item.k, rows)
    column_tiles = _ceil(packed * item.n, words)
    return Tiling(packed, row_tiles, column_tiles, row_tiles * column_tiles * _ceil(item.groups, packed))


class Mode(NamedTuple):
    """A way to run: bytes `stored` for good, or `writes` per cell of the working set in each run."""

    name: str
    stored: int = 0
    writes: int = 0


class Cim(Backend):
    """A cluster of equal macros behind one I/O port."""

    Parameters = CimParameters
    parameters: CimParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = cast(CimParameters, parameters(device, CimParameters))
        p = self.parameters
        self.activations = target.memory(device.memory)
        self.weights: Memory | None = target.memory(device.weights) if device.weights else None
        self.precisions = precisions(device, p.precisions)
        self.static_watts = p.leakage * p.macros
        self.tile_overhead_seconds = p.tile_overhead
        self.io_bandwidth = min(p.io_bandwidth, self.activations.bandwidth)
        self.io_energy = p.io_energy + self.activations.energy_per_byte
        self.tile_bytes = p.rows * p.words
        working_set = p.macros * self.tile_bytes if self.life_years(1) >= p.least_life_years else 0
        self.capacity_bytes = p.macros * p.capacity // self.tile_bytes * self.tile_bytes - working_set

    def peak(self) -> Peak:
        """All macros busy; the weight read shared by the compute units."""
        p = self.parameters
        parallel = p.rows * p.words * p.compute_units * p.macros
        joules = p.mac_energy + p.weight_read_energy / p.compute_units
        return Peak(parallel / self.access_seconds(Precision()), joules)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """The modes ``resident`` and ``reload`` as far as the macro offers them."""
        item = product(kernel.workload)
        if item is None:
            return Refusal(f"{_described(kernel.workload)} is in no macro")
        unknown = [step for step in kernel.epilogue if step not in self.parameters.output_stage]
        if unknown:
            return Refusal(f"the output stage has no {unknown[0]}")
        if kernel.precision not in self.precisions:
            return precision_refusal(self.name, kernel.precision, self.precisions)
        if item.dynamic and not self.parameters.dynamic:
            return Refusal("both operands are computed at run time, and the macro is not written at run time")
        modes = [self._resident(kernel, item), self._reload(kernel, item)]
        offered = tuple(mode for mode in modes if isinstance(mode, Cost))
        if offered:
            return offered
        return Refusal("; ".join(mode.reason for mode in modes if isinstance(mode, Refusal)))

    def life_years(self, writes_per_cell: float) -> float:
        """Years until a cell written `writes_per_cell` times a frame wears out."""
        p = self.parameters
        if p.endurance is None or writes_per_cell == 0:
            return math.inf
        return p.endurance / (writes_per_cell * p.frames_per_second) / SECONDS_PER_YEAR

    def access_seconds(self, precision: Precision) -> float:
        """One access: reading the weight array, or applying the input bits, whichever takes longer."""
        p = self.parameters
        steps = _ceil(precision.activation_bits, p.bits_per_cycle)
        return max(p.read_time, p.fixed_time + steps * p.bit_time)

    def words(self, precision: Precision) -> int:
        """Weights per access and row: the array's words are 8 bits wide, other widths regroup them."""
        return max(1, self.parameters.words * 8 // precision.weight_bits)

    def _resident(self, kernel: Kernel, item: Product) -> Cost | Refusal:
        if item.dynamic:
            return Refusal("an operand computed at run time cannot stay in the macro")
        tiles = tiling(item, self.parameters.rows, self.words(kernel.precision))
        stored = tiles.tiles * self.tile_bytes
        if stored > self.capacity_bytes:
            return Refusal(
                f"its weights fill {stored} bytes of the {self.capacity_bytes} that can stay resident"
            )
        return self._cost(kernel, item, tiles, Mode("resident", stored=stored))

    def _reload(self, kernel: Kernel, item: Product) -> Cost | Refusal:
        p = self.parameters
        if not item.dynamic and self.weights is None:
            return Refusal("the device names no memory to reload weights from")
        tiles = tiling(item, p.rows, self.words(kernel.precision))
        writes = _ceil(tiles.tiles, p.macros)
        years = self.life_years(writes)
        if years < p.least_life_years:
            rate = f"{p.frames_per_second:g} frames/s"
            return Refusal(f"writing it every frame wears the macro out in {_duration(years)} at {rate}")
        return self._cost(kernel, item, tiles, Mode("reload", writes=writes))

    def _cost(self, kernel: Kernel, item: Product, tiles: Tiling, mode: Mode) -> Cost:
        p = self.parameters
        passes = _ceil(item.m, p.compute_units)
        compute = _ceil(tiles.tiles, p.macros) * passes * self.access_seconds(kernel.precision)
        moved = self._io_bytes(kernel, item)
        io = moved / self.io_bandwidth
        lanes = p.output_elements_per_cycle * min(p.macros, tiles.tiles)
        output = item.groups * item.m * item.n / (p.output_clock * lanes)
        written = (
            bits_to_bytes(item.groups * item.k * item.n * kernel.precision.weight_bits) if mode.writes else 0
        )
        write, write_joules = self._write(written, item.dynamic)
        exposed = write * (1 - p.overlap_write)
        terms = {"compute": compute, "activations": io, "output": output}
        seconds = max(terms.values()) + exposed + p.sync_time
        decisive = {**terms, "write": exposed, "overhead": p.sync_time}
        array_macs = tiles.tiles * passes * p.compute_units * p.rows * self.words(kernel.precision)
        return Cost(
            seconds=seconds,
            joules=self._compute_joules(kernel, item, tiles, passes) + moved * self.io_energy + write_joules,
            utilisation=min(1.0, kernel.workload.macs / (self.peak().macs_per_second * seconds)),
            bound=max(decisive, key=lambda name: decisive[name]),
            mode=mode.name,
            compute_seconds=compute,
            activation_seconds=io,
            write_seconds=write,
            overhead_seconds=p.sync_time,
            resident_bytes=mode.stored,
            writes_per_cell=mode.writes,
            details={
                "groups per tile": tiles.packed,
                "tiles": tiles.tiles,
                "passes": passes,
                "macs": item.macs,
                "array utilisation": item.macs / array_macs,
                "I/O bytes": moved,
                "bytes written": written,
            },
        )

    def _io_bytes(self, kernel: Kernel, item: Product) -> int:
        """Bytes through the I/O port: the raw input once (im2col happens in the macro), the output once, and
        the second operand of every add, sub or mul behind it. A dynamic second operand is a write."""
        bits = kernel.precision.activation_bits
        first = item.groups * item.m * item.k if item.dynamic else kernel.workload.input_elements
        operands = 1 + sum(step in _SECOND_OPERAND for step in kernel.epilogue)
        return bits_to_bytes((first + operands * kernel.workload.output_elements) * bits)

    def _write(self, written: int, dynamic: bool) -> tuple[float, float]:
        """Seconds and joules to program `written` bytes from their source."""
        p = self.parameters
        if written == 0:
            return 0.0, 0.0
        bandwidth, energy = self.io_bandwidth, self.io_energy
        if not dynamic and self.weights is not None:
            bandwidth, energy = self.weights.bandwidth, self.weights.energy_per_byte
        cells = _ceil(8 * written, p.write_bits) * p.write_time / p.macros
        return max(cells, written / bandwidth), 8 * written * p.write_energy + written * energy

    def _compute_joules(self, kernel: Kernel, item: Product, tiles: Tiling, passes: int) -> float:
        """Array, partial sums, input drivers and output stage. TOPS/W scales with 64 / (bits x bits)."""
        p = self.parameters
        scale = kernel.precision.activation_bits * kernel.precision.weight_bits / 64
        outputs = item.groups * item.m * item.n
        used = min(p.rows, tiles.packed * item.k) * min(self.words(kernel.precision), tiles.packed * item.n)
        read = tiles.tiles * passes * used
        fed = bits_to_bytes(
            item.m * item.k * item.groups * tiles.column_tiles * kernel.precision.activation_bits
        )
        psums = PSUM_BYTES * outputs * (1 + 2 * (tiles.row_tiles - 1))
        stage = sum(p.output_stage[step] for step in kernel.epilogue)
        return (
            scale * (item.macs * p.mac_energy + read * p.weight_read_energy)
            + fed * p.input_energy
            + psums * p.output_energy
            + outputs * stage
        )


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _described(workload: object) -> str:
    if isinstance(workload, Generic):
        return workload.op_type
    kind = getattr(workload, "kind", type(workload).__name__.lower())
    return str(kind).replace("_", " ")


def _duration(years: float) -> str:
    hours = years * SECONDS_PER_YEAR / 3600
    if hours < 1:
        return f"{hours * 60:.3g} minutes"
    if hours < 48:
        return f"{hours:.3g} hours"
    return f"{hours / 24:.3g} days"
