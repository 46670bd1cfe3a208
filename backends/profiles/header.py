"""The description above the table of a profile: ``# key: value ; key: value``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from h4hc.backends.problems import nearest
from h4hc.backends.profiles.columns import MOST_TEXT, number
from h4hc.backends.profiles.table import ENERGIES, VERSION, ProfileMemory
from h4hc.errors import ProfileError

MAX_LINES = 1000
_KEY = re.compile(r"([A-Za-z_]+)\s*:\s*(.*)")
_MEMORY_KEYS = ("name", "bytes", "bw_bytes_per_s", "kind")
_MEMORY_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


@dataclass(slots=True)
class Header:
    """What the description says, by the names of the fields of a profile."""

    values: dict[str, Any] = field(default_factory=dict)
    memories: list[ProfileMemory] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    @property
    def clock(self) -> float | None:
        """Hertz."""
        found: float | None = self.values.get("clock")
        return found

    def fields(self) -> dict[str, Any]:
        """Arguments of a Profile."""
        return {**self.values, "memories": tuple(self.memories), "sources": tuple(self.sources)}


def _positive(text: str) -> float:
    value = number(text)
    if value == 0:
        raise ValueError("must be greater than zero")
    return value


def _signed(text: str) -> float:
    return -number(text[1:]) if text.startswith("-") else number(text)


def _whole(text: str) -> int:
    value = number(text)
    if value != int(value):
        raise ValueError(f"{text} is not a whole number")
    return int(value)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{text[:40]!r} is neither 0 nor 1")
    return text == "1"


def _energy(text: str) -> str:
    if text not in ENERGIES:
        raise ValueError(f"{text[:40]!r} is neither of {', '.join(ENERGIES)}")
    return text


# Key in the file -> field of the profile, and how its text is read.
KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "device": ("device", str),
    "accelerator": ("accelerator", str),
    "config": ("config", str),
    "clock_hz": ("clock", _positive),
    "vdd_v": ("volts", _positive),
    "temp_c": ("celsius", _signed),
    "compiler": ("compiler", str),
    "runtime": ("runtime", str),
    "method": ("method", str),
    "date": ("date", str),
    "repeats": ("repeats", _whole),
    "cold_cache": ("cold_cache", _flag),
    "clock_ref": ("clock_ref", str),
    "energy": ("energy", _energy),
    "macs_per_cycle": ("macs_per_cycle", _positive),
    "note": ("note", str),
}
_NEEDED = ("device", "compiler")


def read_header(lines: list[str], name: str) -> Header:
    """The description in the lines that precede the table."""
    header = Header()
    if len(lines) > MAX_LINES:
        raise ProfileError(f"{name}: more than {MAX_LINES} lines of description", code="bad-profile")
    if not lines or not re.match(r"#\s*h4hc-profile:", lines[0]):
        raise ProfileError(
            f"{name} line 1: is not an h4hc profile",
            code="bad-profile",
            hint=f"the first line must be '# h4hc-profile: {VERSION}'; h4hc profile import reads other formats",
        )
    for line, text in enumerate(lines, 1):
        try:
            if line == 1:
                _read_version(text)
            elif text:
                _read_line(header, text)
        except ValueError as error:
            raise ProfileError(f"{name} line {line}: {error}", code="bad-profile") from None
    for key in _NEEDED:
        if not header.values.get(key):
            raise ProfileError(
                f"{name}: {key} is missing", code="bad-profile", hint=f"add a line '# {key}: ...' at the top"
            )
    return header


def _read_version(text: str) -> None:
    found = text.partition(":")[2].split()
    if not found or found[0].partition(".")[0] != VERSION:
        raise ValueError(f"version {' '.join(found)[:40]} is not supported; this h4hc reads {VERSION}")


def _read_line(header: Header, text: str) -> None:
    if len(text) > 8 * MOST_TEXT or not text.replace("\t", " ").isprintable():
        raise ValueError("holds control characters or is too long")
    for key, value in _entries(text.lstrip("#").strip()):
        if key == "mem":
            header.memories.append(_memory(value, header))
        elif key == "source":
            header.sources.append(value)
        elif key not in KEYS:
            raise ValueError(f"unknown key {key}; {nearest(key, (*KEYS, 'mem', 'source'), 'keys')}")
        else:
            name, parse = KEYS[key]
            if name in header.values:
                raise ValueError(f"{key} is given twice")
            try:
                header.values[name] = parse(value)
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """(key, value) of each part; a part without a key continues a list of memories."""
    key = ""
    for part in text.split(";"):
        part = part.strip()
        match = _KEY.fullmatch(part)
        if match:
            key = match[1].lower()
            yield key, match[2].strip()
        elif key == "mem" and part:
            yield key, part
        elif part:
            raise ValueError(f"{part[:60]!r} is not 'key: value'; write remarks as 'note: ...'")


def _memory(text: str, header: Header) -> ProfileMemory:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or key not in _MEMORY_KEYS:
            raise ValueError(f"mem: {part.strip()[:60]!r} is none of {', '.join(_MEMORY_KEYS)} with a value")
        pairs[key] = value
    if not _MEMORY_NAME.fullmatch(pairs.get("name", "")):
        raise ValueError("mem: name is missing or no plain word")
    if pairs["name"] in {memory.name for memory in header.memories}:
        raise ValueError(f"mem: {pairs['name']} is there twice")
    return ProfileMemory(
        pairs["name"],
        _whole(pairs["bytes"]) if "bytes" in pairs else None,
        number(pairs["bw_bytes_per_s"]) if "bw_bytes_per_s" in pairs else None,
        pairs.get("kind", ""),
    )
