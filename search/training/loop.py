"""Training a supernet by a recipe: phases of sandwich steps, checkpoints, resume.

Everything random follows from the recipe's seed and the number of the step, so a training that was
interrupted goes on to the very weights (bit for bit on a CPU) that it would have had. The number of
processes and of workers that read data make no difference either, but for rounding.
"""

from __future__ import annotations

import gc
import json
import math
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from h4hc.errors import RecipeError, SpaceError, TrainingError
from h4hc.files import replace_file
from h4hc.search.accuracy import Evaluator
from h4hc.search.data.loader import Plan, batches
from h4hc.search.space import Space
from h4hc.search.training.checkpoint import Snapshot
from h4hc.search.training.process import join_processes, on_threads, precision_dtype
from h4hc.search.training.recipes import Phase, Recipe
from h4hc.search.training.schedule import ema_decay, peak_rate, phase_number, rate_factor, subnet_stream
from h4hc.search.training.start import Options, Progress, Run, prepare
from h4hc.search.training.step import Draw, Measured, Sandwich
from h4hc.search.training.weights import Weights, optimizer_tensors, restore_optimizer

__all__ = ["Options", "Progress", "train"]

_TRIES = 1000  # draws until a subnet has as many transformers as the phase wants
_GROWS = 1000  # steps without overflow after which the scale of fp16 losses doubles


