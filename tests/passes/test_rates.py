"""Fixed frame periods: the time of static power, and the bound that a refused rate is held against."""

from __future__ import annotations

import pytest

import h4hc
from h4hc.passes import pipeline
from tests.models import EXAMPLE


def test_static_power_is_charged_from_frame_to_frame() -> None:
    assert h4hc.Options().spacing(1500) == 1500
    assert h4hc.Options(interval_seconds=2e-6).spacing(1500) == 2000


def test_a_rate_of_a_balanced_placement_asks_for_the_least_interval_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The placement for the latency misses the rate: what no placement is below is the check, and then the claim."""
    compiler, loaded = h4hc.Compiler(h4hc.load_target("npu+cim")), h4hc.load_model(EXAMPLE)

    def compiled(**options: object) -> h4hc.Compilation:
        chosen = h4hc.Options(effort="fast", frames=2, **options)  # type: ignore[arg-type]
        return compiler.compile(loaded.model, chosen, loaded.source)

    fastest, balanced = compiled().schedule, compiled(objective="throughput")
    assert fastest is not None and balanced.schedule is not None
    period = (fastest.interval_bound + balanced.schedule.initiation_interval) // 2
    asked, work_out = [], pipeline.least_load
    monkeypatch.setattr(pipeline, "least_load", lambda data: asked.append(1) or work_out(data))
    found = compiled(interval_seconds=period * 1e-9)
    assert found.schedule is not None and found.schedule.initiation_interval == period
    assert found.claims == balanced.claims
    assert len(asked) == 1
