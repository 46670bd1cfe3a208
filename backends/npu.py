"""Cost model of an NPU of the Ethos-U class: a dot-product array with output micro-blocks.

Weights stream from the device's `weights` memory: once where one output block position needs them once, else
once into the activation memory and from there for each position. Operators that the hardware lacks are
costed as the compiler decomposes them, or refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from h4hc.backends import ethos
from h4hc.backends.base import Peak
from h4hc.backends.engine import SCALE_BYTES, Count, Effort, Engine, EngineParameters, Epilogue, Positive
from h4hc.backends.layers import conv_layer, matmul_layer, pool_layer, product_layer
from h4hc.ir.cost import Refusal
from h4hc.ir.target import Device, Target
from h4hc.ir.workload import Conv, Kernel, MatMul, Reduction


class NpuParameters(EngineParameters):
    """The array.

    `ublock` is the output micro-block (height, width, channels), `more_ublocks` others to choose from, and
    `channel_ublock` the one of layers that treat each channel alone (default: `ublock`). `step_channels`
    input channels make a step of the array. Input blocks and accumulators share `buffer_banks` of 1 KiB in
    steps of the granules, unless `input_banks` of them hold inputs only. `matmul_native` says whether a
    product of two activations runs on the array; else it is decomposed at `matmul_macs_per_cycle` and
    `matmul_traffic` bytes per MAC.
    """

    cores: Count
    ublock: tuple[Count, Count, Count]
    more_ublocks: tuple[tuple[Count, Count, Count], ...] = ()
    channel_ublock: tuple[Count, Count, Count] | None = None
    step_channels: Literal[32, 64] = 32
    buffer_banks: Count
    input_banks: Annotated[int, Field(ge=0, strict=True)] = 0
    input_granule: Count
    accumulator_granule: Count
    matmul_native: bool
    matmul_macs_per_cycle: Positive | None = None
    matmul_traffic: Positive | None = None

    @model_validator(mode="after")
    def _decomposition(self) -> NpuParameters:
        if not self.matmul_native and None in (self.matmul_macs_per_cycle, self.matmul_traffic):
            raise ValueError("matmul_native: is false; give matmul_macs_per_cycle and matmul_traffic")
        return self


class Npu(Engine):
    """One NPU."""

    Parameters = NpuParameters
    parameters: NpuParameters

    def __init__(self, device: Device, target: Target) -> None:
        super().__init__(device, target)
        self.array = _array(self.parameters)

    def peak(self) -> Peak:
        """At full utilisation every activation byte from the buffer feeds all channels of a micro-block."""
        p = self.parameters
        joules = p.mac_energy + p.buffer_energy / p.ublock[2]
        return Peak(self.array.macs_per_cycle * p.clock, joules)

    def array_effort(self, kernel: Kernel, behind: Epilogue) -> Effort | Refusal:
        """Layers of the array; products of two activations are decomposed where it lacks them."""
        width = kernel.precision.activation_bits // 8
        match kernel.workload:
            case Conv() as conv:
                found = conv_layer(conv, width)
                if isinstance(found, Refusal):
                    return found
                return self._on_array(kernel, found.layer, found.repeat, behind, found.copied_bytes)
            case MatMul() as item:
                return self._matmul(kernel, item, width, behind)
            case other:
                return Refusal(f"no kernel for {type(other).__name__}")

    def _matmul(self, kernel: Kernel, item: MatMul, width: int, behind: Epilogue) -> Effort:
        p = self.parameters
        if item.dynamic and p.matmul_macs_per_cycle and p.matmul_traffic and not p.matmul_native:
            after = item.output_elements * behind.chained
            return Effort(
                cycles=(item.macs / p.matmul_macs_per_cycle + after) * width,
                outputs=item.macs,
                activations=item.macs * p.matmul_traffic * width + kernel.input_bytes + kernel.output_bytes,
                macs=item.macs,
                bound="compute",
                details=(("decomposed", 1.0),),
            )
        layer = product_layer(item, width) if item.dynamic else matmul_layer(item, width)
        return self._on_array(kernel, layer, item.batch, behind)

    def pool_effort(self, item: Reduction, width: int, behind: Epilogue) -> Effort | Refusal:
        """The array pools, each channel alone."""
        layer = pool_layer(item, width)
        if isinstance(layer, Refusal):
            return layer
        done = ethos.work(self.array, layer, behind.table, chained=behind.chained)
        read = max(done.read_bytes * item.batch, item.input_elements * width)
        return Effort(
            cycles=item.batch * (done.cycles + self._edge_cycles(done, scaled=False)),
            outputs=item.output_elements,
            activations=read + item.batch * done.written_bytes,
            buffer=read,
            bound="output" if done.output_cycles > done.mac_cycles else "compute",
            details=(("array cycles", item.batch * done.mac_cycles),),
        )

    def _on_array(
        self, kernel: Kernel, layer: ethos.Layer, repeat: int, behind: Epilogue, copied: float = 0.0
    ) -> Effort:
        """`layer` run `repeat` times, each with its share of the weights, after copying `copied` bytes."""
        p = self.parameters
        done = ethos.work(self.array, layer, behind.table, behind.relu, behind.chained)
        scales = SCALE_BYTES * layer.out_c * repeat if kernel.weight_bytes else 0
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
        scales = SCALE_BYTES * done.block.d * self.weights.latency * clock / 256
        tail = max(0.0, scales - done.drain_cycles) if scaled and done.weight_passes == 1 else 0.0
        return clock * (done.edge_bytes / self.activations.bandwidth + 2 * self.activations.latency) + tail


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


def _first_operand_bytes(kernel: Kernel) -> int:
    item = kernel.workload
    if not isinstance(item, MatMul):
        return kernel.input_bytes
    return item.batch * item.m * item.k * kernel.precision.activation_bits // 8
