"""Tables and paragraphs that fit the terminal: long cells are shortened, never broken over lines.

Small, because every `h4hc compile` prints some: a library for terminals takes longer to import than to print them.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import click

GAP = 2  # columns between two cells
LEAST = 12  # columns that a shortened cell keeps
ENOUGH = 20  # columns down to which cells are shortened before whole columns are left out
_SHORTEST = 3  # letters that are worth keeping of an end of a name
_GLUE = "\u00a0"  # where a paragraph is not broken


class Fit(Enum):
    """How the cells of a column are aligned, and what gives way where a table is too wide."""

    NUMBER = "to the right; never shortened"
    TEXT = "to the left; never shortened"
    NAME = "to the left; shortened in the middle"
    LIST = "to the left; what stands behind a comma is left out"
    PROSE = "to the left; broken into lines"


class Column(NamedTuple):
    """A column of a table; a `spare` one is left out where the table is too wide."""

    heading: str
    fit: Fit = Fit.NUMBER
    spare: bool = False

    @property
    def elastic(self) -> bool:
        """Whether its cells can be shortened."""
        return self.fit in (Fit.NAME, Fit.LIST, Fit.PROSE)


def terminal_width() -> int:
    """The columns of the terminal, or of COLUMNS; 80 where there is none."""
    return shutil.get_terminal_size().columns


def echo(text: str) -> None:
    """Print with colours where the terminal has some and nobody objects (https://no-color.org)."""
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> str:
    """`rows` below the headings of `columns`, in at most `width` columns."""
    kept = list(columns)
    texts = [[row[number] if number < len(row) else "" for row in rows] for number in range(len(kept))]
    widths = [max(map(cells, (column.heading, *given))) for column, given in zip(kept, texts, strict=True)]
    for number in reversed(range(len(kept))):
        if kept[number].spare and _least(widths, kept) > width:
            del kept[number], texts[number], widths[number]
    _narrow(widths, kept, width)
    head, *body = zip(*(_fitted(*every) for every in zip(kept, texts, widths, strict=True)), strict=True)
    lines = [_clipped(line, width) for row in (head, *body) for line in _lines(row, kept, widths)]
    return "\n".join([click.style(lines[0], dim=True), *lines[1:]])


def paragraph(text: str, width: int) -> str:
    """`text` in lines of about the same length: none with a lonely word, none that parts a number from its unit."""
    glued = re.sub(r"(?<=\d) (?=\S)| (?=\d+%)", _GLUE, text)
    lines = _wrapped(glued, width)
    for narrower in range(width - 1, width // 2, -1):
        tried = _wrapped(glued, narrower)
        if len(tried) > len(lines):
            break
        lines = tried
    return "\n".join(lines).replace(_GLUE, " ")


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Every name without its middle where it is wider than `width`; names that differ should still do so."""
    if all(cells(name) <= width for name in names):
        return list(names)
    heads = sorted(range(_SHORTEST, width - _SHORTEST), key=lambda head: abs(head - width * 2 // 5))
    tried = [[_without_middle(name, head, width) for name in names] for head in (*heads, 0)]
    return max(tried, key=lambda each: len(set(each)))


def _without_middle(name: str, head: int, width: int) -> str:
    """`name` with its first `head` letters and as much of its end as fits."""
    if cells(name) <= width:
        return name
    tail = width - 1 - head
    while tail and cells(name[:head]) + 1 + cells(name[-tail:]) > width:  # wide characters
        tail -= 1
    return f"{name[:head]}…{name[-tail:] if tail else ''}"


def cells(text: str) -> int:
    """The columns that `text` takes on a terminal; colours take none."""
    text = click.unstyle(text)
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _least(widths: list[int], kept: list[Column]) -> int:
    """The columns of a table whose cells are shortened a little."""
    return _total(
        [
            min(width, max(ENOUGH, cells(column.heading))) if column.elastic else width
            for width, column in zip(widths, kept, strict=True)
        ]
    )


def _narrow(widths: list[int], kept: list[Column], width: int) -> None:
    """Take from the widest cells that can be shortened until all fit."""
    while _total(widths) > width:
        elastic = [n for n, column in enumerate(kept) if column.elastic and widths[n] > LEAST]
        if not elastic:
            return
        widths[max(elastic, key=lambda number: (widths[number], number))] -= 1


def _fitted(column: Column, texts: list[str], width: int) -> list[list[str]]:
    """The heading and the cells of a column, each as lines of at most `width` columns."""
    heading = shortened([column.heading], width)
    if column.fit is Fit.NAME:
        texts = shortened(texts, width)
    elif column.fit is Fit.LIST:
        texts = [_cut(text, width) for text in texts]
    elif column.fit is Fit.PROSE:
        return [heading, *(paragraph(text, width).splitlines() or [""] for text in texts)]
    return [heading, *([text] for text in texts)]


def _cut(text: str, width: int) -> str:
    """A list without the last of its items where they do not fit."""
    while cells(text) > width and ", " in text:
        text = text.rpartition(", ")[0]
    return text


def _clipped(line: str, width: int) -> str:
    """A line that no shortening made fit, as far as there is room."""
    if cells(line) <= width:
        return line
    line = click.unstyle(line)
    while line and cells(line) >= width:
        line = line[:-1]
    return f"{line}…"


def _lines(row: Sequence[list[str]], kept: list[Column], widths: list[int]) -> list[str]:
    """One row: as many lines as its highest cell."""
    lines = []
    for number in range(max(map(len, row))):
        line = ""
        for cell, column, width in zip(row, kept, widths, strict=True):
            text = cell[number] if number < len(cell) else ""
            pad = " " * (width - cells(text))
            line += (pad + text if column.fit is Fit.NUMBER else text + pad) + " " * GAP
        lines.append(line.rstrip())
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
