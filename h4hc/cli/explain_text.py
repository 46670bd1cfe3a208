"""What `h4hc explain` prints: the records of `h4hc.cli.explanation` as lines of text."""

from __future__ import annotations

import textwrap
from typing import Any

from h4hc.bundle.store import Document
from h4hc.cli.layout import Column, Fit, table, terminal_width
from h4hc.cli.units import si, size
from h4hc.errors import one_line

BAR = 24  # characters of the longest bar
TERMS = ("compute", "output", "weights", "activations", "write", "overhead")
_USUALLY_ONE = ("stride", "dilation", "groups", "batch", "run", "kernel")
_FIRST = ("macs", "cycles", "tiles", "passes")


def operator_text(record: Document) -> str:
    """One operator on every device."""
    item = record["operator"]
    lines = [f"{one_line(item['name'])}: {item['class']}, {record['model']} on {record['target']}"]
    lines += [f"  {label:<9}{text}" for label, text in _facts(item) if text]
    for name, entry in record["devices"].items():
        lines += ["", *_device(name, entry, record["chosen"])]
    width = terminal_width()
    return "\n".join(_indented(one_line(line), width) for line in lines)


def _indented(line: str, width: int) -> str:
    """A line that is too long in several, the others further in than the first."""
    if len(line) <= width:
        return line
    further = " " * (len(line) - len(line.lstrip()) + 4)
    return "\n".join(textwrap.wrap(line, width, subsequent_indent=further, break_on_hyphens=False))


def _facts(item: Document) -> list[tuple[str, str]]:
    work = ", ".join(
        f"{key} {value}"
        for key, value in item["workload"].items()
        if key != "type" and not (key.startswith(_USUALLY_ONE) and value == 1) and value is not False
    )
    return [
        ("workload", f"{item['workload']['type']}: {work}"),
        ("MACs", si(item["macs"], "") if item["macs"] else ""),
        ("weights", size(item["weight_bytes"]) if item["weight_bytes"] else ""),
        ("fused", ", ".join(item["epilogue"])),
        ("nodes", ", ".join(item["nodes"])),
        ("reads", ", ".join(_tensor(name, item["shapes"]) for name in item["inputs"])),
        ("writes", ", ".join(_tensor(name, item["shapes"]) for name in item["outputs"])),
    ]


def _tensor(name: str, shapes: dict[str, list[int]]) -> str:
    shape = shapes.get(name)
    return name if shape is None else f"{name} [{'x'.join(map(str, shape)) or 'scalar'}]"


def _device(name: str, entry: Document, chosen: dict[str, str] | None) -> list[str]:
    title = f"{name} ({entry['preset'] or entry['kind']})"
    if "refused" in entry:
        return [title, f"  refused: {entry['refused']}"]
    lines = [title]
    for mode, cost in entry["modes"].items():
        own = chosen == {"device": name, "mode": mode}
        lines += _mode(mode, cost, own)
    lines.append(f"  {_validation(entry['validation'])}")
    if entry["parameters"]:
        lines.append("  parameters")
        width = max(len(key) for key in entry["parameters"])
        lines += [
            f"    {key:<{width}}  {value['value']}: {value['source']}"
            for key, value in entry["parameters"].items()
        ]
    return lines


def _validation(compared: Document | None) -> str:
    if compared is None:
        return "not validated against a reference"
    layers = f"{compared['layers']} layer{'s'[: compared['layers'] != 1]}"
    errors = f"mean error {compared['error']:.1%} on {layers}, bias {compared['bias']:+.1%}"
    return f"validated against {compared['reference']}: {errors}"


def _mode(mode: str, cost: Document, own: bool) -> list[str]:
    marks = " (chosen)" if own else ""
    uncertain = f" +- {cost['uncertainty']:.0%}" if "uncertainty" in cost else ""
    used = f", {cost['utilisation']:.0%} of peak" if cost["utilisation"] else ""
    head = [
        f"  {mode or 'cost'}{marks}: {si(cost['seconds'], 's')}, {si(cost['joules'], 'J')}",
        f"bound by {cost['bound']}{used}, {cost['source']}{uncertain}",
    ]
    lines = [", ".join(head), f"    {cost['advice']}"]
    terms = cost.get("terms", {})
    lines += _bars("time", {name: terms[name] for name in TERMS if name in terms}, "s", cost["seconds"])
    energy = dict(sorted(cost.get("energy", {}).items(), key=lambda item: (-item[1], item[0])))
    lines += _bars("energy", energy, "J", cost["joules"])
    counts = cost.get("details", {})
    ordered = [*(key for key in _FIRST if key in counts), *sorted(counts.keys() - set(_FIRST))]
    if cost["resident_bytes"]:
        lines.append(f"    resident {size(cost['resident_bytes'])}")
    if "fetch" in cost:
        fetch = cost["fetch"]
        amount = f"{size(fetch['bytes'])}, {si(fetch['seconds'], 's')}, {si(fetch['joules'], 'J')}"
        lines.append(f"    after a fetch of {amount}")
    if ordered:
        lines.append("    " + ", ".join(f"{key} {_count(key, counts[key])}" for key in ordered))
    return lines


def _bars(title: str, parts: dict[str, float], unit: str, whole: float) -> list[str]:
    """One line per part, the first with the title; bars are shares of the longest part or of the whole."""
    longest = max([whole, *parts.values()], default=0.0)
    lines = []
    for index, (name, value) in enumerate(parts.items()):
        bar = "#" * max(1, round(BAR * value / longest)) if longest else ""
        label = title if index == 0 else ""
        share = f"{value / whole:>5.0%}" if whole else ""
        lines.append(f"    {label:<7}{name:<14} {si(value, unit):>9} {share} {bar}")
    return lines


def _count(key: str, value: Any) -> str:
    if key.endswith("bytes") or key == "bytes written":
        return size(round(value))
    return f"{value:.3f}" if "utilisation" in key else f"{value:,.0f}" if value >= 1 else f"{value:g}"


def list_text(record: Document) -> str:
    """The operators that take longest, one line each."""
    rows = record["operators"]
    devices = list(rows[0]["devices"]) if rows else []
    cells = [
        (
            str(row["index"]),
            one_line(row["name"]),
            row["class"],
            si(row["macs"], "") if row["macs"] else "-",
            *(_cell(row["devices"][name]) for name in devices),
        )
        for row in rows
    ]
    columns = [
        Column("#"),
        Column("operator", Fit.NAME),
        Column("class", Fit.TEXT, spare=True),
        Column("MACs", spare=True),
    ]
    columns += [Column(name, Fit.LIST) for name in devices]
    head = f"{one_line(record['model'])} on {record['target']}: {len(rows)} of {record['total']} operators"
    return f"{head}\n{table(columns, cells, terminal_width())}"


def _cell(entry: Document) -> str:
    if "refused" in entry:
        return "refused"
    mode = f", {entry['mode']}" if entry["mode"] else ""
    return f"{si(entry['seconds'], 's'):>7} {entry['bound']}{mode}"
