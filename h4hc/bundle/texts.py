"""JSON texts that several files of a bundle hold, made once.

Most of schedule.json, of its binary record and of the report's data are the costs of operators, and operators with equal
kernels share one record of them. The report has the buffers as schedule.json has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from h4hc.bundle.store import Document

Encode = Callable[[Any], str]  # JSON with sorted keys and without spaces


class RecordTexts:
    """Records of a document as JSON, by the record itself: one that is there twice is encoded once.

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
        return with_texts(operator, {"costs": self.row(operator["costs"])}, self._encode)

    def _device(self, entry: Document) -> str:
        if "refused" in entry:
            return self._encode(entry)
        return object_text({mode: self.record(cost) for mode, cost in entry.items()}, self._encode)

    def record(self, record: Document) -> str:
        """One cost, or another record that several files hold."""
        text = self._known.get(id(record))
        if text is None:
            text = self._known[id(record)] = self._encode(record)
        return text


def object_text(values: Mapping[str, str], encode: Encode) -> str:
    """The object whose `values` are JSON already."""
    return "{" + ",".join([f"{encode(name)}:{values[name]}" for name in sorted(values)]) + "}"


def with_texts(fields: Document, values: Mapping[str, str], encode: Encode) -> str:
    """The object of `fields` and of `values`, which are JSON already and replace fields of the same names.

    Fields whose names come before one of `values` must hold no object with a field of that name.
    """
    text = encode({**fields, **dict.fromkeys(values, 0)})
    # The last comes first: nothing but fields is in front of it. Inside a text the quotes would have backslashes.
    for name in sorted(values, reverse=True):
        quoted = encode(name)
        text = text.replace(f"{quoted}:0", f"{quoted}:{values[name]}", 1)
    return text


def filled(text: str, gap: str, values: Sequence[str]) -> str:
    """JSON `text` with `values` in place of the first `gap`s."""
    parts = text.split(gap, len(values))
    return "".join([piece for pair in zip(parts, (*values, ""), strict=True) for piece in pair])
