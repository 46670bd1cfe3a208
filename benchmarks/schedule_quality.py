"""How good schedules are: heuristics against proved optima and bounds, over models, targets and objectives.

    python benchmarks/schedule_quality.py [--models a,b] [--targets a,b] [--objectives latency,energy,edp] [--markdown]

First table, one tile per operator, latency: the optimum (or a bound) that exact effort proves, and fast effort restricted
in the same way, both without a limit on the memory of activations. Second table, with tiles: fast and balanced effort
against exact effort's long search, and lower bounds. Times are CPU seconds with an empty cache.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.models, in a checkout

import h4hc
from benchmarks.models import print_table
from h4hc.ir.compilation import OBJECTIVES, Compilation
from h4hc.passes.core import Problem
from h4hc.passes.exact.bounds import critical_path
from h4hc.passes.exact.effort import EFFORT
from h4hc.passes.exact.operator_level import OperatorLevel, solve_operator_level
from h4hc.passes.exact.oracle import Limit
from h4hc.passes.exact.store import Store
from h4hc.passes.partition import choose_plan
from h4hc.passes.search import Searcher
from tests.models import EXAMPLE, NAMES, light_models, unpack

TARGETS = ("npu", "cim", "npu+cim", "npu+cim-cu4", "npu+cim-sram")
SECONDS = 10.0  # within which a proof counts
OPERATORS = 260


def prepared(compiler: h4hc.Compiler, loaded: h4hc.Loaded, objective: str, effort: str) -> Compilation:
    """The compilation as the partition pass gets it."""
    options = h4hc.Options(objective=objective, effort=effort, baselines=False)
    names = [step.name for step in compiler.passes]
    before = names[names.index("partition") - 1]
    return compiler.compile(loaded.model, options, loaded.source, lambda step, *_: step.name == before)


def whole_operators(compilation: Compilation) -> tuple[int, OperatorLevel, float]:
    """Ticks of fast effort in one tile per operator, the exact answer, and the seconds that took."""
    searcher = Searcher(compilation, whole=True)
    plan, _ = choose_plan(searcher)
    system = (searcher.with_copies or searcher).system
    start = time.process_time()
    level = solve_operator_level(system.data, Limit(EFFORT), Store(None))
    seconds = time.process_time() - start
    return int(Problem(system.data).trace(plan.modes, plan.tiles, plan.order)[0]), level, seconds


def value(compilation: Compilation, objective: str) -> float:
    """What the objective measures, of a finished compilation."""
    schedule = compilation.schedule
    if schedule is None:
        raise ValueError("no schedule")
    return {
        "latency": float(schedule.latency),
        "energy": float(schedule.energy),
        "edp": float(schedule.latency) * schedule.energy,
    }[objective]


def finished(
    compiler: h4hc.Compiler, loaded: h4hc.Loaded, objective: str, effort: str
) -> tuple[Compilation, float]:
    """A compilation, and the seconds that its partition took."""
    seconds = [0.0]

    def observe(step: object, _: object, cpu: float) -> bool:
        if getattr(step, "name", "") == "partition":
            seconds[0] = cpu
        return False

    options = h4hc.Options(objective=objective, effort=effort, baselines=False)
    return compiler.compile(loaded.model, options, loaded.source, observe), seconds[0]


def bound_of(compilation: Compilation, objective: str) -> float:
    """A lower bound on the objective, from the claims of exact effort."""
    claims = {claim.kind: claim.value for claim in compilation.claims}
    simulated = compilation.simulated
    if simulated is None:
        raise ValueError("no schedule")
    static = min(simulated.system.data["dev_static"])
    energy = claims["dynamic-energy"] + static * claims["latency"]
    return {"latency": claims["latency"], "energy": energy, "edp": energy * claims["latency"]}[objective]


def summary(rows: Sequence[Sequence[float]]) -> None:
    """Print how the acceptance figures come out; rows: operators, proved, seconds, fast / optimum."""
    counted = [row for row in rows if row[0] <= OPERATORS]
    proved = [row for row in counted if row[1] and row[2] <= SECONDS]
    print(
        f"operator level: {len(proved)} of {len(counted)} cases of up to {OPERATORS} operators proved within {SECONDS:g} s"
    )
    ratios = [row[3] for row in rows if row[1]]
    if ratios:
        mean = sum(ratios) / len(ratios)
        print(f"fast against the optimum: mean {mean:.4f}, worst {max(ratios):.4f}, {len(ratios)} cases")


def tiled_summary(ratios: Sequence[float], what: str) -> None:
    """Mean and worst of `ratios`."""
    if ratios:
        within = sum(ratio <= 1.10 for ratio in ratios)
        mean = sum(ratios) / len(ratios)
        print(f"{what}: mean {mean:.4f}, worst {max(ratios):.4f}, {within} of {len(ratios)} within 1.10")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--objectives", default=",".join(OBJECTIVES[:3]))
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--operator-level", action="store_true", help="the first table only")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.models.split(",") if name]
    os.environ["H4HC_CACHE_DIR"] = ""
    compilers = {name: h4hc.Compiler(h4hc.load_target(name)) for name in arguments.targets.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        paths = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        models = [h4hc.load_model(path) for path in paths if not wanted or path.stem in wanted]
    operator_table(compilers, models, arguments.markdown)
    if not arguments.operator_level:
        for objective in arguments.objectives.split(","):
            tile_table(compilers, models, objective, arguments.markdown)
    return 0


def operator_table(compilers: dict[str, h4hc.Compiler], models: list[h4hc.Loaded], markdown: bool) -> None:
    """One tile per operator."""
    heads = [
        "model",
        "target",
        "operators",
        "pieces",
        "optimum us",
        "proved",
        "s",
        "fast",
        "critical path",
        "busiest",
    ]
    table, figures = [], []
    for loaded in models:
        for target, compiler in compilers.items():
            compilation = prepared(compiler, loaded, "latency", "fast")
            fast, level, seconds = whole_operators(compilation)
            data = (Searcher(compilation)).base.data
            count = data["operators"]
            ratio = fast / level.bound
            figures.append((count, level.proved, seconds, ratio))
            table.append([
                loaded.source.name, target, str(count), str(level.pieces), f"{level.bound / 1e3:.1f}",
                "yes" if level.proved else f"bound, {level.ticks / level.bound:.4f}", f"{seconds:.2f}",
                f"{ratio:.4f}", f"{critical_path(replace_rows(data)) / level.bound:.3f}",
                f"{load_bound(data) / level.bound:.3f}",
            ])  # fmt: skip
    print_table(heads, table, markdown)
    summary(figures)


def replace_rows(data: dict[str, object]) -> dict[str, object]:
    """`data` with one tile per operator."""
    return {**data, "rows": [1] * len(data["rows"])}  # type: ignore[arg-type]


def load_bound(data: dict[str, object]) -> int:
    """The least work of the busiest resource."""
    from h4hc.passes.exact.additive import Program

    return Program(data).least_peak().bound


def tile_table(
    compilers: dict[str, h4hc.Compiler], models: list[h4hc.Loaded], objective: str, markdown: bool
) -> None:
    """Operators in tiles: fast and balanced effort against the long search."""
    heads = ["model", "target", objective, "exact s", "fast", "fast ms", "balanced", "best / bound"]
    table, fast_ratios, balanced_ratios = [], [], []
    for loaded in models:
        for target, compiler in compilers.items():
            best, seconds = finished(compiler, loaded, objective, "exact")
            fast, cpu = finished(compiler, loaded, objective, "fast")
            balanced, _ = finished(compiler, loaded, objective, "balanced")
            least = value(best, objective)
            ratios = [value(found, objective) / least for found in (fast, balanced)]
            fast_ratios.append(ratios[0])
            balanced_ratios.append(ratios[1])
            table.append([
                loaded.source.name, target, f"{least:.4g}", f"{seconds:.2f}", f"{ratios[0]:.4f}", f"{cpu * 1e3:.1f}",
                f"{ratios[1]:.4f}", f"{least / bound_of(best, objective):.3f}",
            ])  # fmt: skip
    print_table(heads, table, markdown)
    tiled_summary(fast_ratios, f"{objective}, fast against the long search")
    tiled_summary(balanced_ratios, f"{objective}, balanced against the long search")


if __name__ == "__main__":
    sys.exit(main())
