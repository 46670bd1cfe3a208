"""`h4hc search` as people call it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from h4hc.cli.search import command
from h4hc.errors import H4hcError
from h4hc.search.study.study import read_study
from tests.search.study.toys import made, rows

SMALL = ("--space", "h4h-tiny", "-a", "proxy:nn-degree", "-b", "20", "--population", "10", "-w", "serial")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("study") / "s.db")


def test_a_search_from_options_and_run_may_be_left_out(tmp_path: Path) -> None:
    first = call("run", *SMALL, "-o", tmp_path / "a.db")
    second = call(*SMALL, "-o", tmp_path / "b.db", "--json")
    assert first.exit_code == second.exit_code == 0
    assert "20 evaluations" in first.stdout
    assert "the budget is spent" in first.stdout
    result = json.loads(second.stdout)
    assert (result["evaluations"], result["ended"]) == (20, "budget")
    assert rows(tmp_path / "a.db") == rows(tmp_path / "b.db")


def test_a_search_from_a_file_with_changes(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "schema: 1\nspace: h4h-tiny\naccuracy: proxy:nn-degree\nobjectives: [accuracy, latency]\n"
        "constraints: latency<=40us\nbudget: 500\npopulation: 10\n"
    )
    result = call(
        tmp_path / "s.yaml", "-b", 10, "--compile-objective", "energy", "-w", 1, "-o", tmp_path / "s.db", "-q"
    )
    assert (result.exit_code, result.output) == (0, "")
    reading = read_study(tmp_path / "s.db")
    assert reading.config.compile.objective == "energy"
    assert len(reading.evaluations) == 10
    shown = json.loads(call("run", tmp_path / "s.yaml", "--show", "--seed", 7).stdout)
    assert (shown["seed"], shown["budget"], shown["constraints"]) == (7, "500", ["latency<=40us"])


def test_lines_of_progress_where_there_is_no_terminal(tmp_path: Path) -> None:
    result = call(*SMALL, "-o", tmp_path / "s.db")
    last = result.stderr.splitlines()[-1]
    for words in ("generation 1: 20 evaluated", "feasible", "hypervolume", "best", "/s", "of costs known"):
        assert words in last


def test_resume(tmp_path: Path) -> None:
    call(*SMALL, "-o", tmp_path / "s.db", "-q")
    assert call("resume", tmp_path / "s.db", "-b", 30, "-w", "serial", "-q").exit_code == 0
    assert len(rows(tmp_path / "s.db")) == 30


def test_show(study: Path) -> None:
    result = call("show", study)
    assert result.exit_code == 0
    for words in ("h4h-tiny", "npu+cim", "latency<=40us", "proxy:nn-degree", "nsga2, population 10, seed 0",
                  "100% analytical", "hypervolume"):  # fmt: skip
        assert words in result.stdout
    assert json.loads(call("show", study, "--json").stdout)["counts"]["ok"] > 0


def test_front(study: Path) -> None:
    front = read_study(study).front()
    table = call("front", study).stdout
    assert all(e.subnet in table for e in front)
    records = json.loads(call("front", study, "--json").stdout)["front"]
    assert [record["id"] for record in records] == [e.subnet for e in front]
    assert records[0]["subnet"]["space"] == "h4h-tiny"
    lines = list(csv.DictReader(io.StringIO(call("front", study, "--csv").stdout)))
    assert [float(line["latency"]) for line in lines] == [e.measures["latency"] for e in front]


def test_compare(study: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "other.db", engine="random")
    compared = json.loads(call("compare", study, other, "--json").stdout)
    assert [entry["engine"] for entry in compared] == ["nsga2", "random"]
    assert compared[0]["covers"][0] is None
    assert all(0 < entry["hypervolume"] < 1.5 for entry in compared)
    assert "covers 2" in call("compare", study, other).stdout


def test_studies_of_different_things_are_not_compared(study: Path, tmp_path: Path) -> None:
    other = made(tmp_path / "a.db", objectives=["accuracy", "latency"], budget=10)
    assert "has the objectives" in str(call("compare", study, other).exception)
    proxy = made(tmp_path / "b.db", accuracy="proxy:macs", budget=10)
    assert "cannot be compared" in str(call("compare", study, proxy).exception)


def test_export_as_models_and_as_a_population(study: Path, tmp_path: Path) -> None:
    front = read_study(study).front()
    result = call("export", study, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.exception
    assert sorted(os.listdir(tmp_path / "out")) == sorted(
        [*(f"{e.subnet}.onnx" for e in front), "front.json"]
    )
    model = onnx.load(tmp_path / "out" / f"{front[0].subnet}.onnx")
    assert model.metadata_props[0].key == "h4hc.subnet"
    one = call("export", study, "-o", tmp_path / "one.json", "--subnet", front[0].subnet[:8], "--json")
    assert json.loads(one.stdout) == [str(tmp_path / "one.json")]
    assert [e["id"] for e in json.loads((tmp_path / "one.json").read_text())["front"]] == [front[0].subnet]
    again = call("run", *SMALL, "--start", tmp_path / "out" / "front.json", "-o", tmp_path / "again.db", "-q")
    assert again.exit_code == 0
    assert rows(tmp_path / "again.db")[0].vector == front[0].vector
    assert "no candidate is called 'nothing'" in str(
        call("export", study, "-o", "x", "--subnet", "nothing").exception
    )


@pytest.mark.skipif(find_spec("optuna") is None, reason="needs Optuna")
def test_a_journal_for_optuna(tmp_path: Path) -> None:
    import optuna

    result = call(*SMALL, "-o", tmp_path / "s.db", "-q", "--optuna-journal", tmp_path / "s.journal")
    assert result.exit_code == 0, result.exception
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "s.journal"))
    loaded = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    good = [row for row in rows(tmp_path / "s.db") if row.status == "ok"]
    assert [trial.user_attrs["subnet"] for trial in loaded.trials] == [row.subnet for row in good]
    assert [trial.values[0] for trial in loaded.trials] == [row.score for row in good]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--space", "h4h-tiny"), "nothing says how accurate"),
        (("--space", "h4h-tny", "-a", "proxy:macs"), "did you mean h4h-tiny"),
        ((*SMALL, "-c", "latency<20"), "is no constraint"),
        ((*SMALL, "--objectives", "latncy"), "did you mean latency"),
        ((*SMALL, "--objectives", ","), "objectives"),
        ((*SMALL, "-b", "soon"), "is no budget"),
        ((*SMALL, "-w", "gpu"), "are no workers"),
        ((*SMALL, "-e", "nsga3"), "did you mean nsga2"),
        ((*SMALL, "--start", "none.json"), "none.json: cannot be read"),
        ((*SMALL, "--compile-effort", "fast", "--supernet", "a:b"), "not both"),
        (("show", "none.db"), "there is no study"),
        (("resume", "none.db"), "there is no study"),
        (("front", "none.db", "--csv", "--json"), "there is no study"),
        (("export", "none.db", "-o", "x"), "there is no study"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert isinstance(result.exception, H4hcError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list(tmp_path.rglob("*.db"))


def test_without_anything_to_search() -> None:
    assert "Missing what to search" in call("run").output


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """A process in the background of a shell is started with interrupts ignored, and so are its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_interrupts")
def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    arguments = ["-b", "100000", "-w", "2", "-o", str(path), *SMALL[:4], "--population", "10"]
    with subprocess.Popen(
        [sys.executable, "-m", "h4hc", "search", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (path.exists() and rows(path)) and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers too
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert f"go on with h4hc search resume {path}" in errors
    assert "Traceback" not in errors
    assert not path.with_name("s.db-lock").exists()


def test_help_imports_no_search() -> None:
    code = (
        "import sys; from h4hc.cli import main\n"
        "try:\n    main(['search', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'onnx', 'pymoo', 'sqlite3', 'torch', 'pydantic'}.intersection(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
