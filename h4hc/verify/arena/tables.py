"""The tables of schedule.h4hs as the executor reads them, held against schedule.json (check R01)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from h4hc.verify.arena.executor import Executor
from h4hc.verify.document import Document
from h4hc.verify.document import Task as Stated
from h4hc.verify.report import Tally

COMPUTE, TRANSFER, WEIGHT_LOAD = 0, 1, 2
KINDS = {"compute": COMPUTE, "transfer": TRANSFER, "weight_load": WEIGHT_LOAD}
OUTPUT = 2  # of Task.flags


class Task(NamedTuple):
    """A task. `id` is that of schedule.json, `item` the row of its kernel or transfer."""

    id: int
    kind: int
    tiles: int
    item: int
    first_use: int
    read_count: int
    write_count: int
    stage: int
    flags: int
    work: int
    start: int
    first_wait: int
    wait_count: int


class Wait(NamedTuple):
    """Tile `tile` + i of its task, i < `tiles`, waits until `engine` has done `value` + i `step` of its tiles, `lag` windows ago."""

    engine: int
    tile: int
    tiles: int
    value: int
    step: int
    lag: int


class Buffer(NamedTuple):
    """A buffer; `tensor` is -1 for encoded weights."""

    memory: int
    offset: int
    bytes: int
    copies: int
    stride: int
    tensor: int


class Kernel(NamedTuple):
    """What a compute task runs; its row is that of the operator in schedule.json."""

    slabs: int
    rows: int


class Transfer(NamedTuple):
    """What a transfer moves between which buffers."""

    source: int
    destination: int
    bytes: int
    slabs: int
    rows: int


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that a replay looks up. `peaks` are the sizes of the arenas."""

    tasks: tuple[Task, ...]
    buffers: tuple[Buffer, ...]
    peaks: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    transfers: tuple[Transfer, ...]
    queues: tuple[tuple[int, ...], ...]
    waits: tuple[Wait, ...]
    uses: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    frames_in_flight: int
    last_stage: int

    def reads(self, task: Task) -> tuple[int, ...]:
        """The buffers that `task` reads."""
        return self.uses[task.first_use : task.first_use + task.read_count]

    def writes(self, task: Task) -> tuple[int, ...]:
        """The buffers that `task` writes."""
        first = task.first_use + task.read_count
        return self.uses[first : first + task.write_count]


def read_tables(executor: Executor) -> Tables:
    """The tables that the executor has loaded."""
    header = executor.table(9)[0]
    return Tables(
        tasks=tuple(Task(*row) for row in executor.table(0)),
        buffers=tuple(Buffer(*row) for row in executor.table(1)),
        peaks=tuple(row[1] for row in executor.table(2)),
        kernels=tuple(Kernel(*row) for row in executor.table(3)),
        transfers=tuple(Transfer(*row) for row in executor.table(4)),
        queues=tuple(tuple(range(first, first + count)) for first, count in executor.table(5)),
        waits=tuple(Wait(*row) for row in executor.table(10)),
        uses=tuple(row[0] for row in executor.table(6)),
        inputs=tuple(row[0] for row in executor.table(7)),
        outputs=tuple(row[0] for row in executor.table(8)),
        frames_in_flight=header[0],
        last_stage=header[1],
    )


def same_schedule(tables: Tables, document: Document) -> Tally:
    """R01: schedule.h4hs has the tasks, queues and buffers of schedule.json."""
    tally = Tally()
    stated = {task.id: task for task in document.tasks}
    memories = [memory.name for memory in document.memories]
    tally.expect(
        sorted(stated) == sorted(task.id for task in tables.tasks),
        "schedule.h4hs has other tasks than schedule.json",
    )
    tally.expect(
        len(document.buffers) == len(tables.buffers),
        f"{len(tables.buffers)} buffers, {len(document.buffers)} in schedule.json",
    )
    tally.expect(
        tables.frames_in_flight == document.summary.frames_in_flight, "another number of frames in flight"
    )
    if tally.problems:
        return tally
    for buffer, own in zip(document.buffers, tables.buffers, strict=True):
        found = (memories[own.memory], own.offset, own.bytes, own.copies, own.stride)
        wanted = (buffer.memory, buffer.offset, buffer.bytes, buffer.copies, buffer.stride)
        label = f"buffer {buffer.id} ({buffer.tensor!r})"
        tally.expect(found == wanted, f"{label} is {found}, {wanted} in schedule.json")
    for task in tables.tasks:
        _expect_task(tally, tables, task, document, stated[task.id])
    queues = {tuple(tables.tasks[index].id for index in queue) for queue in tables.queues}
    for name, order in document.queues.items():
        same = not order or tuple(order) in queues
        tally.expect(same, f"the queue of {name} has another order in schedule.h4hs")
    return tally


def _expect_task(tally: Tally, tables: Tables, task: Task, document: Document, stated: Stated) -> None:
    reads, writes = ([document.buffers[b].id for b in uses(task)] for uses in (tables.reads, tables.writes))
    found = (task.kind, task.tiles, task.stage, task.work, task.start, reads, writes)
    wanted = (
        KINDS.get(stated.kind), stated.tiles, stated.stage, stated.work, stated.start, list(stated.reads),
        list(stated.writes),
    )  # fmt: skip
    tally.expect(found == wanted, f"{stated.label} is {found}, {wanted} in schedule.json")
    if task.kind == COMPUTE:
        _expect_kernel(tally, tables, task, document, stated.operator)
    if task.kind == TRANSFER:
        transfer = tables.transfers[task.item]
        ends = (transfer.source,), (transfer.destination,), transfer.bytes
        tally.expect(
            ends == (tables.reads(task), tables.writes(task), stated.bytes),
            f"{stated.label} moves {transfer.bytes} bytes of other buffers in schedule.h4hs",
        )


def _expect_kernel(tally: Tally, tables: Tables, task: Task, document: Document, name: str) -> None:
    kernel = tables.kernels[task.item]
    operator = document.operators[task.item] if task.item < len(document.operators) else None
    tally.expect(
        operator is not None
        and (operator.name, operator.prefix, operator.rows) == (name, kernel.slabs, kernel.rows),
        f"the kernel of operator {name!r} is another one in schedule.h4hs",
    )
