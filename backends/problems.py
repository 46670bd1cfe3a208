"""Turns what pydantic finds wrong with a file into lines for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

from h4hc.errors import one_line

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def problem_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line ``path: problem`` per problem, in the order of the fields."""
    lines: list[str] = []
    for item in error.errors(include_url=False, include_context=True):
        location = tuple(item["loc"])
        message = item["msg"]
        if item["type"] == "value_error":
            lines += str(item.get("ctx", {}).get("error", message)).splitlines()
        elif item["type"] == "extra_forbidden":
            known = _fields_at(model, location[:-1])
            lines.append(f"{_path(location)}: unknown key; {nearest(str(location[-1]), known, 'keys')}")
        elif item["type"] == "missing":
            lines.append(f"{_path(location)}: is missing; add it")
        else:
            lines.append(f"{_path(location)}: {message[0].lower()}{message[1:]}{_given(item)}")
    return [one_line(line) for line in lines]


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first of the lines, and how many more there are."""
    lines = problem_lines(error, model)
    return lines[0] + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """Advice for a misspelt name: the nearest known one, or all of them."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known {what}: {', '.join(names)}"


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _given(item: Any) -> str:
    """The offending value, if the message does not show it and it is short."""
    value = item["input"]
    shown = repr(value)
    short = isinstance(value, str | int | float | bool) and len(shown) <= 60
    return f" (is {shown})" if short and shown not in item["msg"] else ""


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand at `location` below `model`."""
    current: Any = model
    for part in location:
        if isinstance(part, str):
            field = current.model_fields[part]
            current = field.annotation
        current = _model_in(current) or current
    return [f.alias or n for n, f in current.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside ``tuple[Model, ...]``, ``Model | None`` or ``dict[str, Model]``."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)
