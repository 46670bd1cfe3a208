"""How long compiling takes: the in-memory path of a search, cold and warm, how it grows, and the command line from cold.

    python benchmarks/compile_speed.py [--runs N] [--subnets N]

CPU times (user + system), best of N: these machines are noisy, and noise only ever adds. The ratio of the last
line compares two whole processes run in turn.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.models, in a checkout

import numpy as np
import onnx

import h4hc
from h4hc.passes.core import COMPILED
from h4hc.search.emit import emit
from h4hc.search.space import load_space
from tests.models import EXAMPLE, NAMES, unpack

PLACING = ("partition", "split", "schedule", "pipeline", "prefetch", "allocate")
OPERATORS = 250  # for which the limits hold
COLD, WARM = 12.0, 5.0  # milliseconds


def deep_subnet(folder: Path) -> Path:
    """The example subnet with more transformer blocks: about as many nodes as a large subnet of a search."""
    program = (ROOT / "examples" / "hybrid_subnet.py").as_posix()
    path = folder / "hybrid_subnet_deep.onnx"
    onnx.save(runpy.run_path(program)["build"](depths=(5, 5)), path)
    return path


def weightless(path: Path) -> onnx.ModelProto:
    """The normalised model without the data of its weights: what a search compiles."""
    model = h4hc.load_model(path).model
    for tensor in model.graph.initializer:
        count = 1
        for extent in tensor.dims:
            count *= extent
        if count > 64:
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                tensor.ClearField(field)
    return model


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Least CPU seconds of `work`."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def child_seconds(command: list[str]) -> float:
    """CPU seconds of a process, children included. It may keep compiled modules, as an installed package does."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_memory(paths: list[Path], runs: int) -> None:
    print(
        f"in memory: ModelProto without weights -> schedule, fast effort, costs cached (compiled core: {COMPILED})"
    )
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    options = h4hc.Options(effort="fast", baselines=False)
    for path in paths:
        model = weightless(path)
        steps: dict[str, float] = {}

        def observe(step: object, _: object, seconds: float, steps: dict[str, float] = steps) -> bool:
            name = str(getattr(step, "name", step))
            steps[name] = min(seconds, steps.get(name, 1.0))
            return False

        def compile_once(model: onnx.ModelProto = model) -> h4hc.Compilation:
            return compiler.compile(model, options, observe=observe)

        result = compile_once()
        total = best_of(runs, compile_once)
        parts = ", ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in steps.items())
        nodes, tasks = len(model.graph.node), len(result.schedule.tasks if result.schedule else ())
        print(f"  {path.stem:<20} {nodes:>5} nodes {tasks:>5} tasks {total * 1e3:7.2f} ms  ({parts})")


def placing(
    compiler: h4hc.Compiler, model: onnx.ModelProto, runs: int, parent: h4hc.Compilation | None = None
) -> tuple[float, h4hc.Compilation]:
    """CPU milliseconds from partition to allocation, the best of `runs` for each pass, and the result."""
    steps: dict[str, float] = {}

    def observe(step: object, _: object, seconds: float) -> bool:
        name = str(getattr(step, "name", step))
        steps[name] = min(seconds, steps.get(name, 1.0))
        return False

    for _ in range(max(1, runs)):
        options = h4hc.Options(effort="fast", baselines=False)
        result = compiler.compile(model, options, observe=observe, parent=parent)
    return 1e3 * sum(steps[name] for name in PLACING), result


def placed(paths: list[Path], runs: int) -> None:
    """Partition to allocation, from cold and from a parent's placement."""
    print("in memory: partition, schedule and allocation alone, fast effort, cold and from a parent (warm)")
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    for path in paths:
        model = weightless(path)
        parent = compiler.compile(model, h4hc.Options(baselines=False, split=False))
        cold, result = placing(compiler, model, runs)
        warm, _ = placing(compiler, model, runs, parent)
        operators = len(result.graph.operators if result.graph else ())
        print(f"  {path.stem:<20} {operators:>5} operators  cold {cold:6.2f} ms  warm {warm:6.2f} ms")


