"""Several frames in flight: the interval of the periodic schedule that a closed loop settles into.

Python twin of native/frames.c. Frame f begins when frame f - W is done; of all tasks whose inputs are scheduled, the one
that can run without stalling first goes next, of equals that of the older frame. The starts of one frame give every
task its stage and its moment within an interval, hence the list that every window runs; how fast windows then follow
each other is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from h4hc.passes.core.room import Run, Window
from h4hc.passes.core.simulation import Simulation, empty_queues, tiles_needed

LAPS = 4  # of the closed loop, until a frame is measured
SETTLING = 3  # windows before the interval is measured, beyond the frames in flight
MEASURED = 4  # windows


@dataclass(frozen=True, slots=True)
class Steady:
    """One frame of the closed loop: its tasks' starts (operator v, or operators + transfer), ticks between frames."""

    offsets: dict[int, int]
    period: int
    latency: int
    busiest: int
    interval: int = 0
    overflow: float = 0.0  # price of bytes without room, in ticks


class Entry(NamedTuple):
    """A task in the list that every window runs."""

    moment: int
    position: int
    task: int
    stage: int
    queue: tuple[int, ...]
    tiles: int
    work: int


def steady(data: Mapping[str, Any], modes: Sequence[int], tiles: Sequence[int], window: int) -> Steady:
    """What the closed loop with `window` frames in flight settles into."""
    frame, period, busiest = _closed_loop(data, modes, tiles, window)
    starts = _starts(frame)
    offsets = offsets_of(data, frame, starts)
    latency = frame.latency - min(starts.values(), default=frame.latency)
    period = max(period, -(-latency // window))
    found = Steady(offsets, period, latency, busiest, busiest)
    if period < 1:
        return found
    entries = list_entries(data, frame, offsets, period)
    grown, ends = growth(data, frame, entries, window)
    interval, price = max(busiest, grown), 0.0
    if "mem_limit" in data:
        price = Window(data, frame, runs_of(entries, ends), interval).overflow()
    return Steady(offsets, period, latency, busiest, interval, price)


def _starts(frame: Simulation) -> dict[int, int]:
    transfers = {frame.n + x: start for x, (_, start, _) in frame.transfers.items()}
    return dict(enumerate(frame.op_start)) | transfers


def _closed_loop(
    data: Mapping[str, Any], modes: Sequence[int], tiles: Sequence[int], window: int
) -> tuple[Simulation, int, int]:
    """The measured frame, ticks from one frame to the next, the work of the busiest device or channel."""
    queues = empty_queues(data)
    flying = {f: Simulation(data, modes, tiles, queues) for f in range(window)}
    first = flying[0]
    measured, before = (LAPS - 1) * window, 0
    while any(frame.keys for frame in flying.values()):
        _, number, _, task = min(
            (key, f, rank, c)
            for f, frame in flying.items()
            for key, rank, c in map(frame.precedence, frame.keys)
        )
        frame = flying[number]
        frame.commit(task)
        for other in flying.values():
            other.forget(frame.device[task] if task < frame.n else None)
        if frame.keys or not all(frame.op_tiles):
            continue
        begin = min(_starts(frame).values())
        if number == measured - window:
            before = begin
        if number == measured:
            return frame, -(-(begin - before) // window), first.busiest
        del flying[number]
        flying[number + window] = Simulation(data, modes, tiles, queues, frame.latency)
    return first, 0, first.busiest


def offsets_of(data: Mapping[str, Any], frame: Simulation, starts: Mapping[int, int]) -> dict[int, int]:
    """When the tasks start, none before what it reads from, counted from the first one.

    A transfer of which that is not known starts when the first tile is made.
    """
    offsets: dict[int, int] = {}
    made: dict[int, list[int]] = {}
    for x in sorted(frame.transfers):
        made.setdefault(data["producer"][x // frame.nm], []).append(x)
    for x in made.get(-1, ()):
        offsets[frame.n + x] = starts.get(frame.n + x, 0)
    for v in range(frame.n):
        sources = [frame.source_of(e, v) for e in range(data["in_ptr"][v], data["in_ptr"][v + 1])]
        offsets[v] = max([starts[v], *(offsets[c] for c in sources if c >= 0)])
        for x in made.get(v, ()):
            chunk = offsets[v] + frame.operator_work(v) // frame.tiles[v]
            offsets[frame.n + x] = max(starts.get(frame.n + x, chunk), offsets[v])
    least = min(offsets.values(), default=0)
    return {c: offset - least for c, offset in offsets.items()}


def list_entries(
    data: Mapping[str, Any], frame: Simulation, offsets: Mapping[int, int], period: int
) -> list[Entry]:
    """The list that every window runs, in order."""
    entries = []
    for c, offset in offsets.items():
        if c < frame.n:
            queue: tuple[int, ...] = (frame.device[c],)
            position, tiles, work = 2 * c, frame.tiles[c], frame.operator_work(c)
        else:
            producer = data["producer"][(c - frame.n) // frame.nm]
            tiles = 1 if producer < 0 else frame.tiles[producer]
            link, work = frame.transfer_work(c - frame.n)
            position, queue = 2 * producer + 1, (link, frame.transfers[c - frame.n][2])
        entries.append(Entry(offset % period, position, c, offset // period, queue, tiles, work))
    return sorted(entries, key=lambda entry: entry[:3])


def growth(
    data: Mapping[str, Any], frame: Simulation, entries: Sequence[Entry], flying: int
) -> tuple[int, dict[int, list[int]]]:
    """By how much later a window ends than the one before, and when the tiles of its tasks end in the last one.

    Each window runs as early as queues and waits allow; a frame begins when the one `flying` frames before it has ended.
    """
    windows = flying + 1 + SETTLING + MEASURED
    done = [0] * windows  # when each frame ends
    stage = {entry.task: entry.stage for entry in entries}
    free: dict[tuple[int, ...], int] = {}
    history: list[dict[int, list[int]]] = []
    end = early = 0
    for window in range(windows):
        history.append({})
        for entry in entries:
            number = window - entry.stage
            moment = max(free.get(entry.queue, 0), done[number - flying] if number >= flying else 0)
            ends = history[-1][entry.task] = []
            waits = _waits(data, frame, entry, stage)
            for k in range(entry.tiles):
                for source, lag, latency, counts in waits:
                    if counts[k] > 0 and lag <= window:
                        moment = max(moment, history[window - lag][source][counts[k] - 1] + latency)
                moment += entry.work * (k + 1) // entry.tiles - entry.work * k // entry.tiles
                ends.append(moment)
            free[entry.queue] = moment
            end = max(end, moment)
            if number >= 0:
                done[number] = max(done[number], moment)
        if window == windows - 1 - MEASURED:
            early = end
    return -(-(end - early) // MEASURED), history[-1]


def runs_of(entries: Sequence[Entry], ends: Mapping[int, Sequence[int]]) -> dict[int, Run]:
    """When the tasks ran in the window whose tiles ended at `ends`."""
    return {e.task: Run(ends[e.task][0] - e.work // e.tiles, ends[e.task][-1], e.stage) for e in entries}


def _waits(
    data: Mapping[str, Any], frame: Simulation, entry: Entry, stage: Mapping[int, int]
) -> list[tuple[int, int, int, list[int]]]:
    """(awaited task, windows ago, latency, tiles to wait for by tile)."""
    c = entry.task
    if c >= frame.n:
        producer = data["producer"][(c - frame.n) // frame.nm]
        counts = list(range(1, entry.tiles + 1))
        return [] if producer < 0 else [(producer, entry.stage - stage[producer], 0, counts)]
    waits = []
    for e in range(data["in_ptr"][c], data["in_ptr"][c + 1]):
        source, producer = frame.source_of(e, c), data["producer"][data["in_tensor"][e]]
        if source < 0:
            continue
        apart = source < frame.n and frame.device[source] != frame.device[c]
        count = 1 if producer < 0 else frame.tiles[producer]
        needs = [tiles_needed(data, e, c, producer, k, entry.tiles, count) for k in range(entry.tiles)]
        waits.append((source, entry.stage - stage[source], data["handoff"] if apart else 0, needs))
    return waits
