"""Arrays of the Ethos-U85 class against Vela 5.2.0: blocks, cycles, memories, and operators that are decomposed."""

from __future__ import annotations

import math

import pytest
from backend_helpers import one_cost, one_device, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.references import vela
from benchmarks.references.errors import read_table, summarise
from h4hc.backends.npu import wide
from h4hc.backends.npu.backend import Npu
from h4hc.backends.npu.ethos import Block, Layer, UBlock
from h4hc.backends.placed import Placed
from h4hc.errors import TargetError
from h4hc.ir.cost import Cost
from h4hc.ir.target import Memory
from h4hc.ir.workload import Conv, Elementwise, Kernel, MatMul, Move, Precision, Reduction

SRAM = {"bandwidth": "32 GB/s", "latency": "32 ns", "burst": "64 B", "bytes": "384 KiB"}
DRAM = {"bandwidth": "12 GB/s", "latency": "500 ns", "write_latency": "250 ns", "burst": "128 B"}
POINT = (1, 1, 1, 1)
POOL = "pool"


def npu(macs: int = 256, **parameters: object) -> Npu:
    """The NPU with the memories of Vela's system for it, at 1 GHz: cycles are nanoseconds."""
    backend = one_device("npu", f"ethos-u85-{macs}", SRAM, DRAM, operator_cycles=0, **parameters)
    assert isinstance(backend, Npu)
    return backend


def machine(macs: int) -> wide.Machine:
    found = npu(macs).machine
    assert found is not None
    return found


def estimate(kernel: Kernel, macs: int = 256, **placed: object) -> Cost:
    cost = npu(macs).estimate(kernel, Placed(**placed))  # type: ignore[arg-type]
    assert isinstance(cost, Cost)
    return cost


def dram() -> Memory:
    return npu().weights


def layer(shape: tuple[int, ...], kind: str = "", kernel: tuple[int, int] = (1, 1), stride: int = 1) -> Layer:
    """`shape`: output height, width, channels, then those of the input."""
    per_channel = {"depthwise": kind == "depthwise", "pooling": kind == POOL}
    return Layer(*shape, *kernel, *kernel, stride, stride, **per_channel, product=kind == "product")


@pytest.mark.parametrize(
    ("macs", "item", "ublock", "block", "inputs"),
    [
        (256, layer((32, 32, 32, 32, 32, 32)), (1, 4, 8), (2, 32, 32), (2, 32, 16)),
        (256, layer((24, 24, 192, 24, 24, 192)), (1, 4, 8), (8, 8, 32), (8, 8, 64)),
        (256, layer((14, 14, 512, 14, 14, 256)), (2, 2, 8), (2, 14, 64), (2, 14, 64)),
        (256, layer((1, 1, 1000, 1, 1, 1280)), (1, 4, 8), (1, 4, 512), (1, 4, 64)),
        (256, layer((7, 7, 512, 7, 7, 512), "", (3, 3)), (1, 4, 8), (7, 8, 32), (9, 12, 16)),
        (256, layer((14, 14, 256, 28, 28, 128), "", (1, 1), 2), (2, 2, 8), (2, 14, 64), (3, 27, 64)),
        (256, layer((1, 196, 196, 1, 196, 64), "product"), (1, 4, 8), (1, 128, 16), (1, 128, 64)),
        (256, layer((32, 32, 32, 32, 32, 32), "depthwise", (3, 3)), (1, 2, 16), (16, 16, 16), (18, 18, 16)),
        (256, layer((1, 1, 1280, 7, 7, 1280), "depthwise", (7, 7)), (1, 2, 16), (1, 2, 128), (7, 8, 128)),
        (256, layer((1, 1, 64, 25, 5, 64), POOL, (25, 5)), (1, 2, 16), (1, 2, 64), (8, 6, 64)),
        (512, layer((7, 7, 960, 7, 7, 160)), (1, 4, 16), (7, 8, 64), (7, 8, 64)),
        (512, layer((14, 14, 64, 14, 14, 192)), (2, 2, 16), (4, 14, 64), (4, 14, 64)),
        (512, layer((28, 28, 128, 56, 56, 64), "", (3, 3), 2), (2, 2, 16), (6, 14, 48), (14, 30, 16)),
        (512, layer((7, 7, 512, 14, 14, 512), "depthwise", (3, 3), 2), (1, 4, 16), (7, 8, 32), (15, 18, 32)),
        (512, layer((1, 1, 768, 6, 6, 768), POOL, (6, 6)), (2, 2, 16), (2, 2, 128), (7, 7, 128)),
    ],
)
def test_blocks_are_those_of_the_compiler(
    macs: int, item: Layer, ublock: UBlock, block: Block, inputs: Block
) -> None:
    cut = wide.plan(machine(macs), item)
    assert (cut.ublock, cut.block, cut.inputs) == (ublock, block, inputs)


