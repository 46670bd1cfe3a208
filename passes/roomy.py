"""Search with an eye on the memories: what there is no room for counts as ticks of the latency.

The local search for one frame does not know the memories; what does not fit is spilled once its schedule is there. Often a
schedule that is hardly slower would have fitted. So where something was spilled, a further search sets out from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.errors import InfeasibleError
from h4hc.passes.core import Problem
from h4hc.passes.room import with_room

if TYPE_CHECKING:
    from h4hc.passes.plans import Plan
    from h4hc.passes.search import Searcher

_SHARE = {"fast": 4, "balanced": 1, "exact": 1}  # one in so many evaluations
_SEED = 0x9E3779B97F4A7C15


def minding_room(searcher: Searcher, mask: int, plan: Plan, evaluations: int) -> Plan:
    """`plan`, or if it spills a better one found nearby, for one frame in flight."""
    effort, spilled = searcher.compilation.options.effort, len(plan.spilled - searcher.spilled)
    if searcher.frames > 1 or searcher.whole or not spilled:
        return plan
    if effort == "fast" and spilled > 1:  # they can rarely all be avoided
        return plan
    full = searcher.full
    problem = problem_with_room(full)
    start = plan.modes, plan.tiles, evaluations // _SHARE[effort]
    modes, tiles = problem.climb(*start, _SEED, mask, searcher.objective, searcher.budget)
    try:
        found = full.fit_memory(tuple(modes), tuple(tiles))
    except InfeasibleError:  # what `plan` holds fits the memories
        return plan
    return min(plan, found, key=lambda plan: plan.score)


def problem_with_room(searcher: Searcher) -> Problem:
    """The problem of `searcher` with what its buffers take in the memories."""
    return Problem(with_room(searcher.system, searcher.compilation.target, searcher.spilled).data)
