"""Strict JSON, read field by field: whatever is wrong is one line that names the place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from h4hc.errors import BundleError

MAX_INTEGER = 2**63
HINT = "write the bundle again with `h4hc compile`"

T = TypeVar("T")


def parse_json(text: bytes, where: str) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no repeated keys."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise BundleError(f"{where}: nested too deeply", code="bundle-json", hint=HINT) from None
    except ValueError as error:
        raise BundleError(f"{where}: not valid JSON: {error}", code="bundle-json", hint=HINT) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {repeated!r} appears twice")
    return result


class Fields:
    """A JSON object whose members are read by type."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            wrong(where, "an object", value)
        self.members: dict[str, Any] = value
        self.where = where

    def get(self, key: str) -> Any:
        """The member `key`, which must be there."""
        if key not in self.members:
            raise BundleError(f"{self.where}: no field {key!r}", code="bundle-field", hint=HINT)
        return self.members[key]

    def place(self, key: str) -> str:
        """How messages name the member `key`."""
        return f"{self.where}.{key}"

    def text(self, key: str) -> str:
        """A string."""
        return read_text(self.get(key), self.place(key))

    def optional_text(self, key: str) -> str:
        """A string, empty for null."""
        value = self.get(key)
        return "" if value is None else read_text(value, self.place(key))

    def integer(self, key: str) -> int:
        """An integer of 64 bits."""
        return read_integer(self.get(key), self.place(key))

    def natural(self, key: str) -> int:
        """An integer, zero or more."""
        return read_natural(self.get(key), self.place(key))

    def number(self, key: str) -> float:
        """A finite number."""
        return read_number(self.get(key), self.place(key))

    def positive(self, key: str) -> float:
        """A finite number above zero."""
        value = self.number(key)
        if value <= 0:
            wrong(self.place(key), "a positive number", value)
        return value

    def optional_number(self, key: str) -> float | None:
        """A finite number, or None for null."""
        return None if self.get(key) is None else self.number(key)

    def optional_flag(self, key: str) -> bool | None:
        """A boolean, or None for null."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            wrong(self.place(key), "true, false or null", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        return self.array(key, read_text)

    def naturals(self, key: str) -> tuple[int, ...]:
        """A list of integers, zero or more."""
        return self.array(key, read_natural)

    def array(self, key: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        """A list whose items `read` turns into records."""
        value, place = self.get(key), self.place(key)
        if not isinstance(value, list):
            wrong(place, "a list", value)
        return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))

    def objects(self, key: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of objects."""
        return self.array(key, lambda value, where: read(Fields(value, where)))

    def table(self, key: str, read: Callable[[Any, str], T]) -> dict[str, T]:
        """An object used as a dictionary."""
        fields = Fields(self.get(key), self.place(key))
        return {name: read(value, f"{fields.where}[{name!r}]") for name, value in fields.members.items()}


def read_text(value: Any, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        wrong(where, "a string", value)
    return value


def read_integer(value: Any, where: str) -> int:
    """An integer of 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool):
        wrong(where, "an integer", value)
    if abs(value) >= MAX_INTEGER:
        wrong(where, "an integer of 64 bits", value)
    return value


def read_natural(value: Any, where: str) -> int:
    """An integer, zero or more."""
    number = read_integer(value, where)
    if number < 0:
        wrong(where, "zero or more", value)
    return number


def read_naturals(value: Any, where: str) -> tuple[int, ...]:
    """A list of integers, zero or more."""
    if not isinstance(value, list):
        wrong(where, "a list", value)
    return tuple(read_natural(item, f"{where}[{index}]") for index, item in enumerate(value))


def read_number(value: Any, where: str) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        wrong(where, "a number", value)
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        wrong(where, "a number of 64 bits", value)
    if not math.isfinite(value):
        wrong(where, "a finite number", value)
    return float(value)


def wrong(where: str, expected: str, value: object) -> NoReturn:
    """Refuse `value` at `where`."""
    found = (
        "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)[:40]
    )
    raise BundleError(f"{where}: expected {expected}, found {found}", code="bundle-field", hint=HINT)
