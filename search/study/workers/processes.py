"""Worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Hashable
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from h4hc.search.study.workers.base import Kind, Task
from h4hc.search.study.workers.crew import Report
from h4hc.search.study.workers.host import Host, Job

_PATIENCE = 2.0  # seconds that a worker has to leave by itself


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
        process.start()
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
            process.join(_PATIENCE)
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


def serve(pipe: Connection, job: Job) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that started the search
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
