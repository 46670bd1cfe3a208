"""Several frames in flight, laid out one behind the other as one long frame.

The layout follows from the execution model alone: every queue runs its list once per window, a task of stage k works on
frame r - k in window r (and does nothing, but waits and counts, where there is no such frame), a wait with a lag
looks at an earlier window, buffers take turns in their copies. Times of frame f are those stated plus f intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from h4hc.verify.document import Buffer, Document, Task, Wait
from h4hc.verify.plan import Demand, Plan


class FlatPlan(Plan):
    """The plan of a number of frames. Tasks are numbered window by window, buffers frame by frame."""

    def __init__(self, plan: Plan, frames: int) -> None:
        super().__init__(_laid_out(plan.document, frames), plan.network)
        self._one, self._frames = plan, frames

    @property
    def demands(self) -> Sequence[Demand]:
        """What each frame needs of itself."""
        numbers = _numbers(self._one.document.tasks)

        def instance(task: Task, frame: int) -> Task:
            return self.tasks[(frame + task.stage) * len(numbers) + numbers[task.id]]

        return [
            replace(demand, reader=instance(demand.reader, frame), writer=instance(demand.writer, frame))
            for frame in range(self._frames)
            for demand in self._one.demands
        ]

    @property
    def handovers(self) -> Sequence[tuple[Buffer, Buffer]]:
        """As for one frame, less a graph input that follows itself: whoever delivers it waits for its readers."""
        given = {self._one.document.root(value.name) for value in self._one.document.inputs}
        return [
            (earlier, later)
            for earlier, later in super().handovers
            if not (
                later.tensor in given
                and not self.writers[later.id]
                and earlier.tensor == later.tensor
                and not self.writers[earlier.id]
            )
        ]


def flat(plan: Plan) -> Plan:
    """`plan`, or enough frames of it that every wait and every reuse of memory occurs."""
    document = plan.document
    if document.summary.frames_in_flight == 1:
        return plan
    reach = max((task.stage for task in document.tasks), default=0)
    reach += max((wait.lag for task in document.tasks for wait in task.waits), default=0)
    reach += max((buffer.copies for buffer in document.buffers), default=1)
    return FlatPlan(plan, 2 * reach + 2)


def _numbers(items: Sequence[Task | Buffer]) -> dict[int, int]:
    """Identifiers -> positions."""
    return {item.id: number for number, item in enumerate(items)}


def _laid_out(document: Document, frames: int) -> Document:
    tasks, buffers = _numbers(document.tasks), _numbers(document.buffers)
    period = document.summary.initiation_interval
    windows = frames + max((task.stage for task in document.tasks), default=0)

    def waits_of(task: Task, window: int) -> tuple[Wait, ...]:
        return tuple(
            replace(wait, task=(window - wait.lag) * len(tasks) + tasks[wait.task], lag=0)
            for wait in task.waits
            if window >= wait.lag
        )

    def task_of(task: Task, window: int) -> Task:
        frame = window - task.stage
        placed = replace(
            task,
            id=window * len(tasks) + tasks[task.id],
            start=task.start + frame * period,
            end=task.end + frame * period,
            waits=waits_of(task, window),
            stage=0,
        )
        if not 0 <= frame < frames:
            return replace(placed, work=0, end=placed.start, reads=(), writes=(), idle=True)
        return replace(
            placed,
            reads=tuple(frame * len(buffers) + buffers[number] for number in task.reads),
            writes=tuple(frame * len(buffers) + buffers[number] for number in task.writes),
        )

    def buffer_of(buffer: Buffer, frame: int) -> Buffer:
        return replace(
            buffer,
            id=frame * len(buffers) + buffers[buffer.id],
            offset=buffer.offset + frame % buffer.copies * buffer.stride,
            start=buffer.start + frame * period,
            end=buffer.end + frame * period,
            copies=1,
            stride=0,
        )

    return replace(
        document,
        tasks=tuple(task_of(task, window) for window in range(windows) for task in document.tasks),
        buffers=tuple(buffer_of(buffer, frame) for frame in range(frames) for buffer in document.buffers),
        queues={
            name: tuple(window * len(tasks) + tasks[number] for window in range(windows) for number in order)
            for name, order in document.queues.items()
        },
    )
