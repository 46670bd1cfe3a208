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
from typing import Any

from h4hc.ir.compilation import Compilation
from h4hc.ir.graph import Operator
from h4hc.ir.schedule import Schedule, Task, Wait
from h4hc.ir.system import Simulated
from h4hc.ir.target import Link
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
    builder = _TaskBuilder(simulated, graph.operators, links)
    tasks = tuple(builder.tasks())
    queues: dict[str, list[int]] = {name: [] for name in (*system.devices, *builder.channels.values())}
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


class _TaskBuilder:
    """Makes tasks from the rows of a trace. A buffer, and the transfer that fills it, go by tensor * memories + memory."""

    def __init__(self, simulated: Simulated, operators: tuple[Operator, ...], links: list[Link]) -> None:
        self.operators = operators
        self.system = simulated.system
        self.tiles = simulated.tiles
        self.data: dict[str, Any] = self.system.data
        self.memories: int = self.data["memories"]
        self.mode = [self.data["mode_ptr"][v] + mode for v, mode in enumerate(simulated.modes)]
        self.device = [self.data["mode_device"][m] for m in self.mode]
        self.memory = [self.data["dev_memory"][d] for d in self.device]
        self.channels = {
            (n, c): f"{link.name}.{c}" for n, link in enumerate(links) for c in range(link.channels)
        }
        self.counts = Problem(self.data).counts(simulated.tiles)
        _, _, _, self.rows, buffers = simulated.trace
        self.task_of = {row[0]: i for i, row in enumerate(self.rows) if row[1] < 0}
        self.copy_of = {row[0] * self.memories + row[1]: i for i, row in enumerate(self.rows) if row[1] >= 0}
        self.buffer_of = {row[0] * self.memories + row[1]: i for i, row in enumerate(buffers)}

    def tasks(self) -> Iterator[Task]:
        """All tasks, in the order of the trace."""
        for number, (index, memory, channel, start, end) in enumerate(self.rows):
            if memory < 0:
                yield self._compute(number, index, start, end)
            else:
                yield self._transfer(number, index, memory, channel, start, end)

    def _home(self, tensor: int) -> int:
        producer = self.data["producer"][tensor]
        home: int = self.data["io_memory"] if producer < 0 else self.memory[producer]
        return home

    def _compute(self, number: int, v: int, start: int, end: int) -> Task:
        """The task of operator `v`."""
        data, device, tiles, here = self.data, self.device[v], self.tiles[v], self.memory[v]
        producers, memories, buffer_of = data["producer"], self.memories, self.buffer_of
        reads, waits = [], []
        for e in range(data["in_ptr"][v], data["in_ptr"][v + 1]):
            tensor = data["in_tensor"][e]
            producer, place = producers[tensor], tensor * memories + here
            reads.append(buffer_of[place])
            if (data["io_memory"] if producer < 0 else self.memory[producer]) != here:
                waits.append(Wait(self.copy_of[place], self.counts[e], 0))
            elif producer >= 0:
                latency = data["handoff"] if self.device[producer] != device else 0
                waits.append(Wait(self.task_of[producer], self.counts[e], latency))
        outputs = data["out_tensor"][data["out_ptr"][v] : data["out_ptr"][v + 1]]
        m = self.mode[v]
        return Task(
            number, "compute", self.system.devices[device], self.operators[v].name, "", start, end,
            data["mode_work"][m] + (tiles - 1) * data["dev_overhead"][device], tiles, data["mode_energy"][m], 0,
            tuple(waits), tuple(reads), tuple([buffer_of[t * memories + here] for t in outputs]),
        )  # fmt: skip

    def _transfer(self, number: int, tensor: int, memory: int, channel: int, start: int, end: int) -> Task:
        """The task that copies `tensor` to `memory`."""
        data, producer, home = self.data, self.data["producer"][tensor], self._home(tensor)
        link = data["link_of"][home * self.memories + memory]
        at, place = link * data["tensors"] + tensor, tensor * self.memories
        tiles = 1 if producer < 0 else self.tiles[producer]
        waits = () if producer < 0 else (Wait(self.task_of[producer], tuple(range(1, tiles + 1))),)
        return Task(
            number, "transfer", self.channels[link, channel], "", self.system.tensors[tensor], start, end,
            data["xfer_work"][at] + (tiles - 1) * data["link_overhead"][link], tiles, data["xfer_energy"][at],
            self.system.bytes[tensor], waits, (self.buffer_of[place + home],), (self.buffer_of[place + memory],),
        )  # fmt: skip
