"""What a schedule amounts to, for people (`print_summary`) and for programs (`summary_json`).

Both read the document of schedule.json alone, so a fresh compilation and an old bundle look the same.
"""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, Any

from h4hc.bundle.bottlenecks import bottlenecks
from h4hc.bundle.recurrence import recurrence_bound
from h4hc.errors import one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

MOST_EXPENSIVE = 5
_PREFIXES = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P"}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


_NAME_WIDTH = 24  # columns


def summary_json(document: dict[str, Any]) -> dict[str, Any]:
    """The summary as plain data: seconds, joules, bytes, hertz; shares and ratios as fractions of one."""
    summary, tick = document["summary"], document["tick_seconds"]
    latency, energy = summary["latency_seconds"], summary["energy_joules"]
    recurrence = recurrence_bound(document)
    transfers = [task for task in document["tasks"] if task["kind"] == "transfer"]
    return {
        "model": document["model"]["name"],
        "target": document["target"]["name"],
        "objective": document["options"]["objective"],
        "budget_seconds": document["options"]["budget_seconds"],
        "budget_met": summary["budget_met"],
        "latency_seconds": latency,
        "frames_per_second": summary["frames_per_second"],
        "initiation_interval_seconds": summary["initiation_interval"] * tick,
        "interval_bound_seconds": summary["interval_bound"] * tick,
        "recurrence_bound_seconds": None if recurrence is None else recurrence * tick,
        "frames_in_flight": summary["frames_in_flight"],
        "front": [
            {
                "frames": point["frames"],
                "interval_seconds": point["interval"] * tick,
                "latency_seconds": point["latency"] * tick,
            }
            for point in summary["front"]
        ],
        "energy_joules": energy,
        "claims": [_claim(claim, tick) for claim in document.get("claims", [])],
        "splitting": document.get("splitting"),
        "prefetch": document.get("prefetch"),
        "macs": summary["macs"],
        "baselines": [
            {
                "name": baseline["name"],
                "latency_seconds": baseline["latency_seconds"],
                "frames_per_second": _ratio(
                    1.0, baseline.get("initiation_interval_seconds", baseline["latency_seconds"])
                )
                or 0.0,
                "energy_joules": baseline["energy_joules"],
                "latency_ratio": _ratio(baseline["latency_seconds"], latency),
                "energy_ratio": _ratio(baseline["energy_joules"], energy),
            }
            for baseline in summary["baselines"]
        ],
        "devices": [
            {
                "name": device["name"],
                "operators": device["operators"],
                "macs": device["macs"],
                "busy_seconds": device["busy"] * tick,
                "busy_share": _ratio(device["busy"], summary["initiation_interval"]) or 0.0,
                "resident_bytes": device["resident"],
                "resident_capacity": device["capacity"],
            }
            for device in document["devices"]
        ],
        "transfers": {
            "count": summary["transfers"],
            "bytes": summary["transferred_bytes"],
            "seconds": sum(task["work"] for task in transfers) * tick,
        },
        "memories": [
            {key: memory[key] for key in ("name", "capacity", "weights", "peak", "lower_bound")}
            for memory in document["memories"]
        ],
        "time": _time(document),
        "most_expensive": [
            {
                "name": operator["name"],
                "kind": operator["kind"],
                "device": operator["device"],
                "seconds": operator["work"] * tick,
                "latency_share": _ratio(operator["work"], summary["latency"]) or 0.0,
                "joules": operator["energy"] * 1e-12,
                "bound": operator["bound"],
            }
            for operator in _most_expensive(document["operators"])
        ],
    }


def _time(document: dict[str, Any]) -> dict[str, Any]:
    """Critical path, idle times and the gain over running layer by layer."""
    tick, latency = document["tick_seconds"], document["summary"]["latency"]
    found = bottlenecks(document)
    names = {task["id"]: task["operator"] or task["tensor"] for task in document["tasks"]}
    resources = {task["id"]: task["resource"] for task in document["tasks"]}
    return {
        "layer_by_layer_seconds": found.layer_by_layer * tick,
        "overlap_gain": _ratio(found.layer_by_layer, latency),
        "critical_shares": {name: ticks / latency for name, ticks in found.shares.items()},
        "critical_path": [
            {
                "name": names[step.task],
                "resource": resources[step.task],
                "tiles": [step.first, step.last],
                "seconds": step.work * tick,
                "handoff_seconds": step.latency * tick,
            }
            for step in found.path
        ],
        "idle": [
            {
                "resource": entry.resource,
                "busy_seconds": entry.busy * tick,
                "idle_seconds": {cause: ticks * tick for cause, ticks in entry.causes.items()},
            }
            for entry in found.idle
        ],
    }


