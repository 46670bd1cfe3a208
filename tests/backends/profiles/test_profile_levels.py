"""Where a cost comes from: measured, interpolated, calibrated, analytical, with numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_toy import MHZ, Toy, add, conv, linear, profile, row, target, toy

from h4hc.backends.profiles.load import Source, book_of, calibration_of
from h4hc.backends.profiles.model import Profiled
from h4hc.backends.profiles.table import Measurement, Places, Profile
from h4hc.errors import ProfileError
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.workload import Conv, Generic, Kernel, Move


def profiled(found: Profile, keep_fallbacks: bool = False, **settings: Any) -> Profiled:
    described = target(**settings)
    base = Toy(described.device("toy"), described)
    sources = [Source("acme.csv", "0" * 64, found)]
    book = book_of(sources, base, described, keep_fallbacks)
    return Profiled(base, book, lambda: calibration_of(sources, book, base, thorough=False))


def cost_of(backend: Profiled, kernel: Kernel) -> Cost:
    found = backend.costs(kernel)
    assert isinstance(found, tuple)
    return found[0]


def test_measured_is_what_was_measured() -> None:
    backend = profiled(profile(row(linear(), 150e-6, seconds_std=3e-6)))
    cost = cost_of(backend, linear(epilogue=("bias",)))
    assert cost.seconds == 150e-6
    assert cost.source == "measured (acme.csv)"
    assert cost.uncertainty == pytest.approx(0.02)
    assert cost.compute_seconds == pytest.approx(100e-6 * 150 / 101)  # the terms keep their proportions
    assert cost.details["analytical seconds"] == pytest.approx(101e-6)


def test_of_several_rows_the_median_counts() -> None:
    rows = [row(linear(), seconds) for seconds in (150e-6, 140e-6, 900e-6)]
    cost = cost_of(profiled(profile(*rows)), linear())
    assert cost.seconds == 150e-6
    assert cost.uncertainty == pytest.approx((900 - 140) / 2 / 150)


def test_another_clock_scales_compute() -> None:
    """Measured at 200 MHz: 50.5 us by the model, so 1.5 times as long; at 100 MHz the model says 101 us."""
    found = profile(row(linear(), 75.75e-6), clock=200 * MHZ)
    assert cost_of(profiled(found), linear()).seconds == pytest.approx(1.5 * 101e-6)


def test_another_clock_keeps_memory_time() -> None:
    """3000 bytes take 3 us at any clock; 1000 elements 0.1 us; the operator 1 us at 100 MHz, 0.5 us at 200 MHz."""
    found = profile(row(add(), 7e-6), clock=200 * MHZ)
    assert cost_of(profiled(found), add()).seconds == pytest.approx(2 * (3e-6 + 1e-6))


def test_energy_goes_without_idle_power() -> None:
    """150 us at 1 mW are 0.15 uJ."""
    found = profile(row(linear(), 150e-6, joules=2.15e-6))
    cost = cost_of(profiled(found), linear())
    assert cost.joules == pytest.approx(2e-6)
    assert sum(cost.energy.values()) == pytest.approx(2e-6)
    dynamic = profile(row(linear(), 150e-6, joules=2.15e-6), energy="dynamic")
    assert cost_of(profiled(dynamic), linear()).joules == 2.15e-6
    unmeasured = cost_of(profiled(profile(row(linear(), 150e-6))), linear())
    assert unmeasured.joules == pytest.approx(1e-6 + 1e-9)


def test_interpolated_between_neighbours_in_log_space() -> None:
    """Ratios 1.2 and 1.25 of neighbours at equal distance give their geometric mean."""
    rows = [row(linear(m=50), 1.2 * 51e-6), row(linear(m=200), 1.25 * 201e-6)]
    cost = cost_of(profiled(profile(*rows)), linear())
    assert cost.source == "interpolated (acme.csv)"
    assert cost.seconds == pytest.approx((1.2 * 1.25) ** 0.5 * 101e-6, rel=2e-3)
    rows = [row(linear(m=60), 1.2 * 61e-6), row(linear(m=105), 1.25 * 106e-6)]
    near = cost_of(profiled(profile(*rows)), linear())
    assert near.seconds == pytest.approx(1.25 * 101e-6, rel=2e-3)  # the nearer one counts more
    assert cost.joules == pytest.approx(1e-6 + 1e-9)


def test_energy_is_interpolated_likewise() -> None:
    rows = [
        row(linear(n=size), 1.2 * seconds, joules=3 * (size * 1e-8 + 1e-9))
        for size, seconds in ((50, 51e-6), (200, 201e-6))
    ]
    cost = cost_of(profiled(profile(*rows, energy="dynamic")), linear())
    assert cost.joules == pytest.approx(3 * (1e-6 + 1e-9))


@pytest.mark.parametrize(
    "rows",
    [
        [row(linear(n=50), 61e-6)],  # one neighbour
        [row(linear(n=50), 61e-6), row(linear(n=201), 241e-6)],  # the second is more than twice as large
        [row(linear(n=50), 51e-6), row(linear(n=200), 1.31 * 201e-6)],  # they disagree
        [row(linear(n=50), 61e-6), row(linear(n=200, epilogue=("add",)), 241e-6)],  # another epilogue
    ],
)
def test_no_interpolation_without_agreeing_neighbours(rows: list[Measurement]) -> None:
    assert cost_of(profiled(profile(*rows)), linear()).source == "calibrated (acme.csv)"


def test_neighbours_have_the_same_kernel_size() -> None:
    rows = [row(conv(size=size, kernel=5), size * size * 1e-6) for size in (8, 12)]
    assert cost_of(profiled(profile(*rows)), conv(size=10)).source == "calibrated (acme.csv)"
    assert cost_of(profiled(profile(*rows)), conv(size=10, kernel=5)).source == "interpolated (acme.csv)"


def test_calibrated_by_class() -> None:
    """Ten compute-bound products take twice the model's time; an eleventh far from all of them does, too."""
    rows = [row(linear(m=40 * i, k=900), 2 * (3.6e-5 * i * 10) + 1e-6) for i in range(1, 11)]
    backend = profiled(profile(*rows))
    far = linear(m=40_000, k=900)
    cost = cost_of(backend, far)
    assert cost.source == "calibrated (acme.csv)"
    assert cost.seconds == pytest.approx(2 * 0.036 * 10, rel=0.02)
    assert cost.uncertainty is not None
    assert cost.uncertainty < 0.02
    assert cost_of(backend, add()).source == "analytical"


