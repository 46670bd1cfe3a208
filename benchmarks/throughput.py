"""How many frames a second placements for the throughput reach, against the proved bound.

    python benchmarks/throughput.py [--models a,b] [--targets a,b] [--frames 2,3] [--effort balanced] [--markdown]

The bound is the larger of two (extra `exact`), with the buffers in backing memory that alone exceed their memory: the least
work of the busiest device or channel of any placement, by mixed-integer programming, and what a linear program of times and
work says of so many frames in flight. `II` is the initiation interval, `load` the work of the busiest device or channel, both
over the bound. Times are CPU seconds of a whole compilation. All weights are read in place (benchmarks/prefetch.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.models, in a checkout

import h4hc
from benchmarks.models import print_table
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import Schedule
from h4hc.passes.exact.additive import Program
from h4hc.passes.exact.flow import least_interval
from h4hc.passes.memory import oversized
from h4hc.passes.problem import build_system, with_spills
from tests.models import EXAMPLE, NAMES, unpack

TARGETS = ("npu+cim", "npu+cim-cu4", "npu+cim-sram")
SECONDS = 10.0  # of a proof
ALLOWED = {2: 1.30, 3: 1.20}  # II over its bound


def proved_bounds(compilation: Compilation, counts: Sequence[int]) -> dict[int, int]:
    """Ticks below which no initiation interval comes, by the number of frames in flight."""
    system = build_system(compilation)
    spilled = oversized(system, compilation.target)
    data = with_spills(system, compilation.target, spilled).data
    load = Program(data, SECONDS).least_peak().bound
    return {count: max(load, least_interval(data, count)) for count in counts}


def schedule_of(compilation: Compilation) -> Schedule:
    if compilation.schedule is None:
        raise ValueError("the pipeline made no schedule")
    return compilation.schedule


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join([EXAMPLE.stem, *NAMES]))
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--frames", default="2,3")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.frames.split(",")]
    rows, ratios = [], dict[int, list[float]]({count: [] for count in counts})
    with tempfile.TemporaryDirectory() as name:
        for target in arguments.targets.split(","):
            compiler = h4hc.Compiler(h4hc.load_target(target))
            for stem in arguments.models.split(","):
                loaded = h4hc.load_model(EXAMPLE if stem == EXAMPLE.stem else unpack(stem, Path(name)))
                row, bounds = [stem, target], dict[int, int]()
                for count in counts:
                    options = h4hc.Options(
                        objective="throughput",
                        effort=arguments.effort,
                        frames=count,
                        baselines=False,
                        prefetch=False,
                    )
                    start = time.process_time()
                    compilation = compiler.compile(loaded.model, options, loaded.source)
                    seconds = time.process_time() - start
                    bounds = bounds or proved_bounds(compilation, counts)
                    schedule, bound = schedule_of(compilation), bounds[count]
                    ratios[count].append(schedule.initiation_interval / bound)
                    row += [
                        f"{bound / 1e6:.3f}", f"{ratios[count][-1]:.3f}", f"{schedule.interval_bound / bound:.2f}",
                        f"{schedule.latency / 1e6:.2f}", f"{seconds:.1f}",
                    ]  # fmt: skip
                rows.append(row)
    columns = [
        f"{what} ({count})" for count in counts for what in ("bound ms", "II", "load", "latency ms", "s")
    ]
    print_table(["model", "target", *columns], rows, arguments.markdown)
    for count, found in ratios.items():
        within = sum(ratio <= ALLOWED.get(count, 1.2) for ratio in found)
        print(
            f"{count} frames: II {sum(found) / len(found):.3f} times the bound on average, {max(found):.3f} at most; "
            f"{within} of {len(found)} within {ALLOWED.get(count, 1.2):.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
