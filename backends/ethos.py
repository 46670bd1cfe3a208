"""Cycles and traffic of a dot-product array with output micro-blocks, the class of the Arm Ethos-U55 and U65.

The array computes a micro-block of outputs (height x width x channels) with a dot product of eight
input channels each, and works through the output in blocks that fit its buffer. The closed
forms, and the way the block is chosen, restate what the public Vela compiler (ethos-u-vela 5.2.0) does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DOT = 8  # input channels per dot product
SUB_KERNEL = 8  # longer kernel axes are split
BRICK = 16  # channels per storage brick of a feature map
BANK = 1024  # bytes per bank of the on-chip buffer
DECODER_FLOOR = 32  # cycles that the weight decoder needs per step
PIPELINE_DELAY = 2  # extra cycles per step of a block that is one micro-block wide
POOL_FACTOR = 4  # cycles per pooled element of a micro-block, 8 bit
SCALE_BYTES = 10  # bias, scale and shift per output channel
MAX_BLOCK = (32, 64, 128)


class Array(NamedTuple):
    """An array: micro-block, cores, and the on-chip buffer in banks with its allocation granules.

    `output`, `relu` and `lut` are cycles per 8-bit output element.
    """

    ublock_h: int
    ublock_w: int
    ublock_d: int
    cores: int
    banks: int
    input_granule: int
    accumulator_granule: int
    output: float
    relu: float
    lut: float

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle of all cores."""
        return self.cores * self.ublock_h * self.ublock_w * self.ublock_d * DOT


