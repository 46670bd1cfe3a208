"""Inherit: the placement of a similar model that is compiled already, as the start of a search.

In:  the parent's graph and placement, the new model's problem. Out: modes and tiles of its operators.

Rules:
1. Operators are aligned in graph order by runs of equal kernels: those at the beginning and the end, then the longest first.
2. Between aligned runs, operators of equal count are aligned one by one: the same layers with other sizes. Of unequal
   counts, those that correspond by kind are, from both ends.
3. An aligned operator runs where its counterpart runs, in its mode and tile count if it has them.
4. The others run where the operator before them runs, if they can, else where they are fastest, in as many tiles.
5. What exceeds a device's capacity then moves away, the least useful first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher

from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Operator
from h4hc.ir.system import System
from h4hc.passes.capacity import repair_capacity

Start = tuple[list[int], list[int]]  # modes, tiles


def inherited(parent: Compilation, compilation: Compilation, system: System) -> Start | None:
    """Where the operators of `compilation` run if they follow `parent`; None if they do not fit."""
    graph, old, placement = compilation.graph, parent.graph, parent.placement
    if graph is None or old is None or placement is None:
        raise ValueError("a parent is a finished compilation")
    known = dict(aligned(old.operators, graph.operators, *_keys(parent, compilation)))
    modes, tiles = [], []
    device, before = "", 1
    for v, operator in enumerate(graph.operators):
        u, mode = known.get(v), ""
        if u is not None:
            device, mode, before = placement.devices[u], placement.modes[u], placement.tiles[u]
        modes.append(similar_mode(system, v, device, mode))
        tiles.append(min(before, operator.rows))
    fitting = repair_capacity(system, modes, (1 << len(system.devices)) - 1)
    return None if fitting is None else (fitting, tiles)


def _keys(parent: Compilation, compilation: Compilation) -> tuple[list[Hashable], list[Hashable]]:
    """Per operator of either what is equal where the kernels are. A compiler keeps one row of costs per kernel."""
    old, new = parent.graph, compilation.graph
    if parent.backends is compilation.backends and parent.costs is not None and compilation.costs is not None:
        return [id(row) for row in parent.costs.rows], [id(row) for row in compilation.costs.rows]
    if old is None or new is None:
        raise ValueError("a parent is a finished compilation")
    return [operator.kernel for operator in old.operators], [operator.kernel for operator in new.operators]


def aligned(
    old: Sequence[Operator], new: Sequence[Operator], before: Sequence[Hashable], after: Sequence[Hashable]
) -> Iterator[tuple[int, int]]:
    """(new, old) numbers of operators that correspond. `before` and `after` are equal where operators are."""
    shorter = min(len(before), len(after))
    first = next((k for k in range(shorter) if before[k] != after[k]), shorter)
    rest = range(1, shorter - first + 1)
    last = next((k for k in rest if before[-k] != after[-k]), shorter - first + 1) - 1
    u, v = len(before) - last, len(after) - last
    yield from ((k, k) for k in range(first))
    yield from ((v + k, u + k) for k in range(last))
    blocks = SequenceMatcher(None, before[first:u], after[first:v], autojunk=False).get_matching_blocks()
    u = v = first
    for block in blocks:
        a, b = first + block.a, first + block.b
        yield from _between(old, new, range(u, a), range(v, b))
        yield from ((b + k, a + k) for k in range(block.size))
        u, v = a + block.size, b + block.size


def _between(
    old: Sequence[Operator], new: Sequence[Operator], us: range, vs: range
) -> Iterator[tuple[int, int]]:
    """The correspondence of operators none of which has an equal kernel on the other side."""
    if len(us) == len(vs):
        yield from zip(vs, us, strict=True)
        return
    count = min(len(us), len(vs))
    first = 0
    while first < count and old[us[first]].kind == new[vs[first]].kind:
        yield vs[first], us[first]
        first += 1
    last = 1
    while last <= count - first and old[us[-last]].kind == new[vs[-last]].kind:
        yield vs[-last], us[-last]
        last += 1


def similar_mode(system: System, v: int, device: str, mode: str) -> int:
    """The mode of operator `v` that is most like the wanted one: on that device, of that name, fast."""
    data, first = system.data, system.data["mode_ptr"][v]
    best = 0, (True, True, 0)
    for m, cost in enumerate(system.mode_costs[v]):
        there = system.devices[data["mode_device"][first + m]] == device
        if there and cost.mode == mode:
            return m
        key = not there, cost.mode != mode, data["mode_work"][first + m]
        if not m or key < best[1]:
            best = m, key
    return best[0]
