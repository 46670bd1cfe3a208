"""The folder: complete or absent, never someone else's, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from h4hc.bundle import write, write_bundle
from h4hc.bundle.folder import replace_folder
from h4hc.bundle.manifest import Chunk
from h4hc.errors import OptionError
from h4hc.ir.compilation import Compilation
from tests.bundle.bundle_builder import written

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def write_one(folder: Path) -> None:
    (folder / "file").write_text("new")


def test_the_manifest_lists_every_file(example_bundle: Path) -> None:
    manifest = json.loads((example_bundle / "manifest.json").read_text())
    files = contents(example_bundle)
    del files["manifest.json"]
    assert manifest["files"] == {
        path: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for path, data in files.items()
    }
    assert manifest["format"] == "h4hc-bundle"
    assert manifest["model"] == {"name": "example", "sha256": "0" * 64}
    assert set(files) >= {
        "schedule.json",
        "partitioned.onnx",
        "report.html",
        "trace.json",
        "subgraphs/index.json",
    }


def test_no_file_names_the_machine(example_bundle: Path) -> None:
    for path, data in contents(example_bundle).items():
        assert b"/somewhere" not in data, path
        assert str(ROOT).encode() not in data, path


def test_a_bundle_is_replaced_as_a_whole(example: Compilation, tmp_path: Path) -> None:
    bundle = written(example, tmp_path / "build")
    before = contents(bundle)
    (bundle / "schedule.json").write_text("damaged")
    write_bundle(example, bundle)
    assert contents(bundle) == before
    assert list(tmp_path.iterdir()) == [bundle]


def test_other_processes_write_the_same_bytes(example_bundle: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.bundle.bundle_builder import *;"
        "written(compile_by_hand(example_model(), EXAMPLE_DEVICES), Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", script, tmp_path / "again"], env=environment, check=True)
    assert contents(tmp_path / "again") == contents(example_bundle)


def test_an_empty_folder_is_used_and_missing_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a/b/c"):
        replace_folder(folder, write_one)
        assert contents(folder) == {"file": b"new"}
    assert (tmp_path / "a/b/c").stat().st_mode == (tmp_path / "a").stat().st_mode


@pytest.mark.parametrize(
    "manifest, message",
    [
        (None, "is not empty and is not a bundle; choose a new or empty output folder"),
        ('{"name": "My web app", "icons": []}', "is not empty and is not a bundle"),
        ("{", "is not empty and is not a bundle"),
        (
            '{"format": "h4hc-bundle", "files": {}}',
            r"holds files that h4hc did not write: notes/thesis.txt; move",
        ),
    ],
)
def test_what_is_not_a_bundle_is_left_alone(tmp_path: Path, manifest: str | None, message: str) -> None:
    precious = tmp_path / "out/notes/thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    if manifest is not None:
        (tmp_path / "out/manifest.json").write_text(manifest)
    before = contents(tmp_path)
    with pytest.raises(OptionError, match=message):
        replace_folder(tmp_path / "out", write_one)
    assert contents(tmp_path) == before


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OptionError, match="out: is a file"):
        replace_folder(tmp_path / "out", write_one)
    with pytest.raises(OptionError, match="cannot be written"):
        replace_folder(tmp_path / "out/deeper", write_one)
    assert contents(tmp_path) == {"out": b"x"}


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    replace_folder(tmp_path / "link", write_one)
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == {"file": b"new"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_nothing_behind(
    example: Compilation, tmp_path: Path, error: type[BaseException]
) -> None:
    bundle = written(example, tmp_path / "build")
    before = contents(tmp_path)

    def fail(folder: Path) -> None:
        write_one(folder)
        raise error

    for folder in (bundle, tmp_path / "new", tmp_path / "deep/er/new"):
        with pytest.raises(error):
            replace_folder(folder, fail)
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [bundle]


def test_chunks_are_written_whatever_the_system_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "PENDING_CHUNKS", 3)
    monkeypatch.setattr(write, "PENDING_BYTES", 12)
    chunks: list[Chunk] = [b"", b"abc", memoryview(b"de"), b"f" * 13, b"", b"g", b"hi"]
    whole = b"".join(chunks)
    for taken in (0, 1, 4, 100):
        monkeypatch.setattr(os, "writev", lambda file, parts, n=taken: os.write(file, b"".join(parts)[:n]))
        found = write.write_files(tmp_path / str(taken), {"a/b": iter(chunks), "c": []})
        assert (tmp_path / str(taken) / "a/b").read_bytes() == whole
        assert found["a/b"] == (hashlib.sha256(whole).hexdigest(), len(whole))
        assert found["c"].size == 0


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OptionError, match="new: cannot be written: No space left on device"):
        replace_folder(tmp_path / "new", full)
    assert list(tmp_path.iterdir()) == []


def test_writing_a_bundle_imports_nothing_heavy() -> None:
    script = (
        "import sys, h4hc.bundle.write, h4hc.bundle.nodes, h4hc.bundle.partitioned, h4hc.bundle.subgraphs;"
        "print([m for m in ('rich', 'jsonschema', 'onnxruntime', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
