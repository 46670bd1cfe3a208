"""Seeds that move operators to where they cost least energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import h4hc
from h4hc.ir.compilation import Constraint
from h4hc.passes.seeds import thrifty
from tests.models import unpack
from tests.passes.problems import problems


@given(problems(), st.data())
def test_operators_move_only_where_they_cost_less_energy(data: dict[str, Any], draw: st.DataObject) -> None:
    pointers = data["mode_ptr"]
    modes = [draw.draw(st.integers(0, pointers[v + 1] - pointers[v] - 1)) for v in range(data["operators"])]
    mask = draw.draw(st.integers(1, 7))
    static = 0.0 if data.get("period") else sum(data["dev_static"][d] for d in range(3) if mask >> d & 1)

    def cost(m: int) -> float:
        return float(data["mode_energy"][m] + static * data["mode_work"][m])

    found = thrifty(data, modes, mask)
    for v, (old, new) in enumerate(zip(modes, found, strict=True)):
        here, there = pointers[v] + old, pointers[v] + new
        if old != new:
            assert mask >> data["mode_device"][there] & 1
            assert not data["mode_resident"][there]
            assert cost(there) < cost(here)
    assert thrifty(data, found, mask) == found


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_the_host_takes_what_both_accelerators_could_do(effort: str, tmp_path: Path) -> None:
    """Two large softmaxes of MobileViT, which take the host more time and less energy than the NPU."""
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    loaded = h4hc.load_model(unpack("mobilevit_xxs", tmp_path))
    pins = tuple(Constraint(f"node_Softmax_{number}", "host") for number in (275, 336))
    energies = []
    for constraints in ((), pins):
        options = h4hc.Options(effort=effort, objective="energy", baselines=False, constraints=constraints)
        schedule = compiler.compile(loaded.model, options, loaded.source).schedule
        assert schedule is not None
        energies.append(schedule.energy)
    assert energies[0] <= energies[1] * 1.001
