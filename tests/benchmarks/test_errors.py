"""Errors in, statistics out."""

import pytest

from benchmarks.references.errors import Pair, percentile, summarise


def test_a_summary_has_size_sign_and_worst():
    pairs = [Pair("a", "low", 10, 8), Pair("b", "other", 1, 1), Pair("a", "high", 10, 11)]
    first, second = summarise(pairs)
    assert (first.group, first.count, first.worst) == ("a", 2, "low (-20.0%)")
    assert first.mean == pytest.approx(0.15)
    assert first.median == pytest.approx(0.15)
    assert first.p90 == pytest.approx(0.19)
    assert first.bias == pytest.approx(-0.05)
    assert (second.group, second.mean, second.bias) == ("b", 0, 0)


def test_percentiles_lie_between_neighbours():
    assert percentile([5.0], 0.9) == 5
    assert percentile([0.0, 1.0, 2.0], 0.5) == 1
    assert percentile([0.0, 10.0], 0.25) == 2.5
