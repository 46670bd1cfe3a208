"""Inherit: the placement of a similar model that is compiled already, as the start of a search.

In:  the parent's graph and placement, the new model's problem. Out: modes and tiles of its operators.

Rules:
1. Operators are aligned in graph order by runs of equal kernels: those at the beginning and the end, then the longest first.
2. Between aligned runs, operators of the same classes of kernels in the same order are aligned one by one: the same layers
   with other sizes. Else runs of equal class and rows are.
3. What is left is like some operator elsewhere in the parent: an added block is mostly one more of a kind. Its model is the
   operator behind the model of the operator before, if that is like it, else the one with the longest like run behind it.
4. An operator runs where its counterpart or model runs, in its mode and tile count if it has them. Without either it runs
   where the operator before it does, if it can, else where it is fastest.
5. What exceeds a device's capacity then moves away, the least useful first.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Operator
from h4hc.ir.system import System
from h4hc.ir.workload import kernel_class
from h4hc.passes.capacity import repair_capacity

_LONGEST = 16  # operators of a run that are compared
_CLOSEST = 32  # operators on either side among which one is chosen
_AROUND = range(-2, 2)  # what is near a change, by distance: moves of runs may begin before it


class Inheritance(NamedTuple):
    """Modes and tile counts, and the operators that have no equal in the parent."""

    modes: list[int]
    tiles: list[int]
    changed: list[int]

    @property
    def near_changes(self) -> list[int]:
        """The operators that have no equal, and those around them."""
        near = {v + k for v in self.changed for k in _AROUND}
        return sorted(near.intersection(range(len(self.modes))))


def inherited(parent: Compilation, compilation: Compilation, system: System) -> Inheritance | None:
    """Where the operators of `compilation` run if they follow `parent`; None if they do not fit."""
    graph, old, placement = compilation.graph, parent.graph, parent.placement
    if graph is None or old is None or placement is None:
        raise ValueError("a parent is a finished compilation")
    before, after = _keys(parent, compilation)
    known = dict(aligned(old.operators, graph.operators, before, after))
    changed = [v for v, key in enumerate(after) if v not in known or before[known[v]] != key]
    if len(known) < len(after):
        known = with_models(known, old.operators, graph.operators, before, after)
    modes, tiles = [], []
    device, count = "", 1
    for v, operator in enumerate(graph.operators):
        u, mode = known.get(v), ""
        if u is not None:
            device, mode, count = placement.devices[u], placement.modes[u], placement.tiles[u]
        modes.append(similar_mode(system, v, device, mode))
        tiles.append(min(count, operator.rows))
    fitting = repair_capacity(system, modes, (1 << len(system.devices)) - 1)
    return None if fitting is None else Inheritance(fitting, tiles, changed)


def inherited_spills(parent: Compilation, system: System) -> frozenset[tuple[str, str]]:
    """What `parent` spills, as far as `system` has tensors of these names."""
    if parent.placement is None:
        return frozenset()
    names = set(system.tensors)
    return frozenset([spill for spill in parent.placement.spilled if spill[0] in names])


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
    if not us or not vs:
        return
    before, after = [kernel_class(old[u].kernel) for u in us], [kernel_class(new[v].kernel) for v in vs]
    if before == after:
        yield from zip(vs, us, strict=True)
        return
    likes = [(name, old[u].rows) for name, u in zip(before, us, strict=True)]
    wanted = [(name, new[v].rows) for name, v in zip(after, vs, strict=True)]
    for block in SequenceMatcher(None, likes, wanted, autojunk=False).get_matching_blocks():
        yield from ((vs[block.b + k], us[block.a + k]) for k in range(block.size))


def with_models(
    known: dict[int, int],
    old: Sequence[Operator],
    new: Sequence[Operator],
    before: Sequence[Hashable],
    after: Sequence[Hashable],
) -> dict[int, int]:
    """`known` and, for operators without counterpart, the number of an operator of `old` that is like them, if there is one.

    Like are equal kernels, else those of equal class and rows, else those of equal class.
    """
    found = dict(known)
    rest = [v for v in range(len(new)) if v not in known]
    for keys in _likenesses(old, new, before, after):
        places = defaultdict[Hashable, list[int]](list)
        for u, key in enumerate(keys[0]):
            places[key].append(u)
        for v in rest:
            if keys[1][v] in places:
                found[v] = _model(*keys, v, found.get(v - 1, -1), places[keys[1][v]])
        rest = [v for v in rest if v not in found]
        if not rest:
            break
    return found


def _likenesses(
    old: Sequence[Operator], new: Sequence[Operator], before: Sequence[Hashable], after: Sequence[Hashable]
) -> Iterator[tuple[Sequence[Hashable], Sequence[Hashable]]]:
    """What is equal where operators are like each other, ever less strictly."""
    yield before, after
    classes = [[kernel_class(operator.kernel) for operator in group] for group in (old, new)]
    likes = [
        [(name, operator.rows) for name, operator in zip(names, group, strict=True)]
        for names, group in zip(classes, (old, new), strict=True)
    ]
    yield likes[0], likes[1]
    yield classes[0], classes[1]


def _model(
    before: Sequence[Hashable], after: Sequence[Hashable], v: int, last: int, places: Sequence[int]
) -> int:
    """Of the operators at `places`, all like `v`, the one behind `last`, else that of the longest run, else the closest."""
    if last + 1 < len(before) and before[last + 1] == after[v]:
        return last + 1
    here = bisect(places, last)

    def run(u: int) -> int:
        most = min(_LONGEST, len(before) - u, len(after) - v)
        return next((k for k in range(1, most) if before[u + k] != after[v + k]), most)

    close = places[max(0, here - _CLOSEST) : here + _CLOSEST]
    return max(close, key=lambda u: (run(u), -abs(u - last)))


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
