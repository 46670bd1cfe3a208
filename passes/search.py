"""Search: the best placement on a set of devices, by seeds, offloading and local search.

See h4hc.passes.partition for the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import OBJECTIVES, Compilation
from h4hc.ir.system import System
from h4hc.passes.avoid import moved_away
from h4hc.passes.capacity import repair_capacity, resident_bytes
from h4hc.passes.copies import fill, has_copies, of_single_modes, offers_choice, singled, without_copies
from h4hc.passes.core import Problem
from h4hc.passes.factors import of_factors
from h4hc.passes.inherit import inherited, inherited_spills
from h4hc.passes.memory import overflowing, oversized
from h4hc.passes.plans import Plan, Score
from h4hc.passes.problem import build_system, with_spills
from h4hc.passes.room import with_room
from h4hc.passes.roomy import minding_room
from h4hc.passes.seeds import EDP, ENERGY, INTERVAL, LATENCY, LOAD, Seeder, distinct, thrifty
from h4hc.passes.squeeze import alternatives, shortage
from h4hc.passes.thorough import thorough

EVALUATIONS = {"fast": 360, "balanced": 400, "exact": 400}
_TILE_SEEDS = (1, 4, 8)
_FULL_SIZE = 250  # operators; smaller problems have more evaluations
_MOST_TIMES = 8.0
_LOAD_TIMES = 8  # more of them for the load and the latency of one frame, which are soon worked out
_ATTEMPTS = 4  # for the throughput: short searches, of which one goes on
_INTERVAL_TIMES = 3  # at most, more of them for the throughput, one per frame in flight: a rough start
_STARTS = {"fast": 1, "balanced": 2, "exact": 2}  # seeds from which the search sets out
_FILLS = 8  # placements with operators in larger modes that are tried
_WARM_SHARE = 6  # of the evaluations, from a parent's placement
_SPILL_ROUNDS = {"fast": 1, "balanced": 3, "exact": 3}
_FRESH = 10  # added to the numbers of local searches that draw other moves
_SEED = 0x9E3779B97F4A7C15

Start = tuple[Score, list[int], list[int]]  # score, tiles, modes


class Searcher:
    """One compilation's search: the systems per set of spilled buffers, options as numbers.

    `system` is the problem with the buffers of `spilled` in backing memory, `base` the one with none there.
    """

    def __init__(self, compilation: Compilation, *, whole: bool = False, copies: bool = True) -> None:
        """`whole`: operators run in one tile each, and the memory of activations has no limit. `copies`: weights may be copied."""
        options = compilation.options
        self.compilation = compilation
        self.frames = options.window
        self.objective = OBJECTIVES.index(options.objective)
        if self.objective == INTERVAL and self.frames == 1:
            self.objective = LATENCY
        self.budget = options.budget_ticks
        self.whole = whole
        self.copies, base = copies, build_system(compilation)
        self.base = base if copies else of_single_modes(base)
        operators = self.base.data["operators"]
        if whole:
            self.base = replace(self.base, data={**self.base.data, "rows": [1] * operators})
        times = max(1.0, min(_FULL_SIZE / max(1, operators), _MOST_TIMES))
        times *= min(self.frames, _INTERVAL_TIMES) if self.objective == INTERVAL else 1
        self.evaluations = int(EVALUATIONS[options.effort] * times)
        if options.evaluations is not None:
            self.evaluations = options.evaluations
        self.found: list[Plan] = []  # every plan that a search ended with
        # the throughput has more searches of its own (h4hc.passes.tuned)
        self.thorough = options.effort != "fast" and options.objective != "throughput"
        self.seeded = True  # whether searches set out from more than the plans that are known
        self._spill(oversized(self.base, compilation.target))

    @cached_property
    def tilings(self) -> list[list[int]]:
        """The tile counts that seeds are tried with."""
        rows = self.base.data["rows"]
        return [[min(tiles, r) for r in rows] for tiles in ((1,) if self.whole else _TILE_SEEDS)]

    def _spill(self, spilled: frozenset[tuple[str, str]]) -> None:
        self.spilled = spilled
        for name in ("whole_system", "with_copies", "single", "system", "problem"):  # made when asked for
            vars(self).pop(name, None)

    @cached_property
    def whole_system(self) -> System:
        """The problem with what is spilled, and with copies of weights."""
        return self.spilled_system(self.spilled)

    @cached_property
    def with_copies(self) -> Searcher | None:
        """A searcher that knows copies of weights, where there are any."""
        if not (has_copies(self.base) if self.thorough else offers_choice(self.whole_system)):
            return None
        other = copy(self)
        vars(other).update(system=self.whole_system, with_copies=None)
        vars(other).pop("problem", None)
        return other

    @cached_property
    def single(self) -> Searcher | None:
        """A searcher as if the target did not copy weights; None if it does not, or if it does not matter."""
        if not self.thorough or not has_copies(self.base):
            return None
        other = copy(self)
        other.base, other.copies = of_single_modes(self.base), False
        other._spill(self.spilled)
        return other

    @cached_property
    def system(self) -> System:
        """The problem that is searched: without copies."""
        return without_copies(self.whole_system) if self.with_copies else self.whole_system

    @cached_property
    def problem(self) -> Problem:
        """`system` in the form of the compiled core."""
        return Problem(self.system.data)

    def spilled_system(self, spilled: frozenset[tuple[str, str]]) -> System:
        """The problem with these buffers in backing memory."""
        target = self.compilation.target
        system = with_spills(self.base, target, spilled) if spilled else self.base
        return with_room(system, target, spilled) if self.frames > 1 else system

    def spilling(self, spilled: frozenset[tuple[str, str]]) -> Searcher:
        """A searcher like this one, with these buffers in backing memory from the start."""
        other = copy(self)
        other.seeded = self.compilation.options.effort != "fast"
        other._spill(spilled)
        return other

    @property
    def rated(self) -> tuple[int, int, int]:
        """How the compiled core rates placements."""
        return self.objective, self.budget, self.frames

    @property
    def full(self) -> Searcher:
        """The searcher that knows copies of weights."""
        return self.with_copies or self

    def mask_of(self, accelerator: str) -> int:
        """`accelerator` and every host."""
        return self.system.device_mask([accelerator, *self.compilation.target.hosts])

    def search(self, mask: int, warm: list[Plan], evaluations: int) -> Plan | None:
        """The best plan found on the devices of `mask`; None if some operator runs on none of them."""
        if self.thorough:
            return thorough(self, mask, warm, evaluations)
        return self.searched(mask, warm, evaluations, evaluations)

    def searched(self, mask: int, warm: list[Plan], evaluations: int, share: int) -> Plan | None:
        """The best plan found in one system and those where more is spilled. `share`: evaluations for each start of a race.

        What a plan spills is not known before it is there: as long as that helps, the search goes on with those buffers
        spilled from the start.
        """
        effort = self.compilation.options.effort
        parts = [self.rescored(p) for p in of_factors(self, mask, warm, share)]
        plan = self.raced(mask, [*warm, *parts], share)
        self.found += [*([plan] if plan else []), *parts]
        plan = min([*([plan] if plan else []), *parts], key=lambda plan: plan.score, default=None)
        if plan is None:
            return None
        first = plan
        for _ in range(_SPILL_ROUNDS[effort]):
            if plan.spilled == self.spilled:
                break
            again = self.spilling(plan.spilled).raced(mask, [plan], evaluations // 2)
            if again is None or again.score >= plan.score:
                break
            plan = again
            self.found.append(plan)
        starts = [first] if effort == "fast" or first is plan else [first, plan]
        roomy = [minding_room(self, mask, start, evaluations) for start in starts]
        return min([plan, *roomy], key=lambda plan: plan.score)

    def follow(self, parent: Compilation) -> Plan | None:
        """The best plan found near the placement of `parent`; None if that does not fit this model."""
        kept = inherited_spills(parent, self.base) - self.spilled
        searcher = (self.spilling(self.spilled | kept) if kept else self).full
        start = inherited(parent, self.compilation, searcher.system)
        if start is None:
            return None
        try:
            plan = searcher.fit_memory(tuple(start.modes), tuple(start.tiles))
        except InfeasibleError:  # other placements may fit the memories
            return None
        fresh, modes = plan.spilled - searcher.spilled, list(plan.modes)
        if fresh:
            searcher = searcher._in_system_of(plan)
            modes = moved_away(plan, fresh, searcher.problem, searcher.rated)
        near, share = start.near_changes, self.evaluations // _WARM_SHARE
        focus = near if 2 * len(near) < len(modes) else []
        everyone = (1 << len(self.base.devices)) - 1
        changed = searcher.climb(modes, plan.tiles, share, everyone, focus=focus)
        _, tiles, modes = searcher.filled(searcher.known(*changed))
        if (tuple(modes), tuple(tiles)) != (plan.modes, plan.tiles):
            with suppress(InfeasibleError):  # what `plan` holds fits
                plan = min(plan, searcher.fit_memory(tuple(modes), tuple(tiles)), key=lambda plan: plan.score)
        self.found.append(plan)
        return plan

    def _in_system_of(self, plan: Plan) -> Searcher:
        other = copy(self)
        other.spilled, other.system = plan.spilled, plan.system
        vars(other).pop("problem", None)
        return other

    def rescored(self, plan: Plan) -> Plan:
        """`plan` with its score by this search's objective."""
        return replace(plan, score=self.score(plan.modes, plan.tiles, Problem(plan.system.data), plan.order))

    def raced(self, mask: int, warm: list[Plan], evaluations: int) -> Plan | None:
        """The best of a race of starts; with copies, if there are any, never worse than without."""
        field = self.starts(mask, [self.known(self._without_copies(p.modes), p.tiles) for p in warm])
        if not field:
            return None
        effort, full = self.compilation.options.effort, self.full
        if full is self:
            return self.fitted(self.race(field, evaluations, mask))
        given = full.starts(mask, [full.known(p.modes, p.tiles) for p in warm])
        if effort == "fast":
            start = full.race([*given, self._single(field[0])], evaluations, mask)
            try:
                return full.fitted(full.filled(start))
            except InfeasibleError:  # without copies, other weights may lie in memory
                return self.fitted(self.known(self._without_copies(start[2]), start[1]))
        plain = self._single(self.race(field, evaluations, mask))
        plan = self.fitted(plain)
        try:
            found = full.fitted(full.filled(full.race([*given, plain], evaluations, mask)))
        except InfeasibleError:  # its activations fit no memory; those of `plan` do
            return plan
        return min(plan, found, key=lambda plan: plan.score)

    def known(self, modes: Sequence[int], tiles: Sequence[int]) -> Start:
        """A placement with its score."""
        return self.score(modes, tiles), list(tiles), list(modes)

    def _single(self, start: Start) -> Start:
        """`start` with single modes in place of copies, which have the same costs here."""
        return start[0], start[1], self._without_copies(start[2])

    def fitted(self, start: Start) -> Plan:
        """The plan of a placement, with what the memories do not hold spilled."""
        return self.fit_memory(tuple(start[2]), tuple(start[1]))

    def starts(self, mask: int, known: list[Start]) -> list[Start]:
        """The best placements to set out from, seeds and `known` ones, with operators offloaded."""
        modes, count = self._seeds(mask) if self.seeded else [], _STARTS[self.compilation.options.effort]
        groups = [modes] if count == 1 else [[seed] for seed in modes]
        seeds = [self.problem.best(group, self.tilings, *self.rated) for group in groups if group]
        starts = sorted(seeds + known)[:count]
        if self.objective == INTERVAL and seeds and known:  # what is good at once, and what is balanced
            starts = [min(known), min(seeds)]
        finest, rated = self.tilings[-1], self.rated
        return [self.problem.offload(*start, mask, finest, *rated) for start in starts]

    def race(self, field: list[Start], evaluations: int, mask: int) -> Start:
        """The best result of local searches from the starts of `field`, which share the evaluations.

        In each round all have an equal share; then the worse half is given up. For the throughput there is one round.
        """
        throughput = self.objective == INTERVAL
        evaluations *= len(field) if throughput else _STARTS[self.compilation.options.effort]
        field = [start for number, start in enumerate(field) if start not in field[:number]]
        rounds = 1 if throughput else (len(field) - 1).bit_length() + 1
        for number in range(rounds):
            share = evaluations // rounds // len(field)
            draws = number + _FRESH if self.thorough else number  # fast effort's result is a start
            found = [self.climb(modes, tiles, share, mask, draws) for _, tiles, modes in field]
            field = sorted([self.known(*start) for start in found])
            field = field[: -(-len(field) // 2)]
        return field[0]

    def filled(self, start: Start) -> Start:
        """`start`, or better: with larger and faster modes in the room that it leaves."""
        score, tiles, modes = start
        limits = self.system.data["dev_capacity"]
        room = [limit - used for limit, used in zip(limits, resident_bytes(self.system, modes), strict=True)]
        known = {tuple(modes): score}

        def rate(chosen: Sequence[int]) -> Score:
            key = tuple(chosen)
            if key not in known:
                known[key] = self.score(chosen, tiles)
            return known[key]

        found = fill(self.system, modes, room, rate, _FILLS)
        return rate(found), tiles, found

    def _without_copies(self, modes: Sequence[int]) -> list[int]:
        return list(modes) if self.full is self else singled(self.system, modes)

    def score(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        problem: Problem | None = None,
        order: Sequence[int] | None = None,
    ) -> Score:
        """The score of a placement by this search's objective, in `problem` (else the one without copies)."""
        problem = problem or self.problem
        counts = {2, self.frames} if self.objective == INTERVAL else {self.frames}  # fewer need less memory
        return min(
            problem.score(modes, tiles, self.objective, self.budget, order, frames) for frames in counts
        )

    def climb(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        evaluations: int,
        mask: int,
        number: int = 0,
        focus: Sequence[int] = (),
    ) -> tuple[list[int], list[int]]:
        """Local search, the `number`-th: near `focus`, if not empty, or for the throughput the best of some short ones."""
        if self.objective == LOAD:
            return self._balanced(modes, tiles, evaluations * _LOAD_TIMES, mask, number)
        if self.objective == INTERVAL:
            share = evaluations // (2 * _ATTEMPTS)
            tried = [self._balanced(modes, tiles, share, mask, number) for number in range(1, _ATTEMPTS + 1)]
            modes, tiles = min(tried, key=lambda found: (self.score(*found), found))
            return self._balanced(modes, tiles, evaluations - share * _ATTEMPTS, mask, number)
        return self.problem.climb(modes, tiles, evaluations, _SEED + number, mask, *self.rated, list(focus))

    def _balanced(
        self, modes: Sequence[int], tiles: Sequence[int], evaluations: int, mask: int, number: int
    ) -> tuple[list[int], list[int]]:
        return self.problem.balance(modes, tiles, evaluations, _SEED + number, mask, *self.rated)

    def _seeds(self, mask: int) -> list[list[int]]:
        kinds = {device.name: device.kind for device in self.compilation.target.devices}
        seeder = Seeder(self.system, self.problem, kinds, self.objective, self.budget)
        seeds = distinct(seeder.seeds(mask))
        if self.objective in (ENERGY, EDP):
            seeds = distinct([*seeds, *(thrifty(self.system.data, modes, mask) for modes in seeds)])
        return seeds

    def fit_memory(
        self, modes: tuple[int, ...], tiles: tuple[int, ...], order: tuple[int, ...] | None = None
    ) -> Plan:
        """Spill buffers until all memories hold what lives in them; where that cannot be, change the schedule."""
        try:
            return self._spill_rest(modes, tiles, order)
        except InfeasibleError as error:
            if error.code != "memory":
                raise
        data, target, plans = self.system.data, self.compilation.target, list[Plan]()
        used = {data["mode_device"][data["mode_ptr"][v] + mode] for v, mode in enumerate(modes)}
        mask = self.system.device_mask([*(self.system.devices[d] for d in used), *target.hosts])
        single = [self._alone(device, mask) for device in sorted(used)]
        tried = list(alternatives(self.base, target, modes, [alone for alone in single if alone]))
        for choice in tried:
            try:
                plans.append(self._spill_rest(*choice))
            except InfeasibleError:  # the next one may fit
                continue
        if not plans:
            raise shortage(self.base, target, self.compilation.source.name, tried)
        return min(plans, key=lambda plan: plan.score)

    def _alone(self, device: int, mask: int) -> list[int] | None:
        modes = self.problem.prefer(device, mask)
        return None if modes is None else repair_capacity(self.system, modes, mask)

    def _spill_rest(
        self, modes: tuple[int, ...], tiles: tuple[int, ...], order: tuple[int, ...] | None
    ) -> Plan:
        system, problem, spilled = self.system, self.problem, self.spilled
        target = self.compilation.target
        while True:
            trace = problem.trace(modes, tiles, order)
            more = (
                frozenset[tuple[str, str]]()
                if self.whole
                else overflowing(system, problem, modes, trace, target, spilled)
            )
            if not more:
                score = self.score(modes, tiles, problem, order)
                if system is self.system:  # searches that go on from the plan know copies
                    modes, system = tuple(self._without_copies(modes)), self.full.system
                return Plan(system, modes, tiles, score, spilled, order, trace)
            spilled |= more
            system = self.spilled_system(spilled)
            problem = Problem(system.data)
