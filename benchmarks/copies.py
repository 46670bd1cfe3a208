"""What copies of weights in idle macros gain: the repository's models compiled with and without.

    python benchmarks/copies.py [TARGET ...] [--effort fast|balanced]

Latency of one frame in ms, and operators whose weights are there several times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from math import exp, log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.models, in a checkout

import h4hc
from benchmarks.models import print_table
from tests.models import EXAMPLE, NAMES, light_models, unpack


def without_replication(target: h4hc.Target) -> h4hc.Target:
    """`target` with macros that hold each weight once."""
    devices = tuple(
        device.model_copy(update={"parameters": device.parameters | {"replicate": False}})
        if device.kind == "cim"
        else device
        for device in target.devices
    )
    return target.model_copy(update={"devices": devices})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", default=["npu+cim"])
    parser.add_argument("--effort", default="balanced")
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        models = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        for name in arguments.targets:
            target = h4hc.load_target(name)
            for path in models:
                once, _ = _compiled(path, without_replication(target), arguments.effort)
                several, copied = _compiled(path, target, arguments.effort)
                ratios.append(several / once)
                gain = f"{several / once - 1:+.1%}"
                rows.append([path.stem, name, f"{once / 1e6:.3f}", f"{several / 1e6:.3f}", gain, str(copied)])
    print_table(["model", "target", "once", "with copies", "", "copied"], rows, markdown=False)
    print(f"geometric mean {exp(sum(map(log, ratios)) / len(ratios)) - 1:+.1%}, worst {max(ratios) - 1:+.1%}")
    return int(max(ratios) > 1)


def _compiled(path: Path, target: h4hc.Target, effort: str) -> tuple[int, int]:
    """Latency in ticks and the number of operators with copies."""
    loaded = h4hc.load_model(path)
    compilation = h4hc.Compiler(target).compile(loaded.model, h4hc.Options(effort=effort), loaded.source)
    if compilation.schedule is None or compilation.placement is None:
        raise RuntimeError(f"{path}: no schedule")
    return compilation.schedule.latency, sum(" x" in mode for mode in compilation.placement.modes)


if __name__ == "__main__":
    sys.exit(main())
