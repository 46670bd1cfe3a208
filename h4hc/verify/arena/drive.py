"""Runs the executor to the end: says when inputs are there and when commands end.

A command takes its planned time, times a factor of its own, times one of its engine, both random over several orders of
magnitude. So commands end in every order that the waits allow, sooner or later: the clock here is only a way to draw one.
"""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING

from h4hc.verify.arena.executor import ERRORS, FINISHED, Event, Executor
from h4hc.verify.arena.machine import Machine, ReplayError, Running
from h4hc.verify.arena.tables import Tables

if TYPE_CHECKING:
    from h4hc.verify.plan import Plan

_SPREAD = 7.0  # of the natural logarithm of an engine's speed: a factor of 1000
_EAGER = (1.0, 0.5, 0.0)  # how often inputs are delivered as soon as there is room


def drive(plan: Plan, executor: Executor, tables: Tables, machine: Machine, frames: int, seed: int) -> None:
    """Run `frames` frames; seed 0 is the planned timing. Raises ReplayError at the first difference."""
    generator = random.Random(seed)
    speeds = [generator.uniform(-_SPREAD, _SPREAD) if seed else 0.0 for _ in tables.queues]
    eager = _EAGER[seed % len(_EAGER)]
    inputs = [buffer for buffer in tables.inputs if buffer >= 0]
    running: list[tuple[float, int, Running]] = []
    clock, delivered, starved = 0.0, 0, True

    def room() -> bool:
        return delivered < frames and all(executor.input_free(buffer, delivered) for buffer in inputs)

    status = executor.start()
    while status >= 0:
        if starved and not room():
            raise ReplayError("the queues stand still, and no input can be delivered")
        if room() and (starved or generator.random() < eager):
            machine.deliver(delivered)
            executor.admit()
            delivered += 1
            if delivered == frames:
                executor.end_input()
        status, events = executor.poll()
        for event in events:
            time = _duration(tables, event)
            if seed:
                time *= 2.0 ** (speeds[event.engine] + generator.uniform(-4, 4))
            heapq.heappush(running, (clock + time, event.engine, machine.begin(event)))
        starved = not running
        if status == FINISHED or status < 0:
            break
        if running:
            clock, engine, ended = heapq.heappop(running)
            machine.end(ended)
            executor.signal(engine)
    if status != FINISHED:
        raise ReplayError(f"the executor stops: {_fault(plan, executor, status)}")
    machine.finish()


def _duration(tables: Tables, event: Event) -> float:
    task = tables.tasks[event.task]
    return max(1.0, task.work / task.tiles)


def _fault(plan: Plan, executor: Executor, status: int) -> str:
    _, task, tile, frame = executor.fault()
    where = f", at {plan.tasks[task].label}, tile {tile}, frame {frame}" if task in plan.tasks else ""
    return ERRORS.get(status, str(status)) + where
