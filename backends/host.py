"""Cost model of the host: a core with a vector unit that runs whatever nothing else takes.

Cycles of convolutions follow cycles = outputs x (`output_cycles` + k x `mac_cycles`) + taps x
(`tap_cycles` + channels x `copy_cycles`): k products per output, and one copy call per tap of
the kernel and output pixel for im2col (none where `tap_cycles` is zero: the library convolves in place).
Outputs are computed `lanes` channels at a time. Everything else is cycles per element.
"""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import Field

from h4hc.backends.base import Backend, Peak, parameters
from h4hc.backends.rounding import quotient
from h4hc.backends.scaling import OperatingPoint, power_clock, static_watts
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.quantity import Hertz, JoulesPerCycle, SecondsOrZero, Watts
from h4hc.ir.target import Device, Memory, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction, Workload

Cycles = Annotated[float, Field(gt=0)]
CyclesOrZero = Annotated[float, Field(ge=0)]


class HostParameters(OperatingPoint):
    """`elementwise`, `reduction` and `move` give cycles per element by kind.

    An elementwise or reduction entry counts the larger of the elements read and written; the window of a pool
    counts every element it reads. `other` covers kinds that are not listed; `cycles_per_operation` is for operators
    known only by their operation count. Cycles are those of operands of `native_bits`; wider ones take
    proportionally longer, narrower ones as long.
    """

    clock: Hertz
    mac_cycles: Cycles
    depthwise_mac_cycles: Cycles
    output_cycles: Cycles
    tap_cycles: CyclesOrZero
    copy_cycles: Cycles
    call_cycles: Cycles
    cycles_per_operation: Cycles
    elementwise: dict[str, Cycles]
    reduction: dict[str, Cycles]
    move_run_cycles: Cycles
    lanes: Annotated[int, Field(ge=1, le=1024)] = 1
    native_bits: Annotated[int, Field(ge=1, le=64)] = 8
    cycle_energy: JoulesPerCycle
    static_power: Watts
    tile_overhead: SecondsOrZero


class Host(Backend):
    """Runs every kernel: it is where the target's inputs and outputs are, and the fallback."""

    Parameters = HostParameters
    parameters: HostParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = p = cast(HostParameters, parameters(device, HostParameters))
        self.activations = target.memory(device.memory)
        self.weights: Memory = target.memory(device.weights) if device.weights else self.activations
        self.static_watts = static_watts(p, p.static_power, p.clock, power_clock(device, p, p.clock))
        self.cycle_energy = p.cycle_energy * p.energy_scale
        self.tile_overhead_seconds = p.tile_overhead

    def peak(self) -> Peak:
        """The vector unit multiplying without overheads."""
        p = self.parameters
        return Peak(p.clock / p.mac_cycles, self.cycle_energy * p.mac_cycles)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """One way to run anything; operands wider than the native ones take proportionally longer."""
        p = self.parameters
        if isinstance(kernel.workload, Move) and kernel.workload.kind == "view":
            return (Cost(0.0, 0.0, 0.0, bound="overhead"),)
        operands = sum(step in ("add", "mul", "sub") for step in kernel.epilogue)
        width = max(1.0, max(kernel.precision) / p.native_bits)
        cycles = self._cycles(kernel.workload) * width + self._epilogue_cycles(kernel) * width + p.call_cycles
        moved = kernel.input_bytes + kernel.output_bytes * (1 + operands)
        activation = moved / self.activations.bandwidth
        weight = kernel.weight_bytes / self.weights.bandwidth
        compute = cycles / p.clock
        terms = {"compute": compute, "activations": activation, "weights": weight}
        seconds = max(terms.values())
        first, second = f"memory {self.activations.name}", f"memory {self.weights.name}"
        energy = {"core": cycles * self.cycle_energy, first: moved * self.activations.energy_per_byte}
        energy[second] = energy.get(second, 0.0) + kernel.weight_bytes * self.weights.energy_per_byte
        return (
            Cost(
                seconds=seconds,
                joules=sum(energy.values()),
                utilisation=min(1.0, kernel.workload.macs / (self.peak().macs_per_second * seconds)),
                source="generic" if isinstance(kernel.workload, Generic) else "analytical",
                bound=max(terms, key=lambda name: terms[name]),
                compute_seconds=compute,
                weight_seconds=weight,
                activation_seconds=activation,
                overhead_seconds=p.call_cycles / p.clock,
                energy=energy,
                details={
                    "macs": kernel.workload.macs,
                    "cycles": cycles,
                    "activation bytes": moved,
                    "weight bytes": kernel.weight_bytes,
                },
            ),
        )

    def _cycles(self, workload: Workload) -> float:
        """Cycles at the native width."""
        p = self.parameters
        match workload:
            case Conv():
                return self._conv_cycles(workload)
            case MatMul():
                macs = workload.batch * workload.m * workload.k * self._whole_lanes(workload.n)
                return macs * p.mac_cycles + workload.output_elements * p.output_cycles
            case Elementwise():
                per_element = p.elementwise.get(workload.kind, p.elementwise["other"])
                return max(workload.input_elements, workload.output_elements) * per_element
            case Reduction():
                per_element = p.reduction.get(workload.kind, p.reduction["other"])
                window = workload.output_elements * workload.kernel_h * workload.kernel_w
                return max(window, workload.input_elements, workload.output_elements) * per_element
            case Move():
                moved = max(workload.input_elements, workload.output_elements)
                return moved * p.copy_cycles + quotient(moved, workload.run) * p.move_run_cycles
            case Generic():
                return workload.operations * p.cycles_per_operation

    def _conv_cycles(self, conv: Conv) -> float:
        p = self.parameters
        taps = conv.kernel_h * conv.kernel_w
        channels = conv.in_channels // conv.groups
        if conv.transposed:
            # Each input pixel is multiplied into taps x output channels, which are then accumulated.
            return conv.macs * p.mac_cycles + conv.output_elements * p.output_cycles * 2
        depthwise = channels == 1 and conv.groups > 1
        in_parallel = conv.out_channels if depthwise else conv.out_channels // conv.groups
        filled = self._whole_lanes(in_parallel) / in_parallel
        mac_cycles = p.depthwise_mac_cycles if depthwise else p.mac_cycles
        cycles = conv.macs * mac_cycles * filled + conv.output_elements * p.output_cycles
        if taps > 1 and channels > 1 and p.tap_cycles > 0:
            copies = conv.batch * conv.out_h * conv.out_w * taps * conv.groups
            cycles += copies * (p.tap_cycles + channels * p.copy_cycles)
        return cycles

    def _whole_lanes(self, channels: int) -> int:
        """Channels that are computed when `channels` are wanted."""
        lanes = self.parameters.lanes
        return quotient(channels, lanes) * lanes

    def _epilogue_cycles(self, kernel: Kernel) -> float:
        """Bias, batch norm and clamps are part of requantisation; the rest is a pass over the output."""
        p = self.parameters
        return kernel.workload.output_elements * sum(
            p.elementwise.get(step, p.elementwise["other"])
            for step in kernel.epilogue
            if step not in ("bias", "batch_norm", "relu")
        )
