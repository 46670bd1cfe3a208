"""`h4hc explore`: one model on many variants of a target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.cli.durations import parse_duration
from h4hc.cli.progress import counting
from h4hc.errors import OptionError
from h4hc.files import write_output
from h4hc.ir.compilation import EFFORTS, OBJECTIVES, PRECISIONS, Options, frame_period

if TYPE_CHECKING:
    from h4hc.backends.knobs import TargetSpec, Value
    from h4hc.explore import Point, Values


@click.command(short_help="Compile a model for many variants of a target: what if the hardware were another?")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "-t", "--target", default="npu+cim", show_default=True, metavar="NAME|FILE", help="What to start from."
)
@click.option("--sweep", "sweeps", multiple=True, metavar="KNOB=V,V,...",
              help="Values of a knob, for example cim.compute_units=1,2,4 or axi.bandwidth=6.4GB/s,12.8GB/s; repeat it "
              "for all combinations.")  # fmt: skip
@click.option("--template", type=click.Path(path_type=Path), metavar="FILE",
              help="Sweep all genes of a target template instead.")  # fmt: skip
@click.option("--knobs", is_flag=True, help="List the knobs of the target and end.")
@click.option("--objective", type=click.Choice(OBJECTIVES), default="latency", show_default=True,
              help="What every schedule makes least, as for compile.")  # fmt: skip
@click.option("--effort", type=click.Choice(EFFORTS), default="fast", show_default=True,
              help="How long to search for each schedule.")  # fmt: skip
@click.option("--precision", type=click.Choice(PRECISIONS), default="int8", show_default=True,
              help="Plan float tensors as the int8 they are deployed as, or as stored in the model.")  # fmt: skip
@click.option(
    "--budget", metavar="TIME", help="Latency that schedules must meet where the objective is another one."
)
@click.option("--frames", type=click.IntRange(1, 8), metavar="N", help="Let up to N frames be in flight.")
@click.option("--fps", type=click.FloatRange(0.001, 1e6), metavar="RATE",
              help="Begin a frame every 1/RATE seconds; the energy counts static power until the next one.")  # fmt: skip
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=1x3x224x224",
    help="Shape of an input with dynamic dimensions.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE.csv|FILE.json", help="Write all points."
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png|FILE.svg",
              help="Draw latency and energy of all points (needs matplotlib).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the points as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    model: Path | None,
    target: str,
    sweeps: tuple[str, ...],
    template: Path | None,
    knobs: bool,
    objective: str,
    effort: str,
    precision: str,
    budget: str | None,
    frames: int | None,
    fps: float | None,
    shapes: tuple[str, ...],
    output: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compile MODEL for every combination of the swept values, and for the target as it is.

    A knob is a field of a memory, device or link of the target, or a parameter of a device's preset. An asterisk marks
    the points of the front of latency, interval and energy.
    """
    from h4hc.backends.knobs import TargetSpec

    spec = TargetSpec.load(target)
    if knobs:
        click.echo("\n".join(spec.knobs()))
        return
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    check_files(output, plot)
    spec, tried = _wanted(spec, sweeps, template)
    from h4hc.cli.compile import parse_shape
    from h4hc.explore import explore
    from h4hc.frontend import load_model

    options = Options(
        objective=objective,
        effort=effort,
        precision=precision,
        budget_seconds=None if budget is None else parse_duration(budget, "--budget"),
        shapes=dict(map(parse_shape, shapes)),
        frames=frames,
        interval_seconds=frame_period(fps),
        baselines=False,
    )
    loaded = load_model(model, options.shapes)
    with counting("targets", len(tried) + 1, shown=not (as_json or quiet)) as show:
        points = explore(spec, tried, loaded, options, lambda point: show(advance=1))
    names = list(dict.fromkeys(name for point in points for name in point.values))
    if output is not None:
        text = _csv(points, names) if output.suffix == ".csv" else _json(points)
        write_output(output, text.encode())
    if plot is not None:
        from h4hc.cli.explore_plot import draw

        draw(points, names, model.name, plot)
    if as_json:
        click.echo(_json(points), nl=False)
    elif not quiet:
        _print(points, names)


def check_files(output: Path | None, plot: Path | None) -> None:
    """Raise OptionError for an ending that is not known, before any work is done."""
    for path, endings, option in (
        (output, (".csv", ".json"), "--output"),
        (plot, (".png", ".svg"), "--plot"),
    ):
        if path is not None and path.suffix not in endings:
            raise OptionError(
                f"{option} {path}: the ending decides the format",
                code="option",
                hint=f"use {' or '.join(endings)}",
            )


