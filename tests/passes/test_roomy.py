"""Searching on where buffers were spilled, and efforts against each other."""

from __future__ import annotations

from pathlib import Path

import pytest

import h4hc
from h4hc.ir.compilation import Compilation
from h4hc.passes import search
from h4hc.verify import verify_bundle
from tests.models import light_models

SQUEEZENET = next(path for path in light_models() if path.stem == "light_squeezenet")
SHUFFLENET = next(path for path in light_models() if path.stem == "light_shufflenet")


def compiled(path: Path, target: str, effort: str) -> Compilation:
    loaded = h4hc.load_model(path)
    options = h4hc.Options(effort=effort, baselines=False)
    return h4hc.Compiler(h4hc.load_target(target)).compile(loaded.model, options, loaded.source)


def latency(compilation: Compilation) -> int:
    assert compilation.schedule is not None
    return compilation.schedule.latency


def test_a_map_that_does_not_fit_is_not_spilled_where_it_can_be_avoided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first map of SqueezeNet fits beside the others if the operator behind its pool moves away."""
    result = compiled(SQUEEZENET, "npu+cim", "fast")
    assert result.placement is not None
    assert not result.placement.spilled
    h4hc.write_bundle(result, tmp_path / "bundle")
    report = verify_bundle(tmp_path / "bundle", SQUEEZENET, functional=False)
    assert [check.code for check in report.checks if check.passed is False] == []
    monkeypatch.setattr(search, "minding_room", lambda searcher, mask, plan, evaluations: plan)
    before = compiled(SQUEEZENET, "npu+cim", "fast")
    assert before.placement is not None
    assert before.placement.spilled
    assert latency(result) < 0.95 * latency(before)


def test_balanced_effort_is_never_worse_than_fast() -> None:
    """On this case balanced effort's own searches are."""
    fast, balanced = (compiled(SHUFFLENET, "npu+cim-cu4", effort) for effort in ("fast", "balanced"))
    assert latency(balanced) <= latency(fast)
