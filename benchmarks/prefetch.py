"""What fetching weights ahead gains: the repository's models compiled with and without.

    python benchmarks/prefetch.py [TARGET ...] [--effort balanced|exact] [--objective latency] [--frames N] [--rate X] [--markdown]

Latency of one frame in ms, or with several frames in flight (`--frames`) the time between them; `--rate 1.05`: the latency at a
fixed rate, so many times what one frame after the other without fetching reaches. Energy in uJ, operators whose weights are
fetched and their encoded bytes. "hidden" is the share of the time of all fetches in which some device works. Compile times are CPU
seconds of all passes, costs of kernels known.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from math import exp, log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.models, in a checkout

import h4hc
from benchmarks.models import print_table
from h4hc.errors import InfeasibleError
from h4hc.ir.schedule import Schedule
from tests.models import EXAMPLE, NAMES, light_models, unpack

TARGETS = ("npu", "npu+cim", "npu+cim-u65", "npu+cim-sram", "npu+cim-cu4")
HEADS = (
    "model", "target", "without ms", "with ms", "gain", "without uJ", "with uJ", "operators", "KiB", "hidden",
    "s without", "s with",
)  # fmt: skip


def hidden(schedule: Schedule) -> str:
    """The share of the time of fetches in which a compute task runs."""
    loads = [task for task in schedule.tasks if task.kind == "weight_load"]
    if not loads:
        return ""
    busy = sorted((task.start, task.end) for task in schedule.tasks if task.kind == "compute")
    covered = 0
    for load in loads:
        at = load.start
        for start, end in busy:
            start, end = max(at, start), min(end, load.end)
            if start < end:
                covered += end - start
                at = end
    return f"{covered / sum(load.end - load.start for load in loads):.0%}"


def row(compiler: h4hc.Compiler, loaded: h4hc.Loaded, options: h4hc.Options) -> tuple[float, list[str]]:
    """Latency (or interval) with fetches against that without, and the texts of the table."""
    schedules, seconds, fetched = [], [], None
    for prefetch in (False, True):
        start = time.process_time()
        found = compiler.compile(loaded.model, replace(options, prefetch=prefetch), loaded.source)
        seconds.append(time.process_time() - start)
        fetched = found.prefetching
        if found.schedule is None:
            raise RuntimeError(f"{loaded.source.name}: no schedule")
        schedules.append(found.schedule)
    without, best = schedules
    flying = options.window > 1 and options.interval_seconds is None
    before, after = ((s.initiation_interval if flying else s.latency) for s in schedules)
    ratio = after / before
    count, kib = (len(fetched.operators), fetched.bytes / 1024) if fetched else (0, 0.0)
    return ratio, [
        Path(loaded.source.path).stem, compiler.target.name, f"{before / 1e6:.3f}",
        f"{after / 1e6:.3f}", f"{1 - ratio:.2%}", f"{without.energy / 1e6:.1f}",
        f"{best.energy / 1e6:.1f}", str(count), f"{kib:.0f}", hidden(best), f"{seconds[0]:.2f}", f"{seconds[1]:.2f}",
    ]  # fmt: skip


def at_rate(
    compiler: h4hc.Compiler, loaded: h4hc.Loaded, options: h4hc.Options, rate: float | None
) -> h4hc.Options:
    """`options` with a frame rate, `rate` times that of one frame after the other; the costs of kernels are known then."""
    quick = replace(options, frames=None, prefetch=False, evaluations=None if rate else 1)
    schedule = compiler.compile(loaded.model, quick, loaded.source).schedule
    if rate is None or schedule is None:
        return options
    return replace(options, interval_seconds=schedule.latency * 1e-9 / rate)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--effort", default="balanced", choices=["balanced", "exact"])
    parser.add_argument("--objective", default="latency")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    options = h4hc.Options(
        objective=arguments.objective, effort=arguments.effort, frames=arguments.frames, split=False
    )
    rows, summary, worst = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        models = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        for name in arguments.targets:
            compiler = h4hc.Compiler(h4hc.load_target(name))
            ratios = []
            for path in models:
                loaded = h4hc.load_model(path)
                fixed = at_rate(compiler, loaded, options, arguments.rate)
                try:
                    ratio, texts = row(compiler, loaded, fixed)
                except InfeasibleError as error:
                    print(f"{path.stem} on {name}: {error}")
                    continue
                ratios.append(ratio)
                rows.append(texts)
            gain = 1 - exp(sum(map(log, ratios)) / len(ratios))
            summary.append(
                f"{name}: mean gain {gain:.2%}, most {1 - min(ratios):.2%}, least {1 - max(ratios):.2%}"
            )
            worst = max(worst, *ratios)
    print_table(list(HEADS), rows, arguments.markdown)
    print("\n".join(summary))
    return int(worst > 1 and arguments.objective == "latency")


if __name__ == "__main__":
    sys.exit(main())
