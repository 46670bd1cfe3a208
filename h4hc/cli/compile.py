"""`h4hc compile`: a model and a target in, a bundle out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h4hc.cli.durations import parse_duration
from h4hc.errors import CheckFailedError, InfeasibleError, OptionError
from h4hc.ir.compilation import (
    EFFORTS,
    OBJECTIVES,
    PRECISIONS,
    WEIGHTS,
    Compilation,
    Constraint,
    Options,
    frame_period,
)
from h4hc.ir.schedule import TICK_SECONDS

if TYPE_CHECKING:
    from h4hc.bundle.store import Document
    from h4hc.compiler import Pass


@click.command(short_help="Compile an ONNX model for a target and write the bundle.")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("-t", "--target", default="npu+cim", show_default=True, help="Built-in target, or a YAML file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              help="Folder of the bundle; an existing bundle there is replaced.")  # fmt: skip
@click.option("--objective", type=click.Choice(OBJECTIVES), default="latency", show_default=True,
              help="What to make least: latency, energy, their product (edp), or the time between frames (throughput).")  # fmt: skip
@click.option("--budget", metavar="TIME", help="Latency budget, for example 20ms; missing it is exit code 1.")
@click.option("--energy-budget", metavar="ENERGY",
              help="Find the fastest schedule of at most this energy, for example 200uJ.")  # fmt: skip
@click.option("--effort", type=click.Choice(EFFORTS), default="balanced", show_default=True,
              help="How long to search for a better schedule; exact takes minutes and says what is proved.")  # fmt: skip
@click.option("--time-limit", metavar="TIME", help="Stop exact effort after this time, for example 10s.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="int8", show_default=True,
              help="Plan float tensors as the int8 they are deployed as, or as stored in the model.")  # fmt: skip
@click.option("--weights", type=click.Choice(WEIGHTS), default="stored", show_default=True,
              help="Size compressed weights by the entropy of those in the model, or by a typical ratio.")  # fmt: skip
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224",
              help="Shape of an input with dynamic dimensions.")  # fmt: skip
@click.option("--memory", "memory_limits", multiple=True, metavar="NAME=SIZE",
              help="Give a memory of the target this size, for example sram=512KiB.")  # fmt: skip
@click.option("--pareto", metavar="latency,energy|latency,interval",
              help="Find schedules that trade latency for energy, or for frames a second with up to --frames "
              "in flight (4 if not given); each gets a bundle of its own in the output folder.")  # fmt: skip
@click.option("--points", type=click.IntRange(2, 64), default=8, show_default=True,
              help="With --pareto: the number of schedules, at most.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1, 8), metavar="N",
              help="Let up to N frames be in flight at a time: more frames per second, later results. "
              "If not given: 1, with --objective throughput 2, with --fps 4.")  # fmt: skip
@click.option("--fps", type=click.FloatRange(0.001, 1e6), metavar="RATE",
              help="Begin a frame every 1/RATE seconds, with at most --frames in flight.")  # fmt: skip
@click.option("--pin", "pins", multiple=True, metavar="OP=DEVICE[:MODE]",
              help="Run an operator (name, or a pattern with * and ?) on this device only.")  # fmt: skip
@click.option("--forbid", "bans", multiple=True, metavar="OP=DEVICE[:MODE]",
              help="Keep an operator (name or pattern) off this device.")  # fmt: skip
@click.option("--assign", "assignment", type=click.Path(path_type=Path), metavar="FILE",
              help='Pins from a JSON file {"operator": "device"}, or the placement of a bundle folder.')  # fmt: skip
@click.option("--split/--no-split", "split", default=True, show_default=True,
              help="Let two devices compute one operator, each some output channels, where that pays; "
              "not at fast effort.")  # fmt: skip
@click.option("--images/--no-images", "images", default=True, show_default=True,
              help="Write weights/: the weights in the order and layout of each device.")  # fmt: skip
@click.option("--prefetch/--no-prefetch", "prefetch", default=True, show_default=True,
              help="Fetch weights to a device's memory while it runs other operators, where that pays; "
              "not at fast effort.")  # fmt: skip
@click.option("--verify", "verify", is_flag=True, help="Check the bundle afterwards, as `h4hc verify` does.")
@click.option("--print-after", "print_after", multiple=True, metavar="PASS", help="Print what a pass made.")
@click.option("--stop-after", "stop_after", metavar="PASS", help="Stop after a pass; no bundle is written.")
@click.option("--passes", "list_passes", is_flag=True, help="List the passes and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print the time that each pass took.")
def command(  # the parameters are the command's options
    model: Path | None,
    target: str,
    output: Path,
    objective: str,
    budget: str | None,
    effort: str,
    time_limit: str | None,
    precision: str,
    weights: str,
    shapes: tuple[str, ...],
    energy_budget: str | None,
    memory_limits: tuple[str, ...],
    pareto: str | None,
    points: int,
    frames: int | None,
    fps: float | None,
    pins: tuple[str, ...],
    bans: tuple[str, ...],
    assignment: Path | None,
    split: bool,
    prefetch: bool,
    images: bool,
    verify: bool,
    print_after: tuple[str, ...],
    stop_after: str | None,
    list_passes: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compile MODEL (ONNX) for a target and write the bundle: schedule, device models, report.

    Exit code 0: done; 1: the latency budget is missed or no schedule fits; 2: bad input.
    """
    from h4hc.backends import load_target
    from h4hc.cli.limits import limited, parse_energy
    from h4hc.compiler import Compiler

    compiler = Compiler(limited(load_target(target), memory_limits))
    names = [step.name for step in compiler.passes]
    if list_passes:
        for step in compiler.passes:
            click.echo(f"{step.name:<10} {(type(step).__doc__ or '').splitlines()[0]}")
        return None
    for name in (*print_after, *([stop_after] if stop_after else [])):
        if name not in names:
            raise OptionError(
                f"there is no pass '{name}'", code="option", hint=f"choose from {', '.join(names)}"
            )
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    _check_sweeps(pareto, energy_budget, one_pass=bool(print_after or stop_after))
    options = Options(
        objective=objective,
        budget_seconds=None if budget is None else parse_duration(budget, "--budget"),
        effort=effort,
        time_limit=None if time_limit is None else parse_duration(time_limit, "--time-limit", example="10s"),
        precision=precision,
        weights=weights,
        shapes=dict(parse_shape(text) for text in shapes),
        frames=frames,
        interval_seconds=frame_period(fps),
        split=split,
        prefetch=prefetch,
        constraints=_constraints(pins, bans, assignment) if pins or bans or assignment else (),
    )
    from h4hc.frontend import load_model

    loaded = load_model(model, options.shapes)
    with _shortage_told(as_json):
        if pareto is not None:
            from h4hc.cli.front import compile_front, finish_front

            front = compile_front(pareto, compiler, loaded, options, points)
            folders = finish_front(front, output, as_json, quiet, images)
            for folder in folders if verify else []:
                _verify(folder, model)
            return None
        if energy_budget is not None:
            from h4hc.sweep import within_energy

            joules = parse_energy(energy_budget)
            compilation = within_energy(compiler, loaded.model, options, loaded.source, joules)
            return finish(compilation, output, model if verify else None, as_json, quiet, images)
        observe = _observer(print_after, stop_after, verbose)
        compilation = compiler.compile(loaded.model, options, loaded.source, observe)
    if stop_after and stop_after != names[-1]:
        return None
    return finish(compilation, output, model if verify else None, as_json, quiet, images)


