"""Workers: the same results from all kinds, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from h4hc.errors import OptionError, ScoreError, StudyError
from h4hc.search.scores import Score
from h4hc.search.study.genome import Genome, SpaceNetworks
from h4hc.search.study.record import COMPILED, ERROR, Finding
from h4hc.search.study.run import Session, run_new
from h4hc.search.study.study import open_study
from h4hc.search.study.workers import open_workers
from h4hc.search.study.workers.base import Kind
from h4hc.search.study.workers.host import Job
from h4hc.search.subnet import Subnet
from tests.search.study.toys import config, everything, made, rows

ROOT = Path(__file__).resolve().parents[3]
KINDS = [
    "1",
    "2",
    pytest.param("ray", marks=pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")),
]


@dataclass(frozen=True)
class Deadly(SpaceNetworks):
    """Ends its process at some candidates: always, or the first time (by leaving a mark in a file)."""

    marks: str = ""
    victims: frozenset[tuple[int, ...]] = frozenset()
    always: bool = True

    def model(self, subnet: Subnet) -> Any:
        vector = self.space.encode(subnet)
        mark = Path(self.marks) / "-".join(map(str, vector))
        if vector in self.victims and (self.always or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().model(subnet)


@dataclass(frozen=True)
class Lingering(SpaceNetworks):
    """Ends its process seconds after its pipe is closed, as a busy machine may."""

    def model(self, subnet: Subnet) -> Any:
        os.closerange(3, 1024)
        time.sleep(3)
        os.kill(os.getpid(), signal.SIGKILL)


class Interrupted:
    """A source of scores that comes with an interrupt to every process that it is sent to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.kill, (_OwnNumber(), signal.SIGINT)


class _OwnNumber:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getpid, ()


@dataclass(frozen=True)
class Slow:
    """A source like those that run PyTorch: scored by the workers."""

    broken: str = ""
    name = "slow"
    context = "slow 1"
    needs_torch = True

    def score(self, subnets: Sequence[Subnet]) -> list[Score]:
        if self.broken == "told":
            raise ScoreError("the data are gone")
        if self.broken == "unforeseen":
            raise ZeroDivisionError("division by zero")
        if self.broken == "silent":
            return []
        value = float("nan") if self.broken == "nan" else 0.5
        return [Score(value + subnet.depth, 0.0, 1.0, "measured") for subnet in subnets]


def vectors(count: int) -> list[tuple[int, ...]]:
    import numpy as np

    networks = open_study(config()).genome.networks
    rng = np.random.default_rng(5)
    return list(dict.fromkeys(networks.sample(rng) for _ in range(count)))


def compiled(
    workers: str, job: Job, candidates: Sequence[tuple[int, ...]], kind: Kind = "compile"
) -> list[Any]:
    found: dict[int, Any] = {}
    with open_workers(workers, job) as crew:
        for answer in crew.run(kind, candidates, lambda: False):
            found.update(zip(answer.numbers, answer.results, strict=True))
    return [
        replace(found[i], wall_ms=0.0) if isinstance(found[i], Finding) else found[i] for i in sorted(found)
    ]


@pytest.mark.parametrize("workers", KINDS)
def test_the_front_does_not_depend_on_who_works(workers: str, tmp_path: Path) -> None:
    alone = made(tmp_path / "serial.db", "serial")
    assert everything(made(tmp_path / "other.db", workers)) == everything(alone)


@pytest.mark.parametrize("workers", KINDS)
def test_a_worker_that_dies_is_replaced(workers: str, tmp_path: Path) -> None:
    """A candidate that ends its worker once is evaluated after all; one that does so always becomes an error."""
    study = open_study(config())
    candidates = vectors(18)
    whole = compiled("serial", Job(study.setup), candidates)
    networks = study.genome.networks
    assert isinstance(networks, SpaceNetworks)
    for always in (False, True):
        marks = tmp_path / str(always)
        marks.mkdir()
        deadly = Deadly(networks.space, str(marks), frozenset([candidates[4], candidates[17]]), always)
        setup = replace(study.setup, genome=Genome(deadly, study.genome.systems))
        found = compiled(workers, Job(setup), candidates)
        for i, (result, expected) in enumerate(zip(found, whole, strict=True)):
            if always and i in (4, 17):
                assert result.status == ERROR
                assert "ended its worker twice" in result.message
            else:
                assert result == expected
        assert len(os.listdir(marks)) == 2


def test_workers_that_all_die_at_once_end_the_search(tmp_path: Path) -> None:
    study = open_study(config())
    candidates = vectors(20)
    networks = study.genome.networks
    assert isinstance(networks, SpaceNetworks)
    deadly = Deadly(networks.space, str(tmp_path), frozenset(candidates))
    setup = replace(study.setup, genome=Genome(deadly, study.genome.systems))
    with pytest.raises(
        StudyError, match="workers die as soon as they start: the process ended with signal 9"
    ):
        compiled("2", Job(setup), candidates)


