"""Compile the repository's models for NPU alone, CIM alone and both, and print the table of the README.

    python benchmarks/models.py [--effort fast|balanced] [--markdown]

Latency is that of one frame, energy that of one frame on npu+cim; both are estimates of the cost models.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.models, in a checkout

import h4hc
from tests.models import EXAMPLE, NAMES, light_models, unpack

TARGETS = ("npu", "cim", "npu+cim", "npu+cim-cu4", "npu+cim-sram")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    compilers = {name: h4hc.Compiler(h4hc.load_target(name)) for name in TARGETS}
    heads = ["model", *(f"{name} ms" for name in TARGETS), "npu+cim uJ", "npu uJ", "against the better"]
    rows, worse = [], []
    with tempfile.TemporaryDirectory() as folder:
        models = [EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()]
        for path in models:
            schedules = {}
            for name, compiler in compilers.items():
                loaded = h4hc.load_model(path)
                options = h4hc.Options(effort=arguments.effort)
                schedules[name] = compiler.compile(loaded.model, options, loaded.source).schedule
            latency = {name: schedule.latency / 1e6 for name, schedule in schedules.items()}
            best = min(latency["npu"], latency["cim"])
            if latency["npu+cim"] > best:
                worse.append(path.stem)
            energies = [f"{schedules[name].energy / 1e6:.0f}" for name in ("npu+cim", "npu")]
            times = [f"{latency[name]:.2f}" for name in TARGETS]
            rows.append([path.stem, *times, *energies, f"{best / latency['npu+cim']:.2f}x"])
    print_table(heads, rows, arguments.markdown)
    if worse:
        print(f"npu+cim is slower than one accelerator alone on: {', '.join(worse)}")
    return 1 if worse else 0


def print_table(heads: list[str], rows: list[list[str]], markdown: bool) -> None:
    """Print `rows` under `heads`, as aligned text or as Markdown."""
    if markdown:
        print("| " + " | ".join(heads) + " |")
        print("| --- |" + " ---: |" * (len(heads) - 1))
        for row in rows:
            print("| " + " | ".join(row) + " |")
        return
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        print(
            "  ".join(
                c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
        )


if __name__ == "__main__":
    sys.exit(main())
