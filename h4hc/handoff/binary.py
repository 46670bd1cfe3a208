"""schedule.h4hs: the tables as FlatBuffers (`h4hc/firmware/schedule.fbs`), written and read back.

Behind the tables that firmware reads stand two that it can do without: `names`, and the `record`, which has whatever
else schedule.json says. A stripped file lacks both.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h4hc.bundle.store import Document, check_version
from h4hc.bundle.store import encode as encode_json
from h4hc.bundle.texts import RecordTexts, filled
from h4hc.bundle.validate import validate_document
from h4hc.errors import BundleError
from h4hc.handoff import layout
from h4hc.handoff.check import check_tables
from h4hc.handoff.layout import FORMATS, NAMES, ROWS, VECTORS, Header, Lifetime, Names, Tables
from h4hc.handoff.patch import difference, merge
from h4hc.handoff.reader import Reader
from h4hc.handoff.restore import restore
from h4hc.handoff.tables import build_tables

if TYPE_CHECKING:
    from flatbuffers import Builder

IDENTIFIER = b"H4HS"
HEADER_SLOT = 0
NAMES_SLOT, RECORD_SLOT = len(VECTORS) + 1, len(VECTORS) + 2
MAX_BYTES = 2**31 - 1
CRC = slice(0, 4)  # of the header
SIZE = slice(44, 48)


@dataclass(frozen=True, slots=True)
class Record:
    """What firmware can do without: names, lifetimes of buffers, and all else that schedule.json says."""

    names: Names
    lifetimes: tuple[Lifetime, ...]
    details: str  # a difference (`h4hc.handoff.patch`) as JSON


def encode(document: Document) -> bytes:
    """schedule.h4hs of a valid document, with everything that schedule.json says."""
    return encode_tables(document, *build_tables(document))


def encode_tables(
    document: Document, tables: Tables, names: Names, texts: RecordTexts | None = None
) -> bytes:
    """schedule.h4hs of a document and its tables; `texts` has those of its records, if other files take them as well."""
    lifetimes = tuple(Lifetime(buffer["start"], buffer["end"]) for buffer in document["buffers"])
    details = _details(document, restore(tables, names, lifetimes), texts or RecordTexts(encode_json))
    return write_binary(tables, Record(names, lifetimes, details))


def _details(document: Document, known: Document, texts: RecordTexts) -> str:
    """The difference of the two as JSON, where each operator has costs and a known one none."""
    operators = [{**operator, "costs": 0} for operator in document["operators"]]
    text = encode_json(difference({**document, "operators": operators}, known))
    # Objects that stand before the operators have no costs, nor have other parts of an operator.
    values = [f'"costs":{{"=":{texts.row(operator["costs"])}}}' for operator in document["operators"]]
    return filled(text, '"costs":{"=":0}', values)


def write_binary(tables: Tables, record: Record | None) -> bytes:
    """The file that holds `tables`, and `record` if there is one."""
    from flatbuffers import Builder

    builder = Builder(1 << 16)
    try:
        slots = _record(builder, record) if record else {}
        for slot, name in enumerate(VECTORS, 1):
            rows = getattr(tables, name)
            if rows:
                slots[slot] = _rows(builder, ROWS[name], rows)
        builder.StartObject(RECORD_SLOT + 1)
        for slot, place in slots.items():
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
        _push(builder, 8, FORMATS[Header].pack(*tables.header._replace(crc32=0, size=0)))
        builder.PrependStructSlot(HEADER_SLOT, builder.Offset(), 0)
        builder.Finish(builder.EndObject(), IDENTIFIER)
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise BundleError(
            f"the schedule does not fit the binary format: {error}",
            code="schedule-too-large",
            hint="use schedule.json",
        ) from None
    return _signed(builder.Output())


def _record(builder: Builder, record: Record) -> dict[int, int]:
    """Write the two tables that can be stripped; their slots in the root."""
    details = builder.CreateString(record.details)
    lifetimes = _rows(builder, Lifetime, record.lifetimes)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, lifetimes, 0)
    builder.PrependUOffsetTRelativeSlot(1, details, 0)
    slots = {RECORD_SLOT: builder.EndObject()}
    places = [_strings(builder, getattr(record.names, name)) for name in NAMES]
    builder.StartObject(len(places))
    for slot, place in enumerate(places):
        builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    slots[NAMES_SLOT] = builder.EndObject()
    return slots


def _strings(builder: Builder, value: str | Sequence[str]) -> int:
    """A text, or a vector of texts: the bytes that Builder.CreateString gives one by one, all at once."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    blocks, places = [], []
    used = int(builder.Offset())
    for item in value:
        content = item.encode()
        end = b"\0" * (1 + -(used + len(content) + 1) % 4)
        blocks.append(len(content).to_bytes(4, "little") + content + end)
        used += len(blocks[-1])
        places.append(used)
    _push(builder, 1, b"".join(reversed(blocks)))
    count = len(places)
    builder.StartVector(4, count, 4)
    start = builder.Offset() + 4 * count
    _place(builder, struct.pack(f"<{count}I", *[start - 4 * i - place for i, place in enumerate(places)]))
    return int(builder.EndVector())


