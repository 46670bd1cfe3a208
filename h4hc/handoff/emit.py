"""What a bundle holds for firmware."""

from __future__ import annotations

from h4hc.bundle.store import Document
from h4hc.bundle.texts import RecordTexts
from h4hc.handoff.binary import encode_tables
from h4hc.handoff.ctables import HEADER, c_tables
from h4hc.handoff.tables import build_tables

BINARY = "schedule.h4hs"


def firmware_files(document: Document, texts: RecordTexts | None = None) -> dict[str, bytes]:
    """schedule.h4hs and h4hc_schedule.h of a valid document; `texts` as in `encode_tables`."""
    tables, names = build_tables(document)
    return {
        BINARY: encode_tables(document, tables, names, texts),
        HEADER: c_tables(tables, names).encode(),
    }
