"""Schedules that need less memory: for targets whose memories are too small and have nothing behind them.

What can be spilled is (h4hc.passes.memory). Where that is not possible, these alternatives are tried: one tile per
operator, so that fewer rows are under way; an order in which the operator goes next that leaves the fewest bytes
alive; operators that use the largest buffers moved to devices with another memory; everything on one device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from h4hc.errors import InfeasibleError, Shortage
from h4hc.ir.system import System
from h4hc.ir.target import Target
from h4hc.passes.core import Problem
from h4hc.passes.memory import overflowing, usage
from h4hc.passes.sharing import memories_of

_ROUNDS = 24  # of moving operators away


class Choice(NamedTuple):
    """A placement, its tiles, and the order of scheduling if it is not the list scheduler's."""

    modes: tuple[int, ...]
    tiles: tuple[int, ...]
    order: tuple[int, ...] | None


def alternatives(
    system: System, target: Target, modes: Sequence[int], singles: Sequence[Sequence[int]]
) -> Iterator[Choice]:
    """Schedules that may need less memory than that of `modes`; `singles`: placements on one device each."""
    whole = (1,) * len(modes)
    placements = dict.fromkeys([tuple(modes), tuple(_moved(system, target, modes)), *map(tuple, singles)])
    for chosen in placements:
        yield Choice(chosen, whole, None)
        yield Choice(chosen, whole, frugal_order(system, chosen))


def frugal_order(system: System, modes: Sequence[int]) -> tuple[int, ...]:
    """The operators in an order that keeps few bytes alive: the one that frees most, or adds least, goes next."""
    data, sizes = system.data, system.bytes
    count = data["operators"]
    inputs = [data["in_tensor"][data["in_ptr"][v] : data["in_ptr"][v + 1]] for v in range(count)]
    outputs = [data["out_tensor"][data["out_ptr"][v] : data["out_ptr"][v + 1]] for v in range(count)]
    readers = [
        data["cons_ptr"][t + 1] - data["cons_ptr"][t] + data["sink"][t] for t in range(data["tensors"])
    ]
    waiting = [sum(data["producer"][t] >= 0 for t in inputs[v]) for v in range(count)]
    ready = [v for v in range(count) if not waiting[v]]
    order = []
    while ready:
        v = min(
            ready,
            key=lambda v: (
                sum(sizes[t] for t in outputs[v]) - sum(sizes[t] for t in inputs[v] if readers[t] == 1),
                v,
            ),
        )
        ready.remove(v)
        order.append(v)
        for t in inputs[v]:
            readers[t] -= 1
        for t in outputs[v]:
            for u in data["cons_op"][data["cons_ptr"][t] : data["cons_ptr"][t + 1]]:
                waiting[u] -= 1
                if not waiting[u]:
                    ready.append(u)
    return tuple(order)


def _moved(system: System, target: Target, modes: Sequence[int]) -> list[int]:
    """`modes` with the users of what does not fit a memory moved to devices with another one, as far as that goes."""
    data = system.data
    chosen, whole = list(modes), [1] * len(modes)
    problem = Problem(data)
    stuck: set[int] = set()
    for _ in range(_ROUNDS):
        trace = problem.trace(chosen, whole)
        victims = overflowing(system, problem, chosen, trace, target, frozenset())
        here = memories_of(system, chosen)
        moved = False
        for tensor, memory in sorted(victims):
            t, full = system.tensors.index(tensor), system.memories.index(memory)
            users = [data["producer"][t], *data["cons_op"][data["cons_ptr"][t] : data["cons_ptr"][t + 1]]]
            for v in users:
                if v < 0 or v in stuck or here[v] != full:
                    continue
                stuck.add(v)
                others = [
                    (data["mode_work"][m], m - data["mode_ptr"][v])
                    for m in range(data["mode_ptr"][v], data["mode_ptr"][v + 1])
                    if data["dev_memory"][data["mode_device"][m]] != full and not data["mode_resident"][m]
                ]
                if others:
                    chosen[v], moved = min(others)[1], True
        if not moved:
            break
    return chosen


def shortage(system: System, target: Target, model: str, tried: Sequence[Choice]) -> InfeasibleError:
    """What the most frugal of the schedules that were `tried` lacks."""
    problem = Problem(system.data)
    found = []
    for choice in tried:
        trace = problem.trace(choice.modes, choice.tiles, choice.order)
        needs = usage(system, choice.modes, trace, target)
        worst = max(needs, key=lambda need: need.bound - need.room)
        found.append((worst.bound - worst.room, worst.memory, worst.bound, worst.room))
    _, memory, needed, room = min(found)
    return InfeasibleError(
        f"memory {memory} of target {target.name} has {max(0, room)} bytes for activations; the most frugal schedule of "
        f"{model} that was found needs {needed}",
        code="memory",
        hint=f"enlarge {memory}, or give its devices a spill memory, or compile a smaller input",
        shortage=Shortage(
            f"memory {memory}", needed, max(0, room), "bytes", (f"{memory}.bytes", "spill", "model")
        ),
    )
