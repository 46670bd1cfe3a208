"""Damaged and hostile files give one clear line, never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from h4hc.errors import BundleError
from h4hc.verify import verify_bundle
from h4hc.verify.check import check_schedule, check_structure
from h4hc.verify.decode import decode
from h4hc.verify.fields import parse_json
from h4hc.verify.folder import decode_chain
from h4hc.verify.network import Network
from tests.verify.maker import Handmade, Maker, write_manifest

MADE = Maker(5).make()
INDEX = {"inputs": ["x"], "outputs": ["y", "late"], "files": [entry for entry, _ in MADE.chain]}
PARTS = {f"subgraphs/{entry['file']}": part for entry, part in MADE.chain}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[NaN]", "NaN is not a JSON number"),
        ('{"a": 1, "a": 2}', "key 'a' appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 10_000, "not valid JSON"),
        ("\udc80", "not valid JSON"),
    ],
)
def test_bad_json(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        parse_json(text.encode("utf-8", "surrogateescape"), "schedule.json")
    assert "\n" not in str(error.value)


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(MADE.document)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema_version",), "2.0", "schema version 2.0, this h4hc reads 1.x"),
        (("schema_version",), "one", "not MAJOR.MINOR"),
        (("tasks",), {}, "schedule.json.tasks: expected a list, found an object"),
        (("tasks", 0, "start"), 1.5, r"schedule.json.tasks\[0\].start: expected an integer, found 1.5"),
        (("tasks", 0, "start"), True, "expected an integer, found True"),
        (("tasks", 0, "start"), -1, "expected zero or more, found -1"),
        (("tasks", 0, "start"), 2**64, "expected an integer of 64 bits"),
        (("tasks", 0, "tiles"), 10**9, "expected between 1 and 65536"),
        (("tasks", 0, "tiles"), 0, "expected between 1 and 65536"),
        (("links", 0, "bandwidth"), 0, "expected a positive number"),
        (("links", 0, "memories"), ["dram"], "expected two memory names"),
        (("model", "name"), None, "schedule.json.model.name: expected a string, found None"),
        (("operators", 0, "costs", "npu"), 3, "expected an object, found 3"),
        (("summary",), [], "schedule.json.summary: expected an object, found a list"),
    ],
)
def test_wrong_fields(path: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        decode(changed(path, value))


def test_missing_field() -> None:
    document = copy.deepcopy(MADE.document)
    del document["tasks"][3]["waits"]
    with pytest.raises(BundleError, match=r"schedule.json.tasks\[3\]: no field 'waits'"):
        decode(document)


def test_too_many_tiles() -> None:
    document = copy.deepcopy(MADE.document)
    document["tasks"] = [dict(document["tasks"][0], tiles=65_536)] * 70
    with pytest.raises(BundleError, match="more than 4000000 tiles"):
        decode(document)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every member of a JSON value."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [p for key, member in members for p in ((*path, key), *places(member, (*path, key)))]


PLACES = places(MADE.document)
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.sampled_from([2**62, 2**63, 0.5, "", "x", "npu", "r1",
        [], {}]),
    st.lists(st.integers(-1, 30), max_size=4), st.dictionaries(st.sampled_from(["name", "id"]),
        st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
def test_junk_is_refused_or_checked(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Whatever stands in the file, the checker ends with a report or with a BundleError."""
    document = copy.deepcopy(MADE.document)
    for path, junk in changes:
        place: Any = document
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = junk
        except (LookupError, TypeError):
            continue  # an earlier change removed the place
    try:
        decoded = decode(document)
    except BundleError as error:
        assert str(error).isprintable()
        return
    network = Network(MADE.partitioned)
    checks = check_structure(decoded, network, decode_chain(INDEX), PARTS, MADE.model)
    assert all(check.detail.isprintable() for check in (*checks, *check_schedule(decoded, network)))


@pytest.fixture
def build(tmp_path: Path) -> Path:
    MADE.write(tmp_path / "build")
    return tmp_path / "build"


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(["partitioned.onnx", f"subgraphs/{MADE.chain[0][0]['file']}", "../mini.onnx"]), st.data()
)
def test_flipped_bytes_are_refused_or_noticed(build: Path, name: str, data: st.DataObject) -> None:
    whole = (build / name).read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (build / name).write_bytes(damaged)
    try:
        report = verify_bundle(build, functional=False)
        assert bool(report.failed) == (bytes(damaged) != whole)
    except BundleError as error:
        assert str(error).isprintable()
    finally:
        (build / name).write_bytes(whole)


# --- the folder --------------------------------------------------------------------------------------


def refuse(build: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        verify_bundle(build, functional=False)
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path: Path) -> None:
    refuse(tmp_path / "nothing", "no such folder")


@pytest.mark.parametrize(
    "name", ["manifest.json", "schedule.json", "partitioned.onnx", "subgraphs/index.json"]
)
def test_missing_file(build: Path, name: str) -> None:
    (build / name).unlink()
    refuse(build, f"no file '{name}'")


@pytest.mark.parametrize("name", ["partitioned.onnx", f"subgraphs/{MADE.chain[0][0]['file']}"])
def test_not_an_onnx_model(build: Path, name: str) -> None:
    (build / name).write_bytes(b"\xff\xff\xff nonsense")
    refuse(build, "not an ONNX model")


def test_empty_model(build: Path) -> None:
    (build / "partitioned.onnx").write_bytes(b"")
    refuse(build, "has no graph")


@pytest.mark.parametrize(
    "path",
    ["../../secret.onnx", "/etc/passwd", "a\\b.onnx", "", ".", "a\0b", "x/" * 600 + "y", "missing.onnx"],
)
def test_paths_stay_inside(build: Path, path: str) -> None:
    index = json.loads((build / "subgraphs/index.json").read_text())
    index["files"][0]["file"] = path
    (build / "subgraphs/index.json").write_text(json.dumps(index))
    refuse(build, "leads out of the bundle|no file|not a regular file")


def test_links_are_not_followed(build: Path, tmp_path: Path) -> None:
    path = build / "subgraphs" / MADE.chain[0][0]["file"]
    outside = tmp_path / "outside.onnx"
    path.rename(outside)
    path.symlink_to(outside)
    refuse(build, "not a regular file")


def test_linked_folders_are_not_followed(build: Path, tmp_path: Path) -> None:
    (build / "subgraphs").rename(tmp_path / "elsewhere")
    (build / "subgraphs").symlink_to(tmp_path / "elsewhere")
    refuse(build, "not a regular file")


def test_changed_file_is_noticed(build: Path) -> None:
    (build / "extra.txt").write_text("one")
    write_manifest(build)
    (build / "extra.txt").write_text("two")
    (check,) = verify_bundle(build, functional=False).failed
    assert (check.code, check.detail) == ("V01", "extra.txt: its SHA-256 is not the one in manifest.json")


def test_unlisted_file_is_noticed(build: Path) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    del manifest["files"]["partitioned.onnx"]
    (build / "manifest.json").write_text(json.dumps(manifest))
    (check,) = verify_bundle(build, functional=False).failed
    assert (check.code, check.detail) == ("V01", "partitioned.onnx is not in manifest.json")


def test_another_model_is_noticed(build: Path, tmp_path: Path) -> None:
    other: Handmade = Maker(6).make()
    other.model.producer_name = "someone else"
    path = tmp_path / "other.onnx"
    path.write_bytes(other.model.SerializeToString())
    (check,) = verify_bundle(build, path, functional=False).failed
    assert check.code == "V01"
    assert "is not the model that was compiled" in check.detail
