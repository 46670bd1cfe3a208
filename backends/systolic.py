"""Cost model of a systolic array: one operand stays in the cells, the others stream through.

Convolutions and products are G independent products [M x K] x [K x N]; one that is larger than the array is
folded. Cycles and operand reads of a fold are those of SCALE-Sim 3.0.0. Operands are fed from a buffer; the
activation memory is read once if a product's input fits there, else once per fold that needs it again.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from h4hc.backends.base import Peak
from h4hc.backends.engine import SCALE_BYTES, Count, Effort, Engine, EngineParameters, Epilogue
from h4hc.ir.cost import Refusal
from h4hc.ir.quantity import Bytes
from h4hc.ir.workload import Conv, Kernel, MatMul, Reduction

ACCUMULATOR_BYTES = 4

Dataflow = Literal["weight", "output", "input"]


class SystolicParameters(EngineParameters):
    """An array of rows x columns cells; `dataflow` names the operand that is stationary.

    `operand_buffer` holds the input of a product; partial sums of folds over K go to accumulators beside it.
    """

    rows: Count
    columns: Count
    dataflow: Dataflow
    operand_buffer: Bytes


class Product(NamedTuple):
    """`groups` products [m x k] x [k x n]."""

    groups: int
    m: int
    k: int
    n: int


class Folds(NamedTuple):
    """What a product takes: cycles, operands read from the buffer and results written to the accumulators
    (elements), and how many times each operand is streamed or loaded."""

    cycles: int
    first_reads: int
    second_reads: int
    first_passes: int
    second_passes: int
    sum_writes: int


def product(item: Conv | MatMul) -> Product:
    """The products of a layer. A transposed convolution multiplies each input pixel with the whole kernel."""
    if isinstance(item, MatMul):
        return Product(item.batch, item.m, item.k, item.n)
    taps = item.kernel_h * item.kernel_w
    k, n = item.in_channels // item.groups, item.out_channels // item.groups
    if item.transposed:
        return Product(item.batch * item.groups, item.in_h * item.in_w, k, n * taps)
    return Product(item.batch * item.groups, item.out_h * item.out_w, k * taps, n)


def folds(item: Product, rows: int, columns: int, dataflow: Dataflow) -> Folds:
    """One product of `item` on an array of rows x columns."""
    _, m, k, n = item
    if dataflow == "weight":
        along, across = -(-k // rows), -(-n // columns)
        cycles = along * across * (m + 2 * rows + columns - 2)
        return Folds(cycles, m * k * across, k * n, across, 1, m * n * along)
    if dataflow == "output":
        along, across = -(-m // rows), -(-n // columns)
        cycles = along * across * (k + rows + columns - 2)
        return Folds(cycles, m * k * across, k * n * along, across, along, m * n)
    along, across = -(-k // rows), -(-m // columns)
    cycles = along * across * (n + 2 * rows + columns - 2)
    return Folds(cycles, m * k, k * n * across, 1, across, m * n * along)


class Systolic(Engine):
    """One systolic array."""

    Parameters = SystolicParameters
    parameters: SystolicParameters

    def peak(self) -> Peak:
        """At full utilisation each byte from the buffer feeds a whole row of cells."""
        p = self.parameters
        joules = p.mac_energy + p.buffer_energy / p.columns
        return Peak(p.rows * p.columns * p.clock, joules)

    def array_effort(self, kernel: Kernel, behind: Epilogue) -> Effort | Refusal:
        """Folds one after the other; results leave through the output unit as they are done."""
        item, p = kernel.workload, self.parameters
        if not isinstance(item, Conv | MatMul):
            return Refusal(f"no kernel for {type(item).__name__}")
        width = kernel.precision.activation_bits // 8
        single = product(item)
        done = folds(single, p.rows, p.columns, p.dataflow)
        array = single.groups * done.cycles * width
        outputs = item.output_elements
        slowest = max(p.output_cycles, p.relu_cycles if behind.relu else 0.0)
        out = outputs * self._rate(slowest, behind) * width
        sums = single.groups * max(0, done.sum_writes - single.m * single.n)
        activations, weights = self._traffic(kernel, single, done, width)
        return Effort(
            cycles=max(array, out),
            outputs=outputs,
            activations=activations,
            macs=item.macs,
            weights=weights,
            buffer=single.groups * (done.first_reads + done.second_reads) * width
            + 2 * ACCUMULATOR_BYTES * sums,
            bound="output" if out > array else "compute",
            details=(
                ("array cycles", array),
                ("output cycles", out),
                ("first operand passes", done.first_passes),
                ("second operand passes", done.second_passes),
            ),
        )

    def _traffic(self, kernel: Kernel, single: Product, done: Folds, width: int) -> tuple[float, float]:
        """Bytes at the ports of the activation and of the weight memory."""
        p = self.parameters
        second = single.groups * single.k * single.n * width if not kernel.weight_bytes else 0
        first = kernel.input_bytes - second
        fits = first <= p.operand_buffer * single.groups
        activations = first * (1 if fits else done.first_passes) + second * done.second_passes
        activations += kernel.output_bytes
        if not kernel.weight_bytes:
            return activations, 0.0
        weights = kernel.weight_bytes * p.weight_compression + SCALE_BYTES * single.n * single.groups
        if self.weights is self.activations:
            return activations, weights * done.second_passes
        again = weights * (1 + done.second_passes) if done.second_passes > 1 else 0.0
        return activations + again, weights

    def pool_effort(self, item: Reduction, width: int, behind: Epilogue) -> Effort | Refusal:
        """The output unit takes the elements of each window one by one."""
        p = self.parameters
        window = max(item.kernel_h * item.kernel_w, -(-item.in_h // item.out_h) * -(-item.in_w // item.out_w))
        table = p.lut_cycles if behind.table else 0.0
        cycles = item.output_elements * (window * p.output_cycles + table + behind.chained) * width
        return Effort(
            cycles=cycles,
            outputs=item.output_elements * window,
            activations=(item.input_elements + item.output_elements) * width,
        )
