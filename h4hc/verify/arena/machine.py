"""Arenas, and what a command does to them from its start to its end.

A command may read its operands and write its results at any moment between start and end. So it does the worst: it reads
when it starts and again when it ends, and spoils what it will write when it starts. Whatever it finds must be, byte for
byte, what was computed for its frame. Spoiled bytes are the complement of what belongs there, so that none is right by
chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from h4hc.verify.arena.regions import WHOLE, Part, Use, Work, work_of
from h4hc.verify.arena.slots import decoded, encoded
from h4hc.verify.arena.tables import COMPUTE, OUTPUT, TRANSFER, Tables, Task
from h4hc.verify.execute import differences

if TYPE_CHECKING:
    from h4hc.verify.arena.executor import Event, Executor
    from h4hc.verify.arena.reference import Frame, Reference
    from h4hc.verify.plan import Plan

Array = np.ndarray[Any, Any]
Cut = Callable[[Array], Array]  # some of the bytes of a buffer, as a view
POISON = 0xCB
GUARD = 64  # planned bytes on both sides of an arena


class ReplayError(Exception):
    """The first difference: what, where, at which command."""


@dataclass(slots=True)
class Running:
    """A command between its start and its end; of a transfer, the bytes that it moves and where they lie in its buffers."""

    event: Event
    moved: tuple[Cut, Array] | None = None


class Machine:
    """The arenas of one replay. `frames` are the inputs with all values, in order."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        tables: Tables,
        images: Images,
        reference: Reference | None,
        trace: bool = False,
    ) -> None:
        self._plan = plan
        self._executor = executor
        self._tables = tables
        self._images = images
        self._reference = reference  # computes operators from what lies in the arena; None: they have been
        self._works = images.works
        self._scale = images.scale
        self._arenas = [np.full((peak + 2 * GUARD) * self._scale, POISON, np.uint8) for peak in tables.peaks]
        self._private: dict[tuple[int, int], dict[int, Array]] = {}
        # Per planned byte, the note of who wrote it last.
        self._notes = ["nothing has been written there"]
        self._trace = [np.zeros(peak + 2 * GUARD, np.int32) for peak in tables.peaks] if trace else None
        self._taken = 0  # results
        self.commands = 0

    # --- what the driver tells ---------------------------------------------------------------------------

    def deliver(self, frame: int) -> None:
        """Put the inputs of `frame` where the schedule wants them."""
        for buffer in dict.fromkeys(self._tables.inputs):
            if buffer >= 0:
                image = self._images.of(buffer, frame)
                self._store(buffer, frame, WHOLE.of, image, f"there lies the input of frame {frame}")

    def begin(self, event: Event) -> Running:
        """A command starts."""
        self.commands += 1
        running = Running(event)
        task = self._tables.tasks[event.task]
        if task.kind == COMPUTE:
            self._begin_kernel(running, self._works[event.task])
        elif task.kind == TRANSFER:
            self._begin_transfer(running, task)
        else:
            for buffer in self._tables.writes(task):
                self._spoil(event, buffer, WHOLE.of, self._images.of(buffer, event.frame))
        return running

    def end(self, running: Running) -> None:
        """It ends."""
        event = running.event
        task = self._tables.tasks[event.task]
        if task.kind == COMPUTE:
            self._end_kernel(running, self._works[event.task], task)
        elif task.kind == TRANSFER:
            self._end_transfer(running, task)
        else:
            for buffer in self._tables.writes(task):
                self._write(event, buffer, WHOLE.of, self._images.of(buffer, event.frame))
        if task.flags & OUTPUT and event.tile == task.tiles - 1:
            self._take_outputs(event, task)

    def finish(self) -> None:
        """Nothing was written around the arenas, and all results were there. Raises ReplayError."""
        written = {buffer for task in self._tables.tasks for buffer in self._tables.writes(task)}
        expected = sum(buffer in written for buffer in self._tables.outputs) * len(self._images.frames)
        if self._taken != expected:
            raise ReplayError(f"{self._taken} of {expected} results were handed over")
        for memory, arena in zip(self._plan.document.memories, self._arenas, strict=True):
            edge = GUARD * self._scale
            if (arena[:edge] != POISON).any() or (arena[-edge:] != POISON).any():
                raise ReplayError(f"something was written beside the arena of {memory.name}")

    # --- kernels ---------------------------------------------------------------------------------------

    def _begin_kernel(self, running: Running, work: Work) -> None:
        event = running.event
        if work.missing and event.tile == 0:
            raise ReplayError(f"{self._label(event)}: none of its buffers holds {work.missing[0]!r}")
        for use in work.reads:
            for part in use.parts[event.tile]:
                found = part.of(self._at(use.buffer, event.frame)).copy()
                self._expect(event, use, part, found, "reads")
                self._keep(event, use, part, found)
        for use in work.writes:
            for part in () if work.idle else use.parts[event.tile]:
                if not any(read.kept and self._overlap(read, use, event.frame) for read in work.reads):
                    self._spoil(event, use.buffer, part.of, part.of(self._images.of(use.buffer, event.frame)))

    def _end_kernel(self, running: Running, work: Work, task: Task) -> None:
        event = running.event
        for use in work.reads:
            for part in () if use.kept else use.parts[event.tile]:
                self._expect(event, use, part, part.of(self._at(use.buffer, event.frame)), "is still reading")
        if event.tile == task.tiles - 1:
            self._reread(event, work)
            self._recompute(event, work)
        for use in work.writes:
            for part in use.parts[event.tile]:
                if work.idle:
                    self._expect(
                        event, use, part, part.of(self._at(use.buffer, event.frame)), "should find in place"
                    )
                else:
                    self._write(event, use.buffer, part.of, part.of(self._images.of(use.buffer, event.frame)))

    def _reread(self, event: Event, work: Work) -> None:
        """What the tiles before have read is there until the task ends: buffers live that long."""
        for use in work.reads:
            for tile in range(0 if use.kept else event.tile):
                for part in use.parts[tile]:
                    found = part.of(self._at(use.buffer, event.frame))
                    self._expect(event, use, part, found, "no longer finds")

    def _keep(self, event: Event, use: Use, part: Part, found: Array) -> None:
        """A private copy of what the tiles of a task have read, for `_recompute`."""
        if self._reference is None or not use.tensors:
            return
        copies = self._private.setdefault((event.task, event.frame), {})
        if use.buffer not in copies:
            copies[use.buffer] = np.zeros_like(self._images.of(use.buffer, event.frame))
        part.of(copies[use.buffer])[...] = found

    def _recompute(self, event: Event, work: Work) -> None:
        """Run the nodes on what was read, and hold the result against what is written."""
        copies = self._private.pop((event.task, event.frame), {})
        if self._reference is None or not work.writes:
            return
        values = self._images.frames[event.frame].values
        inputs = {
            name: decoded(copies[use.buffer], values[name])
            if use.buffer in copies
            else np.zeros_like(values[name])
            for use in work.reads
            for name in use.tensors
        }
        outputs = self._reference.compute(work.operator, inputs)
        problems = differences({name: values[name] for name in outputs}, outputs)
        if problems:
            raise ReplayError(f"{self._label(event)}: computed from what it has read, {problems[0]}")

    # --- transfers ---------------------------------------------------------------------------------------

    def _begin_transfer(self, running: Running, task: Task) -> None:
        event = running.event
        transfer = self._tables.transfers[task.item]
        planned = len(self._images.of(transfer.source, event.frame)) // self._scale
        cut = partial(_pieces, self._executor.chunk(task.item, task.tiles, event.tile), planned)
        found = cut(self._at(transfer.source, event.frame)).copy()
        wanted = cut(self._images.of(transfer.source, event.frame))
        if not np.array_equal(found, wanted):
            self._fail(event, transfer.source, "reads", cut, wanted)
        self._spoil(event, transfer.destination, cut, found)
        running.moved = (cut, found)

    def _end_transfer(self, running: Running, task: Task) -> None:
        if running.moved is None:
            raise ValueError("a transfer ends that has not started")
        event, (cut, found) = running.event, running.moved
        transfer = self._tables.transfers[task.item]
        if not np.array_equal(cut(self._at(transfer.source, event.frame)), found):
            self._fail(event, transfer.source, "is still reading", cut, found)
        self._write(event, transfer.destination, cut, found)

    # --- arenas ------------------------------------------------------------------------------------------

    def _write(self, event: Event, buffer: int, cut: Cut, values: Array) -> None:
        self._store(
            buffer, event.frame, cut, values, f"{self._label(event)} wrote there last" if self._trace else ""
        )

    def _spoil(self, event: Event, buffer: int, cut: Cut, values: Array) -> None:
        note = f"{self._label(event)} is about to write there" if self._trace else ""
        self._store(buffer, event.frame, cut, ~values, note)

    def _store(self, buffer: int, frame: int, cut: Cut, values: Array, note: str) -> None:
        cut(self._at(buffer, frame))[...] = values
        if self._trace is not None:
            cut(self._trace_at(buffer, frame))[...] = len(self._notes)
            self._notes.append(note)

    def _trace_at(self, buffer: int, frame: int) -> Array:
        """The notes of the bytes of a buffer."""
        if self._trace is None:
            raise ValueError("there is no trace")
        own = self._tables.buffers[buffer]
        start = GUARD + self._executor.offset(buffer, frame)
        size = len(self._images.of(buffer, frame)) // self._scale
        return self._trace[own.memory][start : start + size]

    def _at(self, buffer: int, frame: int) -> Array:
        """The bytes of a buffer in its arena."""
        own = self._tables.buffers[buffer]
        start = (GUARD + self._executor.offset(buffer, frame)) * self._scale
        size = len(self._images.of(buffer, frame))
        return self._arenas[own.memory][start : start + size]

    def _overlap(self, first: Use, second: Use, frame: int) -> bool:
        one, other = (self._tables.buffers[use.buffer] for use in (first, second))
        a, b = (self._executor.offset(use.buffer, frame) for use in (first, second))
        return one.memory == other.memory and a < b + other.bytes and b < a + one.bytes

    def _take_outputs(self, event: Event, task: Task) -> None:
        """The caller reads the model's results as soon as they are there."""
        written = set(self._tables.writes(task))
        frame = self._images.frames[event.frame]
        for value, buffer in zip(self._plan.document.outputs, self._tables.outputs, strict=True):
            if buffer in written:
                self._taken += 1
                expected = frame.results[value.name]
                found = decoded(self._at(buffer, event.frame), expected)
                for problem in differences({value.name: expected}, {value.name: found}):
                    raise ReplayError(f"{self._label(event)}: {problem}")

    def _expect(self, event: Event, use: Use, part: Part, found: Array, verb: str) -> None:
        wanted = part.of(self._images.of(use.buffer, event.frame))
        if not np.array_equal(found, wanted):
            self._fail(event, use.buffer, verb, part.of, wanted)

    def _fail(self, event: Event, buffer: int, verb: str, cut: Cut, wanted: Array) -> None:
        """Say what is wrong with what lies in `buffer` now."""
        found = cut(self._at(buffer, event.frame))
        wrong = np.flatnonzero((wanted != found).reshape(-1))
        own = self._plan.document.buffers[buffer]
        what = repr(own.tensor) if own.tensor else "its weights"
        cause = ""
        if self._trace is not None and len(wrong):
            note = cut(self._trace_at(buffer, event.frame)).reshape(-1)[wrong[0] // self._scale]
            cause = f"; {self._notes[note]}"
        raise ReplayError(
            f"{self._label(event)} {verb} {what} in {own.memory} (buffer {own.id}): {len(wrong)} of {found.size} "
            f"bytes are not what they should be{cause}"
        )

    def _label(self, event: Event) -> str:
        task = self._tables.tasks[event.task]
        return f"{self._plan.tasks[task.id].label}, tile {event.tile} of {task.tiles}, frame {event.frame},"


def _pieces(chunk: tuple[int, ...], planned: int, image: Array) -> Array:
    """The pieces of an image of `planned` bytes that a transfer's chunk names, one per row."""
    scale = len(image) // planned if planned else 1
    offset, size, stride = (number * scale for number in chunk[:3])
    count = chunk[3] if size else 0
    if not count:
        return image[:0].reshape(0, 1)
    if offset + (count - 1) * stride + size > len(image):
        raise ReplayError(f"a transfer moves bytes {chunk}, beyond its buffer")
    steps = (stride * image.itemsize, image.itemsize)
    return np.lib.stride_tricks.as_strided(image[offset:], (count, size), steps)


class Images:
    """What belongs into each buffer, frame by frame, and what each task does; made once for many replays."""

    def __init__(self, plan: Plan, tables: Tables, frames: Sequence[Frame], scale: int) -> None:
        self.frames = frames
        self.scale = scale
        self.works: Mapping[int, Work] = {
            index: work_of(plan, tables, task)
            for index, task in enumerate(tables.tasks)
            if task.kind == COMPUTE
        }
        self._plan = plan
        self._tables = tables
        self._known: dict[tuple[int, int], Array] = {}
        self._tensors: dict[tuple[str, int], Array] = {}

    def of(self, buffer: int, frame: int) -> Array:
        """The bytes that `buffer` holds once `frame` has written it."""
        found = self._known.get((buffer, frame))
        if found is None:
            found = self._known[buffer, frame] = self._make(buffer, frame)
        return found

    def _make(self, buffer: int, frame: int) -> Array:
        own = self._plan.document.buffers[buffer]
        if not own.tensor:  # encoded weights: contents that differ from buffer to buffer
            generator = np.random.default_rng(own.id)
            return generator.integers(0, 256, own.bytes * self.scale, np.uint8)
        key = own.tensor, frame
        if key not in self._tensors:
            planned = self._plan.document.tensors[own.tensor].bytes
            self._tensors[key] = encoded(self.frames[frame].values[own.tensor], planned, self.scale)
        return self._tensors[key]
