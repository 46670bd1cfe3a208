"""What a worker holds: the evaluator with its compilers and costs, and the source of scores, each loaded once."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.errors import H4hcError, StudyError, one_line
from h4hc.search.study.evaluate import Evaluator, Setup
from h4hc.search.study.workers.base import Answer, Kind, Result, Task, tasks

if TYPE_CHECKING:
    from h4hc.search.scores import Score, ScoreSource
    from h4hc.search.study.genome import Genome, Vector

_COLLECT_EVERY = 200  # candidates; collecting garbage all the time takes a fifth of the time of a compilation
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Job:
    """What workers need: the setup, and the source of scores (None: they do not score)."""

    setup: Setup
    source: ScoreSource | None = None


class Host:
    """Does tasks one after the other."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._evaluator = Evaluator(job.setup)
        self._done = 0

    def do(self, task: Task) -> Answer:
        """The answer to `task`."""
        start = time.process_time()
        asked, known = self._evaluator.kernels()
        results = tuple(self._results(task))
        asked_now, known_now = self._evaluator.kernels()
        kernels = (asked_now - asked, known_now - known)
        return Answer(task.numbers, results, kernels, time.process_time() - start)

    def answer(self, task: Task) -> Answer | H4hcError:
        """What `do` gives, or the error for people that it raises, to be sent to another process."""
        try:
            return self.do(task)
        except H4hcError as error:
            return error

    def _results(self, task: Task) -> Sequence[Result]:
        if task.kind == "compile":
            with self._quiet(len(task.vectors)):
                return [self._evaluator(vector) for vector in task.vectors]
        if self._job.source is None:
            raise ValueError("this worker has no source of scores")
        return scores(self._job.source, self._job.setup.genome, task.vectors)

    @contextmanager
    def _quiet(self, count: int) -> Iterator[None]:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            self._done += count
            if self._done >= _COLLECT_EVERY:
                self._done = 0
                gc.collect()
            if enabled:
                gc.enable()


class Serial:
    """This process does everything."""

    count = 1

    def __init__(self, job: Job) -> None:
        self._host = Host(job)

    def run(self, kind: Kind, vectors: Sequence[Vector], stop: Callable[[], bool]) -> Iterator[Answer]:
        for task in tasks(kind, vectors, _BATCH):
            if stop():
                return
            yield self._host.do(task)

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def scores(source: ScoreSource, genome: Genome, vectors: Sequence[Vector]) -> list[Score]:
    """The scores of candidates. Raises H4hcError, StudyError for what the source did not foresee."""
    subnets = [genome.networks.subnet(genome.split(vector)[0]) for vector in vectors]
    try:
        found = source.score(subnets)
    except (H4hcError, OSError):
        raise
    except Exception as error:
        text = one_line(f"{type(error).__name__}: {error}")[:300]
        raise StudyError(
            f"scoring by {source.name} failed: {text}",
            code="score", hint="what was found so far is kept; mend it and resume",
        ) from error  # fmt: skip
    if len(found) != len(subnets) or not all(math.isfinite(score.value) for score in found):
        raise StudyError(f"{source.name} gave scores that are missing or not finite", code="score")
    return found
