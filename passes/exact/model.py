"""The constraint model of one piece: operators in modes, transfers on channels, one tile each.

For every operator one literal per mode and an optional interval per mode on its device; for every tensor and pair of
memories an optional interval on the channels of their link, present if the producer is in one and a reader
(or the io memory, for an output) in the other. Readers wait for the copy, or, on another device beside the
same memory, for the hand-off. The objective is ``PRICE_SCALE * makespan + price * resident bytes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

from h4hc.passes.exact.heads import ANY, PRICE_SCALE, Window, time_windows
from h4hc.passes.exact.piece import ENTRY, Moved, Piece
from h4hc.passes.exact.solver import cp_sat

INFEASIBLE = 1 << 62


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a piece: devices of entry and exit, and what a resident byte costs (ticks / PRICE_SCALE).

    `most_bytes` and `most_cost` (None: no limit) bound the answer. `fastest`: the least makespan is asked for,
    not the least cost.
    """

    entry: int
    exit: int
    price: int = 0
    most_bytes: int | None = None
    most_cost: int | None = None
    fastest: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The best schedule of a piece, if there is one.

    `found`: whether there is a schedule. `ticks`: its makespan, `bytes`: its resident weights, `modes`: the
    piece's mode per operator, `starts`: first tick per operator, `copies`: (tensor of the piece, memory, first tick).
    `bound`: no value of what was minimised is below it. `proved`: the schedule is the best, or there is none.
    `effort`: deterministic time that the solver took.
    """

    found: bool
    ticks: int
    bytes: int
    modes: tuple[int, ...]
    starts: tuple[int, ...]
    copies: tuple[tuple[int, int, int], ...]
    bound: int
    proved: bool
    effort: float

    def cost(self, price: int) -> int:
        """What the schedule costs at `price`."""
        return PRICE_SCALE * self.ticks + price * self.bytes


@dataclass(frozen=True, slots=True)
class Setting:
    """Parameters of one run. `effort`: its deterministic time limit, about seconds on a fast machine."""

    linearization: int = 0
    effort: float = 8.0
    seconds: float | None = None


def no_answer(bound: int, proved: bool, effort: float = 0.0) -> Answer:
    """No schedule: there is none (`proved`), or none was found."""
    return Answer(False, 0, 0, (), (), (), bound, proved, effort)


def solve(piece: Piece, question: Question, settings: Iterator[Setting]) -> list[Answer]:
    """The best schedules that runs of the solver find, one per setting, until one run proves nothing."""
    window = time_windows(piece, question)
    if window is None:
        return [no_answer(INFEASIBLE, proved=True)]
    model = _Model(piece, question, window)
    answers: list[Answer] = []
    for setting in settings:
        answers.append(model.solve(setting))
        if not answers[-1].proved:
            break
    return answers


class _Model:
    def __init__(self, piece: Piece, question: Question, window: Window) -> None:
        self.cp = cp_sat()
        self.model = self.cp.CpModel()
        self.piece, self.question, self.window = piece, question, window
        self.machine = piece.machine
        self.queues: dict[int, list[Any]] = {}
        self.lanes: dict[int, list[tuple[Any, Any, int]]] = {}  # link -> (interval, literal, ticks)
        self.mode: list[list[Any]] = []
        self.start: list[Any] = []
        self.end: list[Any] = []
        self.on_device: list[dict[int, Any]] = []
        self.in_memory: list[dict[int, Any]] = []
        self.copies: dict[tuple[int, int], list[tuple[Any, Any]]] = {}  # (tensor, memory) -> (literal, start)
        self.makespan = self.model.NewIntVar(window.least, window.horizon, "")
        for v in range(len(piece.modes)):
            self._operator(v)
        for t, tensor in enumerate(piece.tensors):
            self._moves(t, tensor)
        self._resources()
        self._ends()
        self._objective()

    def _operator(self, v: int) -> None:
        model, piece = self.model, self.piece
        window = self.window
        start = model.NewIntVar(min(window.heads[v]), window.horizon, "")
        end = model.NewIntVar(0, window.horizon - min(window.tails[v]), "")
        literals: list[Any] = []
        devices: dict[int, list[Any]] = {}
        for m, (device, ticks, _) in enumerate(piece.modes[v]):
            literal = model.NewBoolVar("")
            literals.append(literal)
            devices.setdefault(device, []).append(literal)
            if not window.allowed[v][m]:
                model.Add(literal == 0)
                continue
            interval = model.NewOptionalIntervalVar(start, ticks, end, literal, "")
            self.queues.setdefault(device, []).append((interval, literal, ticks))
            model.Add(start >= window.heads[v][m]).OnlyEnforceIf(literal)
            model.Add(self.makespan >= end + window.tails[v][m]).OnlyEnforceIf(literal)
        model.AddExactlyOne(literals)
        self.mode.append(literals)
        self.start.append(start)
        self.end.append(end)
        self.on_device.append({d: self._either(group) for d, group in devices.items()})
        memories: dict[int, list[Any]] = {}
        for device, group in devices.items():
            memories.setdefault(self.machine.memory[device], []).extend(group)
        self.in_memory.append({m: self._either(group) for m, group in memories.items()})

    def _either(self, literals: list[Any]) -> Any:
        """A literal that holds iff one of some exclusive literals does."""
        if len(literals) == 1:
            return literals[0]
        either = self.model.NewBoolVar("")
        self.model.Add(sum(literals) == either)
        return either

    def _home(self, tensor: Moved) -> dict[int, Any]:
        """Memory -> literal (or True) of where the producer writes `tensor`."""
        if tensor.producer != ENTRY:
            return self.in_memory[tensor.producer]
        entry = self.question.entry
        return {self.machine.io_memory if entry == ANY else self.machine.memory[entry]: True}

    def _moves(self, t: int, tensor: Moved) -> None:
        home = self._home(tensor)
        released = None if tensor.producer == ENTRY else self.end[tensor.producer]
        for v in tensor.readers:
            if released is not None:
                self.model.Add(self.start[v] >= released)
            self._hand_off(tensor, v)
        wanted = list(dict.fromkeys(m for v in tensor.readers for m in self.in_memory[v]))
        if tensor.sink and self.machine.io_memory not in wanted:
            wanted.append(self.machine.io_memory)
        for source, here in home.items():
            for destination in wanted:
                if destination != source:
                    self._copy(t, tensor, source, here, destination, released)

    def _copy(self, t: int, tensor: Moved, source: int, here: Any, destination: int, released: Any) -> None:
        model = self.model
        link = self.machine.link(source, destination)
        ticks = tensor.work[link]
        start = model.NewIntVar(0, self.window.horizon, "")
        end = model.NewIntVar(0, self.window.horizon, "")
        present = model.NewBoolVar("")
        interval = model.NewOptionalIntervalVar(start, ticks, end, present, "")
        self.lanes.setdefault(link, []).append((interval, present, ticks))
        self.copies.setdefault((t, destination), []).append((present, start))
        if here is not True:
            model.AddImplication(present, here)
        if released is not None:
            model.Add(start >= released).OnlyEnforceIf(present)
        for v in tensor.readers:
            there = self.in_memory[v].get(destination)
            if there is None:
                continue
            if here is True:
                model.AddImplication(there, present)
            else:
                model.AddBoolOr([here.Not(), there.Not(), present])
            model.Add(self.start[v] >= end).OnlyEnforceIf([present, there])
        if tensor.sink and destination == self.machine.io_memory:
            if here is True:
                model.Add(present == 1)
            else:
                model.AddImplication(here, present)
            model.Add(self.makespan >= end).OnlyEnforceIf(present)

    def _hand_off(self, tensor: Moved, v: int) -> None:
        memory, handoff = self.machine.memory, self.machine.handoff
        if not handoff:
            return
        for device, there in self.on_device[v].items():
            if tensor.producer == ENTRY:
                entry = self.question.entry
                if entry not in (ANY, device) and memory[entry] == memory[device]:
                    self.model.Add(self.start[v] >= handoff).OnlyEnforceIf(there)
                continue
            for other, here in self.on_device[tensor.producer].items():
                if other != device and memory[other] == memory[device]:
                    released = self.end[tensor.producer] + handoff
                    self.model.Add(self.start[v] >= released).OnlyEnforceIf([here, there])

    def _resources(self) -> None:
        for entries in self.queues.values():
            self.model.AddNoOverlap([interval for interval, _, _ in entries])
            self.model.Add(self.makespan >= sum(ticks * literal for _, literal, ticks in entries))
        for link, entries in self.lanes.items():
            channels = self.machine.channels[link]
            if channels == 1:
                self.model.AddNoOverlap([interval for interval, _, _ in entries])
            elif len(entries) > channels:
                self.model.AddCumulative(
                    [interval for interval, _, _ in entries], [1] * len(entries), channels
                )
            load = sum(ticks * literal for _, literal, ticks in entries)
            self.model.Add(channels * self.makespan >= load)

    def _ends(self) -> None:
        if self.piece.last:
            for end in self.end:
                self.model.Add(self.makespan >= end)
        else:
            self.model.Add(self.makespan == self.end[-1])

    def _objective(self) -> None:
        question = self.question
        resident = [
            row[2] * literal
            for rows, literals in zip(self.piece.modes, self.mode, strict=True)
            for row, literal in zip(rows, literals, strict=True)
            if row[2]
        ]
        total = sum(resident)
        cost: Any = PRICE_SCALE * self.makespan + question.price * total
        if question.most_bytes is not None and resident:
            self.model.Add(total <= question.most_bytes)
        if question.most_cost is not None:
            self.model.Add(cost <= question.most_cost)
        priced = question.price and resident and not question.fastest
        self.model.Minimize(cost if priced else self.makespan)
        # What the optimum of the makespan says of the cost: the cost of the least bytes is added.
        self.scale = 1 if priced or question.fastest else PRICE_SCALE

    def solve(self, setting: Setting) -> Answer:
        """Run the solver."""
        solver = self.cp.CpSolver()
        parameters = solver.parameters
        parameters.num_workers = 1
        parameters.random_seed = 1
        parameters.linearization_level = setting.linearization
        parameters.cp_model_probing_level = 0
        parameters.max_presolve_iterations = 1
        parameters.max_deterministic_time = setting.effort
        if setting.seconds is not None:
            parameters.max_time_in_seconds = max(setting.seconds, 0.01)
        status = solver.Solve(self.model)
        effort = round(solver.ResponseProto().deterministic_time, 6)
        if status == self.cp.INFEASIBLE:
            return no_answer(INFEASIBLE, proved=True, effort=effort)
        bound = max(ceil(solver.BestObjectiveBound() - 1e-6), self.window.least if self.scale > 1 else 0)
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return no_answer(bound * self.scale, proved=False, effort=effort)
        modes = tuple([next(m for m, x in enumerate(xs) if solver.Value(x)) for xs in self.mode])
        resident = sum(rows[m][2] for rows, m in zip(self.piece.modes, modes, strict=True))
        copies = [
            (t, memory, solver.Value(start))
            for (t, memory), entries in self.copies.items()
            for present, start in entries
            if solver.Value(present)
        ]
        return Answer(
            True,
            solver.Value(self.makespan),
            resident,
            modes,
            tuple([solver.Value(start) for start in self.start]),
            tuple(copies),
            bound * self.scale,
            status == self.cp.OPTIMAL,
            effort,
        )
