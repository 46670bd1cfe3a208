"""Thorough: the search of higher efforts, but for the throughput.

In:  a searcher, plans that are known. Out: the best plan found.

Rules:
1. Where weights may be copied, a search as if they were not comes first, in the same steps as on a target that does not
   offer it. A second one sets out from its result; the better of both is never worse than without copies.
2. A search is a race of local searches from seeds and known plans. What its result spills is spilled from the start in
   further ones, as long as that helps; others mind the room. The last local search sets out from the best of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from h4hc.errors import InfeasibleError
from h4hc.passes.copies import among_copies, of_copies

if TYPE_CHECKING:
    from h4hc.passes.plans import Plan
    from h4hc.passes.search import Searcher

_RACE = 0.5  # of the evaluations, for each start
_NUMBER = 3  # of the last local search, which draws other moves than those of races


def thorough(searcher: Searcher, mask: int, warm: Sequence[Plan], evaluations: int) -> Plan | None:
    """The best plan found on the devices of `mask`; None if some operator runs on none of them."""
    known = list({(plan.modes, plan.tiles, plan.spilled): plan for plan in reversed(warm)}.values())[::-1]
    single = searcher.single
    if single is None:
        return _searched(searcher, mask, known, evaluations)
    plan = thorough(single, mask, [plan.single or _single(plan, single) for plan in known], evaluations)
    if plan is None:
        return None
    start = with_copies(plan, searcher)
    return replace(_onward(searcher, mask, [*known, start], start, evaluations), single=plan)


def with_copies(plan: Plan, searcher: Searcher) -> Plan:
    """`plan`, found without copies, in the system of `searcher`, which offers them."""
    modes = tuple(among_copies(searcher.base, plan.modes))
    return replace(plan, system=searcher.spilled_system(plan.spilled), modes=modes, single=plan)


def _single(plan: Plan, single: Searcher) -> Plan:
    """`plan` with every copy replaced by what it copies."""
    modes, system = tuple(of_copies(plan.system, plan.modes)), single.spilled_system(plan.spilled)
    return single.rescored(replace(plan, system=system, modes=modes, trace=None))


def _searched(searcher: Searcher, mask: int, warm: list[Plan], evaluations: int) -> Plan | None:
    """The best plan found without copies of weights."""
    plan = searcher.searched(mask, warm, evaluations, int(evaluations * _RACE))
    return plan and _continued(searcher, mask, plan, evaluations)


def _continued(searcher: Searcher, mask: int, plan: Plan, evaluations: int) -> Plan:
    """`plan`, or a better one that local search finds from there."""
    there = searcher.spilling(plan.spilled)
    _, tiles, modes = there.filled(there.known(plan.modes, plan.tiles))
    modes, tiles = there.climb(modes, tiles, evaluations, mask, _NUMBER)
    try:
        found = there.fit_memory(tuple(modes), tuple(tiles))
    except InfeasibleError:  # what `plan` holds fits the memories
        return plan
    return min(plan, found, key=_score)


def _onward(searcher: Searcher, mask: int, warm: Sequence[Plan], plan: Plan, evaluations: int) -> Plan:
    """`plan`, or a better one that copies weights."""
    there = searcher.spilling(plan.spilled).full
    starts = there.starts(mask, [there.known(other.modes, other.tiles) for other in warm])
    raced = there.race([*starts, there.known(plan.modes, plan.tiles)], evaluations, mask)
    try:
        found = there.fitted(there.filled(raced))
    except InfeasibleError:  # the activations of `plan` fit the memories
        return plan
    return min(plan, found, key=_score)


def _score(plan: Plan) -> tuple[float, float, float]:
    return plan.score