def test_few_rows_of_a_class_are_shrunk() -> None:
    """One row at 3 times the model: (1 x 3 + 4) / (1 + 4) = 1.4."""
    backend = profiled(profile(row(linear(m=1000, k=1000), 3 * 1e-2)))
    assert cost_of(backend, linear(m=100, k=5000)).seconds == pytest.approx(1.4 * 5e-3, rel=0.03)
    assert (
        backend.calibration.classes["fully connected"].calibrated is None
    )  # nothing is left to compare with


def test_leave_one_out_error() -> None:
    """Rows at 1.0 and at 1.2 times the model by turns: the factor between errs by 9 %, the nearest neighbours by more."""
    rows = [row(linear(m=100 * i), (1.0 if i % 2 else 1.2) * (1e-4 * i + 1e-6)) for i in range(1, 41)]
    backend = profiled(profile(*rows))
    found = backend.calibration.classes["fully connected"]
    assert found.rows == 40
    assert found.before == pytest.approx((0 + (1 - 1 / 1.2)) / 2, abs=0.01)
    assert found.calibrated == pytest.approx(0.09, abs=0.02)
    assert found.interpolated == pytest.approx(0.14, abs=0.03)


def test_likely_fallbacks_speak_for_nobody_else() -> None:
    rows = [row(linear(n=50), 6 * 51e-6), row(linear(n=200), 6 * 201e-6)]
    backend = profiled(profile(*rows))
    assert len(backend.book.fallbacks()) == 2
    assert cost_of(backend, linear()).source == "analytical"
    assert cost_of(backend, linear(n=50)).seconds == pytest.approx(6 * 51e-6)  # but it is what it is
    kept = profiled(profile(*rows), keep_fallbacks=True)
    assert cost_of(kept, linear()).source == "interpolated (acme.csv)"


def test_a_model_that_is_wrong_throughout_does_not_make_fallbacks() -> None:
    rows = [row(linear(n=50 + i), 8 * (50 + i) * 1e-6) for i in range(10)]
    assert profiled(profile(*rows)).book.fallbacks() == []


def test_rows_that_say_nothing_of_the_device() -> None:
    rows = [
        row(linear(), 1e-4, placement=Places("dram", "flash", "dram")),
        row(linear(n=110), 1.2e-4, overlapped_with="7"),
        Measurement(None, 1e-3, "model", onnx_op="*"),
        row(linear(n=120), 1.3e-4, placement=Places("SRAM", "flash", "sram")),
    ]
    book = profiled(profile(*rows)).book
    assert [key.kernel for key in book.entries] == [linear(n=120)]
    assert book.unused == {
        "of blocks and models, for calibration only": 1,
        "overlapped with other operators": 1,
        "with activations in dram": 1,
    }


