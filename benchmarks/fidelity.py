"""How far the cost models are from what they were compared with.

    python benchmarks/fidelity.py            print every comparison, write docs/fidelity.md and backends/fidelity.json
    python benchmarks/fidelity.py --check    print nothing; exit 1 if those files are not what would be written
    python benchmarks/fidelity.py --vela FOLDER   print the comparison with other Vela tables, write nothing

Every number is an error of the model as it stands in this checkout; nothing is measured here, so the result is the
same on every machine. ``h4hc explain`` shows backends/fidelity.json as "validated against".
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the package benchmarks, in a checkout

from benchmarks.references import end_to_end, fitted, imc, published, scalesim, vela
from benchmarks.references.errors import Section, Summary, print_sections
from h4hc.ir.workload import CLASSES

DOCUMENT = ROOT / "docs" / "fidelity.md"
VALIDATION = ROOT / "backends" / "fidelity.json"
NETWORKS = "networks"  # the group of totals beside operators
MODULES = (vela, end_to_end, scalesim, imc, published, fitted)
INTRODUCTION = """\
# Fidelity of the cost models

How far the models' numbers are from what they were compared with. This page is written by
`python benchmarks/fidelity.py` from the models as they are and the reference data in
`benchmarks/references/data`; `--check` tells whether it is up to date.

An error is the model's number divided by the reference's, minus one. *Mean*, *median* and *90 %* (the ninetieth
percentile) are of its size, *bias* is the mean with its sign: positive where the model is too high. References
are other tools' estimates, simulations, cycle models of boards, and silicon: a small error against an
estimator says that the model restates it, not that silicon agrees. The published measurements say what that
is worth.

The comparisons with Vela operator by operator take from Vela what a compiler decides: the memory and layout of each
feature map, how weights are encoded and buffered. *Compiled from ONNX* takes only the size of encoded weights,
and *Whole networks on boards* what is published about the board and the network.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    parser.add_argument("--vela", type=Path, metavar="FOLDER", help="other tables in the format of Vela's")
    arguments = parser.parse_args()
    if arguments.vela:
        compared = [section for section in vela.sections(arguments.vela) if section.summaries]
        if not compared:
            parser.error(f"{arguments.vela} has no table vela_layers_<configuration>.csv")
        print_sections(compared)
        return 0
    found = all_sections()
    texts = {DOCUMENT: document(found), VALIDATION: validation_text(found)}
    if arguments.check:
        return report_stale([path for path, text in texts.items() if not up_to_date(path, text)])
    print_sections(found)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def all_sections() -> list[Section]:
    """Every comparison, in the order of the page."""
    return [section for module in MODULES for section in module.sections()]


def up_to_date(path: Path, text: str) -> bool:
    """Whether the file holds `text`."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def report_stale(stale: list[Path]) -> int:
    """Say which files are out of date; the exit status."""
    for path in stale:
        print(f"{path.relative_to(ROOT)} is out of date; run python benchmarks/fidelity.py", file=sys.stderr)
    return 1 if stale else 0


def document(sections: list[Section]) -> str:
    """docs/fidelity.md."""
    parts = [INTRODUCTION, _overview(sections), *(_section(section) for section in sections)]
    return "\n".join(parts)


def _overview(sections: list[Section]) -> str:
    """One line per section: all its groups together, whole networks beside operators."""
    lines = [
        "| comparison | against | numbers | mean | bias | networks |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for section in sections:
        networks = [item for item in section.summaries if item.group == NETWORKS]
        items = [item for item in section.summaries if item.group != NETWORKS] or networks
        count = sum(item.count for item in items)
        mean = sum(item.mean * item.count for item in items) / count
        bias = sum(item.bias * item.count for item in items) / count
        link = f"[{section.title}](#{_anchor(section.title)})"
        whole = f"{networks[0].mean:.1%}" if networks else ""
        lines.append(f"| {link} | {section.reference} | {count} | {mean:.1%} | {bias:+.1%} | {whole} |")
    return "\n".join([*lines, ""])


def _section(section: Section) -> str:
    single = all(item.count == 1 for item in section.summaries)
    preset = f" Preset `{section.preset}`." if section.preset else ""
    unit = section.unit[:1].upper() + section.unit[1:]
    lines = [f"## {section.title}", "", f"{unit}, against {section.reference}.{preset}", ""]
    lines += _singles(section.summaries) if single else _table(section.summaries)
    if section.not_modelled:
        lines += ["", "Not modelled:", "", *(f"- {line}" for line in section.not_modelled)]
    return "\n".join([*lines, ""])


def _table(summaries: list[Summary]) -> list[str]:
    lines = [
        "| | n | mean | median | 90 % | bias | largest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for item in summaries:
        numbers = f"{item.mean:.1%} | {item.median:.1%} | {item.p90:.1%} | {item.bias:+.1%}"
        lines.append(f"| {_cell(item.group)} | {item.count} | {numbers} | {_cell(item.worst)} |")
    return lines


def _singles(summaries: list[Summary]) -> list[str]:
    """A section whose groups are single numbers."""
    lines = ["| | error | |", "| --- | ---: | --- |"]
    return lines + [f"| {_cell(item.group)} | {item.bias:+.1%} | {_cell(item.worst)} |" for item in summaries]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(title: str) -> str:
    """The anchor that Markdown viewers give to a heading."""
    kept = [c for c in title.lower() if c.isalnum() or c in " -_"]
    return "".join(kept).replace(" ", "-")


def validation(sections: list[Section]) -> dict[str, dict[str, dict[str, str | int | float]]]:
    """By preset and kernel class: the reference, how many layers, mean error and bias."""
    found: dict[str, dict[str, dict[str, str | int | float]]] = {}
    for section in sections:
        for item in section.summaries:
            if section.preset is None or item.group not in CLASSES:
                continue
            classes = found.setdefault(section.preset, {})
            entry: dict[str, str | int | float] = {
                "reference": section.reference,
                "layers": item.count,
                "error": round(item.mean, 4),
                "bias": round(item.bias, 4) + 0.0,  # no minus zero
            }
            classes.setdefault(item.group, entry)
    return found


def validation_text(sections: list[Section]) -> str:
    """backends/fidelity.json."""
    return json.dumps(validation(sections), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
