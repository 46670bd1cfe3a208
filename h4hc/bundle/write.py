"""The bundle: everything that one compilation leaves behind, in one folder."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from h4hc.bundle.document import build_document, options_record
from h4hc.bundle.folder import replace_folder
from h4hc.bundle.manifest import MANIFEST, Chunk, Fingerprint, build_manifest, dump_manifest, fingerprint
from h4hc.bundle.report import REPORT, render_report
from h4hc.bundle.store import SCHEDULE, SCHEMA_VERSION, Document, dump_document, encode, indented
from h4hc.bundle.texts import RecordTexts
from h4hc.bundle.timing import replay
from h4hc.bundle.trace import build_trace
from h4hc.handoff.emit import firmware_files
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import TICK_SECONDS

FRONT = "front.json"
# Written at once: few enough for any system, and little enough to wait in memory.
PENDING_CHUNKS, PENDING_BYTES = 512, 1 << 20

Chunks = Iterable[Chunk]


def write_bundle(compilation: Compilation, folder: Path, images: bool = True) -> Document:
    """Write the bundle of a finished compilation to `folder`, completely or not at all; what its schedule.json holds.

    Replaces an existing bundle, and nothing else. The same compilation gives the same bytes. `images`: with weights/.
    """

    def fill(temporary: Path) -> None:
        _write_one(compilation, document, temporary, images)

    with _without_collector():
        document = build_document(compilation)
        replace_folder(Path(folder), fill)
    return document


def write_front(compilations: Sequence[Compilation], folder: Path, images: bool = True) -> None:
    """Write a front of schedules of one model to `folder`, completely or not at all.

    Each schedule is a bundle of its own in ``point-0``, ``point-1``, ...; ``front.json`` lists them.
    """

    def fill(temporary: Path) -> None:
        _write_front(compilations, temporary, images)

    with _without_collector():
        replace_folder(Path(folder), fill)


def _write_one(
    compilation: Compilation, document: Document, folder: Path, images: bool
) -> dict[str, Fingerprint]:
    """Write the files of a bundle, the manifest last; what was written, by path."""
    prints = write_files(folder, bundle_files(compilation, document, images))
    manifest = build_manifest(compilation, options_record(compilation.options), prints)
    return prints | write_files(folder, {MANIFEST: _text(dump_manifest(manifest))})


@contextmanager
def _without_collector() -> Iterator[None]:
    """No search for unreachable cycles meanwhile: a bundle is made of many objects, none of which is part of one."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _write_front(compilations: Sequence[Compilation], folder: Path, images: bool) -> None:
    prints: dict[str, Fingerprint] = {}
    points = []
    for number, compilation in enumerate(compilations):
        name = f"point-{number}"
        written = _write_one(compilation, build_document(compilation), folder / name, images)
        prints |= {f"{name}/{path}": found for path, found in written.items()}
        points.append({"folder": name, **point_record(compilation)})
    first = compilations[0]
    front = {
        "schema_version": SCHEMA_VERSION,
        "model": first.source.name,
        "target": first.target.name,
        "points": points,
    }
    prints |= write_files(folder, {FRONT: _text(indented(front, 1) + "\n")})
    manifest = build_manifest(first, options_record(first.options), prints)
    write_files(folder, {MANIFEST: _text(dump_manifest(manifest))})


def point_record(compilation: Compilation) -> Document:
    """Latency, energy and where the work is, in SI units."""
    schedule, placement = compilation.schedule, compilation.placement
    if schedule is None or placement is None:
        raise ValueError("a point of a front needs a schedule")
    devices = [device.name for device in compilation.target.devices]
    return {
        "latency_seconds": schedule.latency * TICK_SECONDS,
        "interval_seconds": schedule.initiation_interval * TICK_SECONDS,
        "energy_joules": schedule.energy * 1e-12,
        "operators": {name: placement.devices.count(name) for name in devices},
        "peak_bytes": {memory.memory: memory.peak for memory in schedule.memories},
    }


def bundle_files(compilation: Compilation, document: Document, images: bool) -> dict[str, Chunks]:
    """Every file of the bundle but the manifest, by its path inside, as chunks of bytes to be read once, in this order."""
    replayed = replay(document)
    texts = RecordTexts(encode)
    files: dict[str, Chunks] = {
        SCHEDULE: _text(dump_document(document, texts)),
        REPORT: _text(render_report(document, replayed, texts=texts)),
        "trace.json": _text(build_trace(document, replayed.timings)),
    }
    files |= {path: [content] for path, content in firmware_files(document, texts).items()}
    return files | _model_files(compilation, document, images)


def _model_files(compilation: Compilation, document: Document, images: bool) -> dict[str, Chunks]:
    # Imported here because they import onnx, which reading a bundle does not need.
    from h4hc.bundle.annotate import annotator
    from h4hc.bundle.nodes import place_nodes
    from h4hc.bundle.partitioned import partitioned_model
    from h4hc.bundle.subgraphs import subgraph_files
    from h4hc.bundle.tensors import model_tensors
    from h4hc.bundle.weights.images import weight_files

    placed = place_nodes(compilation)
    tensors = model_tensors(compilation.model)
    annotated = annotator(document, compilation.target)
    subgraphs, index = subgraph_files(compilation, document, placed, tensors, annotated)
    files: dict[str, Chunks] = {f"subgraphs/{name}": chunks for name, chunks in subgraphs.items()}
    files["subgraphs/index.json"] = _text(indented(index, 1) + "\n")
    files["partitioned.onnx"] = partitioned_model(compilation, document, placed, tensors, annotated)
    return files | weight_files(compilation, document, placed, tensors) if images else files


def write_files(folder: Path, files: Mapping[str, Chunks]) -> dict[str, Fingerprint]:
    """Write each file chunk by chunk, and take its fingerprint on the way."""
    prints = {}
    parents: set[str] = set()
    for path, chunks in files.items():
        parent = path.rpartition("/")[0]
        if parent not in parents:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            parents.add(parent)
        with open(f"{folder}/{path}", "wb", buffering=0) as file:
            prints[path] = fingerprint(_passed_on(chunks, file))
    return prints


def _passed_on(chunks: Chunks, file: FileIO) -> Iterator[Chunk]:
    """`chunks`, which are written to `file` on the way, many at once."""
    pending: list[Chunk] = []
    size = 0
    for chunk in chunks:
        yield chunk
        pending.append(chunk)
        size += len(chunk)
        if size >= PENDING_BYTES or len(pending) == PENDING_CHUNKS:
            _write_chunks(file, pending)
            pending, size = [], 0
    if pending:
        _write_chunks(file, pending)


def _write_chunks(file: FileIO, chunks: list[Chunk]) -> None:
    written = os.writev(file.fileno(), chunks)
    rest = memoryview(b"")
    if written < sum(map(len, chunks)):  # a full disk, or a signal
        rest = memoryview(b"".join(chunks))[written:]
    while rest:
        rest = rest[file.write(rest) :]


def _text(text: str) -> Chunks:
    return [text.encode()]
