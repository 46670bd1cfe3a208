"""Reads profiles: strictly, and with the line in every message."""

from __future__ import annotations

import csv
import io
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from h4hc.backends.problems import nearest
from h4hc.backends.profiles import columns
from h4hc.backends.profiles.header import read_header
from h4hc.backends.profiles.kernels import DIMENSIONS, kernel_of
from h4hc.backends.profiles.table import GRANULARITIES, STATUSES, Measurement, Places, Profile
from h4hc.errors import ProfileError

MAX_BYTES = 64 << 20
MAX_ROWS = 200_000
MAX_LINE = 20_000
# Cycles and time of a row must tell the same clock, rounding aside.
_CLOCK_TOLERANCE = 0.05
_ROUNDING_SECONDS = 1e-7

_TEXTS = {
    "model": "model", "node": "node_name", "mode": "mode", "overlapped_with": "overlapped_with", "identifier": "id",
    "baseline": "baseline", "comment": "comment", "onnx_op": "onnx_op",
}  # fmt: skip
_NUMBERS = {
    "cycles": "cycles_total", "cycles_active": "cycles_active", "cycles_idle": "cycles_idle", "macs": "macs",
    "seconds_std": "time_us_std", "weight_bytes": "weight_bytes", "encoded_bytes": "weight_bytes_encoded",
}  # fmt: skip

Cells = Mapping[str, columns.Value]


def read_bytes(path: Path) -> bytes:
    """The content of a regular file of at most `MAX_BYTES`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for a writer
            raise ProfileError(f"{path}: is not a regular file", code="unreadable-profile")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ProfileError(f"{path}: cannot be read: {reason}", code="unreadable-profile") from None
    if len(data) > MAX_BYTES:
        raise ProfileError(
            f"{path}: is larger than {MAX_BYTES >> 20} MiB", code="profile-too-large", hint="split it"
        )
    return data


def parse_profile(data: bytes, name: str) -> Profile:
    """The profile in `data`; `name` is the file's name in messages."""
    text = decoded(data, name)
    comments, table = _split(text)
    header = read_header(comments, name)
    rows: list[Measurement] = []
    for line, cells in _cells(table, len(comments), name, {m.name for m in header.memories}):
        try:
            rows.append(_measurement(cells, line, header.clock))
        except ValueError as error:
            raise at(name, line, str(error)) from None
    profile = Profile(**header.fields(), rows=tuple(rows))
    _check_baselines(profile, name)
    check_peak(profile, name)
    return profile


