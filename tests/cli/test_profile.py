"""`h4hc profile`: import, calibrate and show, and a compilation that uses a profile."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from h4hc.backends import load_backends, load_target
from h4hc.backends.files import FOLDER
from h4hc.backends.profiles.kernels import canonical
from h4hc.backends.profiles.table import Measurement, Profile, read_profile, write_profile
from h4hc.cli import main
from h4hc.cli.profile_data import _operators
from h4hc.ir.workload import Kernel, Move

MODELS = Path(__file__).parents[1] / "models"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "mobilenet.onnx"
    path.write_bytes(lzma.decompress((MODELS / "mobilenetv2_100.onnx.xz").read_bytes()))
    return path


@pytest.fixture(scope="module")
def operators(model: Path) -> list[tuple[str, Kernel]]:
    return [
        (name, kernel)
        for name, kernel in _operators(model, "int8", ())
        if not (isinstance(kernel.workload, Move) and kernel.workload.kind == "view")
    ]


def measured(operators: list[tuple[str, Kernel]], factor: float = 1.5, every: int = 1) -> Profile:
    """Every so many operators of a model, `factor` times as slow as the NPU's model says."""
    npu = load_backends(load_target("npu"))["npu"]
    rows = []
    for name, kernel in operators[::every]:
        found = npu.costs(kernel)
        assert isinstance(found, tuple)
        rows.append(
            Measurement(
                canonical(kernel),
                found[0].seconds * factor,
                model="mobilenet",
                node=name,
                joules=found[0].joules,
            )
        )
    return Profile("ACME-AR1", "cc 1", tuple(rows), clock=1e9, energy="dynamic")


def acme(folder: Path, *profiles: str) -> Path:
    """The shipped NPU target with profiles."""
    text = (FOLDER / "targets" / "npu.yaml").read_text(encoding="utf-8")
    assert text.count("\n    preset: ethos-u85-256\n") == 1
    named = f"\n    preset: ethos-u85-256\n    profiles: [{', '.join(profiles)}]\n"
    path = folder / "acme.yaml"
    path.write_text(text.replace("\n    preset: ethos-u85-256\n", named), encoding="utf-8")
    return path


def test_help_names_all_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in ("plan", "run", "import", "calibrate", "show"):
        assert name in result.output


def test_import_merges_repeats_and_says_what_it_did(
    tmp_path: Path, operators: list[tuple[str, Kernel]]
) -> None:
    first, slower = measured(operators), measured(operators, 1.7)
    for name, profile in (("a.csv", first), ("b.csv", slower), ("c.csv", first)):
        write_profile(profile, tmp_path / name)
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    result = run("import", *files, "-o", tmp_path / "acme.csv", "--target", "npu", "--date", "2026-01-01")
    assert result.exit_code == 0, result.output
    found = read_profile(tmp_path / "acme.csv")
    assert f"{len(found.rows)} rows of ACME-AR1, cc 1, {2 * len(found.rows)} repeats merged" in result.output
    assert [row.seconds for row in found.rows] == [row.seconds for row in first.rows]
    assert (found.date, len(found.sources)) == ("2026-01-01", 3)
    text = (tmp_path / "acme.csv").read_bytes()
    run("import", *files, "-o", tmp_path / "acme.csv", "--target", "npu", "--date", "2026-01-01")
    assert (tmp_path / "acme.csv").read_bytes() == text


def test_import_refuses_what_the_device_cannot_reach(
    tmp_path: Path, operators: list[tuple[str, Kernel]]
) -> None:
    profile = measured(operators)
    fast = replace(profile, rows=(*profile.rows[:3], replace(profile.rows[3], seconds=1e-9)))
    write_profile(fast, tmp_path / "a.csv")
    result = run("import", tmp_path / "a.csv", "-o", tmp_path / "acme.csv", "--target", "npu")
    assert result.exit_code == 2
    line = next(
        n for n, text in enumerate((tmp_path / "a.csv").read_text().splitlines(), 1) if "0.001," in text
    )
    assert f"a.csv line {line}: 0.001 us" in result.output
    assert not (tmp_path / "acme.csv").exists()


