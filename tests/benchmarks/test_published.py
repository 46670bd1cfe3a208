"""What the published measurements must come out as, and that every row is accounted for."""

import pytest

from benchmarks.references.errors import read_table
from benchmarks.references.fitted import gap9, stm32n6
from benchmarks.references.published import BOARDS, compiled, estimate, sections
from h4hc.backends import load_target

ROWS = read_table("published")
DESCRIBED = {path.stem for path in BOARDS.glob("*.yaml")}
FVP = ("corstone-300-u55-128", "mobilenet_v2_1.0_224_1001")


def test_every_row_is_predicted_or_fitted_or_says_why_not():
    for row in ROWS:
        fitted = row["board"].split()[:1] in (["stm32n6"], ["gap9"])
        assert (row["board"] in DESCRIBED or fitted) != bool(row["reason"]), row
        assert float(row["expected"]) > 0
        assert row["source"]


@pytest.mark.parametrize("board", sorted(DESCRIBED))
def test_every_value_of_a_board_has_a_source(board):
    target = load_target(BOARDS / f"{board}.yaml")
    for memory in target.memories:
        assert {"bytes", "bandwidth", "latency", "energy_per_byte"} <= memory.sources.keys()
    assert "handoff" in target.sources


def test_boards_are_used():
    assert {row["board"] for row in ROWS if row["board"] in DESCRIBED} == DESCRIBED


def test_mobilenet_v2_on_the_virtual_platform():
    encoded = {int(row["program_bytes"]) for row in ROWS if row["board"] == FVP[0]}
    found = estimate(*FVP, *encoded)
    assert found.schedule * found.clock == pytest.approx(7_346_172, rel=0.10)
    assert found.traffic["sram"] == pytest.approx(28.957e6, rel=0.03)
    assert found.traffic["flash"] == pytest.approx(3.459e6, rel=0.03)


@pytest.mark.parametrize(
    ("network", "seconds"), [("mlperf_tiny_kws", 0.108e-3), ("mlperf_tiny_vww", 0.364e-3)]
)
def test_silicon_with_known_memories(network, seconds):
    assert estimate("ra8p1", network).schedule == pytest.approx(seconds, rel=0.25)


def test_a_published_program_size_decides_the_weight_traffic():
    small = estimate("alif-e8", "resnet50", 14_420_000)
    large = estimate("alif-e8", "resnet50", 21_760_000)
    assert large.traffic["flash"] - small.traffic["flash"] == pytest.approx(7.34e6, rel=0.01)
    assert small.schedule < large.schedule


def test_one_accelerator_alone_is_as_fast_as_its_operators():
    compilation, found = compiled(*FVP), estimate(*FVP)
    assert len(compilation.graph.operators) == len(compilation.costs.rows)
    assert found.schedule == pytest.approx(found.operators, rel=0.02)


def test_sections_have_reasons_and_no_empty_group():
    for section in sections():
        assert section.summaries
        assert all(item.count for item in section.summaries)
    assert any("no cost model" in line for line in sections()[0].not_modelled)


def test_head_sizes_give_the_flash_back():
    (summary, _) = stm32n6(ROWS).summaries
    assert summary.mean < 0.02
    assert "0.17 ms + bytes / 0.405 GB/s" in stm32n6(ROWS).unit


@pytest.mark.parametrize("board", ["gap9 0.65V", "gap9 0.8V"])
def test_two_parameters_give_the_energies(board):
    section = gap9(ROWS, board)
    assert section.summaries[0].count == 4
    assert max(section.summaries[0].p90, section.summaries[0].mean) < 0.12
    assert abs(float(section.summaries[0].worst.rsplit("(", 1)[1].rstrip("%)"))) < 12
