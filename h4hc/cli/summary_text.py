"""The summary in words and tables: what `h4hc compile` and `h4hc report` print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from h4hc.cli.flight import front_table, overlap, sooner
from h4hc.cli.layout import Column, Fit, cells, echo, paragraph, table, terminal_width
from h4hc.cli.summary import summary_json
from h4hc.cli.units import percent, savings, si, size, times
from h4hc.errors import one_line

_SHOWN = 0.005  # shares below it read 0% and are left out


def print_summary(document: dict[str, Any]) -> None:
    """Print what the schedule in `document` amounts to, as wide as the terminal."""
    devices = {operator["name"]: operator["device"] for operator in document["operators"]}
    echo("\n\n".join(summary_parts(summary_json(document), devices, terminal_width())))


def summary_parts(summary: dict[str, Any], devices: dict[str, str], width: int) -> Iterator[str]:
    """The parts of the summary, in the order in which they are read. `devices`: where each operator runs."""
    yield _headline(summary, width)
    yield _systems(summary, width)
    if summary["front"]:
        yield front_table(summary, width)
    if summary["claims"]:
        yield _claims(summary, width)
    if summary["splitting"]:
        yield _splitting(summary, devices, width)
    if summary["prefetch"]:
        yield _prefetch(summary, width)
    yield _devices(summary, width)
    yield _where(summary, width)
    yield _transfers(summary, width)
    yield _memories(summary, width)
    yield _expensive(summary, width)


def _headline(summary: dict[str, Any], width: int) -> str:
    text = paragraph(
        f"{one_line(summary['model'])} on {summary['target']}: {si(summary['latency_seconds'], 's')} and "
        f"{si(summary['energy_joules'], 'J')} per frame, {si(summary['frames_per_second'], '')} frames/s, "
        f"{si(summary['macs'], 'MAC')}",
        width,
    )
    styled = "\n".join(click.style(line, bold=True) for line in text.splitlines())
    return styled if summary["budget_seconds"] is None else f"{styled}\n{_budget(summary, width)}"


def _budget(summary: dict[str, Any], width: int) -> str:
    budget, gap = summary["budget_seconds"], abs(summary["budget_seconds"] - summary["latency_seconds"])
    met = summary["budget_met"]
    verdict, relation = ("Budget met", "to spare of") if met else ("Budget missed", "over")
    text = paragraph(f"{verdict}: {si(gap, 's')} ({gap / budget:.0%}) {relation} {si(budget, 's')}", width)
    return text.replace(verdict, click.style(verdict, fg="green" if met else "red", bold=True), 1)


def _claims(summary: dict[str, Any], width: int) -> str:
    units = {"dynamic-energy": "J", "sequential-edp": "Js"}
    rows = [
        (claim["kind"], si(claim["value"], units.get(claim["kind"], "s")), claim["status"])
        for claim in summary["claims"]
    ]
    return table(
        [Column("proved", Fit.TEXT), Column("nothing below"), Column("", Fit.TEXT, spare=True)], rows, width
    )


def _splitting(summary: dict[str, Any], devices: dict[str, str], width: int) -> str:
    """The operators in parts, and what that gains."""
    whole = summary["splitting"]
    rows = []
    for split in whole["operators"]:
        parts = [f"{part['channels']} on {devices[part['operator']]}" for part in split["parts"]]
        rows.append((one_line(split["operator"]), ", ".join(parts)))
    lines = [table([Column("split operator", Fit.NAME), Column("output channels", Fit.TEXT)], rows, width)]
    saved = {
        "latency": 1 - summary["latency_seconds"] / whole["latency_seconds"],
        "energy": 1 - summary["energy_joules"] / whole["energy_joules"],
    }
    if summary["frames_in_flight"] == 1 and savings(saved):  # else they come from different plans
        lines.append(paragraph(f"Splitting: {savings(saved)} than whole", width))
    return "\n".join(lines)


def _prefetch(summary: dict[str, Any], width: int) -> str:
    """The weights that are fetched while other operators run, and what that gains."""
    fetched, count = summary["prefetch"], len(summary["prefetch"]["operators"])
    saved = savings(sooner(summary) | {"energy": 1 - summary["energy_joules"] / fetched["energy_joules"]})
    text = f"Weights of {count} operator{'s'[: count != 1]} fetched ahead: {size(fetched['bytes'])}"
    return paragraph(f"{text}; {saved} than without" if saved else text, width)


def _systems(summary: dict[str, Any], width: int) -> str:
    """The system against each accelerator alone: by latency, or by rate if several frames are in flight."""
    several = summary["frames_in_flight"] > 1
    rate = summary["frames_per_second"]
    entries = [(summary["target"], summary, "", "", "")]
    for alone in summary["baselines"]:
        if alone["name"] == summary["target"]:  # nothing but that accelerator anyway
            continue
        faster = times(rate / alone["frames_per_second"] if alone["frames_per_second"] else None)
        ratios = ("", faster) if several else (times(alone["latency_ratio"]), "")
        entries.append((f"{alone['name']} only", alone, *ratios, times(alone["energy_ratio"])))
    rows = [
        (
            one_line(name),
            si(entry["latency_seconds"], "s"),
            *([] if several else [sooner]),
            si(entry["frames_per_second"], ""),
            *([faster] if several else []),
            si(entry["energy_joules"], "J"),
            frugal,
        )
        for name, entry, sooner, faster, frugal in entries
    ]
    ratio, frames = Column("ratio", spare=True), Column("frames/s", spare=True)
    speed = (frames, ratio) if several else (ratio, frames)
    columns = [Column("system", Fit.NAME), Column("latency"), *speed, Column("energy"), ratio]
    return table(columns, rows, width)


def _devices(summary: dict[str, Any], width: int) -> str:
    idle = {entry["resource"]: entry["idle_seconds"] for entry in summary["time"]["idle"]}
    resident = any(device["resident_capacity"] for device in summary["devices"])
    rows = []
    for device in summary["devices"]:
        room = device["resident_capacity"]
        held = f"{size(device['resident_bytes'])} {percent(device['resident_bytes'] / room)}" if room else "-"
        rows.append(
            (
                one_line(device["name"]),
                str(device["operators"]),
                si(device["macs"], ""),
                f"{si(device['busy_seconds'], 's')} {percent(device['busy_share'])}",
                *([held] if resident else []),
                _causes(idle.get(device["name"], {}), summary["initiation_interval_seconds"]),
            )
        )
    kept = [Column("resident", spare=True)] if resident else []
    columns = [
        Column("device", Fit.NAME),
        *(Column(n, spare=True) for n in ("operators", "MACs")),
        Column("busy"),
        *kept,
    ]
    return table([*columns, Column("idle for", Fit.LIST)], rows, width)


def _causes(seconds: dict[str, float], frame: float) -> str:
    """What a device waits for, the largest first, as shares of the frame."""
    return one_line(_shares({name: spent / frame for name, spent in seconds.items()}))


def _shares(shares: dict[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {share:.0%}" for name, share in ordered if share >= _SHOWN)


def _where(summary: dict[str, Any], width: int) -> str:
    """The critical path by resource, and what overlap gains."""
    shares = _shares(summary["time"]["critical_shares"])
    sentences = [one_line(f"Critical path: {shares or 'empty'}."), *overlap(summary)]
    return _beside(sentences, width)


def _beside(sentences: list[str], width: int) -> str:
    """Sentences on one line if they fit, else each on its own."""
    line = " ".join(sentences)
    return line if cells(line) <= width else "\n".join(paragraph(sentence, width) for sentence in sentences)


def _transfers(summary: dict[str, Any], width: int) -> str:
    moved = summary["transfers"]
    if not moved["count"]:
        return "Nothing is copied between memories."
    noun = "transfer moves" if moved["count"] == 1 else "transfers move"
    return paragraph(
        f"{moved['count']} {noun} {size(moved['bytes'])} between memories in {si(moved['seconds'], 's')}.",
        width,
    )


def _memories(summary: dict[str, Any], width: int) -> str:
    rows = []
    for memory in summary["memories"]:
        used = (memory["peak"] + memory["weights"]) / memory["capacity"] if memory["capacity"] else 0.0
        sizes = [size(memory[key]) for key in ("peak", "lower_bound", "weights", "capacity")]
        rows.append((one_line(memory["name"]), *sizes, f"{used:.0%}"))
    columns = [Column("memory", Fit.NAME), Column("peak"), Column("lower bound", spare=True)]
    return table([*columns, Column("weights", spare=True), Column("capacity"), Column("used")], rows, width)


def _expensive(summary: dict[str, Any], width: int) -> str:
    rows = [
        (
            one_line(operator["name"]),
            one_line(operator["kind"]),
            one_line(operator["device"]),
            si(operator["seconds"], "s"),
            si(operator["joules"], "J"),
            one_line(operator["bound"]),
        )
        for operator in summary["most_expensive"]
    ]
    columns = [
        Column("most expensive", Fit.NAME),
        Column("type", Fit.TEXT, spare=True),
        Column("device", Fit.TEXT),
    ]
    return table(
        [*columns, Column("time"), Column("energy"), Column("bound", Fit.TEXT, spare=True)], rows, width
    )
