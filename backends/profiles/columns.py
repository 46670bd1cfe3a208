"""The columns of a profile and how their texts are read and written."""

from __future__ import annotations

import re
from decimal import Decimal

from h4hc.backends.profiles.kernels import DIMENSIONS, EXTRA, LONGEST

TEXTS = (
    "id", "model", "node_name", "onnx_op", "granularity", "act", "dtype_act", "dtype_wt", "dtype_out", "loc_in",
    "loc_wt", "loc_out", "overlapped_with", "status", "comment", "epilogue", "mode", "baseline",
)  # fmt: skip
COUNTS = (*DIMENSIONS, *EXTRA, "weight_bytes", "weight_bytes_encoded", "macs")
NUMBERS = ("cycles_total", "cycles_active", "cycles_idle", "time_us", "time_us_std", "energy_uj")
TRAFFIC = re.compile(r"(rd|wr)_bytes_([A-Za-z0-9_.+-]{1,64})")

# As they are written; the columns of traffic follow those of energy.
_FIRST = (
    "id", "model", "node_name", "onnx_op", "granularity", *DIMENSIONS, "act", "dtype_act", "dtype_wt", "dtype_out",
    "loc_in", "loc_wt", "loc_out", "weight_bytes", "weight_bytes_encoded", *NUMBERS,
)  # fmt: skip
_LAST = ("overlapped_with", "status", "comment", "epilogue", *EXTRA, "mode", "macs", "baseline")
KNOWN = frozenset((*_FIRST, *_LAST))

MOST_TEXT = 1000
MOST_BYTES = 2**50
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,2})?")
_COUNT = re.compile(r"[0-9]{1,16}(\.0{1,6})?")

Value = int | float | str


def written(memories: list[str]) -> tuple[str, ...]:
    """All columns in order, those of the traffic of `memories` included."""
    traffic = [f"{way}_bytes_{name}" for name in memories for way in ("rd", "wr")]
    return (*_FIRST, *traffic, *_LAST)


def parse(column: str, text: str) -> Value:
    """The value of a cell that is not empty; numbers of micro-units become SI. Raises ValueError."""
    if column in NUMBERS:
        return number(text, 1e-6 if column in ("time_us", "time_us_std", "energy_uj") else 1.0)
    if column in COUNTS or TRAFFIC.fullmatch(column):
        return _count(text, MOST_BYTES if "bytes" in column or column in ("macs", "operations") else LONGEST)
    if not text.isprintable():
        raise ValueError("holds control characters")
    if len(text) > MOST_TEXT:
        raise ValueError(f"is longer than {MOST_TEXT} characters")
    return text


def number(text: str, unit: float = 1.0) -> float:
    """A finite number, zero or more, in units of `unit` (one or a millionth)."""
    if not _NUMBER.fullmatch(text) or len(text) > 40:
        raise ValueError(f"{_shown(text)} is not a plain number of zero or more")
    value = float(Decimal(text) * (1 if unit == 1.0 else Decimal("1e-6")))
    if value > 1e18:
        raise ValueError(f"{_shown(text)} is too large")
    return value


def micro(value: float) -> str:
    """`value` in millionths, exactly: reading it gives the same float."""
    return plain(Decimal(repr(value)) * 1_000_000)


def plain(value: float | Decimal) -> str:
    """A number in the shortest form that reads back the same."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    return f"{exact.normalize():f}" if -12 < exact.adjusted() < 16 else f"{exact.normalize():e}"


def _count(text: str, most: int) -> int:
    if not _COUNT.fullmatch(text):
        raise ValueError(f"{_shown(text)} is not a whole number of zero or more")
    value = int(text.partition(".")[0])
    if value > most:
        raise ValueError(f"{_shown(text)} is too large")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
