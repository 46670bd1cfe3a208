"""Published measurements of accelerators without a cost model: what two fitted parameters explain.

    python -m benchmarks.references.fitted

STM32N6: the same network with a head of 1000 instead of 101 classes takes longer by an overhead and the bytes of
the larger head at the rate of the external flash. GAP9: energy is static power over the measured time and an energy
per MAC. Both fits are those of ``h4hc profile calibrate`` (`h4hc.backends.profiles.fit`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from benchmarks.networks import build
from benchmarks.references.errors import Pair, Section, print_sections, read_table, summarise
from h4hc.backends.profiles.fit import line

MACS = {
    "mlperf_tiny_ad": 264_192,
    "mlperf_tiny_ic": 12_501_632,
    "mlperf_tiny_kws": 2_656_768,
    "mlperf_tiny_vww": 7_489_664,
}
SMALL_HEAD = "_101"


class Point(NamedTuple):
    """A measurement `value` = (offset + slope x `position`) x `scale`."""

    name: str
    position: float
    value: float
    scale: float = 1.0


def sections() -> list[Section]:
    """Both fits."""
    rows = read_table("published")
    return [stm32n6(rows), *(gap9(rows, board) for board in ("gap9 0.65V", "gap9 0.8V"))]


def stm32n6(rows: list[dict[str, str]]) -> Section:
    """Differences of milliseconds between heads of 1000 and 101 classes."""
    times = {row["network"]: float(row["expected"]) for row in rows if row["board"] == "stm32n6"}
    points = [
        Point(name, head_bytes(whole) - head_bytes(name), 1e-3 * (times[whole] - times[name]))
        for name, whole in ((n, n.removesuffix(SMALL_HEAD)) for n in times if n.endswith(SMALL_HEAD))
    ]
    overhead, per_byte = fit(points)
    return Section(
        title="STM32N6: a larger head",
        reference="STM32N6570-DK, silicon (ST model zoo), six pairs of networks",
        unit=f"seconds more for 1000 than for 101 classes; fitted: {overhead * 1e3:.2f} ms + bytes / "
        f"{1e-9 / per_byte:.3f} GB/s",
        summaries=summarise(pairs(points)),
        not_modelled=("the rest of the network: how the accelerator computes is not published in detail",),
    )


def gap9(rows: list[dict[str, str]], board: str) -> Section:
    """Energies of MLPerf Tiny, from the measured times."""
    points = []
    for row in rows:
        if row["board"] == board:
            seconds = 1e-3 * float(row["note"])
            energy = 1e-6 * float(row["expected"])
            points.append(Point(row["network"], MACS[row["network"]] / seconds, energy, seconds))
    static, per_mac = fit(points)
    return Section(
        title=f"GAP9 at {board.split()[1].replace('V', ' V')}: energy",
        reference="GreenWaves GAP9, silicon (MLPerf Tiny v1.0), four networks",
        unit=f"joules of an inference; fitted: {static * 1e3:.1f} mW x measured time + {per_mac * 1e12:.2f} pJ x MACs",
        summaries=summarise(pairs(points)),
        not_modelled=("time: measured times are used", "memory traffic apart from MACs"),
    )


def fit(points: list[Point]) -> tuple[float, float]:
    """Offset and slope."""
    positions = np.array([point.position for point in points], dtype=np.float64)
    return line(positions, np.array([point.value / point.scale for point in points], dtype=np.float64))


def pairs(points: list[Point]) -> list[Pair]:
    """Every point beside the fit to all, and beside the fit to the others."""
    found = []
    for group, leave_out in (("fitted to all", False), ("fitted to the others", True)):
        for point in points:
            offset, slope = fit([other for other in points if not leave_out or other is not point])
            value = (offset + slope * point.position) * point.scale
            found.append(Pair(group, point.name, point.value, value))
    return found


def head_bytes(network: str) -> int:
    """Bytes of the last layer: 8-bit weights, 32-bit biases."""
    *_, weights, biases = build(network).graph.initializer
    return int(math.prod(weights.dims) + 4 * math.prod(biases.dims))


if __name__ == "__main__":
    print_sections(sections())
