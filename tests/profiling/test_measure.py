"""Measuring: sound rows for tiny operators, failures that stay failures, runs that go on where they stopped."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from h4hc.backends import load_backends, load_target
from h4hc.backends.files import FOLDER
from h4hc.backends.profiles.kernels import kernel_of
from h4hc.backends.profiles.table import Measurement, read_profile, write_profile
from h4hc.errors import ProfileError
from h4hc.ir.cost import Refusal
from h4hc.ir.workload import Conv, Elementwise, Kernel, MatMul, Move, Precision, Reduction
from h4hc.profiling import measure, run
from h4hc.profiling.models import kernel_model
from h4hc.profiling.plan import plan_kernels, write_plan
from h4hc.profiling.repeat import Ending, repeated, taps
from h4hc.profiling.run import StoredPlan, load_plan, run_plan
from h4hc.profiling.session import RuntimeFailureError, Session, check_result

WIDE = Precision(32, 32)
KERNELS = [
    Kernel(Conv(1, 16, 32, 14, 14, 14, 14, 3, 3), ("relu",), WIDE),
    Kernel(MatMul(1, 16, 64, 64), (), WIDE),
    Kernel(Reduction("softmax", 1, 64, 16, 1, 16, 1), (), WIDE),
    Kernel(Move("transpose", 4096, 4096), (), WIDE),
]


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LEAST_ROUNDS", 3)
    monkeypatch.setattr(measure, "MOST_ROUNDS", 6)


@pytest.fixture
def plan(tmp_path: Path) -> StoredPlan:
    write_plan(plan_kernels(KERNELS, "model"), tmp_path / "plan")
    return load_plan(tmp_path / "plan")


def values_of(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()}
    return [np.asarray(value) for value in session.run(None, inputs)]


@pytest.mark.parametrize("ending", ["plain", "blocked", "direct"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel.workload).__name__)
def test_each_copy_computes_and_is_seen(kernel: Kernel, ending: Ending) -> None:
    model = kernel_model(kernel, "model")
    onnx.checker.check_model(repeated(model, 3, ending))
    (whole,) = values_of(model)
    results = values_of(repeated(model, 3, ending))
    assert len(results) == 3
    # The first copy has the model's own weights: its tap is the corner of the result.
    assert results[0].ravel()[0] == pytest.approx(whole.ravel()[0], rel=1e-4, abs=1e-6)
    if kernel.workload.weight_elements:
        assert not np.allclose(results[0], results[1])  # the others have weights of their own


def test_taps_alone_hold_no_operator() -> None:
    model = taps(kernel_model(KERNELS[0], "model"), 4, "plain")
    assert {node.op_type for node in model.graph.node} == {"Reshape", "Gather"}
    assert len(values_of(model)) == 4


def test_rows_are_plausible(plan: StoredPlan, tmp_path: Path) -> None:
    outcome = run_plan(plan, tmp_path / "out.csv")
    assert (outcome.measured, outcome.failed, outcome.missing) == (4, 0, 0)
    profile = read_profile(tmp_path / "out.csv")
    assert profile.device == "ort-cpu"
    assert profile.compiler == f"onnxruntime {onnxruntime.__version__}"
    assert profile.accelerator
    assert profile.config == "threads=1"
    assert {row.kernel for row in profile.rows} == {kernel_of(entry["kernel"]) for entry in plan.kernels}
    for row in profile.rows:
        assert row.status == "ok"
        assert 0 < row.seconds < 1e-2
        assert row.seconds_std is not None
        assert re.search(r"median of \d+ samples of \d+ more copies, (plain|blocked|direct)", row.comment)
        # No core does 1000 GMAC/s in one thread.
        assert row.kernel is not None
        assert row.seconds > row.kernel.workload.macs / 1e12


def test_more_work_takes_more_time(tmp_path: Path) -> None:
    kernels = [Kernel(MatMul(1, 32, 64 * scale, 64 * scale), (), WIDE) for scale in (1, 4, 12)]
    write_plan(plan_kernels(kernels, "model"), tmp_path / "plan")
    run_plan(load_plan(tmp_path / "plan"), tmp_path / "out.csv")
    times = [row.seconds for row in read_profile(tmp_path / "out.csv").rows]
    assert times[0] < times[1] < times[2]


def test_int8_operators_are_measured_too(tmp_path: Path) -> None:
    kernels = [kernel._replace(precision=Precision(8, 8)) for kernel in KERNELS]
    write_plan(plan_kernels(kernels, "int8"), tmp_path / "plan")
    assert run_plan(load_plan(tmp_path / "plan"), tmp_path / "out.csv").failed == 0


def test_a_result_that_is_no_number_is_a_failure(plan: StoredPlan, tmp_path: Path) -> None:
    broken = replaced(plan, onnx.load(plan.folder / plan.kernels[1]["file"]), weights=np.nan)
    outcome = run_plan(broken, tmp_path / "out.csv")
    assert (outcome.measured, outcome.failed) == (3, 1)
    row = next(r for r in read_profile(tmp_path / "out.csv").rows if r.status != "ok")
    assert row.status == "failed"
    assert row.seconds == 0
    assert "not finite" in row.comment


def test_a_model_that_onnxruntime_refuses_is_a_failure(plan: StoredPlan, tmp_path: Path) -> None:
    (plan.folder / plan.kernels[1]["file"]).write_bytes(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) { y = Nonsense (x) }'
        ).SerializeToString()
    )
    outcome = run_plan(plan, tmp_path / "out.csv")
    assert (outcome.measured, outcome.failed) == (3, 1)


def replaced(plan: StoredPlan, model: onnx.ModelProto, weights: float) -> StoredPlan:
    """`plan` with all weights of its second model set to a value."""
    for tensor in model.graph.initializer:
        values = np.full(tuple(tensor.dims), weights, np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (plan.folder / plan.kernels[1]["file"]).write_bytes(model.SerializeToString())
    return plan


def test_a_stopped_run_goes_on(plan: StoredPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.csv"
    monkeypatch.setattr(measure, "BATCH", 2)
    seen = 0

    def stop(count: int) -> None:
        nonlocal seen
        seen += count
        if seen == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, output, progress=stop)
    before = read_profile(output).rows
    assert len(before) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "plan"]  # nothing half written
    outcome = run_plan(plan, output)
    assert (outcome.measured, outcome.kept) == (2, 2)
    after = read_profile(output).rows
    assert after[:2] == before
    assert len(after) == 4


def test_no_time_leaves_no_rows(plan: StoredPlan, tmp_path: Path) -> None:
    outcome = run_plan(plan, tmp_path / "out.csv", limit=1e-9)
    assert outcome.missing == 4
    assert not (tmp_path / "out.csv").exists()


def test_failed_rows_are_tried_again(plan: StoredPlan, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    run_plan(plan, output)
    profile = read_profile(output)
    failed = replace(profile.rows[0], status="failed", seconds=0.0, seconds_std=None)
    write_profile(replace(profile, rows=(failed, *profile.rows[1:])), output)
    outcome = run_plan(plan, output)
    assert (outcome.measured, outcome.kept) == (1, 3)
    assert all(row.status == "ok" for row in read_profile(output).rows)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("compiler", "onnxruntime 0.1"),
        ("accelerator", "abacus"),
        ("sources", ("plan 00",)),
        ("device", "npu"),
    ],
)
def test_a_profile_of_something_else_is_not_continued(
    plan: StoredPlan, tmp_path: Path, field: str, value: object
) -> None:
    output = tmp_path / "out.csv"
    run_plan(plan, output)
    changed: dict[str, object] = {field: value}
    write_profile(replace(read_profile(output), **changed), output)
    before = output.read_bytes()
    with pytest.raises(ProfileError, match="another"):
        run_plan(plan, output)
    assert output.read_bytes() == before


def test_an_output_without_a_folder(plan: StoredPlan, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no folder"):
        run_plan(plan, tmp_path / "absent" / "out.csv")


def test_processors_and_collection_are_given_back(plan: StoredPlan, tmp_path: Path) -> None:
    import gc

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    with pytest.raises(ZeroDivisionError), measure.quiet():
        assert not gc.isenabled()
        assert allowed is None or len(os.sched_getaffinity(0)) == 1
        raise ZeroDivisionError
    assert gc.isenabled()
    assert allowed is None or os.sched_getaffinity(0) == allowed


def test_interrupted_samples_count_only_where_others_are_few() -> None:
    session = Session(taps(kernel_model(KERNELS[1], "model"), 1, "plain"))
    probe = measure.Probe(session, session, 1, samples=[1.0, 1.0, 1.1], disturbed=[5.0] * 9)
    assert max(probe.values()) == 1.1
    probe.samples.pop()
    assert max(probe.values()) == 5.0


def test_a_model_whose_inputs_cannot_be_made_up() -> None:
    text = '<ir_version: 8, opset_import: ["" : 18]> g (string[2] x) => (string[2] y) { y = Identity (x) }'
    with pytest.raises(RuntimeFailureError, match="cannot be made up"):
        check_result(parser.parse_model(text))


def test_the_shipped_target_runs_everything_and_takes_profiles(plan: StoredPlan, tmp_path: Path) -> None:
    host = load_backends(load_target("ort-cpu"))["host"]
    assert all(not isinstance(host.costs(kernel), Refusal) for kernel in KERNELS)
    run_plan(plan, tmp_path / "mine.csv")
    text = (FOLDER / "targets" / "ort-cpu.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(f"{text}    profiles: [mine.csv]\n", encoding="utf-8")
    measured = load_backends(load_target(tmp_path / "mine.yaml"))["host"]
    rows = {row.kernel: row.seconds for row in read_profile(tmp_path / "mine.csv").rows}
    for kernel in KERNELS:
        costs = measured.costs(kernel)
        assert isinstance(costs, tuple)
        assert costs[0].source == "measured (mine.csv)"
        assert costs[0].seconds == rows[kernel]


def test_float32_is_the_native_width_of_the_shipped_target() -> None:
    host = load_backends(load_target("ort-cpu"))["host"]
    eight, wide = (host.costs(KERNELS[1]._replace(precision=p)) for p in (Precision(8, 8), WIDE))
    assert isinstance(eight, tuple)
    assert isinstance(wide, tuple)
    assert wide[0].compute_seconds == eight[0].compute_seconds
    # Channels are computed sixteen at a time: one output costs as much as sixteen.
    one = host.costs(Kernel(MatMul(1, 64, 1024, 1), (), WIDE))
    sixteen = host.costs(Kernel(MatMul(1, 64, 1024, 16), (), WIDE))
    assert isinstance(one, tuple)
    assert isinstance(sixteen, tuple)
    assert one[0].compute_seconds > 0.8 * sixteen[0].compute_seconds


def test_rows_without_a_user_are_rows_too(tmp_path: Path) -> None:
    kernels = [Kernel(Elementwise(4096, 2, "add"), (), WIDE)]
    write_plan(plan_kernels(kernels, "model"), tmp_path / "plan")
    run_plan(load_plan(tmp_path / "plan"), tmp_path / "out.csv")
    (row,) = read_profile(tmp_path / "out.csv").rows
    assert isinstance(row, Measurement)
    assert (row.model, row.node) == ("", "")
    assert run.DEVICES == ("ort-cpu",)