def train(
    recipe: Recipe,
    folder: Path,
    options: Options,
    tell: Callable[[str], None],
    report: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Train by `recipe`, writing to `folder`; the accuracies at the end of each phase, by its name.

    `tell` gets lines for people, `report` every step; both in the first process only.
    """
    gc.enable()  # the command line runs without; a training of hours must not
    processes = join_processes(options.device)
    try:
        run, snapshot = prepare(recipe, folder, options, processes, tell, report)
        first, step = (0, 0) if snapshot is None else (snapshot.state["phase"], snapshot.state["phase_step"])
        with _signals(run), on_threads(recipe.threads):
            for index in range(first, len(recipe.phases)):
                _phase(run, index, step, snapshot if step else None)
                step, snapshot = 0, None
        if run.metrics is not None:
            run.metrics.close()
            content = json.dumps(run.results, indent=1, sort_keys=True) + "\n"
            replace_file(folder / "result.json", content.encode())
        return run.results
    finally:
        processes.close()


def _phase(run: Run, index: int, start: int, snapshot: Snapshot | None) -> None:
    """Train phase `index` from its step `start`, and measure what came out."""
    recipe, phase = run.recipe, run.recipe.phases[index]
    weights = Weights(run.network, phase)
    rate = peak_rate(recipe.optimizer, recipe.batch, phase.lr_scale)
    optimizer = weights.optimizer(recipe.optimizer, rate)
    if snapshot is not None:
        weights.fill(weights.average, snapshot.tensors.get("ema", snapshot.tensors["weights"]))
        restore_optimizer(optimizer, snapshot.tensors["optimizer"])
    precision = precision_dtype(recipe.precision, run.processes.device)
    sandwich = Sandwich(run.network, weights, recipe, run.processes, precision)
    space = run.space.restrict(cnn_only=True) if phase.subspace == "cnn" else run.space
    steps, before = phase.epochs * run.steps_per_epoch, run.steps_before(index)
    plan = Plan(len(run.data.train), recipe.batch, recipe.seed ^ phase_number(phase.name), start, steps,
                run.processes.rank, run.processes.world)  # fmt: skip
    clock = _Clock()
    run.network.train()
    for step, batch in enumerate(batches(run.data.train, plan, run.options.workers), start):
        factor = rate_factor(recipe.schedule, step, steps, run.steps_per_epoch)
        measured = _step(run, sandwich, optimizer, batch, space, phase, step, rate * factor)
        if recipe.ema is not None:
            weights.average.lerp_(weights.values, 1 - ema_decay(recipe.ema, step))
        else:
            weights.average.copy_(weights.values)
        done, total = step + 1, before + step + 1
        epoch_ends = done % run.steps_per_epoch == 0
        speed = clock.tick(recipe.batch)
        if step % run.options.log_every == 0:
            _log(run, phase, total, step // run.steps_per_epoch, rate * factor, speed, measured)
        run.report(Progress(phase.name, total, run.steps_before(len(recipe.phases)),
                            step // run.steps_per_epoch, rate * factor, speed, measured))  # fmt: skip
        due = (
            epoch_ends and recipe.validate_every and done // run.steps_per_epoch % recipe.validate_every == 0
        )
        if due or done == steps:
            _validate(run, weights, space, phase, total)
        if done == steps or run.stop or clock.due(run.options, total):
            if run.processes.first:
                state = _state(run, index, done, total)
                name = phase.name if done == steps else ""
                run.checkpoints.write(total, _snapshot(run, weights, optimizer, state), name)
            if run.stop:
                raise SystemExit(128 + run.stop)
    with torch.no_grad():
        weights.values.copy_(weights.average)  # what the next phase starts from


def _step(
    run: Run,
    sandwich: Sandwich,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, torch.Tensor],
    space: Space,
    phase: Phase,
    step: int,
    rate: float,
) -> Measured:
    """Gradient and update of one step."""
    recipe, device = run.recipe, run.processes.device
    rng = subnet_stream(recipe.seed, phase.name, step)
    random = [_sample(space, phase, rng) for _ in range(recipe.random_subnets)]
    draw = Draw(space.largest(), random, space.smallest())
    half = sandwich.precision is torch.float16
    sandwich.scale = run.scale if half else 1.0
    observe = step % run.options.log_every == 0
    project = recipe.projection.enabled and step // run.steps_per_epoch >= recipe.projection.from_epoch
    here = (batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True))
    measured = sandwich(here, draw, phase.name, step, observe, project)
    if math.isfinite(measured.gradient_norm) and math.isfinite(measured.loss_largest):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        run.good_steps += 1
        if half and run.good_steps % _GROWS == 0:
            run.scale *= 2
    elif half and run.scale > 1:
        run.scale, run.good_steps = run.scale / 2, 0
    else:
        raise TrainingError(
            f"phase {phase.name}, step {step}: loss {measured.loss_largest:g}, gradient norm"
            f" {measured.gradient_norm:g}: training diverged",
            code="diverged", hint="lower optimizer.lr or set clip.norm; the last checkpoint is from before",
        )  # fmt: skip
    return measured


def _sample(space: Space, phase: Phase, rng: Any) -> Any:
    for _ in range(_TRIES):
        subnet = space.sample(rng)
        if subnet.transformers >= phase.min_transformers:
            return subnet
    raise RecipeError(
        f"phase {phase.name}: no subnet of space {space.name} has {phase.min_transformers} transformers",
        code="min-transformers", hint="lower min_transformers",
    )  # fmt: skip


class _Clock:
    """Samples per second, lately, and when the last checkpoint was."""

    def __init__(self) -> None:
        self.last = self.saved = time.monotonic()
        self.seconds = 0.0

    def tick(self, samples: int) -> float:
        now = time.monotonic()
        spent, self.last = now - self.last, now
        self.seconds = spent if not self.seconds else 0.9 * self.seconds + 0.1 * spent
        return samples / max(self.seconds, 1e-9)

    def due(self, options: Options, step: int) -> bool:
        if options.checkpoint_steps:
            return step % options.checkpoint_steps == 0
        if self.last - self.saved < options.checkpoint_seconds:
            return False
        self.saved = self.last
        return True


def _log(
    run: Run, phase: Phase, total: int, epoch: int, rate: float, speed: float, measured: Measured
) -> None:
    if run.metrics is not None:
        values = {"phase": phase.name, "epoch": epoch, "rate": rate, "samples_per_second": speed}
        run.metrics.write("step", total, {**values, **measured._asdict()})


def _validate(run: Run, weights: Weights, space: Space, phase: Phase, total: int) -> None:
    """Top-1 of the ends of the space on the validation split, with averaged weights."""
    if run.processes.first:
        subnets = {"largest": space.largest(), "smallest": space.smallest()}
        if phase.subspace == "all":
            with suppress(SpaceError):  # every subnet of the space may have transformers
                subnets["largest_cnn"] = space.restrict(cnn_only=True).largest()
        with weights.averaged():
            evaluator = Evaluator(run.network, run.data, calibration=run.recipe.calibration)
            found = evaluator(list(subnets.values()))
        run.network.train()
        result = {name: asdict(accuracy) for name, accuracy in zip(subnets, found, strict=True)}
        run.results[phase.name] = result
        if run.metrics is not None:
            flat = {f"{name}_top1": accuracy.top1 for name, accuracy in zip(subnets, found, strict=True)}
            run.metrics.write("validation", total, {"phase": phase.name, **flat})


def _snapshot(
    run: Run, weights: Weights, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Snapshot:
    tensors = {"weights": dict(run.network.state_dict()), "optimizer": optimizer_tensors(optimizer)}
    if run.recipe.ema is not None:
        tensors["ema"] = {**tensors["weights"], **weights.named(weights.average)}
    return Snapshot(tensors, state)


def _state(run: Run, index: int, done: int, total: int) -> dict[str, Any]:
    """The JSON state after `done` steps of phase `index`; after its last step it is the next phase's start."""
    from h4hc import __version__

    recipe = run.recipe
    return {
        "recipe": recipe.document(),
        "phase": index,
        "phase_step": done,
        "step": total,
        "epoch": done // run.steps_per_epoch,
        "classes": len(run.data.classes),
        "channels": run.data.channels,
        "class_names": list(run.data.classes[:1000]),
        "random": {
            "seed": recipe.seed,
            "phase": index,
            "step": done,
            "scheme": "each draw follows from these",
        },
        "scale": run.scale,
        "good_steps": run.good_steps,
        "results": run.results,
        "threads": torch.get_num_threads(),
        "versions": {"h4hc": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


@contextmanager
def _signals(run: Run) -> Iterator[None]:
    """A first SIGINT or SIGTERM lets the step end and be saved; a second one stops at once.

    Not with several processes, which would stop at different steps and wait for each other.
    """
    if run.processes.world > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: FrameType | None) -> None:
        run.stop = number
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
