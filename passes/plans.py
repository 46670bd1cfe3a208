"""A plan: a placement in the indices of a system, as the search handles it."""

from __future__ import annotations

from dataclasses import dataclass

from h4hc.ir.placement import Placement
from h4hc.ir.system import Simulated, System, Trace
from h4hc.passes.core import Problem

Score = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement in the indices of `system`, and its score; `order` if it is not the list scheduler's.

    `trace`: of its schedule, where that was asked for already. `single`: what was found without copies of weights, as if the
    target did not offer them.
    """

    system: System
    modes: tuple[int, ...]
    tiles: tuple[int, ...]
    score: Score
    spilled: frozenset[tuple[str, str]]
    order: tuple[int, ...] | None = None
    trace: Trace | None = None
    single: Plan | None = None


def to_placement(plan: Plan) -> Placement:
    """`plan` by device and mode names."""
    data, system = plan.system.data, plan.system
    chosen = [data["mode_ptr"][v] + mode for v, mode in enumerate(plan.modes)]
    devices = tuple(system.devices[data["mode_device"][m]] for m in chosen)
    modes = tuple(costs[mode].mode for costs, mode in zip(system.mode_costs, plan.modes, strict=True))
    return Placement(devices, modes, plan.tiles, plan.spilled)


def simulate(plan: Plan) -> Simulated:
    """`plan` with its trace."""
    trace = plan.trace or Problem(plan.system.data).trace(plan.modes, plan.tiles, plan.order)
    return Simulated(plan.system, plan.modes, plan.tiles, trace)