def _most_expensive(operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The operators that occupy their device longest; of equals the earlier one."""
    return sorted(operators, key=lambda operator: -operator["work"])[:MOST_EXPENSIVE]


def _ratio(value: float, base: float) -> float | None:
    return value / base if base else None


def print_summary(document: dict[str, Any], console: Console) -> None:
    """Print the summary; the console decides about colour and width."""
    summary = summary_json(document)
    console.print(_headline(summary))
    if summary["budget_seconds"] is not None:
        console.print(_budget(summary))
    for part in (
        _systems(summary),
        *([_front(summary)] if summary["front"] else []),
        *([_claims(summary)] if summary["claims"] else []),
        *([_splitting(document, summary)] if summary["splitting"] else []),
        *([_prefetch(summary)] if summary["prefetch"] else []),
        _devices(summary),
        _where(summary),
        _transfers(summary),
        _memories(summary),
        _expensive(summary),
    ):
        console.print()
        console.print(part)


def _text(*parts: str | tuple[str, str]) -> Text:
    from rich.text import Text

    return Text.assemble(*parts, overflow="fold")


def _name(name: str) -> Text:
    """A name from the model as one printable line, without markup."""
    return _text(one_line(name))


def _headline(summary: dict[str, Any]) -> Text:
    return _text(
        (one_line(summary["model"]), "bold"),
        " on ",
        (summary["target"], "bold"),
        ": ",
        (si(summary["latency_seconds"], "s"), "bold"),
        f" and {si(summary['energy_joules'], 'J')} per frame, ",
        f"{si(summary['frames_per_second'], '')} frames/s, ".replace("  ", " "),
        si(summary["macs"], "MAC"),
    )


def _budget(summary: dict[str, Any]) -> Text:
    budget, gap = summary["budget_seconds"], abs(summary["budget_seconds"] - summary["latency_seconds"])
    amount = f"{si(gap, 's')} ({gap / budget:.0%})"
    if summary["budget_met"]:
        return _text(("Budget met", "bold green"), f": {amount} to spare of {si(budget, 's')}")
    return _text(("Budget missed", "bold red"), f": {amount} over {si(budget, 's')}")


def _claim(claim: dict[str, Any], tick: float) -> dict[str, Any]:
    """A claim in seconds, joules or joule seconds."""
    unit = {"dynamic-energy": 1e-12, "sequential-edp": 1e-15}.get(claim["kind"], tick)
    return {**claim, "value": claim["value"] * unit}


def _claims(summary: dict[str, Any]) -> RenderableType:
    table = _table(("proved", "nothing below", ""))
    for claim in summary["claims"]:
        unit = {"dynamic-energy": "J", "sequential-edp": "Js"}.get(claim["kind"], "s")
        table.add_row(claim["kind"], si(claim["value"], unit), claim["status"])
    return table


def _splitting(document: dict[str, Any], summary: dict[str, Any]) -> RenderableType:
    """The operators in parts, and what that gains."""
    devices = {operator["name"]: operator["device"] for operator in document["operators"]}
    whole = summary["splitting"]
    gain = 1 - summary["latency_seconds"] / whole["latency_seconds"]
    saved = 1 - summary["energy_joules"] / whole["energy_joules"]
    alone = summary["frames_in_flight"] == 1
    effect = f"{_less(gain, 'latency')}, {_less(saved, 'energy')} than whole" if alone else ""
    table = _table(("split operator", "output channels", effect))
    for split in whole["operators"]:
        parts = [f"{part['channels']} on {devices[part['operator']]}" for part in split["parts"]]
        table.add_row(_name(split["operator"]), ", ".join(parts), "")
    return table


def _prefetch(summary: dict[str, Any]) -> RenderableType:
    """The weights that are fetched while other operators run, and what that gains."""
    from h4hc.cli.flight import fetched_gain

    fetched, count = summary["prefetch"], len(summary["prefetch"]["operators"])
    gain, words = fetched_gain(summary)
    saved = 1 - summary["energy_joules"] / fetched["energy_joules"]
    return _text(
        (f"Weights of {count} operator{'s'[: count != 1]} fetched ahead", "bold"),
        f": {size(fetched['bytes'])}; {_less(gain, words)}, {_less(saved, 'energy')} than without",
    )


def _systems(summary: dict[str, Any]) -> RenderableType:
    table = _table(("system", "latency", "ratio", "frames/s", "energy", "ratio"))
    table.add_row(
        _text((summary["target"], "bold")),
        si(summary["latency_seconds"], "s"),
        "",
        si(summary["frames_per_second"], ""),
        si(summary["energy_joules"], "J"),
        "",
    )
    for baseline in summary["baselines"]:
        if baseline["name"] == summary["target"]:  # nothing but that accelerator anyway
            continue
        table.add_row(
            _name(f"{baseline['name']} only"),
            si(baseline["latency_seconds"], "s"),
            _times(baseline["latency_ratio"]),
            si(baseline["frames_per_second"], ""),
            si(baseline["energy_joules"], "J"),
            _times(baseline["energy_ratio"]),
        )
    return table


def _front(summary: dict[str, Any]) -> RenderableType:
    from h4hc.cli.flight import HEADINGS, front_rows

    table = _table(HEADINGS)
    for row in front_rows(summary):
        table.add_row(*row)
    return table


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _devices(summary: dict[str, Any]) -> RenderableType:
    table = _table(
        ("device", "operators", "MACs", "busy", "resident weights", "idle for"),
        left=("idle for",),
    )
    idle = {entry["resource"]: entry["idle_seconds"] for entry in summary["time"]["idle"]}
    for device in summary["devices"]:
        resident = f"{size(device['resident_bytes'])} of {size(device['resident_capacity'])}"
        table.add_row(
            _name(device["name"]),
            str(device["operators"]),
            si(device["macs"], ""),
            f"{si(device['busy_seconds'], 's')} {device['busy_share']:.0%}",
            resident if device["resident_capacity"] else "-",
            _causes(idle.get(device["name"], {}), summary["initiation_interval_seconds"]),
        )
    return table


def _causes(seconds: dict[str, float], frame: float) -> Text:
    """What a device waits for, the largest first, as shares of the frame."""
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {spent / frame:.0%}" for name, spent in ordered if spent / frame >= 0.005]
    return _text(one_line(", ".join(shown)))


def _where(summary: dict[str, Any]) -> Text:
    """The critical path by resource, and what overlap gains."""
    from h4hc.cli.flight import overlap

    time = summary["time"]
    ordered = sorted(time["critical_shares"].items(), key=lambda item: (-item[1], item[0]))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in ordered)
    return _text(one_line(f"Critical path: {shares or 'empty'}.{overlap(summary)}"))


def _transfers(summary: dict[str, Any]) -> Text:
    moved = summary["transfers"]
    if not moved["count"]:
        return _text("Nothing is copied between memories.")
    noun = "transfer moves" if moved["count"] == 1 else "transfers move"
    return _text(
        f"{moved['count']} {noun} {size(moved['bytes'])} between memories in {si(moved['seconds'], 's')}."
    )


def _memories(summary: dict[str, Any]) -> RenderableType:
    table = _table(("memory", "peak", "lower bound", "weights", "capacity", "used"))
    for memory in summary["memories"]:
        used = (memory["peak"] + memory["weights"]) / memory["capacity"] if memory["capacity"] else 0.0
        table.add_row(
            _name(memory["name"]),
            size(memory["peak"]),
            size(memory["lower_bound"]),
            size(memory["weights"]),
            size(memory["capacity"]),
            f"{used:.0%}",
        )
    return table


def _expensive(summary: dict[str, Any]) -> RenderableType:
    table = _table(
        ("most expensive", "type", "device", "time", "energy", "bound"), left=("type", "device", "bound")
    )
    for operator in summary["most_expensive"]:
        table.add_row(
            _name(_tail(operator["name"])),
            _name(operator["kind"]),
            _name(operator["device"]),
            si(operator["seconds"], "s"),
            si(operator["joules"], "J"),
            _name(operator["bound"]),
        )
    return table


def _tail(name: str) -> str:
    """`name`, or its end if it is long: exporters put what tells operators apart last."""
    return name if len(name) <= _NAME_WIDTH else "…" + name[1 - _NAME_WIDTH :]


def _table(headings: tuple[str, ...], left: tuple[str, ...] = ()) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        is_left = number == 0 or heading in left
        table.add_column(heading, justify="left" if is_left else "right", overflow="fold")
    return table


def _less(share: float, what: str) -> str:
    """A saving in words; a negative one is said to be more."""
    return f"{abs(share):.1%} {'less' if share >= 0 else 'more'} {what}"


def si(value: float, unit: str) -> str:
    """`value` with three digits and an SI prefix: 0.00123, "s" -> "1.23 ms"."""
    if not value:
        return f"0 {unit}".rstrip()
    exponent = floor(log10(abs(value)) / 3)
    if abs(float(f"{value / 1000.0**exponent:.3g}")) >= 1000:
        exponent += 1
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    scaled = value / 1000.0**exponent
    digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
    return f"{scaled:.{digits}f} {_PREFIXES[exponent]}{unit}".rstrip()


def size(count: int) -> str:
    """Bytes with a binary prefix: 1536 -> "1.50 KiB"."""
    scaled, index = float(count), 0
    while scaled >= 1024 and index < len(_BINARY) - 1:
        scaled /= 1024
        index += 1
    digits = 0 if index == 0 or scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {_BINARY[index]}"
