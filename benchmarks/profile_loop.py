"""Predicted against measured time of whole networks on this machine: the loop of measured profiles.

    python benchmarks/profile_loop.py [--folder DIR] [--markdown] [MODEL ...]

For each model: plan its operators, and measure them one by one and the model in turns. Then import and calibrate all
profiles, and predict each model as the sum of its operators, in two ways: from the rows of all profiles
(`operators`), and from those of the other models only (`held out`), where operators that no other model has are
interpolated or calibrated. float32, onnxruntime, one thread on one core. No model is ever profiled as a whole.
Exit code 1 if a prediction from operators is more than 20 % off.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.models and this folder, in a checkout

from benchmarks.models import print_table
from h4hc.backends.base import load_backends
from h4hc.backends.files import FOLDER
from h4hc.backends.profiles.survey import level_of
from h4hc.frontend import load_model
from h4hc.ir.cost import Refusal
from h4hc.profiling.plan import lowered
from h4hc.profiling.run import load_plan, run_plan
from h4hc.profiling.session import Session, Timing, compiler, processor
from tests.models import EXAMPLE, NAMES, light_models, unpack

LIMIT = 0.2
SHARE = 0.4  # of the time, for whole networks
FEWEST = 9
LARGE = ("light_vgg19", "light_bvlc_alexnet", "light_zfnet512")  # hundreds of megabytes of weights


class Prediction(NamedTuple):
    """A sum of costs, and how many of them came from each level."""

    seconds: float
    levels: dict[str, int]


def h4hc(*arguments: object) -> str:
    """Run a command of h4hc and return what it prints."""
    command = [sys.executable, "-m", "h4hc", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return done.stdout


class Network:
    """Times a whole network while its operators are measured, so that the machine treats both alike."""

    def __init__(self, path: Path) -> None:
        self.session = Session(path.read_bytes())
        self.samples: list[Timing] = []
        self.start = time.monotonic()
        self.spent = 0.0

    def sample(self) -> None:
        """Run it twice and time the second run, unless that has taken a third of the time already."""
        if self.spent > SHARE * (time.monotonic() - self.start):
            return
        begin = time.monotonic()
        self.session.timed()
        self.samples.append(self.session.timed())
        self.spent += time.monotonic() - begin

    def seconds(self) -> float:
        """Median of the runs that nothing interrupted; if there are few, median time on the processor."""
        calm = [timing.wall for timing in self.samples if timing.calm]
        return median(calm if len(calm) >= FEWEST else [timing.busy for timing in self.samples])


def target_with(profiles: list[Path], folder: Path, name: str) -> Path:
    """The shipped target with these profiles behind its device."""
    text = (FOLDER / "targets" / "ort-cpu.yaml").read_text(encoding="utf-8")
    listed = ", ".join(f'"{profile.name}"' for profile in profiles)
    path = folder / f"{name}.yaml"
    path.write_text(f"{text.rstrip()}\n    profiles: [{listed}]\n", encoding="utf-8")
    return path


def predicted(model: Path, target: Path) -> Prediction:
    """The sum of the costs of the operators of `model`."""
    from h4hc.backends import load_target

    host = load_backends(load_target(target))["host"]
    total, levels = 0.0, dict.fromkeys(("measured", "interpolated", "calibrated", "analytical"), 0)
    for operator in lowered(load_model(model).model, "model").operators:
        costs = host.costs(operator.kernel)
        if isinstance(costs, Refusal):
            raise SystemExit(f"{model.stem}: {operator.name}: {costs.reason}")
        total += costs[0].seconds
        if costs[0].seconds:
            levels[level_of(costs[0])] += 1
    return Prediction(total, levels)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--folder", type=Path, help="keep plans and profiles here")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        models = [path.resolve() for path in arguments.models] or [
            EXAMPLE,
            *(unpack(name, folder) for name in NAMES),
            *(path for path in light_models() if path.stem not in LARGE),
        ]
        return loop(models, folder.resolve(), arguments.markdown)


def loop(models: list[Path], folder: Path, markdown: bool) -> int:
    """Profile, predict and compare; the exit code."""
    print(f"{processor()}, {compiler()}, one thread")
    profiles: dict[Path, Path] = {}
    times: dict[Path, float] = {}
    for model in models:
        plan, profiles[model] = folder / f"{model.stem}.plan", folder / f"{model.stem}.csv"
        if not plan.exists():
            h4hc("profile", "plan", model, "--precision", "model", "-o", plan)
        network = Network(model)
        profiles[model].unlink(missing_ok=True)
        run_plan(load_plan(plan), profiles[model], each_round=network.sample)
        times[model] = network.seconds()
    everything = folder / "all.csv"
    print(h4hc("profile", "import", *profiles.values(), "-o", everything).strip())
    print(h4hc("profile", "calibrate", everything, "--target", "ort-cpu", "--precision", "model").rstrip())
    full = target_with([everything], folder, "all")
    rows, errors, held_errors = [], [], []
    for model in models:
        covered = predicted(model, full)
        others = [profile for other, profile in profiles.items() if other != model]
        held = predicted(model, target_with(others, folder, "others"))
        errors.append(covered.seconds / times[model] - 1)
        held_errors.append(held.seconds / times[model] - 1)
        rows.append(
            [
                model.stem, str(sum(covered.levels.values())), f"{times[model] * 1e3:.2f}",
                f"{covered.seconds * 1e3:.2f}", f"{errors[-1]:+.1%}", f"{held.seconds * 1e3:.2f}",
                f"{held_errors[-1]:+.1%}", "/".join(str(count) for count in held.levels.values()),
            ]
        )  # fmt: skip
    heads = ["model", "operators", "measured ms", "operators ms", "error", "held out ms", "error", "from"]
    print_table(heads, rows, markdown)
    print("from: operators measured / interpolated / calibrated / analytical when the model is held out")
    for name, found in (("operators", errors), ("held out", held_errors)):
        mean = sum(map(abs, found)) / len(found)
        print(f"{name}: mean absolute error {mean:.1%}, worst {max(found, key=abs):+.1%}")
    return int(max(map(abs, errors)) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
