"""Every model of the repository, on every kind of target, compiles and verifies."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import h4hc
from tests.models import EXAMPLE, NAMES, light_models, unpack

TARGETS = ("npu", "cim", "npu+cim", "npu+cim-cu4", "npu+cim-sram")


@cache
def compiler(target: str) -> h4hc.Compiler:
    return h4hc.Compiler(h4hc.load_target(target))


def compile_and_verify(path: Path, target: str, folder: Path) -> int:
    """Latency in ticks of the verified bundle."""
    loaded = h4hc.load_model(path)
    result = compiler(target).compile(loaded.model, h4hc.Options(effort="fast"), loaded.source)
    h4hc.write_bundle(result, folder)
    report = h4hc.verify_bundle(folder, path, seeds=1, isolate=False)
    failed = [f"{check.code} {check.detail}" for check in report.checks if check.passed is not True]
    assert not failed
    assert result.schedule is not None
    return result.schedule.latency


@pytest.mark.parametrize("name", [*NAMES, "hybrid_subnet"])
def test_hybrid_models(name: str, tmp_path: Path) -> None:
    path = EXAMPLE if name == "hybrid_subnet" else unpack(name, tmp_path)
    latency = {target: compile_and_verify(path, target, tmp_path / "bundle") for target in TARGETS}
    assert latency["npu+cim"] <= min(latency["npu"], latency["cim"])
    assert latency["npu+cim-cu4"] <= latency["npu"]


@pytest.mark.parametrize("path", light_models(), ids=lambda path: path.stem)
def test_light_models(path: Path, tmp_path: Path) -> None:
    latency = {target: compile_and_verify(path, target, tmp_path / "bundle") for target in TARGETS[:3]}
    assert latency["npu+cim"] <= min(latency["npu"], latency["cim"])
