"""What it would be worth to compile every candidate of a search from the placement of the nearest one before it.

    python benchmarks/warm_search.py [--generations N]

A population of h4h-imagenet evolves by crossover and mutation towards short latencies on npu+cim. Each child is compiled
from the placement of the most similar subnet so far, which was itself compiled so (warm), and from cold; some are searched for
long. Prints how far the latencies are above the best known, and CPU times of a compilation, by generation.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for h4hc, in a checkout

import numpy as np

import h4hc
from h4hc.search.emit import emit
from h4hc.search.space import Space, load_space
from h4hc.search.subnet import Subnet

POPULATION = 20
COMPARED = 6  # children per generation that are searched for long
FAST = h4hc.Options(effort="fast", baselines=False)
LONG = h4hc.Options(effort="fast", baselines=False, evaluations=6000)
Known = list[tuple[Subnet, h4hc.Compilation]]


def latency(compilation: h4hc.Compilation) -> int:
    if compilation.schedule is None:
        raise ValueError("the pipeline made no schedule")
    return compilation.schedule.latency


def nearest(space: Space, subnet: Subnet, known: Known) -> tuple[int, h4hc.Compilation]:
    """The compilation of the most similar subnet, and in how many genes that differs."""
    genes = space.encode(subnet)
    distances = [
        (sum(a != b for a, b in zip(genes, space.encode(other), strict=True)), n)
        for n, (other, _) in enumerate(known)
    ]
    distance, number = min(distances)
    return distance, known[number][1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--generations", type=int, default=8)
    generations = parser.parse_args().generations
    rng = np.random.default_rng(0)
    space = load_space("h4h-imagenet")
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    known: Known = []
    for _ in range(POPULATION):
        subnet = space.sample(rng)
        known.append((subnet, compiler.compile(emit(space, subnet), FAST)))
    print("generation  genes changed      warm: mean  worst     cold: mean  worst     ms warm   cold")
    for generation in range(1, generations + 1):
        children: Known = []
        rows = []
        for number in range(POPULATION):
            first, second = (known[k][0] for k in rng.integers(len(known), size=2))
            subnet = space.mutate(space.crossover(first, second, rng), rng)
            model = emit(space, subnet)
            distance, parent = nearest(space, subnet, known)
            begin = time.process_time()
            warm = compiler.compile(model, FAST, parent=parent)
            middle = time.process_time()
            children.append((subnet, warm))
            if number < COMPARED:
                cold = compiler.compile(model, FAST)
                end = time.process_time()
                best = min(map(latency, (compiler.compile(model, LONG), warm, cold)))
                rows.append(
                    (distance, latency(warm) / best, latency(cold) / best, middle - begin, end - middle)
                )
        mean, worst = np.mean(rows, axis=0), np.max(rows, axis=0)
        print(
            f"{generation:>10} {mean[0]:>14.1f} {mean[1]:>16.3f} {worst[1]:>6.3f} {mean[2]:>14.3f} {worst[2]:>6.3f}"
            f" {mean[3] * 1e3:>11.1f} {mean[4] * 1e3:>6.1f}",
            flush=True,
        )
        known = sorted(known + children, key=lambda pair: latency(pair[1]))[:POPULATION]


if __name__ == "__main__":
    main()
