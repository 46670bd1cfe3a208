"""Worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from h4hc.errors import StudyError
from h4hc.search.study.workers.base import Kind, Task
from h4hc.search.study.workers.crew import Report
from h4hc.search.study.workers.host import Host, Job

_PATIENCE = 2.0  # seconds that a worker has to leave by itself
_LAST_WORDS = 60.0  # seconds from the end of a worker's pipe to its exit code, on the busiest machine


class Processes:
    """Each worker is a process of its own, at the other end of a pipe; it leaves when this end closes.

    They are forked by a server that has loaded what they need, not by this process, whose copies would hold the
    other workers' pipes.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._processes: dict[Connection, ForkServerProcess] = {}
        self._busy: set[Connection] = set()

    def hire(self, kind: Kind) -> Hashable:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._job), daemon=True)
        try:
            with _no_interrupts():
                process.start()
        except OSError as error:
            raise StudyError(
                f"worker processes do not start: {error}",
                code="workers", hint="try --workers serial, or a shorter TMPDIR if the path is too long",
            ) from None  # fmt: skip
        theirs.close()
        self._processes[ours] = process
        return ours

    def give(self, worker: Hashable, task: Task) -> None:
        pipe = _pipe(worker)
        self._busy.add(pipe)
        with suppress(OSError):  # it died meanwhile, which `wait` tells
            pipe.send(task)

    def wait(self) -> list[Report]:
        ready = connection.wait(list(self._busy))
        found = [self._report(pipe) for pipe in ready if isinstance(pipe, Connection)]
        self._busy.difference_update(_pipe(report.worker) for report in found)
        return found

    def _report(self, pipe: Connection) -> Report:
        try:
            received = pipe.recv()
        except (EOFError, OSError):
            process = self._processes[pipe]
            process.join(_LAST_WORDS)
            code = process.exitcode
            how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
            return Report(pipe, death=f"the process ended with {how}")
        return Report.of(pipe, received)

    def dismiss(self, worker: Hashable) -> None:
        pipe = _pipe(worker)
        self._busy.discard(pipe)
        pipe.close()
        process = self._processes.pop(pipe)
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()

    def scorers(self, count: int) -> int:
        return count

    def separate(self) -> bool:
        return False

    def close(self) -> None:
        for pipe in self._busy:
            self._processes[pipe].kill()  # what it works on is not waited for
        for pipe in list(self._processes):
            self.dismiss(pipe)


def _pipe(worker: Hashable) -> Connection:
    if not isinstance(worker, Connection):
        raise TypeError("a worker of processes is a pipe")
    return worker


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """An interrupt waits; for ever in the server and the workers that are started here, which inherit that.

    It is for the process that started the search: in one that is about to start it would print a traceback.
    """
    resource_tracker.ensure_running()  # else it is started in here, and lets interrupts through from then on
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection, job: Job) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also in programs that a source of scores runs
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    host = Host(job)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        answer = host.answer(task)
        try:
            pipe.send(answer)
        except OSError:
            return  # nobody waits for it any more
