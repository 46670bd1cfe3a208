"""Cycles and traffic of a dot-product array with output micro-blocks, the class of the Arm Ethos-U.

The array computes a micro-block of outputs (height x width x channels) with a dot product of eight
input channels each, and works through the output in blocks that fit its buffer. The closed
forms, and the way the block is chosen, restate what the public Vela compiler (ethos-u-vela 5.2.0) does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DOT = 8  # input channels per dot product
SUB_KERNEL = 8  # longer kernel axes are split
BRICK = 16  # channels per storage brick of a feature map
BANK = 1024  # bytes per bank of the on-chip buffer
RESERVED_BANKS = 4  # of a shared buffer: two for output, two for tables
DECODER_FLOOR = 32  # cycles that the weight decoder needs per step
PIPELINE_DELAY = 2  # extra cycles per step of a block that is one micro-block wide
POOL_FACTOR = 4  # cycles per pooled element of a micro-block, 8 bit
MAX_BLOCK = (32, 64, 128)
MAX_WIDE_BLOCK = (128, 128, 512)  # of an array with separate buffers


class UBlock(NamedTuple):
    """An output micro-block."""

    h: int
    w: int
    d: int


class Array(NamedTuple):
    """An array: micro-blocks, cores, and the on-chip buffer in banks with its allocation granules.

    `ublocks` are those that the array may choose from for layers that sum over channels, `channel_ublock` the
    one for the others. `step` is the input channels of one step (32 in Ethos-U55 and U65, 64 in U85).
    `input_banks` hold inputs only; 0 if inputs and accumulators share the buffer.
    `output`, `relu` and `lut` are cycles per 8-bit output element.
    """

    ublocks: tuple[UBlock, ...]
    channel_ublock: UBlock
    cores: int
    step: int
    banks: int
    input_banks: int
    input_granule: int
    accumulator_granule: int
    output: float
    relu: float
    lut: float

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle of all cores."""
        h, w, d = self.ublocks[0]
        return self.cores * h * w * d * DOT

    @property
    def block_banks(self) -> int:
        """Banks for input blocks and accumulators."""
        return self.banks - (0 if self.input_banks else RESERVED_BANKS)

    @property
    def wide(self) -> bool:
        """Whether a step takes 64 channels, or as many as there are."""
        return self.step > 32


class Layer(NamedTuple):
    """A convolution or pool as the array sees it; `depthwise` and `pooling` treat each channel alone.

    The kernel has kernel_h x kernel_w elements; with the gaps of a dilation it spans span_h x span_w inputs.
    `width` is bytes per activation. `product` marks a product of two activations.
    """

    out_h: int
    out_w: int
    out_c: int
    in_h: int
    in_w: int
    in_c: int
    kernel_h: int
    kernel_w: int
    span_h: int
    span_w: int
    stride_h: int = 1
    stride_w: int = 1
    depthwise: bool = False
    pooling: bool = False
    width: int = 1
    product: bool = False

    @property
    def per_channel(self) -> bool:
        """Whether an output channel depends on one input channel."""
        return self.depthwise or self.pooling


class Block(NamedTuple):
    """An output block."""

    h: int
    w: int
    d: int


class Work(NamedTuple):
    """What a layer costs.

    Cycles of array and output unit together and alone, cycles to drain one block, bytes of
    activations read and written, how often the weights are read, bytes of the first input block and the last
    output block, and the block.
    """

    cycles: float
    mac_cycles: float
    output_cycles: float
    drain_cycles: float
    read_bytes: float
    written_bytes: float
    weight_passes: int
    edge_bytes: float
    block: Block


def work(array: Array, layer: Layer, lut: bool = False, relu: bool = False, chained: float = 0.0) -> Work:
    """The cost of `layer` in the blocks that `choose_block` picks, clipped to the output.

    `chained` is what further operators in the output unit take per element.
    """
    block = choose_block(array, layer)
    h, w, d = min(block.h, layer.out_h), min(block.w, layer.out_w), min(block.d, layer.out_c)
    count = _block_count(array, layer, Block(h, w, d))
    blocks_xy = _ceil(layer.out_h, h) * _ceil(layer.out_w, w)
    rate = max(array.output, array.lut if lut else 0.0, array.relu if relu else 0.0) + chained
    mac = block_mac_cycles(array, layer, Block(h, w, d))
    out = h * w * d * rate * layer.width
    command = (mac + out) / 4  # four commands are in flight
    m, a = max(mac, command), max(out, command)
    in_h, in_w = _input_extent(array, layer, block.h, block.w)
    rows, columns = _fetched_extent(array, layer, block)
    depth = d if layer.per_channel else _block_input_depth(array, layer)
    pieces = len(_pieces(layer.span_h)) * len(_pieces(layer.span_w))
    fetched = rows * columns * _up(d if layer.per_channel else layer.in_c, BRICK) * layer.width
    return Work(
        cycles=max(m, a) * count + min(m, a),
        mac_cycles=mac * count,
        output_cycles=out * count,
        drain_cycles=a,
        read_bytes=fetched * _ceil(layer.out_c, d) * pieces,
        written_bytes=layer.out_h * layer.out_w * _up(layer.out_c, BRICK) * layer.width,
        weight_passes=blocks_xy,
        edge_bytes=(in_h * in_w * min(depth, layer.in_c) + h * w * d) * layer.width,
        block=Block(h, w, d),
    )