def test_how_a_worker_ended_is_waited_for() -> None:
    study = open_study(config())
    networks = study.genome.networks
    assert isinstance(networks, SpaceNetworks)
    setup = replace(study.setup, genome=Genome(Lingering(networks.space), study.genome.systems))
    (found,) = compiled("1", Job(setup), vectors(1))
    assert found.message == "ended its worker twice: the process ended with signal 9"


def test_interrupts_pass_workers_by_that_start() -> None:
    """In a process of its own, so that all that `multiprocessing` needs starts too."""
    code = (
        "from tests.search.study.test_workers import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "job = Job(open_study(config()).setup, Interrupted())\n"
        "assert compiled('2', job, vectors(8)) == compiled('serial', job, vectors(8))\n"
        "assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", refused)
    with pytest.raises(StudyError, match=r"do not start: AF_UNIX path too long; .*a shorter TMPDIR"):
        compiled("2", Job(open_study(config()).setup), vectors(1))


@pytest.mark.parametrize("workers", ["serial", "2"])
def test_scores_come_from_the_workers_too(workers: str, tmp_path: Path) -> None:
    study = replace(open_study(config()), source=Slow())
    run_new(study, tmp_path / "s.db", Session(workers=workers))
    scored = [row for row in rows(tmp_path / "s.db") if row.status == "ok"]
    assert scored
    assert all(row.score is not None and row.score_kind == "measured" for row in scored)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
def test_actors_with_a_gpu_score(tmp_path: Path) -> None:
    """Ray is told of a GPU; the source does not look whether there is one."""
    study = replace(open_study(config(budget=20)), source=Slow())
    run_new(study, tmp_path / "alone.db", Session(workers="serial"))
    run_new(study, tmp_path / "s.db", Session(workers="ray", gpus=1))
    assert everything(tmp_path / "s.db") == everything(tmp_path / "alone.db")


@pytest.mark.parametrize("workers", ["serial", "2"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("told", "the data are gone"),
        ("unforeseen", "scoring by slow failed: ZeroDivisionError: division by zero"),
        ("silent", "missing or not finite"),
        ("nan", "missing or not finite"),
    ],
)
def test_a_source_that_fails_ends_the_search_and_keeps_what_was_compiled(
    workers: str, broken: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.db"
    study = replace(open_study(config()), source=Slow(broken))
    with pytest.raises((StudyError, ScoreError), match=message):
        run_new(study, path, Session(workers=workers))
    found = rows(path)
    assert len(found) == 10
    assert any(row.status == COMPILED for row in found)


@pytest.mark.parametrize("text", ["0", "-1", "many", "99999", "2.5", "ray://", "ray:/x", ""])
def test_workers_that_make_no_sense(text: str) -> None:
    with pytest.raises(OptionError, match="are no workers"):
        open_workers(text, Job(open_study(config()).setup))


def test_gpus_need_ray() -> None:
    with pytest.raises(OptionError, match="GPU actors need Ray"):
        open_workers("2", Job(open_study(config()).setup), gpus=1)


@pytest.mark.parametrize("genes", [True, False])
def test_a_supernet_of_ones_own_is_found_by_other_processes(genes: bool, tmp_path: Path) -> None:
    """By the text that names it; without genes its subnets are drawn by number."""
    pytest.importorskip("torch")
    given = "genes = {'width': [4, 8, 12, 16], 'depth': [1, 2, 3, 4]}" if genes else ""
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Mine:\n"
        "    name, input_shape = 'mine', (3, 8, 8)\n"
        f"    {given}\n"
        "    def sample(self, rng):\n"
        "        return {'width': int(rng.choice([4, 8, 12, 16])), 'depth': int(rng.choice([1, 2, 3, 4]))}\n"
        "    def extract(self, subnet):\n"
        "        width, layers = subnet['width'], [nn.Conv2d(3, subnet['width'], 3)]\n"
        "        for _ in range(subnet['depth']):\n"
        "            layers += [nn.Conv2d(width, width, 1), nn.ReLU()]\n"
        "        return nn.Sequential(*layers)\n"
    )
    changes = {"space": None, "supernet": f"{tmp_path / 'mine.py'}:Mine", "accuracy": None,
               "objectives": ["latency", "memory"], "constraints": [], "budget": 10}  # fmt: skip
    alone = made(tmp_path / "alone.db", **changes)
    assert {row.status for row in rows(alone)} == {"ok"}
    assert everything(made(tmp_path / "two.db", "2", **changes)) == everything(alone)
