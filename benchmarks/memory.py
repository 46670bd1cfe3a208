"""How close memory plans come to their lower bound, over models, targets, efforts and frames in flight.

    python benchmarks/memory.py [--models a,b] [--targets a,b] [--efforts fast,balanced] [--frames 1,2,3] [--all]

A case is one memory of one schedule that holds at least two buffers. Its bound is the most bytes alive at one tick.
The table shows the cases above it (with --all: every case); the last lines count those at it, and those above by
more than 5 %. Times are CPU milliseconds of the passes pipeline and allocate.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.models, in a checkout

import h4hc
from benchmarks.models import TARGETS, print_table
from h4hc.errors import InfeasibleError
from tests.models import EXAMPLE, NAMES, light_models, unpack

NEAR = 1.05


class Case(NamedTuple):
    """One memory of one schedule."""

    model: str
    target: str
    effort: str
    frames: int
    memory: str
    buffers: int
    peak: int
    bound: int
    milliseconds: float

    @property
    def ratio(self) -> float:
        """The peak over its bound."""
        return self.peak / self.bound


def cases(compiler: h4hc.Compiler, loaded: h4hc.Loaded, effort: str, frames: int) -> list[Case]:
    """The memories of one compilation."""
    seconds = {"pipeline": 0.0, "allocate": 0.0}

    def observe(step: object, _: object, cpu: float) -> bool:
        name = getattr(step, "name", "")
        if name in seconds:
            seconds[name] = cpu
        return False

    options = h4hc.Options(effort=effort, frames=frames, baselines=False)
    schedule = compiler.compile(loaded.model, options, loaded.source, observe).schedule
    if schedule is None:
        raise ValueError("no schedule")
    counts = Counter(buffer.memory for buffer in schedule.buffers)
    name, target = loaded.source.name, compiler.target.name
    return [
        Case(
            name, target, effort, schedule.frames_in_flight, use.memory, counts[use.memory], use.peak,
            use.lower_bound, 1e3 * sum(seconds.values()),
        )
        for use in schedule.memories
        if counts[use.memory] > 1
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--efforts", default="fast,balanced")
    parser.add_argument("--frames", default="1,2,3")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.models.split(",") if name]
    os.environ["H4HC_CACHE_DIR"] = ""
    found: list[Case] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        models = [h4hc.load_model(path) for path in paths if not wanted or path.stem in wanted]
    for target in arguments.targets.split(","):
        compiler = h4hc.Compiler(h4hc.load_target(target))
        for loaded in models:
            for effort in arguments.efforts.split(","):
                for frames in map(int, arguments.frames.split(",")):
                    try:
                        found += cases(compiler, loaded, effort, frames)
                    except InfeasibleError as error:
                        print(f"{loaded.source.name} on {target}: {error}")
    report(found, every=arguments.all, markdown=arguments.markdown)
    return 0


def report(found: list[Case], *, every: bool, markdown: bool) -> None:
    """Print the table and the counts."""
    heads = ["model", "target", "effort", "frames", "memory", "buffers", "peak", "bound", "ratio", "ms"]
    rows = [
        [*map(str, case[:8]), f"{case.ratio:.4f}", f"{case.milliseconds:.1f}"]
        for case in found
        if every or case.peak > case.bound
    ]
    if rows:
        print_table(heads, rows, markdown)
    for several in (False, True):
        group = [case for case in found if (case.frames > 1) == several]
        if group:
            at = sum(case.peak == case.bound for case in group)
            far = sum(case.ratio > NEAR for case in group)
            what = "several frames in flight" if several else "one frame in flight"
            print(
                f"{what}: {at} of {len(group)} at the bound ({at / len(group):.1%}), {far} above by more than "
                f"{NEAR - 1:.0%}, worst {max(case.ratio for case in group):.4f}, "
                f"slowest {max(case.milliseconds for case in group):.1f} ms"
            )


if __name__ == "__main__":
    sys.exit(main())
