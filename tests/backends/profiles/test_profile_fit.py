"""The fits: non-negative least squares, robustness, and what published measurements must give back."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_toy import MHZ

from h4hc.backends.profiles.fit import line, nnls, shrink
from h4hc.backends.profiles.overlap import Factors, Observation, Shape, Term, fit, seconds_of
from h4hc.backends.profiles.sums import fit_increment, fit_power
from h4hc.backends.profiles.table import Measurement, Profile
from h4hc.errors import ProfileError

SEPARATE = Shape(shared=False, overlap=1.0, command=1e-6)


def brute_force(matrix: np.ndarray, vector: np.ndarray) -> float:
    """The least residual over all choices of which unknowns are zero."""
    best = float(vector @ vector)
    count = matrix.shape[1]
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            x = np.linalg.lstsq(matrix[:, chosen], vector, rcond=None)[0]
            if (x >= -1e-12).all():
                rest = matrix[:, chosen] @ x - vector
                best = min(best, float(rest @ rest))
    return best


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12))
def test_nnls_is_as_good_as_trying_everything(seed: int, unknowns: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    matrix, vector = random.normal(size=(rows, unknowns)), random.normal(size=rows)
    x = nnls(matrix, vector)
    rest = matrix @ x - vector
    assert (x >= 0).all()
    assert float(rest @ rest) <= brute_force(matrix, vector) * (1 + 1e-9) + 1e-9


def test_unknowns_of_very_different_size() -> None:
    matrix = np.array([[1.0, 1e9], [1.0, 2e9], [1.0, 5e9]])
    x = nnls(matrix, matrix @ np.array([3e-3, 2e-10]))
    assert x == pytest.approx([3e-3, 2e-10], rel=1e-6)


def test_one_outlier_does_not_bend_the_fit() -> None:
    """Nineteen kernels take twice the model's time, one forty times: by plain logarithms, 2.3 times on average."""
    seconds = [1e-4 * (1 + index) for index in range(20)]
    rows = [Observation(2 * t, (Term("a", t, 0.0, 0.0, 0.0, 0.0),)) for t in seconds]
    rows[7] = Observation(40 * seconds[7], rows[7].terms)
    assert fit(rows, SEPARATE).classes["a"] == pytest.approx(2.0, rel=0.03)


def test_few_rows_count_for_less() -> None:
    assert shrink(2.0, 4) == pytest.approx(1.5)
    assert shrink(0.5, 0) == 1.0
    assert shrink(2.0, 8) == 2.0


def observations(truth: Factors, overlap: float, classes: tuple[str, ...], count: int) -> list[Observation]:
    random = np.random.default_rng(1)
    found = []
    for index in range(count):
        compute, activations, weights = 10 ** random.uniform(-5, -3, size=3)
        term = Term(
            classes[index % len(classes)], compute, activations, weights, 1e-6 * random.integers(1, 4), 0.0
        )
        found.append(Observation(seconds_of(term, truth, SEPARATE), (term,)))
    return found


@pytest.mark.parametrize("overlap", [1.0, 0.5, 0.0])
def test_factors_come_back(overlap: float) -> None:
    truth = Factors({"a": 1.4, "b": 0.8}, 1.25, 2.0, 1.0, 3.0, overlap)
    found = fit(observations(truth, overlap, ("a", "b"), 60), SEPARATE)
    assert found.overlap == overlap
    assert found.classes == pytest.approx(truth.classes, rel=0.03)
    assert (found.activations, found.weights) == pytest.approx((1.25, 2.0), rel=0.03)
    assert found.rows == {"a": 30, "b": 30}


def test_without_rows_that_say_so_nothing_moves() -> None:
    bound_by_compute = [Observation(2e-3, (Term("a", 1e-3, 1e-6, 1e-6, 1e-6, 0.0),)) for _ in range(10)]
    found = fit(bound_by_compute, SEPARATE)
    assert found.classes["a"] == pytest.approx(2.0, rel=0.05)
    assert (found.activations, found.weights, found.writes) == pytest.approx((1.0, 1.0, 1.0), rel=1e-6)


