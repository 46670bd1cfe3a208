"""Fetches of weights: what a schedule offers to fetch, and the schedule with some of it fetched.

In:  the schedule of one frame, its simulated placement, the costs with weights fetched. Out: columns for
h4hc.passes.core.fetching, and from its answer the schedule with tasks that load weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Cost, Fetch
from h4hc.ir.schedule import Schedule
from h4hc.ir.system import Simulated
from h4hc.ir.target import Memory
from h4hc.passes.core import Line
from h4hc.passes.memory import aligned, lifetimes, stores_of, weight_bytes
from h4hc.passes.problem import picojoules, spill_costs, ticks
from h4hc.passes.sharing import course_of, places


@dataclass(frozen=True, slots=True)
class Candidate:
    """An operator whose weights can be fetched: its task, its cost then with the time and energy of spilled buffers."""

    task: int
    operator: int
    cost: Cost
    fetch: Fetch
    work: int
    energy: int
    port: int

    @property
    def fetch_energy(self) -> int:
        """Picojoules of the fetch."""
        return picojoules(self.fetch.joules)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A schedule with its candidates (by task), the memories that weights come from (by port), and its columns."""

    compilation: Compilation
    schedule: Schedule
    simulated: Simulated
    candidates: Mapping[int, Candidate]
    ports: tuple[str, ...]
    line: Mapping[str, Any]

    def with_room(self, share: float) -> Line:
        """The line with a share of the room for weights and activations."""
        return Line({**self.line, "room": [int(room * share) for room in self.line["room"]]})

    def ports_of(self, task: int, fetched: bool) -> Sequence[int]:
        """The ports at which a task works itself."""
        pointers, ports = ("kept_ptr", "kept") if fetched else ("port_ptr", "port")
        found: Sequence[int] = self.line[ports][self.line[pointers][task] : self.line[pointers][task + 1]]
        return found


def sheet(compilation: Compilation, costs: Mapping[int, Cost]) -> Sheet:
    """The schedule of `compilation` with the `costs` of operators (by number) whose weights are fetched."""
    schedule, simulated = compilation.schedule, compilation.simulated
    if schedule is None or simulated is None or compilation.placement is None:
        raise ValueError("fetches need a schedule")
    system = simulated.system
    extra = spill_costs(system, compilation.target, compilation.placement.spilled)
    homes = {name: compilation.target.device(name).weights or "" for name in system.devices}
    tasks = {row[0]: number for number, row in enumerate(simulated.trace[3]) if row[1] < 0}
    ports = tuple(dict.fromkeys(homes[schedule.tasks[tasks[v]].resource] for v in sorted(costs)))
    candidates = {}
    for v, cost in sorted(costs.items()):
        task = schedule.tasks[tasks[v]]
        mode = system.data["mode_ptr"][v] + simulated.modes[v]
        seconds, joules = extra.get(mode, (0.0, 0.0))
        overhead = (task.tiles - 1) * system.data["dev_overhead"][system.devices.index(task.resource)]
        if cost.fetch is not None:
            candidates[task.id] = Candidate(
                task.id, v, cost, cost.fetch, ticks(cost.seconds + seconds) + overhead,
                picojoules(cost.joules + joules), ports.index(homes[task.resource]),
            )  # fmt: skip
    line = _line(compilation, schedule, simulated, candidates, ports)
    return Sheet(compilation, schedule, simulated, candidates, ports, line)


