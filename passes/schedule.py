"""Schedule: the tasks of one frame, in queues, with what each tile waits for.

In:  graph, costs, the simulated placement. Out: `Compilation.schedule`, without memory offsets.

Rules:
1. One compute task per operator, one transfer task per root tensor and memory that needs a copy. A tensor is present
   in the memory of the io device from tick 0 if it is a graph input, and must end there if it is a graph output.
2. Tile k of a task waits until the rows it reads exist: `counts[k]` tiles of the task that makes them.
3. Between devices that share a memory nothing is copied, but the wait carries the hand-off latency.
4. A task starts as soon as its queue and its waits allow (see h4hc.ir.schedule).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Operator
from h4hc.ir.schedule import Schedule, Task, Wait
from h4hc.ir.system import Simulated
from h4hc.passes.core import Problem
from h4hc.passes.problem import used_links


@dataclass(frozen=True, slots=True)
class MakeSchedule:
    """Turn the placement into tasks and queues."""

    name: str = "schedule"
    needs: tuple[str, ...] = ("graph", "costs", "placement", "simulated")
    provides: tuple[str, ...] = ("schedule",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `schedule`."""
        return replace(compilation, schedule=make_schedule(compilation))


def make_schedule(compilation: Compilation) -> Schedule:
    """The tasks of the simulated placement, numbered in the order in which the scheduler placed them."""
    simulated, graph = compilation.simulated, compilation.graph
    if simulated is None or graph is None:
        raise ValueError("the schedule needs a graph and a simulated placement")
    system = simulated.system
    latency, energy, _, _, _ = simulated.trace
    links = used_links(compilation.target, system.memories)
    channels = [[f"{link.name}.{number}" for number in range(link.channels)] for link in links]
    tasks = tuple(_tasks(simulated, graph.operators, channels))
    queues: dict[str, list[int]] = {name: [] for name in (*system.devices, *chain.from_iterable(channels))}
    work = dict.fromkeys(queues, 0)
    for task in tasks:
        queues[task.resource].append(task.id)
        work[task.resource] += task.work
    return Schedule(
        tasks=tasks,
        buffers=(),
        queues=tuple((name, tuple(queue)) for name, queue in queues.items() if queue),
        memories=(),
        latency=latency,
        initiation_interval=latency,
        dynamic_energy=energy,
        static_energy=round(simulated.static_power * latency),
        interval_bound=max(work.values(), default=0),
    )


def _tasks(
    simulated: Simulated, operators: tuple[Operator, ...], channels: list[list[str]]
) -> Iterator[Task]:
    """All tasks, in the order of the trace. `channels`: names by link."""
    system, modes, tiles = simulated.system, simulated.modes, simulated.tiles
    _, _, _, rows, buffers = simulated.trace
    contents = Problem(system.data).contents(modes, tiles, rows, buffers, Wait(0, ()))
    for number, (row, content) in enumerate(zip(rows, contents, strict=True)):
        index, memory, channel, start, end = row
        queue, work, pieces, energy, waits, reads, writes = content
        if memory < 0:
            yield Task(
                number, "compute", system.devices[queue], operators[index].name, "", start, end, work, pieces,
                energy, 0, waits, reads, writes,
            )  # fmt: skip
        else:
            yield Task(
                number, "transfer", channels[queue][channel], "", system.tensors[index], start, end, work, pieces,
                energy, system.bytes[index], waits, reads, writes,
            )  # fmt: skip
