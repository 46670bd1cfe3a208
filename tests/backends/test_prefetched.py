"""Costs of operators whose weights a fetch has put in the device's memory."""

from __future__ import annotations

import pytest
from backend_helpers import one_device
from hypothesis import given, settings
from hypothesis import strategies as st

from h4hc.backends.base import Backend
from h4hc.backends.engine import Engine
from h4hc.ir.cost import Refusal
from h4hc.ir.workload import Conv, Kernel, MatMul, Move, Precision

ENGINES: dict[str, Backend] = {
    name: one_device("npu" if name.startswith("ethos") else "systolic", name)
    for name in ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256", "systolic-16x16", "systolic-tpu-64x64")
}
extent = st.integers(1, 64)
layers = st.one_of(
    st.builds(
        lambda c, o, h, w, k, s: Conv(
            1, c, o, (h - 1) * s + k, (w - 1) * s + k, h, w, k, k, s, s
        ),
        extent, extent, extent, extent, st.integers(1, 5), st.integers(1, 2),
    ),
    st.builds(lambda c, h, w: Conv(1, c, c, h + 2, w + 2, h, w, 3, 3, groups=c), extent, extent, extent),
    st.builds(MatMul, st.just(1), st.integers(1, 64), st.integers(1, 600), st.integers(1, 600)),
)  # fmt: skip
kernels = st.builds(
    Kernel,
    layers,
    st.lists(st.sampled_from(["bias", "relu", "lut", "add"]), max_size=2).map(tuple),
    st.just(Precision()),
    st.none() | st.integers(1, 128).map(lambda sixteenths: sixteenths / 16),
)


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=100, deadline=None)
@given(kernel=kernels)
def test_fetched_weights_are_paid_for(name: str, kernel: Kernel) -> None:
    """No faster than the array and either memory; each encoded byte is read there, written here and read here."""
    backend = ENGINES[name]
    assert isinstance(backend, Engine)
    plain = backend.costs(kernel)
    assert not isinstance(plain, Refusal)
    found = backend.prefetched(kernel)
    assert found == backend.prefetched_cost(kernel)
    assert found is backend.prefetched(kernel)  # worked out once
    assert found is not None
    fetch = found.fetch
    assert found.mode == "prefetch"
    assert fetch is not None
    assert not found.details.get("dram bytes")
    assert found.seconds >= kernel.workload.macs / backend.peak().macs_per_second * (1 - 1e-9)
    assert found.seconds >= found.details["own bytes"] / backend.activations.bandwidth * (1 - 1e-9)
    assert found.details["own bytes"] >= 2 * found.details["fetched bytes"]
    assert 0 <= fetch.bytes - found.details["fetched bytes"] < 1
    assert fetch.seconds >= backend.weights.latency + fetch.bytes / backend.weights.bandwidth
    assert fetch.joules == pytest.approx(fetch.bytes * 64e-12)
    assert sum(found.energy.values()) == pytest.approx(found.joules)
    assert plain[0].details["dram bytes"] >= found.details["fetched bytes"] * (1 - 1e-9)


@pytest.mark.parametrize("name", ENGINES)
def test_weights_that_wait_for_dram_gain(name: str) -> None:
    kernel = Kernel(MatMul(1, 1, 1024, 1000))
    flash = {"kind": "flash", "bandwidth": "0.5 GB/s"}
    backend = one_device("npu" if name.startswith("ethos") else "systolic", name, weights=flash)
    plain, found = backend.costs(kernel), backend.prefetched(kernel)
    assert not isinstance(plain, Refusal)
    assert found is not None
    assert found.seconds < 0.7 * plain[0].seconds


@pytest.mark.parametrize(
    "kernel",
    [
        Kernel(MatMul(4, 16, 64, 16, dynamic=True)),
        Kernel(Move("view", 64, 64, 1)),
        Kernel(Conv(1, 8, 8, 8, 8, 8, 8, 1, 1), (), Precision(32, 32)),
        Kernel(MatMul(1, 1, 64, 64), ("no such step",)),
    ],
)
def test_nothing_to_fetch(kernel: Kernel) -> None:
    assert all(backend.prefetched(kernel) is None for backend in ENGINES.values())


def test_weights_beside_activations_need_no_fetch() -> None:
    backend = one_device("npu", "ethos-u85-256")
    assert isinstance(backend, Engine)
    backend.weights = backend.activations
    assert backend.prefetched(Kernel(MatMul(1, 1, 64, 64))) is None


def test_other_kinds_of_devices_do_not_fetch() -> None:
    kernel = Kernel(MatMul(1, 1, 64, 64))
    assert one_device("cim", "mram-nmc-22nm").prefetched(kernel) is None
    assert one_device("host", "cortex-m55").prefetched(kernel) is None
