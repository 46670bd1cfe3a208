"""Answers about pieces: each question goes to the solver twice, once in a lifetime of the cache.

An answer counts as proved if both settings of the solver agree on it and the bound that is computed without a
solver does not contradict them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from hashlib import sha256
from typing import Any

from h4hc.passes.exact.heads import PRICE_SCALE, least_ticks
from h4hc.passes.exact.model import INFEASIBLE, Answer, Question, Setting, no_answer, solve
from h4hc.passes.exact.piece import Piece
from h4hc.passes.exact.solver import RELEASE
from h4hc.passes.exact.store import Store

_FORMAT = f"1 {RELEASE}"  # a new number makes old answers unknown
_LEVELS = (0, 1)  # of linearisation: the two settings that must agree


@dataclass(slots=True)
class Limit:
    """What solving may take: deterministic time, which no machine changes, and perhaps seconds.

    `late` tells that the seconds ran out, so that the result depends on the machine.
    """

    effort: float
    deadline: float | None = None  # time.monotonic()
    spent: float = 0.0
    late: bool = False

    def left(self) -> bool:
        """Whether there is time for another question."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.late = True
        return not self.late and self.spent < self.effort

    def setting(self, linearization: int) -> Setting:
        """For one run: a share of what is left."""
        seconds = None if self.deadline is None else self.deadline - time.monotonic()
        return Setting(linearization, min(max(self.effort - self.spent, 0.01), _RUN_EFFORT), seconds)


_RUN_EFFORT = 2.0
_QUESTION_EFFORT = 0.001  # for building the model


@dataclass(slots=True)
class Oracle:
    """Answers to questions about pieces, from memory, from the store or from the solver."""

    store: Store
    limit: Limit
    known: dict[tuple[str, Question], Answer] = field(default_factory=dict)
    solved: int = 0

    def load(self, asked: Sequence[tuple[Piece, Question]]) -> None:
        """Read in one go what the store knows of `asked`."""
        names = {_name(piece.key, question): (piece.key, question) for piece, question in asked}
        for name, record in self.store.read(list(names)).items():
            answer = _from_record(record)
            if answer is not None:
                self.known[names[name]] = answer

    def look_up(self, piece: Piece, question: Question) -> Answer | None:
        """The answer, if it is known."""
        return self.known.get((piece.key, question))

    def ask(self, piece: Piece, question: Question) -> Answer:
        """The answer; a mere bound if the limit is reached."""
        key = piece.key, question
        answer = self.known.get(key)
        if answer is None:
            if not self.limit.left():
                return no_answer(lower_cost(piece, question), proved=False)
            answer = self._solve(piece, question)
            if not self.limit.late:
                self.known[key] = answer
                if answer.proved:  # how far others came depends on the time that was left
                    self.store.add(_name(*key), list(astuple(answer)))
            self.solved += 1
        self.limit.spent += answer.effort + _QUESTION_EFFORT
        return answer

    def _solve(self, piece: Piece, question: Question) -> Answer:
        first, *others = solve(piece, question, (self.limit.setting(level) for level in _LEVELS))
        effort = first.effort + sum(other.effort for other in others)
        if not first.proved or (not first.found and not others):
            self.limit.left()  # notes that the seconds have run out
            return first
        second = others[0]
        agree = second.proved and first.found == second.found
        if agree and first.found:
            agree = _value(first, question) == _value(second, question)
            agree = agree and (question.fastest or first.cost(question.price) >= lower_cost(piece, question))
        if agree:
            return replace(first, effort=effort)
        return replace(first, bound=lower_cost(piece, question), proved=False, effort=effort)


def _value(answer: Answer, question: Question) -> int:
    return answer.ticks if question.fastest else answer.cost(question.price)


def lower_cost(piece: Piece, question: Question) -> int:
    """A bound on the cost, without a solver; INFEASIBLE if there is no schedule."""
    ticks = least_ticks(piece, question)
    if ticks is None:
        return INFEASIBLE
    least_bytes = sum(min(row[2] for row in rows) for rows in piece.modes)
    return PRICE_SCALE * ticks + question.price * least_bytes


def _name(key: str, question: Question) -> str:
    return sha256(f"{_FORMAT} {key} {question!r}".encode()).hexdigest()


def _from_record(record: Any) -> Answer | None:
    """The answer written as `record`; None if it is none."""
    try:
        found, ticks, size, modes, starts, copies, bound, proved, effort = record
        return Answer(
            bool(found), int(ticks), int(size), tuple(map(int, modes)), tuple(map(int, starts)),
            tuple((int(t), int(m), int(s)) for t, m, s in copies), int(bound), bool(proved), float(effort),
        )  # fmt: skip
    except (TypeError, ValueError):
        return None