def test_import_of_a_vela_table(tmp_path: Path, model: Path, operators: list[tuple[str, Kernel]]) -> None:
    convolutions = [(name, kernel) for name, kernel in operators if kernel.workload.macs][:4]
    lines = ["TFLite_operator,NNG Operator,Op Cycles,NPU,MAC Count,Name"]
    for name, kernel in convolutions:
        kind = "DepthwiseConv2D" if kernel.workload.depthwise else "Conv2DBias"  # type: ignore[union-attr]
        lines.append(f"CONV_2D,{kind},{kernel.workload.macs // 100},100,{kernel.workload.macs},{name}")
    (tmp_path / "m_per-layer.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = ["--device", "U85", "--compiler", "vela 5.2", "--clock", "1 GHz", "--model", model]
    result = run("import", tmp_path / "m_per-layer.csv", "-o", tmp_path / "u85.csv", *said)
    assert result.exit_code == 0, result.output
    rows = read_profile(tmp_path / "u85.csv").rows
    assert [(row.node, row.kernel) for row in rows] == [
        (name, canonical(kernel)) for name, kernel in convolutions
    ]


def test_calibrate_and_show(tmp_path: Path, model: Path, operators: list[tuple[str, Kernel]]) -> None:
    write_profile(measured(operators, every=2), tmp_path / "acme.csv")
    result = run("calibrate", tmp_path / "acme.csv", "--target", "npu", "-o", tmp_path / "acme.json")
    assert result.exit_code == 0, result.output
    assert "pointwise" in result.output
    assert "weight bandwidth" in result.output
    shown = run("show", tmp_path / "acme.csv", "--target", "npu", "--model", model)
    assert shown.exit_code == 0, shown.output
    assert "not measured: " in shown.output
    assert "same --precision" not in shown.output
    stored = run("show", tmp_path / "acme.csv", "-t", "npu", "--model", model, "--precision", "model")
    assert "the rows are of 8x8 bit" in stored.output
    document = json.loads(
        run("show", tmp_path / "acme.csv", "--target", "npu", "--model", model, "--json").output
    )
    levels = {level["level"]: level for level in document["coverage"]["levels"]}
    assert levels["measured"]["operators"] >= len(operators) // 2
    assert sum(level["operators"] for level in levels.values()) == len(_operators(model, "int8", ()))
    calibrated = json.loads(run("calibrate", tmp_path / "acme.csv", "-t", "npu", "--json").output)
    assert calibrated == json.loads((tmp_path / "acme.json").read_text(encoding="utf-8"))


def test_models_as_a_whole_calibrate_classes(
    tmp_path: Path, model: Path, operators: list[tuple[str, Kernel]]
) -> None:
    rows = measured(operators, 2.0).rows
    total = sum(row.seconds for row in rows)
    whole = Measurement(None, total, "model", model="mobilenet", onnx_op="*")
    write_profile(replace(measured(operators, 2.0), rows=(whole,) * 3), tmp_path / "whole.csv")
    alone = run("calibrate", tmp_path / "whole.csv", "--target", "npu")
    assert alone.exit_code == 2
    assert "holds no rows that say anything of npu" in alone.output
    result = run("calibrate", tmp_path / "whole.csv", "--target", "npu", "--model", model, "--json")
    assert result.exit_code == 0, result.output
    factors = json.loads(result.output)["factors"]["classes"]
    assert (
        1.1 < factors["pointwise"] < 1.8
    )  # twice the model, shared by the classes, from three rows of eight


def test_sums_need_no_target(tmp_path: Path) -> None:
    rows = [Measurement(None, 1e-3, "model", identifier="a", weight_bytes=0, onnx_op="*")]
    rows += [
        Measurement(None, t, "model", baseline="a", weight_bytes=b, onnx_op="*")
        for t, b in ((3e-3, 10**6), (5e-3, 2 * 10**6))
    ]
    write_profile(Profile("d", "c", tuple(rows)), tmp_path / "pairs.csv")
    result = run("calibrate", tmp_path / "pairs.csv")
    assert result.exit_code == 0, result.output
    assert "bytes / 0.5 GB/s" in result.output
    document = json.loads(run("calibrate", tmp_path / "pairs.csv", "--json").output)
    assert document["pairs.csv"]["increment"]["bandwidth"] == pytest.approx(5e8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "none.csv"], "none.csv: cannot be read"),
        (["show", "a.csv", "--model", "m.onnx"], "give --target as well"),
        (["show", "a.csv", "--target", "npu+cim"], "choose one with --on: npu, cim, host"),
        (["show", "a.csv", "--target", "npu", "--on", "gpu"], "no device is called gpu"),
        (["calibrate", "a.csv"], "no rows of models name a baseline"),
        (["calibrate", "a.csv", "-o", "x.json"], "give --target"),
        (["import", "a.csv", "-o", "b.csv", "--format", "vella"], "there is no format 'vella'"),
        (["import", "a.csv", "-o", "b.csv", "--clock", "fast"], "--clock: 'fast' is no frequency"),
    ],
)
def test_mistakes_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_profile(Profile("d", "c", ()), tmp_path / "a.csv")
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_bundle_says_where_costs_come_from(
    tmp_path: Path, model: Path, operators: list[tuple[str, Kernel]]
) -> None:
    write_profile(measured(operators, every=2), tmp_path / "acme.csv")
    path = acme(tmp_path, "acme.csv")
    arguments = ["compile", str(model), "-t", str(path), "-o", str(tmp_path / "out"), "--verify", "-q"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "schedule.json").read_text(encoding="utf-8"))
    sources = {operator["source"] for operator in document["operators"] if operator["device"] == "npu"}
    assert {"measured (acme.csv)", "calibrated (acme.csv)"} <= sources
    (reference,) = document["target"]["devices"][0]["profiles"]
    assert reference["path"] == "acme.csv"
    assert len(reference["sha256"]) == 64
    (tmp_path / "acme.csv").unlink()  # who checks the bundle does not need it
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out")]).exit_code == 0
