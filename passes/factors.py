"""Factors: for objectives that lie between others, plans for those are among the starts of the search."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from h4hc.passes.seeds import EDP, ENERGY, INTERVAL, LATENCY, LOAD

if TYPE_CHECKING:
    from h4hc.passes.plans import Plan
    from h4hc.passes.search import Searcher

_FACTORS = {EDP: (LATENCY, ENERGY), INTERVAL: (LATENCY, LOAD)}


def of_factors(searcher: Searcher, mask: int, warm: list[Plan], evaluations: int) -> list[Plan]:
    """Plans for what the objective of `searcher` lies between."""
    plans: list[Plan] = []
    factors = [(objective, searcher.frames) for objective in _FACTORS.get(searcher.objective, ())]
    if searcher.objective == INTERVAL and searcher.frames > 2:  # fewer frames fit more memories
        factors.append((INTERVAL, 2))
    for objective, frames in factors:
        other = copy(searcher)
        other.objective, other.frames = objective, frames
        if other.with_copies:
            other.with_copies = copy(other.with_copies)
            other.with_copies.objective, other.with_copies.frames = objective, frames
        known = [*warm, *plans] if objective == INTERVAL else warm
        found = other.raced(mask, known, evaluations)
        plans += [] if found is None else [found]
    return plans