def test_sums_constrain_classes() -> None:
    """Two blocks of two kernels each tell two classes apart that were never measured alone."""
    a, b = Term("a", 1e-3, 0.0, 0.0, 0.0, 0.0), Term("b", 1e-3, 0.0, 0.0, 0.0, 0.0)
    blocks = [Observation(2e-3 + 1.5e-3, (a, b)), Observation(4e-3 + 1.5e-3, (a, a, b))] * 6
    found = fit(blocks, SEPARATE)
    assert (found.classes["a"], found.classes["b"]) == pytest.approx((2.0, 1.5), rel=0.05)


# STM32N6570-DK, published times in ms with a classifier for 101 and for 1000 classes (stm32ai-modelzoo): the weights
# differ by 899 classes of that many channels.
HEADS = [
    ("MobileNetV1 0.25", 256, 2.83, 3.57),
    ("MobileNetV1 0.5", 512, 6.06, 7.38),
    ("MobileNetV1 1.0", 1024, 16.94, 19.41),
    ("MobileNetV2 0.35 128", 1280, 3.33, 6.35),
    ("MobileNetV2 0.35 224", 1280, 6.12, 9.14),
    ("MobileNetV2 1.0", 1280, 18.08, 21.08),
]
# GAP9, MLPerf Tiny v1.0: MACs in millions, then ms and uJ at 0.65 V, 240 MHz and at 0.8 V, 370 MHz.
TINY = [
    ("ad", 0.264, (0.271, 5.252), (0.1757, 7.294)),
    ("ic", 12.51, (0.9493, 27.711), (0.6162, 40.356)),
    ("kws", 2.66, (0.7322, 18.561), (0.4755, 26.659)),
    ("vww", 7.49, (1.7331, 40.801), (1.1249, 58.356)),
]


def heads() -> Profile:
    rows = []
    for name, channels, small, large in HEADS:
        rows.append(
            Measurement(
                None,
                small * 1e-3,
                "model",
                model=name,
                identifier=f"{name} food101",
                weight_bytes=101 * channels,
            )
        )
        rows.append(
            Measurement(
                None,
                large * 1e-3,
                "model",
                model=name,
                baseline=f"{name} food101",
                weight_bytes=1000 * channels,
            )
        )
    return Profile("STM32N6", "ST Edge AI", tuple(rows))


def test_head_sizes_of_the_stm32n6_give_its_flash_bandwidth() -> None:
    found = fit_increment(heads())
    assert found is not None
    assert found.fixed == pytest.approx(0.18e-3, rel=0.01)
    assert found.bandwidth == pytest.approx(0.405e9, rel=0.005)
    assert max(abs(row.fitted / row.measured - 1) for row in found.rows) < 0.02


@pytest.mark.parametrize(("point", "idle", "per_mac"), [(0, 20.5e-3, 0.70e-12), (1, 44.3e-3, 1.10e-12)])
def test_four_benchmarks_of_the_gap9_give_its_power(point: int, idle: float, per_mac: float) -> None:
    rows = [
        Measurement(
            None, at[point][0] * 1e-3, "model", model=name, joules=at[point][1] * 1e-6, macs=round(macs * 1e6)
        )
        for name, macs, *at in TINY
    ]
    found = fit_power(Profile("GAP9", "GAP SDK", tuple(rows), clock=(240 * MHZ, 370 * MHZ)[point]))
    assert found is not None
    assert found.idle == pytest.approx(idle, rel=0.005)
    assert found.per_mac == pytest.approx(per_mac, rel=0.01)
    assert max(abs(row.fitted / row.measured - 1) for row in found.rows) < 0.12


def test_more_bytes_in_less_time_is_an_error() -> None:
    swapped = [replace(r, weight_bytes=5_000_000 - (r.weight_bytes or 0)) for r in heads().rows]
    with pytest.raises(ProfileError, match="take no more time"):
        fit_increment(Profile("d", "c", tuple(swapped)))


def test_one_pair_is_too_few() -> None:
    assert fit_increment(Profile("d", "c", heads().rows[:2])) is None


def test_a_line_survives_an_outlier() -> None:
    x = np.arange(10.0)
    y = 1 + 2 * x
    y[3] += 100
    assert line(x, y) == pytest.approx((1.0, 2.0), rel=0.05)
