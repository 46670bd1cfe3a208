"""When an operator of a piece can start at the earliest and must end at the latest, without a solver.

Longest paths, each step over the best mode of the operator before, bound the makespan from below; a plain
schedule (one task after the other) bounds it from above. A mode that fits in between nowhere is not allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.passes.exact.piece import ENTRY, Machine, Moved, Piece

if TYPE_CHECKING:
    from h4hc.passes.exact.model import Question

ANY = -1  # the device of a piece's entry (graph inputs) or exit (end of the frame) that is none
PRICE_SCALE = 1 << 16


@dataclass(frozen=True, slots=True)
class Window:
    """`heads` and `tails`: per operator and mode, ticks that pass at least before its start and after its end.

    `least` and `horizon` bound the makespan. `allowed`: per operator and mode, whether it can be part of a
    schedule within the horizon.
    """

    heads: tuple[tuple[int, ...], ...]
    tails: tuple[tuple[int, ...], ...]
    least: int
    horizon: int
    allowed: tuple[tuple[bool, ...], ...]


def time_windows(piece: Piece, question: Question) -> Window | None:
    """The window of `piece`, or None if no schedule answers `question`."""
    heads, tails = _heads(piece, question), _tails(piece, question)
    if heads is None or tails is None:
        return None
    least = _least(piece, heads, tails)
    limits = [question.most_cost] if question.most_cost is not None else []
    if question.most_bytes is None:
        limits.append(sequential_cost(piece, question))
    if limits:
        least_bytes = sum(min(row[2] for row in rows) for rows in piece.modes)
        horizon = (min(limits) - question.price * least_bytes) // PRICE_SCALE
    else:
        slowest = sum(max(row[1] for row in rows) + piece.machine.handoff for rows in piece.modes)
        horizon = slowest + sum(sum(tensor.work) * piece.machine.memories for tensor in piece.tensors)
    if least > horizon:
        return None
    allowed = tuple(
        tuple(
            _permitted(piece, question, v, m) and heads[v][m] + row[1] + tails[v][m] <= horizon
            for m, row in enumerate(rows)
        )
        for v, rows in enumerate(piece.modes)
    )
    return Window(heads, tails, least, horizon, allowed)


def least_ticks(piece: Piece, question: Question) -> int | None:
    """A bound on the makespan; None if the exit cannot be where it is asked to be."""
    heads, tails = _heads(piece, question), _tails(piece, question)
    return None if heads is None or tails is None else _least(piece, heads, tails)


def _permitted(piece: Piece, question: Question, v: int, m: int) -> bool:
    last = v == len(piece.modes) - 1 and not piece.last
    return not last or question.exit in (ANY, piece.modes[v][m][0])


def _least(piece: Piece, heads: tuple[tuple[int, ...], ...], tails: tuple[tuple[int, ...], ...]) -> int:
    paths = [
        min(heads[v][m] + row[1] + tails[v][m] for m, row in enumerate(rows))
        for v, rows in enumerate(piece.modes)
    ]
    return max(paths, default=0)


def delay(machine: Machine, tensor: Moved, source: int, destination: int) -> int:
    """Ticks from the end of the producer on device `source` (ANY: a graph input) to the start of a reader."""
    if source != ANY and source == destination:
        return 0
    home = machine.io_memory if source == ANY else machine.memory[source]
    if home != machine.memory[destination]:
        return tensor.work[machine.link(home, machine.memory[destination])]
    return 0 if source == ANY else machine.handoff


def _to_io(machine: Machine, tensor: Moved, source: int) -> int:
    home = machine.io_memory if source == ANY else machine.memory[source]
    return 0 if home == machine.io_memory else tensor.work[machine.link(home, machine.io_memory)]


_NEVER = 1 << 60


def _heads(piece: Piece, question: Question) -> tuple[tuple[int, ...], ...] | None:
    heads = [[0] * len(rows) for rows in piece.modes]
    inputs: list[list[Moved]] = [[] for _ in piece.modes]
    for tensor in piece.tensors:
        for v in tensor.readers:
            inputs[v].append(tensor)
    for v, rows in enumerate(piece.modes):
        for m, (device, _, _) in enumerate(rows):
            if not _permitted(piece, question, v, m):
                heads[v][m] = _NEVER
                continue
            for tensor in inputs[v]:
                u = tensor.producer
                if u == ENTRY:
                    at = delay(piece.machine, tensor, question.entry, device)
                else:
                    at = min(
                        heads[u][p] + row[1] + delay(piece.machine, tensor, row[0], device)
                        for p, row in enumerate(piece.modes[u])
                    )
                heads[v][m] = max(heads[v][m], at)
        if min(heads[v]) >= _NEVER:
            return None
    return tuple(map(tuple, heads))


def _tails(piece: Piece, question: Question) -> tuple[tuple[int, ...], ...] | None:
    tails = [[0] * len(rows) for rows in piece.modes]
    outputs: list[list[Moved]] = [[] for _ in piece.modes]
    for tensor in piece.tensors:
        if tensor.producer != ENTRY:
            outputs[tensor.producer].append(tensor)
    for v in range(len(piece.modes) - 1, -1, -1):
        for m, (device, _, _) in enumerate(piece.modes[v]):
            if not _permitted(piece, question, v, m):
                tails[v][m] = _NEVER
                continue
            for tensor in outputs[v]:
                if tensor.sink:
                    tails[v][m] = max(tails[v][m], _to_io(piece.machine, tensor, device))
                for w in tensor.readers:
                    rest = min(
                        delay(piece.machine, tensor, device, row[0]) + row[1] + tails[w][q]
                        for q, row in enumerate(piece.modes[w])
                    )
                    tails[v][m] = max(tails[v][m], rest)
        if min(tails[v]) >= _NEVER:
            return None
    return tuple(map(tuple, tails))


def sequential_cost(piece: Piece, question: Question) -> int:
    """What the cheapest of a few plain schedules costs, one task after the other; `question` permits one."""
    devices = sorted({row[0] for rows in piece.modes for row in rows}) or [0]
    return min(_sequence(piece, question, device) for device in devices)


def _sequence(piece: Piece, question: Question, device: int) -> int:
    """All on `device` where it runs and is permitted, else where it is cheapest."""
    machine, ticks, resident = piece.machine, 0, 0
    where = []
    for v, rows in enumerate(piece.modes):
        row = min(
            (row[0] != device, PRICE_SCALE * row[1] + question.price * row[2], row)
            for m, row in enumerate(rows)
            if _permitted(piece, question, v, m)
        )[2]
        where.append(row[0])
        ticks += row[1] + machine.handoff
        resident += row[2]
    for tensor in piece.tensors:
        source = question.entry if tensor.producer == ENTRY else where[tensor.producer]
        home = machine.io_memory if source == ANY else machine.memory[source]
        wanted = {machine.memory[where[v]] for v in tensor.readers}
        if tensor.sink:
            wanted.add(machine.io_memory)
        ticks += sum(tensor.work[machine.link(home, memory)] for memory in wanted - {home})
    return PRICE_SCALE * ticks + question.price * resident