def _check_sweeps(pareto: str | None, energy_budget: str | None, *, one_pass: bool) -> None:
    """Raise OptionError for options that do not go with those that compile a model several times."""
    options = {"--pareto": pareto, "--energy-budget": energy_budget}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise OptionError(
            "--pareto and --energy-budget exclude each other",
            code="option",
            hint="a front shows what every energy buys",
        )
    if given and one_pass:
        raise OptionError(
            "--print-after and --stop-after are for one schedule",
            code="option",
            hint=f"drop {given[0]}",
        )


@contextmanager
def _shortage_told(as_json: bool) -> Iterator[None]:
    """Print what is short as JSON too, where JSON is asked for."""
    try:
        yield
    except InfeasibleError as error:
        if as_json:
            short = error.shortage._asdict() if error.shortage else None
            record = {"code": error.code, "message": str(error), "shortage": short}
            click.echo(json.dumps({"infeasible": record}, indent=2, sort_keys=True))
        raise


def _constraints(
    pins: tuple[str, ...], bans: tuple[str, ...], assignment: Path | None
) -> tuple[Constraint, ...]:
    """The assignment first, so that a pin changes one operator of it."""
    from h4hc.cli.constraints import parse_constraint, read_assignment

    assigned = read_assignment(assignment) if assignment else ()
    given = [parse_constraint(text, pin=True) for text in pins]
    given += [parse_constraint(text, pin=False) for text in bans]
    return (*assigned, *given)


