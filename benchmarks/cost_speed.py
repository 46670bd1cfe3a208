"""How long costs take: 380 operators, asked for the first time in a fresh process, and from the cache.

    python benchmarks/cost_speed.py [--runs N] [--target NAME]

Once with 380 operators as models have them (repeated blocks share a cost), once with 380 that all differ. CPU
times, best of N fresh processes. The ratios compare with importing onnx and onnxruntime, a process of its own run
in turn, so that they mean the same on a slower machine. Exit status 1 if a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

    from h4hc.ir.graph import Graph, Operator
    from h4hc.ir.workload import Kernel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the packages benchmarks and tests, in a checkout

OPERATORS = 380
COLD_LIMIT = 0.150  # seconds
CACHED_LIMIT = 0.0005
ROUNDS = 200
IMPORTS = "import json, time, onnx, onnxruntime; print(json.dumps({'seconds': time.process_time()}))"
NETWORKS = (
    "deit_tiny", "mobilenet_v3_large", "inception_v1", "resnet50", "mobilenet_v2_1.0_224", "mobilenet_v2_0.35_224",
    "mlperf_tiny_vww", "mobilenet_v1_1.0_224",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--target", default="npu+cim")
    parser.add_argument("--child", choices=("typical", "distinct"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.target, arguments.child == "distinct")))
        return 0
    print(
        f"costs of {OPERATORS} operators on {arguments.target}, CPU time, best of {arguments.runs} processes"
    )
    within = True
    for kind in ("typical", "distinct"):
        within &= report(kind, arguments.target, arguments.runs)
    return 0 if within else 1


def report(kind: str, target: str, runs: int) -> bool:
    """Measure in fresh processes, print, and say whether the limits are met."""
    found, imports = [], []
    for _ in range(runs):
        found.append(child([__file__, "--child", kind, "--target", target]))
        imports.append(child(["-c", IMPORTS])["seconds"])
    cold = min(run["cold"] for run in found)
    cached = min(run["cached"] for run in found)
    importing = min(imports)
    print(f"  {kind}: {found[0]['kernels']} distinct kernels, {found[0]['devices']} devices")
    print(f"    cold    {cold * 1e3:8.2f} ms   {cold / importing:.4f} of importing onnx and onnxruntime")
    print(f"    cached  {cached * 1e3:8.3f} ms   {cached / cold:.4f} of cold")
    return cold <= COLD_LIMIT and cached <= CACHED_LIMIT


def child(arguments: list[str]) -> dict[str, float]:
    """The numbers that a fresh Python process prints."""
    done = subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    numbers: dict[str, float] = json.loads(done.stdout)
    return numbers


def measure(target: str, distinct: bool) -> dict[str, float]:
    """CPU seconds of the pass that asks for costs: for the first time, and with every kernel known."""
    import h4hc
    from h4hc.ir.compilation import Compilation, Source
    from h4hc.passes.annotate import Annotate

    graph, model = pooled_graph(distinct)
    described = h4hc.load_target(target)
    backends = h4hc.Compiler(described).backends
    compilation = Compilation(
        Source("pooled", "", ""), model, described, h4hc.Options(), backends, graph=graph
    )
    annotate = Annotate({})
    start = time.process_time()
    annotate.run(compilation)
    cold = time.process_time() - start
    start = time.process_time()
    for _ in range(ROUNDS):
        annotate.run(compilation)
    cached = (time.process_time() - start) / ROUNDS
    return {"cold": cold, "cached": cached, "kernels": len(annotate.cache), "devices": len(backends)}


def pooled_graph(distinct: bool) -> tuple[Graph, ModelProto]:
    """A graph of `OPERATORS` operators of the repository's models and rebuilt networks, and one of those models."""
    import tempfile

    import h4hc
    from benchmarks.networks import build
    from h4hc.frontend import normalise
    from tests.models import EXAMPLE, NAMES, unpack

    fuse = h4hc.Compiler(h4hc.load_target("npu"))  # only its first pass runs
    with tempfile.TemporaryDirectory() as folder:
        models = [
            h4hc.load_model(path).model for path in (EXAMPLE, *(unpack(n, Path(folder)) for n in NAMES))
        ]
    if distinct:
        models += [normalise(build(name), {}) for name in NETWORKS]
    graphs = [
        graph for model in models if (graph := fuse.compile(model, observe=lambda *_: True).graph) is not None
    ]
    operators: list[Operator] = []
    seen: set[Kernel] = set()
    for operator in (operator for graph in graphs for operator in graph.operators):
        if distinct and operator.kernel in seen:
            continue
        seen.add(operator.kernel)
        operators.append(replace(operator, name=f"operator_{len(operators)}"))
    if len(operators) < OPERATORS:
        raise ValueError(f"the models have only {len(operators)} operators to choose from")
    return replace(graphs[0], operators=tuple(operators[:OPERATORS])), models[0]


if __name__ == "__main__":
    sys.exit(main())
