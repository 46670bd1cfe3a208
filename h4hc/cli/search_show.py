"""`h4hc search show`, `front` and `compare`: what stands in studies."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.cli.layout import Column, Fit, echo, table, terminal_width
from h4hc.cli.search_values import show as shown
from h4hc.cli.search_values import title
from h4hc.errors import OptionError

if TYPE_CHECKING:
    from h4hc.search.study.record import Evaluation
    from h4hc.search.study.study import Reading

_STUDY = click.argument("study", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
_LAST = 12  # generations that `show` lists


@click.command(short_help="Show a study.")
@_STUDY
@_JSON
def show(study: Path, as_json: bool) -> None:
    """Show what STUDY is about and how far it is, also while it runs."""
    from h4hc.search.study.study import read_study

    reading = read_study(study)
    if as_json:
        click.echo(json.dumps(result_json(reading), indent=2, sort_keys=True))
        return
    parts = [_about(reading), *([_generations(reading)] if reading.generations else []), *_errors(reading)]
    for part in parts:
        echo(part)


@click.command(short_help="List the best subnets.")
@_STUDY
@click.option("--csv", "as_csv", is_flag=True, help="Print as CSV: all measures, in SI units.")
@_JSON
def front(study: Path, as_csv: bool, as_json: bool) -> None:
    """List the subnets of STUDY that no other one beats in all objectives."""
    from h4hc.search.study.study import read_study

    reading = read_study(study)
    if as_csv and as_json:
        raise OptionError("--csv and --json exclude each other", code="option", hint="choose one")
    if as_json:
        click.echo(json.dumps(result_json(reading), indent=2, sort_keys=True))
    elif as_csv:
        click.echo(_csv(reading), nl=False)
    else:
        _print_front(reading, reading.front())


@click.command(short_help="Compare studies.")
@click.argument("studies", nargs=-1, required=True, type=click.Path(path_type=Path))
@_JSON
def compare(studies: tuple[Path, ...], as_json: bool) -> None:
    """Compare the fronts of STUDIES that have the same objectives.

    Hypervolume has a common reference: 10 % behind the worst of all feasible candidates, on a scale where they span 1.
    Coverage is the share of the other front's points that a front has a point at least as good as.
    """
    from h4hc.search.study.compare import compare_studies
    from h4hc.search.study.study import read_study

    compared = compare_studies([read_study(path) for path in studies])
    if as_json:
        click.echo(json.dumps([entry._asdict() for entry in compared], indent=2, sort_keys=True))
        return
    rows = []
    for number, entry in enumerate(compared, 1):
        click.echo(f"{number}: {entry.study}")
        row = (number, entry.engine, entry.seed, entry.evaluations, entry.feasible, entry.front)
        covers = ("" if share is None else f"{share:.0%}" for share in entry.covers)
        rows.append((*map(str, row), f"{entry.hypervolume:.4f}", *covers))
    spare = [Column(name, spare=True) for name in ("seed", "evaluations", "feasible")]
    covered = [Column(f"covers {number}") for number in range(1, len(compared) + 1)]
    columns = [Column("study", Fit.TEXT), Column("engine", Fit.TEXT), *spare]
    echo(table([*columns, Column("front"), Column("hypervolume"), *covered], rows, terminal_width()))


def result_json(reading: Reading) -> dict[str, Any]:
    """A study and its front as plain data, in SI units."""
    from h4hc.search.study.export import describe
    from h4hc.search.study.population import population_record

    return {
        "study": str(reading.path),
        "config": reading.config.document(),
        "counts": reading.counts(),
        "evaluations": len(reading.evaluations),
        "seconds": reading.seconds,
        "generations": list(reading.generations),
        "objectives": [
            {"name": m.name, "maximised": m.maximised, "dimension": m.dimension} for m in reading.objectives
        ],
        "sessions": [
            {"number": number, "versions": versions, "workers": workers, "seconds": seconds}
            for number, versions, workers, seconds in reading.sessions
        ],
        "settled": reading.settled,
        "front": population_record(reading.front(), lambda vector: describe(reading, vector)),
    }


def print_result(reading: Reading, reason: str) -> None:
    """What a run ends with."""
    front = reading.front()
    _print_front(reading, front, most=15)
    ended = "nothing is left to try" if reason == "exhausted" else "the budget is spent"
    click.echo(
        f"{len(reading.evaluations)} evaluations, {len(front)} on the front; {ended}. Study: {reading.path}"
    )


def _print_front(reading: Reading, front: Sequence[Evaluation], most: int = 1000) -> None:
    if not front:
        click.echo("No candidate meets all limits yet.")
        return
    kind, extra = front[0].score_kind, _extra(reading)
    facts = (*(("MACs", "CNN", "ViT") if _counted(front) else ()), *(f"on {device}" for device in extra))
    step = max(1, -(-len(front) // most))
    rows = [
        (
            e.subnet,
            *(_cell(reading, e, index) for index in range(len(reading.objectives))),
            *(_facts(e) if _counted(front) else ()),
            *_shares(reading, e, extra),
        )
        for e in front[::step]
    ]
    measures = [Column(title(measure, kind)) for measure in reading.objectives]
    columns = [Column("subnet", Fit.TEXT), *measures, *(Column(name, spare=True) for name in facts)]
    echo(table(columns, rows, terminal_width()))
    if step > 1:
        click.echo(f"One in {step} of {len(front)}; all of them: h4hc search front {reading.path}")


def _cell(reading: Reading, e: Evaluation, index: int) -> str:
    measure = reading.objectives[index]
    text = shown(measure, e.value(measure.name))
    return (
        f"{text} (predicted)"
        if measure.name == "score" and e.score_kind == "predicted" and e.verified is None
        else text
    )


def _counted(front: Sequence[Evaluation]) -> bool:
    """Whether MACs and blocks are known: they are not of a user's supernet."""
    return "macs" in front[0].measures


