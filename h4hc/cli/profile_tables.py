"""How `h4hc profile` prints profiles, calibrations and coverage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from h4hc.errors import ProfileError

if TYPE_CHECKING:
    from h4hc.backends.base import Backend
    from h4hc.backends.profiles.book import Book
    from h4hc.backends.profiles.calibration import Calibration
    from h4hc.backends.profiles.load import Source
    from h4hc.backends.profiles.sums import Fitted, Increment, Power
    from h4hc.backends.profiles.survey import Coverage

_MOST_FLAGGED = 20


def print_profile(
    source: Source, book: Book | None, covered: Coverage | None, each: bool, as_json: bool
) -> None:
    """A profile: its device, rows by class, flagged rows, and what it covers of a model."""
    from h4hc.backends.profiles.survey import precisions, rows_by_class

    profile, classes = source.profile, rows_by_class(source.profile)
    flagged = book.fallbacks() if book else []
    if as_json:
        _print_json(
            {
                "profile": {"name": source.name, "sha256": source.sha256, "device": profile.device,
                            "compiler": profile.compiler, "clock": profile.clock, "rows": len(profile.rows)},
                "classes": [asdict(row) for row in classes],
                "flagged": [{"lines": e.lines, "class": e.kernel_class, "ratio": e.ratio} for e in flagged],
                "unused": dict(book.unused) if book else None,
                "refused": len(book.refused) if book else None,
                "coverage": _coverage_json(covered) if covered else None,
            }
        )  # fmt: skip
        return
    clock = f", {profile.clock / 1e6:.6g} MHz" if profile.clock else ""
    click.echo(f"{source.name}: {profile.device}{clock}, {profile.compiler}")
    for what, text in (("method", profile.method), ("date", profile.date), ("note", profile.note)):
        if text:
            click.echo(f"{what}: {text}")
    rows = [(c.name, c.rows, c.kernels, c.with_energy, _time(c.seconds)) for c in classes]
    _print_table("rows of operators", ("class", "rows", "kernels", "with energy", "time"), rows)
    others = [row for row in profile.rows if row.granularity != "op" or row.status != "ok"]
    if others:
        click.echo(f"other rows: {len(others)} of blocks, models, and operators that did not run")
    if book is not None:
        for reason, count in sorted(book.unused.items()):
            click.echo(f"rows that do not cost operators: {count} {reason}")
        for entry in flagged[:_MOST_FLAGGED]:
            lines = ", ".join(map(str, entry.lines[:5]))
            click.echo(
                f"line {lines}: {entry.ratio:.1f} times the analytical time of a {entry.kernel_class}: a fallback?"
            )
    if covered is not None:
        _print_coverage(covered, each)
        measured = precisions(row.kernel for row in profile.rows if row.kernel is not None)
        if measured and covered.precisions and set(measured).isdisjoint(covered.precisions):
            click.echo(
                f"the rows are of {', '.join(measured)} bit (activation x weight), the model is planned at "
                f"{', '.join(covered.precisions)} bit: plan both with the same --precision"
            )


def print_calibration(calibration: Calibration, book: Book, base: Backend) -> None:
    """Factors and the errors they leave."""
    factors, shape = calibration.factors, calibration.shape
    click.echo(f"{calibration.device}, {calibration.compiler}: {calibration.label}")
    rows = [
        (name, found.rows, f"{found.factor:.3f}", _factor(found.energy), _percent(found.before),
         _percent(found.calibrated), _percent(found.interpolated))
        for name, found in calibration.classes.items()
    ]  # fmt: skip
    if rows:
        heading = ("class", "rows", "time x", "energy x", "before", "calibrated", "interpolated")
        _print_table("classes: factors, and errors of rows that were left out", heading, rows)
        activations, weights = getattr(base, "activations", None), getattr(base, "weights", None)
        for what, memory, factor in (
            ("activation bandwidth", activations, factors.activations),
            ("weight bandwidth", weights, factors.weights),
        ):
            if memory is not None and factor > 0:
                given = memory.bandwidth / 1e9
                click.echo(f"{what}: {given / factor:.4g} GB/s (described: {given:.4g} GB/s)")
        click.echo(f"overlap: {factors.overlap:g} (described: {shape.overlap:g})")
        per = "command" if shape.command else "operator"
        found = factors.commands * (shape.command or 1.0)
        click.echo(f"per {per}: {_time(found)} (described: {_time(shape.command)})")
    flagged = book.fallbacks()
    if flagged and not book.keep_fallbacks:
        click.echo(
            f"{len(flagged)} kernels took over {book.slowest:.3g} times the analytical time and were left out"
        )
    networks = [
        (n.name, n.rows, _time(n.measured), _signed(n.analytical / n.measured - 1), _signed(n.predicted / n.measured - 1))
        for n in calibration.networks
    ]  # fmt: skip
    if networks:
        columns = ("model", "operators", "measured", "error before", "error after")
        _print_table("models, each predicted without its own rows", columns, networks)
    _print_sums(calibration.increment, calibration.power)
    if not rows and calibration.increment is None and calibration.power is None:
        raise ProfileError(
            f"{calibration.label}: holds no rows that say anything of {base.name}",
            code="bad-calibration",
            hint="see h4hc profile show for why rows are left out",
        )


def print_sums(sources: Sequence[Source], as_json: bool) -> None:
    """What rows of whole models say without a target."""
    from h4hc.backends.profiles.sums import fit_increment, fit_power

    found = [(source, fit_increment(source.profile), fit_power(source.profile)) for source in sources]
    if not any(increment or power for _, increment, power in found):
        raise ProfileError(
            "no rows of models name a baseline, or have energy and MACs",
            code="bad-calibration",
            hint="give --target to calibrate the model of a device to rows of operators",
        )
    if as_json:
        _print_json(
            {
                source.name: {
                    "increment": asdict(increment) if increment else None,
                    "power": asdict(power) if power else None,
                }
                for source, increment, power in found
            }
        )
        return
    for source, increment, power in found:
        click.echo(f"{source.name}: {source.profile.device}, {source.profile.compiler}")
        _print_sums(increment, power)


def _print_sums(increment: Increment | None, power: Power | None) -> None:
    if increment is not None:
        click.echo(
            f"more weights: {increment.fixed * 1e3:.3g} ms and bytes / {increment.bandwidth / 1e9:.4g} GB/s"
        )
        _print_table("", ("model", "difference", "fitted", "error"), _fitted(increment.rows, 1e3, "ms"))
    if power is not None:
        click.echo(f"power: {power.idle * 1e3:.3g} mW and {power.per_mac * 1e12:.3g} pJ per MAC")
        _print_table("", ("model", "measured", "fitted", "error"), _fitted(power.rows, 1e6, "uJ"))


def _fitted(rows: Iterable[Fitted], unit: float, name: str) -> list[tuple[str, str, str, str]]:
    return [
        (row.name, f"{row.measured * unit:.4g} {name}", f"{row.fitted * unit:.4g} {name}",
         _signed(row.fitted / row.measured - 1) if row.measured else "-")
        for row in rows
    ]  # fmt: skip


def _print_coverage(covered: Coverage, each: bool) -> None:
    total = covered.seconds or 1.0
    rows = [
        (
            level.level,
            level.operators,
            _time(level.seconds),
            f"{level.seconds / total:.0%}",
            _percent(level.error),
        )
        for level in covered.levels
    ]
    _print_table("operators of the model", ("source", "operators", "time", "share", "expected error"), rows)
    if covered.refused:
        click.echo(f"{covered.refused} operators do not run on the device")
    if covered.not_measured:
        missing = ", ".join(f"{count} {name}" for name, count in covered.not_measured.items())
        click.echo(f"not measured: {missing}")
    if each:
        listed = [
            (name, kind, _time(seconds), source, _percent(error))
            for name, kind, seconds, source, error in covered.operators
        ]
        _print_table("", ("operator", "class", "time", "source", "expected error"), listed)


def _coverage_json(covered: Coverage) -> dict[str, Any]:
    heading = ("operator", "class", "seconds", "source", "uncertainty")
    return {
        "levels": [asdict(level) for level in covered.levels],
        "refused": covered.refused,
        "not_measured": dict(covered.not_measured),
        "operators": [dict(zip(heading, row, strict=True)) for row in covered.operators],
    }


def _time(seconds: float) -> str:
    from h4hc.ir.quantity import format_quantity

    return format_quantity(float(f"{seconds:.4g}"), "time") if seconds else "0"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _signed(value: float) -> str:
    return f"{value:+.1%}"


def _factor(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(markup=False, highlight=False).print(table)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))
