"""`h4hc verify`: does the bundle keep its promises?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from h4hc.verify import Report

MARKS = {True: ("passed", "green"), False: ("FAILED", "red"), None: ("skipped", "yellow")}


@click.command(short_help="Check a bundle independently of the compiler.")
@click.argument("build", type=click.Path(path_type=Path))
@click.option("-m", "--model", type=click.Path(path_type=Path), metavar="FILE",
              help="The compiled model; else looked for beside BUILD and in the working folder.")  # fmt: skip
@click.option("--functional/--no-functional", default=True, show_default=True,
              help="Compare model, partitioned model and subgraphs in onnxruntime.")  # fmt: skip
@click.option("--replay", is_flag=True,
              help="Build the C executor and run the schedule in memories of the planned size, with random timing.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 1000), metavar="N",
              help="Random inputs to compare on (default: 2), and random timings of --replay (default: 20).")  # fmt: skip
@click.option("--frames", type=click.IntRange(1, 64), metavar="N",
              help="Frames of --replay; default: as many as it takes for every buffer to be used again.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=900.0, show_default=True,
              metavar="SECONDS", help="Limit of the comparison in onnxruntime, and of the replay.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the verdict.")
@click.pass_context
def command(
    context: click.Context,
    build: Path,
    model: Path | None,
    functional: bool,
    replay: bool,
    seeds: int | None,
    frames: int | None,
    timeout: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check the bundle in the folder BUILD against the model it was compiled from.

    Shares no code with the compiler. Exit code 0: every check that ran passed; 1: a check failed; 2: the
    bundle cannot be read.
    """
    if frames is not None and not replay:
        raise click.UsageError("--frames is for --replay")
    if math.isnan(timeout):
        raise click.BadParameter("nan is no time", param_hint="--timeout")
    from h4hc.verify import verify_bundle

    report = verify_bundle(
        build,
        model,
        functional=functional,
        seeds=min(seeds or 2, 100),
        timeout=timeout,
        timings=(seeds or 20) if replay else 0,
        frames=frames or 0,
    )
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        if not quiet:
            _print_table(report)
        click.echo(report.verdict)
    context.exit(report.exit_code)


def _print_table(report: Report) -> None:
    from h4hc.cli.layout import Column, Fit, echo, table, terminal_width

    rows = []
    for check in report.checks:
        mark, colour = MARKS[check.passed]
        text = f"{check.name}: {check.detail}" if check.detail else check.name
        bold = check.passed is False
        rows.append((check.code, click.style(mark, fg=colour, bold=bold), str(check.count), text))
    columns = [Column("check", Fit.TEXT), Column("", Fit.TEXT), Column("facts")]
    echo(table([*columns, Column("what holds, or why not", Fit.PROSE)], rows, terminal_width()))
