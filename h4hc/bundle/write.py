"""The bundle: everything that one compilation leaves behind, in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from h4hc.bundle.document import build_document, options_record
from h4hc.bundle.folder import replace_folder
from h4hc.bundle.manifest import MANIFEST, build_manifest, dump_manifest, fingerprint
from h4hc.bundle.report import REPORT, render_report
from h4hc.bundle.store import SCHEDULE, SCHEMA_VERSION, Document, dump_document
from h4hc.bundle.timing import explain
from h4hc.bundle.trace import build_trace
from h4hc.ir.compilation import Compilation
from h4hc.ir.schedule import TICK_SECONDS

FRONT = "front.json"

Chunks = list[bytes]


def write_bundle(compilation: Compilation, folder: Path) -> None:
    """Write the bundle of a finished compilation to `folder`, completely or not at all.

    Replaces an existing bundle, and nothing else. The same compilation gives the same bytes.
    """
    replace_folder(Path(folder), lambda temporary: _fill(temporary, bundle_files(compilation)))


def write_front(compilations: Sequence[Compilation], folder: Path) -> None:
    """Write a front of schedules of one model to `folder`, completely or not at all.

    Each schedule is a bundle of its own in ``point-0``, ``point-1``, ...; ``front.json`` lists them.
    """
    replace_folder(Path(folder), lambda temporary: _fill(temporary, _front_files(compilations)))


def _front_files(compilations: Sequence[Compilation]) -> dict[str, Chunks]:
    files: dict[str, Chunks] = {}
    points = []
    for number, compilation in enumerate(compilations):
        name = f"point-{number}"
        files |= {f"{name}/{path}": chunks for path, chunks in bundle_files(compilation).items()}
        points.append({"folder": name, **point_record(compilation)})
    first = compilations[0]
    front = {
        "schema_version": SCHEMA_VERSION,
        "model": first.source.name,
        "target": first.target.name,
        "points": points,
    }
    files[FRONT] = _text(json.dumps(front, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
    prints = {path: fingerprint(chunks) for path, chunks in files.items()}
    record = options_record(first.options)
    files[MANIFEST] = _text(dump_manifest(build_manifest(first, record, prints)))
    return files


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


def bundle_files(compilation: Compilation) -> dict[str, Chunks]:
    """Every file of the bundle by its path inside, as chunks of bytes."""
    document = build_document(compilation)
    timings = explain(document)
    files = {
        SCHEDULE: _text(dump_document(document)),
        REPORT: _text(render_report(document, timings)),
        "trace.json": _text(build_trace(document, timings)),
    }
    files |= _model_files(compilation, document)
    prints = {path: fingerprint(chunks) for path, chunks in files.items()}
    files[MANIFEST] = _text(dump_manifest(build_manifest(compilation, document["options"], prints)))
    return files


def _model_files(compilation: Compilation, document: Document) -> dict[str, Chunks]:
    # Imported here because they import onnx, which reading a bundle does not need.
    from h4hc.bundle.nodes import place_nodes
    from h4hc.bundle.partitioned import partitioned_model
    from h4hc.bundle.subgraphs import subgraph_files
    from h4hc.bundle.tensors import model_tensors

    placed = place_nodes(compilation)
    tensors = model_tensors(compilation.model)
    subgraphs, index = subgraph_files(compilation, document, placed, tensors)
    files = {f"subgraphs/{name}": chunks for name, chunks in subgraphs.items()}
    files["subgraphs/index.json"] = _text(
        json.dumps(index, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    )
    files["partitioned.onnx"] = partitioned_model(compilation, document, placed, tensors)
    return files


def _fill(folder: Path, files: Mapping[str, Chunks]) -> None:
    for path, chunks in files.items():
        destination = folder / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        with destination.open("wb") as file:
            file.writelines(chunks)


def _text(text: str) -> Chunks:
    return [text.encode()]
