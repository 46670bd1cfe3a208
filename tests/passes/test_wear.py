"""Operators that write the same cells share their endurance."""

from __future__ import annotations

from math import inf

import pytest

import h4hc
from h4hc.backends.knobs import TargetSpec
from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Cost, Refusal, Row
from h4hc.passes.wear import lasting
from tests.models import EXAMPLE

MODEL = h4hc.load_model(EXAMPLE)
A_YEAR = 365.25 * 24 * 3600 * 50  # writes of a cell that is written once a frame, at 50 frames/s


def compiled(endurance: float, least_life_years: float = 1.0) -> Compilation:
    knobs = {"cim.endurance": endurance, "cim.least_life_years": least_life_years}
    target = TargetSpec.load("npu+cim").build(knobs)
    return h4hc.Compiler(target).compile(MODEL.model, h4hc.Options(effort="fast"), MODEL.source)


def writes(compilation: Compilation) -> list[float]:
    """Writes of a cell in a frame by each mode of an operator that writes."""
    assert compilation.costs is not None
    entries = [row["cim"] for row in compilation.costs.rows]
    modes = [mode for entry in entries if isinstance(entry, tuple) for mode in entry]
    return [mode.writes_per_cell for mode in modes if mode.writes_per_cell]


ALL = writes(compiled(1e6 * A_YEAR))


@pytest.mark.parametrize("bearable", [2, 10, 30, 100])
def test_all_writes_of_a_frame_together_last_as_long_as_asked(bearable: int) -> None:
    found = writes(compiled(bearable * A_YEAR))
    assert 0 < sum(found) <= bearable
    assert max(ALL) < sum(ALL)


def test_nothing_is_left_out_that_lasts() -> None:
    assert writes(compiled(sum(ALL) * A_YEAR * 1.001)) == ALL
    assert writes(compiled(A_YEAR, least_life_years=0)) == ALL


def mode(seconds: float, written: float = 0.0, resident: int = 0) -> Cost:
    return Cost(seconds, 1e-6, 0.5, mode="m", writes_per_cell=written, resident_bytes=resident)


def test_operators_keep_their_writes_by_need_then_by_gain() -> None:
    """Three writes may be made: by the only mode of `c`, then by `b`, which gains more than `a`; not by `d`."""
    a: Row = {"cim": (mode(2, 1),), "npu": (mode(3),)}
    b: Row = {"cim": (mode(1, resident=9), mode(2, 1)), "npu": (mode(5),)}
    c: Row = {"cim": (mode(1, 2),), "npu": Refusal("no")}
    d: Row = {"cim": (mode(1, 5), mode(2, resident=9)), "npu": (mode(9),)}
    found = lasting([a, b, c, d], {"cim": 3, "npu": inf})
    assert isinstance(found[0]["cim"], Refusal) and "wear" in found[0]["cim"].reason
    assert found[1:3] == [b, c]
    assert found[3]["cim"] == (mode(2, resident=9),)
    assert found[0]["npu"] == a["npu"]