@pytest.mark.parametrize(
    ("macs", "shape", "width", "block"),
    [
        (256, (1, 196, 192), 1, (1, 128, 16)),
        (256, (3, 196, 196), 4, (3, 32, 16)),
        (256, (7, 1, 84), 4, (7, 6, 96)),
        (512, (1, 1, 1001), 1, (2, 4, 1008)),
    ],
)
def test_blocks_of_element_wise_operators(
    macs: int, shape: tuple[int, int, int], width: int, block: tuple[int, int, int]
) -> None:
    assert wide.stream_block(machine(macs), Block(*shape), width) == block


extent = st.integers(1, 130)
channels = st.one_of(st.integers(1, 70), st.sampled_from([128, 192, 768, 1280]))
layers = st.builds(
    lambda h, w, c, k, kernel, stride, kind, width: Layer(
        h, w, c, (h - 1) * stride + kernel, (w - 1) * stride + kernel, c if kind in (1, 2) else k,
        kernel, kernel, kernel, kernel, stride, stride, kind == 1, kind == 2, width,
    ),
    extent, extent, channels, channels, st.integers(1, 11), st.integers(1, 3), st.integers(0, 2),
    st.sampled_from([1, 2]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(item=layers, macs=st.sampled_from([256, 512]))
def test_blocks_fit_the_buffers(item: Layer, macs: int) -> None:
    array = machine(macs)
    cut = wide.plan(array, item)
    assert cut.ublock in (*array.ublocks, *array.channel_ublocks)
    sums = math.prod(cut.block) * (8 if item.width == 2 and not item.pooling else 4)
    held = cut.inputs.h * cut.inputs.w * min(cut.inputs.d, max(16, item.in_c)) * item.width
    whole = item.in_h * item.in_w * max(item.in_c, wide.BRICK) * item.width
    assert sums <= array.accumulator_bytes
    least = wide.Block(cut.ublock.h, cut.ublock.w, max(cut.ublock.d, wide.BRICK))
    assert min(held, whole) <= array.input_bytes or cut.block == least
    per_block = math.prod(
        min(a, b) for a, b in zip(cut.block, (item.out_h, item.out_w, item.out_c), strict=True)
    )
    taps = item.kernel_h * item.kernel_w * (1 if item.per_channel else item.in_c)
    assert wide.block_mac_cycles(array, item, cut) >= 0 if item.pooling else per_block * taps / macs


MOST = {
    "first convolution": 0.01,
    "convolution": 0.01,
    "pointwise": 0.02,
    "depthwise": 0.02,
    "fully connected": 0.02,
    "product": 0.03,
    "elementwise": 0.08,
    "pooling": 0.05,
    "networks": 0.03,
}


@pytest.mark.parametrize("config", ["u85-256", "u85-512"])
def test_operators_and_networks(config: str) -> None:
    """Mean errors against Vela with memory, by class, on operators of 2,000 cycles or more; without memory no larger."""
    found = list(vela.estimates(config, read_table(f"vela_layers_{config}")))
    operators, compute = vela.operator_pairs(config, found)
    networks = vela.network_pairs(config, found, read_table("vela_networks"))
    errors = {item.group: item for item in summarise([*operators, *networks])}
    assert {group for group in MOST if errors[group].mean >= MOST[group]} == set()
    assert errors["networks"].count == 15
    assert errors["networks"].p90 < 0.08
    alone = {item.group: item.mean for item in summarise(compute)}
    assert {group for group in MOST if alone.get(group, 0.0) >= MOST[group]} == set()


@pytest.mark.parametrize(("what", "rate"), [("input", 3.2768), ("second", 2.6624), ("scales", 0.4096)])
def test_few_reads_in_flight_limit_a_slow_memory(what: str, rate: float) -> None:
    """2048, 1664 and 256 bytes at a time, 500 cycles away, four fifths of the time."""
    assert npu().channel_rate(dram(), what) == pytest.approx(rate * 1e9)
    assert npu(in_flight={}, port_in_flight={}).channel_rate(dram(), what) == dram().bandwidth


def test_scales_that_each_position_reads_again_may_decide() -> None:
    """MobileNetV2's 16 -> 96 channels at 112x112 in stripes of three rows: Vela 787,499 cycles, 301,680 without memory."""
    conv = Kernel(Conv(1, 16, 96, 112, 112, 112, 112, 1, 1))
    cost = estimate(conv, buffered=True, stripe=3)
    assert cost.seconds == pytest.approx(787499e-9, rel=0.001)
    assert cost.compute_seconds == pytest.approx(301680e-9, rel=0.001)
    assert cost.bound == "weights"
    copied = npu(scales_in_place=False).estimate(conv, Placed(buffered=True, stripe=3))
    assert isinstance(copied, Cost)
    assert copied.seconds < 310e-6


def test_an_image_stored_row_by_row_fills_an_eighth_of_a_burst() -> None:
    """A stem of 3 channels that reads from DRAM: Vela 341,718 cycles for 96x96x24, 85,533 without memory."""
    stem = Kernel(Conv(1, 3, 24, 192, 192, 96, 96, 3, 3, 2, 2))
    by_row = estimate(stem, input=dram(), buffered=True)
    bricks = estimate(stem, input=dram(), input_bricks=True, buffered=True)
    assert by_row.compute_seconds == pytest.approx(85.5e-6, rel=0.02)
    assert by_row.bound == "activations"
    assert by_row.seconds > 3 * bricks.compute_seconds


def test_two_input_channels_leave_half_of_each_four_out() -> None:
    """Two weights of four are never stored where there are at most two input channels."""
    array = machine(256)
    one, two, three = (
        wide.block_mac_cycles(array, item, wide.plan(array, item))
        for item in (layer((32, 32, 64, 41, 35, c), "", (10, 4)) for c in (1, 2, 3))
    )
    assert one == two == three / 2


def test_twice_the_array_takes_half_the_time() -> None:
    conv = Kernel(Conv(1, 128, 128, 28, 28, 28, 28, 3, 3))
    small, large = one_cost(npu(256), conv), one_cost(npu(512), conv)
    assert large.compute_seconds == pytest.approx(small.compute_seconds / 2, rel=0.1)
    assert npu(512).peak().macs_per_second == 512e9


def test_sixteen_bit_sums_are_long() -> None:
    """Accumulators of 64 bits leave room for a smaller block."""
    item = layer((28, 28, 64, 28, 28, 64), "", (3, 3))
    narrow, long = (wide.plan(machine(256), item._replace(width=width)).block for width in (1, 2))
    assert math.prod(long) < math.prod(narrow)


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((14, 14, 64), "", (2, 2, 8)),
        ((56, 56, 64), "", (1, 4, 8)),
        ((7, 7, 64), "", (1, 4, 8)),
        ((1, 1, 64), "", (1, 4, 8)),
        ((15, 1, 64), "", (2, 2, 8)),
        ((15, 1, 64), "depthwise", (1, 2, 16)),
    ],
)
def test_the_micro_block_that_pads_least(
    shape: tuple[int, int, int], kind: str, expected: tuple[int, int, int]
) -> None:
    assert wide.plan(machine(256), layer((*shape, *shape), kind)).ublock == expected


