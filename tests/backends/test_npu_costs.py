"""The NPU model against the estimates of the Vela compiler (ethos-u-vela 5.2.0), layer by layer."""

from __future__ import annotations

from statistics import mean

import pytest
from backend_helpers import one_cost, one_device, refusal, rows

from h4hc.backends import ethos
from h4hc.backends.base import Backend
from h4hc.backends.npu import Npu
from h4hc.errors import TargetError
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Precision, Reduction

LAYERS = rows("vela_layers.csv")
SRAM = {"u55-128": "4 GB/s", "u55-256": "4 GB/s", "u65-256": "16 GB/s", "u85-256": "32 GB/s"}
VELA_DRAM = {"bandwidth": "12 GB/s", "latency": "500 ns"}  # of Vela's Ethos-U85 system


def npu(config: str = "u65-256", weights: dict[str, str] | None = None, **parameters: object) -> Backend:
    clock_ns = 2 if config.startswith("u55") else 1
    io = {"bandwidth": SRAM[config], "latency": f"{32 * clock_ns} ns"}
    return one_device("npu", f"ethos-{config}", io, weights, operator_cycles=0, **parameters)


def layer_class(row: dict[str, str]) -> str:
    if row["op"] == "Conv2D":
        if row["kernel_h"] == row["kernel_w"] == "1":
            return "pointwise"
        return "first" if int(row["in_c"]) <= 4 else "conv"
    return row["op"]


def kernel(row: dict[str, str]) -> Kernel:
    out_h, out_w, out_c, in_h, in_w, in_c, kernel_h, kernel_w, stride_h, stride_w = (
        int(value) for value in list(row.values())[2:12]
    )
    if row["op"] in ("Add", "Mul"):
        return Kernel(Elementwise(out_h * out_w * out_c, 2, row["op"].lower()))
    if row["op"].endswith("Pool"):
        kind = "max_pool" if row["op"] == "MaxPool" else "average_pool"
        return Kernel(Reduction(kind, 1, out_c, in_h, in_w, out_h, out_w, kernel_h, kernel_w))
    if row["op"] == "FullyConnected":
        return Kernel(MatMul(1, out_h * out_w, in_c, out_c))
    if row["op"] == "MatMul":  # one head
        return Kernel(MatMul(1, out_w, in_c, out_c, dynamic=True))
    groups = in_c if row["op"] == "DepthwiseConv2D" else 1
    extent = (in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w)
    return Kernel(Conv(1, in_c, out_c, *extent, groups=groups))


def errors(config: str, kind: str) -> list[float]:
    """Relative errors of compute cycles for all layers of one class."""
    backend = npu(config, VELA_DRAM if config.startswith("u85") else None)
    clock = 5e8 if config.startswith("u55") else 1e9
    return [
        one_cost(backend, kernel(row)).compute_seconds * clock / int(row["npu_cycles"]) - 1
        for row in LAYERS
        if row["config"] == config and layer_class(row) == kind
    ]


@pytest.mark.parametrize("config", ["u55-128", "u55-256", "u65-256"])
@pytest.mark.parametrize(
    ("kind", "most"),
    [
        ("conv", 0.05),
        ("first", 0.08),
        ("pointwise", 0.04),
        ("DepthwiseConv2D", 0.03),
        ("FullyConnected", 0.04),
        ("MaxPool", 0.01),
        ("AvgPool", 0.14),
        ("Add", 0.03),
        ("Mul", 0.01),
    ],
)
def test_compute_cycles_by_class(config: str, kind: str, most: float) -> None:
    found = errors(config, kind)
    if not found:
        pytest.skip(f"the table has no {kind} in SRAM for {config}")
    assert mean(abs(e) for e in found) < most


