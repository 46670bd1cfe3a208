"""Plans: what is in them, that they are the same every time, and that a changed one is not run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from h4hc.backends import load_backends, load_target
from h4hc.backends.profiles.kernels import canonical, kernel_of
from h4hc.errors import H4hcError, ProfileError
from h4hc.frontend import Loaded, load_model, normalise
from h4hc.ir.compilation import Source
from h4hc.ir.cost import Refusal
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Precision, Reduction
from h4hc.profiling.models import Form
from h4hc.profiling.plan import Plan, lowered, plan_kernels, plan_models, write_plan
from h4hc.profiling.run import load_plan
from tests.models import EXAMPLE

ONES, TWOS = (", ".join([value] * 144) for value in "12")
TWICE = """
<ir_version: 8, opset_import: ["" : 18]>
twice (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y)
<float[4, 4, 3, 3] w = {ONES}, float[4, 4, 3, 3] v = {TWOS}>
{
  a = Conv <pads = [1, 1, 1, 1]> (x, w)
  b = Relu (a)
  c = Conv <pads = [1, 1, 1, 1]> (b, v)
  d = Relu (c)
  e = Softmax (d)
  y = Identity (e)
}
""".replace("ONES", ONES).replace("TWOS", TWOS)


def loaded(text: str, name: str = "twice") -> Loaded:
    return Loaded(Source(name, "", "0" * 64), normalise(parser.parse_model(text)))


def test_a_kernel_that_is_needed_twice_is_planned_once(tmp_path: Path) -> None:
    manifest = write_plan(plan_models([loaded(TWICE), loaded(TWICE, "again")], "model"), tmp_path / "plan")
    conv, softmax = manifest["kernels"]
    users = [(user["model"], user["operator"]) for user in conv["needed_by"]]
    assert len(users) == 4
    assert {model for model, _ in users} == {"twice", "again"}
    assert softmax["class"] == "softmax"
    assert (conv["macs"], conv["weight_bytes"], conv["input_bytes"]) == (4 * 4 * 9 * 36, 4 * 144, 4 * 144)


def test_models_of_a_plan_compile_to_what_its_manifest_says(tmp_path: Path) -> None:
    for form in ("int8", "model"):
        folder = tmp_path / form
        manifest = write_plan(plan_models([load_model(EXAMPLE)], form), folder)
        assert manifest["left_out"] == []
        assert len(manifest["kernels"]) > 40
        for entry in manifest["kernels"]:
            data = (folder / entry["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == entry["sha256"]
            (operator,) = lowered(normalise(onnx.load_from_string(data)), form).operators
            assert canonical(operator.kernel) == kernel_of(entry["kernel"])


def test_a_plan_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_plan(plan_models([load_model(EXAMPLE)], "model"), tmp_path / name)
    first = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*") if p.is_file())
    assert first
    for path in first:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "second" / path).read_bytes(), path


def test_trained_weights_do_not_leave_with_the_plan(tmp_path: Path) -> None:
    manifest = write_plan(plan_models([loaded(TWICE)], "model"), tmp_path / "plan")
    model = onnx.load(tmp_path / "plan" / manifest["kernels"][0]["file"])
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 4]
    assert len(weights) == 1
    assert np.unique(weights[0]).size > 100  # those of the model are all ones


def test_an_operator_is_taken_as_it_stands_in_the_model(tmp_path: Path) -> None:
    text = TWICE.replace("b = Relu (a)", "b = HardSwish (a)").replace("d = Relu (c)", "d = HardSwish (c)")
    manifest = write_plan(plan_models([loaded(text)], "model"), tmp_path / "plan")
    model = onnx.load(tmp_path / "plan" / manifest["kernels"][0]["file"])
    assert [node.op_type for node in model.graph.node] == ["Conv", "HardSwish"]


def test_a_hostile_name_stays_on_its_line(tmp_path: Path) -> None:
    model = loaded(TWICE)
    model.model.graph.node[0].name = "a\n1,2\x1b[0m" + "x" * 2000
    write_plan(plan_models([model], "model"), tmp_path / "plan")
    assert len(load_plan(tmp_path / "plan").kernels) == 2
    table = (tmp_path / "plan" / "template.csv").read_text()
    assert "\x1b" not in table
    assert len([line for line in table.splitlines() if not line.startswith("#")]) == 3


def test_kernels_alone_make_a_plan(tmp_path: Path) -> None:
    kernel = Kernel(Conv(1, 8, 8, 5, 5, 5, 5, 1, 1), ("relu",), Precision(8, 8))
    unknown = Kernel(Generic("TopK", 100, 10, 3200), (), Precision(8, 8))
    view = Kernel(Move("view", 8, 8), (), Precision(8, 8))
    manifest = write_plan(plan_kernels([kernel, kernel, unknown, view]), tmp_path / "plan")
    assert [kernel_of(entry["kernel"]) for entry in manifest["kernels"]] == [kernel]
    assert [entry["reason"] for entry in manifest["left_out"]] == ["TopK is known by its sizes only"]


def test_what_the_device_refuses_is_not_planned() -> None:
    cim = load_backends(load_target("npu+cim"))["cim"]
    plan = plan_models([loaded(TWICE)], "int8", cim, "cim")
    assert plan.refused
    assert all(not isinstance(cim.costs(demand.kernel), Refusal) for demand in plan.demands)
    assert not any(isinstance(demand.kernel.workload, Reduction) for demand in plan.demands)


def test_the_same_kernel_has_the_same_name_in_every_plan() -> None:
    kernels = [Kernel(MatMul(1, 4, 8, 16)), Kernel(Elementwise(64, 2, "add"))]
    one, other = plan_kernels(kernels), plan_kernels(reversed(kernels))
    assert {d.identifier for d in one.demands} == {d.identifier for d in other.demands}
    assert len({d.identifier for d in one.demands}) == 2


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    folder = tmp_path / "plan"
    write_plan(plan_kernels([Kernel(MatMul(1, 4, 8, 16), (), Precision(32, 32))], "model"), folder)
    return folder


def test_a_folder_with_something_in_it_is_left_alone(plan: Path) -> None:
    before = sorted(plan.rglob("*"))
    with pytest.raises(H4hcError, match="is not empty"):
        write_plan(Plan("model", ()), plan)
    assert sorted(plan.rglob("*")) == before


def change(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["kernels"][0].__setitem__(key, value)


def forget(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["kernels"][0].pop(key)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (change("sha256", "0" * 64), "hash differs"),
        (change("file", "../../etc/passwd"), "outside the plan"),
        (change("file", "/etc/passwd"), "outside the plan"),
        (change("file", "operators/absent.onnx"), "no such file"),
        (change("file", "operators"), "no such file"),
        (change("kernel", {"onnx_op": "Conv"}), "kernel: in_c is missing"),
        (change("kernel", {"onnx_op": "Conv", "n": "many"}), "kernel"),
        (change("needed_by", ["me"]), "needed_by"),
        (change("id", "two\nlines"), "control characters"),
        (change("id", "x" * 501), "too long"),
        (forget("weight_bytes"), "weight_bytes is missing"),
        (lambda manifest: manifest.update(kernels=[]), "asks for nothing"),
        (lambda manifest: manifest.update(kernels=[7]), "not an object"),
        (lambda manifest: manifest.update(kernels=None), "no list of kernels"),
        (lambda manifest: manifest.update(h4hc_plan="9.0"), "not of version"),
    ],
)
def test_a_damaged_plan_is_refused(
    plan: Path, damage: Callable[[dict[str, Any]], None], problem: str
) -> None:
    path = plan / "manifest.json"
    manifest = json.loads(path.read_text())
    damage(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ProfileError, match=problem):
        load_plan(plan)


def test_a_changed_model_is_refused(plan: Path) -> None:
    (file,) = (plan / "operators").iterdir()
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ProfileError, match="is not the file that was planned"):
        load_plan(plan)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_none(plan: Path, content: bytes) -> None:
    (plan / "manifest.json").write_bytes(content)
    with pytest.raises(ProfileError, match="manifest"):
        load_plan(plan)


def test_no_plan_at_all(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="h4hc profile plan"):
        load_plan(tmp_path)


def test_forms_differ_in_what_they_measure() -> None:
    forms: tuple[Form, Form] = ("int8", "model")
    eight, wide = (plan_models([loaded(TWICE)], form).demands[0].kernel for form in forms)
    assert wide.precision == Precision(32, 32)
    assert eight == wide._replace(precision=Precision(8, 8))
