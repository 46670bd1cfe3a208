"""What a user rules out of a placement."""

from __future__ import annotations

import pytest

import h4hc
from h4hc.errors import OptionError
from h4hc.ir.compilation import Compilation, Constraint
from tests.models import EXAMPLE

COMPILER = h4hc.Compiler(h4hc.load_target("npu+cim"))
MODEL = h4hc.load_model(EXAMPLE)


def compiled(*constraints: Constraint) -> Compilation:
    options = h4hc.Options(effort="fast", constraints=constraints)
    return COMPILER.compile(MODEL.model, options, MODEL.source)


FREE = compiled()
assert FREE.graph is not None and FREE.placement is not None and FREE.costs is not None
OPERATORS = FREE.graph.operators
PLACES = dict(zip([o.name for o in OPERATORS], FREE.placement.devices, strict=True))
ON_CIM = next(name for name, device in PLACES.items() if device == "cim")


def places(compilation: Compilation) -> dict[str, str]:
    assert compilation.placement is not None
    return dict(zip(PLACES, compilation.placement.devices, strict=True))


def problem(*constraints: Constraint) -> str:
    with pytest.raises(OptionError) as caught:
        compiled(*constraints)
    return str(caught.value)


def test_a_pin_moves_an_operator() -> None:
    assert places(compiled(Constraint(ON_CIM, "npu")))[ON_CIM] == "npu"


def test_a_node_stands_for_its_operator() -> None:
    fused = next(o for o in OPERATORS if len(o.nodes) > 1 and PLACES[o.name] == "cim")
    assert places(compiled(Constraint(fused.nodes[-1], "npu")))[fused.name] == "npu"


def test_a_ban_by_pattern_empties_a_device() -> None:
    assert "cim" not in places(compiled(Constraint("*", "cim", pin=False))).values()


def test_an_exact_name_wins_over_a_pattern_of_the_same_text() -> None:
    """Names may hold brackets and stars; they are not patterns if an operator is called that."""
    assert places(compiled(Constraint(ON_CIM, "npu", pin=False)))[ON_CIM] != "npu"


def test_the_last_pin_holds() -> None:
    first, second = Constraint("*", "npu"), Constraint(ON_CIM, "cim")
    pinnable = [o for o, row in zip(OPERATORS, FREE.costs.rows, strict=True) if isinstance(row["npu"], tuple)]  # type: ignore[union-attr]
    pins = [Constraint(o.name, "npu") for o in pinnable]
    assert places(compiled(*pins, second))[ON_CIM] == "cim"
    assert places(compiled(*pins, second, Constraint(ON_CIM, "npu")))[ON_CIM] == "npu"
    if len(pinnable) < len(OPERATORS):
        assert "cannot run" in problem(first)


def test_a_whole_placement_is_repeated() -> None:
    placement = FREE.placement
    assert placement is not None
    pins = [
        Constraint(o.name, device, True, mode)
        for o, device, mode in zip(OPERATORS, placement.devices, placement.modes, strict=True)
    ]
    again = compiled(*pins).placement
    assert again is not None
    assert (again.devices, again.modes) == (placement.devices, placement.modes)


def test_constrained_schedules_are_no_better_than_free_searches_allow() -> None:
    """A constraint that the free result satisfies already leaves it possible."""
    kept = compiled(Constraint(ON_CIM, "cim"))
    assert FREE.schedule is not None and kept.schedule is not None
    assert kept.schedule.latency <= FREE.schedule.latency * 1.05


def test_what_cannot_be_is_said() -> None:
    attention = next(
        o.name
        for o, row in zip(OPERATORS, FREE.costs.rows, strict=True)
        if not isinstance(row["cim"], tuple)  # type: ignore[union-attr]
    )
    assert "cim cannot run" in problem(Constraint(attention, "cim"))
    assert "no device gpu" in problem(Constraint("*", "gpu"))
    assert "did you mean" in problem(Constraint(ON_CIM[:-1], "npu"))
    assert "has no mode walking" in problem(Constraint(ON_CIM, "cim", True, "walking"))
    bans = [Constraint(ON_CIM, device, pin=False) for device in ("npu", "cim", "host")]
    assert "is left without a device" in problem(*bans)
