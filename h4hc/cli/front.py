"""`h4hc compile --pareto`: the front of latency and energy, or of latency and interval, of one model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.errors import OptionError
from h4hc.ir.compilation import Compilation, Options

if TYPE_CHECKING:
    from h4hc.compiler import Compiler
    from h4hc.frontend import Loaded

ENERGY = frozenset(["latency", "energy"])
INTERVAL = frozenset(["latency", "interval"])


def compile_front(
    text: str, compiler: Compiler, loaded: Loaded, options: Options, points: int
) -> tuple[Compilation, ...]:
    """The front with the axes that `text` names. Raises OptionError if there is none with them."""
    from h4hc.sweep import interval_front, pareto

    axes = frozenset(text.replace(" ", "").split(","))
    if axes not in (ENERGY, INTERVAL):
        raise OptionError(
            f"{text[:60]!r} is no front",
            code="option",
            hint="write --pareto latency,energy or --pareto latency,interval",
        )
    if axes == INTERVAL:
        return interval_front(compiler, loaded.model, options, loaded.source)
    return pareto(compiler, loaded.model, options, loaded.source, points)


def finish_front(
    compilations: Sequence[Compilation], output: Path, as_json: bool, quiet: bool, images: bool
) -> list[Path]:
    """Write the bundles of a front and say what is in it; their folders."""
    from h4hc.bundle.write import FRONT, point_record, write_front

    write_front(compilations, output, images)
    points = [point_record(compilation) for compilation in compilations]
    if as_json:
        click.echo(json.dumps(json.loads((output / FRONT).read_text("utf-8")), indent=2, sort_keys=True))
    elif not quiet:
        _print_points(points)
        click.echo(f"Front of {len(points)} schedules: {output / FRONT}")
    return [output / f"point-{number}" for number in range(len(points))]


def _print_points(points: list[dict[str, Any]]) -> None:
    """A row for every schedule: times, energy, operators on each device, peak of each memory in use."""
    from h4hc.cli.layout import Column, Fit, echo, table, terminal_width
    from h4hc.cli.units import si, size

    memories = [name for name in points[0]["peak_bytes"] if any(p["peak_bytes"][name] for p in points)]
    overlapped = any(point["interval_seconds"] != point["latency_seconds"] for point in points)
    rows = [
        (
            f"point-{number}",
            si(point["latency_seconds"], "s"),
            *([si(point["interval_seconds"], "s")] if overlapped else []),
            si(point["energy_joules"], "J"),
            *(str(count) for count in point["operators"].values()),
            *(size(point["peak_bytes"][name]) for name in memories),
        )
        for number, point in enumerate(points)
    ]
    numbers = ["latency", *(["interval"] if overlapped else []), "energy"]
    spare = [*(f"on {name}" for name in points[0]["operators"]), *memories]
    columns = [*map(Column, numbers), *(Column(name, spare=True) for name in spare)]
    echo(table([Column("folder", Fit.TEXT), *columns], rows, terminal_width()))
