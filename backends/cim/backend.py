"""Cost model of a cluster of compute-in-memory macros: near-memory, digital and analog.

Every operator with weights is `groups` independent products [m x k] x [k x n]. A macro reduces
`rows` weights of `words` output channels per access, for `compute_units` input vectors at once,
so that a product is cut into tiles of rows x words. A tile is stored whole: what an operator
leaves empty in it is padding that no other operator can use.

Modes: ``resident`` (weights stay from frame to frame and take room), ``resident x2`` and so on (copies of the tiles
that share the input vectors, where that is faster) and ``reload`` (weights, or the second operand of a dynamic
product, are written before every run). Tiles of an operator are dealt to the macros in turn, so that each
macro holds ceil(copies x tiles / macros) at most, and any number of operators that fit together lie evenly. Reloads
go through a working set of one tile in each of the `reload_macros`, which is kept free of resident weights if the macro
can be reloaded at all; a cell of it is written once per ceil(tiles / reload macros).
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

from h4hc.backends.base import Backend, Peak, parameters, precision_refusal, precisions
from h4hc.backends.cim.macro import Activity, Macro, delay_factor, exact_adc_bits
from h4hc.backends.cim.parameters import CimParameters
from h4hc.backends.products import Product, Tiling, product, tiling
from h4hc.backends.rounding import quotient
from h4hc.backends.scaling import energy_factor
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.target import Device, Memory, Target
from h4hc.ir.workload import Generic, Kernel, Precision, bits_to_bytes

SECONDS_PER_YEAR = 365.25 * 24 * 3600
WORTH_COPYING = 0.98  # copies are offered if they take at most this share of the time of fewer
_SECOND_OPERAND = frozenset({"add", "mul", "sub"})


class Mode(NamedTuple):
    """A way to run on `macros`: `copies` of the tiles that stay, or `writes` per cell of the working set a run."""

    name: str
    macros: int
    copies: int = 1
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
        self.macro = Macro(p.geometry) if p.geometry else None
        self.energy_scale = energy_factor(p.voltage, p.nominal_voltage)
        self.time_scale = 1 / p.clock_scale if p.clock_scale else delay_factor(p.voltage, p.nominal_voltage)
        self.activations = target.memory(device.memory)
        self.weights: Memory | None = target.memory(device.weights) if device.weights else None
        self.precisions = precisions(device, p.precisions)
        self.static_watts = p.leakage * p.macros * math.sqrt(self.energy_scale)
        self.tile_overhead_seconds = p.tile_overhead
        self.io_bandwidth = min(p.io_bandwidth, self.activations.bandwidth)
        self.tile_bytes = p.rows * p.words
        self._peak = self._find_peak()
        if p.endurance is not None and p.least_life_years:
            lifetime = p.least_life_years * SECONDS_PER_YEAR
            self.writes_per_frame = p.endurance / (lifetime * p.frames_per_second)
        tiles_each = p.capacity // self.tile_bytes
        reloadable = self.life_years(1) >= p.least_life_years
        self.reload_macros = (p.macros if p.reload_macros is None else p.reload_macros) if reloadable else 0
        self.resident_macros = p.macros if tiles_each > 1 else p.macros - self.reload_macros
        self.capacity_bytes = (p.macros * tiles_each - self.reload_macros) * self.tile_bytes

    @property
    def area_mm2(self) -> float | None:
        """Square millimetres of the macros; None if they are not described by their geometry."""
        if self.macro is None:
            return None
        cells = self.macro.areas()["cells"]
        return self.parameters.macros * (
            cells + (self.macro.area_mm2 - cells) * self.parameters.compute_units
        )

    def peak(self) -> Peak:
        """All macros busy; the weight read shared by the compute units."""
        return self._peak

    def channel_granule(self, kernel: Kernel) -> int:
        """The output channels of a tile, which is stored whole."""
        return self.words(kernel.precision)

    def _find_peak(self) -> Peak:
        p = self.parameters
        parallel = p.rows * self.words(Precision()) * p.compute_units * p.macros
        joules = p.mac_energy + p.weight_read_energy / p.compute_units
        if self.macro:
            joules = self.macro.joules_per_mac(Precision())
        return Peak(parallel / self.access_seconds(Precision()), joules * self.energy_scale)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """The modes ``resident``, its copies and ``reload`` as far as the macro offers them."""
        item = product(kernel.workload)
        if item is None:
            return Refusal(f"{_described(kernel.workload)} is in no macro")
        unknown = [step for step in kernel.epilogue if step not in self.parameters.output_stage]
        if unknown:
            return Refusal(f"the output stage has no {unknown[0]}")
        if kernel.precision not in self.precisions:
            return precision_refusal(self.name, kernel.precision, self.precisions)
        if self.words(kernel.precision) == 0:
            return Refusal(f"a row of the array holds no weight of {kernel.precision.weight_bits} bits")
        if item.dynamic and not self.parameters.dynamic:
            return Refusal("both operands are computed at run time, and the macro is not written at run time")
        tiles = tiling(item, self.parameters.rows, self.words(kernel.precision), self.parameters.pack_groups)
        resident, reload = self._resident(kernel, item, tiles), self._reload(kernel, item, tiles)
        if isinstance(resident, Refusal):
            return (
                Refusal(f"{resident.reason}; {reload.reason}") if isinstance(reload, Refusal) else (reload,)
            )
        modes = (resident,) if isinstance(reload, Refusal) else (resident, reload)
        return (*modes, *self._copies(kernel, item, tiles, resident))

    def life_years(self, writes_per_cell: float) -> float:
        """Years until a cell written `writes_per_cell` times a frame wears out."""
        p = self.parameters
        if p.endurance is None or writes_per_cell == 0:
            return math.inf
        return p.endurance / (writes_per_cell * p.frames_per_second) / SECONDS_PER_YEAR

    def access_seconds(self, precision: Precision) -> float:
        """One access: reading the weight array, or applying the input bits, whichever takes longer."""
        p = self.parameters
        steps = quotient(precision.activation_bits, p.bits_per_cycle)
        return max(p.read_time, p.fixed_time + steps * p.bit_time) * self.time_scale

    def words(self, precision: Precision) -> int:
        """Weights per access and row: the array's words are 8 bits wide, other widths regroup them."""
        return self.parameters.words * 8 // precision.weight_bits

    def _resident(self, kernel: Kernel, item: Product, tiles: Tiling) -> Cost | Refusal:
        if item.dynamic:
            return Refusal("an operand computed at run time cannot stay in the macro")
        stored = tiles.tiles * self.tile_bytes
        if stored > self.capacity_bytes:
            return Refusal(
                f"its weights fill {stored} bytes of the {self.capacity_bytes} that can stay resident"
            )
        return self._cost(kernel, item, tiles, Mode("resident", self.resident_macros, stored=stored))

    def _copies(self, kernel: Kernel, item: Product, tiles: Tiling, resident: Cost) -> list[Cost]:
        """Two, four ... copies, as long as they fit and each more shortens the time.

        With as many copies as make the tiles a multiple of the macros all macros are busy: more gain nothing.
        """
        most = self.resident_macros // math.gcd(tiles.tiles, self.resident_macros)
        if not self.parameters.replicate:
            return []
        numbers = [1 << power for power in range(1, most.bit_length()) if 1 << power < most]
        found: list[Cost] = []
        least = resident.seconds
        for copies in [*numbers, most] if most > 1 else []:
            stored = copies * resident.resident_bytes
            if stored > self.capacity_bytes:
                break
            mode = Mode(f"resident x{copies}", self.resident_macros, copies, stored)
            cost = self._cost(kernel, item, tiles, mode)
            if cost.seconds <= WORTH_COPYING * least:
                found.append(cost)
                least = cost.seconds
        return found

    def _reload(self, kernel: Kernel, item: Product, tiles: Tiling) -> Cost | Refusal:
        p = self.parameters
        if not item.dynamic and self.weights is None:
            return Refusal("the device names no memory to reload weights from")
        if p.reload_macros == 0:
            return Refusal("no macro is reserved for reloads")
        writes = quotient(tiles.tiles, self.reload_macros or p.macros)
        years = self.life_years(writes)
        if years < p.least_life_years:
            rate = f"{p.frames_per_second:g} frames/s"
            return Refusal(f"writing it every frame wears the macro out in {_duration(years)} at {rate}")
        return self._cost(kernel, item, tiles, Mode("reload", self.reload_macros, writes=writes))

    def _cost(self, kernel: Kernel, item: Product, tiles: Tiling, mode: Mode) -> Cost:
        p = self.parameters
        passes = quotient(quotient(item.m, mode.copies), p.compute_units)  # of each copy
        rounds = quotient(mode.copies * tiles.tiles, mode.macros)
        compute = rounds * passes * self.access_seconds(kernel.precision)
        moved = self._io_bytes(kernel, item)
        io = moved / self.io_bandwidth
        lanes = p.output_elements_per_cycle * min(mode.macros, mode.copies * tiles.tiles)
        output = item.groups * item.m * item.n / (p.output_clock * lanes) * self.time_scale
        written = (
            bits_to_bytes(item.groups * item.k * item.n * kernel.precision.weight_bits) if mode.writes else 0
        )
        write, programming = self._write(written, item.dynamic, mode.macros)
        exposed = write * (1 - p.overlap_write)
        terms = {"compute": compute, "activations": io, "output": output}
        seconds = max(terms.values()) + exposed + p.sync_time
        decisive = {**terms, "write": exposed, "overhead": p.sync_time}
        accesses = mode.copies * tiles.tiles * passes * p.compute_units
        energy = self._compute_energy(kernel, item, tiles, mode.copies * passes)
        energy = {name: joules * self.energy_scale for name, joules in energy.items()}
        energy["I/O port"] = moved * p.io_energy
        energy[f"memory {self.activations.name}"] = moved * self.activations.energy_per_byte
        for name, joules in programming.items():
            energy[name] = energy.get(name, 0.0) + joules
        return Cost(
            seconds=seconds,
            joules=sum(energy.values()),
            utilisation=min(1.0, kernel.workload.macs / (self._peak.macs_per_second * seconds)),
            bound=max(decisive, key=lambda name: decisive[name]),
            mode=mode.name,
            compute_seconds=compute,
            activation_seconds=io,
            write_seconds=write,
            output_seconds=output,
            overhead_seconds=p.sync_time,
            resident_bytes=mode.stored,
            writes_per_cell=mode.writes,
            energy=energy,
            details={
                "groups per tile": tiles.packed,
                "tiles": tiles.tiles,
                "copies": mode.copies,
                "macros": min(mode.macros, mode.copies * tiles.tiles),
                "passes": passes,
                "macs": item.macs,
                "array utilisation": item.macs / (accesses * p.rows * self.words(kernel.precision)),
                "I/O bytes": moved,
                "bytes written": written,
                **self._limits(item, mode),
            },
        )

    def _limits(self, item: Product, mode: Mode) -> dict[str, float]:
        """How long cells that are written last, and the bits that converters lose of the sums on a bit line."""
        p = self.parameters
        limits: dict[str, float] = {}
        if mode.writes and p.endurance is not None:
            limits["lifetime years"] = self.life_years(mode.writes)
        if p.adc_bits is not None:
            columns = p.geometry.adc_columns if p.geometry else 1
            exact = exact_adc_bits(min(p.rows, item.k), p.bits_per_cycle, columns)
            limits |= {"ADC bits": p.adc_bits, "ADC bits lost": max(0, exact - p.adc_bits)}
        return limits

    def _io_bytes(self, kernel: Kernel, item: Product) -> int:
        """Bytes through the I/O port: the raw input once (im2col happens in the macro), the output once, and
        the second operand of every add, sub or mul behind it. A dynamic second operand is a write."""
        bits = kernel.precision.activation_bits
        first = item.groups * item.m * item.k if item.dynamic else kernel.workload.input_elements
        operands = 1 + sum(step in _SECOND_OPERAND for step in kernel.epilogue)
        return bits_to_bytes((first + operands * kernel.workload.output_elements) * bits)

    def _write(self, written: int, dynamic: bool, macros: int) -> tuple[float, dict[str, float]]:
        """Seconds and joules, by part, to program `written` bytes into `macros` from their source.

        Programming SRAM follows the supply of the logic; that of other cells does not.
        """
        p = self.parameters
        if written == 0:
            return 0.0, {}
        slower, dearer = (1.0, 1.0) if p.family == "nmc" else (self.time_scale, self.energy_scale)
        cells = quotient(8 * written, p.write_bits) * p.write_time * slower / macros
        energy = {"writes": 8 * written * p.write_energy * dearer}
        if not dynamic and self.weights is not None:
            energy[f"memory {self.weights.name}"] = written * self.weights.energy_per_byte
            return max(cells, written / self.weights.bandwidth), energy
        energy["I/O port"] = written * p.io_energy
        energy[f"memory {self.activations.name}"] = written * self.activations.energy_per_byte
        return max(cells, written / self.io_bandwidth), energy

    def _compute_energy(self, kernel: Kernel, item: Product, tiles: Tiling, passes: int) -> dict[str, float]:
        """Joules of array, input drivers, partial sums and output stage, at the nominal supply."""
        p = self.parameters
        outputs = item.groups * item.m * item.n
        fed = bits_to_bytes(
            item.m * item.k * item.groups * tiles.column_tiles * kernel.precision.activation_bits
        )
        psum_bytes = 4 if sum(kernel.precision) <= 24 else 8
        psums = psum_bytes * outputs * (1 + 2 * (tiles.row_tiles - 1))
        stage = sum(p.output_stage[step] for step in kernel.epilogue)
        return {
            **self._array_energy(kernel.precision, item, tiles, passes),
            "inputs": fed * p.input_energy,
            "partial sums": psums * p.output_energy,
            "output stage": outputs * stage,
        }

    def _array_energy(
        self, precision: Precision, item: Product, tiles: Tiling, passes: int
    ) -> dict[str, float]:
        """Joules of the array: gate by gate, or per MAC, where TOPS/W scales with 64 / (bits x bits)."""
        p = self.parameters
        if self.macro:
            return self.macro.energies(precision, self._activity(precision, item, tiles))
        scale = precision.activation_bits * precision.weight_bits / 64
        used = min(p.rows, tiles.packed * item.k) * min(self.words(precision), tiles.packed * item.n)
        return {
            "MACs": scale * item.macs * p.mac_energy,
            "weight reads": scale * tiles.tiles * passes * used * p.weight_read_energy,
        }

    def _activity(self, precision: Precision, item: Product, tiles: Tiling) -> Activity:
        """What of the array is at work: every input vector passes every tile, in steps of `bits_per_cycle`.

        Groups that share a tile drive its rows together, but each of its words sums the rows of one group.
        """
        p = self.parameters
        steps = quotient(precision.activation_bits, p.bits_per_cycle) * item.m
        words = steps * item.groups * item.n
        full, rest = (0, item.k) if tiles.packed > 1 else divmod(item.k, p.rows)
        trees = ((words * full, p.rows), (words, rest)) if rest else ((words * full, p.rows),)
        return Activity(
            steps=steps * tiles.tiles,
            rows=steps * item.groups * item.k * tiles.column_tiles,
            words=words * tiles.row_tiles,
            trees=trees,
        )


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
