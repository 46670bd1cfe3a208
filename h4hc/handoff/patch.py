"""What a JSON value has beyond another one, and putting it back.

`merge(known, difference(actual, known)) == actual`, types of numbers included. A difference is None (nothing) or
{"=": value} (something else instead), {"+": {key: difference}, "-": [keys that go]} or {"@": [difference of each item]}.
"""

from __future__ import annotations

from typing import Any

Json = Any
_PLAIN = frozenset((int, str, float, bool, type(None)))
_ABSENT = object()


def difference(actual: Json, known: Json) -> Json:
    """What turns `known` into `actual`."""
    if type(actual) is not type(known):
        return {"=": actual}
    if isinstance(actual, dict):
        return _dict_difference(actual, known)
    if isinstance(actual, list):
        return _list_difference(actual, known)
    return None if actual == known else {"=": actual}


def _dict_difference(actual: dict[str, Json], known: dict[str, Json]) -> Json:
    added: dict[str, Json] = {}
    unknown = 0
    for key, value in actual.items():
        other = known.get(key, _ABSENT)
        if other is _ABSENT:
            added[key] = {"=": value}
            unknown += 1
        elif value is not other and (
            type(value) not in _PLAIN or type(value) is not type(other) or value != other
        ):
            change = difference(value, other)
            if change is not None:
                added[key] = change
    changes: dict[str, Json] = {"+": added} if added else {}
    if len(actual) - unknown < len(known):
        changes["-"] = sorted(known.keys() - actual.keys())
    return changes or None


def _list_difference(actual: list[Json], known: list[Json]) -> Json:
    if len(actual) != len(known):
        return {"=": actual}
    if not actual or _same(actual, known):
        return None
    changes = [difference(one, other) for one, other in zip(actual, known, strict=True)]
    return {"@": changes} if any(change is not None for change in changes) else None


def _same(actual: list[Json], known: list[Json]) -> bool:
    """Whether both are the same numbers and texts; False where that takes a closer look."""
    if actual != known:
        return False
    for one, other in zip(actual, known, strict=True):  # noqa: SIM110  # most lists are too short for all(...)
        if type(one) is not type(other) or type(one) not in _PLAIN:
            return False
    return True


def merge(known: Json, change: Json) -> Json:
    """`known` with `change` applied. Raises ValueError where they do not fit."""
    if change is None:
        return known
    match change:
        case {"=": value, **rest} if not rest:
            return value
        case {"@": [*changes], **rest} if not rest and isinstance(known, list) and len(changes) == len(known):
            return [merge(item, part) for item, part in zip(known, changes, strict=True)]
        case {**parts} if parts.keys() <= {"+", "-"} and isinstance(known, dict):
            added, gone = parts.get("+", {}), parts.get("-", [])
            if isinstance(added, dict) and isinstance(gone, list):
                result = {key: value for key, value in known.items() if key not in gone}
                return result | {key: merge(known.get(key), part) for key, part in added.items()}
    raise ValueError("the record does not fit the tables")
