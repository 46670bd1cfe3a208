"""Operators on two devices at a time: which, how, what it gains, and when not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import h4hc
from h4hc.bundle import load_document, write_bundle
from h4hc.cli.constraints import read_assignment
from h4hc.ir.compilation import Compilation, Constraint, Options
from h4hc.ir.target import Target
from h4hc.passes.portion import cut_points, portions
from h4hc.verify import verify_bundle
from tests.verify.maker_ops import text_model

LAYERS = 3
TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
deep (float[1,256,14,14] x) => (float[1,256,14,14] y) {
  c0 = Conv<pads=[1,1,1,1]>(x, w0, b0)
  r0 = Relu(c0)
  c1 = Conv<pads=[1,1,1,1]>(r0, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
  y = Relu(c2)
}
"""


@pytest.fixture(scope="module")
def small_cim() -> Target:
    """npu+cim with one macro: room for one of the layers and a part of the next."""
    target = h4hc.load_target("npu+cim")
    devices = tuple(
        device.model_copy(update={"parameters": {**device.parameters, "macros": 1}})
        if device.kind == "cim"
        else device
        for device in target.devices
    )
    return target.model_copy(update={"devices": devices})


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        weights |= {f"w{layer}": (256, 256, 3, 3), f"b{layer}": (256,)}
    path = tmp_path_factory.mktemp("split") / "deep.onnx"
    model = text_model(TEXT, weights)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{number}"
    onnx.save(model, path)
    return path


def _compile(path: Path, target: Target, **options: object) -> Compilation:
    loaded = h4hc.load_model(path)
    return h4hc.Compiler(target).compile(loaded.model, replace(Options(), **options), loaded.source)


def _parts(compilation: Compilation) -> Mapping[str, tuple[int, ...]]:
    splitting = compilation.splitting
    return {s.operator: tuple(n for _, n in s.parts) for s in splitting.operators} if splitting else {}


def test_a_layer_that_does_not_fit_is_split(model_path: Path, small_cim: Target, tmp_path: Path) -> None:
    whole = _compile(model_path, small_cim, split=False)
    split = _compile(model_path, small_cim)
    assert whole.splitting is None and split.splitting is not None
    assert whole.schedule is not None and split.schedule is not None and split.placement is not None
    assert split.schedule.latency < 0.995 * whole.schedule.latency
    assert split.splitting.latency <= whole.schedule.latency * 1e-9
    assert all(sum(counts) == 256 and counts[0] % 8 == 0 for counts in _parts(split).values())
    write_bundle(split, tmp_path / "build")
    report = verify_bundle(tmp_path / "build", model_path)
    assert report.passed, [(check.code, check.detail) for check in report.failed]
    ran = {check.code for check in report.checks if check.passed}
    assert {"S02", "S03", "F01", "F02"} <= ran


def test_same_result_twice(model_path: Path, small_cim: Target) -> None:
    first, second = (_compile(model_path, small_cim) for _ in range(2))
    assert first.schedule == second.schedule and first.splitting == second.splitting


def test_fast_effort_and_single_accelerators_split_nothing(model_path: Path, small_cim: Target) -> None:
    assert _compile(model_path, small_cim, effort="fast").splitting is None
    for name in ("npu", "cim"):
        assert _compile(model_path, h4hc.load_target(name)).splitting is None


def test_constrained_operators_stay_whole(model_path: Path, small_cim: Target) -> None:
    free = _parts(_compile(model_path, small_cim))
    for constraint in (
        *(Constraint(name, "npu") for name in free),
        *(Constraint(name, "host", pin=False) for name in free),
        Constraint("Conv*", "npu"),
        Constraint("Conv?", "host", pin=False),  # would not be about Conv2/part0
    ):
        found = _compile(model_path, small_cim, constraints=(constraint,))
        assert not [name for name in _parts(found) if constraint.operators in (name, "Conv*", "Conv?")]


def test_bans_hold_for_parts(model_path: Path, small_cim: Target) -> None:
    found = _compile(model_path, small_cim, constraints=(Constraint("Conv*", "host", pin=False),))
    assert _parts(found)
    assert found.graph is not None and found.placement is not None
    for operator, device in zip(found.graph.operators, found.placement.devices, strict=True):
        assert device != "host" or not operator.name.startswith("Conv")


def test_a_bundle_with_parts_can_be_repeated(model_path: Path, small_cim: Target, tmp_path: Path) -> None:
    split = _compile(model_path, small_cim)
    write_bundle(split, tmp_path / "build")
    assert load_document(tmp_path / "build")["splitting"]["operators"]
    again = _compile(model_path, small_cim, constraints=read_assignment(tmp_path / "build"))
    assert again.schedule is not None and split.schedule is not None
    assert again.schedule.latency <= 1.01 * split.schedule.latency


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_other_objectives_never_lose(model_path: Path, small_cim: Target, objective: str) -> None:
    whole = _compile(model_path, small_cim, objective=objective, split=False).schedule
    split = _compile(model_path, small_cim, objective=objective).schedule
    assert whole is not None and split is not None
    if objective == "energy":
        assert split.energy <= whole.energy
    else:
        assert split.latency * split.energy <= whole.latency * whole.energy


def test_exact_effort(model_path: Path, small_cim: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ortools")
    monkeypatch.setenv("H4HC_CACHE_DIR", "")
    whole = _compile(model_path, small_cim, effort="exact", split=False).schedule
    split = _compile(model_path, small_cim, effort="exact")
    assert whole is not None and split.schedule is not None
    assert split.schedule.latency <= whole.latency
    assert all(claim.value <= split.schedule.latency for claim in split.claims if claim.kind == "latency")


def test_portions_fill_the_room(model_path: Path, small_cim: Target) -> None:
    compilation = _compile(model_path, small_cim, split=False)
    found = portions(compilation, count_join=True)
    assert found and found == sorted(found, key=lambda p: (not p.fits, -p.gain, p.number, p.devices))
    assert any(portion.fits for portion in found) and all(portion.gain > 0 for portion in found)


@given(
    channels=st.integers(2, 600),
    near=st.lists(st.integers(-8, 700), max_size=4),
    granules=st.tuples(st.sampled_from([1, 8, 16]), st.sampled_from([8, 64, 128])),
)
def test_cut_points(channels: int, near: list[int], granules: tuple[int, int]) -> None:
    for first in cut_points(channels, near, granules):
        assert 0 < first < channels
        assert first % granules[0] == 0 or (channels - first) % granules[1] == 0


def test_granules() -> None:
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    kernel = h4hc.ir.workload.Kernel(h4hc.ir.workload.MatMul(1, 4, 64, 256))
    granules = {name: backend.channel_granule(kernel) for name, backend in compiler.backends.items()}
    assert granules["host"] == 1 and granules["npu"] in (8, 16) and granules["cim"] >= 8
    assert np.gcd(granules["npu"], 8) == 8
