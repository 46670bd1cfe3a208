"""What the summary says, and what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from h4hc.cli.layout import cells
from h4hc.cli.summary_text import summary_parts
from h4hc.cli.units import percent, savings, times

ROOT = Path(__file__).resolve().parents[2]


def summary(**changes: Any) -> dict[str, Any]:
    """One frame of 2 ms on an NPU and a CIM array."""
    device = {"operators": 3, "macs": 10**6, "busy_seconds": 1e-3, "busy_share": 0.5}
    return {
        "model": "net", "target": "npu+cim", "budget_seconds": None, "latency_seconds": 2e-3, "energy_joules": 1e-4,
        "frames_per_second": 500.0, "macs": 2 * 10**6, "frames_in_flight": 1, "initiation_interval_seconds": 2e-3,
        "interval_bound_seconds": 1e-3, "recurrence_bound_seconds": None,
        "front": [], "claims": [], "splitting": None, "prefetch": None,
        "baselines": [{"name": "npu", "latency_seconds": 3e-3, "latency_ratio": 1.5, "frames_per_second": 400.0,
                       "energy_joules": 2e-4, "energy_ratio": 2.0}],
        "devices": [
            {"name": "npu", **device, "resident_bytes": 0, "resident_capacity": 0},
            {"name": "cim", **device, "resident_bytes": 512, "resident_capacity": 1024},
        ],
        "memories": [{"name": "sram", "peak": 512, "lower_bound": 512, "weights": 0, "capacity": 1024}],
        "transfers": {"count": 1, "bytes": 2048, "seconds": 1e-6},
        "time": {"critical_shares": {"npu": 0.7, "cim": 0.297, "axi": 0.003}, "idle": [
                    {"resource": "npu", "idle_seconds": {"axi": 8e-4, "end": 5e-6, "cim": 1.95e-4}}],
                 "overlap_gain": 1.0, "layer_by_layer_seconds": 2e-3},
        "most_expensive": [{"name": "block.0.conv", "kind": "Conv", "device": "npu", "seconds": 1e-3, "joules": 5e-5,
                            "bound": "compute"}],
    } | changes  # fmt: skip


def printed(width: int = 80, **changes: Any) -> str:
    parts = summary_parts(summary(**changes), {"head.0": "npu", "head.1": "cim"}, width)
    return click.unstyle("\n\n".join(parts))


def test_shares_below_half_a_percent_are_left_out() -> None:
    text = printed()
    assert "Critical path: npu 70%, cim 30%.\n" in text
    assert "axi 40%, cim 10%\n" in text
    assert "Overlap" not in text  # 1.00x is no gain


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({"latency_seconds": 2e-3, "energy_joules": 1.1e-4}, "1.00 KiB; 9.1% less energy than without"),
        ({"latency_seconds": 2.1e-3, "energy_joules": 1e-4}, "1.00 KiB; 4.8% less latency than without"),
        (
            {"latency_seconds": 2.1e-3, "energy_joules": 9e-5},
            "4.8% less latency, 11.1% more energy than without",
        ),
        (
            {"latency_seconds": 2e-3, "energy_joules": 1e-4},
            "Weights of 2 operators fetched ahead: 1.00 KiB\n",
        ),
    ],
)
def test_fetching_ahead_says_what_it_saves(before: dict[str, float], told: str) -> None:
    fetched = {"operators": ["a", "b"], "bytes": 1024, "initiation_interval_seconds": 2e-3, **before}
    text = printed(120, prefetch=fetched)
    assert told in text
    assert "0.0%" not in text


def test_splitting_says_who_computes_what() -> None:
    parts = [{"operator": "head.0", "channels": 280}, {"operator": "head.1", "channels": 720}]
    whole = {
        "latency_seconds": 4e-3,
        "energy_joules": 1e-4,
        "operators": [{"operator": "head", "parts": parts}],
    }
    assert (
        "split operator  output channels\nhead            280 on npu, 720 on cim\nSplitting: 50.0% less latency than whole\n"
        in printed(splitting=whole)
    )


def test_frames_in_flight_are_compared_by_their_rate() -> None:
    """The latency of several frames says little beside that of one alone."""
    several = {"frames_in_flight": 2, "initiation_interval_seconds": 1e-3, "frames_per_second": 1000.0}
    assert "system    latency  ratio  frames/s  energy  ratio\n" in printed()
    assert "npu only  3.00 ms  1.50x       400  200 µJ  2.00x" in printed()
    assert "npu only  3.00 ms       400  2.50x  200 µJ  2.00x" in printed(**several)


def test_points_that_read_alike_are_one_row() -> None:
    front = [
        {"frames": 1, "interval_seconds": 2e-3, "latency_seconds": 2e-3},
        {"frames": 2, "interval_seconds": 2e-3, "latency_seconds": 2.000001e-3},
        {"frames": 2, "interval_seconds": 1.5e-3, "latency_seconds": 3e-3},
        {"frames": 2, "interval_seconds": 1.500001e-3, "latency_seconds": 3e-3},
    ]
    chosen = {"initiation_interval_seconds": 1.500001e-3, "latency_seconds": 3e-3, "frames_in_flight": 2}
    rows = (
        printed(front=front, recurrence_bound_seconds=5e-4, **chosen)
        .split("frames in flight")[1]
        .splitlines()[1:5]
    )
    assert [row.split()[0] for row in rows] == ["1", "2", "least", "least"]
    assert rows[0].endswith("2.00x") and rows[1].endswith("1.50x  chosen")
    assert rows[3].endswith("500 µs    2.00 k")


def test_resident_weights_only_where_a_device_holds_some() -> None:
    assert "512 B  50%" in printed()
    alone = [device for device in summary()["devices"] if not device["resident_capacity"]]
    assert "resident" not in printed(devices=alone)


@pytest.mark.parametrize("width", [30, 60, 80, 100, 120])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    text = printed(
        width,
        model="a_rather_long_name_of_a_network",
        most_expensive=[{**summary()["most_expensive"][0], "name": "stage3.vit.0.attention.softmax", "kind": "LayerNormalization"}],
        budget_seconds=1e-3,
        budget_met=False,
    )  # fmt: skip
    assert all(cells(line) <= width for line in text.splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())


def test_words_for_shares() -> None:
    assert savings({"latency": 0.04, "energy": -0.1}) == "4.0% less latency, 10.0% more energy"
    assert savings({"latency": 0.0004, "energy": -0.0004}) == ""
    assert [percent(0.07), percent(1.0)] == ["  7%", "100%"]
    assert [times(1.336), times(None)] == ["1.34x", ""]


def test_a_compilation_imports_no_library_for_terminals(tmp_path: Path) -> None:
    """It takes longer to import than the summary to print."""
    program = (
        "import sys; from h4hc.cli import main; "
        f"main(['compile', {str(ROOT / 'examples' / 'hybrid_subnet.onnx')!r}, '--effort', 'fast', "
        f"'-o', {str(tmp_path / 'build')!r}], standalone_mode=False); sys.exit('rich' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=os.environ
    )


@pytest.mark.parametrize("name", ["compile", "explore", "explain"])
def test_help_imports_neither_models_nor_arrays(name: str) -> None:
    program = (
        "import sys; from h4hc.cli import main; "
        f"main([{name!r}, '--help'], standalone_mode=False); sys.exit(bool({{'pydantic', 'numpy', 'onnx'}} & {{*sys.modules}}))"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=os.environ
    )
