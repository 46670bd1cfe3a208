"""Cost model of an NPU of the Ethos-U class: a dot-product array beside an output unit.

Time is max(C, M) + (1 - `overlap`) x min(C, M) + operator overhead, where C is the time of array and output
unit and M that of the slowest memory. Weights stream from the device's `weights` memory: once
where one output block position needs them once, else once into the activation memory and
from there for each position. Operators that the hardware lacks are costed as the compiler decomposes
them, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import Field

from h4hc.backends import ethos
from h4hc.backends.base import Backend, Peak, parameters, precision_refusal, precisions
from h4hc.backends.layers import conv_layer, matmul_layer, pool_layer, product_layer
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.quantity import Hertz, JoulesPerByte, JoulesPerElement, JoulesPerMac, SecondsOrZero, Watts
from h4hc.ir.target import Described, Device, Memory, PrecisionName, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction

Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_COPIES = frozenset({"transpose", "concat", "split", "slice", "pad", "expand"})


class NpuParameters(Described):
    """The array, its output unit and its overheads. Cycles are per 8-bit element.

    `ublock` is the output micro-block (height, width, channels), `more_ublocks` others to choose from, and
    `channel_ublock` the one of layers that treat each channel alone (default: `ublock`). `step_channels` input
    channels make a step of the array. Input blocks and accumulators share `buffer_banks` of 1 KiB in steps of the
    granules, unless `input_banks` of them hold inputs only. `chaining` says that the steps of an
    epilogue run one after the other in the output unit; else each is a trip of its own through memory. Softmax
    and norms are decomposed: cycles and bytes of traffic per element of all their passes.
    `matmul_native` says whether a product of two activations runs on the array; else it is decomposed at
    `matmul_macs_per_cycle` and `matmul_traffic` bytes per MAC. `weight_compression` is encoded bytes
    per weight byte.
    """

    clock: Hertz
    cores: Count
    ublock: tuple[Count, Count, Count]
    more_ublocks: tuple[tuple[Count, Count, Count], ...] = ()
    channel_ublock: tuple[Count, Count, Count] | None = None
    step_channels: Literal[32, 64] = 32
    buffer_banks: Count
    input_banks: Annotated[int, Field(ge=0, strict=True)] = 0
    input_granule: Count
    accumulator_granule: Count
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
    matmul_native: bool
    matmul_macs_per_cycle: Positive = 1.0
    matmul_traffic: Positive = 3.0
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


class Npu(Backend):
    """One NPU."""

    Parameters = NpuParameters
    parameters: NpuParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = p = cast(NpuParameters, parameters(device, NpuParameters))
        self.activations = target.memory(device.memory)
        self.weights: Memory = target.memory(device.weights) if device.weights else self.activations
        self.precisions = precisions(device, p.precisions)
        self.static_watts = p.static_power
        self.tile_overhead_seconds = p.tile_overhead
        self.array = _array(p)

    def peak(self) -> Peak:
        """At full utilisation every activation byte from the buffer feeds all channels of a micro-block."""
        p = self.parameters
        joules = p.mac_energy + p.buffer_energy / p.ublock[2]
        return Peak(self.array.macs_per_cycle * p.clock, joules)

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
        fused_table, passes = planned
        chained = sum(step.rate for step in passes) if self.parameters.chaining else 0.0
        effort = self._anchor(kernel, fused_table, chained)
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

    def _anchor(self, kernel: Kernel, table: bool, chained: float) -> Effort | Refusal:
        """The kernel without its passes; `chained` cycles per output are what chained ones add to it."""
        width = kernel.precision.activation_bits // 8
        match kernel.workload:
            case Conv() as conv:
                layer = conv_layer(conv, width)
                if isinstance(layer, Refusal):
                    return layer
                return self._on_array(kernel, layer.layer, layer.repeat, table, chained, layer.copied_bytes)
            case MatMul() as matmul:
                return self._matmul(kernel, matmul, width, table, chained)
            case Elementwise() as item:
                rate = self.parameters.elementwise_cycles.get(item.kind)
                if rate is None:
                    return Refusal(f"no kernel for elementwise {item.kind}")
                rate = max(rate, self.parameters.lut_cycles if table else 0.0) + chained
                return _streamed(item.elements, rate * width, kernel.input_bytes + kernel.output_bytes)
            case Reduction() as item:
                return self._reduction(item, width, table, chained)
            case Move() as item:
                return self._move(kernel, item, width, table, chained)
            case other:
                return Refusal(f"no kernel for {type(other).__name__}")

    def _matmul(self, kernel: Kernel, item: MatMul, width: int, table: bool, chained: float) -> Effort:
        p = self.parameters
        if not item.dynamic or p.matmul_native:
            layer = product_layer(item, width) if item.dynamic else matmul_layer(item, width)
            return self._on_array(kernel, layer, item.batch, table, chained)
        return Effort(
            cycles=(item.macs / p.matmul_macs_per_cycle + item.output_elements * chained) * width,
            outputs=item.macs,
            activations=item.macs * p.matmul_traffic * width + kernel.input_bytes + kernel.output_bytes,
            macs=item.macs,
            bound="compute",
            details=(("decomposed", 1.0),),
        )

    def _on_array(
        self,
        kernel: Kernel,
        layer: ethos.Layer,
        repeat: int,
        table: bool,
        chained: float,
        copied: float = 0.0,
    ) -> Effort:
        """`layer` run `repeat` times, each with its share of the weights, after copying `copied` bytes."""
        p = self.parameters
        done = ethos.work(self.array, layer, table, "relu" in kernel.epilogue, chained)
        scales = ethos.SCALE_BYTES * layer.out_c * repeat if kernel.weight_bytes else 0
        weights = kernel.weight_bytes * p.weight_compression + scales
        buffered = weights * (1 + done.weight_passes) if done.weight_passes > 1 else 0.0
        if self.weights is self.activations:
            weights, buffered = weights * done.weight_passes, 0.0
        second = (
            kernel.input_bytes - _first_operand_bytes(kernel) if isinstance(kernel.workload, MatMul) else 0
        )
        cycles = repeat * (done.cycles + self._edge_cycles(done, scaled=kernel.weight_bytes > 0))
        fanout = 1 if layer.depthwise else p.ublock[2]
        return Effort(
            cycles=cycles,
            outputs=kernel.workload.output_elements,
            activations=repeat * (done.read_bytes + done.written_bytes)
            + buffered
            + copied
            + second * done.weight_passes,
            macs=kernel.workload.macs,
            weights=weights,
            buffer=kernel.workload.macs * layer.width / fanout,
            bound="output" if done.output_cycles > done.mac_cycles else "compute",
            details=(
                ("array cycles", repeat * done.mac_cycles),
                ("output cycles", repeat * done.output_cycles),
                ("block height", done.block.h),
                ("block width", done.block.w),
                ("block channels", done.block.d),
                ("weight passes", done.weight_passes),
            ),
        )

    def _edge_cycles(self, done: ethos.Work, scaled: bool) -> float:
        """Filling the first and draining the last block, and the scales if there are any and no buffer."""
        clock = self.parameters.clock
        scales = ethos.SCALE_BYTES * done.block.d * self.weights.latency * clock / 256
        tail = max(0.0, scales - done.drain_cycles) if scaled and done.weight_passes == 1 else 0.0
        return clock * (done.edge_bytes / self.activations.bandwidth + 2 * self.activations.latency) + tail

    def _reduction(self, item: Reduction, width: int, table: bool, chained: float) -> Effort | Refusal:
        p = self.parameters
        elements = max(item.input_elements, item.output_elements)
        after = (chained + (p.lut_cycles if table else 0.0)) * item.output_elements * width
        if item.kind in ("softmax", "layer_norm", "l2_norm"):
            soft = item.kind == "softmax"
            rate = p.softmax_cycles if soft else p.norm_cycles
            traffic = p.softmax_traffic if soft else p.norm_traffic
            effort = _streamed(elements, rate * width, elements * traffic * width)
            return replace(effort, cycles=effort.cycles + after)
        layer = pool_layer(item, width)
        if isinstance(layer, Refusal):
            return layer
        done = ethos.work(self.array, layer, table, chained=chained)
        read = max(done.read_bytes * item.batch, item.input_elements * width)
        return Effort(
            cycles=item.batch * (done.cycles + self._edge_cycles(done, scaled=False)),
            outputs=item.output_elements,
            activations=read + item.batch * done.written_bytes,
            buffer=read,
            bound="output" if done.output_cycles > done.mac_cycles else "compute",
            details=(("array cycles", item.batch * done.mac_cycles),),
        )

    def _move(self, kernel: Kernel, item: Move, width: int, table: bool, chained: float) -> Effort | Refusal:
        """Copies go through the DMA at memory speed; short transposes and resizes via the output unit."""
        p = self.parameters
        moved = kernel.input_bytes + kernel.output_bytes
        rate = p.lut_cycles if table else 0.0
        if item.kind == "resize":
            rate = max(rate, p.resize_cycles)
        elif item.kind not in _COPIES:
            return Refusal(f"no kernel for {item.kind}")
        elif item.kind == "transpose" and item.run < ethos.BRICK:
            rate = max(rate, p.transpose_cycles)
        return _streamed(max(item.input_elements, item.output_elements), (rate + chained) * width, moved)

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
            utilisation=min(1.0, kernel.workload.macs / (self.array.macs_per_cycle * p.clock * seconds)),
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


def _array(p: NpuParameters) -> ethos.Array:
    ublocks = tuple(ethos.UBlock(*sizes) for sizes in (p.ublock, *p.more_ublocks))
    return ethos.Array(
        ublocks=ublocks,
        channel_ublock=ethos.UBlock(*p.channel_ublock) if p.channel_ublock else ublocks[0],
        cores=p.cores,
        step=p.step_channels,
        banks=p.buffer_banks,
        input_banks=p.input_banks,
        input_granule=p.input_granule,
        accumulator_granule=p.accumulator_granule,
        output=p.output_cycles,
        relu=p.relu_cycles,
        lut=p.lut_cycles,
    )


def _streamed(elements: float, rate: float, moved: float) -> Effort:
    """One trip of `elements` through the output unit."""
    return Effort(cycles=elements * rate, outputs=elements, activations=moved)


def _first_operand_bytes(kernel: Kernel) -> int:
    item = kernel.workload
    if not isinstance(item, MatMul):
        return kernel.input_bytes
    return item.batch * item.m * item.k * kernel.precision.activation_bits // 8