@pytest.mark.parametrize("row", rows("vela_u85_transformer.csv"), ids=lambda row: f"{row['op']}-{row['run']}")
def test_operators_of_transformer_blocks(row: dict[str, str]) -> None:
    """Whole DeiT-tiny and MobileViT blocks; the second operand of a product of activations is not compressed."""
    m, k, n, elements, run = (int(row[key] or 0) for key in ("m", "k", "n", "elements", "run"))
    item: Reduction | Move | MatMul = Move("transpose", elements, elements, 1)
    if row["op"] in ("softmax", "layer_norm"):
        item = Reduction(row["op"], 1, run, elements // run, 1, elements // run, 1)
    elif row["op"] == "matmul":
        item = MatMul(1, m, k, n, dynamic=True)
    cost = one_cost(npu(), Kernel(item))
    assert cost.compute_seconds * 1e9 == pytest.approx(int(row["cycles"]), rel=float(row["tolerance"]))


def test_softmax_that_does_not_fit_spills_between_its_passes() -> None:
    """Vela takes 6.7 cycles per element with 32-bit results in DRAM, 3 without memory."""
    item = Kernel(Reduction("softmax", 1, 196, 588, 1, 588, 1))
    inside, outside = (estimate(item, scratch=memory) for memory in (None, dram()))
    assert inside.compute_seconds == outside.compute_seconds == pytest.approx(2.98e-9 * 588 * 196, rel=0.01)
    assert outside.seconds == pytest.approx(6.71e-9 * 588 * 196, rel=0.02)
    assert inside.seconds < outside.seconds / 1.5


def test_products_of_activations_run_on_the_array() -> None:
    cost = one_cost(npu(), Kernel(MatMul(3, 196, 64, 196, dynamic=True)))
    assert cost.utilisation > 0.75
    assert cost.details["dram bytes"] == 0


def test_a_product_with_short_rows_is_bound_by_its_output() -> None:
    """256 x 16 x 256 gives 0.25 cycles per output, four times what the products take."""
    cost = one_cost(npu(), Kernel(MatMul(16, 256, 16, 256, dynamic=True)))
    assert cost.bound == "output"
    assert cost.compute_seconds == pytest.approx(16 * 256 * 256 * 0.25e-9, rel=0.2)


def test_steps_are_chained_behind_the_array() -> None:
    """A residual add reads its operand and adds 0.25 cycles per output to those of the output unit."""
    conv = Conv(1, 192, 32, 28, 28, 28, 28, 1, 1)
    plain, add = (one_cost(npu(), Kernel(conv, steps)) for steps in ((), ("add",)))
    outputs = 28 * 28 * 32
    assert plain.details["output cycles"] == outputs * 0.25
    assert add.details["output cycles"] == outputs * 0.5  # Vela: 12,544 and 1,344 to fill
    assert add.compute_seconds == pytest.approx(20255e-9, rel=0.02)
    assert add.details["own bytes"] == plain.details["own bytes"] + outputs
    assert one_cost(npu(), Kernel(conv, ("lut",))).compute_seconds == plain.compute_seconds


def test_chained_steps_on_wide_results_take_twice_as_long() -> None:
    """A product of 32-bit operands and a shift behind it: Vela 122,304 cycles, 0.5 each for 196 padded to 208."""
    steps = Kernel(Elementwise(3 * 196 * 196, 2, "mul"), ("batch_norm",), Precision(32, 8))
    cost = estimate(steps, shape=(3, 196, 196), output_width=1)
    assert cost.compute_seconds == pytest.approx(122304e-9, rel=0.01)


def test_presets_need_passes_or_totals() -> None:
    with pytest.raises(TargetError, match="softmax_passes: is empty; give them, or softmax_cycles"):
        npu(softmax_passes=[])
    total = npu(softmax_passes=[], softmax_cycles=3, softmax_traffic=0.1)
    assert one_cost(total, Kernel(Reduction("softmax", 1, 10, 5, 1, 5, 1))).compute_seconds == pytest.approx(
        150e-9
    )
