"""Operators that leave a memory in which their buffers have no room."""

from __future__ import annotations

import pytest

import h4hc
from h4hc.passes.avoid import moved_away
from h4hc.passes.plans import Plan
from h4hc.passes.search import Searcher
from tests.mutants import mutant

RATED = (0, 0, 1)  # latency of one frame


@pytest.fixture(scope="module")
def searcher() -> Searcher:
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    options = h4hc.Options(effort="fast", baselines=False)
    model = h4hc.normalise(mutant(0))
    placed = compiler.compile(model, options, observe=lambda step, *_: step.name == "partition")  # type: ignore[attr-defined]
    return Searcher(placed).full


def everything_on(searcher: Searcher, device: str, spilled: frozenset[tuple[str, str]]) -> Plan:
    """A plan that runs on `device` what it can, in single modes, and spills those buffers."""
    system = searcher.spilled_system(spilled)
    other = searcher.spilling(spilled)
    modes = other.problem.prefer(system.devices.index(device), 7)
    assert modes is not None
    tiles = [min(4, rows) for rows in system.data["rows"]]
    return Plan(system, tuple(modes), tuple(tiles), other.score(modes, tiles), spilled)


def test_operators_that_are_alike_move_together(searcher: Searcher) -> None:
    plain = everything_on(searcher, "cim", frozenset())
    data, memory = plain.system.data, plain.system.memories.index("cim_sram")
    users = [
        data["mode_device"][first + mode] for first, mode in zip(data["mode_ptr"], plain.modes, strict=False)
    ]
    on_cim = [v for v, device in enumerate(users) if data["dev_memory"][device] == memory]
    tensor = next(t for t, v in enumerate(data["producer"]) if v in on_cim[1:])
    spill = frozenset([(plain.system.tensors[tensor], "cim_sram")])
    plan = everything_on(searcher, "cim", spill)
    problem = searcher.spilling(spill).full.problem
    modes = moved_away(plan, spill, problem, RATED)
    moved = [v for v, (a, b) in enumerate(zip(plan.modes, modes, strict=True)) if a != b]
    first, last = data["cons_ptr"][tensor : tensor + 2]
    kinds = {data["alike"][v] for v in (data["producer"][tensor], *data["cons_op"][first:last])}
    assert moved
    assert {data["alike"][v] for v in moved} <= kinds
    assert problem.score(modes, plan.tiles, *RATED[:2]) < problem.score(plan.modes, plan.tiles, *RATED[:2])


def test_nothing_moves_for_buffers_that_nobody_uses_there(searcher: Searcher) -> None:
    plan = everything_on(searcher, "npu", frozenset())
    spill = [(plan.system.tensors[3], "cim_sram")]
    if all(plan.system.devices[device] != "cim" for device in devices_of(plan)):
        assert moved_away(plan, spill, searcher.problem, RATED) == list(plan.modes)
    assert moved_away(plan, [], searcher.problem, RATED) == list(plan.modes)


def devices_of(plan: Plan) -> list[int]:
    data = plan.system.data
    return [
        data["mode_device"][first + mode] for first, mode in zip(data["mode_ptr"], plan.modes, strict=False)
    ]
