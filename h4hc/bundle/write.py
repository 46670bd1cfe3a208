"""The bundle: everything that one compilation leaves behind, in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from h4hc.bundle.document import build_document
from h4hc.bundle.folder import replace_folder
from h4hc.bundle.manifest import MANIFEST, build_manifest, dump_manifest, fingerprint
from h4hc.bundle.report import REPORT, render_report
from h4hc.bundle.store import SCHEDULE, Document, dump_document
from h4hc.bundle.timing import explain
from h4hc.bundle.trace import build_trace
from h4hc.ir.compilation import Compilation

Chunks = list[bytes]


def write_bundle(compilation: Compilation, folder: Path) -> None:
    """Write the bundle of a finished compilation to `folder`, completely or not at all.

    Replaces an existing bundle, and nothing else. The same compilation gives the same bytes.
    """
    replace_folder(Path(folder), lambda temporary: _fill(temporary, bundle_files(compilation)))


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
        destination.parent.mkdir(exist_ok=True)
        with destination.open("wb") as file:
            file.writelines(chunks)


def _text(text: str) -> Chunks:
    return [text.encode()]
