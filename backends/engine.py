"""An engine: an array of multipliers beside an output unit, between an activation and a weight memory.

What all such devices share: the steps behind the array, element-wise operators, softmax and norms, data
movement, and time and energy from cycles and bytes. Time is max(C, M) + (1 - `overlap`) x min(C, M) +
operator overhead, where C is the time of array and output unit and M that of the slowest memory. What
the array itself takes is for subclasses to say.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from math import ceil
from typing import Annotated, ClassVar, cast

from pydantic import Field, model_validator

from h4hc.backends import trips
from h4hc.backends.base import Backend, parameters, precision_refusal, precisions
from h4hc.backends.effort import Effort, Epilogue, Pass, streamed
from h4hc.backends.placed import DEFAULT, FETCHED, Placed
from h4hc.backends.scaling import OperatingPoint, power_clock, static_watts
from h4hc.backends.traffic import CONSTANT, Load, Moved, busy_seconds, bytes_by_memory
from h4hc.ir.cost import PREFETCH, Cost, Fetch, Refusal
from h4hc.ir.quantity import Hertz, JoulesPerByte, JoulesPerElement, JoulesPerMac, SecondsOrZero, Watts
from h4hc.ir.target import Device, Memory, PrecisionName, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction

SCALE_BYTES = 10  # bias, scale and shift per output channel
FETCHED_BYTES = "fetched bytes"
SHORT_RUN = 16  # elements; shorter runs of a transpose go through the output unit

Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_COPIES = frozenset({"transpose", "concat", "split", "slice", "pad", "expand"})


class EngineParameters(OperatingPoint):
    """The output unit and the overheads. Cycles are per 8-bit element.

    `chaining` says that the steps of an epilogue run one after the other in the output unit; else each
    is a trip of its own through memory. Softmax and norms are decomposed: their passes in turn, and cycles per row
    for what is computed once per row; or cycles and bytes of traffic per element of all passes at once. `copy_cycles`
    is for copies (0: they run on a DMA at memory speed). `weight_compression` is encoded bytes per weight byte where
    the entropy of the weights is not known.
    """

    clock: Hertz
    output_cycles: Positive
    relu_cycles: Positive
    lut_cycles: Positive
    chaining: bool = False
    elementwise_cycles: dict[str, Positive]
    softmax_cycles: Positive | None = None
    softmax_traffic: Positive | None = None
    softmax_passes: tuple[trips.Trip, ...] = ()
    softmax_row_cycles: NotNegative = 0.0
    norm_cycles: Positive | None = None
    norm_traffic: Positive | None = None
    norm_passes: tuple[trips.Trip, ...] = ()
    norm_row_cycles: NotNegative = 0.0
    transpose_cycles: NotNegative
    resize_cycles: Positive
    copy_cycles: NotNegative = 0.0
    weight_compression: Annotated[float, Field(gt=0, le=2)]
    overlap: Fraction
    operator_cycles: NotNegative
    mac_energy: JoulesPerMac
    output_energy: JoulesPerElement
    buffer_energy: JoulesPerByte
    static_power: Watts
    tile_overhead: SecondsOrZero
    precisions: Annotated[tuple[PrecisionName, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _decompositions(self) -> EngineParameters:
        for name, passes, totals in (
            ("softmax", self.softmax_passes, (self.softmax_cycles, self.softmax_traffic)),
            ("norm", self.norm_passes, (self.norm_cycles, self.norm_traffic)),
        ):
            if not passes and None in totals:
                raise ValueError(f"{name}_passes: is empty; give them, or {name}_cycles and {name}_traffic")
        return self


class Engine(Backend):
    """An array beside an output unit."""

    Parameters: ClassVar[type[EngineParameters]]
    parameters: EngineParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = p = cast(EngineParameters, parameters(device, self.Parameters))
        self.activations = target.memory(device.memory)
        self.spill = target.memory(device.spill) if device.spill else None
        self.weights: Memory = target.memory(device.weights) if device.weights else self.activations
        self.precisions = precisions(device, p.precisions)
        self.static_watts = static_watts(p, p.static_power, p.clock, power_clock(device, p, p.clock))
        self.energy_scale = p.energy_scale
        self.tile_overhead_seconds = p.tile_overhead

    @abstractmethod
    def array_effort(self, kernel: Kernel, behind: Epilogue, placed: Placed) -> Effort | Refusal:
        """What the array takes for a convolution or product with what is fused or chained behind it."""

    @abstractmethod
    def pool_effort(self, item: Reduction, width: int, behind: Epilogue, placed: Placed) -> Effort | Refusal:
        """What a pool or a reduction over height and width takes, at `width` bytes per element."""

    def stream_effort(self, kernel: Kernel, item: Elementwise, rate: float, placed: Placed) -> Effort:
        """What an element-wise operator takes at `rate` cycles per 8-bit element."""
        width = kernel.precision.activation_bits // 8
        return streamed(item.elements, rate * width, kernel.input_bytes + kernel.output_bytes)

    def move_effort(self, kernel: Kernel, item: Move, rate: float, placed: Placed) -> Effort:
        """What a copy takes at `rate` cycles per 8-bit element."""
        elements = max(item.input_elements, item.output_elements)
        width = kernel.precision.activation_bits // 8
        return streamed(elements, rate * width, kernel.input_bytes + kernel.output_bytes)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """One way to run what the array and the output unit can do."""
        if kernel.precision not in self.precisions and not _is_view(kernel):
            return precision_refusal(self.name, kernel.precision, self.precisions)
        found = self.estimate(kernel)
        return found if isinstance(found, Refusal) else (found,)

    def prefetched_cost(self, kernel: Kernel) -> Cost | None:
        """The cost with weights in the device's memory, written there at the expense of this kernel.

        The fetch is one command. It reads each encoded byte and each scale once from the memory of the weights.
        """
        if (
            not kernel.weight_bytes
            or self.weights is self.activations
            or kernel.precision not in self.precisions
        ):
            return None
        found = self.estimate(kernel, FETCHED)
        moved = 0 if isinstance(found, Refusal) else ceil(found.details.get(FETCHED_BYTES, 0.0))
        if isinstance(found, Refusal) or not moved:
            return None
        seconds = self.fetch_seconds(moved) + self.parameters.operator_cycles / self.parameters.clock
        return replace(
            found, mode=PREFETCH, fetch=Fetch(moved, seconds, moved * self.weights.energy_per_byte)
        )

    def fetch_seconds(self, moved: float) -> float:
        """The time in which bytes of weights get to the device's memory."""
        source, own = self.weights, self.activations
        late = own.latency if own.write_latency is None else own.write_latency
        return max(source.latency + moved / source.bandwidth, late + moved / own.bandwidth)

    def estimate(self, kernel: Kernel, placed: Placed = DEFAULT) -> Cost | Refusal:
        """The cost of `kernel` with its operands where `placed` says, at any precision."""
        workload, placed = kernel.workload, self._with_scratch(kernel, placed)
        if _is_view(kernel):
            return Cost(0.0, 0.0, 0.0, bound="overhead")
        if isinstance(workload, Generic):
            return Refusal(f"no kernel for {workload.op_type}")
        on_array = isinstance(workload, Conv | MatMul)
        planned = self._plan(kernel.epilogue, on_array)
        if isinstance(planned, Refusal):
            return planned
        table, passes = planned
        chained = sum(step.rate for step in passes) if self.parameters.chaining else 0.0
        effort = self._anchor(kernel, Epilogue("relu" in kernel.epilogue, table, chained), placed)
        if isinstance(effort, Refusal):
            return effort
        return self._cost(kernel, self._with_passes(kernel, effort, passes), placed)

    def _plan(self, epilogue: tuple[str, ...], on_array: bool) -> tuple[bool, list[Pass]] | Refusal:
        """Whether a table is fused into the anchor, and the passes that remain.

        Bias, batch norm and clamps are part of the array's rescaling, and clamps of any command; each
        command has room for one table behind it; everything else is a command of its own.
        """
        p = self.parameters
        fused = False
        passes: list[Pass] = []
        room = True
        for step in epilogue:
            if step == "relu" or (step in ("bias", "batch_norm") and on_array and not passes):
                continue
            if step == "lut" and room:
                room = False
                if passes:
                    passes[-1] = passes[-1]._replace(rate=max(passes[-1].rate, p.lut_cycles))
                fused = fused or not passes
            elif step == "lut":
                passes.append(Pass(p.lut_cycles, 0))
            elif step in ("bias", "batch_norm"):
                passes.append(Pass(p.elementwise_cycles["add" if step == "bias" else "mul"], 0))
                room = True
            elif step in p.elementwise_cycles:
                passes.append(Pass(p.elementwise_cycles[step], 1))
                room = True
            else:
                return Refusal(f"the output unit has no {step}")
        return fused, passes

    def _anchor(self, kernel: Kernel, behind: Epilogue, placed: Placed) -> Effort | Refusal:
        """The kernel with what is fused or chained behind it, without other passes."""
        width = kernel.precision.activation_bits // 8
        match kernel.workload:
            case Conv() | MatMul():
                return self.array_effort(kernel, behind, placed)
            case Elementwise() as item:
                rate = self.parameters.elementwise_cycles.get(item.kind)
                if rate is None:
                    return Refusal(f"no kernel for elementwise {item.kind}")
                return self.stream_effort(kernel, item, self._rate(rate, behind), placed)
            case Reduction() as item:
                return self._reduction(item, width, behind, placed)
            case Move() as item:
                return self._move(kernel, item, behind, placed)
            case other:
                return Refusal(f"no kernel for {type(other).__name__}")

    def _rate(self, rate: float, behind: Epilogue) -> float:
        """Cycles per element of a pass at `rate` with a table and chained steps."""
        return max(rate, self.parameters.lut_cycles if behind.table else 0.0) + behind.chained

    def _reduction(self, item: Reduction, width: int, behind: Epilogue, placed: Placed) -> Effort | Refusal:
        p = self.parameters
        if item.kind not in ("softmax", "layer_norm", "l2_norm"):
            return self.pool_effort(item, width, behind, placed)
        effort = self._passes_effort(item, width, placed)
        after = (behind.chained + (p.lut_cycles if behind.table else 0.0)) * item.output_elements * width
        return replace(effort, cycles=effort.cycles + after)

    def _passes_effort(self, item: Reduction, width: int, placed: Placed) -> Effort:
        """A softmax or norm: its passes one after the other, or all of them together."""
        p, elements = self.parameters, max(item.input_elements, item.output_elements)
        soft = item.kind == "softmax"
        passes = p.softmax_passes if soft else p.norm_passes
        if not passes:
            rate = (p.softmax_cycles if soft else p.norm_cycles) or 0.0
            traffic = (p.softmax_traffic if soft else p.norm_traffic) or 0.0
            return streamed(elements, rate * width, elements * traffic * width)
        rows = item.batch * item.out_h * (p.softmax_row_cycles if soft else p.norm_row_cycles)
        serial = rows / p.clock
        moved: tuple[Moved, ...] = ()
        for trip in passes:
            effort = Effort(
                trip.cycles * elements * width, elements, 0.0, moved=trips.moves(trip, elements, width)
            )
            slowest = busy_seconds(self._loads(effort, placed), self.channel_rate)
            serial += max(effort.cycles / p.clock, slowest)
            moved += effort.moved
        return Effort(
            cycles=sum(trip.cycles for trip in passes) * elements * width + rows,
            outputs=elements * len(passes),
            activations=0.0,
            moved=moved,
            serial=serial,
            operators=len(passes),
        )

    def _move(self, kernel: Kernel, item: Move, behind: Epilogue, placed: Placed) -> Effort | Refusal:
        """Copies go through the DMA at memory speed or the output unit, short transposes and resizes through it."""
        p = self.parameters
        rate = p.copy_cycles
        if item.kind == "resize":
            rate = p.resize_cycles
        elif item.kind not in _COPIES:
            return Refusal(f"no kernel for {item.kind}")
        elif item.kind == "transpose":
            rate = p.transpose_cycles if item.run < SHORT_RUN else 0.0
        return self.move_effort(kernel, item, self._rate(rate, behind), placed)

    def _with_passes(self, kernel: Kernel, effort: Effort, passes: list[Pass]) -> Effort:
        """`effort` with the passes behind it; chained ones only read their operands."""
        outputs = self.stored_outputs(kernel)
        width = kernel.precision.activation_bits // 8
        moved = outputs * width
        own = 0 if self.parameters.chaining else 1
        operands = sum(step.operands for step in passes)
        return replace(
            effort,
            cycles=effort.cycles + own * sum(step.rate for step in passes) * outputs * width,
            outputs=effort.outputs + outputs * len(passes),
            activations=effort.activations + 2 * own * len(passes) * moved,
            moved=(*effort.moved, Moved("input", "second", operands * moved)),
            operators=effort.operators + own * len(passes),
        )

    def stored_outputs(self, kernel: Kernel) -> int:
        """Outputs as they are stored, padding included."""
        return kernel.workload.output_elements

    def channel_rate(self, memory: Memory, what: str) -> float:
        """Bytes per second at which the device moves `what` from or to `memory`, nothing else in its way."""
        del what
        return memory.bandwidth

    def _cost(self, kernel: Kernel, effort: Effort, placed: Placed) -> Cost:
        p = self.parameters
        loads = self._loads(effort, placed)
        constant = [load for load in loads if load.what in CONSTANT]
        waited = (placed.weights or self.weights).latency if effort.weights else 0.0
        stall = effort.stall / p.clock
        activation = busy_seconds((load for load in loads if load.what not in CONSTANT), self.channel_rate)
        weight = max(busy_seconds(constant, self.channel_rate) + waited, stall)
        compute = effort.cycles / p.clock
        work = compute + stall
        memory = busy_seconds(loads, self.channel_rate) + waited
        overhead = effort.operators * p.operator_cycles / p.clock
        seconds = max(max(work, memory) + (1 - p.overlap) * min(work, memory), effort.serial) + overhead
        terms = {effort.bound: compute, "weights": weight, "activations": activation, "overhead": overhead}
        energy = self._energy(effort, loads)
        details = dict(effort.details)
        output_cycles = details.get("output cycles", effort.cycles if effort.bound == "output" else 0.0)
        return Cost(
            seconds=seconds,
            joules=sum(energy.values()),
            utilisation=min(1.0, kernel.workload.macs / (self.peak().macs_per_second * seconds)),
            bound=max(terms, key=lambda name: terms[name]),
            compute_seconds=compute,
            weight_seconds=weight,
            activation_seconds=activation,
            output_seconds=output_cycles / p.clock,
            overhead_seconds=overhead,
            energy=energy,
            details={
                "macs": kernel.workload.macs,
                "cycles": effort.cycles,
                **details,
                **{f"{name} bytes": count for name, count in bytes_by_memory(loads).items()},
            },
        )

    def _with_scratch(self, kernel: Kernel, placed: Placed) -> Placed:
        """Intermediate results go where spilled activations go if the device's memory holds none of them."""
        item = kernel.workload
        large = isinstance(item, Reduction) and trips.WIDE * item.input_elements > self.activations.bytes
        return replace(placed, scratch=self.spill) if large and self.spill and not placed.scratch else placed

    def _loads(self, effort: Effort, placed: Placed) -> list[Load]:
        """What crosses the ports of which memory."""
        memories = {
            "input": placed.input or self.activations,
            "second": placed.second or placed.input or self.activations,
            "scratch": placed.scratch or self.activations,
            "output": placed.output or self.activations,
            "weights": placed.weights or self.weights,
            "own": self.activations,
        }
        moved = (
            Moved("input", "input", effort.activations),
            Moved("weights", "weights", effort.weights),
            *effort.moved,
        )
        return [Load(memories[item.where], item.what, item.bytes, item.bytes - item.ahead) for item in moved]

    def _energy(self, effort: Effort, loads: list[Load]) -> dict[str, float]:
        """Joules by term. The memories have a supply of their own."""
        p, scale = self.parameters, self.energy_scale
        energy = {
            "MACs": effort.macs * p.mac_energy * scale,
            "buffer": effort.buffer * p.buffer_energy * scale,
            "output unit": effort.outputs * p.output_energy * scale,
        }
        for load in loads:
            term = f"memory {load.memory.name}"
            energy[term] = energy.get(term, 0.0) + load.bytes * load.memory.energy_per_byte
        return energy


def _is_view(kernel: Kernel) -> bool:
    return isinstance(kernel.workload, Move) and kernel.workload.kind == "view"
