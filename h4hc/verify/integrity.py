"""V01: the bundle belongs to the model, and its files are those that were written."""

from __future__ import annotations

from pathlib import Path

from h4hc.errors import BundleError
from h4hc.verify.folder import INDEX, MANIFEST, PARTITIONED, SCHEDULE, Bundle, file_sha256, inner_path
from h4hc.verify.report import Tally


def hashes(bundle: Bundle, model: Path | None) -> Tally:
    """Every file has the manifest's hash and size; the model has the hash in manifest and schedule."""
    tally = Tally()
    files = bundle.manifest.files
    needed = [SCHEDULE, PARTITIONED, INDEX, *(segment.path for segment in bundle.chain.segments)]
    for path in needed:
        tally.expect(path in files, f"{path} is not in {MANIFEST}")
    for path, (digest, size) in files.items():
        try:
            found = inner_path(bundle.folder, path)
        except BundleError as error:
            tally.expect(False, str(error))
            continue
        actual = found.stat().st_size
        if tally.expect(actual == size, f"{path}: {actual} bytes, {MANIFEST} says {size}"):
            tally.expect(file_sha256(found) == digest, f"{path}: its SHA-256 is not the one in {MANIFEST}")
    stated = bundle.document.model_sha256
    tally.expect(stated == bundle.manifest.model_sha256, f"{SCHEDULE} and {MANIFEST} name different models")
    if model is not None:
        tally.expect(
            file_sha256(model) == stated, f"{model} is not the model that was compiled (SHA-256 differs)"
        )
    return tally
