"""A device whose analytical model can be worked out by hand, and rows measured on it.

100 MACs or element operations per cycle at 100 MHz, activations and weights at 1 GB/s each, in two memories,
1 us per operator, traffic and compute fully overlapped, 1 pJ per MAC and 1 nJ per operator, 1 mW idle.
"""

from __future__ import annotations

from typing import Any, cast

from h4hc.backends.base import Backend, Peak, parameters
from h4hc.backends.profiles.kernels import canonical
from h4hc.backends.profiles.table import Measurement, Profile
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.quantity import Hertz
from h4hc.ir.target import Described, Device, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul

MHZ = 1e6


class ToyParameters(Described):
    clock: Hertz = 100 * MHZ
    overlap: float = 1.0
    operator_cycles: float = 100.0


class Toy(Backend):
    Parameters = ToyParameters
    parameters: ToyParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.parameters = cast(ToyParameters, parameters(device, ToyParameters))
        self.activations = target.memory(device.memory)
        self.weights = target.memory(device.weights or device.memory)
        self.static_watts = 1e-3
        self.asked = 0

    def peak(self) -> Peak:
        return Peak(100 * self.parameters.clock, 1e-12)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        self.asked += 1
        if isinstance(kernel.workload, Generic):
            return Refusal("no such kernel")
        p = self.parameters
        work = kernel.workload.macs or kernel.workload.output_elements
        compute = work / 100 / p.clock
        activation = (kernel.input_bytes + kernel.output_bytes) / self.activations.bandwidth
        weight = kernel.weight_bytes / self.weights.bandwidth
        memory, overhead = max(activation, weight), p.operator_cycles / p.clock
        seconds = max(compute, memory) + (1 - p.overlap) * min(compute, memory) + overhead
        return (
            Cost(
                seconds=seconds,
                joules=work * 1e-12 + 1e-9,
                utilisation=compute / seconds,
                compute_seconds=compute,
                activation_seconds=activation,
                weight_seconds=weight,
                overhead_seconds=overhead,
                energy={"MACs": work * 1e-12, "other": 1e-9},
            ),
        )


def target(profiles: list[str] | None = None, **settings: Any) -> Target:
    """A system of one toy and a host."""
    memory = {
        "kind": "sram",
        "bytes": "2 MiB",
        "bandwidth": "1 GB/s",
        "latency": "0 s",
        "energy_per_byte": "1 pJ/B",
    }
    toy = {"name": "toy", "kind": "toy", "memory": "sram", "weights": "flash", "parameters": settings}
    host = {"name": "host", "kind": "host", "preset": "cortex-m55", "memory": "sram"}
    return Target.model_validate(
        {
            "h4hc_target": "1.0",
            "name": "test",
            "io": "host",
            "handoff": "1 us",
            "memories": [{**memory, "name": "sram"}, {**memory, "name": "flash", "kind": "flash"}],
            "devices": [{**toy, "profiles": profiles or []}, host],
        }
    )


def toy(**settings: Any) -> Toy:
    described = target(**settings)
    return Toy(described.device("toy"), described)


def linear(m: int = 100, k: int = 100, n: int = 100, epilogue: tuple[str, ...] = ()) -> Kernel:
    """m k n MACs: 1 M by default, 100 us of compute; its 30 KB take 20 and 10 us."""
    return Kernel(MatMul(1, m, k, n), epilogue)


def conv(channels: int = 16, size: int = 10, kernel: int = 3) -> Kernel:
    return Kernel(Conv(1, channels, channels, size, size, size, size, kernel, kernel), ("bias", "relu"))


def add(elements: int = 1000) -> Kernel:
    return Kernel(Elementwise(elements, 2, "add"))


def row(kernel: Kernel, seconds: float, **more: Any) -> Measurement:
    return Measurement(canonical(kernel), seconds, **more)


def profile(*rows: Measurement, **more: Any) -> Profile:
    return Profile("ACME", "cc 1", rows, **more)
