"""Errors of estimates against a reference: pairs of numbers in, a few honest statistics per group out."""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"


class Pair(NamedTuple):
    """One number of the reference (`expected`, not zero) and the model's (`found`), in the same unit.

    `group` is what errors are averaged over: one of `h4hc.ir.workload.CLASSES` for operators, else a name for
    people ("networks"). `name` says which operator or network it is.
    """

    group: str
    name: str
    expected: float
    found: float

    @property
    def error(self) -> float:
        """Signed relative error: positive where the model finds more."""
        return self.found / self.expected - 1


class Summary(NamedTuple):
    """Relative errors of a group: mean, median and 90th percentile of their size, signed mean, and the pair
    with the largest."""

    group: str
    count: int  # type: ignore[assignment]  # hides tuple.count
    mean: float
    median: float
    p90: float
    bias: float
    worst: str


class Section(NamedTuple):
    """One table of a comparison.

    `reference` says in a phrase what was compared with, `unit` the quantity and its unit ("cycles of an operator"),
    `not_modelled` what the reference contains and the model leaves out. Where `preset` names a preset, groups
    named after a kernel class become what ``h4hc explain`` shows as validation of that preset; the first section
    of a preset with that class counts.
    """

    title: str
    reference: str
    unit: str
    summaries: list[Summary]
    not_modelled: tuple[str, ...] = ()
    preset: str | None = None


def summarise(pairs: Iterable[Pair]) -> list[Summary]:
    """One summary per group, in the order in which groups first appear."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    return [_summary(name, members) for name, members in groups.items()]


def _summary(group: str, pairs: list[Pair]) -> Summary:
    sizes = sorted(abs(pair.error) for pair in pairs)
    worst = max(pairs, key=lambda pair: abs(pair.error))
    return Summary(
        group,
        len(pairs),
        mean=sum(sizes) / len(sizes),
        median=percentile(sizes, 0.5),
        p90=percentile(sizes, 0.9),
        bias=sum(pair.error for pair in pairs) / len(pairs),
        worst=f"{worst.name} ({worst.error:+.1%})",
    )


def percentile(ordered: list[float], fraction: float) -> float:
    """The value below which `fraction` of an ascending list lies, interpolated between neighbours."""
    position = (len(ordered) - 1) * fraction
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of ``data/<name>.csv.xz``, by column."""
    with lzma.open(DATA / f"{name}.csv.xz") as file:
        return list(csv.DictReader(io.TextIOWrapper(file, "utf-8", newline="")))


def write_table(name: str, rows: list[dict[str, str]]) -> None:
    """Write ``data/<name>.csv.xz``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (DATA / f"{name}.csv.xz").write_bytes(lzma.compress(text.getvalue().encode(), preset=9))


def print_sections(sections: Iterable[Section]) -> None:
    """Print each section as aligned text."""
    for section in sections:
        print(f"\n{section.title}: {section.unit}, against {section.reference}")
        print(f"  {'':<24} {'n':>5} {'mean':>7} {'median':>7} {'p90':>7} {'bias':>7}  worst")
        for item in section.summaries:
            print(
                f"  {item.group:<24} {item.count:>5} {item.mean:>7.1%} {item.median:>7.1%} {item.p90:>7.1%} "
                f"{item.bias:>+7.1%}  {item.worst}"
            )
        for line in section.not_modelled:
            print(f"  not modelled: {line}")
