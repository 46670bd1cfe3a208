"""A search that is killed goes on as if it had never stopped."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from h4hc.errors import StudyError
from h4hc.search.study import loop
from h4hc.search.study.run import Session, resume_study, run_study
from h4hc.search.study.store import Store
from tests.search.study.toys import config, everything, made, rows

KILLS = 24
BUDGET = 60
PATIENCE = 600  # seconds


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("whole") / "s.db", budget=BUDGET)


def killed(path: Path, seconds: float, workers: str = "serial") -> bool:
    """Run or resume the study in a process of its own, and kill it after a while; whether that came too late."""
    child = os.fork()
    if not child:
        status = 1
        try:
            session = Session(workers=workers)
            if path.exists():
                resume_study(path, session)
            else:
                run_study(config(budget=BUDGET), path, session)
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        assert status == 0
        return True
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def test_killed_at_any_moment_it_ends_with_the_same_database(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    kills = finished = 0
    path = tmp_path / "0.db"
    while kills < KILLS:
        before = rows(path) if path.exists() else []
        if killed(path, rng.uniform(0.0, 0.25)):
            assert everything(path) == everything(whole)
            finished += 1
            path = tmp_path / f"{finished}.db"
            continue
        kills += 1
        after = rows(path) if path.exists() else []
        kept = {row.number: row for row in after}
        for row in before:  # nothing is lost, and what has a score is not evaluated again
            assert row.number in kept
            assert row.status == "compiled" or kept[row.number] == row
    if not path.exists():
        return
    resume_study(path, Session(workers="serial"))
    assert everything(path) == everything(whole)


def test_killed_with_its_workers_it_ends_with_the_same_database(whole: Path, tmp_path: Path) -> None:
    """The command itself, with two processes that must not outlive it."""
    path = tmp_path / "s.db"
    run_study(config(budget=10), path, Session(workers="serial"))
    command = [
        sys.executable,
        "-m",
        "h4hc",
        "search",
        "resume",
        str(path),
        "-b",
        str(BUDGET),
        "-w",
        "2",
        "-q",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while len(rows(path)) < 25 and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        assert (
            process.communicate(timeout=PATIENCE)[0] == b""
        )  # ends when the last process that may write to it does
    assert process.returncode == -signal.SIGKILL
    assert 25 <= len(rows(path)) < BUDGET
    resume_study(path, Session(workers="2"))
    assert everything(path) == everything(whole)


def test_an_interrupt_leaves_a_study_that_goes_on(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    class Interrupt(Exception):
        pass

    def stop(_: object) -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        run_study(config(budget=BUDGET), path, Session(workers="serial", report=stop))
    assert 0 < len(rows(path)) < BUDGET
    resume_study(path, Session(workers="serial"))
    assert everything(path) == everything(whole)


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(whole: Path, tmp_path: Path) -> None:
    """Also where a budget ends in the middle of a generation."""
    path = made(tmp_path / "s.db", budget=7)
    assert [row.number for row in rows(path)] == list(range(7))
    for budget in ("23", "23", str(BUDGET)):
        resume_study(path, Session(workers="serial"), budget)
        assert len(rows(path)) == int(budget)
    assert everything(path) == everything(whole)
    resume_study(path, Session(workers="serial"), "5")  # spent long ago
    assert everything(path) == everything(whole)


def test_a_budget_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    path = tmp_path / "s.db"
    assert run_study(config(budget="1s"), path, Session(workers="serial")) == "budget"
    found = len(rows(path))
    assert 10 < found < 200
    assert resume_study(path, Session(workers="serial")) == "budget"  # the second is spent
    assert len(rows(path)) <= found + 10
    with Store(path) as store:
        assert 0.9 <= sum(seconds for *_, seconds in store.sessions()) <= 1.1


@pytest.mark.parametrize("engine", ["random", "evolution", "bayes"])
def test_every_engine_goes_on(engine: str, tmp_path: Path) -> None:
    whole = made(tmp_path / "whole.db", engine=engine, budget=40)
    path = made(tmp_path / "s.db", engine=engine, budget=11)
    resume_study(path, Session(workers="serial"), "33")
    resume_study(path, Session(workers="serial"), "40")
    assert everything(path) == everything(whole)


def test_there_must_be_a_study_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no study"):
        resume_study(tmp_path / "s.db", Session())