class Layer(NamedTuple):
    """A convolution or pool as the array sees it; `depthwise` and `pooling` treat each channel alone.

    The kernel has kernel_h x kernel_w elements; with the gaps of a dilation it spans span_h x span_w inputs.
    `width` is bytes per activation.
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


def work(array: Array, layer: Layer, lut: bool = False, relu: bool = False) -> Work:
    """The cost of `layer` with the block that `choose_block` picks."""
    return block_work(array, layer, choose_block(array, layer), lut, relu)


def block_work(array: Array, layer: Layer, block: Block, lut: bool = False, relu: bool = False) -> Work:
    """The cost of `layer` in blocks of the given size, clipped to the output."""
    h, w, d = min(block.h, layer.out_h), min(block.w, layer.out_w), min(block.d, layer.out_c)
    count = layer.out_h / h * layer.out_w / w * layer.out_c / d
    blocks_xy = _ceil(layer.out_h, h) * _ceil(layer.out_w, w)
    rate = max(array.output, array.lut if lut else 0.0, array.relu if relu else 0.0)
    mac = block_mac_cycles(array, layer, Block(h, w, d))
    out = h * w * d * rate * layer.width
    command = (mac + out) / 4  # four commands are in flight
    m, a = max(mac, command), max(out, command)
    in_h, in_w = _input_extent(array, layer, block.h, block.w)
    rows, columns = _fetched_extent(array, layer, block)
    depth = d if layer.per_channel else _block_input_depth(layer)
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


def block_mac_cycles(array: Array, layer: Layer, block: Block) -> float:
    """Cycles of the array for one output block."""
    uh, uw = micro_block(array, layer)
    nxy = _ceil(block.h, uh) * _ceil(block.w, uw)
    nz = _ceil(block.d, array.ublock_d)
    wide = layer.width if layer.per_channel else 1  # other layers take fewer channels per step instead
    delay = PIPELINE_DELAY if nxy == 1 else 0
    step = max(DECODER_FLOOR * array.ublock_d // 8, 4 * nxy * wide + delay)
    depth = _block_input_depth(layer)
    total = 0
    for kh in _pieces(layer.kernel_h):
        for kw in _pieces(layer.kernel_w):
            taps = kh * kw
            if layer.pooling:
                total += max(4, taps) * nxy * nz * POOL_FACTOR * layer.width
            elif layer.depthwise:
                total += step * _ceil(taps, 4) * nz
            elif part_kernel_first(layer):
                total += step * _ceil(taps, 4) * _ceil(depth, DOT) * nz * _ceil(layer.in_c, depth)
            else:
                total += step * taps * nz * _ceil(layer.in_c, depth)
    return total / array.cores


def micro_block(array: Array, layer: Layer) -> tuple[int, int]:
    """Height and width of the micro-block: 2x2 becomes 1x4 where the output is one row of even width."""
    if layer.out_h == 1 and layer.out_w % 2 == 0 and array.ublock_h == 2:
        return 1, array.ublock_h * array.ublock_w
    return array.ublock_h, array.ublock_w


def part_kernel_first(layer: Layer) -> bool:
    """Whether the array steps through four kernel elements at a time, not through 32 input channels."""
    taps = layer.kernel_h * layer.kernel_w
    if layer.in_c <= DOT:
        return True
    part = layer.in_c * taps / (_up(layer.in_c, DOT) * _up(taps, 4))
    return part > layer.in_c / _up(layer.in_c, 32)


def choose_block(array: Array, layer: Layer) -> Block:
    """The block that fits the buffer with the least traffic per output, as the compiler chooses it.

    The buffer holds two input blocks and two blocks of 32-bit accumulators; two banks are reserved
    for output and two for tables. Ties go to the larger input block.
    """
    uh, uw = micro_block(array, layer)
    d, h, w = np.meshgrid(
        np.array(_depths(array, layer)),
        np.arange(uh, min(MAX_BLOCK[0], _up(layer.out_h, uh)) + 1, uh),
        np.arange(uw, min(MAX_BLOCK[1], _up(layer.out_w, uw)) + 1, uw),
        indexing="ij",
        sparse=True,
    )
    in_h = _up_array((h - 1) * layer.stride_h + min(SUB_KERNEL, layer.span_h), uh)
    in_w = _up_array((w - 1) * layer.stride_w + min(SUB_KERNEL, layer.span_w), uw)
    area = in_h * in_w
    depth = d if layer.per_channel else np.array(_block_input_depth(layer))
    inputs = _up_array(_ceil_array(area * _up_array(depth * layer.width, 8), BANK) * 2, array.input_granule)
    sums = _up_array(_ceil_array(h * w * _up_array(d, 8) * 4, BANK) * 2, array.accumulator_granule)
    cost = _relative_traffic(layer, h, w, d, area)
    whole = layer.in_h * layer.in_w * layer.in_c < area * depth * 2
    cost = np.where(inputs + sums <= array.banks - 4, np.where(whole, cost / 2, cost), np.inf)
    best = int(np.argmax(np.where(cost == cost.min(), np.broadcast_to(area, cost.shape), -1)))
    if not np.isfinite(cost.flat[best]):
        return Block(uh, uw, array.ublock_d)
    i, j, k = np.unravel_index(best, cost.shape)
    return Block(int(h[0, j, 0]), int(w[0, 0, k]), int(d[i, 0, 0]))


def _relative_traffic(
    layer: Layer,
    h: npt.NDArray[np.int64],
    w: npt.NDArray[np.int64],
    d: npt.NDArray[np.int64],
    area: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Weights and inputs fetched by all blocks (weights once per block position, inputs once per block)."""
    positions = _ceil_array(layer.out_h, h) * _ceil_array(layer.out_w, w)
    weights = layer.kernel_h * layer.kernel_w * layer.in_c * positions
    inputs = area * layer.in_c * (layer.out_h / h) * (layer.out_w / w)
    if layer.per_channel:
        return np.asarray(weights + inputs + 0.0 * d)
    return np.asarray(weights * float(layer.out_c) + inputs * _ceil_array(layer.out_c, d))


def _depths(array: Array, layer: Layer) -> list[int]:
    """Block depths: the micro-block's steps, whole bricks where the output is cut."""
    limit = min(MAX_BLOCK[2], _up(layer.out_c, array.ublock_d))
    depths = []
    depth = max(array.ublock_d, min(limit, BRICK))
    while depth <= limit:
        depth = _up(depth, BRICK) if depth < layer.out_c else depth
        depths.append(depth)
        depth += array.ublock_d
    return depths


def _block_input_depth(layer: Layer) -> int:
    """Input channels per pass of the array: 256 bits, or half if it steps through the kernel first."""
    most = (BRICK if part_kernel_first(layer) else 32) // layer.width
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
    uh, uw = micro_block(array, layer)
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