def finish(
    compilation: Compilation,
    output: Path,
    verify: Path | None,
    as_json: bool,
    quiet: bool,
    images: bool = True,
) -> None:
    """Write the bundle, print the summary, check, and hold the result against the budget."""
    from h4hc.bundle import write_bundle

    document = write_bundle(compilation, output, images)
    if not quiet or as_json:
        _print_summary(document, output, as_json)
    if verify is not None:
        _verify(output, verify)
    schedule, budget = compilation.schedule, compilation.options.budget_seconds
    if budget is not None and schedule is not None and schedule.latency * TICK_SECONDS > budget:
        raise CheckFailedError(
            f"latency {schedule.latency * TICK_SECONDS * 1e3:.3f} ms misses the budget of {budget * 1e3:g} ms",
            code="budget",
            hint="see the report for what takes the time",
        )


def _verify(folder: Path, model: Path) -> None:
    """Raise CheckFailedError if the bundle in `folder` does not pass."""
    from h4hc.verify import verify_bundle

    if not verify_bundle(folder, model).passed:
        raise CheckFailedError(
            f"the bundle in {folder} fails verification", code="verify", hint=f"see h4hc verify {folder}"
        )


def _print_summary(document: Document, output: Path, as_json: bool) -> None:
    if as_json:
        from h4hc.cli.summary import summary_json

        click.echo(json.dumps(summary_json(document), indent=2, sort_keys=True))
        return
    from h4hc.cli.summary_text import print_summary

    print_summary(document)
    click.echo(f"\nBundle: {output}   Report: {output / 'report.html'}")


def _observer(
    print_after: tuple[str, ...], stop_after: str | None, verbose: bool
) -> Callable[[Pass, Compilation, float], bool]:
    def observe(step: Pass, compilation: Compilation, seconds: float) -> bool:
        if verbose:
            click.echo(f"{step.name:<10} {seconds * 1e3:8.2f} ms", err=True)
        if step.name in print_after:
            from h4hc.cli.tables import print_compilation

            print_compilation(step.name, compilation)
        return step.name == stop_after

    return observe


def _shown(text: str) -> str:
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}...'"


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and extents of a text such as ``input=1x3x224x224``; raises OptionError."""
    name, separator, extents = text.rpartition("=")
    try:
        shape = tuple(int(extent) for extent in extents.lower().replace(",", "x").split("x"))
    except ValueError:
        shape = ()
    if not separator or not name or not shape or any(extent < 1 for extent in shape):
        raise OptionError(
            f"{_shown(text)} is not a shape",
            code="option",
            hint="write NAME=1x3x224x224 with positive extents",
        )
    return name, shape
