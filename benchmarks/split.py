"""What splitting single operators over NPU and CIM gains, over the repository's models.

    python benchmarks/split.py [--models a,b] [--targets a,b] [--efforts balanced,exact] [--objective latency] [--markdown]

Every model is compiled with and without splitting. Trials of splitting search the whole model again, which helps by
itself: "again" is the best that they found without a split, and the gain is what the objective falls by from there.
Compile times are CPU seconds of all passes, without the costs of kernels that are kept from one model to the next.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.models, in a checkout

import h4hc
from benchmarks.models import print_table
from benchmarks.schedule_quality import value
from h4hc.ir.compilation import Compilation
from tests.models import EXAMPLE, NAMES, light_models, unpack

TARGETS = ("npu+cim", "npu+cim-cu4")
EFFORTS = ("balanced", "exact")
HEADS = (
    "model",
    "target",
    "effort",
    "whole ms",
    "again ms",
    "split ms",
    "gain",
    "s",
    "s with",
    "operators: channels",
)


def compiled(
    compiler: h4hc.Compiler, loaded: h4hc.Loaded, options: h4hc.Options
) -> tuple[Compilation, float]:
    """A compilation and the CPU seconds it took."""
    start = time.process_time()
    compilation = compiler.compile(loaded.model, options, loaded.source)
    return compilation, time.process_time() - start


def parts(compilation: Compilation) -> str:
    """The split operators, and the channels of their parts."""
    splitting = compilation.splitting
    if splitting is None:
        return ""
    texts = [f"{s.operator} {'+'.join(str(count) for _, count in s.parts)}" for s in splitting.operators]
    return ", ".join(texts)


def row(
    compiler: h4hc.Compiler, loaded: h4hc.Loaded, effort: str, objective: str
) -> tuple[float, float, list[str]]:
    """Gain, compile time against that without splitting, and the texts of the table."""
    results = []
    options = h4hc.Options(objective=objective, effort=effort, weights="stored")
    fast = replace(options, effort="fast")
    compiler.compile(loaded.model, fast, loaded.source)  # so that both find the costs of kernels known
    for split in (False, True):
        results.append(compiled(compiler, loaded, replace(options, split=split)))
    (whole, before), (best, after) = results
    splitting = best.splitting
    if whole.schedule is None or best.schedule is None:
        raise ValueError("no schedule")
    again, gain = best.schedule.latency / 1e6, 0.0
    if splitting is not None:
        again = splitting.latency * 1e3
        joules, seconds = splitting.energy * 1e12, splitting.latency * 1e9
        reference = {"latency": seconds, "energy": joules, "edp": joules * seconds}[objective]
        gain = 1 - value(best, objective) / reference
    times = [whole.schedule.latency / 1e6, again, best.schedule.latency / 1e6]
    texts = [
        loaded.source.name,
        compiler.target.name,
        effort,
        *(f"{time:.3f}" for time in times),
        f"{gain:.2%}",
    ]
    return gain, after / before, [*texts, f"{before:.3f}", f"{after:.3f}", parts(best)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--efforts", default=",".join(EFFORTS))
    parser.add_argument("--objective", choices=("latency", "energy", "edp"), default="latency")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.models.split(",") if name]
    os.environ["H4HC_CACHE_DIR"] = ""
    with tempfile.TemporaryDirectory() as folder:
        paths = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        models = [h4hc.load_model(path) for path in paths if not wanted or path.stem in wanted]
    compilers = [h4hc.Compiler(h4hc.load_target(name)) for name in arguments.targets.split(",")]
    for effort in arguments.efforts.split(","):
        rows = [row(c, loaded, effort, arguments.objective) for c in compilers for loaded in models]
        print_table(list(HEADS), [texts for _, _, texts in rows], arguments.markdown)
        gains = [gain for gain, _, _ in rows]
        ratios = [ratio for _, ratio, _ in rows]
        print(
            f"{effort}: {sum(gain > 0 for gain in gains)} of {len(gains)} cases gain, mean {sum(gains) / len(gains):.2%}, "
            f"most {max(gains):.2%}, least {min(gains):.2%}; compile time x{sum(ratios) / len(ratios):.2f} on average, "
            f"x{max(ratios):.2f} at most"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