def subnets(count: int, runs: int) -> None:
    """The same for random subnets of a search space, most of which spill buffers."""
    space, rng = load_space("h4h-imagenet"), np.random.default_rng(0)
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    rows = []
    for subnet in [space.sample(rng) for _ in range(count)]:
        cold, result = placing(compiler, emit(space, subnet), runs)
        own, _ = placing(compiler, emit(space, subnet), runs, result)
        child, mutant = placing(compiler, emit(space, space.mutate(subnet, rng)), runs, result)
        spilled = len(result.placement.spilled if result.placement else ())
        sizes = [len(found.graph.operators if found.graph else ()) for found in (result, mutant)]
        rows.append((sizes[0], spilled, cold, own, child, sizes[1]))
    print(
        f"the same for {count} random subnets of h4h-imagenet, milliseconds; warm: from the subnet's own placement, and a"
    )
    print("mutant of the subnet from there")
    print("  operators  spilled buffers   cold   warm  mutant  its operators")
    for operators, spilled, cold, own, child, others in sorted(rows):
        print(f"  {operators:>9} {spilled:>16} {cold:>6.1f} {own:>6.1f} {child:>7.1f} {others:>14}")
    small = [row for row in rows if row[0] <= OPERATORS]
    if small:
        warm = [row[3] for row in small] + [row[4] for row in rows if row[5] <= OPERATORS]
        print(f"  up to {OPERATORS} operators: cold {max(row[2] for row in small):.1f} ms at most (limit {COLD:g}), "
              f"warm {max(warm):.1f} ms (limit {WARM:g})")  # fmt: skip
    for package in ("ortools", "torch"):
        if package in sys.modules:
            raise SystemExit(f"fast effort imported {package}")


def branched_chain(operators: int) -> onnx.ModelProto:
    """About so many convolutions, in a chain in which every fourth one has a branch beside it that is added behind it."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [1, 32, 14, 14]
    weight = onnx.TensorProto(name="w", data_type=kind, dims=[32, 32, 1, 1])
    nodes, values, x = [], [], "x"
    for number in range(operators * 4 // 5):
        y = f"y{number}"
        nodes.append(helper.make_node("Conv", [x, "w"], [y], f"conv{number}"))
        values.append(y)
        if number % 4 == 0:
            nodes.append(helper.make_node("Conv", [x, "w"], [f"b{number}"], f"branch{number}"))
            nodes.append(helper.make_node("Add", [y, f"b{number}"], [f"s{number}"], f"add{number}"))
            values += [f"b{number}", f"s{number}"]
            y = f"s{number}"
        x = y
    infos = [helper.make_tensor_value_info(name, kind, shape) for name in ["x", *values]]
    ends = [infos[0]], [helper.make_tensor_value_info(x, kind, shape)]
    graph = helper.make_graph(nodes, "chain", *ends, [weight], value_info=infos[1:])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def growth(sizes: tuple[int, ...] = (1250, 2500, 5000, 10_000)) -> None:
    """Seconds against the number of operators."""
    print("a chain with branches, fast effort, model in memory to schedule")
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    options = h4hc.Options(effort="fast", baselines=False)
    for size in sizes:
        model = branched_chain(size)
        start = time.process_time()
        found = compiler.compile(model, options)
        seconds = time.process_time() - start
        count = len(found.graph.operators if found.graph else ())
        scale = 1e6 * seconds / (count * math.log2(count))
        print(f"  {count:>6} operators  {seconds:6.2f} s  {scale:.2f} us per n log2 n")


def command_line(path: Path, folder: Path, runs: int) -> None:
    load = f"import onnx, onnxruntime; onnx.load({str(path)!r})"
    compile_command = [sys.executable, "-m", "h4hc", "compile", str(path), "-q",
                       "-o", str(folder / "bundle")]  # fmt: skip
    compiled, loaded, helped = [], [], []
    for _ in range(runs):
        compiled.append(child_seconds(compile_command))
        loaded.append(child_seconds([sys.executable, "-c", load]))
        helped.append(child_seconds([sys.executable, "-m", "h4hc", "--help"]))
    print(f"command line, CPU seconds of whole processes on {path.stem}, best of {runs}")
    print(f"  h4hc --help                              {min(helped):.3f}")
    print(f"  python: import onnx, onnxruntime; load   {min(loaded):.3f}")
    print(f"  h4hc compile, no verification            {min(compiled):.3f}")
    ratios = sorted(a / b for a, b in zip(compiled, loaded, strict=True))
    print(f"  ratio compile / load, median             {ratios[len(ratios) // 2]:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--subnets", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_memory([EXAMPLE, deep_subnet(folder), *(unpack(model, folder) for model in NAMES)], arguments.runs)
        placed([EXAMPLE, deep_subnet(folder), unpack("efficientvit_m0", folder)], arguments.runs)
        subnets(arguments.subnets, arguments.runs)
        growth()
        command_line(unpack("mobilevit_xxs", folder), folder, arguments.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
