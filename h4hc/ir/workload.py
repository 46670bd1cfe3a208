"""What an operator computes, as loop bounds: the small closed set that cost models understand.

Workloads are hashable and hold no names, so that costs are cached by workload. All counts
are elements; bytes follow from a `Precision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Precision(NamedTuple):
    """Operand widths in bits, as deployed (not as stored in a float32 export)."""

    activation_bits: int = 8
    weight_bits: int = 8


@dataclass(frozen=True, slots=True)
class Conv:
    """A 2-D convolution, NCHW. A 1-D convolution over length L is out_h = L, out_w = 1.

    `transposed` marks a ConvTranspose; kernel, stride and dilation are those of the node, and
    in_h x in_w is the map that is read, out_h x out_w the one that is written.
    """

    batch: int
    in_channels: int
    out_channels: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    kernel_h: int
    kernel_w: int
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    groups: int = 1
    transposed: bool = False

    @property
    def macs(self) -> int:
        pixels = self.in_h * self.in_w if self.transposed else self.out_h * self.out_w
        return self.batch * pixels * self.weight_elements

    @property
    def weight_elements(self) -> int:
        return self.in_channels // self.groups * self.out_channels * self.kernel_h * self.kernel_w

    @property
    def input_elements(self) -> int:
        return self.batch * self.in_channels * self.in_h * self.in_w

    @property
    def output_elements(self) -> int:
        return self.batch * self.out_channels * self.out_h * self.out_w

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.in_channels


@dataclass(frozen=True, slots=True)
class MatMul:
    """`batch` independent products [m x k] x [k x n].

    `dynamic` is true when both operands are computed at run time (attention scores, attention
    x V); else the second operand is a constant weight. A linear
    layer over B·T rows has batch = 1 and m = B·T.
    """

    batch: int
    m: int
    k: int
    n: int
    dynamic: bool = False

    @property
    def macs(self) -> int:
        return self.batch * self.m * self.k * self.n

    @property
    def weight_elements(self) -> int:
        return 0 if self.dynamic else self.batch * self.k * self.n

    @property
    def input_elements(self) -> int:
        second = self.batch * self.k * self.n if self.dynamic else 0
        return self.batch * self.m * self.k + second

    @property
    def output_elements(self) -> int:
        return self.batch * self.m * self.n


@dataclass(frozen=True, slots=True)
class Elementwise:
    """One pass over `elements` outputs reading `inputs` run-time operands.

    `kind`: ``add``, ``sub``, ``mul``, ``div``, ``min``, ``max``, ``relu`` (any clamp), ``lut``
    (any unary function: int8 hardware evaluates it by a 256-entry table, however many ONNX
    nodes spell it), ``other``.
    """

    elements: int
    inputs: int
    kind: str

    macs = 0
    weight_elements = 0

    @property
    def input_elements(self) -> int:
        return self.elements * self.inputs

    @property
    def output_elements(self) -> int:
        return self.elements


@dataclass(frozen=True, slots=True)
class Reduction:
    """Pooling, mean, softmax, normalisation.

    `kind`: ``max_pool``, ``average_pool``, ``mean`` (also global pooling), ``max``, ``sum``,
    ``softmax``, ``layer_norm``, ``l2_norm``. Pooling and mean read in_h x in_w and write
    out_h x out_w for each channel with a kernel_h x kernel_w window. ``softmax`` and the norms
    are given as out_h = rows, channels = normalised length, all else 1.
    """

    kind: str
    batch: int
    channels: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    kernel_h: int = 1
    kernel_w: int = 1

    macs = 0
    weight_elements = 0

    @property
    def input_elements(self) -> int:
        return self.batch * self.channels * self.in_h * self.in_w

    @property
    def output_elements(self) -> int:
        return self.batch * self.channels * self.out_h * self.out_w


@dataclass(frozen=True, slots=True)
class Move:
    """Data movement without arithmetic.

    `kind`: ``view`` (free), ``transpose``, ``concat``, ``split``, ``slice``, ``pad``,
    ``resize``, ``gather``, ``expand``. `run` is the length in elements of the longest run that stays
    contiguous (1 for a transpose that moves the innermost axis).
    """

    kind: str
    input_elements: int
    output_elements: int
    run: int = 1

    macs = 0
    weight_elements = 0


@dataclass(frozen=True, slots=True)
class Generic:
    """Any other operator: known only by its ONNX type and its sizes; the host's roofline costs it.

    `operations` is the number of scalar operations, from a documented bound per operator type.
    """

    op_type: str
    input_elements: int
    output_elements: int
    operations: int

    macs = 0
    weight_elements = 0


Workload = Conv | MatMul | Elementwise | Reduction | Move | Generic


class Kernel(NamedTuple):
    """What one fused operator computes: the key under which costs are cached.

    `epilogue` lists, in order, what runs on each output element behind the anchor: ``bias``,
    ``batch_norm``, ``relu`` (any clamp), ``lut`` (any other unary function), ``add`` / ``mul`` / ``sub``
    (with a second tensor of the output's shape or one that broadcasts to it). `entropy` is that of
    the stored weights in bits per weight, in steps of 1/16 (None: not known, or not asked for); hardware that
    decodes compressed weights fetches about as many.
    """

    workload: Workload
    epilogue: tuple[str, ...] = ()
    precision: Precision = Precision()
    entropy: float | None = None

    @property
    def weight_bytes(self) -> int:
        return bits_to_bytes(self.workload.weight_elements * self.precision.weight_bits)

    @property
    def input_bytes(self) -> int:
        return bits_to_bytes(self.workload.input_elements * self.precision.activation_bits)

    @property
    def output_bytes(self) -> int:
        return bits_to_bytes(self.workload.output_elements * self.precision.activation_bits)


CLASSES = (
    "first convolution", "convolution", "pointwise", "depthwise", "fully connected", "product", "elementwise",
    "table", "pooling", "softmax", "norm", "transpose", "resize", "copy", "view", "other",
)  # fmt: skip


def kernel_class(kernel: Kernel) -> str:
    """The class under which errors and calibration factors of cost models are kept, one of `CLASSES`.

    A convolution of at most four input channels is a network's first; a product has two run-time operands;
    a table is any unary function.
    """
    match kernel.workload:
        case Conv() as conv:
            if conv.depthwise:
                return "depthwise"
            if conv.in_channels <= 4:
                return "first convolution"
            return "pointwise" if conv.kernel_h == conv.kernel_w == 1 else "convolution"
        case MatMul(dynamic=dynamic):
            return "product" if dynamic else "fully connected"
        case Elementwise(kind=kind):
            return "table" if kind == "lut" else "elementwise"
        case Reduction(kind=kind):
            return {"softmax": "softmax", "layer_norm": "norm", "l2_norm": "norm"}.get(kind, "pooling")
        case Move(kind=kind):
            return kind if kind in ("transpose", "resize", "view") else "copy"
        case _:
            return "other"


def bits_to_bytes(bits: int) -> int:
    """Bytes that hold `bits` bits."""
    return (bits + 7) // 8