@pytest.mark.parametrize(
    ("kind", "count", "most"),
    [
        ("conv", 8, 0.01),
        ("first", 3, 0.02),
        ("pointwise", 36, 0.02),
        ("DepthwiseConv2D", 31, 0.05),
        ("FullyConnected", 4, 0.01),
        ("MatMul", 2, 0.01),
        ("MaxPool", 1, 0.01),
        ("AvgPool", 3, 0.02),
        ("Mul", 1, 0.06),
    ],
)
def test_compute_cycles_of_u85_by_class(kind: str, count: int, most: float) -> None:
    """All layers of 2,000 cycles or more in SRAM; convolutions of 50,000 or more may read from DRAM."""
    found = errors("u85-256", kind)
    assert len(found) == count
    assert mean(abs(e) for e in found) < most


@pytest.mark.parametrize("config", ["u65-256", "u85-256"])
def test_activation_traffic(config: str) -> None:
    backend = npu(config)
    assert isinstance(backend, Npu)
    found = []
    for row in LAYERS:
        inside = int(row["read_bytes"]) > 0 and int(row["written_bytes"]) > 0
        if row["config"] == config and layer_class(row) in ("conv", "pointwise") and inside:
            cost = one_cost(backend, kernel(row))
            extra = cost.details["dram bytes"] * (1 + cost.details["weight passes"])
            buffered = extra if cost.details["weight passes"] > 1 else 0
            expected = int(row["read_bytes"]) + int(row["written_bytes"])
            found.append((cost.details["own bytes"] - buffered) / expected - 1)
    assert mean(abs(e) for e in found) < 0.06


def test_one_row_product_is_bound_by_the_weight_bus() -> None:
    """640x1000 int8 weights, 0.9 compressed and with scales, over 4 GB/s: 147 us."""
    cost = one_cost(npu(), Kernel(MatMul(1, 1, 640, 1000)))
    assert cost.bound == "weights"
    assert cost.seconds == pytest.approx((640000 * 0.9 + 10000) / 4e9 + 100e-9)


def test_depthwise_uses_a_tenth_of_the_array() -> None:
    """3x3 depthwise: one of eight channels, nine of twelve steps: 24 of 256 MAC per cycle at most."""
    cost = one_cost(npu(), Kernel(Conv(1, 144, 144, 56, 56, 56, 56, 3, 3, groups=144)))
    assert 0.08 < cost.utilisation <= 24 / 256


def test_products_of_activations_are_the_cliff() -> None:
    item = MatMul(3, 196, 64, 196, dynamic=True)
    slow, fast = one_cost(npu(), Kernel(item)), one_cost(npu(matmul_native=True), Kernel(item))
    assert slow.seconds == pytest.approx(4.33e-3, rel=0.02)  # Vela on U55-256: 4.331 M cycles
    assert fast.seconds < slow.seconds / 40


