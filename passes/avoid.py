"""Avoid: operators of one kind leave a memory in which their buffers have no room.

In:  a plan, what it spills. Out: modes.

Where a layer grew, the buffers of a whole stage may no longer fit. No single move helps then, as the others would still wait
for the backing memory; so all operators that are alike (`data["alike"]`) move together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from h4hc.ir.system import System
from h4hc.passes.core import Problem
from h4hc.passes.plans import Plan


def moved_away(
    plan: Plan, spilled: Iterable[tuple[str, str]], problem: Problem, rated: tuple[int, int, int]
) -> list[int]:
    """The modes of `plan`, or better: with operators like those that use a buffer of `spilled` on other devices.

    `problem` knows what is spilled. `rated`: objective, budget and frames.
    """
    modes, tiles = list(plan.modes), list(plan.tiles)
    for kind, memory in _users(plan, spilled):
        moved = _elsewhere(plan.system, modes, kind, memory)
        if moved:
            modes = problem.best([modes, *moved], [tiles], *rated)[2]
    return modes


def _users(plan: Plan, spilled: Iterable[tuple[str, str]]) -> list[tuple[int, int]]:
    """(kind, memory) of the operators that use these buffers there, by first use, each once."""
    system, data = plan.system, plan.system.data
    index = {name: tensor for tensor, name in enumerate(system.tensors)}
    found: dict[tuple[int, int], None] = {}
    for tensor, memory in sorted([(index[name], system.memories.index(place)) for name, place in spilled]):
        first, last = data["cons_ptr"][tensor : tensor + 2]
        for v in (data["producer"][tensor], *data["cons_op"][first:last]):
            if v < 0:  # an input of the model
                continue
            device = data["mode_device"][data["mode_ptr"][v] + plan.modes[v]]
            if data["dev_memory"][device] == memory:
                found[data["alike"][v], memory] = None
    return list(found)


def _elsewhere(system: System, modes: Sequence[int], kind: int, memory: int) -> list[list[int]]:
    """`modes` with the operators of a kind, as far as they can, on each device that does not compute in `memory`.

    They take modes without resident weights.
    """
    data, found = system.data, []
    device_of, resident, pointers = data["mode_device"], data["mode_resident"], data["mode_ptr"]
    group = [v for v, alike in enumerate(data["alike"]) if alike == kind]
    for device, where in enumerate(data["dev_memory"]):
        if where == memory:
            continue
        moved = list(modes)
        for v in group:
            there = range(pointers[v], pointers[v + 1])
            wanted = (m for m in there if device_of[m] == device and not resident[m])
            moved[v] = next(wanted, there[moved[v]]) - there[0]
        if moved != modes:
            found.append(moved)
    return found
