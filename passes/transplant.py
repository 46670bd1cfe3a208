"""A search that sets out from the placement of a similar model, found by the names of operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from h4hc.ir.compilation import Compilation
from h4hc.ir.system import System
from h4hc.passes.capacity import repair_capacity
from h4hc.passes.core import Problem
from h4hc.passes.inherit import similar_mode
from h4hc.passes.plans import Plan, simulate, to_placement
from h4hc.passes.search import Searcher

_TILES = 8  # of an operator that has no place yet

Place = tuple[str, str, int]  # device, mode, tiles


def searched_from(
    compilation: Compilation, known: Compilation, homes: Mapping[str, str], share: int = 1
) -> Compilation:
    """`compilation` with the best placement found from that of `known`, by the search of balanced effort with
    one in `share` of its evaluations.

    Operators that `known` does not have begin on their device in `homes`, or else where they are fastest.
    Raises InfeasibleError if there is no placement.
    """
    options = replace(compilation.options, baselines=False)
    searcher = Searcher(replace(compilation, options=options))
    everyone = searcher.base.device_mask(device.name for device in compilation.target.devices)
    modes, tiles = transplanted(compilation, searcher.base, places(known), homes)
    fitting = repair_capacity(searcher.base, modes, everyone)
    warm = []
    if fitting is not None:
        score = searcher.score(fitting, tiles, Problem(searcher.base.data))
        warm = [Plan(searcher.base, tuple(fitting), tuple(tiles), score, frozenset())]
    plan = searcher.search(everyone, warm, searcher.evaluations // share)
    if plan is None:
        raise ValueError("an operator runs on no device")  # the passes before have ruled that out
    return replace(compilation, placement=to_placement(plan), simulated=simulate(plan), alternatives=())


def places(compilation: Compilation) -> dict[str, Place]:
    """Where each operator of a finished placement runs."""
    graph, placement = compilation.graph, compilation.placement
    if graph is None or placement is None:
        raise ValueError("there is no placement yet")
    return {
        operator.name: (device, mode, tiles)
        for operator, device, mode, tiles in zip(
            graph.operators, placement.devices, placement.modes, placement.tiles, strict=True
        )
    }


def transplanted(
    compilation: Compilation, system: System, known: Mapping[str, Place], homes: Mapping[str, str]
) -> tuple[list[int], list[int]]:
    """Modes and tile counts in the indices of `system`."""
    if compilation.graph is None:
        raise ValueError("there is no graph")
    modes, tiles = [], []
    for v, operator in enumerate(compilation.graph.operators):
        device, mode, count = known.get(operator.name, (homes.get(operator.name, ""), "", _TILES))
        modes.append(similar_mode(system, v, device, mode))
        tiles.append(min(count, operator.rows))
    return modes, tiles
