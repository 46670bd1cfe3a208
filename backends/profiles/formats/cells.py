"""Reading vendors' CSV files: cells by column, with the line in every message."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from h4hc.backends.profiles.columns import MOST_TEXT, number
from h4hc.backends.profiles.formats import Said
from h4hc.backends.profiles.reader import MAX_ROWS, at, decoded
from h4hc.errors import ProfileError


@dataclass(frozen=True, slots=True)
class Cells:
    """One line of a vendor's file."""

    values: dict[str, str]
    name: str
    line: int

    def text(self, column: str) -> str:
        """The printable text in a column, shortened; empty if there is none."""
        value = self.values.get(column, "").strip()
        return "".join(c if c.isprintable() else "?" for c in value[:MOST_TEXT])

    def number(self, column: str) -> float:
        """A number of zero or more; zero if the cell is empty."""
        text = self.values.get(column, "").strip()
        try:
            return number(text) if text else 0.0
        except ValueError as error:
            raise at(self.name, self.line, f"{column} {error}") from None

    def count(self, column: str) -> int:
        """A whole number of zero or more; zero if the cell is empty."""
        value = self.number(column)
        if value != int(value) or value > 2**50:
            raise at(self.name, self.line, f"{column} {value:g} is not a whole number")
        return int(value)

    def problem(self, text: str, hint: str = "") -> ProfileError:
        """What is wrong with this line."""
        return at(self.name, self.line, text, hint)


def read_cells(data: bytes, name: str) -> Iterator[Cells]:
    """The lines below the heading. Cells beyond the last column belong to it: names with commas are not quoted."""
    reader = csv.reader(io.StringIO(decoded(data, name), newline=""))
    try:
        heading = [cell.strip() for cell in next(reader, [])]
        for index, row in enumerate(reader):
            if index >= MAX_ROWS:
                raise at(name, reader.line_num, f"more than {MAX_ROWS} rows", "split the file")
            if not any(row):
                continue
            if len(row) < len(heading):
                raise at(name, reader.line_num, f"{len(row)} cells where the heading has {len(heading)}")
            last = len(heading) - 1
            cells = [*row[:last], ",".join(row[last:])]
            # Vela heads two columns Network%; only the first of a name counts.
            yield Cells(dict(reversed(list(zip(heading, cells, strict=True)))), name, reader.line_num)
    except csv.Error as error:
        raise at(name, reader.line_num, f"is not valid CSV: {error}") from None


def needed(said: Said, name: str, **found: str | float | None) -> None:
    """Raise ProfileError for what neither the export nor the user says."""
    for what, value in found.items():
        if not value:
            raise ProfileError(
                f"{name}: does not say its {what}",
                code="incomplete-export",
                hint=f"give it with --{what}",
            )