@pytest.mark.parametrize("row", rows("vela_u85_transformer.csv"), ids=lambda row: f"{row['op']}-{row['run']}")
def test_transformer_blocks_on_u85(row: dict[str, str]) -> None:
    """Whole DeiT-tiny and MobileViT blocks; the second operand of a product of activations is not compressed."""
    m, k, n, elements, run = (int(row[key] or 0) for key in ("m", "k", "n", "elements", "run"))
    item: Reduction | Move | MatMul = Move("transpose", elements, elements, 1)
    if row["op"] in ("softmax", "layer_norm"):
        item = Reduction(row["op"], 1, run, 1, 1, elements // run, 1)
    elif row["op"] == "matmul":
        item = MatMul(1, m, k, n, dynamic=True)
    cost = one_cost(npu("u85-256"), Kernel(item))
    assert cost.compute_seconds * 1e9 == pytest.approx(int(row["cycles"]), rel=float(row["tolerance"]))


def test_u85_runs_products_of_activations_on_the_array() -> None:
    item = Kernel(MatMul(3, 196, 64, 196, dynamic=True))
    native, decomposed = one_cost(npu("u85-256"), item), one_cost(npu(), item)
    assert native.utilisation > 0.8
    assert decomposed.seconds > 100 * native.seconds
    assert native.details["dram bytes"] == 0


def test_u85_product_with_short_rows_is_bound_by_its_output() -> None:
    """256 x 16 x 256 gives 0.25 cycles per output, four times what the products take."""
    cost = one_cost(npu("u85-256"), Kernel(MatMul(16, 256, 16, 256, dynamic=True)))
    assert cost.bound == "output"
    assert cost.compute_seconds == pytest.approx(16 * 256 * 256 * 0.25e-9, rel=0.1)


def test_u85_chains_steps_behind_the_array() -> None:
    """A residual add reads its operand and adds 0.25 cycles per output to those of the output unit."""
    conv = Conv(1, 192, 32, 28, 28, 28, 28, 1, 1)
    plain, add = (one_cost(npu("u85-256"), Kernel(conv, steps)) for steps in ((), ("add",)))
    outputs = 28 * 28 * 32
    assert plain.details["output cycles"] == outputs * 0.25
    assert add.details["output cycles"] == outputs * 0.5  # Vela: 12,544 and 1,344 to fill
    assert add.compute_seconds == pytest.approx(20255e-9, rel=0.02)
    assert add.details["own bytes"] == plain.details["own bytes"] + outputs
    assert one_cost(npu("u85-256"), Kernel(conv, ("lut",))).compute_seconds == plain.compute_seconds


@pytest.mark.parametrize(
    ("out_h", "out_w", "expected"),
    [(14, 14, (2, 2, 8)), (56, 56, (1, 4, 8)), (7, 7, (1, 4, 8)), (1, 1, (1, 4, 8)), (15, 1, (2, 2, 8))],
)
def test_u85_takes_the_micro_block_that_pads_least(
    out_h: int, out_w: int, expected: tuple[int, int, int]
) -> None:
    backend = npu("u85-256")
    assert isinstance(backend, Npu)
    layer = ethos.Layer(out_h, out_w, 64, out_h, out_w, 64, 1, 1, 1, 1)
    assert ethos.micro_block(backend.array, layer) == expected
    assert ethos.micro_block(backend.array, layer._replace(depthwise=True)) == (1, 2, 16)


def test_published_comparison_with_a_256_mac_npu() -> None:
    """Figures of an ideal 256-MAC NPU at 1 GHz with plain weights over 4 GB/s: 161 us and 42 uJ for 640 -> 1000.

    Uncompressed weights and 10 bytes of scales per channel give 163 us. Its 3x3 convolution of 64 channels on
    56 x 56 takes 531 us at 85 % of the array; Ethos-U85 steps through nine taps as twelve and needs 609 us
    (Vela: 608), U65 goes through the channels first and needs 463.
    """
    fully_connected = Kernel(MatMul(1, 1, 640, 1000))
    cost = one_cost(npu("u85-256", weight_compression=1.0), fully_connected)
    assert cost.seconds == pytest.approx(161e-6, rel=0.015)
    assert cost.joules == pytest.approx(42e-6, rel=0.015)
    conv = Kernel(Conv(1, 64, 64, 56, 56, 56, 56, 3, 3))
    assert one_cost(npu("u85-256"), conv).seconds == pytest.approx(609e-6, rel=0.01)
    assert one_cost(npu("u65-256"), conv).seconds == pytest.approx(463e-6, rel=0.02)


def test_resident_macro_beats_u85_on_few_rows_only() -> None:
    """192x768: 36 rows with plain weights; compressed ones and the macro's hand-off of 1 us make it 33."""
    macro = one_device("cim", "mram-nmc-22nm")

    def wins(m: int) -> bool:
        item = Kernel(MatMul(1, m, 192, 768))
        return one_cost(macro, item, "resident").seconds < one_cost(npu("u85-256"), item).seconds

    assert [m for m in range(28, 40) if wins(m)] == list(range(28, 34))


def test_native_products_need_no_figures_for_decomposed_ones() -> None:
    with pytest.raises(TargetError, match="matmul_native: is false; give matmul_macs_per_cycle"):
        npu("u85-256", matmul_native=False)


def test_sixteen_bit_activations_take_twice_as_long() -> None:
    conv = Conv(1, 64, 64, 28, 28, 28, 28, 3, 3)
    wide, narrow = (one_cost(npu(), Kernel(conv, (), Precision(bits, 8))) for bits in (16, 8))
    assert wide.compute_seconds == pytest.approx(2 * narrow.compute_seconds, rel=0.1)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Kernel(Generic("GRU", 1, 1, 1)), "no kernel for GRU"),
        (Kernel(Elementwise(10, 2, "div")), "no kernel for elementwise div"),
        (Kernel(Move("gather", 10, 10)), "no kernel for gather"),
        (Kernel(Conv(1, 8, 8, 99, 99, 20, 20, 3, 3, 5, 5)), "stride 5x5"),
        (Kernel(Conv(1, 8, 8, 99, 99, 9, 99, 91, 1)), "kernel 91x1 is above 64x64"),
        (Kernel(Conv(1, 8, 8, 99, 99, 19, 99, 11, 1, 1, 1, 8, 1)), "kernel 81x1 is above 64x64"),
        (Kernel(MatMul(1, 1, 8, 8), (), Precision(32, 32)), "32-bit operands"),
        (Kernel(MatMul(1, 1, 8, 8), ("softmax",)), "output unit has no softmax"),
    ],
)
def test_refusals_say_why(item: Kernel, reason: str) -> None:
    assert reason in refusal(npu(), item)


