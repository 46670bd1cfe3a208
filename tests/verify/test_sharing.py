"""Buffers that share addresses: joined and divided in place, written over. Valid ones pass, damaged ones do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import h4hc
from h4hc.verify import verify_bundle
from tests.verify.maker_ops import text_model

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
shared (float[1,8,16,16] x) => (float[1,32,16,16] y, float[1,40,16,16] z) {
  a = Conv<kernel_shape=[1,1]>(x, wa)
  b = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, wb)
  c = Concat<axis=1>(a, b)
  d = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(c, wd)
  s1, s2 = Split<axis=1>(d)
  e = Conv<kernel_shape=[1,1]>(s1, we)
  f = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(e, we3)
  g = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(f, we3)
  h = Add(g, e)
  i = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(h, we3)
  y = Add(i, s2)
  z = Concat<axis=1>(x, y)
}
"""
WEIGHTS = {
    "wa": (32, 8, 1, 1),
    "wb": (32, 8, 3, 3),
    "wd": (64, 64, 3, 3),
    "we": (32, 32, 1, 1),
    "we3": (32, 32, 3, 3),
}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "shared.onnx"
    onnx.save(text_model(MODEL, WEIGHTS), path)
    return path


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    return compiled(model, model.parent / "out", "npu")


def compiled(model: Path, folder: Path, target: str, **options: Any) -> Path:
    loaded = h4hc.load_model(model)
    compiler = h4hc.Compiler(h4hc.load_target(target))
    h4hc.write_bundle(compiler.compile(loaded.model, h4hc.Options(**options), loaded.source), folder)
    return folder


def document(folder: Path) -> Document:
    found: Document = json.loads((folder / "schedule.json").read_text())
    return found


def buffer(d: Document, tensor: str) -> Document:
    found: Document = next(b for b in d["buffers"] if b["tensor"] == tensor)
    return found


def failed(folder: Path, model: Path) -> set[str]:
    report = verify_bundle(folder, model, functional=False)
    return {check.code for check in report.checks if check.passed is False} - {"V01"}


def test_parts_lie_inside_and_results_over_inputs(bundle: Path, model: Path) -> None:
    d = document(bundle)
    size = 32 * 16 * 16
    assert buffer(d, "a")["offset"] == buffer(d, "c")["offset"]
    assert buffer(d, "b")["offset"] == buffer(d, "c")["offset"] + size
    assert buffer(d, "s2")["offset"] == buffer(d, "d")["offset"] + size
    assert buffer(d, "h")["offset"] == buffer(d, "e")["offset"]
    kinds = {o["name"]: o["workload"]["kind"] for o in d["operators"] if o["kind"] in ("Concat", "Split")}
    assert sorted(kinds.values()) == ["concat", "view", "view"]  # x is the caller's: joining it copies
    assert not failed(bundle, model)


@pytest.mark.parametrize("target", ["cim", "npu+cim", "npu+cim-sram"])
@pytest.mark.parametrize("frames", [1, 3])
def test_sharing_is_valid_on_every_target(model: Path, tmp_path: Path, target: str, frames: int) -> None:
    assert not failed(compiled(model, tmp_path / "out", target, frames=frames), model)


def test_the_chain_still_computes_the_same(bundle: Path, model: Path) -> None:
    report = verify_bundle(bundle, model, seeds=1, isolate=False)
    assert [check.code for check in report.checks if check.passed is False] == []


def a_part_lies_elsewhere(d: Document) -> None:
    buffer(d, "a")["offset"] += 64


def parts_change_places(d: Document) -> None:
    a, b = buffer(d, "a"), buffer(d, "b")
    a["offset"], b["offset"] = b["offset"], a["offset"]


def a_half_lies_over_the_other(d: Document) -> None:
    buffer(d, "s1")["offset"] = buffer(d, "s2")["offset"]


def the_whole_dies_before_its_parts(d: Document) -> None:
    buffer(d, "d")["end"] = buffer(d, "s1")["start"]


def the_whole_is_born_after_its_parts(d: Document) -> None:
    buffer(d, "c")["start"] = buffer(d, "c")["end"]


def a_convolution_writes_over_its_input(d: Document) -> None:
    buffer(d, "g" if any(b["tensor"] == "g" for b in d["buffers"]) else "h")["offset"] = buffer(d, "f")[
        "offset"
    ]


def a_copy_is_said_to_be_free(d: Document) -> None:
    operator = next(o for o in d["operators"] if o["outputs"] == ["z"])
    operator["workload"]["kind"] = "view"


def what_is_overwritten_lives_on(d: Document) -> None:
    buffer(d, "e")["end"] += 1


def a_result_lies_half_over_its_input(d: Document) -> None:
    buffer(d, "h")["offset"] += 64


def a_part_is_overwritten(d: Document) -> None:
    buffer(d, "y")["offset"] = buffer(d, "s2")["offset"]


@pytest.mark.parametrize(
    "damage",
    [
        a_part_lies_elsewhere, parts_change_places, a_half_lies_over_the_other, the_whole_dies_before_its_parts,
        the_whole_is_born_after_its_parts, a_convolution_writes_over_its_input, a_copy_is_said_to_be_free,
        what_is_overwritten_lives_on, a_result_lies_half_over_its_input, a_part_is_overwritten,
    ],
)  # fmt: skip
def test_damage_is_found(
    bundle: Path, model: Path, tmp_path: Path, damage: Callable[[Document], None]
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(bundle, folder)
    damaged = document(folder)
    damage(damaged)
    (folder / "schedule.json").write_text(json.dumps(damaged))
    assert "V25" in failed(folder, model)


def test_other_readers_of_what_is_overwritten_are_waited_for(model: Path, tmp_path: Path) -> None:
    """Without waits for reuse, only data waits order the tasks: then V11 must miss some."""
    missed = 0
    for number, target in enumerate(("npu+cim", "npu+cim-cu4", "npu+cim-sram")):
        folder = compiled(model, tmp_path / str(number), target, frames=2)
        d = document(folder)
        for task in d["tasks"]:
            task["waits"] = [wait for wait in task["waits"] if wait["reason"] == "data"]
        (folder / "schedule.json").write_text(json.dumps(d))
        missed += "V11" in failed(folder, model)
    assert missed