def _wanted(
    spec: TargetSpec, sweeps: tuple[str, ...], template: Path | None
) -> tuple[TargetSpec, list[Values]]:
    from h4hc.explore import combinations

    if template is not None:
        if sweeps:
            raise OptionError(
                "--template and --sweep exclude each other", code="option", hint="drop one of them"
            )
        from h4hc.backends.template import load_template

        found = load_template(template)
        return found.spec, combinations(found.genes)
    if not sweeps:
        raise OptionError(
            "nothing is to be varied", code="option", hint="add --sweep, for example cim.compute_units=1,2,4"
        )
    parsed: dict[str, list[Value]] = {}
    for text in sweeps:
        knob, values = parse_sweep(text)
        spec.check(knob)
        if knob in parsed:
            raise OptionError(f"--sweep {knob} is given twice", code="option", hint="name all values at once")
        parsed[knob] = values
    return spec, combinations(parsed)


def parse_sweep(text: str) -> tuple[str, list[Value]]:
    """Knob and values of ``cim.macros=2,4,8``; commas inside brackets separate nothing. Raises OptionError."""
    from h4hc.backends.knobs import parse_value

    knob, equals, rest = text.partition("=")
    parts, depth = [""], 0
    for character in rest:
        depth += (character in "[{") - (character in "]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    values = [parse_value(part.strip()) for part in parts if part.strip()]
    if not equals or not knob.strip() or len(values) < len(parts):
        raise OptionError(
            f"'{text[:60]}' is no sweep",
            code="option",
            hint="write KNOB=V,V,..., for example cim.macros=2,4,8",
        )
    return knob.strip(), values


def _json(points: Sequence[Point]) -> str:
    return json.dumps([point.to_json() for point in points], indent=2, sort_keys=True) + "\n"


def _csv(points: Sequence[Point], names: list[str]) -> str:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    devices = next((list(p.busy) for p in points if p.busy is not None), [])
    memories = next((list(p.peaks) for p in points if p.peaks is not None), [])
    writer.writerow([
        *names, "latency_s", "interval_s", "energy_j", "area_mm2", "on_front", "problem",
        *(f"busy_{name}" for name in devices), *(f"operators_{name}" for name in devices),
        *(f"peak_{name}_b" for name in memories),
    ])  # fmt: skip
    for point in points:
        writer.writerow([
            *(point.values.get(name, "") for name in names), point.latency, point.interval, point.energy,
            "" if point.area_mm2 is None else point.area_mm2, int(point.on_front), point.problem,
            *((point.busy or {}).get(name, "") for name in devices),
            *((point.operators or {}).get(name, "") for name in devices),
            *((point.peaks or {}).get(name, "") for name in memories),
        ])  # fmt: skip
    return stream.getvalue()


def _print(points: Sequence[Point], names: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    base = points[0]
    devices = next((list(p.busy) for p in points if p.busy is not None), [])
    areas = any(point.area_mm2 is not None for point in points)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in names:
        table.add_column(name.replace(".", ".\n").replace("_", "_\n"), justify="right", overflow="fold")
    intervals = {point.interval for point in points if point.interval != point.latency and not point.problem}
    overlapped = len(intervals) > 1  # at a fixed rate there is nothing to compare
    for head in ("latency", *(["interval"] if overlapped else []), "energy"):
        table.add_column(head, justify="right", no_wrap=True)
    for head in (*(["mm2"] if areas else []), f"busy\n{'/'.join(devices)}"):
        table.add_column(head, justify="right", no_wrap=True)
    for point in points:
        row: list[Any] = ["*" if point.on_front else ""]
        row += [str(point.values.get(name, "-")) for name in names]
        if point.problem:
            table.add_row(*row, "none")
            continue
        row += [_changed(point.latency, base.latency, "s")]
        row += [_changed(point.interval, base.interval, "s")] if overlapped else []
        row += [_changed(point.energy, base.energy, "J")]
        row += ["-" if point.area_mm2 is None else f"{point.area_mm2:.3g}"] if areas else []
        busy = [f"{(point.busy or {}).get(name, 0) * 100:.0f}" for name in devices]
        table.add_row(*row, f"{'/'.join(busy)} %")
    Console().print(table)
    for problem in dict.fromkeys(point.problem for point in points if point.problem):
        click.echo(f"none: {problem}")


def _changed(value: float, base: float, unit: str) -> str:
    """`value`, and by how much it differs from `base`."""
    from h4hc.cli.units import si

    return f"{si(value, unit)} {value / base - 1:>+6.1%}" if base else si(value, unit)