def _block_count(array: Array, layer: Layer, block: Block) -> float:
    """Output blocks, the last ones by fraction: of outputs, or of whole micro-blocks in a wide array."""
    if not array.wide:
        return layer.out_h / block.h * layer.out_w / block.w * layer.out_c / block.d
    ublock = micro_block(array, layer)
    in_layer = _micro_blocks(Block(layer.out_h, layer.out_w, layer.out_c), ublock)
    return in_layer / _micro_blocks(block, ublock)


def block_mac_cycles(array: Array, layer: Layer, block: Block) -> float:
    """Cycles of the array for one output block."""
    uh, uw, ud = micro_block(array, layer)
    nxy = _ceil(block.h, uh) * _ceil(block.w, uw)
    nz = _ceil(block.d, ud)
    width = layer.width if layer.per_channel else 1  # other layers take fewer channels per step instead
    delay = PIPELINE_DELAY if nxy == 1 else 0
    floor = DECODER_FLOOR * ud // 8
    step = max(floor, 4 * nxy * width + delay)
    deep = max(floor, _depth_beats(array, layer) * nxy + delay)
    depth = _block_input_depth(array, layer)
    total = 0
    for kh in _pieces(layer.kernel_h):
        for kw in _pieces(layer.kernel_w):
            taps = kh * kw
            if layer.pooling:
                total += max(4, taps) * nxy * nz * POOL_FACTOR * layer.width
            elif layer.depthwise:
                total += step * _ceil(taps, 4) * nz
            elif part_kernel_first(array, layer):
                total += step * _ceil(taps, 4) * _ceil(depth, DOT) * nz * _ceil(layer.in_c, depth)
            else:
                total += deep * taps * nz * _ceil(layer.in_c, depth)
    return total / array.cores


def _depth_beats(array: Array, layer: Layer) -> int:
    """Cycles per micro-block of a step through the channels; a wide array leaves out missing channels."""
    return _ceil(min(layer.in_c, array.step), DOT) if array.wide else array.step // DOT


def micro_block(array: Array, layer: Layer) -> UBlock:
    """The micro-block: the one that pads the output least, or the first of those.

    With only one to choose from, 2x2 becomes 1x4 where the output is one row of even width.
    """
    narrow = layer.per_channel and layer.width == 1
    choice = (array.channel_ublock,) if narrow else array.ublocks
    first = choice[0]
    if len(choice) > 1:
        output = Block(layer.out_h, layer.out_w, layer.out_c)
        return min(choice, key=lambda u: _micro_blocks(output, u) * u.h * u.w * u.d)
    if layer.out_h == 1 and layer.out_w % 2 == 0 and first.h == 2:
        return UBlock(1, first.h * first.w, first.d)
    return first


def _micro_blocks(block: Block, ublock: UBlock) -> int:
    return _ceil(block.h, ublock.h) * _ceil(block.w, ublock.w) * _ceil(block.d, ublock.d)


def part_kernel_first(array: Array, layer: Layer) -> bool:
    """Whether the array steps through four kernel elements at a time, not through `array.step` channels."""
    taps = layer.kernel_h * layer.kernel_w
    if array.wide:
        if layer.product:
            return False
        rounded = taps // 5 * 5 + max(taps % 5, 2)
        part = layer.in_c * taps / (_up(layer.in_c, BRICK) * rounded)
        return part >= layer.in_c / _up(layer.in_c, array.step)
    if layer.in_c <= DOT:
        return True
    part = layer.in_c * taps / (_up(layer.in_c, DOT) * _up(taps, 4))
    return part > layer.in_c / _up(layer.in_c, array.step)


