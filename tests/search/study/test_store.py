"""The file of a study: what it refuses, what it survives, who may read it meanwhile."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from h4hc.errors import StudyError
from h4hc.search.study.lock import locked
from h4hc.search.study.record import COMPILED, OK, Evaluation
from h4hc.search.study.run import Session, resume_study
from h4hc.search.study.store import SCHEMA, Store
from h4hc.search.study.study import read_study
from tests.search.study.toys import everything, made


def evaluation(number: int, status: str = OK) -> Evaluation:
    return Evaluation(
        number=number,
        generation=number // 10,
        vector=(number, 1),
        subnet=f"net{number}",
        status=status,
        message="",
        violation=0.0,
        measures={"latency": 0.5},
        details={"npu": {"devices": {}}},
        wall_ms=1.5,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Store.create(tmp_path / "s.db", {"config": "{}"})
    return tmp_path / "s.db"


def test_what_is_kept_comes_back(path: Path) -> None:
    with Store(path, write=True) as store:
        session = store.begin_session({"h4hc": "1"}, "2")
        store.add([evaluation(0), evaluation(11, COMPILED)], session, 2.5)
        store.end_generation(0, {"evaluations": 1, "feasible": 1, "hypervolume": 0.5, "front": 1})
    with Store(path) as store:
        assert store.evaluations() == [evaluation(0), evaluation(11, COMPILED)]
        assert store.evaluations(1) == [evaluation(11, COMPILED)]
        assert store.sessions() == [(1, {"h4hc": "1"}, "2", 2.5)]
        assert store.generations() == [
            {"number": 0, "evaluations": 1, "feasible": 1, "hypervolume": 0.5, "front": 1}
        ]
    assert sorted(os.listdir(path.parent)) == ["s.db"]


def test_a_batch_is_kept_whole_or_not_at_all(path: Path) -> None:
    with Store(path, write=True) as store:
        session = store.begin_session({}, "")
        with pytest.raises(StudyError):
            store.add([evaluation(0), evaluation(0)], session, 0)
        assert store.evaluations() == []


def test_others_read_while_one_writes(path: Path) -> None:
    """Readers see whole batches of 10, in growing number, and never wait for long."""
    done = threading.Event()

    def read() -> list[int]:
        seen = []
        while not done.is_set():
            with Store(path) as store:
                rows = store.evaluations()
            assert [row.number for row in rows] == list(range(len(rows)))
            seen.append(len(rows))
        return seen

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        try:
            with Store(path, write=True) as store:
                session = store.begin_session({}, "")
                for first in range(0, 1000, 10):
                    store.add([evaluation(n) for n in range(first, first + 10)], session, 0)
        finally:
            done.set()
    seen = reading.result()
    assert seen == sorted(seen)
    assert all(count % 10 == 0 for count in seen)


def test_a_study_is_not_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StudyError, match="exists already; go on with h4hc search resume"):
        Store.create(path, {})
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be written"):
        Store.create(tmp_path / "none" / "s.db", {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no study"),
        (b"x" * 5000, "is damaged"),
        (b"SQLite format 3\0" + b"\1" * 500, "is damaged|is no study|cannot be"),
    ],
)
def test_files_that_are_no_studies(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(StudyError, match=message):
        read_study(tmp_path / "s.db")


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "s.db", tmp_path):
        with pytest.raises(StudyError, match="there is no study"):
            read_study(path)


def test_another_database(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "s.db").execute("CREATE TABLE meta (key, value)").connection.close()
    with pytest.raises(StudyError, match="is no study of h4hc"):
        read_study(tmp_path / "s.db")


def test_a_newer_schema_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(StudyError, match="newer h4hc"):
        Store(path)


def test_a_full_disk_loses_nothing_that_was_kept(path: Path) -> None:
    with Store(path, write=True) as store:
        session = store.begin_session({}, "")
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        kept = 0
        with pytest.raises(StudyError, match="the disk is full"):
            for kept in range(1000):
                store.add([evaluation(kept)], session, 0)
    assert kept > 2
    with Store(path) as store:
        assert store.evaluations() == [evaluation(number) for number in range(kept)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("study") / "s.db", budget=20)


def copied(finished: Path, folder: Path) -> Path:
    (folder / "s.db").write_bytes(finished.read_bytes())
    return folder / "s.db"


def test_damage_is_found_before_a_search_goes_on(finished: Path, tmp_path: Path) -> None:
    """Whatever part of the file is overwritten: one clear line, or nothing that matters was hit."""
    whole = everything(finished)
    refused = 0
    for place in range(100, finished.stat().st_size, finished.stat().st_size // 25):
        path = copied(finished, tmp_path)
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\xa5" * 200)
        try:
            resume_study(path, Session(workers="serial"))
            assert everything(path) == whole
        except StudyError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 10


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE evaluations SET vector = '[1, 2' WHERE number = 3", "is damaged: a record is no valid JSON"),
        (
            "UPDATE evaluations SET vector = '[0,0,0,0,0,0,0,0,0,0,0,0]' WHERE number = 3",
            "comes out differently",
        ),
        ("UPDATE evaluations SET generation = 0 WHERE number = 15", "comes out differently"),
        ("DELETE FROM meta WHERE key = 'config'", "is incomplete"),
        ("UPDATE meta SET value = '{}' WHERE key = 'objectives'", "is incomplete|no objective|is not what"),
        ("UPDATE meta SET value = 'x' WHERE key = 'space_digest'", "the search space is not what"),
        ("UPDATE meta SET value = 'x' WHERE key = 'targets_digest'", "a target.* is not what"),
        ("UPDATE meta SET value = 'x' WHERE key = 'score_context'", "gives other accuracies"),
    ],
)
def test_a_study_that_does_not_fit_is_not_gone_on_with(
    finished: Path, tmp_path: Path, sql: str, message: str
) -> None:
    path = copied(finished, tmp_path)
    with sqlite3.connect(path) as database:
        database.execute(sql)
    with pytest.raises(StudyError, match=message):
        resume_study(path, Session(workers="serial"), "25")
        read_study(path).front()


def test_two_processes_do_not_run_one_study(finished: Path, tmp_path: Path) -> None:
    path = copied(finished, tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from h4hc.search.study.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(3600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StudyError, match=rf"another process \({holder.pid}\) is running this study"):
                resume_study(path, Session(workers="serial"))
            assert read_study(path).front()
        finally:
            holder.kill()
    resume_study(path, Session(workers="serial"))
    assert not path.with_name("s.db-lock").exists()


def test_a_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            locked(tmp_path / "s.db"),
            pytest.raises(StudyError, match="another process"),
            locked(tmp_path / "s.db"),
        ):
            pass
    assert not os.listdir(tmp_path)
