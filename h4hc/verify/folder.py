"""Reading a bundle folder that may be damaged or hostile: nothing outside it is touched."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from h4hc.errors import BundleError
from h4hc.verify.decode import decode
from h4hc.verify.document import Document
from h4hc.verify.fields import HINT, Fields, parse_json

if TYPE_CHECKING:
    from onnx import ModelProto

SCHEDULE = "schedule.json"
MANIFEST = "manifest.json"
PARTITIONED = "partitioned.onnx"
INDEX = "subgraphs/index.json"

MAX_JSON = 512 * 2**20
MAX_MODEL = 2 * 2**30  # protobuf's own limit
MAX_FILES = 100_000


@dataclass(frozen=True, slots=True)
class Segment:
    """One model of the chain in subgraphs/. `path` is relative to the bundle."""

    path: str
    device: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """subgraphs/index.json: the models in execution order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """manifest.json: the hash of the model, and hash and size of every file by its path."""

    model_sha256: str
    files: dict[str, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that the checker reads, but the weights."""

    folder: Path
    manifest: Manifest
    document: Document
    chain: Chain
    partitioned: ModelProto


def open_bundle(folder: Path) -> Bundle:
    """Read the bundle in `folder`; raises BundleError, one line, if that is not possible."""
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no such folder",
            code="bundle-missing",
            hint="give the folder that `h4hc compile -o` wrote",
        )
    return Bundle(
        folder=folder,
        manifest=_manifest(parse_json(read_bytes(folder, MANIFEST, MAX_JSON), MANIFEST)),
        document=decode(parse_json(read_bytes(folder, SCHEDULE, MAX_JSON), SCHEDULE)),
        chain=decode_chain(parse_json(read_bytes(folder, INDEX, MAX_JSON), INDEX)),
        partitioned=read_model(folder, PARTITIONED),
    )


def inner_path(folder: Path, path: str) -> Path:
    """The regular file at `path` inside `folder`; no absolute path, no ``..``, no link leads out."""
    parts = PurePosixPath(path)
    hostile = parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path or not parts.parts
    if hostile or len(path) > 1024:
        raise BundleError(
            f"{folder}: the path {path[:80]!r} leads out of the bundle", code="bundle-path", hint=HINT
        )
    found = folder.joinpath(*parts.parts)
    try:
        status = found.lstat()
        confined = found.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        raise BundleError(f"{folder}: no file {path!r}", code="bundle-missing", hint=HINT) from None
    if not stat.S_ISREG(status.st_mode) or not confined:
        raise BundleError(
            f"{folder}: {path!r} is not a regular file of the bundle", code="bundle-path", hint=HINT
        )
    return found


def read_bytes(folder: Path, path: str, limit: int) -> bytes:
    """The contents of the file at `path`, which may hold at most `limit` bytes."""
    found = inner_path(folder, path)
    size = found.stat().st_size
    if size > limit:
        raise BundleError(f"{found}: {size} bytes, more than the limit of {limit}", code="bundle-limit")
    try:
        return found.read_bytes()
    except OSError as error:
        raise BundleError(f"{found}: cannot be read: {error.strerror}", code="bundle-unreadable") from None


def read_model(folder: Path, path: str) -> ModelProto:
    """The ONNX model at `path`, without external data."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(read_bytes(folder, path, MAX_MODEL))
    except DecodeError:
        raise BundleError(f"{folder / path}: not an ONNX model", code="bundle-model", hint=HINT) from None
    if not model.HasField("graph"):
        raise BundleError(f"{folder / path}: the ONNX model has no graph", code="bundle-model", hint=HINT)
    if not all(isinstance(name, str) for name in _names(model)):
        raise BundleError(
            f"{folder / path}: a name in the ONNX model is not UTF-8", code="bundle-model", hint=HINT
        )
    return model


def _names(model: ModelProto) -> Iterator[object]:
    """Every name in the model; protobuf hands out bytes for one that is not UTF-8."""
    graph = model.graph
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (info.name for info in (*graph.input, *graph.output, *graph.value_info))
    yield from (entry.domain for entry in model.opset_import)
    for configuration in model.configuration:
        yield configuration.name
        yield from configuration.device
    for function in model.functions:
        yield from (function.domain, function.name, function.overload)
        yield from (*function.input, *function.output, *function.attribute)
    for nodes in (graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)
            yield from (text for entry in node.metadata_props for text in (entry.key, entry.value))
            yield from (entry.configuration_id for entry in node.device_configurations)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(value: object) -> Manifest:
    top = Fields(value, MANIFEST)
    files = top.table("files", _fingerprint)
    if len(files) > MAX_FILES:
        raise BundleError(f"{MANIFEST}: more than {MAX_FILES} files", code="bundle-limit")
    return Manifest(Fields(top.get("model"), f"{MANIFEST}.model").text("sha256"), files)


def _fingerprint(value: object, where: str) -> tuple[str, int]:
    fields = Fields(value, where)
    return fields.text("sha256"), fields.natural("size")


def decode_chain(value: object) -> Chain:
    """The parsed subgraphs/index.json."""
    top = Fields(value, INDEX)
    segments = top.objects("files", _segment)
    return Chain(top.texts("inputs"), top.texts("outputs"), segments)


def _segment(fields: Fields) -> Segment:
    return Segment(
        path=f"subgraphs/{fields.text('file')}",
        device=fields.text("device"),
        inputs=fields.texts("inputs"),
        outputs=fields.texts("outputs"),
        operators=fields.texts("operators"),
    )
