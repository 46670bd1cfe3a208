"""The systolic array against SCALE-Sim 3.0.0, layer by layer."""

from __future__ import annotations

import pytest
from backend_helpers import one_cost, one_device, refusal, rows

from h4hc.backends.base import Backend
from h4hc.backends.systolic import Dataflow, Product, folds, product
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Precision, Reduction

LAYERS = rows("scalesim_layers.csv")
DATAFLOWS: dict[str, Dataflow] = {"ws": "weight", "os": "output", "is": "input"}


def array(preset: str = "systolic-16x16", **parameters: object) -> Backend:
    fast = {"bandwidth": "64 GB/s", "latency": "0 s"}
    return one_device("systolic", preset, fast, operator_cycles=0, **parameters)


def test_the_table_is_complete() -> None:
    assert len(LAYERS) == 141
    assert {row["dataflow"] for row in LAYERS} == set(DATAFLOWS)


@pytest.mark.parametrize("row", LAYERS, ids=lambda r: f"{r['layer']}-{r['array']}-{r['dataflow']}")
def test_cycles_and_operand_reads_are_exact(row: dict[str, str]) -> None:
    size = int(row["array"].partition("x")[0])
    groups, m, k, n = (int(row[key]) for key in ("count", "m", "k", "n"))
    found = folds(Product(groups, m, k, n), size, size, DATAFLOWS[row["dataflow"]])
    assert groups * found.cycles == int(row["cycles"])
    assert found.first_reads == int(row["first_reads"])
    assert found.second_reads == int(row["second_reads"])
    if row["dataflow"] != "os":  # there the simulator counts its drain cycles, not results
        assert found.sum_writes == int(row["result_writes"])


@pytest.mark.parametrize(("name", "dataflow"), sorted(DATAFLOWS.items()))
@pytest.mark.parametrize("size", [16, 32])
def test_costs_follow_the_table(name: str, dataflow: str, size: int) -> None:
    backend = array(f"systolic-{size}x{size}", dataflow=dataflow)
    for row in LAYERS:
        if (row["array"], row["dataflow"]) == (f"{size}x{size}", name):
            groups, m, k, n = (int(row[key]) for key in ("count", "m", "k", "n"))
            item = MatMul(groups, m, k, n, dynamic=True)
            cost = one_cost(backend, Kernel(item))
            assert cost.details["array cycles"] == int(row["cycles"])
            assert cost.compute_seconds >= int(row["cycles"]) * 1e-9 * (1 - 1e-9)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Conv(2, 8, 32, 10, 20, 10, 20, 3, 1), Product(2, 200, 24, 32)),
        (Conv(1, 32, 32, 10, 20, 10, 20, 3, 3, groups=32), Product(32, 200, 9, 1)),
        (Conv(1, 64, 32, 14, 14, 28, 28, 2, 2, 2, 2, transposed=True), Product(1, 196, 64, 128)),
        (MatMul(3, 196, 64, 197, dynamic=True), Product(3, 196, 64, 197)),
    ],
)
def test_products_of_layers(item: Conv | MatMul, expected: Product) -> None:
    found = product(item)
    assert found == expected
    assert found.groups * found.m * found.k * found.n == item.macs


def test_attention_products_run_natively() -> None:
    cost = one_cost(array(), Kernel(MatMul(3, 196, 64, 196, dynamic=True)))
    assert cost.utilisation > 0.5
    assert "dram bytes" not in cost.details or cost.details["dram bytes"] == 0


def test_depthwise_uses_one_column() -> None:
    cost = one_cost(array(), Kernel(Conv(1, 96, 96, 56, 56, 56, 56, 3, 3, groups=96)))
    assert cost.utilisation < 9 / 256


def test_weights_that_are_streamed_again_go_through_the_activation_memory() -> None:
    """196 rows on 16: the output-stationary array loads the second operand 13 times, the other once."""
    item = Kernel(MatMul(1, 196, 192, 768))
    weight, output = (one_cost(array(dataflow=name), item) for name in ("weight", "output"))
    bytes_of_weights = 192 * 768 + 10 * 768
    assert weight.details["dram bytes"] == output.details["dram bytes"] == bytes_of_weights
    assert weight.details["own bytes"] == 196 * (192 + 768)
    assert output.details["own bytes"] == weight.details["own bytes"] + bytes_of_weights * 14


def test_input_that_does_not_fit_is_read_once_per_fold() -> None:
    item = Kernel(MatMul(1, 1024, 128, 64))  # 128 KiB of input, four folds of 16 columns
    once, again = (one_cost(array(operand_buffer=size), item) for size in ("128 KiB", "64 KiB"))
    assert again.details["own bytes"] - once.details["own bytes"] == 3 * 1024 * 128


def test_one_row_product_is_bound_by_the_weight_bus() -> None:
    cost = one_cost(array("systolic-32x32"), Kernel(MatMul(1, 1, 640, 1000)))
    assert cost.bound == "weights"
    assert cost.seconds == pytest.approx((640000 + 10000) / 4e9 + 100e-9)


def test_the_steps_behind_the_array_are_those_of_every_engine() -> None:
    item = MatMul(1, 196, 192, 64)
    plain, add = (one_cost(array(), Kernel(item, steps)) for steps in ((), ("bias", "relu", "add")))
    assert add.details["own bytes"] == plain.details["own bytes"] + 196 * 64
    assert one_cost(array(), Kernel(Elementwise(1600, 2, "add"))).compute_seconds == pytest.approx(100e-9)
    pool = Reduction("max_pool", 1, 64, 28, 28, 14, 14, 2, 2)
    assert one_cost(array(), Kernel(pool)).compute_seconds == pytest.approx(14 * 14 * 64 * 4 / 16 * 1e-9)
    wide = one_cost(array(), Kernel(item, (), Precision(16, 8)))
    assert wide.compute_seconds == pytest.approx(2 * plain.compute_seconds)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Kernel(Generic("GRU", 1, 1, 1)), "no kernel for GRU"),
        (Kernel(MatMul(1, 1, 8, 8), (), Precision(32, 32)), "32-bit operands"),
        (Kernel(MatMul(1, 1, 8, 8), ("softmax",)), "output unit has no softmax"),
    ],
)
def test_refusals_say_why(item: Kernel, reason: str) -> None:
    assert reason in refusal(array(), item)
