"""How good schedules are: heuristics against proved optima, bounds and long searches, over models, targets and objectives.

    python benchmarks/schedule_quality.py [--tables operators,tiles,warm,bounds] [--models a,b] [--targets a,b]
        [--objectives latency,energy,edp] [--seconds 10] [--parents first|other] [--markdown]

- `operators`: one tile per operator, latency. The optimum (or a bound) that exact effort proves, and fast effort restricted
  in the same way, both without a limit on the memory of activations.
- `tiles`: operators in tiles. Every effort against the best that they and ever longer local searches find, which take
  `--seconds` in all; none of them with split operators or fetched weights. Then that against a lower bound; and balanced
  effort with splitting and fetching, as it is by default.
- `warm`: latency of subnets that differ little from a parent, from cold and from the parent's placement, against such searches.
  `--parents other`: of children of five other parents, 60 in all, which warm starts were not adjusted to.
- `bounds`: the linear program of times and work against the longest path of least times and the busiest resource.

Without `--targets` the first table has five targets, the others three. Times are CPU seconds with an empty cache: of the pass
that places and, at exact effort, proves; of all that a long search takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.models, in a checkout

import numpy as np

import h4hc
from benchmarks.models import print_table
from h4hc.frontend import Loaded, normalise
from h4hc.ir.compilation import OBJECTIVES, Compilation, Source
from h4hc.passes.core import Problem
from h4hc.passes.exact.bounds import critical_path
from h4hc.passes.exact.effort import EFFORT
from h4hc.passes.exact.flow import least_interval
from h4hc.passes.exact.operator_level import OperatorLevel, solve_operator_level
from h4hc.passes.exact.oracle import Limit
from h4hc.passes.exact.store import Store
from h4hc.passes.partition import choose_plan
from h4hc.passes.search import Searcher
from h4hc.search.emit import emit
from h4hc.search.space import load_space
from tests.models import EXAMPLE, NAMES, light_models, unpack
from tests.mutants import mutant

TABLES = ("operators", "tiles", "warm", "bounds")
TARGETS = ("npu", "cim", "npu+cim", "npu+cim-cu4", "npu+cim-sram")
TWO_ACCELERATORS = TARGETS[2:]
SECONDS = 10.0  # within which a proof counts
OPERATORS = 260
FIRST, MOST = 4_000, 128_000  # schedules of the first and of the longest search
SPACE = "h4h-imagenet"
PARENT = 8_000  # schedules of the search for a parent


def prepared(compiler: h4hc.Compiler, loaded: Loaded, objective: str, effort: str) -> Compilation:
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
    compiler: h4hc.Compiler, loaded: Loaded, objective: str, effort: str, **more: Any
) -> tuple[Compilation, float]:
    """A compilation with `more` options, and the seconds that its partition took."""
    seconds = [0.0]

    def observe(step: object, _: object, cpu: float) -> bool:
        if getattr(step, "name", "") == "partition":
            seconds[0] = cpu
        return False

    options = h4hc.Options(objective=objective, effort=effort, baselines=False, **more)
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


def tiled_summary(ratios: Sequence[float], what: str, within: float = 1.10) -> None:
    """Mean and worst of `ratios`, and how many are at most `within`."""
    if ratios:
        count = sum(ratio <= within for ratio in ratios)
        mean = sum(ratios) / len(ratios)
        print(
            f"{what}: mean {mean:.4f}, worst {max(ratios):.4f}, {count} of {len(ratios)} within {within:.2f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default=",".join(TABLES[:2]), help=f"of {', '.join(TABLES)}")
    parser.add_argument("--models", default="")
    parser.add_argument("--targets", default="")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES[:3]))
    parser.add_argument("--seconds", type=float, default=10.0, help="of CPU time, of the long searches")
    parser.add_argument("--parents", choices=("first", "other"), default="first", help="of the table warm")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    tables = arguments.tables.split(",")
    if unknown := sorted(set(tables) - set(TABLES)):
        parser.error(f"there is no table {unknown[0]}; choose from {', '.join(TABLES)}")
    wanted = [name for name in arguments.models.split(",") if name]
    targets = [name for name in arguments.targets.split(",") if name]
    os.environ["H4HC_CACHE_DIR"] = ""
    all_targets = {name: h4hc.Compiler(h4hc.load_target(name)) for name in targets or TARGETS}
    two = {name: all_targets[name] for name in targets or TWO_ACCELERATORS}
    with tempfile.TemporaryDirectory() as folder:
        paths = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        models = [h4hc.load_model(path) for path in paths if not wanted or path.stem in wanted]
    if "operators" in tables:
        operator_table(all_targets, models, arguments.markdown)
    for objective in arguments.objectives.split(",") if "tiles" in tables else ():
        tile_table(two, models, objective, arguments.seconds, arguments.markdown)
    if "warm" in tables:
        families = other_families() if arguments.parents == "other" else first_families()
        warm_table(two, families, arguments.seconds, arguments.markdown)
    if "bounds" in tables:
        bound_table(two, models, arguments.markdown)
    return 0


def operator_table(compilers: dict[str, h4hc.Compiler], models: list[Loaded], markdown: bool) -> None:
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


def long_search(
    compiler: h4hc.Compiler, loaded: Loaded, objective: str, seconds: float
) -> tuple[float, float]:
    """The best value of ever longer searches of balanced effort that take `seconds` of CPU time in all, and what they took."""
    best, evaluations, start = float("inf"), FIRST, time.process_time()
    while True:
        begun = time.process_time()
        found, _ = finished(
            compiler, loaded, objective, "balanced", split=False, prefetch=False, evaluations=evaluations
        )
        best = min(best, value(found, objective))
        now = time.process_time()
        left, last = seconds - (now - start), now - begun
        if left < last or evaluations == MOST:
            return best, now - start
        longer = 2 * evaluations if left > 4 * last else int(evaluations * left / last)
        evaluations = min(MOST, longer)


def tile_table(
    compilers: dict[str, h4hc.Compiler],
    models: list[Loaded],
    objective: str,
    seconds: float,
    markdown: bool,
) -> None:
    """Operators in tiles: every effort against the best that is known, and that against the lower bound."""
    heads = [
        "model",
        "target",
        objective,
        "/ bound",
        "fast",
        "ms",
        "balanced",
        "ms",
        "exact",
        "s",
        "long s",
        "default",
    ]
    table, ratios = [], list[list[float]]()
    alone: dict[str, Any] = {"split": False, "prefetch": False}
    for loaded in models:
        for target, compiler in compilers.items():
            fast, quick = finished(compiler, loaded, objective, "fast")
            balanced, cpu = finished(compiler, loaded, objective, "balanced", **alone)
            exact, proof = finished(compiler, loaded, objective, "exact", **alone)
            default, _ = finished(compiler, loaded, objective, "balanced")
            long, took = long_search(compiler, loaded, objective, seconds)
            values = [value(found, objective) for found in (fast, balanced, exact, default)]
            best = min(long, *values[:3])
            ratios.append([reached / best for reached in values])
            shown = [f"{ratio:.4f}" for ratio in ratios[-1]]
            table.append([
                loaded.source.name, target, f"{best:.4g}", f"{best / bound_of(exact, objective):.3f}",
                shown[0], f"{quick * 1e3:.1f}", shown[1], f"{cpu * 1e3:.1f}", shown[2], f"{proof:.2f}",
                f"{took:.1f}", shown[3],
            ])  # fmt: skip
    print_table(heads, table, markdown)
    for column, effort in enumerate(("fast", "balanced", "exact")):
        tiled_summary([row[column] for row in ratios], f"{objective}, {effort} against the best known")
    worse = sum(max(balanced, default) > fast for fast, balanced, _, default in ratios)
    print(f"{objective}: balanced is worse than fast in {worse} of {len(ratios)} cases")


def warm_table(
    compilers: dict[str, h4hc.Compiler], families: dict[str, list[Loaded]], seconds: float, markdown: bool
) -> None:
    """Subnets from cold and from the placement of a parent, which a longer search found."""
    heads = ["subnets of", "target", "operators", "cold", "worst", "warm", "worst"]
    table, warm = [], list[float]()
    fast = h4hc.Options(effort="fast", baselines=False)
    for family, (first, *children) in families.items():
        for target, compiler in compilers.items():
            parent, _ = finished(compiler, first, "latency", "fast", evaluations=PARENT)
            ratios, sizes = list[tuple[float, float]](), []
            for child in children:
                cold, near = [
                    compiler.compile(child.model, fast, child.source, parent=given)
                    for given in (None, parent)
                ]
                values = [value(found, "latency") for found in (cold, near)]
                best = min(long_search(compiler, child, "latency", seconds)[0], *values)
                ratios.append((values[0] / best, values[1] / best))
                sizes.append(len(cold.graph.operators) if cold.graph else 0)
            columns = [[ratio[way] for ratio in ratios] for way in (0, 1)]
            warm += columns[1]
            table.append([
                family, target, f"{min(sizes)} to {max(sizes)}",
                *(f"{figure:.4f}" for column in columns for figure in (sum(column) / len(column), max(column))),
            ])  # fmt: skip
    print_table(heads, table, markdown)
    tiled_summary(warm, "from a parent's placement against the best known", 1.03)


def first_families() -> dict[str, list[Loaded]]:
    """Parents with their children."""
    return {"the example": mutants(), SPACE: subnets()}


def other_families() -> dict[str, list[Loaded]]:
    """Random subnets with their children."""
    return {f"{SPACE} {seed}": subnets(seed=seed) for seed in range(1, 6)}


def mutants(count: int = 8) -> list[Loaded]:
    """The example, and the example with a few layers changed."""
    depths = ((2, 2), (3, 2), (2, 1), (2, 3))
    models = [mutant(seed, depths=depths[seed % 4]) for seed in range(count + 1)]
    return [Loaded(Source(f"mutant {i}", "", ""), normalise(model)) for i, model in enumerate(models)]


def subnets(count: int = 4, seed: int = 0) -> list[Loaded]:
    """A random subnet, and subnets with one gene in ten changed."""
    space, rng = load_space(SPACE), np.random.default_rng(seed)
    first = space.sample(rng)
    family = [first, *(space.mutate(first, rng, 0.1) for _ in range(count))]
    return [Loaded(Source(f"subnet {i}", "", ""), emit(space, subnet)) for i, subnet in enumerate(family)]


def bound_table(compilers: dict[str, h4hc.Compiler], models: list[Loaded], markdown: bool) -> None:
    """How far the linear program of times and work raises the bound on the latency."""
    heads = ["model", "target", "operators", "longest path us", "busiest", "program", "s", "bound raised by"]
    table, above, raised = [], list[float](), list[float]()
    for loaded in models:
        for target, compiler in compilers.items():
            data = Searcher(prepared(compiler, loaded, "latency", "fast")).base.data
            path, load, start = critical_path(data), load_bound(data), time.process_time()
            flow = least_interval(data, 1)
            seconds = time.process_time() - start
            above.append(flow / path)
            raised.append(max(flow, path, load) / max(path, load) - 1)
            table.append([
                loaded.source.name, target, str(data["operators"]), f"{path / 1e3:.1f}", f"{load / path:.3f}",
                f"{above[-1]:.3f}", f"{seconds:.2f}", f"{raised[-1]:.1%}",
            ])  # fmt: skip
    print_table(heads, table, markdown)
    mean, rise = sum(above) / len(above), sum(raised) / len(raised)
    print(f"the program is {mean:.3f} times the longest path on average, in {len(above)} cases")
    print(f"it raises the bound on the latency by {rise:.1%} on average, {max(raised):.1%} at most")


if __name__ == "__main__":
    sys.exit(main())
