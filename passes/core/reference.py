"""The inner loops of scheduling in Python: the specification of native/ and its stand-in without a compiler.

The two must return the same bits. Times are integer ticks, energies integer picojoules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from h4hc.ir.system import LifetimeRow, TaskRow, Trace
from h4hc.passes.core.cutting import Weights, cut

MAX_TILES = 16
_TRIES = 4  # moves drawn per evaluation: some change nothing
_MASK = (1 << 64) - 1

Score = tuple[float, float, float]


class Problem:
    """A scheduling problem.

    The dictionary holds, with CSR pointers (`*_ptr`) where a row has several entries:
    operators (`rows`, `rank`, modes: device, work in ticks, energy in picojoules, resident bytes; inputs:
    tensor, and rows/window/stride/pad of the stream, rows = 0 where the whole tensor is needed), tensors (`producer`, -1
    for a graph input; `cons_op`, once per reading input; `sink`, 1 if it must end in `io_memory`),
    devices (`dev_memory`, `dev_overhead` ticks per extra tile, `dev_static` picojoules per tick,
    `dev_capacity` resident bytes), links (`link_of[a * memories + b]`, `link_channels`, `link_overhead`)
    and transfers (`xfer_work[link * tensors + tensor]`, `xfer_energy`).
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.n: int = data["operators"]
        self.nt: int = data["tensors"]
        self.nd: int = data["devices"]
        self.nm: int = data["memories"]
        self.nl: int = data["links"]
        self.io_memory: int = data["io_memory"]
        self.handoff: int = data["handoff"]
        self.d = data
        self.resident = [0] * self.nd

    def score(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        objective: int,
        budget: int,
        order: Sequence[int] | None = None,
    ) -> Score:
        """(excess over the latency budget, objective, tie-breaker) of a placement; smaller is better.

        Objectives: 0 latency, 1 energy, 2 energy-delay product. `budget` in ticks, 0 for none. `order`: see `trace`.
        """
        return self._score(_Simulation(self, modes, tiles, order), objective, budget)

    def trace(self, modes: Sequence[int], tiles: Sequence[int], order: Sequence[int] | None = None) -> Trace:
        """Latency, dynamic energy, bit mask of used devices, tasks in the order they were scheduled, buffers.

        A compute task is (operator, -1, -1, start, end), a transfer (tensor, memory, channel, start, end). A buffer
        is (tensor, memory, first tick, last tick): from the start of the task that writes it (graph inputs: 0) to
        the end of the last task that reads it (graph outputs in the io memory: the end of the frame).

        `order` prescribes the order of scheduling, which else is that of the list scheduler: v for operator v, each
        behind those that it reads from, and operators + tensor * memories + memory for a transfer. A transfer
        that is not listed goes right before its first reader; one that is not needed is passed over.
        """
        simulation = _Simulation(self, modes, tiles, order)
        tasks, buffers = simulation.rows(), simulation.lifetimes()
        return simulation.latency, simulation.energy, simulation.used, tasks, buffers

    def counts(self, tiles: Sequence[int]) -> list[tuple[int, ...]]:
        """Per input of every operator: how many tiles of its source each tile of the operator waits for."""
        d = self.d
        result = []
        for v in range(self.n):
            for e in range(d["in_ptr"][v], d["in_ptr"][v + 1]):
                u = d["producer"][d["in_tensor"][e]]
                made = 1 if u < 0 else tiles[u]
                result.append(tuple(tiles_needed(d, e, v, u, k, tiles[v], made) for k in range(tiles[v])))
        return result

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

    def climb(
        self,
        modes: Sequence[int],
        tiles: Sequence[int],
        evaluations: int,
        seed: int,
        mask: int,
        objective: int,
        budget: int,
    ) -> tuple[list[int], list[int]]:
        """First-improvement local search that also accepts equal scores.

        Moves: operators or runs of up to eight go to a device of `mask`, and perhaps, with their neighbours, to another
        tile count; a run gets another tile count; an operator gets another mode of its device, if need be in exchange
        with another operator.
        """
        mode, tile = list(modes), list(tiles)
        current = self.score(mode, tile, objective, budget)
        best_mode, best_tile = list(mode), list(tile)
        self._fill_resident(mode)
        random = _Random(seed or 1)
        done = 0
        for _ in range(evaluations * _TRIES if self.n else 0):
            if done == evaluations:
                break
            if not self._mutate(mode, tile, mask, random):
                continue
            done += 1
            score = self.score(mode, tile, objective, budget)
            if score <= current:
                current = score
                best_mode, best_tile = list(mode), list(tile)
            else:
                mode, tile = list(best_mode), list(best_tile)
                self._fill_resident(mode)
        return best_mode, best_tile

    def _score(self, simulation: _Simulation, objective: int, budget: int) -> Score:
        watts = 0.0
        for device in range(self.nd):
            if simulation.used >> device & 1:
                watts += self.d["dev_static"][device]
        latency = float(simulation.latency)
        energy = float(simulation.energy) + watts * latency
        late = float(simulation.latency - budget) if 0 < budget < simulation.latency else 0.0
        if objective == 1:
            return late, energy, latency
        if objective == 2:
            return late, energy * latency, latency
        return late, latency, energy

    def _fill_resident(self, mode: Sequence[int]) -> None:
        self.resident = [0] * self.nd
        for v in range(self.n):
            m = self.d["mode_ptr"][v] + mode[v]
            self.resident[self.d["mode_device"][m]] += self.d["mode_resident"][m]

    def _place(self, mode: list[int], v: int, device: int) -> bool:
        d = self.d
        first = d["mode_ptr"][v]
        old = first + mode[v]
        if d["mode_device"][old] == device:
            return False
        for m in range(first, d["mode_ptr"][v + 1]):
            if d["mode_device"][m] != device:
                continue
            if self.resident[device] + d["mode_resident"][m] > d["dev_capacity"][device]:
                continue
            self.resident[d["mode_device"][old]] -= d["mode_resident"][old]
            self.resident[device] += d["mode_resident"][m]
            mode[v] = m - first
            return True
        return False

    def _exchange(self, mode: list[int], v: int, random: _Random) -> bool | None:
        """Give operator `v` another mode of its device, if need be in the room of another operator.

        That one then keeps fewer bytes. None: the mode drawn is none of that kind.
        """
        d = self.d
        pointers, device_of, resident = d["mode_ptr"], d["mode_device"], d["mode_resident"]
        old = pointers[v] + mode[v]
        device = device_of[old]
        m = pointers[v] + random.next() % (pointers[v + 1] - pointers[v])
        if m == old or device_of[m] != device:
            return None
        used = self.resident[device] - resident[old] + resident[m]
        if used > d["dev_capacity"][device]:
            w = random.next() % self.n
            now = pointers[w] + mode[w]
            if w == v or device_of[now] != device:
                return False
            smaller = [
                x
                for x in range(pointers[w], pointers[w + 1])
                if device_of[x] == device and resident[x] < resident[now]
            ]
            if not smaller:
                return False
            used += resident[smaller[0]] - resident[now]
            if used > d["dev_capacity"][device]:
                return False
            mode[w] = smaller[0] - pointers[w]
        self.resident[device] = used
        mode[v] = m - pointers[v]
        return True

    def _mutate(self, mode: list[int], tiles: list[int], mask: int, random: _Random) -> bool:
        change = False
        kind = random.next() % 8
        first = random.next() % self.n
        length = 1 if kind < 3 else 1 + random.next() % 8
        last = min(first + length, self.n)
        if kind == 0:
            exchanged = self._exchange(mode, first, random)
            if exchanged is not None:
                return exchanged
        if kind < 6:
            number = random.next()
            devices = [device for device in range(self.nd) if mask >> device & 1]
            if not devices:
                return False
            device = devices[number % len(devices)]
            for v in range(first, last):
                change |= self._place(mode, v, device)
            if kind < 4 or not change:
                return change
            first, last = max(0, first - 1), min(last + 1, self.n)
        wanted: int = 1 << (random.next() % 5)
        for v in range(first, last):
            count = min(wanted, max(1, self.d["rows"][v]))
            change |= count != tiles[v]
            tiles[v] = count
        return change


