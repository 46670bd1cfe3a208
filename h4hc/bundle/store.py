"""schedule.json on disk: written one record per line, read back with a version check."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.errors import BundleError

if TYPE_CHECKING:
    from h4hc.bundle.texts import RecordTexts

Document = dict[str, Any]

SCHEMA_VERSION = "1.0"
SCHEDULE = "schedule.json"
MAX_BYTES = 2**30
ONE_RECORD_PER_LINE = frozenset(
    ("buffers", "devices", "links", "memories", "operators", "queues", "roots", "tasks", "tensors")
)


def json_encoder(allow_nan: bool) -> Callable[[Any], str]:
    """JSON with sorted keys and without spaces, of values that do not contain themselves."""
    plain = json.JSONEncoder(
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=allow_nan,
        check_circular=False,
    )
    made = getattr(json.encoder, "c_make_encoder", None)
    if made is None:
        return plain.encode
    # What plain.encode makes anew for every value: that takes longer than to encode a short record.
    text = json.encoder.encode_basestring
    chunks = made(None, plain.default, text, None, ":", ",", True, False, allow_nan)

    def encode(value: Any) -> str:
        return text(value) if type(value) is str else "".join(chunks(value, 0))

    return encode


encode = json_encoder(allow_nan=False)


def dump_document(document: Document, texts: RecordTexts | None = None) -> str:
    """The document as JSON with sorted keys and one record per line, so that two schedules can be diffed.

    `texts` has the texts of records, if other files take them as well.
    """
    fields = [f"{encode(key)}:{_dump_field(key, document[key], texts)}" for key in sorted(document)]
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _dump_field(key: str, value: Any, texts: RecordTexts | None) -> str:
    if key not in ONE_RECORD_PER_LINE or not value:
        return encode(value)
    if isinstance(value, dict):
        lines = [f"{encode(name)}:{encode(value[name])}" for name in sorted(value)]
        return "{\n" + ",\n".join(lines) + "\n}"
    if key == "operators" and texts is not None:
        return "[\n" + ",\n".join(map(texts.operator, value)) + "\n]"
    if key == "buffers" and texts is not None:
        return "[\n" + ",\n".join(map(texts.record, value)) + "\n]"
    return "[\n" + ",\n".join(map(encode, value)) + "\n]"


def indented(value: Any, step: int, depth: int = 0) -> str:
    """What json.dumps gives with `indent=step` and sorted keys, at a multiple of its speed."""
    if isinstance(value, dict) and value:
        lines = [f"{encode(key)}: {indented(value[key], step, depth + 1)}" for key in sorted(value)]
        start, end = "{}"
    elif isinstance(value, list | tuple) and value:
        inside = depth + 1
        lines = [encode(i) if isinstance(i, str) else indented(i, step, inside) for i in value]
        start, end = "[]"
    else:
        return encode(value)
    margin = "\n" + " " * (step * depth)
    inner = margin + " " * step
    return f"{start}{inner}{f',{inner}'.join(lines)}{margin}{end}"


def read_file(path: Path) -> bytes:
    """The content of a regular file of a sane size. Raises OSError, also for a FIFO, which would never end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_BYTES} bytes", str(path))
    return path.read_bytes()


def load_document(folder: Path) -> Document:
    """The schedule of the bundle in `folder`; refuses one of a newer major version."""
    path = Path(folder) / SCHEDULE
    try:
        return parse_document(read_file(path), path)
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: there is no {SCHEDULE}",
            code="no-schedule",
            hint="give the folder that h4hc compile wrote",
        ) from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}", code="unreadable-schedule") from None


def parse_document(data: bytes, path: Path | str) -> Document:
    """The schedule in `data`, which comes from `path`; refuses one of a newer major version."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{path}: is not JSON: {error}", code="malformed-schedule", hint="compile the model again"
        ) from None
    check_version(path, document)
    return document  # type: ignore[no-any-return]  # check_version refuses all but objects


def check_version(path: Path | str, document: Any) -> None:
    """Refuse a document of a newer major version, and what is none; `path` is where it comes from."""
    version = document.get("schema_version") if isinstance(document, dict) else None
    major = version.split(".")[0] if isinstance(version, str) else ""
    if not major.isdecimal():
        raise BundleError(
            f"{path}: has no schema_version", code="malformed-schedule", hint="compile the model again"
        )
    if int(major) > int(SCHEMA_VERSION.split(".", maxsplit=1)[0]):
        raise BundleError(
            f"{path}: has schema version {version}; this h4hc reads up to {SCHEMA_VERSION}",
            code="newer-schedule",
            hint="install a newer h4hc",
        )
