"""The inner loops of scheduling in Python: the specification of native/ and its stand-in without a compiler.

The two must return the same bits. Times are integer ticks, energies integer picojoules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from h4hc.ir.schedule import Wait
from h4hc.ir.system import Content, LifetimeRow, TaskRow, Trace
from h4hc.passes.core.balancing import balance
from h4hc.passes.core.climbing import Mover
from h4hc.passes.core.contents import Contents
from h4hc.passes.core.cutting import Weights, cut, cut_within
from h4hc.passes.core.filling import knapsack
from h4hc.passes.core.frames import steady
from h4hc.passes.core.room import overflow_alone
from h4hc.passes.core.simulation import Simulation
from h4hc.passes.core.spilling import overflowing
from h4hc.passes.core.starting import Start, best, offload
from h4hc.passes.core.tuning import Shifter, Tuned, Tuning
from h4hc.passes.core.weaving import weave

MAX_TILES = 16
MAX_FRAMES = 64
INTERVAL, LOAD = 3, 4  # objectives of several frames in flight
_TRIES = 4  # moves drawn per evaluation: some change nothing

Score = tuple[float, float, float]


class Problem:
    """A scheduling problem.

    The dictionary holds, with CSR pointers (`*_ptr`) where a row has several entries:
    operators (`rows`, `rank`, `alike`, which is equal for operators that are alike; modes: device, work in ticks, energy
    in picojoules, resident bytes; inputs: tensor, and rows/window/stride/pad of the stream, rows = 0 where the whole tensor
    is needed), tensors (`producer`, -1 for a graph input; `cons_op`, once per reading input; `sink`, 1 if it must end in `io_memory`),
    devices (`dev_memory`, `dev_overhead` ticks per extra tile, `dev_static` picojoules per tick, for `period` ticks of every
    frame, or, without that, for its latency; `dev_capacity` resident bytes), links (`link_of[a * memories + b]`, `link_channels`,
    `link_overhead`) and transfers (`xfer_work[link * tensors + tensor]`, `xfer_energy`).
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.n: int = data["operators"]
        self.nd: int = data["devices"]
        self.d = data

    def score(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        objective: int,
        budget: int,
        order: Sequence[int] | None = None,
        frames: int = 1,
    ) -> Score:
        """(excess over the latency budget, objective, tie-breaker) of a placement; smaller is better.

        Objectives: 0 latency, 1 energy, 2 energy-delay product; 3 the initiation interval of the periodic schedule that
        `frames` frames in flight settle into (see frames.py; `order` does not count); 4 what that would be about: the work
        of the busiest device or channel and one share in `frames` of the latency of one frame. `budget` in ticks, 0 for
        none. `order`: see `trace`. With one frame in flight, what the memories have no room for counts as ticks of the
        latency for objectives 0 to 2, if the problem knows its memories (see room.py).
        """
        if not 1 <= frames <= MAX_FRAMES:
            raise ValueError("1 to 64 frames may be in flight")
        if objective == INTERVAL:
            found = steady(self.d, modes, tiles, frames)
            rated = float(found.interval) + found.overflow
            return self._late(found.latency, budget), rated, float(found.latency)
        simulation = Simulation(self.d, modes, tiles)
        simulation = simulation.run() if order is None else simulation.follow(order)
        late, latency = self._late(simulation.latency, budget), float(simulation.latency)
        if objective == LOAD:
            return late, float(simulation.busiest) + latency / float(frames), latency
        charged = float(self.d.get("period", 0)) or latency
        if frames == 1 and "mem_limit" in self.d:
            overflow = overflow_alone(self.d, simulation)
            latency, charged = latency + overflow, charged + overflow
        watts = 0.0
        for device in range(self.nd):
            if simulation.used >> device & 1:
                watts += self.d["dev_static"][device]
        energy = float(simulation.energy) + watts * charged
        if objective == 1:
            return late, energy, latency
        if objective == 2:
            return late, energy * latency, latency
        return late, latency, energy

    @staticmethod
    def _late(latency: int, budget: int) -> float:
        return float(latency - budget) if 0 < budget < latency else 0.0

    def trace(self, modes: Sequence[int], tiles: Sequence[int], order: Sequence[int] | None = None) -> Trace:
        """Latency, dynamic energy, bit mask of used devices, tasks in the order they were scheduled, buffers.

        A compute task is (operator, -1, -1, start, end), a transfer (tensor, memory, channel, start, end). A buffer
        is (tensor, memory, first tick, last tick): from the start of the task that writes it (graph inputs: 0) to
        the end of the last task that reads it (graph outputs in the io memory: the end of the frame).

        `order` prescribes the order of scheduling, which else is that of the list scheduler: v for operator v, each
        behind those that it reads from, and operators + tensor * memories + memory for a transfer. A transfer
        that is not listed goes right before its first reader; one that is not needed is passed over.
        """
        simulation = Simulation(self.d, modes, tiles)
        simulation = simulation.run() if order is None else simulation.follow(order)
        tasks, buffers = simulation.rows(), simulation.lifetimes()
        return simulation.latency, simulation.energy, simulation.used, tasks, buffers

    def steady(self, modes: Sequence[int], tiles: Sequence[int], frames: int) -> tuple[int, list[int]]:
        """Ticks from frame to frame, and when each task of a frame starts, with `frames` in flight (see frames.py).

        Tasks are numbered as in the order of `trace`; -1 for one that does not exist.
        """
        if not 1 <= frames <= MAX_FRAMES:
            raise ValueError("1 to 64 frames may be in flight")
        found = steady(self.d, modes, tiles, frames)
        tasks = self.n + self.d["tensors"] * self.d["memories"]
        return found.period, [found.offsets.get(c, -1) for c in range(tasks)]

    def contents(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        rows: Sequence[TaskRow],
        buffers: Sequence[LifetimeRow],
        wait: Wait,
    ) -> list[Content]:
        """What each task does whose row a trace of this placement has (see contents.py)."""
        return Contents(self.d, modes, tiles, rows, buffers, wait).all()

    def best(
        self,
        seeds: Sequence[Sequence[int]],
        tilings: Sequence[Sequence[int]],
        objective: int,
        budget: int,
        frames: int,
    ) -> Start:
        """The best of some placements (see starting.py). `objective`, `budget` and `frames`: see `offload`."""
        if not seeds or not tilings:
            raise ValueError("there is nothing to choose from")
        return best(seeds, tilings, self._rating(objective, budget, frames))

    def offload(
        self,
        score: Score,
        tiles: Sequence[int],
        modes: Sequence[int],
        mask: int,
        finest: Sequence[int],
        objective: int,
        budget: int,
        frames: int,
    ) -> Start:
        """The best of a placement of that score and of ones with operators on other devices (see starting.py).

        `objective`, `budget` and `frames`: see `score`; for objective 3 two frames count as well, which need less memory.
        """
        rate = self._rating(objective, budget, frames)
        return offload(self.d, (score, list(tiles), list(modes)), mask, finest, rate)

    def _rating(
        self, objective: int, budget: int, frames: int
    ) -> Callable[[Sequence[int], Sequence[int]], Score]:
        counts = sorted({2, frames}) if objective == INTERVAL else [frames]

        def rate(modes: Sequence[int], tiles: Sequence[int]) -> Score:
            return min(self.score(modes, tiles, objective, budget, None, count) for count in counts)

        return rate

    def overflowing(
        self,
        modes: Sequence[int],
        rows: Sequence[TaskRow],
        buffers: Sequence[LifetimeRow],
        sizes: Sequence[int],
        parts: Sequence[tuple[int, int, int, int]],
        overwrites: Sequence[tuple[int, int, int]],
        rooms: Sequence[tuple[int, int]],
        gone: Sequence[tuple[int, int]],
    ) -> list[tuple[int, int]]:
        """The buffers that must leave their memories (see spilling.py)."""
        return overflowing(self.d, modes, rows, buffers, sizes, parts, overwrites, rooms, gone)

    def prefer(self, device: int, mask: int) -> list[int] | None:
        """Every operator on `device` where it runs, else on the fastest other device of `mask`.

        None if an operator runs on no device of `mask`.
        """
        d, modes = self.d, []
        for v in range(self.n):
            start = d["mode_ptr"][v]
            options = [
                (d["mode_device"][m] != device, d["mode_work"][m], m - start)
                for m in range(start, d["mode_ptr"][v + 1])
                if mask >> d["mode_device"][m] & 1
            ]
            if not options:
                return None
            modes.append(min(options)[2])
        return modes

    def cut(
        self, first: int, second: int, mask: int, time: float, energy: float, balance: float, price: float
    ) -> list[int] | None:
        """The optimal additive placement on two devices (see cutting.py)."""
        return cut(self.d, first, second, mask, Weights(time, energy, balance, price))

    def cut_within(
        self, first: int, second: int, mask: int, time: float, energy: float, balance: float
    ) -> tuple[int, list[int] | None]:
        """The cut, with a price on resident weights where they are too many (see cutting.py)."""
        return cut_within(self.d, first, second, mask, Weights(time, energy, balance))

    def knapsack(self, device: int, mask: int) -> list[int] | None:
        """The best use of the capacity of `device` by itself (see filling.py)."""
        return knapsack(self.d, device, mask)

    def climb(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        evaluations: int,
        seed: int,
        mask: int,
        objective: int,
        budget: int,
        frames: int = 1,
        focus: Sequence[int] = (),
    ) -> tuple[list[int], list[int]]:
        """First-improvement local search that also accepts equal scores.

        Moves and `focus`: see climbing.py. `objective`, `budget` and `frames`: see `score`.
        """
        mode, tile = list(modes), list(tiles)
        current = self.score(mode, tile, objective, budget, None, frames)
        best_mode, best_tile = list(mode), list(tile)
        mover = Mover(self.d, mask, seed, focus)
        mover.fill_resident(mode)
        done = 0
        for _ in range(evaluations * _TRIES if self.n else 0):
            if done == evaluations:
                break
            if not mover.mutate(mode, tile):
                continue
            done += 1
            score = self.score(mode, tile, objective, budget, None, frames)
            if score <= current:
                current = score
                best_mode, best_tile = list(mode), list(tile)
            else:
                mode, tile = list(best_mode), list(best_tile)
                mover.fill_resident(mode)
        return best_mode, best_tile

    def balance(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        evaluations: int,
        seed: int,
        mask: int,
        objective: int,
        budget: int,
        frames: int,
    ) -> tuple[list[int], list[int]]:
        """Local search for objectives 3 and 4 (see `score`) that leaves local optima (see balancing.py)."""
        if objective not in (INTERVAL, LOAD):
            raise ValueError("only several frames in flight are balanced")

        def rate(modes: Sequence[int], tiles: Sequence[int], _: float) -> Score:
            return self.score(modes, tiles, objective, budget, None, frames)

        return balance(self.d, modes, tiles, evaluations, Mover(self.d, mask, seed), rate)

    def tune(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        period: int,
        starts: Sequence[int],
        evaluations: int,
        seed: int,
        mask: int,
        budget: int,
        frames: int,
    ) -> tuple[list[int], list[int], int, list[int]]:
        """Local search for objective 3 that keeps the order of the tasks (see tuning.py), which is that of `starts`.

        The best modes and tile counts. `period` and `starts`, and what comes with the result: as `steady` returns them.
        """
        if not 1 <= frames <= MAX_FRAMES:
            raise ValueError("1 to 64 frames may be in flight")
        known = {c: start for c, start in enumerate(starts) if start >= 0}
        if any(v not in known for v in range(self.n)):
            raise ValueError("an operator has no start")
        tuning = Tuning(self.d, modes, tiles, Tuned(known, period), frames)

        def rate(modes: Sequence[int], tiles: Sequence[int], limit: float) -> Score:
            interval, price, latency = tuning.rate(modes, tiles, limit)
            return self._late(latency, budget), float(interval) + price, float(latency)

        mover = Shifter(self.d, mask, seed, tuning)
        mode, tile = balance(self.d, modes, tiles, evaluations, mover, rate, tuning.keep)
        tasks = self.n + self.d["tensors"] * self.d["memories"]
        return mode, tile, tuning.best.interval, [tuning.best.starts.get(c, -1) for c in range(tasks)]

    def weave(
        self, cuts: Sequence[int], prices: Sequence[int], byte_prices: Sequence[int], beam: int, alike: int
    ) -> tuple[int, list[int], list[int]] | None:
        """Modes and an order of as many frames in flight as there are strands between `cuts` (see weaving.py)."""
        return weave(self.d, cuts, prices, byte_prices, beam, alike)
