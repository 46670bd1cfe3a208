"""Cost model of the host: a microcontroller core with a vector unit that runs whatever nothing else takes.

Cycles of convolutions follow cycles = outputs x (`output_cycles` + k x `mac_cycles`) + taps x
(`tap_cycles` + channels x `copy_cycles`): k products per output, and one copy call per tap of
the kernel and output pixel for im2col. Everything else is cycles per element.
"""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import Field

from h4hc.backends.base import Backend, Peak, parameters
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.quantity import Hertz, JoulesPerCycle, SecondsOrZero, Watts
from h4hc.ir.target import Described, Device, Memory, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction, Workload

Cycles = Annotated[float, Field(gt=0)]


class HostParameters(Described):
    """`elementwise`, `reduction` and `move` give cycles per element by kind.

    An elementwise or reduction entry counts the larger of the elements read and written; the window of a pool
    counts every element it reads. `other` covers kinds that are not listed. `vector_bytes` is what one
    load moves; `cycles_per_operation` is for operators known only by their operation count.
    """

    clock: Hertz
    mac_cycles: Cycles
    depthwise_mac_cycles: Cycles
    output_cycles: Cycles
    tap_cycles: Cycles
    copy_cycles: Cycles
    call_cycles: Cycles
    cycles_per_operation: Cycles
    elementwise: dict[str, Cycles]
    reduction: dict[str, Cycles]
    move_run_cycles: Cycles
    cycle_energy: JoulesPerCycle
    static_power: Watts
    tile_overhead: SecondsOrZero


class Host(Backend):
    """Runs every kernel: it is where the target's inputs and outputs are, and the fallback."""

    Parameters = HostParameters
    parameters: HostParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = cast(HostParameters, parameters(device, HostParameters))
        self.activations = target.memory(device.memory)
        self.weights: Memory = target.memory(device.weights) if device.weights else self.activations
        self.static_watts = self.parameters.static_power
        self.tile_overhead_seconds = self.parameters.tile_overhead

    def peak(self) -> Peak:
        """The vector unit multiplying without overheads."""
        p = self.parameters
        return Peak(p.clock / p.mac_cycles, p.cycle_energy * p.mac_cycles)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """One way to run anything; operands wider than 8 bits take proportionally longer."""
        p = self.parameters
        if isinstance(kernel.workload, Move) and kernel.workload.kind == "view":
            return (Cost(0.0, 0.0, 0.0, bound="overhead"),)
        operands = sum(step in ("add", "mul", "sub") for step in kernel.epilogue)
        width = max(kernel.precision) / 8
        cycles = self._cycles(kernel.workload) * width + self._epilogue_cycles(kernel) * width + p.call_cycles
        moved = kernel.input_bytes + kernel.output_bytes * (1 + operands)
        activation = moved / self.activations.bandwidth
        weight = kernel.weight_bytes / self.weights.bandwidth
        compute = cycles / p.clock
        terms = {"compute": compute, "activations": activation, "weights": weight}
        seconds = max(terms.values())
        joules = (
            cycles * p.cycle_energy
            + moved * self.activations.energy_per_byte
            + kernel.weight_bytes * self.weights.energy_per_byte
        )
        return (
            Cost(
                seconds=seconds,
                joules=joules,
                utilisation=min(1.0, kernel.workload.macs / (self.peak().macs_per_second * seconds)),
                source="generic" if isinstance(kernel.workload, Generic) else "analytical",
                bound=max(terms, key=lambda name: terms[name]),
                compute_seconds=compute,
                weight_seconds=weight,
                activation_seconds=activation,
                overhead_seconds=p.call_cycles / p.clock,
                details={
                    "macs": kernel.workload.macs,
                    "cycles": cycles,
                    "activation bytes": moved,
                    "weight bytes": kernel.weight_bytes,
                },
            ),
        )

    def _cycles(self, workload: Workload) -> float:
        """Cycles at 8 bits."""
        p = self.parameters
        match workload:
            case Conv():
                return self._conv_cycles(workload)
            case MatMul():
                return workload.macs * p.mac_cycles + workload.output_elements * p.output_cycles
            case Elementwise():
                per_element = p.elementwise.get(workload.kind, p.elementwise["other"])
                return max(workload.input_elements, workload.output_elements) * per_element
            case Reduction():
                per_element = p.reduction.get(workload.kind, p.reduction["other"])
                window = workload.output_elements * workload.kernel_h * workload.kernel_w
                return max(window, workload.input_elements, workload.output_elements) * per_element
            case Move():
                moved = max(workload.input_elements, workload.output_elements)
                return moved * p.copy_cycles + _ceil(moved, workload.run) * p.move_run_cycles
            case Generic():
                return workload.operations * p.cycles_per_operation

    def _conv_cycles(self, conv: Conv) -> float:
        p = self.parameters
        taps = conv.kernel_h * conv.kernel_w
        channels = conv.in_channels // conv.groups
        if conv.transposed:
            # Each input pixel is multiplied into taps x output channels, which are then accumulated.
            return conv.macs * p.mac_cycles + conv.output_elements * p.output_cycles * 2
        mac_cycles = p.depthwise_mac_cycles if channels == 1 and conv.groups > 1 else p.mac_cycles
        cycles = conv.macs * mac_cycles + conv.output_elements * p.output_cycles
        if taps > 1 and channels > 1:
            copies = conv.batch * conv.out_h * conv.out_w * taps * conv.groups
            cycles += copies * (p.tap_cycles + channels * p.copy_cycles)
        return cycles

    def _epilogue_cycles(self, kernel: Kernel) -> float:
        """Bias, batch norm and clamps are part of requantisation; the rest is a pass over the output."""
        p = self.parameters
        return kernel.workload.output_elements * sum(
            p.elementwise.get(step, p.elementwise["other"])
            for step in kernel.epilogue
            if step not in ("bias", "batch_norm", "relu")
        )


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
