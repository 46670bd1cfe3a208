"""Handing tasks to several workers, and replacing those that die.

The candidates of a worker that died are tried once more, one by one, so that it shows which of them is to blame; one
that ends its worker again is recorded as an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from h4hc.errors import H4hcError, StudyError
from h4hc.search.study.record import ERROR, WORST, Finding
from h4hc.search.study.workers.base import Answer, Kind, Task, tasks

if TYPE_CHECKING:
    from h4hc.search.study.genome import Vector

_BATCH = 16
_ROUNDS = 4  # tasks per worker, at least, so that they end at about the same time
_HOPELESS = 3  # workers that died in a row before any answer


class Report(NamedTuple):
    """What became of the task of a worker: an answer, an error for people, or its death."""

    worker: Hashable
    answer: Answer | None = None
    error: H4hcError | None = None
    death: str = ""

    @classmethod
    def of(cls, worker: Hashable, received: Answer | H4hcError) -> Report:
        """What a worker sent."""
        if isinstance(received, H4hcError):
            return cls(worker, error=received)
        return cls(worker, answer=received)


class Crew(Protocol):
    """Workers that can be hired, given one task at a time, and dismissed."""

    def hire(self, kind: Kind) -> Hashable: ...
    def give(self, worker: Hashable, task: Task) -> None: ...
    def wait(self) -> list[Report]: ...
    def dismiss(self, worker: Hashable) -> None: ...
    def scorers(self, count: int) -> int:
        """How many of them score, if `count` compile."""

    def separate(self) -> bool:
        """Whether those that score are others than those that compile."""

    def close(self) -> None: ...


class Pool:
    """`count` workers of a crew, hired when they are first needed."""

    def __init__(self, crew: Crew, count: int) -> None:
        self.count = count
        self._crew = crew
        self._idle: dict[str, list[Hashable]] = {}
        self._hired: dict[str, int] = {}
        self._answered = False
        self._deaths = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.close()

    def run(self, kind: Kind, vectors: Sequence[Vector], stop: Callable[[], bool]) -> Iterator[Answer]:
        group = kind if self._crew.separate() else "all"
        count = self._crew.scorers(self.count) if kind == "score" else self.count
        size = max(1, min(_BATCH, len(vectors) // (count * _ROUNDS)))
        waiting = deque(tasks(kind, vectors, size))
        given: dict[Hashable, Task] = {}
        again: set[int] = set()  # places tried for the second time
        idle = self._idle.setdefault(group, [])
        while waiting or given:
            while waiting and not stop():
                if not idle:
                    if self._hired.get(group, 0) >= count:
                        break
                    self._hired[group] = self._hired.get(group, 0) + 1
                    idle.append(self._crew.hire(kind))
                worker = idle.pop()
                given[worker] = waiting.popleft()
                self._crew.give(worker, given[worker])
            if not given:
                return
            for report in self._crew.wait():
                task = given.pop(report.worker)
                if report.death:
                    self._hired[group] -= 1
                    failed = self._bury(report, task, again, waiting)
                    if failed is not None:
                        yield failed
                    continue
                idle.append(report.worker)
                if report.error is not None:
                    raise report.error
                if report.answer is not None:
                    self._answered = True
                    yield report.answer

    def _bury(self, report: Report, task: Task, again: set[int], waiting: deque[Task]) -> Answer | None:
        """See to the task of a worker that died; the answer, if there is to be no other try."""
        self._crew.dismiss(report.worker)
        self._deaths += 1
        if not self._answered and self._deaths >= _HOPELESS:
            raise StudyError(
                f"workers die as soon as they start: {report.death}",
                code="workers", hint="look for the reason with --workers serial",
            )  # fmt: skip
        if again.issuperset(task.numbers):
            message = f"ended its worker twice: {report.death}"
            return Answer(task.numbers, tuple(Finding(ERROR, message, WORST) for _ in task.numbers))
        again.update(task.numbers)
        for number, vector in zip(task.numbers, task.vectors, strict=True):
            waiting.append(Task(task.kind, (number,), (vector,)))
        return None
