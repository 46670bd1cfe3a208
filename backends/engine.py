"""An engine: an array of multipliers beside an output unit, between an activation and a weight memory.

What all such devices share: the steps behind the array, element-wise operators, softmax and norms, data
movement, and time and energy from cycles and bytes. Time is max(C, M) + (1 - `overlap`) x min(C, M) +
operator overhead, where C is the time of array and output unit and M that of the slowest memory. What
the array itself takes is for subclasses to say.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple, cast

from pydantic import Field

from h4hc.backends.base import Backend, parameters, precision_refusal, precisions
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.quantity import Hertz, JoulesPerByte, JoulesPerElement, JoulesPerMac, SecondsOrZero, Watts
from h4hc.ir.target import Described, Device, Memory, PrecisionName, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction

SCALE_BYTES = 10  # bias, scale and shift per output channel
SHORT_RUN = 16  # elements; shorter runs of a transpose go through the output unit

Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_COPIES = frozenset({"transpose", "concat", "split", "slice", "pad", "expand"})


class EngineParameters(Described):
    """The output unit and the overheads. Cycles are per 8-bit element.

    `chaining` says that the steps of an epilogue run one after the other in the output unit; else each
    is a trip of its own through memory. Softmax and norms are decomposed: cycles and bytes of
    traffic per element of all their passes. `weight_compression` is encoded bytes per weight byte.
    """

    clock: Hertz
    output_cycles: Positive
    relu_cycles: Positive
    lut_cycles: Positive
    chaining: bool = False
    elementwise_cycles: dict[str, Positive]
    softmax_cycles: Positive
    softmax_traffic: Positive
    norm_cycles: Positive
    norm_traffic: Positive
    transpose_cycles: Positive
    resize_cycles: Positive
    weight_compression: Annotated[float, Field(gt=0, le=2)]
    overlap: Fraction
    operator_cycles: NotNegative
    mac_energy: JoulesPerMac
    output_energy: JoulesPerElement
    buffer_energy: JoulesPerByte
    static_power: Watts
    tile_overhead: SecondsOrZero
    precisions: Annotated[tuple[PrecisionName, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Effort:
    """What a kernel asks of the machine: cycles, MACs, elements through the output unit, and bytes.

    `buffer` bytes are read from the on-chip buffer, `activations` cross the port of the activation memory,
    `weights` that of the weight memory. `operators` are commands to start.
    """

    cycles: float
    outputs: float
    activations: float
    macs: float = 0.0
    weights: float = 0.0
    buffer: float = 0.0
    operators: int = 1
    bound: str = "output"
    details: tuple[tuple[str, float], ...] = ()


class Pass(NamedTuple):
    """One more trip over the output: cycles per element, and run-time operands read."""

    rate: float
    operands: int


class Epilogue(NamedTuple):
    """What runs behind an anchor: a fused clamp, a fused table, cycles per element of chained steps."""

    relu: bool
    table: bool
    chained: float


class Engine(Backend):
    """An array beside an output unit."""

    Parameters: ClassVar[type[EngineParameters]]
    parameters: EngineParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = p = cast(EngineParameters, parameters(device, self.Parameters))
        self.activations = target.memory(device.memory)
        self.weights: Memory = target.memory(device.weights) if device.weights else self.activations
        self.precisions = precisions(device, p.precisions)
        self.static_watts = p.static_power
        self.tile_overhead_seconds = p.tile_overhead

    @abstractmethod
    def array_effort(self, kernel: Kernel, behind: Epilogue) -> Effort | Refusal:
        """What the array takes for a convolution or product with what is fused or chained behind it."""

    @abstractmethod
    def pool_effort(self, item: Reduction, width: int, behind: Epilogue) -> Effort | Refusal:
        """What a pool or a reduction over height and width takes, at `width` bytes per element."""

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """One way to run what the array and the output unit can do."""
        workload = kernel.workload
        if isinstance(workload, Move) and workload.kind == "view":
            return (Cost(0.0, 0.0, 0.0, bound="overhead"),)
        if isinstance(workload, Generic):
            return Refusal(f"no kernel for {workload.op_type}")
        if kernel.precision not in self.precisions:
            return precision_refusal(self.name, kernel.precision, self.precisions)
        on_array = isinstance(workload, Conv | MatMul)
        planned = self._plan(kernel.epilogue, on_array)
        if isinstance(planned, Refusal):
            return planned
        table, passes = planned
        chained = sum(step.rate for step in passes) if self.parameters.chaining else 0.0
        effort = self._anchor(kernel, Epilogue("relu" in kernel.epilogue, table, chained))
        if isinstance(effort, Refusal):
            return effort
        return (self._cost(kernel, self._with_passes(kernel, effort, passes)),)

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

    def _anchor(self, kernel: Kernel, behind: Epilogue) -> Effort | Refusal:
        """The kernel with what is fused or chained behind it, without other passes."""
        width = kernel.precision.activation_bits // 8
        match kernel.workload:
            case Conv() | MatMul():
                return self.array_effort(kernel, behind)
            case Elementwise() as item:
                rate = self.parameters.elementwise_cycles.get(item.kind)
                if rate is None:
                    return Refusal(f"no kernel for elementwise {item.kind}")
                moved = kernel.input_bytes + kernel.output_bytes
                return streamed(item.elements, self._rate(rate, behind) * width, moved)
            case Reduction() as item:
                return self._reduction(item, width, behind)
            case Move() as item:
                return self._move(kernel, item, width, behind)
            case other:
                return Refusal(f"no kernel for {type(other).__name__}")

    def _rate(self, rate: float, behind: Epilogue) -> float:
        """Cycles per element of a pass at `rate` with a table and chained steps."""
        return max(rate, self.parameters.lut_cycles if behind.table else 0.0) + behind.chained

    def _reduction(self, item: Reduction, width: int, behind: Epilogue) -> Effort | Refusal:
        p = self.parameters
        if item.kind not in ("softmax", "layer_norm", "l2_norm"):
            return self.pool_effort(item, width, behind)
        elements = max(item.input_elements, item.output_elements)
        soft = item.kind == "softmax"
        rate = p.softmax_cycles if soft else p.norm_cycles
        traffic = p.softmax_traffic if soft else p.norm_traffic
        effort = streamed(elements, rate * width, elements * traffic * width)
        after = (behind.chained + (p.lut_cycles if behind.table else 0.0)) * item.output_elements * width
        return replace(effort, cycles=effort.cycles + after)

    def _move(self, kernel: Kernel, item: Move, width: int, behind: Epilogue) -> Effort | Refusal:
        """Copies go through the DMA at memory speed; short transposes and resizes via the output unit."""
        p = self.parameters
        moved = kernel.input_bytes + kernel.output_bytes
        rate = 0.0
        if item.kind == "resize":
            rate = p.resize_cycles
        elif item.kind not in _COPIES:
            return Refusal(f"no kernel for {item.kind}")
        elif item.kind == "transpose" and item.run < SHORT_RUN:
            rate = p.transpose_cycles
        elements = max(item.input_elements, item.output_elements)
        return streamed(elements, self._rate(rate, behind) * width, moved)

    def _with_passes(self, kernel: Kernel, effort: Effort, passes: list[Pass]) -> Effort:
        """`effort` with the passes behind it; chained ones only read their operands."""
        outputs = kernel.workload.output_elements
        width = kernel.precision.activation_bits // 8
        own = 0 if self.parameters.chaining else 1
        trips = sum(2 * own + step.operands for step in passes)
        return replace(
            effort,
            cycles=effort.cycles + own * sum(step.rate for step in passes) * outputs * width,
            outputs=effort.outputs + outputs * len(passes),
            activations=effort.activations + trips * kernel.output_bytes,
            operators=effort.operators + own * len(passes),
        )

    def _cost(self, kernel: Kernel, effort: Effort) -> Cost:
        p = self.parameters
        activation = effort.activations / self.activations.bandwidth
        weight = effort.weights / self.weights.bandwidth
        if effort.weights:
            weight += self.weights.latency
        compute = effort.cycles / p.clock
        shared = self.weights is self.activations
        memory = activation + weight if shared else max(activation, weight)
        overhead = effort.operators * p.operator_cycles / p.clock
        seconds = max(compute, memory) + (1 - p.overlap) * min(compute, memory) + overhead
        terms = {effort.bound: compute, "weights": weight, "activations": activation, "overhead": overhead}
        return Cost(
            seconds=seconds,
            joules=(
                effort.macs * p.mac_energy
                + effort.outputs * p.output_energy
                + effort.buffer * p.buffer_energy
                + effort.activations * self.activations.energy_per_byte
                + effort.weights * self.weights.energy_per_byte
            ),
            utilisation=min(1.0, kernel.workload.macs / (self.peak().macs_per_second * seconds)),
            bound=max(terms, key=lambda name: terms[name]),
            compute_seconds=compute,
            weight_seconds=weight,
            activation_seconds=activation,
            overhead_seconds=overhead,
            details={
                "macs": kernel.workload.macs,
                "cycles": effort.cycles,
                **dict(effort.details),
                f"{self.activations.name} bytes": effort.activations + (effort.weights if shared else 0),
                **({} if shared else {f"{self.weights.name} bytes": effort.weights}),
            },
        )


def streamed(elements: float, rate: float, moved: float) -> Effort:
    """One trip of `elements` through the output unit."""
    return Effort(cycles=elements * rate, outputs=elements, activations=moved)
