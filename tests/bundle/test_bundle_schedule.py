"""schedule.json: its schema, its writing and its reading; the replay that explains it; the trace."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.bundle import load_document
from h4hc.bundle.document import build_document
from h4hc.bundle.store import dump_document
from h4hc.bundle.timing import Timing, replay
from h4hc.bundle.trace import build_trace
from h4hc.bundle.validate import load_schema, validate_document
from h4hc.errors import BundleError
from h4hc.ir.compilation import Compilation, Options, Source
from tests.bundle.bundle_builder import EXAMPLE_DEVICES, compile_by_hand, example_model

Document = dict[str, Any]
SCHEMA = load_schema()


@pytest.fixture(scope="module")
def document(example_bundle: Path) -> Document:
    return load_document(example_bundle)


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, part in schema.items():
            yield from objects(part, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from objects(part, f"{path}/{index}")


def test_the_schema_is_strict_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for path, schema in objects(SCHEMA):
        for name, part in schema.get("properties", {}).items():
            described = "description" in part or "description" in SCHEMA["$defs"][part["$ref"].split("/")[-1]]
            assert described, f"{path}/{name}"
        if "/target" not in path:  # the target has its own schema
            assert schema.get("additionalProperties", True) is not True, path


def test_the_example_follows_the_schema(document: Document) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    validate_document(document, "schedule.json")


PLACES: list[tuple[str, Callable[[Document], tuple[Any, Any]]]] = [
    ("top", lambda d: (d, "handoff")),
    ("summary", lambda d: (d["summary"], "latency")),
    ("workload", lambda d: (d["operators"][0]["workload"], "m")),
    ("cost", lambda d: (d["operators"][1]["costs"]["npu"][""], "seconds")),
    ("task", lambda d: (d["tasks"][2], "waits")),
    ("wait", lambda d: (d["tasks"][2]["waits"][0], "reason")),
    ("buffer", lambda d: (d["buffers"][1], "offset")),
    ("tensor", lambda d: (d["tensors"]["a"], "bytes")),
    ("queue", lambda d: (d["queues"], "npu")),
    ("root", lambda d: (d["roots"], "flat")),
    ("budget", lambda d: (d["options"], "budget_seconds")),
    ("device", lambda d: (d["devices"][0], "spill")),
]


@given(
    place=st.sampled_from(PLACES),
    value=st.sampled_from([None, True, -1, 1, 1.5, "data", "x", [], [1], {}, {"refused": "no"}]),
)
def test_the_reader_and_jsonschema_accept_the_same(
    place: tuple[str, Any], value: Any, document: Document
) -> None:
    changed = copy.deepcopy(document)
    holder, key = place[1](changed)
    holder[key] = value
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(changed)
    try:
        validate_document(changed, "schedule.json")
    except BundleError as error:
        # What the schema cannot say: references and lengths.
        fits = ("does not fit", "unknown task", "not in the queue")
        assert not valid or any(text in str(error) for text in fits), str(error)
    else:
        assert valid


@pytest.mark.parametrize("place", PLACES[:8], ids=lambda place: place[0])
def test_missing_and_unknown_fields_are_named(place: tuple[str, Any], document: Document) -> None:
    changed = copy.deepcopy(document)
    holder, key = place[1](changed)
    del holder[key]
    with pytest.raises(BundleError, match=f"{key} is missing"):
        validate_document(changed, "schedule.json")
    holder[key] = place[1](document)[0][key]
    holder["surplus"] = 1
    with pytest.raises(BundleError, match="surplus is unknown"):
        validate_document(changed, "schedule.json")


DANGLING: list[tuple[str, Callable[[Document], None]]] = [
    ("unknown operator", lambda d: d["tasks"][0].update(operator="nobody")),
    ("unknown buffer", lambda d: d["tasks"][0].update(reads=[99])),
    ("unknown memory", lambda d: d["buffers"][0].update(memory="attic")),
    ("unknown device", lambda d: d["operators"][0].update(device="gpu")),
    ("a wait that does not fit", lambda d: d["tasks"][2]["waits"][0].update(task=99)),
    ("a wait that does not fit", lambda d: d["tasks"][2]["waits"][0].update(counts=[1, 1])),
    ("not in the queue", lambda d: d["tasks"][0].update(resource="cim")),
    ("unknown task", lambda d: d["queues"]["npu"].append(99)),
    ("not those of the target", lambda d: d["target"]["devices"].pop()),
]


@pytest.mark.parametrize("message, damage", DANGLING)
def test_dangling_references_are_named(
    message: str, damage: Callable[[Document], None], document: Document
) -> None:
    changed = copy.deepcopy(document)
    damage(changed)
    with pytest.raises(BundleError, match=message):
        validate_document(changed, "schedule.json")


def test_a_newer_minor_version_may_have_more_fields(document: Document) -> None:
    newer = copy.deepcopy(document) | {"schema_version": "1.9", "surplus": 1}
    newer["operators"][0]["workload"]["surplus"] = 1
    validate_document(newer, "schedule.json")


def test_the_document_states_the_compilation(document: Document, example: Compilation) -> None:
    schedule = example.schedule
    assert schedule is not None
    assert document["model"] == {
        "name": "example",
        "path": "example.onnx",
        "sha256": "0" * 64,
        "inputs": [{"name": "image", "shape": [1, 4, 8, 8], "dtype": "float32"}],
        "outputs": [
            {"name": "scores", "shape": [1, 64], "dtype": "float32"},
            {"name": "features", "shape": [1, 4, 8, 8], "dtype": "float32"},
        ],
    }
    assert document["summary"]["latency"] == schedule.latency
    assert document["summary"]["transfers"] == 5
    assert document["summary"]["frames_per_second"] == pytest.approx(1e9 / schedule.latency)
    assert [d["operators"] for d in document["devices"]] == [2, 3, 1]
    assert document["roots"] == {"flat": "features"}
    assert document["tensors"]["flat"] == {"shape": [1, 256], "dtype": "float32", "bytes": 256}
    assert document["operators"][2]["nodes"] == ["second", "flatten"]


@pytest.mark.parametrize("precision, size", [("int8", 256), ("model", 1024)])
def test_tensors_are_planned_in_the_chosen_precision(precision: str, size: int) -> None:
    compilation = compile_by_hand(example_model(), EXAMPLE_DEVICES, options=Options(precision=precision))
    assert build_document(compilation)["tensors"]["features"]["bytes"] == size


@pytest.mark.parametrize("budget, met", [(None, None), (1.0, True), (1e-9, False)])
def test_budget(budget: float | None, met: bool | None) -> None:
    compilation = compile_by_hand(example_model(), EXAMPLE_DEVICES, options=Options(budget_seconds=budget))
    assert build_document(compilation)["summary"]["budget_met"] is met


def test_a_file_name_that_is_no_text_can_be_written(example: Compilation) -> None:
    odd = replace(example, source=Source("caf\udce9", "/data/caf\udce9.onnx", "0" * 64))
    assert build_document(odd)["model"]["path"] == "caf\\udce9.onnx"
    dump_document(build_document(odd)).encode()


def test_an_unfinished_compilation_is_refused(example: Compilation) -> None:
    with pytest.raises(ValueError, match="no schedule yet"):
        build_document(replace(example, schedule=None))


def test_one_task_per_line_and_sorted_keys(example_bundle: Path, document: Document) -> None:
    text = (example_bundle / "schedule.json").read_text()
    lines = [line for line in text.splitlines() if line.startswith('{"bytes":') and '"waits":' in line]
    assert len(lines) == len(document["tasks"])
    assert list(document) == sorted(document)
    assert json.loads(text) == document
    assert dump_document(document) == text


@pytest.mark.parametrize(
    "text, message",
    [
        (
            '{"schema_version": "2.0"}',
            "has schema version 2.0; this h4hc reads up to 1.0; install a newer h4hc",
        ),
        ("{}", "has no schema_version"),
        ("[]", "has no schema_version"),
        ('{"schema_version": 1}', "has no schema_version"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\udcff", "is not JSON"),
    ],
)
def test_unreadable_schedules(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "schedule.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=message):
        load_document(tmp_path)


def test_a_folder_without_a_schedule(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"there is no schedule.json; give the folder that h4hc compile wrote"
    ):
        load_document(tmp_path)
    (tmp_path / "schedule.json").mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        load_document(tmp_path)


def task(
    id_: int, resource: str, start: int, end: int, *waits: Document, work: int = 1, tiles: int = 1
) -> Document:
    frame = {"start": start, "end": end, "work": work, "tiles": tiles}
    return {"id": id_, "resource": resource, "waits": waits, "stage": 0} | frame


def wait(task_: int, counts: list[int], latency: int = 0, reason: str = "data") -> Document:
    return {"task": task_, "counts": counts, "latency": latency, "reason": reason}


def test_why_tasks_start_when_they_do() -> None:
    # Tiles of the second task start at 25, 35, 45 and 46.
    # The producer makes four tiles of 10 ticks; the consumer needs two for its first, then one more each.
    tasks = [
        task(0, "npu", 0, 40, work=40, tiles=4),
        task(1, "cim", 25, 47, wait(0, [2, 3, 4, 4], 5), work=4, tiles=4),
        task(2, "npu", 40, 45, work=5),
        task(3, "cim", 47, 50, wait(2, [1], 0, "reuse"), work=3),
        task(4, "host", 50, 52, wait(3, [1], 0, "reuse"), work=2),
    ]
    queues = {"npu": [0, 2], "cim": [1, 3], "host": [4]}
    document = {"tasks": tasks, "queues": queues, "summary": {"frames_in_flight": 1}}
    assert replay(document).timings == {
        0: Timing(0, "first"),
        1: Timing(18, "data", 0, 5, 0),
        2: Timing(0, "queue", 0),
        3: Timing(0, "queue", 1),
        4: Timing(0, "reuse", 3),
    }


def test_a_deadlock_leaves_tasks_unexplained() -> None:
    tasks = [task(0, "npu", 0, 1, wait(1, [1])), task(1, "cim", 0, 1, wait(0, [1]))]
    queues = {"npu": [0], "cim": [1]}
    assert replay({"tasks": tasks, "queues": queues, "summary": {"frames_in_flight": 1}}).timings == {}


def test_trace(document: Document) -> None:
    events = json.loads(build_trace(document, replay(document).timings))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(names.values()) == [
        "npu",
        "cim",
        "host",
        "axi.0",
        "memory sram",
        "memory cim_sram",
        "memory dram",
    ]
    spans = [e for e in events if e["ph"] == "X"]
    assert len(spans) == len(document["tasks"])
    first = next(e for e in spans if e["name"] == "second")
    source = next(t for t in document["tasks"] if t["operator"] == "second")
    assert (first["ts"], first["dur"]) == (source["start"] / 1e3, (source["end"] - source["start"]) / 1e3)
    assert first["args"]["nodes"] == ["second", "flatten"]
    assert names[first["pid"]] == "cim"
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert starts.keys() == ends.keys() and starts
    assert all("axi.0" in {names[starts[i]["pid"]], names[ends[i]["pid"]]} for i in starts)


def test_the_memory_counters_end_at_zero_and_reach_the_most_live_bytes(document: Document) -> None:
    events = json.loads(build_trace(document, {}))["traceEvents"]
    for process in {e["pid"] for e in events if e["ph"] == "C"}:
        levels = [e["args"]["bytes"] for e in events if e["ph"] == "C" and e["pid"] == process]
        assert levels[-1] == 0
        assert min(levels) >= 0