def _facts(e: Evaluation) -> tuple[str, ...]:
    from h4hc.cli.units import si

    counts = (e.measures.get("cnn_blocks"), e.measures.get("transformers"))
    macs = e.measures.get("macs")
    return ("" if macs is None else si(macs, ""), *("" if c is None else str(int(c)) for c in counts))


def _extra(reading: Reading) -> list[str]:
    """The devices of the only target."""
    if len(reading.targets) != 1:
        return []
    details = next((e.details for e in reading.evaluations if e.details), {})
    return list(details.get(reading.targets[0], {}).get("devices", {}))


def _shares(reading: Reading, e: Evaluation, devices: Sequence[str]) -> list[str]:
    """The share of the MACs that each device has."""
    if not devices:
        return []
    placed = e.details.get(reading.targets[0], {}).get("devices", {})
    total = sum(device["macs"] for device in placed.values()) or 1
    return [f"{placed[name]['macs'] / total:.0%}" for name in devices]


def _about(reading: Reading) -> str:
    """What the study is about: a name and a text on each line."""
    config, counts = reading.config, reading.counts()
    rows = {
        "space": config.space or config.supernet or reading.meta.get("score_name", ""),
        "targets": ", ".join(reading.targets),
        "objectives": ", ".join(m.name for m in reading.objectives),
        "limits": ", ".join(limit.text for limit in reading.constraints) or "none",
        "accuracy": reading.meta.get("score_name") or "not asked for",
        "engine": f"{config.engine}, population {config.population}, seed {config.seed}",
        "budget": config.budget,
        "evaluations": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "front": f"{len(reading.front())} subnets{', measured' if reading.settled else ''}",
        "costs": _provenance(reading),
        "time": f"{reading.seconds:.0f} s in {len(reading.sessions)} run{'s' * (len(reading.sessions) != 1)}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{click.style(key.ljust(width), dim=True)}  {value}" for key, value in rows.items())


def _provenance(reading: Reading) -> str:
    """What the times of operators rest on, over all candidates."""
    shares: dict[str, float] = {}
    count = 0
    for e in reading.evaluations:
        for target in e.details.values():
            count += 1
            for kind, share in target.get("provenance", {}).items():
                shares[kind] = shares.get(kind, 0.0) + share
    return ", ".join(f"{share / count:.0%} {kind}" for kind, share in sorted(shares.items())) or "none yet"


def _generations(reading: Reading) -> str:
    every = list(reading.generations)
    step = max(1, -(-len(every) // _LAST))
    rows = [
        (
            str(row["number"]),
            str(row["evaluations"]),
            f"{row['feasible'] / max(1, row['evaluations']):.0%}",
            str(row["front"]),
            f"{row['hypervolume']:.4f}",
        )
        for row in every[::-1][::step][::-1]
    ]
    columns = map(Column, ("generation", "evaluations", "feasible", "front", "hypervolume"))
    return table(list(columns), rows, terminal_width())


def _errors(reading: Reading) -> list[str]:
    """The most frequent errors of candidates."""
    messages: dict[str, int] = {}
    for e in reading.evaluations:
        if e.status == "error":
            messages[e.message] = messages.get(e.message, 0) + 1
    often = sorted(messages.items(), key=lambda item: (-item[1], item[0]))[:3]
    return [f"{count} x error: {message}" for message, count in often]


def _csv(reading: Reading) -> str:
    front = reading.front()
    names = list(dict.fromkeys(name for e in front for name in e.measures))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "subnet", "score", "score_kind", *names, *reading.genes])
    for e in front:
        kind = "measured" if e.verified is not None else e.score_kind
        values = [e.measures.get(name) for name in names]
        writer.writerow([e.number, e.subnet, e.value("score"), kind, *values, *e.vector])
    return text.getvalue()