def decoded(data: bytes, name: str) -> str:
    """`data` as text without a byte-order mark."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProfileError(f"{name}: is not UTF-8 text", code="bad-profile") from None
    if "\0" in text:
        raise ProfileError(f"{name}: holds zero bytes; it is no CSV file", code="bad-profile")
    return text


def at(name: str, line: int, problem: str, hint: str = "") -> ProfileError:
    """A problem on a line of a file."""
    return ProfileError(f"{name} line {line}: {problem}", code="bad-profile", hint=hint)


def check_peak(profile: Profile, name: str) -> None:
    """Refuse rows that are faster than the array can be."""
    peak = profile.peak
    if peak is not None:
        for row in profile.rows:
            check_row_peak(row, peak, name)


def check_row_peak(row: Measurement, macs_per_second: float, name: str) -> None:
    """Refuse a row of 8-bit or wider operands that beats `macs_per_second`; 1 % is for rounding."""
    kernel = row.kernel
    if kernel is None or row.status != "ok" or min(kernel.precision) < 8:
        return
    least = kernel.workload.macs / macs_per_second
    if row.seconds < least * 0.99:
        raise at(
            name,
            row.line,
            f"{row.seconds * 1e6:.4g} us for {kernel.workload.macs} MACs is faster than the device's peak allows"
            f" ({least * 1e6:.4g} us)",
            "check the clock, the shape and the peak of the device",
        )


def _split(text: str) -> tuple[list[str], str]:
    """The lines of the description, and the table behind them.

    Spreadsheets quote lines with commas, and fill lines up with them.
    """
    comments: list[str] = []
    position = 0
    while text.startswith(("#", '"#', "\n", "\r"), position):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end].rstrip("\r,")
        quoted = len(line) > 1 and line[0] == line[-1] == '"'
        comments.append(line[1:-1].replace('""', '"') if quoted else line)
        position = min(end + 1, len(text))
    return comments, text[position:]


def _cells(table: str, before: int, name: str, memories: set[str]) -> Iterator[tuple[int, Cells]]:
    """The rows of a table that starts after `before` lines, with their line numbers, empty cells left out."""
    reader = csv.reader(_lines(table, before, name), strict=True)
    try:
        names = [cell.strip() for cell in next(reader, [])]
        _check_columns(names, name, before + 1, memories)
        for count, cells in enumerate(reader):
            line = before + reader.line_num
            if count >= MAX_ROWS:
                raise at(name, line, f"more than {MAX_ROWS} rows", "split the file")
            if not any(cells):
                continue
            if len(cells) != len(names):
                raise at(
                    name, line, f"{len(cells)} cells where the heading has {len(names)}",
                    "put texts with commas into double quotes",
                )  # fmt: skip
            yield line, _parsed(names, cells, name, line)
    except csv.Error as error:
        raise at(name, before + reader.line_num, f"is not valid CSV: {error}") from None


def _lines(table: str, before: int, name: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(table, newline=""), before + 1):
        if len(line) > MAX_LINE:
            raise at(name, number, f"is longer than {MAX_LINE} characters")
        yield line


def _check_columns(names: list[str], name: str, line: int, memories: set[str]) -> None:
    if not any(names):
        raise at(name, line, "there is no heading with column names", "see docs/profiles.md")
    for column in names:
        if names.count(column) > 1:
            raise at(name, line, f"column {column[:60]} is there twice")
        traffic = columns.TRAFFIC.fullmatch(column)
        if column in columns.KNOWN or (traffic and traffic[2] in memories):
            continue
        if traffic:
            raise at(
                name, line, f"column {column} is of memory {traffic[2]}, which no mem: line describes",
                f"known memories: {', '.join(sorted(memories)) or 'none'}",
            )  # fmt: skip
        hint = (
            "separate columns by commas" if ";" in column else nearest(column, columns.written([]), "columns")
        )
        raise at(name, line, f"unknown column {column[:60]!r}", hint)
    if "onnx_op" not in names:
        raise at(name, line, "column onnx_op is missing")
    if "time_us" not in names and "cycles_total" not in names:
        raise at(name, line, "neither column time_us nor cycles_total is there")


def _parsed(names: list[str], cells: list[str], name: str, line: int) -> Cells:
    found: dict[str, columns.Value] = {}
    for column, cell in zip(names, cells, strict=True):
        text = cell.strip()
        if text:
            try:
                found[column] = columns.parse(column, text)
            except ValueError as error:
                raise at(name, line, f"{column} {error}") from None
    return found


def _measurement(cells: Cells, line: int, clock: float | None) -> Measurement:
    granularity = _choice(cells, "granularity", GRANULARITIES)
    status = _choice(cells, "status", STATUSES)
    texts: dict[str, Any] = {key: str(cells.get(column, "")) for key, column in _TEXTS.items()}
    numbers: dict[str, Any] = {key: cells.get(column) for key, column in _NUMBERS.items()}
    joules = cells.get("energy_uj")
    if joules == 0:
        raise ValueError("energy_uj must be greater than zero; leave it empty where it was not measured")
    kernel = None
    if granularity == "op":
        kernel = kernel_of({key: v for key, v in cells.items() if not isinstance(v, float)})
    return Measurement(
        kernel=kernel,
        seconds=_seconds(cells, clock, status),
        granularity=granularity,
        status=status,
        joules=None if joules is None else float(joules),
        placement=Places(*(str(cells.get(f"loc_{end}", "")) for end in ("in", "wt", "out"))),
        traffic=_traffic(cells),
        shape=() if kernel else tuple((d, int(cells[d])) for d in DIMENSIONS if d in cells),
        dtypes=("", "", "") if kernel else _dtypes(cells),
        line=line,
        **texts,
        **numbers,
    )


def _dtypes(cells: Cells) -> tuple[str, str, str]:
    act, weight, out = (str(cells.get(f"dtype_{end}", "")) for end in ("act", "wt", "out"))
    return act, weight, out


def _choice(cells: Cells, column: str, known: tuple[str, ...]) -> str:
    value = str(cells.get(column, known[0])).lower()
    if value not in known:
        raise ValueError(f"{column} {value[:60]} is unknown; {nearest(value, known, 'values')}")
    return value


def _seconds(cells: Cells, clock: float | None, status: str) -> float:
    """Time as given, else cycles over the clock; both must agree."""
    time, cycles = cells.get("time_us"), cells.get("cycles_total")
    if time is None and cycles is None:
        if status == "ok":
            raise ValueError("neither time_us nor cycles_total is given")
        return 0.0
    if time == 0 or cycles == 0:
        raise ValueError("a time of zero was not measured; leave the cell empty and set status")
    if cycles is None:
        return float(time or 0.0)
    if clock is None:
        raise ValueError("cycles_total needs clock_hz in the description above the table")
    counted = float(cycles) / clock
    if time is None:
        return counted
    seconds = float(time)
    if abs(seconds - counted) > _CLOCK_TOLERANCE * max(seconds, counted) + _ROUNDING_SECONDS:
        raise ValueError(
            f"time_us {seconds * 1e6:.4g} and cycles_total {float(cycles):.6g} do not agree at {clock / 1e6:.6g} MHz"
        )
    return seconds


def _traffic(cells: Cells) -> tuple[tuple[str, int, int], ...]:
    moved: dict[str, list[int]] = {}
    for column, value in cells.items():
        match = columns.TRAFFIC.fullmatch(column)
        if match:
            moved.setdefault(match[2], [0, 0])[match[1] == "wr"] = int(value)
    return tuple((name, read, wrote) for name, (read, wrote) in moved.items())


def _check_baselines(profile: Profile, name: str) -> None:
    lines: dict[str, int] = {}
    wanted = {row.baseline for row in profile.rows if row.baseline}
    for row in profile.rows:
        if row.identifier in wanted:
            if row.identifier in lines:
                raise at(name, row.line, f"id {row.identifier} is also that of line {lines[row.identifier]}")
            lines[row.identifier] = row.line
    for row in profile.rows:
        if row.baseline and (row.baseline not in lines or row.baseline == row.identifier):
            raise at(name, row.line, f"baseline {row.baseline} is not the id of another row")
