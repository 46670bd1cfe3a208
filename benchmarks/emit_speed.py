"""How long it takes to turn a subnet into an ONNX model: blocks met for the first time, and in the course of a search.

    python benchmarks/emit_speed.py [--subnets N]

CPU time per weightless model of h4h-imagenet, for random subnets of 340 to 420 nodes. Exit status 1 if a limit is
passed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # in a checkout

from h4hc.search.emit import emit
from h4hc.search.space import Space, load_space
from h4hc.search.subnet import Subnet

NODES = range(340, 421)
LIMIT = 0.004  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subnets", type=int, default=200)
    count = parser.parse_args().subnets
    subnets = of_size(load_space("h4h-imagenet"), count)
    cold = statistics.median(seconds(load_space("h4h-imagenet"), subnet) for subnet in subnets[:20])
    space = load_space("h4h-imagenet")
    search = [seconds(space, subnet) for subnet in subnets]
    print(f"{len(subnets)} subnets of {NODES.start} to {NODES.stop - 1} nodes, CPU milliseconds per model")
    print(f"nothing seen before      {1e3 * cold:.2f}")
    print(f"mean over the search     {1e3 * statistics.fmean(search):.2f}")
    print(f"second half of it        {1e3 * statistics.fmean(search[count // 2 :]):.2f}")
    return 0 if statistics.fmean(search) <= LIMIT else 1


def of_size(space: Space, count: int) -> list[Subnet]:
    """Random subnets whose models have about 380 nodes."""
    rng = np.random.default_rng(0)
    found: list[Subnet] = []
    while len(found) < count:
        subnet = space.sample(rng)
        if len(emit(space, subnet).graph.node) in NODES:
            found.append(subnet)
    return found


def seconds(space: Space, subnet: Subnet) -> float:
    """CPU time of one model."""
    start = time.process_time()
    emit(space, subnet)
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
