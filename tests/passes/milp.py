"""The least makespan of a piece as a mixed-integer program with big-M orders: a second opinion, for small pieces."""

from __future__ import annotations

import itertools
from typing import Any

from h4hc.passes.exact.heads import ANY
from h4hc.passes.exact.model import Question
from h4hc.passes.exact.piece import ENTRY, Piece


def least_makespan(piece: Piece, question: Question) -> int | None:
    """The optimum by HiGHS; None if there is no schedule. For links with one channel."""
    from ortools.math_opt.python import mathopt

    return _Program(piece, question, mathopt).solve()


class _Program:
    def __init__(self, piece: Piece, question: Question, mathopt: Any) -> None:
        self.piece, self.question, self.mathopt = piece, question, mathopt
        self.model = mathopt.Model()
        self.machine = piece.machine
        works = sum(max(row[1] for row in rows) + self.machine.handoff for rows in piece.modes)
        self.most = works + sum(sum(t.work) * self.machine.memories for t in piece.tensors) + 1
        self.makespan = self.model.add_variable(lb=0.0)
        self.x = [[self.model.add_binary_variable() for _ in rows] for rows in piece.modes]
        self.start = [self.model.add_variable(lb=0.0) for _ in piece.modes]
        self.tasks: dict[Any, list[tuple[Any, Any, Any]]] = {}  # queue -> (start, length, present)
        for v, rows in enumerate(piece.modes):
            self.model.add_linear_constraint(sum(self.x[v]) == 1)
            if v == len(piece.modes) - 1 and not piece.last:
                for literal, row in zip(self.x[v], rows, strict=True):
                    if row[0] != question.exit:
                        self.model.add_linear_constraint(literal == 0)
            for literal, row in zip(self.x[v], rows, strict=True):
                self.tasks.setdefault(("device", row[0]), []).append((self.start[v], row[1], literal))
        for t in range(len(piece.tensors)):
            self._tensor(t)
        for entries in self.tasks.values():
            for a, b in itertools.combinations(entries, 2):
                self._apart(a, b)
        ends = range(len(piece.modes)) if piece.last else [len(piece.modes) - 1]
        for v in ends:
            self.model.add_linear_constraint(self.makespan >= self._end(v))

    def _length(self, v: int) -> Any:
        return sum(row[1] * x for row, x in zip(self.piece.modes[v], self.x[v], strict=True))

    def _end(self, v: int) -> Any:
        return self.start[v] + self._length(v)

    def _on(self, v: int, what: str) -> dict[int, Any]:
        """Device or memory -> how much of operator v is there."""
        found: dict[int, Any] = {}
        for row, x in zip(self.piece.modes[v], self.x[v], strict=True):
            place = row[0] if what == "device" else self.machine.memory[row[0]]
            found[place] = found[place] + x if place in found else x
        return found

    def _tensor(self, t: int) -> None:
        tensor, model, machine = self.piece.tensors[t], self.model, self.machine
        entry, io = self.question.entry, self.machine.io_memory
        if tensor.producer == ENTRY:
            home: dict[int, Any] = {io if entry == ANY else machine.memory[entry]: 1.0}
            devices: dict[int, Any] = {} if entry == ANY else {entry: 1.0}
            end: Any = 0.0
        else:
            home, devices = self._on(tensor.producer, "memory"), self._on(tensor.producer, "device")
            end = self._end(tensor.producer)
        for v in tensor.readers:
            model.add_linear_constraint(self.start[v] >= end)
            for (d, here), (e, there) in itertools.product(devices.items(), self._on(v, "device").items()):
                if d != e and machine.memory[d] == machine.memory[e]:
                    slack = self.most * (2 - here - there)
                    model.add_linear_constraint(self.start[v] >= end + machine.handoff - slack)
        wanted = {m for v in tensor.readers for m in self._on(v, "memory")} | ({io} if tensor.sink else set())
        for source, destination in itertools.product(home, sorted(wanted)):
            if source != destination:
                self._copy(t, home[source], source, destination, end)

    def _copy(self, t: int, here: Any, source: int, destination: int, end: Any) -> None:
        tensor, model = self.piece.tensors[t], self.model
        link = self.machine.link(source, destination)
        start, present = model.add_variable(lb=0.0), model.add_binary_variable()
        self.tasks.setdefault(("link", link), []).append((start, tensor.work[link], present))
        model.add_linear_constraint(start >= end)
        for v in tensor.readers:
            there = self._on(v, "memory").get(destination, 0.0)
            model.add_linear_constraint(present >= here + there - 1)
            slack = self.most * (2 - here - there)
            model.add_linear_constraint(self.start[v] >= start + tensor.work[link] - slack)
        if tensor.sink and destination == self.machine.io_memory:
            model.add_linear_constraint(present >= here)
            slack = self.most * (1 - present)
            model.add_linear_constraint(self.makespan >= start + tensor.work[link] - slack)

    def _apart(self, a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> None:
        if a[0] is b[0]:
            return  # two modes of one operator
        first = self.model.add_binary_variable()
        both = self.most * (2 - a[2] - b[2])
        self.model.add_linear_constraint(b[0] >= a[0] + a[1] - both - self.most * (1 - first))
        self.model.add_linear_constraint(a[0] >= b[0] + b[1] - both - self.most * first)

    def solve(self) -> int | None:
        self.model.minimize(self.makespan)
        parameters = self.mathopt.SolveParameters(relative_gap_tolerance=0.0, absolute_gap_tolerance=0.5)
        result = self.mathopt.solve(self.model, self.mathopt.SolverType.HIGHS, params=parameters)
        if not result.has_primal_feasible_solution():
            return None
        return round(result.objective_value())