def test_what_did_not_run_is_refused() -> None:
    backend = profiled(profile(row(linear(), 0.0, status="unsupported"), row(add(), 1e-3, status="fallback")))
    assert backend.costs(linear()) == Refusal("its profile says unsupported")
    assert backend.costs(add()) == Refusal("its profile says fallback")


def test_what_the_model_refuses_may_be_measured() -> None:
    kernel = Kernel(Generic("Einsum", 10, 10, 10))
    assert profiled(profile()).costs(kernel) == Refusal("no such kernel")
    timed = profiled(profile(row(kernel, 1e-3))).costs(kernel)
    assert timed == Refusal("no such kernel (measured, but its energy was not)")
    cost = cost_of(profiled(profile(row(kernel, 1e-3, joules=2e-6), energy="dynamic")), kernel)
    assert (cost.seconds, cost.joules, cost.source) == (1e-3, 2e-6, "measured (acme.csv)")


def test_views_stay_free() -> None:
    view = Kernel(Move("view", 0, 0))
    backend = profiled(profile(row(view, 1e-3)))
    assert backend.costs(view) == backend.base.costs(view)


def test_faster_than_the_peak_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"acme\.csv line 7: 90 us for 1000000 MACs is faster"):
        profiled(profile(row(linear(), 90e-6, line=7)))
    profiled(profile(row(linear(), 90e-6), clock=200 * MHZ))  # at twice the clock it is possible


def test_devices_and_compilers_are_not_mixed() -> None:
    described, base = target(), toy()
    first, other = profile(row(linear(), 1e-3)), Profile("ACME", "cc 2", (row(add(), 1e-3),))
    with pytest.raises(ProfileError, match=r"b.csv is of compiler 'cc 2', a.csv of 'cc 1'"):
        book_of([Source("a.csv", "", first), Source("b.csv", "", other)], base, described)


def test_encoded_weights_are_compared_with_encoded_weights() -> None:
    found = profile(row(linear(), 2e-4, encoded_bytes=5000))
    (entry,) = profiled(found).book.entries.values()
    assert entry.entropy == 4.0


def test_a_bandwidth_from_pairs_of_models_reaches_kernels_with_weights() -> None:
    """The flash is described at 1 GB/s; the models say 0.5 GB/s: 10 MB take 20 ms."""
    rows = [
        Measurement(None, 1e-3, "model", identifier="a", weight_bytes=0),
        Measurement(None, 3e-3, "model", baseline="a", weight_bytes=1_000_000),
        Measurement(None, 5e-3, "model", baseline="a", weight_bytes=2_000_000),
    ]
    cost = cost_of(profiled(profile(*rows)), linear(m=1, k=10_000, n=1000))
    assert cost.source == "calibrated (acme.csv)"
    assert cost.seconds == pytest.approx(20e-3 + 1e-6)


def test_a_measured_kernel_asks_the_model_once() -> None:
    backend = profiled(profile(*[row(linear(n=50 + i), 1e-4) for i in range(40)]))
    base = backend.base
    assert isinstance(base, Toy)
    before = base.asked
    backend.costs(linear(n=60))
    assert base.asked == before + 1


random_kernels = st.one_of(
    st.builds(linear, *[st.integers(1, 400)] * 3),
    st.builds(conv, st.sampled_from([4, 16, 24]), st.integers(1, 30), st.sampled_from([1, 3])),
    st.builds(add, st.integers(1, 10_000)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(random_kernels, st.floats(0.01, 100.0)), min_size=1, max_size=30), random_kernels)
def test_no_source_invents_a_cost(found: list[tuple[Kernel, float]], kernel: Kernel) -> None:
    base = toy()
    rows = []
    for other, factor in found:
        analytical = base.costs(other)
        assert isinstance(analytical, tuple)
        seconds = max(analytical[0].seconds * factor, other.workload.macs / base.peak().macs_per_second)
        rows.append(row(other, seconds, joules=seconds * factor))
    cost = cost_of(profiled(profile(*rows), keep_fallbacks=True), kernel)
    assert kernel.workload.macs / base.peak().macs_per_second * 0.989 <= cost.seconds < 1e3
    assert 0 < cost.joules < 1e3
    assert 0 <= cost.utilisation <= 1
    assert cost.uncertainty is None or 0 <= cost.uncertainty < 1e6


def test_depthwise_is_no_neighbour_of_pointwise() -> None:
    wide = [Kernel(Conv(1, c, c, 8, 8, 8, 8, 1, 1)) for c in (24, 40)]
    backend = profiled(profile(*[row(kernel, 2e-3) for kernel in wide]))
    thin = Kernel(Conv(1, 32, 32, 8, 8, 8, 8, 1, 1, groups=32))
    assert cost_of(backend, thin).source == "analytical"
