"""The solver: its canaries, its releases, what is kept of its answers, and exact effort from end to end."""

from __future__ import annotations

import json
import lzma
import sqlite3
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import h4hc
from h4hc.bundle import write_bundle
from h4hc.errors import OptionError
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.passes.exact import solver
from h4hc.passes.exact.store import Store, cache_folder
from h4hc.verify import verify_bundle
from tests.models import EXAMPLE

CANARIES = Path(__file__).parent / "data" / "solver_canaries"
# Optimal makespans of scheduling models that OR-Tools 9.15 solves to a wrong "optimum".
EXPECTED = {477: 5373, 478: 5043, 479: 5186, 480: 5309, 481: 5447, 482: 5590, 493: 5807, 494: 5950}
SETTINGS: dict[str, dict[str, int | bool]] = {
    "default": {},
    "no linear relaxation": {"linearization_level": 0},
    "no presolve": {"cp_model_presolve": False},
    "as used": {"linearization_level": 0, "cp_model_probing_level": 0, "max_presolve_iterations": 1},
    "as used to check": {"linearization_level": 1, "cp_model_probing_level": 0, "max_presolve_iterations": 1},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("number", EXPECTED)
def test_canaries_have_their_known_optima(number: int, setting: str) -> None:
    """A solver that fails here must not be trusted with a proof."""
    pytest.importorskip("ortools", reason="OR-Tools (extra 'exact') is not installed")
    from google.protobuf import text_format
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    text = lzma.decompress((CANARIES / f"hybrid-0_{number}.pb.txt.xz").read_bytes()).decode()
    text_format.Parse(text, model.Proto())
    engine = cp_model.CpSolver()
    engine.parameters.num_workers = 1
    for name, value in SETTINGS[setting].items():
        setattr(engine.parameters, name, value)
    assert engine.Solve(model) == cp_model.OPTIMAL
    assert engine.ObjectiveValue() == EXPECTED[number]


def test_a_missing_or_wrong_solver_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise PackageNotFoundError("ortools")

    monkeypatch.setattr(solver, "version", missing)
    with pytest.raises(OptionError, match="exact effort needs OR-Tools; run pip install"):
        solver.check_solver()
    monkeypatch.setattr(solver, "version", lambda _: "9.15.6755")
    with pytest.raises(
        OptionError, match=r"OR-Tools 9\.15\.6755 returns wrong proofs of optimality; run pip"
    ):
        solver.check_solver()
    monkeypatch.setattr(solver, "version", lambda _: solver.RELEASE)
    solver.check_solver()


def test_answers_are_kept_and_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    store.add("a", [1, [2]])
    store.save()
    assert Store(tmp_path / "new").read(["a", "b"]) == {"a": [1, [2]]}
    path = tmp_path / "new" / "exact.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE answers SET text = '[9]'")
    connection.commit()
    connection.close()
    assert Store(tmp_path / "new").read(["a"]) == {}  # the checksum does not fit
    path.write_bytes(b"no database" * 100)
    broken = Store(tmp_path / "new")
    assert broken.read(["a"]) == {}
    broken.add("a", 3)
    broken.save()
    assert Store(tmp_path / "new").read(["a"]) == {"a": 3}


def test_where_answers_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("H4HC_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("H4HC_CACHE_DIR", "")
    assert cache_folder() is None
    monkeypatch.delenv("H4HC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "h4hc"


def test_a_folder_that_cannot_be_looked_into_keeps_nothing(tmp_path: Path) -> None:
    """As that of somebody else; this one also for root, whom no system refuses."""
    store = Store(tmp_path / ("too long" * 100))
    store.add("a", 1)
    store.save()
    assert store.read(["a"]) == {}


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    store = Store(file)
    store.add("a", 1)
    store.save()
    assert store.read(["a"]) == {}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_exact_effort_is_no_worse_verifies_and_repeats(
    objective: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ortools", reason="OR-Tools (extra 'exact') is not installed")
    monkeypatch.setenv("H4HC_CACHE_DIR", str(cache))
    loaded = h4hc.load_model(EXAMPLE)
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))

    def compiled(effort: str, evaluations: int | None) -> h4hc.Compilation:
        options = h4hc.Options(objective=objective, effort=effort, evaluations=evaluations, baselines=False)
        return compiler.compile(loaded.model, options, loaded.source)

    exact, balanced = compiled("exact", 1500), compiled("balanced", 1500)
    assert exact.schedule is not None
    assert balanced.schedule is not None
    assert getattr(exact.schedule, objective) <= getattr(balanced.schedule, objective)
    claims = {claim.kind: claim for claim in exact.claims}
    assert claims["operator-latency"].status == "optimal"
    assert claims["latency"].value <= exact.schedule.latency
    assert claims["dynamic-energy"].value <= exact.schedule.dynamic_energy
    again = compiled("exact", 1500)  # with answers from the cache
    assert again.schedule == exact.schedule
    assert again.claims == exact.claims
    write_bundle(exact, tmp_path / "build")
    report = verify_bundle(tmp_path / "build", EXAMPLE)
    assert [check for check in report.checks if not check.passed] == []


def test_few_frames_in_flight_have_a_bound_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ortools", reason="OR-Tools (extra 'exact') is not installed")
    monkeypatch.setenv("H4HC_CACHE_DIR", str(tmp_path / "cache"))
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(objective="throughput", effort="exact", evaluations=500, frames=2, baselines=False)
    compilation = h4hc.Compiler(h4hc.load_target("npu+cim")).compile(loaded.model, options, loaded.source)
    schedule, claims = compilation.schedule, {claim.kind: claim.value for claim in compilation.claims}
    assert schedule is not None
    assert claims["initiation-interval"] <= claims["interval-in-flight"] <= schedule.initiation_interval
    assert claims["critical-path"] < claims["latency"] <= schedule.latency
    write_bundle(compilation, tmp_path / "build")
    assert [check for check in verify_bundle(tmp_path / "build", EXAMPLE).checks if not check.passed] == []


def test_verify_refuses_a_claim_that_the_schedule_contradicts(tmp_path: Path) -> None:
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(effort="fast", baselines=False)
    compilation = h4hc.Compiler(h4hc.load_target("npu+cim")).compile(loaded.model, options, loaded.source)
    write_bundle(compilation, tmp_path / "build")
    path = tmp_path / "build" / "schedule.json"
    document = json.loads(path.read_text())
    too_high = document["summary"]["latency"] + 1
    document["claims"] = [{"kind": "latency", "value": too_high, "status": "bound", "method": "a guess"}]
    path.write_text(json.dumps(document))
    report = verify_bundle(tmp_path / "build", EXAMPLE)
    assert any("latency is at least" in check.detail for check in report.checks if not check.passed)


def test_a_time_limit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ortools", reason="OR-Tools (extra 'exact') is not installed")
    monkeypatch.setenv("H4HC_CACHE_DIR", "")
    loaded = h4hc.load_model(EXAMPLE)
    options = h4hc.Options(effort="exact", baselines=False, time_limit=10 * TICK_SECONDS)
    compilation = h4hc.Compiler(h4hc.load_target("npu+cim")).compile(loaded.model, options, loaded.source)
    assert compilation.schedule is not None
    assert all("time limit reached" in c.method for c in compilation.claims if c.kind != "critical-path")
