"""`h4hc train`: a recipe in, a trained supernet out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.errors import OptionError

if TYPE_CHECKING:
    from h4hc.search.training.loop import Progress
    from h4hc.search.training.recipes import Recipe

_LINE_EVERY = 10.0  # seconds between lines of progress where there is no terminal


@click.command(short_help="Train a supernet by a recipe.")
@click.argument("recipe", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/train"), show_default=True,
              help="Folder of checkpoints and metrics.")  # fmt: skip
@click.option("--space", help="Search space: a shipped one, or a YAML file.")
@click.option("--data", metavar="KIND[:PATH]", help="digits, synthetic, series, folder:PATH or archive:PATH.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of all that is random.")
@click.option("--batch", type=click.IntRange(2), help="Samples per step, over all processes.")
@click.option("--freeze", type=click.Choice(["cnn", "none"]), help="What the last phase freezes.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Change a value of the recipe, for example phases.0.epochs=10.")  # fmt: skip
@click.option("--phase", "phases", multiple=True, metavar="NAME", help="Only this phase of the recipe.")
@click.option(
    "--init", type=click.Path(path_type=Path), help="Start from the weights of this training or checkpoint."
)
@click.option(
    "--resume", is_flag=True, help="Go on from the newest checkpoint in the output folder, if there is one."
)
@click.option("--restart", is_flag=True, help="Remove the checkpoints in the output folder and start anew.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    default=0,
    show_default=True,
    help="Processes that read samples.",
)
@click.option("--checkpoint-every", type=click.IntRange(1), metavar="STEPS",
              help="Steps between checkpoints.  [default: 30 s]")  # fmt: skip
@click.option(
    "--keep", type=click.IntRange(1), default=2, show_default=True, help="Checkpoints kept within a phase."
)
@click.option("--log-every", type=click.IntRange(1), default=1, show_default=True,
              help="Steps between lines of metrics.jsonl; only these compare gradients.")  # fmt: skip
@click.option(
    "--tensorboard/--no-tensorboard", default=None, help="Write for TensorBoard.  [default: if installed]"
)
@click.option("--recipes", "list_recipes", is_flag=True, help="List the shipped recipes and exit.")
@click.option("--show", is_flag=True, help="Print the recipe, with all defaults, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(  # the parameters are the command's options
    recipe: str | None,
    output: Path,
    space: str | None,
    data: str | None,
    seed: int | None,
    batch: int | None,
    freeze: str | None,
    changes: tuple[str, ...],
    phases: tuple[str, ...],
    init: Path | None,
    resume: bool,
    restart: bool,
    device: str,
    workers: int,
    checkpoint_every: int | None,
    keep: int,
    log_every: int,
    tensorboard: bool | None,
    list_recipes: bool,
    show: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a supernet by RECIPE, the name of a shipped recipe or a YAML file.

    Killed at any moment, it goes on with --resume. With several processes:
    torchrun --nproc-per-node 2 -m h4hc train RECIPE --set shards=2
    """
    from h4hc.search.training.recipes import load_recipe, parse_change, recipe_names, select_phases

    if list_recipes:
        for name in recipe_names():
            click.echo(f"{name:<18} {load_recipe(name).description}")
        return
    if recipe is None:
        raise click.UsageError("Missing argument 'RECIPE'.")
    if resume and restart:
        raise OptionError("--resume and --restart exclude each other", code="option", hint="choose one")
    edits: dict[str, Any] = dict(map(parse_change, changes))
    given = {"space": space, "seed": seed, "batch": batch}
    edits |= {key: value for key, value in given.items() if value is not None}
    if data is not None:
        kind, _, path = data.partition(":")
        edits |= {"data.kind": kind, **({"data.path": path} if path else {})}
    chosen = select_phases(load_recipe(recipe, edits), phases)
    if freeze is not None:
        chosen = _frozen(chosen, freeze)
    if show:
        click.echo(json.dumps(chosen.document(), indent=2))
        return
    _check_torch()
    from h4hc.search.training.loop import Options, train

    options = Options(
        device=device,
        workers=workers,
        resume=resume,
        restart=restart,
        init=init,
        checkpoint_steps=checkpoint_every,
        keep=keep,
        log_every=log_every,
        tensorboard=tensorboard,
    )
    quiet = quiet or os.environ.get("RANK", "0") != "0"  # of several processes, one speaks
    with _reporting(quiet or as_json) as report:
        results = train(chosen, output, options, lambda line: click.echo(line, err=True), report)
    if as_json and results:
        click.echo(json.dumps(results, indent=2, sort_keys=True))
    elif results and not quiet:
        _print_results(results, output)


def _check_torch() -> None:
    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise OptionError(
                f"training needs {package}, which is not installed",
                code="missing-package",
                hint="pip install 'h4hc[search]'",
            )


def _frozen(recipe: Recipe, freeze: str) -> Recipe:
    """The recipe with `freeze` in its last phase, checked anew."""
    from h4hc.search.training.recipes import parse_recipe

    content = recipe.document()
    content["phases"][-1]["freeze"] = freeze
    return parse_recipe(content, recipe.name)


@contextmanager
def _reporting(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, a line now and then elsewhere, nothing if `quiet`."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with _bar(console) as report:
            yield report
    else:
        yield _lines()


@contextmanager
def _bar(console: Any) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None, text="")

        def report(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.phase,
                total=progress.steps,
                completed=progress.step,
                text=_text(progress),
            )

        yield report


def _lines() -> Callable[[Progress], None]:
    last = started = time.monotonic()
    begun = -1

    def report(progress: Progress) -> None:
        nonlocal last, begun
        now = time.monotonic()
        if begun < 0:
            begun = progress.step - 1
        if now - last >= _LINE_EVERY or progress.step == progress.steps:
            last = now
            left = (now - started) / (progress.step - begun) * (progress.steps - progress.step)
            click.echo(
                f"{progress.phase} step {progress.step} of {progress.steps}, {_text(progress)}, {left:.0f} s left",
                err=True,
            )

    return report


def _text(progress: Progress) -> str:
    measured = progress.measured
    smallest = "" if measured.loss_smallest is None else f", smallest {measured.loss_smallest:.3f}"
    return (
        f"epoch {progress.epoch + 1}, loss {measured.loss_largest:.3f}{smallest},"
        f" {progress.samples_per_second:,.0f} samples/s"
    )


def _print_results(results: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from h4hc.search.accuracy import Accuracy

    table = Table("phase", "subnet", "validation top-1", "95 % interval")
    for phase, subnets in results.items():
        for name, counts in subnets.items():
            accuracy = Accuracy(**counts)
            low, high = accuracy.interval()
            table.add_row(phase, name.replace("_", " "), f"{accuracy.top1:.1%}", f"{low:.1%} to {high:.1%}")
    Console().print(table)
    click.echo(f"Weights: {output / 'checkpoints'}   Metrics: {output / 'metrics.jsonl'}")
