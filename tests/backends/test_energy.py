"""Energy: its split by term, voltage and clock scaling, static power, and the published values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from backend_helpers import one_cost, one_device
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost_properties import BACKENDS, DISTINCT, kernels

from h4hc.backends import load_target
from h4hc.backends.files import load_preset, preset_names
from h4hc.backends.scaling import energy_factor
from h4hc.compiler import Compiler
from h4hc.errors import TargetError
from h4hc.frontend import load_model
from h4hc.ir.compilation import Options
from h4hc.ir.cost import Refusal
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.target import split_sources
from h4hc.ir.workload import Conv, Kernel, MatMul
from tests.models import EXAMPLE

DOCS = Path(__file__).parents[2] / "docs" / "cost-models.md"
CLOCKED = [("npu", "ethos-u85-256"), ("systolic", "systolic-16x16"), ("host", "cortex-m55")]
OWN_TERMS = ("MACs", "buffer", "output unit", "core")
LAYER = Kernel(Conv(1, 64, 64, 28, 28, 28, 28, 3, 3), ("bias", "relu"))
# Node in nm: joules per int8 MAC, per byte of 1 MB and of 32 KB SRAM.
NODES = {
    45: (0.30e-12, 12.5e-12, 2.5e-12),
    22: (0.20e-12, 5.9e-12, 1.8e-12),
    16: (0.16e-12, 4.2e-12, 1.55e-12),
    7: (0.10e-12, 1.75e-12, 1.06e-12),
}


@pytest.mark.parametrize("name", DISTINCT)
@settings(max_examples=60, deadline=None)
@given(kernel=kernels)
def test_the_terms_are_the_energy(name: str, kernel: Kernel) -> None:
    found = BACKENDS[name].costs(kernel)
    for cost in () if isinstance(found, Refusal) else found:
        assert sum(cost.energy.values()) == pytest.approx(cost.joules, rel=1e-12)
        assert all(term >= 0 for term in cost.energy.values())


@pytest.mark.parametrize(("kind", "preset"), CLOCKED)
def test_dynamic_energy_follows_the_square_of_the_voltage(kind: str, preset: str) -> None:
    nominal = one_cost(one_device(kind, preset), LAYER)
    lower = one_cost(one_device(kind, preset, voltage="650 mV", nominal_voltage="0.8 V"), LAYER)
    factor = (0.65 / 0.8) ** 2
    assert lower.seconds == nominal.seconds
    for term, joules in nominal.energy.items():
        assert lower.energy[term] == pytest.approx(joules * (factor if term in OWN_TERMS else 1.0))


@pytest.mark.parametrize(("kind", "preset"), CLOCKED)
def test_static_power_follows_the_clock_and_the_square_of_the_voltage(kind: str, preset: str) -> None:
    nominal = one_device(kind, preset)
    clock = nominal.parameters.clock  # type: ignore[attr-defined]
    half = f"{clock / 2e6:g} MHz"
    slower = one_device(kind, preset, clock=half)
    both = one_device(kind, preset, clock=half, voltage="0.65 V", nominal_voltage="0.8 V")
    assert slower.static_watts == pytest.approx(nominal.static_watts / 2)
    assert both.static_watts == pytest.approx(nominal.static_watts / 2 * (0.65 / 0.8) ** 2)
    assert one_cost(slower, LAYER).joules == pytest.approx(one_cost(nominal, LAYER).joules)
    assert one_cost(slower, LAYER).compute_seconds >= 1.9 * one_cost(nominal, LAYER).compute_seconds


@given(voltage=st.floats(0.3, 1.5), nominal=st.floats(0.3, 1.5))
def test_the_factor_is_a_square(voltage: float, nominal: float) -> None:
    assert energy_factor(voltage, nominal) * energy_factor(nominal, voltage) == pytest.approx(1)
    assert (energy_factor(voltage, nominal) <= 1) == (voltage <= nominal)
    assert energy_factor(None, nominal) == energy_factor(voltage, None) == 1


def test_the_clock_of_a_power_is_the_one_it_was_given_at() -> None:
    own = one_device("systolic", "systolic-16x16", clock="500 MHz", static_power="4 mW")
    assert own.static_watts == pytest.approx(4e-3)
    told = one_device(
        "systolic", "systolic-16x16", clock="500 MHz", static_power="4 mW", nominal_clock="1 GHz"
    )
    assert told.static_watts == pytest.approx(2e-3)


def test_leakage_ignores_the_clock() -> None:
    point = {"clock": "500 MHz", "leakage_power": "3 mW", "voltage": "0.4 V", "nominal_voltage": "0.8 V"}
    device = one_device("systolic", "systolic-16x16", **point)
    assert device.static_watts == pytest.approx(10e-3 / 2 / 4 + 3e-3 / 2)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"voltage": "0.7 V"}, "voltage: needs nominal_voltage"),
        ({"voltage": "2 V", "nominal_voltage": "0.8 V"}, "'2 V' is no sensible voltage"),
        ({"voltage": "0.2 V", "nominal_voltage": "0.8 V"}, "'0.2 V' is no sensible voltage"),
        ({"voltage": "0.7", "nominal_voltage": "0.8 V"}, "is no voltage"),
        ({"voltage": "0 V", "nominal_voltage": "0.8 V"}, "greater than zero"),
    ],
)
@pytest.mark.parametrize(("kind", "preset"), [*CLOCKED, ("cim", "sram-dcim-22nm")])
def test_nonsense_is_refused(kind: str, preset: str, parameters: dict[str, str], problem: str) -> None:
    with pytest.raises(TargetError, match=re.escape(problem)):
        one_device(kind, preset, **parameters)


def test_gap9_scales_from_one_operating_point_to_the_other() -> None:
    """22 nm, MLPerf Tiny v1.0, measured: 0.65 V, 240 MHz: 20.5 mW, 0.70 pJ/MAC; 0.80 V, 370 MHz: 44.3, 1.10."""
    device = one_device(
        "systolic",
        "systolic-16x16",
        clock="370 MHz",
        nominal_clock="240 MHz",
        voltage="0.8 V",
        nominal_voltage="0.65 V",
        static_power="20.5 mW",
        mac_energy="0.70 pJ/MAC",
    )
    assert one_cost(device, LAYER).energy["MACs"] / LAYER.workload.macs == pytest.approx(1.10e-12, rel=0.04)
    assert device.static_watts == pytest.approx(44.3e-3, rel=0.09)


@pytest.mark.parametrize("node", NODES)
def test_energies_of_a_node_are_charged_as_documented(node: int) -> None:
    mac, large, small = NODES[node]
    memory = {"energy_per_byte": f"{large * 1e12:g} pJ/B"}
    parameters = {"mac_energy": f"{mac * 1e12:g} pJ/MAC", "buffer_energy": f"{small * 1e12:g} pJ/B"}
    cost = one_cost(one_device("systolic", "systolic-16x16", memory, **parameters), LAYER)
    assert cost.energy["MACs"] == pytest.approx(LAYER.workload.macs * mac)
    assert cost.energy["memory own"] == pytest.approx(cost.details["own bytes"] * large)
    row = f"| {node} nm | {mac * 1e12:.2f} | {large * 1e12:g} | {small * 1e12:g} |"
    assert row in DOCS.read_text(encoding="utf-8")


def test_presets_in_22_nm_have_the_energies_of_22_nm() -> None:
    found = 0
    for name in preset_names():
        values, sources = split_sources(load_preset(name).parameters)
        if "int8 MAC in 22 nm" in sources.get("mac_energy", ""):
            assert (values["mac_energy"], values["buffer_energy"]) == ("0.2 pJ/MAC", "1.8 pJ/B"), name
            found += 1
    assert found >= 3
    assert load_target("npu+cim").memory("sram").energy_per_byte == pytest.approx(NODES[22][1])
    assert load_target("npu+cim").memory("dram").energy_per_byte == pytest.approx(64e-12)


def test_a_frame_pays_static_power_of_every_device_in_use_for_all_of_its_time() -> None:
    """Idle time counts; a device without a task counts as switched off; costs of operators have none of it."""
    loaded = load_model(EXAMPLE)
    compiler = Compiler(load_target("npu+cim"))
    schedule = compiler.compile(loaded.model, Options(effort="fast"), loaded.source).schedule
    assert schedule is not None
    busy = dict.fromkeys(compiler.backends, 0)
    for task in schedule.tasks:
        if task.resource in busy:
            busy[task.resource] += task.work
    used = [name for name, work in busy.items() if work]
    interval = schedule.initiation_interval * TICK_SECONDS * 1e12  # in units that give picojoules
    watts = sum(compiler.backends[name].static_watts for name in used)
    assert schedule.static_energy == pytest.approx(watts * interval, abs=1)
    assert any(busy[name] < schedule.latency for name in used)
    assert schedule.energy == schedule.static_energy + schedule.dynamic_energy
    idle = Kernel(MatMul(1, 1, 1, 1))
    for backend in compiler.backends.values():
        costs = backend.costs(idle)
        assert isinstance(costs, Refusal) or all("static" not in cost.energy for cost in costs)
