"""The host model against measured cycles: MobileNetV2 on a Cortex-M55 (pytorch/executorch issue 17651)."""

from __future__ import annotations

import pytest
from backend_helpers import one_cost, one_device, rows

from h4hc.backends.base import Backend
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Precision, Reduction


@pytest.fixture(scope="module")
def host() -> Backend:
    return one_device("host", "cortex-m55")


@pytest.mark.parametrize("row", rows("cortex_m55_layers.csv"), ids=lambda row: row["layer"])
def test_measured_layers(host: Backend, row: dict[str, str]) -> None:
    in_c, out_c, size, out, kernel, stride, groups, cycles = (int(v) for v in list(row.values())[1:])
    conv = Conv(1, in_c, out_c, size, size, out, out, kernel, kernel, stride, stride, groups=groups)
    assert one_cost(host, Kernel(conv, ("bias", "relu"))).seconds * 4e8 == pytest.approx(cycles, rel=0.04)


@pytest.mark.parametrize(
    "workload",
    [
        Conv(1, 3, 5, 9, 9, 9, 9, 7, 1),
        Conv(2, 8, 4, 5, 5, 10, 10, 2, 2, 2, 2, transposed=True),
        MatMul(4, 3, 5, 7, dynamic=True),
        Elementwise(10, 3, "other"),
        Reduction("max", 1, 4, 8, 8, 1, 1),
        Move("gather", 10, 5),
        Generic("NonMaxSuppression", 100, 10, 5000),
    ],
)
@pytest.mark.parametrize("bits", [8, 32])
def test_host_takes_everything(host: Backend, workload: Conv, bits: int) -> None:
    cost = one_cost(host, Kernel(workload, ("lut", "add"), Precision(bits, bits)))
    assert cost.seconds > 0
    assert cost.joules > 0


def test_unknown_operators_are_marked(host: Backend) -> None:
    cost = one_cost(host, Kernel(Generic("NonMaxSuppression", 100, 10, 5000)))
    assert cost.source == "generic"
    assert cost.details["cycles"] >= 5000