def choose_block(array: Array, layer: Layer) -> Block:
    """The block that fits the buffer with the least traffic per output, as the compiler chooses it.

    The buffer holds two input blocks and two blocks of 32-bit accumulators, or one each where separate
    buffers serve a layer that treats each channel alone. Ties go to the larger input block.
    """
    ublock = micro_block(array, layer)
    copies = 1 if array.input_banks and layer.per_channel else 2
    h, w, d = _candidates(array, ublock, copies)
    deepest = _up(layer.out_c, ublock.d)
    fits = (h < layer.out_h + ublock.h) & (w < layer.out_w + ublock.w)
    if deepest < d[-1] or deepest % BRICK:
        fits &= (d <= deepest) & ((d % BRICK == 0) | (d == deepest))
    else:
        fits &= d % BRICK == 0
    h, w, d = h[fits], w[fits], d[fits]
    in_h = _up_array((h - 1) * layer.stride_h + min(SUB_KERNEL, layer.span_h), ublock.h)
    in_w = _up_array((w - 1) * layer.stride_w + min(SUB_KERNEL, layer.span_w), ublock.w)
    area = in_h * in_w
    depth = d if layer.per_channel else np.array(_block_input_depth(array, layer))
    inputs = _up_array(
        _ceil_array(area * _up_array(depth * layer.width, 8), BANK) * copies, array.input_granule
    )
    room = array.input_banks or array.block_banks - _sum_banks(array, h, w, d, copies)
    cost = _relative_traffic(layer, h, w, d, area)
    whole = layer.in_h * layer.in_w * layer.in_c < area * depth * 2
    cost = np.where(inputs <= room, np.where(whole, cost / 2, cost), np.inf)
    least = cost.min(initial=np.inf)
    if not np.isfinite(least):
        return Block(*ublock)
    best = int(np.argmax(np.where(cost == least, area, -1)))
    return Block(int(h[best]), int(w[best]), int(d[best]))


_Ints = npt.NDArray[np.int64]


@lru_cache(maxsize=64)
def _candidates(array: Array, ublock: UBlock, copies: int) -> tuple[_Ints, _Ints, _Ints]:
    """Height, width and depth of the blocks whose accumulators fit the buffer, shallow ones first."""
    most = MAX_WIDE_BLOCK if array.input_banks else MAX_BLOCK
    d, h, w = (
        grid.ravel()
        for grid in np.meshgrid(
            np.arange(ublock.d, most[2] + 1, ublock.d, dtype=np.int64),
            np.arange(ublock.h, most[0] + 1, ublock.h, dtype=np.int64),
            np.arange(ublock.w, most[1] + 1, ublock.w, dtype=np.int64),
            indexing="ij",
        )
    )
    fits = _sum_banks(array, h, w, d, copies) <= array.block_banks - array.input_banks
    return h[fits], w[fits], d[fits]


def _sum_banks(array: Array, h: _Ints, w: _Ints, d: _Ints, copies: int) -> _Ints:
    """Banks of the accumulators of a block."""
    return _up_array(_ceil_array(h * w * _up_array(d, 8) * 4, BANK) * copies, array.accumulator_granule)


def _relative_traffic(layer: Layer, h: _Ints, w: _Ints, d: _Ints, area: _Ints) -> npt.NDArray[np.float64]:
    """Weights and inputs fetched by all blocks (weights once per block position, inputs once per block).

    A product of two activations goes by the number of blocks.
    """
    if layer.product:
        return np.asarray(1.0 / (h * w * d))
    positions = _ceil_array(layer.out_h, h) * _ceil_array(layer.out_w, w)
    weights = layer.kernel_h * layer.kernel_w * layer.in_c * positions
    inputs = area * layer.in_c * (layer.out_h / h) * (layer.out_w / w)
    if layer.per_channel:
        return np.asarray(weights + inputs)
    return np.asarray(weights * float(layer.out_c) + inputs * _ceil_array(layer.out_c, d))


def _block_input_depth(array: Array, layer: Layer) -> int:
    """Input channels per pass of the array: a step, or a brick if it steps through the kernel first."""
    most = (BRICK if part_kernel_first(array, layer) else array.step) // layer.width
    return min(_up(layer.in_c, DOT), most)


def _fetched_extent(array: Array, layer: Layer, block: Block) -> tuple[int, int]:
    """Input rows and columns that all blocks fetch, overlaps counted; the last blocks may be smaller."""
    rows, last_h = divmod(layer.out_h, block.h)
    columns, last_w = divmod(layer.out_w, block.w)
    full = _input_extent(array, layer, block.h, block.w)
    last = _input_extent(array, layer, last_h, last_w)
    return rows * full[0] + (last[0] if last_h else 0), columns * full[1] + (last[1] if last_w else 0)


def _input_extent(array: Array, layer: Layer, height: int, width: int) -> tuple[int, int]:
    """Height and width of the input that `height` x `width` outputs need, clipped to the input."""
    uh, uw, _ = micro_block(array, layer)
    h = _up((height - 1) * layer.stride_h + min(SUB_KERNEL, layer.span_h), uh)
    w = _up((width - 1) * layer.stride_w + min(SUB_KERNEL, layer.span_w), uw)
    return min(h, layer.in_h), min(w, layer.in_w)


def _pieces(extent: int) -> list[int]:
    """A kernel axis cut into pieces of at most `SUB_KERNEL`."""
    return [min(SUB_KERNEL, extent - start) for start in range(0, extent, SUB_KERNEL)]


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _up(value: int, multiple: int) -> int:
    return _ceil(value, multiple) * multiple


def _ceil_array(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.asarray(-(-np.asarray(numerator) // np.asarray(denominator)), dtype=np.int64)


def _up_array(value: npt.NDArray[np.int64], multiple: int) -> npt.NDArray[np.int64]:
    return _ceil_array(value, multiple) * multiple
