"""Workers as actors of Ray, on this machine or on a cluster whose nodes have h4hc installed."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

from h4hc.errors import StudyError
from h4hc.search.study.workers.base import Kind, Task
from h4hc.search.study.workers.crew import Report
from h4hc.search.study.workers.host import Host, Job


class RayActors:
    """One actor per processor; with `gpus`, those that score are actors with a GPU each instead."""

    def __init__(self, job: Job, address: str, gpus: int = 0) -> None:
        import ray

        self._ray = ray
        self._gpus = gpus
        self._started = not ray.is_initialized()
        try:
            if self._started:
                local = {"include_dashboard": False, **({"num_gpus": gpus} if gpus else {})}
                where = local if address == "ray" else {"address": address}
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
            self._job = ray.put(job)
            resources: Any = ray.cluster_resources
            self.cores = max(1, int(resources().get("CPU", 1)) - gpus)
        except Exception as error:  # Ray raises many kinds, for whatever keeps it from starting
            raise StudyError(
                f"Ray does not start: {type(error).__name__}: {error}"[:400],
                code="workers", hint="try --workers auto",
            ) from None  # fmt: skip
        self._actors: dict[int, Any] = {}
        self._running: dict[Any, int] = {}

    def hire(self, kind: Kind) -> Hashable:
        scoring = kind == "score" and self._gpus
        actor = self._ray.remote(num_cpus=1, num_gpus=1 if scoring else 0)(Host)
        number = max(self._actors, default=-1) + 1
        self._actors[number] = actor.remote(self._job)
        return number

    def give(self, worker: Hashable, task: Task) -> None:
        number = _number(worker)
        self._running[self._actors[number].answer.remote(task)] = number

    def wait(self) -> list[Report]:
        ready, _ = self._ray.wait(list(self._running), num_returns=1)
        return [self._report(reference, self._running.pop(reference)) for reference in ready]

    def _report(self, reference: Any, number: int) -> Report:
        try:
            received = self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            return Report(number, death="the Ray actor died")
        except self._ray.exceptions.RayError as error:
            return Report(number, error=StudyError(f"Ray: {error}"[:400], code="workers"))
        return Report.of(number, received)

    def dismiss(self, worker: Hashable) -> None:
        self._ray.kill(self._actors.pop(_number(worker)))

    def scorers(self, count: int) -> int:
        return self._gpus or count

    def separate(self) -> bool:
        return self._gpus > 0

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()
        else:
            for number in list(self._actors):
                self.dismiss(number)


def _number(worker: Hashable) -> int:
    if not isinstance(worker, int):
        raise TypeError("a worker of Ray is a number")
    return worker