def _rows(builder: Builder, kind: type, rows: Sequence[Any]) -> int:
    """A vector of structs or of 32-bit integers."""
    if kind is int:
        size, data = 4, struct.pack(f"<{len(rows)}I", *rows)
    else:
        packed = FORMATS[kind]
        size, data = packed.size, b"".join([packed.pack(*row) for row in rows])
    builder.StartVector(size, len(rows), 8 if size % 8 == 0 else 4)
    _place(builder, data)
    return int(builder.EndVector())


def _push(builder: Builder, align: int, data: bytes) -> None:
    builder.Prep(align, len(data))
    _place(builder, data)


def _place(builder: Builder, data: bytes) -> None:
    """Put bytes in front of what is there, as Builder.CreateByteVector does; the builder has made room."""
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data


def _signed(data: bytearray) -> bytes:
    """`data` with size and checksum in its header."""
    if len(data) > MAX_BYTES:
        raise BundleError(
            f"the schedule takes {len(data)} bytes, more than the binary format holds",
            code="schedule-too-large",
            hint="use schedule.json",
        )
    at = Reader(data).root().place(HEADER_SLOT)
    data[at + SIZE.start : at + SIZE.stop] = len(data).to_bytes(4, "little")
    data[at + CRC.start : at + CRC.stop] = zlib.crc32(data).to_bytes(4, "little")
    return bytes(data)


def decode(data: bytes) -> Document:
    """schedule.json of a file that is not stripped. Refuses one whose tables are not those of its record."""
    tables, record = read_binary(data)
    if record is None:
        raise BundleError(
            "is stripped: the names and costs of schedule.json are not in it",
            code="stripped-schedule",
            hint="use the unstripped schedule.h4hs of the bundle",
        )
    try:
        known = restore(tables, record.names, record.lifetimes)
        document: Document = merge(known, json.loads(record.details))
    except (ValueError, IndexError, RecursionError) as error:
        raise _contradiction(str(error)) from None
    check_version("its record", document)
    validate_document(document, "its record")
    # What a version writes for a document is part of the version, waits included (a golden file holds it to that).
    if tables.header.minor == layout.MINOR and encode(document) != data:
        raise _contradiction("waits or orders were changed")
    return document


def _contradiction(detail: str) -> BundleError:
    return BundleError(
        f"the tables are not those of the schedule in the file's record: {detail}",
        code="malformed-schedule",
        hint="compile the model again",
    )


def strip(data: bytes) -> bytes:
    """The file without what firmware can do without."""
    return write_binary(read_binary(data)[0], None)


def read_binary(data: bytes) -> tuple[Tables, Record | None]:
    """The tables of a file, and its record unless it is stripped. Raises BundleError for anything else than such a file."""
    if data[4:8] != IDENTIFIER:
        raise BundleError("is not a binary schedule", code="malformed-schedule", hint="give a schedule.h4hs")
    try:
        root = Reader(data).root()
        at = root.place(HEADER_SLOT)
        header = Header(*FORMATS[Header].unpack_from(data, at))
        _check_header(header, data, at)
        vectors: dict[str, Any] = {
            name: root.integers(slot)
            if ROWS[name] is int
            else root.structs(slot, ROWS[name], FORMATS[ROWS[name]])
            for slot, name in enumerate(VECTORS, 1)
        }
        tables = Tables(header=header._replace(crc32=0, size=0), **vectors)
        record = _read_record(root) if root.has(RECORD_SLOT) else None
    except (struct.error, IndexError, ValueError) as error:
        raise BundleError(
            f"an offset points outside the file: {error}",
            code="malformed-schedule",
            hint="compile the model again",
        ) from None
    check_tables(tables)
    return tables, record


def _check_header(header: Header, data: bytes, at: int) -> None:
    if header.major != layout.MAJOR or header.min_reader > layout.MINOR:
        needed = f"{header.major}.{header.min_reader}"
        raise BundleError(
            f"needs a reader of format {needed}; this h4hc reads {layout.MAJOR}.{layout.MINOR}",
            code="newer-schedule",
            hint="install a newer h4hc",
        )
    if header.features & ~layout.FEATURES:
        raise BundleError(
            f"uses features that this h4hc does not know: {header.features & ~layout.FEATURES:#x}",
            code="newer-schedule",
            hint="install a newer h4hc",
        )
    if header.size != len(data):
        raise BundleError(
            f"has {len(data)} bytes, it says {header.size}", code="truncated-schedule", hint="copy it again"
        )
    checked = bytearray(data)
    checked[at + CRC.start : at + CRC.stop] = bytes(4)
    if zlib.crc32(checked) != header.crc32:
        raise BundleError(
            f"the checksum is {zlib.crc32(checked):08x}, it says {header.crc32:08x}",
            code="bad-checksum",
            hint="the file is damaged: copy it again or compile the model again",
        )


def _read_record(root: Reader) -> Record:
    names, record = root.table(NAMES_SLOT), root.table(RECORD_SLOT)
    values: dict[str, Any] = {
        name: names.text(slot) if name == "model" else names.texts(slot) for slot, name in enumerate(NAMES)
    }
    return Record(Names(**values), record.structs(0, Lifetime, FORMATS[Lifetime]), record.text(1))