class _Random:
    """xorshift64*, upper 32 bits."""

    def __init__(self, seed: int) -> None:
        self.state = seed & _MASK

    def next(self) -> int:
        x = self.state
        x ^= x >> 12
        x ^= (x << 25) & _MASK
        x ^= x >> 27
        self.state = x
        return ((x * 0x2545F4914F6CDD1D) & _MASK) >> 32


class _Simulation:
    """One evaluation: list scheduling in which each task starts as early as its queue and its waits allow.

    Among the tasks whose inputs are scheduled, the one that can run without stalling first goes next; ties go to the
    higher rank, transfers first. See h4hc.ir.schedule for what a tile is.
    """

    def __init__(
        self, problem: Problem, modes: Sequence[int], tiles: Sequence[int], order: Sequence[int] | None = None
    ) -> None:
        self.p = problem
        self.d = problem.d
        self.tiles = tiles
        pointers = self.d["mode_ptr"]
        self.mode = [pointers[v] + modes[v] for v in range(problem.n)]
        self.device = [self.d["mode_device"][m] for m in self.mode]
        self.memory = [self.d["dev_memory"][d] for d in self.device]
        self.op_tiles: list[list[int]] = [[] for _ in range(problem.n)]
        self.op_start = [0] * problem.n
        self.transfers: dict[int, tuple[list[int], int, int]] = {}  # tile ends, start, channel
        self.wanted: set[int] = set()
        self.waiting = [self.d["in_ptr"][v + 1] - self.d["in_ptr"][v] for v in range(problem.n)]
        self.device_free = [0] * problem.nd
        self.channel_free = [[0] * count for count in self.d["link_channels"]]
        self.keys: dict[int, int | None] = {v: None for v in range(problem.n) if not self.waiting[v]}
        self.order: list[int] = []
        self.latency = self.energy = self.used = 0
        for tensor in range(problem.nt):
            if self.d["producer"][tensor] < 0:
                self._produced(tensor)
        if order is not None:
            self._follow(order)
        while self.keys and order is None:
            self._step()

    def rows(self) -> list[TaskRow]:
        """The tasks in scheduling order (see `Problem.trace`)."""
        n, nm = self.p.n, self.p.nm
        result = []
        for c in self.order:
            if c < n:
                result.append((c, -1, -1, self.op_start[c], self.op_tiles[c][-1]))
            else:
                ends, start, channel = self.transfers[c - n]
                result.append(((c - n) // nm, (c - n) % nm, channel, start, ends[-1]))
        return result

    def lifetimes(self) -> list[LifetimeRow]:
        """The buffers by tensor and memory (see `Problem.trace`)."""
        d, nm = self.d, self.p.nm
        spans: dict[tuple[int, int], list[int]] = {}
        for tensor, producer in enumerate(d["producer"]):
            span = [0, 0] if producer < 0 else [self.op_start[producer], self.op_tiles[producer][-1]]
            spans[tensor, self._source_memory(tensor)] = span
        for x, (ends, start, _) in self.transfers.items():
            spans[divmod(x, nm)] = [start, ends[-1]]
        for x, (ends, _, _) in self.transfers.items():
            span = spans[x // nm, self._source_memory(x // nm)]
            span[1] = max(span[1], ends[-1])
        for v in range(self.p.n):
            for e in range(d["in_ptr"][v], d["in_ptr"][v + 1]):
                span = spans[d["in_tensor"][e], self.memory[v]]
                span[1] = max(span[1], self.op_tiles[v][-1])
        for tensor, sink in enumerate(d["sink"]):
            if sink:
                spans[tensor, self.p.io_memory][1] = self.latency
        return [(tensor, memory, first, last) for (tensor, memory), (first, last) in sorted(spans.items())]

    def _step(self) -> None:
        n = self.p.n
        for c, key in self.keys.items():
            if key is None:
                self.keys[c] = self._stall_free_start(c)
        rank = self.d["rank"]
        chosen = min(self.keys, key=lambda c: (self.keys[c], -(rank[c] if c < n else _MASK), c))
        self._commit(chosen)

    def _commit(self, c: int) -> None:
        del self.keys[c]
        self.order.append(c)
        if c < self.p.n:
            self._commit_operator(c)
        else:
            self._commit_transfer(c - self.p.n)

    def _follow(self, order: Sequence[int]) -> None:
        n, last = self.p.n, self.p.n + self.p.nt * self.p.nm
        for c in order:
            if not 0 <= c < last:
                raise ValueError(f"order: {c} is no task")
            if c >= n:
                if c in self.keys:
                    self._commit(c)
                continue
            for e in range(self.d["in_ptr"][c], self.d["in_ptr"][c + 1]):
                copy = n + self.d["in_tensor"][e] * self.p.nm + self.memory[c]
                if copy in self.keys:
                    self._commit(copy)
            if c not in self.keys:
                raise ValueError(f"order: operator {c} comes twice or before one that it reads from")
            self._commit(c)
        for c in sorted(c for c in self.keys if c >= n):
            self._commit(c)
        if sum(c < n for c in self.order) < n:
            raise ValueError("order: an operator is missing")

    def _stall_free_start(self, c: int) -> int:
        if c < self.p.n:
            return self._run_operator(c)[0][-1] - self._operator_work(c)
        ends, _, _, work = self._run_transfer(c - self.p.n)
        return ends[-1] - work

    def _commit_operator(self, v: int) -> None:
        device = self.device[v]
        self.op_tiles[v], self.op_start[v] = self._run_operator(v)
        end = self.op_tiles[v][-1]
        self.device_free[device] = end
        self.latency = max(self.latency, end)
        self.energy += self.d["mode_energy"][self.mode[v]]
        self.used |= 1 << device
        for c in self.keys:
            if c < self.p.n and self.device[c] == device:
                self.keys[c] = None
        for i in range(self.d["out_ptr"][v], self.d["out_ptr"][v + 1]):
            self._produced(self.d["out_tensor"][i])

    def _commit_transfer(self, x: int) -> None:
        tensor, memory = divmod(x, self.p.nm)
        link = self._link(tensor, memory)
        ends, start, channel, _ = self._run_transfer(x)
        self.transfers[x] = ends, start, channel
        self.channel_free[link][channel] = ends[-1]
        self.latency = max(self.latency, ends[-1])
        self.energy += self.d["xfer_energy"][link * self.p.nt + tensor]
        for c in self.keys:
            if c >= self.p.n:
                self.keys[c] = None
        self._arrived(tensor, memory)

    def _source_memory(self, tensor: int) -> int:
        producer: int = self.d["producer"][tensor]
        return self.p.io_memory if producer < 0 else self.memory[producer]

    def _link(self, tensor: int, memory: int) -> int:
        link: int = self.d["link_of"][self._source_memory(tensor) * self.p.nm + memory]
        return link

    def _readers(self, tensor: int) -> Sequence[int]:
        readers: Sequence[int] = self.d["cons_op"][
            self.d["cons_ptr"][tensor] : self.d["cons_ptr"][tensor + 1]
        ]
        return readers

    def _arrived(self, tensor: int, memory: int) -> None:
        for v in self._readers(tensor):
            if self.memory[v] == memory:
                self.waiting[v] -= 1
                if not self.waiting[v]:
                    self.keys[v] = None

    def _produced(self, tensor: int) -> None:
        home = self._source_memory(tensor)
        self._arrived(tensor, home)
        memories = [self.memory[v] for v in self._readers(tensor)]
        if self.d["sink"][tensor]:
            memories.append(self.p.io_memory)
        for memory in memories:
            x = tensor * self.p.nm + memory
            if memory != home and x not in self.wanted:
                self.wanted.add(x)
                self.keys[self.p.n + x] = None

    def _operator_work(self, v: int) -> int:
        work: int = self.d["mode_work"][self.mode[v]]
        return work + (self.tiles[v] - 1) * int(self.d["dev_overhead"][self.device[v]])

    def _run_operator(self, v: int) -> tuple[list[int], int]:
        d, device, memory = self.d, self.device[v], self.memory[v]
        tiles, work = self.tiles[v], self._operator_work(v)
        sources = []
        for e in range(d["in_ptr"][v], d["in_ptr"][v + 1]):
            tensor = d["in_tensor"][e]
            producer = d["producer"][tensor]
            if self._source_memory(tensor) != memory:
                sources.append((self.transfers[tensor * self.p.nm + memory][0], 0, e, producer))
            elif producer >= 0:
                latency = self.p.handoff if self.device[producer] != device else 0
                sources.append((self.op_tiles[producer], latency, e, producer))
        now = self.device_free[device]
        start, ends = now, []
        for k in range(tiles):
            begin = now
            for source, latency, e, producer in sources:
                count = tiles_needed(d, e, v, producer, k, tiles, len(source))
                if count:
                    begin = max(begin, source[count - 1] + latency)
            if k == 0:
                start = begin
            now = begin + work * (k + 1) // tiles - work * k // tiles
            ends.append(now)
        return ends, start

    def _run_transfer(self, x: int) -> tuple[list[int], int, int, int]:
        tensor, memory = divmod(x, self.p.nm)
        link, producer = self._link(tensor, memory), self.d["producer"][tensor]
        tiles = 1 if producer < 0 else self.tiles[producer]
        work = self.d["xfer_work"][link * self.p.nt + tensor] + (tiles - 1) * self.d["link_overhead"][link]
        free = self.channel_free[link]
        channel = free.index(min(free))
        now = free[channel]
        start, ends = now, []
        for k in range(tiles):
            begin = now if producer < 0 else max(now, self.op_tiles[producer][k])
            if k == 0:
                start = begin
            now = begin + work * (k + 1) // tiles - work * k // tiles
            ends.append(now)
        return ends, start, channel, work


def tiles_needed(d: Mapping[str, Any], e: int, v: int, producer: int, k: int, tiles: int, count: int) -> int:
    """How many of the `count` tiles of the source of input `e` tile `k` (of `tiles`) of operator `v` needs."""
    if count == 1 or not d["in_rows"][e]:
        return count
    made_rows = d["rows"][producer]
    out_rows = (k + 1) * d["rows"][v] // tiles
    rows = (out_rows - 1) * d["in_stride"][e] - d["in_pad"][e] + d["in_window"][e]
    rows = max(0, min(rows, d["in_rows"][e]))
    made = -(-rows * made_rows // d["in_rows"][e])
    return int(-(-made * count // made_rows))
