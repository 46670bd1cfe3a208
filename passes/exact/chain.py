"""The operator-level optimum: a shortest path over the devices of the cut operators.

In:  the pieces between cut operators. Out: `Optimum`: the least makespan with one tile per operator, or bounds on it.

Rules:
1. Edge (a, b) of stage k is piece k from entry device a to exit device b. Edges cost a bound until they lie on the
   shortest path; then they are solved, until the path consists of solved edges.
2. If the path's resident weights exceed the capacity, a price per resident byte is raised (Lagrange). Each price gives a
   bound on the makespan; a path within the capacity gives a schedule.
3. What is left of the gap is closed by labels (makespan, bytes): an edge matters if some path through it costs less
   than the best schedule found, and of such an edge all Pareto-optimal schedules are enumerated.
Cannot: prove an optimum if several devices have a capacity that binds; the bound then neglects it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from h4hc.passes.exact.heads import ANY, PRICE_SCALE
from h4hc.passes.exact.model import INFEASIBLE, Answer, Question
from h4hc.passes.exact.oracle import Oracle, lower_cost
from h4hc.passes.exact.piece import Piece

_PRICES = 24
_MOST_POINTS = 200  # Pareto points of one edge
_MOST_LABELS = 20_000  # per stage

Edge = tuple[int, int, int]  # stage, entry device, exit device


@dataclass(frozen=True, slots=True)
class Optimum:
    """`answers`: one per piece (empty: no schedule found), `ticks`: their makespan; none is below `bound`."""

    answers: tuple[Answer, ...]
    ticks: int
    bound: int

    @property
    def proved(self) -> bool:
        """Whether the makespan is the least."""
        return bool(self.answers) and self.ticks == self.bound


class Chain:
    """The pieces in a row, with what is known of each edge."""

    def __init__(self, pieces: Sequence[Piece], devices: int, capacity: int | None, oracle: Oracle) -> None:
        self.pieces = pieces
        self.devices = devices
        self.capacity = capacity
        self.oracle = oracle
        self.floors: dict[tuple[str, int, int], int] = {}
        self.points: dict[tuple[str, int, int], list[Answer]] = {}  # schedules found, per piece and pair

    def edges(self, stage: int) -> Iterable[tuple[int, int]]:
        """(entry, exit) device pairs of a stage."""
        entries = [ANY] if stage == 0 else range(self.devices)
        exits = [ANY] if stage == len(self.pieces) - 1 else range(self.devices)
        return [(a, b) for a in entries for b in exits]

    # --- shortest paths -----------------------------------------------------------------------------------------

    def solve(self) -> Optimum:
        """The least makespan."""
        self._preload(0)
        bound, path = self._shortest(0)
        if bound >= INFEASIBLE:
            return Optimum((), 0, INFEASIBLE)
        floor = -(-bound // PRICE_SCALE)
        if path is not None and (self.capacity is None or _bytes(path) <= self.capacity):
            return Optimum(path, _ticks(path), floor)
        if self.capacity is None or path is None:
            return Optimum((), 0, floor)
        return self._within_capacity(path, floor)

    def _preload(self, price: int) -> None:
        asked = [
            (piece, Question(a, b, price)) for k, piece in enumerate(self.pieces) for a, b in self.edges(k)
        ]
        self.oracle.load(asked)

    def _floor(self, k: int, a: int, b: int, price: int) -> int:
        """A bound on the cost of an edge: what is known at this price, at the prices around it, or by itself."""
        piece = self.pieces[k]
        answer = self.oracle.look_up(piece, Question(a, b, price))
        if answer is not None:
            return answer.bound
        key = piece.key, a, b
        if key not in self.floors:
            self.floors[key] = lower_cost(piece, Question(a, b))
        if self.floors[key] >= INFEASIBLE:
            return INFEASIBLE
        return self.floors[key] + price * sum(min(row[2] for row in rows) for rows in piece.modes)

    def _shortest(self, price: int) -> tuple[int, tuple[Answer, ...] | None]:
        """The least cost of a path (a bound if the solver ran out of time), and the path with its answers."""
        solved: dict[Edge, Answer] = {}
        while True:
            cost, route = self._route(price, solved)
            if cost >= INFEASIBLE:
                return INFEASIBLE, None
            fresh = [edge for edge in route if edge not in solved]
            if not fresh:
                answers = tuple(solved[edge] for edge in route)
                return cost, answers if all(answer.found for answer in answers) else None
            for k, a, b in fresh:
                answer = self.oracle.ask(self.pieces[k], Question(a, b, price))
                solved[k, a, b] = answer
                if answer.found:
                    self._remember(k, a, b, answer)

    def _remember(self, k: int, a: int, b: int, answer: Answer) -> None:
        points = self.points.setdefault((self.pieces[k].key, a, b), [])
        if all((p.ticks, p.bytes) != (answer.ticks, answer.bytes) for p in points):
            points.append(answer)

    def _potentials(self, price: int, solved: dict[Edge, Answer]) -> list[list[int]]:
        """Per stage and entry device, the least cost from there to the end."""
        rest = [0]
        result = [rest]
        for k in range(len(self.pieces) - 1, -1, -1):
            entries = 1 if k == 0 else self.devices
            before = [INFEASIBLE] * entries
            for a, b in self.edges(k):
                onward = rest[max(b, 0)]
                if onward < INFEASIBLE:
                    before[max(a, 0)] = min(before[max(a, 0)], self._cost(k, a, b, price, solved) + onward)
            rest = before
            result.append(rest)
        return result[::-1]

    def _cost(self, k: int, a: int, b: int, price: int, solved: dict[Edge, Answer]) -> int:
        answer = solved.get((k, a, b))
        return answer.bound if answer is not None else self._floor(k, a, b, price)

    def _route(self, price: int, solved: dict[Edge, Answer]) -> tuple[int, list[Edge]]:
        rest = self._potentials(price, solved)
        route: list[Edge] = []
        at = ANY
        if rest[0][0] >= INFEASIBLE:
            return INFEASIBLE, route
        for k in range(len(self.pieces)):
            entry = at
            options = [b for a, b in self.edges(k) if a == entry]
            at = min(
                options, key=lambda b: (self._cost(k, entry, b, price, solved) + rest[k + 1][max(b, 0)], b)
            )
            route.append((k, entry, at))
        return rest[0][0], route

    # --- capacity -----------------------------------------------------------------------------------------------

    def _within_capacity(self, heavy: tuple[Answer, ...], floor: int) -> Optimum:
        """Raise the price until the bound is best, then close what is left of the gap."""
        capacity = self.capacity or 0
        over, under = heavy, self._lightest()
        if under is None:
            return Optimum((), 0, floor if self._least_bytes() <= capacity else INFEASIBLE)
        best, best_price, best_cost = under, 0, PRICE_SCALE * floor
        for _ in range(_PRICES):
            price = _crossing(over, under)
            if price is None:
                break
            cost, path = self._shortest(price)
            if cost - price * capacity > best_cost:
                best_cost, best_price = cost - price * capacity, price
            if path is None:
                break
            heavier = _bytes(path) > capacity
            if not heavier and _ticks(path) < _ticks(best):
                best = path
            line = _line(path, price)
            if line >= min(_line(over, price), _line(under, price)):
                break
            over, under = (path, under) if heavier else (over, path)
        bound = -(-best_cost // PRICE_SCALE)
        if bound < _ticks(best):
            return self._close(best, best_price, bound)
        return Optimum(best, _ticks(best), bound)

    def _least_bytes(self) -> int:
        return sum(min(row[2] for row in rows) for piece in self.pieces for rows in piece.modes)

    def _lightest(self) -> tuple[Answer, ...] | None:
        """A path with so high a price that it keeps as few bytes as it can."""
        price = PRICE_SCALE << 10
        _, path = self._shortest(price)
        return path if path is not None and _bytes(path) <= (self.capacity or 0) else None

    def _close(self, best: tuple[Answer, ...], price: int, bound: int) -> Optimum:
        """Search by labels all paths that could be better than `best`; what is found is the optimum."""
        self._shortest(price)
        known = self._search(price, best, exact=False)
        best = min(best, known, key=_ticks) if known else best
        while _ticks(best) > bound:
            found = self._search(price, best, exact=True)
            if found is None:
                return Optimum(best, _ticks(best), bound)
            if _ticks(found) >= _ticks(best):
                return Optimum(best, _ticks(best), _ticks(best))
            best = found
        return Optimum(best, _ticks(best), bound)

    def _search(self, price: int, best: tuple[Answer, ...], *, exact: bool) -> tuple[Answer, ...] | None:
        """The fastest path within the capacity over the known schedules, or over all that matter (`exact`).

        Returns `best` if there is nothing better, None if the search had to be given up.
        """
        capacity = self.capacity or 0
        most = PRICE_SCALE * (_ticks(best) - 1) + price * capacity
        rest = self._potentials(price, {})
        reach = self._reach(price)
        labels: dict[int, list[_Label]] = {ANY: [_Label(0, 0, None, None)]}
        for k in range(len(self.pieces)):
            following: dict[int, list[_Label]] = {}
            for a, b in self.edges(k):
                if a not in labels or rest[k + 1][max(b, 0)] >= INFEASIBLE:
                    continue
                allowance = most - reach[k][max(a, 0)] - rest[k + 1][max(b, 0)]
                points = self._pareto(k, a, b, price, allowance) if exact else self._points(k, a, b)
                if points is None:
                    return None
                for label in labels[a]:
                    for answer in points:
                        ticks, size = label.ticks + answer.ticks, label.bytes + answer.bytes
                        cost = PRICE_SCALE * ticks + price * size + rest[k + 1][max(b, 0)]
                        if size <= capacity and cost <= most:
                            following.setdefault(b, []).append(_Label(ticks, size, label, answer))
            labels = {b: _undominated(group) for b, group in following.items()}
            if sum(map(len, labels.values())) > _MOST_LABELS:
                return None
        final = [label for group in labels.values() for label in group]
        return min(final, key=lambda label: label.ticks).path() if final else best

    def _points(self, k: int, a: int, b: int) -> list[Answer]:
        return self.points.get((self.pieces[k].key, a, b), [])

    def _reach(self, price: int) -> list[list[int]]:
        """Per stage and entry device, the least cost from the start to there."""
        reach = [0]
        result = [reach]
        for k in range(len(self.pieces)):
            exits = 1 if k == len(self.pieces) - 1 else self.devices
            after = [INFEASIBLE] * exits
            for a, b in self.edges(k):
                if reach[max(a, 0)] < INFEASIBLE:
                    cost = self._floor(k, a, b, price) + reach[max(a, 0)]
                    after[max(b, 0)] = min(after[max(b, 0)], cost)
            reach = after
            result.append(reach)
        return result

    def _pareto(self, k: int, a: int, b: int, price: int, allowance: int) -> list[Answer] | None:
        """All Pareto-optimal (ticks, bytes) of an edge that cost at most `allowance`; None if time ran out."""
        piece = self.pieces[k]
        question = Question(a, b, price, most_cost=allowance, fastest=True)
        if self._floor(k, a, b, price) > allowance:
            return []
        points: list[Answer] = []
        while len(points) < _MOST_POINTS:
            answer = self.oracle.ask(piece, question)
            if not answer.proved:
                return None
            if not answer.found:
                return points
            points.append(answer)
            self._remember(k, a, b, answer)
            if not answer.bytes:
                return points
            question = replace(question, most_bytes=answer.bytes - 1)
        return None


@dataclass(frozen=True, slots=True)
class _Label:
    ticks: int
    bytes: int
    before: _Label | None
    answer: Answer | None

    def path(self) -> tuple[Answer, ...]:
        """The answers from the start to here."""
        answers: list[Answer] = []
        label: _Label | None = self
        while label is not None and label.answer is not None:
            answers.append(label.answer)
            label = label.before
        return tuple(answers[::-1])


def _undominated(labels: list[_Label]) -> list[_Label]:
    kept: list[_Label] = []
    for label in sorted(labels, key=lambda x: (x.ticks, x.bytes)):
        if not kept or label.bytes < kept[-1].bytes:
            kept.append(label)
    return kept


def _ticks(path: Sequence[Answer]) -> int:
    return sum(answer.ticks for answer in path)


def _bytes(path: Sequence[Answer]) -> int:
    return sum(answer.bytes for answer in path)


def _line(path: Sequence[Answer], price: int) -> int:
    return PRICE_SCALE * _ticks(path) + price * _bytes(path)


def _crossing(over: Sequence[Answer], under: Sequence[Answer]) -> int | None:
    """The price at which both paths cost the same; None if there is none."""
    heavier, slower = _bytes(over) - _bytes(under), _ticks(under) - _ticks(over)
    if heavier <= 0 or slower <= 0:
        return None
    return PRICE_SCALE * slower // heavier
