"""The pipeline on whole models."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h4hc
from h4hc.compiler import Compiler, check_pipeline
from h4hc.errors import InfeasibleError, ModelError, OptionError
from h4hc.ir.compilation import OBJECTIVES, Compilation, Options
from h4hc.passes.core import COMPILED
from h4hc.passes.schedule import MakeSchedule
from tests.models import EXAMPLE
from tests.passes.texts import model as text_model


@pytest.fixture(scope="module")
def compilers() -> dict[str, Compiler]:
    return {name: Compiler(h4hc.load_target(name)) for name in ("npu", "cim", "npu+cim", "npu+cim-sram")}


def compiled(compiler: Compiler, model: onnx.ModelProto, **options: object) -> Compilation:
    return compiler.compile(h4hc.normalise(model), Options(effort="fast", **options))  # type: ignore[arg-type]


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """A small random CNN: convolutions of random kind, residuals, a pool and a classifier."""
    channels = draw(st.sampled_from([8, 24, 64]))
    size = draw(st.sampled_from([8, 14, 28]))
    lines, weights, last = [], {}, "x"
    for layer in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv1", "conv3", "depthwise", "add"]))
        if kind == "add":
            lines.append(f"t{layer} = Add ({last}, x)")
        else:
            kernel = 1 if kind == "conv1" else 3
            groups = channels if kind == "depthwise" else 1
            pads = [kernel // 2] * 4
            weights[f"w{layer}"] = (channels, channels // groups, kernel, kernel)
            lines.append(f"t{layer} = Conv <group = {groups}, pads = {pads}> ({last}, w{layer})")
        last = f"t{layer}"
    weights["fc"] = (channels, 10)
    lines.append(f"p = GlobalAveragePool ({last}) f = Flatten (p) y = MatMul (f, fc)")
    text = f"agraph (float[1,{channels},{size},{size}] x) => (float[1,10] y) {{ {' '.join(lines)} }}"
    return text_model(text, **weights)


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from(OBJECTIVES))
def test_two_accelerators_are_never_worse_than_one(
    compilers: dict[str, Compiler], model: onnx.ModelProto, objective: str
) -> None:
    def value(target: str) -> float:
        schedule = compiled(compilers[target], model, objective=objective).schedule
        assert schedule is not None
        return {
            "latency": schedule.latency,
            "energy": schedule.energy,
            "edp": schedule.energy * schedule.latency,
            "throughput": schedule.initiation_interval,
        }[objective]

    assert value("npu+cim") <= min(value("npu"), value("cim"))


@pytest.mark.parametrize("fps", [1, 5, 60])
@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_at_a_fixed_rate_static_power_is_drawn_between_frames(
    compilers: dict[str, Compiler], objective: str, fps: int
) -> None:
    """A slow camera makes a second accelerator expensive: it draws power all the time, so that one of them may be left out."""
    model = h4hc.load_model(EXAMPLE).model
    both = compiled(compilers["npu+cim"], model, objective=objective, interval_seconds=1 / fps)
    assert both.schedule is not None
    power = {"energy": 0, "edp": 1}[objective]
    keeping_up = [baseline for baseline in both.baselines if baseline.latency * fps <= 1]
    assert keeping_up
    for baseline in keeping_up:
        one = compilers[baseline.name]
        schedule = compiled(one, model, objective=objective, interval_seconds=1 / fps).schedule
        assert schedule is not None
        assert round(baseline.latency * 1e9) == schedule.latency
        assert round(baseline.energy * 1e12) == pytest.approx(schedule.energy, abs=1)
        alone = schedule.energy * schedule.latency**power
        assert both.schedule.energy * both.schedule.latency**power <= alone * (1 + 1e-9)


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_baselines_are_what_the_accelerators_achieve_alone(
    compilers: dict[str, Compiler], objective: str
) -> None:
    """To the tick: the search for one accelerator takes the same path beside another one."""
    model = h4hc.load_model(EXAMPLE).model
    both = compiled(compilers["npu+cim"], model, objective=objective)
    for baseline in both.baselines:
        schedule = compiled(compilers[baseline.name], model, objective=objective).schedule
        assert schedule is not None
        assert round(baseline.latency * 1e9) == schedule.latency
        assert round(baseline.energy * 1e12) == schedule.energy


def test_objectives_pull_in_their_direction(compilers: dict[str, Compiler]) -> None:
    model = h4hc.load_model(EXAMPLE).model
    latency, energy, edp = (
        compiled(compilers["npu+cim"], model, objective=o).schedule for o in ("latency", "energy", "edp")
    )
    assert latency is not None
    assert energy is not None
    assert edp is not None
    assert latency.latency <= energy.latency
    assert energy.energy <= latency.energy
    assert edp.latency * edp.energy <= min(latency.latency * latency.energy, energy.latency * energy.energy)


def test_a_budget_bounds_the_latency_of_the_energy_objective(compilers: dict[str, Compiler]) -> None:
    model = h4hc.load_model(EXAMPLE).model
    free = compiled(compilers["npu+cim"], model, objective="energy").schedule
    fastest = compiled(compilers["npu+cim"], model).schedule
    assert free is not None
    assert fastest is not None
    budget = (free.latency + fastest.latency) / 2 * 1e-9
    held = compiled(compilers["npu+cim"], model, objective="energy", budget_seconds=budget).schedule
    assert held is not None
    assert held.latency * 1e-9 <= budget


def test_resident_weights_stay_within_the_macros(compilers: dict[str, Compiler], tmp_path: Path) -> None:
    """6 MB of linear layers on 4 MB of macros: some must stay on the NPU."""
    text = "agraph (float[1,1024] x) => (float[1,1024] y) { "
    names = [f"w{i}" for i in range(6)]
    steps = ["x", *(f"t{i}" for i in range(5)), "y"]
    text += (
        " ".join(f"{b} = MatMul ({a}, {w})" for a, b, w in zip(steps, steps[1:], names, strict=False)) + " }"
    )
    result = compiled(compilers["npu+cim"], text_model(text, **dict.fromkeys(names, (1024, 1024))))
    assert result.placement is not None
    on_cim = result.placement.devices.count("cim")
    assert 1 <= on_cim <= 4


def test_what_does_not_fit_is_spilled_and_what_cannot_is_refused(compilers: dict[str, Compiler]) -> None:
    wide = text_model(
        "agraph (float[1,64,256,256] x) => (float[1,64,256,256] y) { c = Conv (x, w) y = Relu (c) }",
        w=(64, 64, 1, 1),
    )
    result = compiled(compilers["npu"], wide)
    assert result.schedule is not None
    assert {buffer.memory for buffer in result.schedule.buffers} == {"dram"}
    huge = text_model(
        "agraph (float[1,64,2048,2048] x) => (float[1,64,2048,2048] y) { c = Conv (x, w) y = Relu (c) }",
        w=(64, 64, 1, 1),
    )
    with pytest.raises(InfeasibleError, match="memory dram of target npu has"):
        compiled(compilers["npu"], huge)


def test_an_operator_that_runs_nowhere_is_named_with_every_reason(tmp_path: Path) -> None:
    target = h4hc.load_target("npu")
    alone = target.model_copy(
        update={"devices": tuple(d for d in target.devices if d.name == "npu"), "io": "npu"}
    )
    model = text_model("agraph (float[1,8] x) => (float[1,8] y) { y = Gelu (x) z = CumSum (x, a) }", a=())
    model = text_model("agraph (int64[1,8] x) => (int64[1,8] y) { y = Add (x, x) }")
    with pytest.raises(
        ModelError, match=r"node 'Add_y' \(Add\) runs on no device of the target \(npu: .*Add"
    ):
        compiled(Compiler(alone), model)


def test_a_graph_of_a_hundred_thousand_nodes_is_lowered_without_recursion() -> None:
    from onnx import TensorProto, helper

    from h4hc.frontend.nodes import NodeGraph
    from h4hc.passes.fuse import build_graph

    nodes = [
        helper.make_node("Exp" if i % 2 else "Gelu", [f"t{i}"], [f"t{i + 1}"], name=f"n{i}")
        for i in range(100_000)
    ]
    values = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [1, 4]) for i in range(100_001)]
    graph = helper.make_graph(nodes, "chain", [values[0]], [values[-1]], value_info=values[1:-1])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    assert len(build_graph(NodeGraph(h4hc.normalise(model)), "int8").operators) == 1


@dataclass(frozen=True)
class CountOperators:
    """A pass of another package."""

    name: str = "count"
    needs: tuple[str, ...] = ("graph",)
    provides: tuple[str, ...] = ()

    def run(self, compilation: Compilation) -> Compilation:
        assert compilation.graph is not None
        COUNTED.append(len(compilation.graph.operators))
        return compilation


COUNTED: list[int] = []


class FakeEntryPoint:
    name = "acme"

    @staticmethod
    def load() -> Callable[[list[object]], list[object]]:
        return lambda passes: [*passes, CountOperators()]


def test_other_packages_add_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> list[FakeEntryPoint]:
        return [FakeEntryPoint()] if group == "h4hc.passes" else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    compiler = Compiler(h4hc.load_target("npu"))
    compiled(compiler, text_model("agraph (float[1,8] x) => (float[1,8] y) { y = Relu (x) }"))
    assert [step.name for step in compiler.passes][-1] == "count"
    assert COUNTED == [1]


def test_a_pass_whose_needs_are_not_met_is_refused() -> None:
    with pytest.raises(OptionError, match="pass schedule needs graph, costs, placement"):
        check_pipeline([MakeSchedule()])


@pytest.mark.skipif(not COMPILED, reason="built without a C compiler")
def test_the_pure_python_core_and_other_hash_seeds_give_the_same_bundle(tmp_path: Path) -> None:
    program = (
        "import sys, h4hc; from pathlib import Path; from h4hc.passes.core import COMPILED;"
        f"loaded = h4hc.load_model({str(EXAMPLE)!r});"
        "compiler = h4hc.Compiler(h4hc.load_target('npu+cim'));"
        "h4hc.write_bundle(compiler.compile(loaded.model, h4hc.Options(evaluations=20), loaded.source), Path(sys.argv[1]));"
        "print(COMPILED)"
    )
    manifests = []
    for name, extra in (
        ("a", {"PYTHONHASHSEED": "1"}),
        ("b", {"PYTHONHASHSEED": "2", "H4HC_PURE_PYTHON": "1"}),
    ):
        folder = tmp_path / name
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)],
            env=os.environ | extra,
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == str(name == "a")
        manifests.append((folder / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
