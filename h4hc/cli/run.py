"""`h4hc run`: the bundle executed on this machine, with real concurrency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from h4hc.cli.durations import parse_duration
from h4hc.cli.progress import counting

if TYPE_CHECKING:
    from h4hc.runtime import Report


@click.command(short_help="Execute a bundle on this machine, device by device, and check its outputs.")
@click.argument("build", type=click.Path(path_type=Path))
@click.option("-m", "--model", type=click.Path(path_type=Path), metavar="FILE",
              help="The compiled model; else looked for beside BUILD and in the working folder.")  # fmt: skip
@click.option("-n", "--frames", type=click.IntRange(1, 1_000_000), default=8, show_default=True, metavar="N",
              help="Frames to execute, each with inputs of its own.")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of inputs and pauses."
)
@click.option("--delay", default="0s", show_default=True, metavar="TIME",
              help="Random pauses of up to this long, which must not change anything.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the verdict.")
@click.pass_context
def command(
    context: click.Context,
    build: Path,
    model: Path | None,
    frames: int,
    seed: int,
    delay: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Execute the bundle in the folder BUILD with onnxruntime, and compare every frame with the original model.

    Every device and every DMA channel of the schedule has a worker, which runs its queue in the planned order with
    the planned frames in flight. Nothing but the waits of the schedule keeps the workers apart. Exit code 0: all
    outputs are the model's, bit for bit; 1: they are not, or a hand-over was wrong; 2: something cannot be loaded.
    """
    from h4hc.runtime import run_bundle

    pause = parse_duration(delay, "--delay", example="1ms", zero=True)
    with counting("frames", frames, shown=not (quiet or as_json)) as show:
        report = run_bundle(
            build, model, frames, seed=seed, delay=pause, observe=lambda done: show(completed=done)
        )
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        _print(report, quiet)
    context.exit(0 if report.passed else 1)


def _print(report: Report, quiet: bool) -> None:
    if not quiet:
        from h4hc.cli.layout import Column, Fit, echo, paragraph, table, terminal_width
        from h4hc.cli.units import si

        width = terminal_width()
        rows = [(name, str(pieces), si(busy, "s")) for name, pieces, busy in report.queues]
        columns = [Column("queue", Fit.TEXT), Column("pieces per frame"), Column("time at work")]
        echo(table(columns, rows, width))
        echo(
            paragraph(
                f"At most {_counted(report.most_at_work, 'queue')} at work at once and "
                f"{_counted(report.most_frames, 'frame')} under way (planned: {report.frames_in_flight}).",
                width,
            )
        )
        echo(
            paragraph(
                f"{_counted(report.frames, 'frame')} in {si(report.seconds, 's')} here; the original model, one frame "
                f"after the other: {si(report.sequential, 's')}. Times are of this machine, not of the target.",
                width,
            )
        )
    for problem in report.problems[:20]:
        click.echo(problem)
    if report.passed:
        click.echo(
            f"All outputs of {_counted(report.frames, 'frame')} are the original model's, bit for bit."
        )
    else:
        click.echo(f"{len(report.problems)} outputs are not the original model's.")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