def test_patch_embedding_runs_on_copied_patches() -> None:
    cost = one_cost(npu(), Kernel(Conv(1, 3, 192, 224, 224, 14, 14, 16, 16, 16, 16)))
    assert cost.utilisation > 0.9


def test_transposed_convolution_computes_the_stuffed_zeros() -> None:
    """2x2, stride 2: a quarter of the products are not with a zero."""
    plain = one_cost(npu(), Kernel(Conv(1, 64, 32, 28, 28, 28, 28, 2, 2)))
    up = one_cost(npu(), Kernel(Conv(1, 64, 32, 14, 14, 28, 28, 2, 2, 2, 2, transposed=True)))
    assert up.seconds == pytest.approx(plain.seconds, rel=0.05)
    assert up.details["macs"] * 4 == plain.details["macs"]


def test_epilogue_passes() -> None:
    """Rescaling steps are free, one table is fused, a residual add is another trip over the output."""
    conv = Conv(1, 64, 64, 28, 28, 28, 28, 1, 1)
    plain, free, table, add, tables = (
        one_cost(npu(), Kernel(conv, epilogue))
        for epilogue in ((), ("bias", "batch_norm", "relu"), ("lut",), ("add",), ("lut", "lut"))
    )
    assert free.seconds == plain.seconds
    assert table.bound == "output"
    assert add.compute_seconds == pytest.approx(plain.compute_seconds + 0.75 * 28 * 28 * 64 * 1e-9)
    assert tables.compute_seconds == pytest.approx(table.compute_seconds + 28 * 28 * 64 * 1e-9)


def test_kernel_axes_are_not_mixed_up() -> None:
    wide = Kernel(Conv(1, 32, 32, 16, 32, 16, 26, 1, 7))
    tall = Kernel(Conv(1, 32, 32, 32, 16, 26, 16, 7, 1))
    assert one_cost(npu(), wide).seconds == pytest.approx(one_cost(npu(), tall).seconds, rel=0.1)
    strided = Conv(1, 32, 32, 16, 32, 8, 32, 3, 3, 2, 1)
    assert one_cost(npu(), Kernel(strided)).details["macs"] == 8 * 32 * 32 * 32 * 9


@pytest.mark.parametrize("macs", [128, 256])
def test_blocks_fit_the_buffer(macs: int) -> None:
    backend = npu(f"u55-{macs}")
    assert isinstance(backend, Npu)
    layer = ethos.Layer(56, 56, 128, 56, 56, 64, 3, 3, 3, 3)
    block = ethos.choose_block(backend.array, layer)
    inputs = (block.h + 2) * (block.w + 2) * 32 * 2
    sums = block.h * block.w * block.d * 4 * 2
    assert inputs + sums <= (backend.array.banks - 4) * 1024
    assert backend.array.macs_per_cycle == macs
