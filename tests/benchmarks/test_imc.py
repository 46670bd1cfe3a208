"""The compute-in-memory model against ZigZag-IMC's tables and published macros."""

from __future__ import annotations

from functools import cache

import pytest

from benchmarks.references.errors import Section, read_table
from benchmarks.references.imc import _PARTS, accelerator, cost_of, layers, published_macro, sections

TALL = "dimc_256r32c_b8_bs1_sram2MiB"
OTHER_MAPPING = {"mbv2_fc_1280-1000", "deit_tiny_head_192-1000"}  # 16 of 1000 outputs at a time, not 32


@cache
def found() -> dict[str, Section]:
    return {section.title: section for section in sections()}


def cycles(row: dict[str, str], total: bool) -> float:
    device = accelerator(row["hw"])
    cost = cost_of(device, row)
    return (cost.seconds if total else cost.compute_seconds) / device.parameters.bit_time


@pytest.mark.parametrize("row", layers(TALL), ids=lambda row: row["layer"])
def test_compute_cycles_are_the_same(row: dict[str, str]) -> None:
    """On 26 of 28 layers."""
    same = round(cycles(row, total=False), 6) == float(row["zz_ideal_cycles"])
    assert same == (row["layer"] not in OTHER_MAPPING)


@pytest.mark.parametrize("row", layers(TALL), ids=lambda row: row["layer"])
def test_all_cycles_agree_within_7_percent(row: dict[str, str]) -> None:
    assert cycles(row, total=True) == pytest.approx(float(row["zz_total_cycles"]), rel=0.07)


@pytest.mark.parametrize("row", layers(TALL), ids=lambda row: row["layer"])
def test_energy_of_each_part_of_the_array(row: dict[str, str]) -> None:
    """The same where rows are full; an access to part of a tile is a fraction of one there and a whole one here."""
    if row["layer"] in OTHER_MAPPING:
        return
    energy = cost_of(accelerator(TALL), row).energy
    ratios = {
        part: energy[part] * 1e12 / float(row[column])
        for part, column in _PARTS.items()
        if part in energy and float(row[column])
    }
    assert set(ratios) == {"multipliers", "adder trees", "accumulators"}
    assert ratios["adder trees"] == pytest.approx(1, abs=0.006)
    assert 0.999 <= ratios["multipliers"] < 2
    assert 0.999 <= ratios["accumulators"] < 2


def test_clock_peaks_and_area_are_the_same() -> None:
    for summary in found()["Macro figures"].summaries:
        assert summary.count == 5
        assert summary.mean < 1e-4


def test_every_published_macro_has_its_three_figures() -> None:
    for title in ("area", "clock", "energy per MAC"):
        groups = [summary.group for summary in found()[f"Published macros: {title}"].summaries]
        assert len(groups) == 14
    for row in read_table("published_macros"):
        macro = published_macro(row)
        assert macro.area_mm2 is not None
        assert 0.2 < macro.parameters.bit_time * macro.time_scale * 1e9 / float(row["clock_ns"]) < 2


def test_sections_of_presets_hold_kernel_classes() -> None:
    named = [section for section in found().values() if section.preset]
    assert {section.preset for section in named} == {"sram-dcim-28nm", "sram-acim-28nm"}
    for section in named:
        assert {"convolution", "depthwise", "fully connected"} <= {s.group for s in section.summaries}
