"""JSON texts that several files of a bundle hold, made once.

Most of schedule.json, of its binary record and of the report's data are the costs of operators, and operators with equal
kernels share one record of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from h4hc.bundle.store import Document

Encode = Callable[[Any], str]  # JSON with sorted keys and without spaces


class CostTexts:
    """The costs of operators as JSON, by the record itself: one that is there twice is encoded once.

    For the records of one document, which must outlive it.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._known: dict[int, str] = {}

    def row(self, row: Document) -> str:
        """The costs of an operator by device and mode."""
        text = self._known.get(id(row))
        if text is None:
            text = object_text({name: self._device(entry) for name, entry in row.items()}, self._encode)
            self._known[id(row)] = text
        return text

    def operator(self, operator: Document) -> str:
        """The record of an operator."""
        return with_text(operator, "costs", self.row(operator["costs"]), self._encode)

    def _device(self, entry: Document) -> str:
        if "refused" in entry:
            return self._encode(entry)
        return object_text({mode: self.cost(cost) for mode, cost in entry.items()}, self._encode)

    def cost(self, cost: Document) -> str:
        """One cost."""
        text = self._known.get(id(cost))
        if text is None:
            text = self._known[id(cost)] = self._encode(cost)
        return text


def object_text(values: Mapping[str, str], encode: Encode) -> str:
    """The object whose `values` are JSON already."""
    return "{" + ",".join([f"{encode(name)}:{values[name]}" for name in sorted(values)]) + "}"


def with_text(fields: Document, name: str, value: str, encode: Encode) -> str:
    """The object of `fields` and of `name`, whose `value` is JSON already; `fields` may hold another one, which goes.

    Fields whose names come before `name` must hold no object with a field of that name.
    """
    # Inside a text the quotes would have backslashes in front of them.
    return encode({**fields, name: 0}).replace(f"{encode(name)}:0", f"{encode(name)}:{value}", 1)


def filled(text: str, gap: str, values: Sequence[str]) -> str:
    """JSON `text` with `values` in place of the first `gap`s."""
    parts = text.split(gap, len(values))
    return "".join([piece for pair in zip(parts, (*values, ""), strict=True) for piece in pair])