def _line(
    compilation: Compilation,
    schedule: Schedule,
    simulated: Simulated,
    candidates: Mapping[int, Candidate],
    ports: tuple[str, ...],
) -> dict[str, Any]:
    """The columns of h4hc.passes.core.fetching.Line."""
    system, target = simulated.system, compilation.target
    queues = {name: number for number, (name, _) in enumerate(schedule.queues)}
    used, kept = _ports_of(compilation, schedule, simulated, candidates, ports)
    memories = [target.memory(name) for name in system.memories]
    held = weight_bytes(system, simulated.modes, target)
    offered = [candidates.get(number) for number in range(len(schedule.tasks))]
    homes = [
        system.memories.index(target.device(task.resource).memory) if c else 0
        for task, c in zip(schedule.tasks, offered, strict=True)
    ]
    waits = [wait for task in schedule.tasks for wait in task.waits]
    return {
        "queue": [queues[task.resource] for task in schedule.tasks],
        "work": [task.work for task in schedule.tasks],
        "tiles": [task.tiles for task in schedule.tasks],
        "wait_ptr": [0, *accumulate(len(task.waits) for task in schedule.tasks)],
        "wait_task": [wait.task for wait in waits],
        "wait_latency": [wait.latency for wait in waits],
        "counts": [count for wait in waits for count in wait.counts],
        "port_ptr": [0, *accumulate(map(len, used))],
        "port": [port for ports in used for port in ports],
        "kept_ptr": [0, *accumulate(map(len, kept))],
        "kept": [port for ports in kept for port in ports],
        "fetch_port": [c.port if c else -1 for c in offered],
        "fetch_ticks": [ticks(c.fetch.seconds) if c else 0 for c in offered],
        "fetch_memory": homes,
        "fetch_bytes": [
            aligned(c.fetch.bytes, memories[home]) if c else 0 for c, home in zip(offered, homes, strict=True)
        ],
        "fetch_work": [c.work if c else 0 for c in offered],
        "load": [load for loads in _loads(compilation, schedule, simulated, memories) for load in loads],
        "room": [memory.bytes - held.get(memory.name, 0) for memory in memories],
    }


def _ports_of(
    compilation: Compilation,
    schedule: Schedule,
    simulated: Simulated,
    candidates: Mapping[int, Candidate],
    ports: tuple[str, ...],
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Per task the ports of `ports` at which it works, without and with its weights fetched.

    An operator works at the memory of its weights unless they stay in the device, at all memories that its cost
    names, and where its spilled buffers lie; a transfer where its buffers lie.
    """
    system, used, kept = simulated.system, [], []
    stores = stores_of(compilation, system, simulated.trace[4])
    for number, (row, task) in enumerate(zip(simulated.trace[3], schedule.tasks, strict=True)):
        lie = {stores[buffer] for buffer in (*task.reads, *task.writes)}
        plain, fetched = set(lie), set(lie)
        if row[1] < 0:
            v = row[0]
            cost = system.mode_costs[v][simulated.modes[v]]
            device = compilation.target.device(task.resource)
            if system.weights[v] and not cost.resident_bytes and device.weights:
                plain.add(device.weights)
            plain |= _memories(cost)
            if number in candidates:
                fetched |= _memories(candidates[number].cost)
        used.append(tuple(n for n, port in enumerate(ports) if port in plain))
        kept.append(tuple(n for n, port in enumerate(ports) if port in fetched))
    return used, kept


def _memories(cost: Cost) -> set[str]:
    """The memories whose bytes `cost` counts."""
    names = [name.removesuffix(" bytes") for name, value in cost.details.items() if value > 0]
    return set(names)


def _loads(
    compilation: Compilation, schedule: Schedule, simulated: Simulated, memories: Sequence[Memory]
) -> list[list[int]]:
    """Per memory, the bytes of activations in use from the first to the last task that uses them."""
    system, count = simulated.system, len(schedule.tasks)
    alive = lifetimes(system, simulated.trace[4])
    stores = stores_of(compilation, system, alive)
    course = course_of(system, simulated.modes, simulated.trace[3])
    first, last = [0] * len(alive), [0] * len(alive)
    for task in schedule.tasks:
        for buffer in task.writes:
            first[buffer] = task.id
        for buffer in (*task.reads, *task.writes):
            last[buffer] = task.id
    for buffer, (tensor, memory, _, _, _) in enumerate(alive):
        if system.data["sink"][tensor] and memory == system.data["io_memory"]:
            last[buffer] = count - 1
    spans: dict[int, tuple[int, int]] = {}
    for buffer, block in enumerate(places(system, course, alive, stores).block):
        begin, end = spans.get(block, (first[buffer], last[buffer]))
        spans[block] = min(begin, first[buffer]), max(end, last[buffer])
    changes = [[0] * (count + 1) for _ in memories]
    for block, (begin, end) in spans.items():
        memory = alive[block].memory
        if stores[block] == memories[memory].name:
            size = aligned(alive[block].bytes, memories[memory])
            changes[memory][begin] += size
            changes[memory][end + 1] -= size
    return [list(accumulate(change))[:count] for change in changes]
