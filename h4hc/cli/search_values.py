"""Measures of a search as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.cli.units import si, size

if TYPE_CHECKING:
    from h4hc.search.study.measures import Measure

_UNITS = {"time": "s", "energy": "J", "count": ""}


def show(measure: Measure, value: float | None) -> str:
    """`value` with its unit; empty if it is not known."""
    if value is None:
        return ""
    if measure.dimension == "bytes":
        return size(int(value))
    if measure.dimension in _UNITS:
        return si(value, _UNITS[measure.dimension])
    return f"{value:.4f}" if 0 <= value <= 1 else f"{value:.4g}"  # accuracies stand below each other


def title(measure: Measure, score_kind: str) -> str:
    """The name of a measure; a score is called what it is."""
    if measure.name == "score":
        return "score" if score_kind == "proxy" else "accuracy"
    return measure.name
