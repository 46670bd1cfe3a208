"""The scheduling problem in integers, as h4hc.passes.core takes it.

In:  graph, choices, target, and which buffers are spilled. Out: a `System` (arrays and the names behind their indices).

Rules:
1. One tensor per root (views share its storage); one input per root that an operator reads.
2. Work is ceil(seconds / tick) and energy ceil(joules / picojoule), less a relative 1e-9 for rounding noise.
3. A buffer spilled to the backing memory of its memory costs its bytes over that memory's bandwidth and energy,
   added to each operator that reads or writes it; a transfer from or to it runs at the slower bandwidth.
4. A transfer charges the link and one access in both memories.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from math import ceil
from typing import Any, NamedTuple

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Cost, CostRow, CostTable, Refusal
from h4hc.ir.graph import Graph, Streamed, Tensor
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.system import System
from h4hc.ir.target import Link, Memory, Target
from h4hc.ir.workload import Kernel
from h4hc.passes.copies import single_modes

_NATURAL_BYTES = {"int64": 8, "uint64": 8, "complex64": 8, "float64": 8, "complex128": 16, "int32": 4, "uint32": 4,
                  "float32": 4, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2}  # fmt: skip
_MACS_PER_ELEMENT = 256  # work that one output element stands for in a rank
_FULL = Streamed(0, 0)  # the whole input
_FLOATS = frozenset(["float16", "bfloat16", "float32", "float64"])


def ticks(seconds: float) -> int:
    """Whole ticks that cover `seconds`."""
    return ceil(seconds / TICK_SECONDS * (1 - 1e-9))


def picojoules(joules: float) -> int:
    """Whole picojoules that cover `joules`."""
    return ceil(joules * 1e12 * (1 - 1e-9))


def planned_bytes(tensor: Tensor, precision: str) -> int:
    """Bytes that the buffer of `tensor` takes: one per element if a float tensor is deployed as int8."""
    if precision == "int8" and tensor.dtype in _FLOATS:
        return tensor.elements
    return tensor.elements * _NATURAL_BYTES.get(tensor.dtype, 1)


def build_system(compilation: Compilation) -> System:
    """The problem of `compilation` with every buffer in the memory of its device."""
    graph, costs, target = compilation.graph, compilation.choices, compilation.target
    if graph is None or costs is None:
        raise ValueError("the problem needs graph and choices")
    tensors = _tensor_names(graph)
    index = {name: i for i, name in enumerate(tensors)}
    precision, values = compilation.options.precision, graph.tensors
    sizes = tuple([planned_bytes(values[name], precision) for name in tensors])
    devices = tuple(device.name for device in target.devices)
    memories = tuple(dict.fromkeys(device.memory for device in target.devices))
    data: dict[str, Any] = {
        "operators": len(graph.operators),
        "tensors": len(tensors),
        "devices": len(devices),
        "memories": len(memories),
        "io_memory": memories.index(target.device(target.io).memory),
        "handoff": ticks(target.handoff),
        "rows": [operator.rows for operator in graph.operators],
        "alike": _alike(graph),
    }
    data |= _device_arrays(compilation, memories)
    data |= _link_arrays(target, memories, sizes)
    data |= _wiring(graph, index)
    kinds = _kinds(graph, costs, devices)
    data |= _mode_arrays(kinds)
    data["rank"] = _upward_ranks(kinds, data)
    starts = zip(data["mode_ptr"], kinds, strict=False)
    return System(
        data, tensors, devices, memories, tuple([kind.costs for kind in kinds]), sizes,
        *_shared_places(graph, index, sizes), tuple([kind.weights for kind in kinds]),
        tuple([start + mode for start, kind in starts for mode in kind.single]),
    )  # fmt: skip


def _shared_places(
    graph: Graph, index: dict[str, int], sizes: tuple[int, ...]
) -> tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int, int], ...], frozenset[int]]:
    """`System.overwrites`, `System.parts` and `System.idle`."""
    overwrites = tuple(
        (number, index[graph.root(name)], index[graph.root(operator.outputs[0])])
        for number, operator in enumerate(graph.operators)
        for name in operator.overwrites
    )
    numbers = (
        {operator.name: number for number, operator in enumerate(graph.operators)} if graph.parts else {}
    )
    parts = tuple(
        (
            numbers[part.operator], index[name], index[part.whole],
            part.elements * sizes[index[part.whole]] // graph.tensors[part.whole].elements,
        )
        for name, part in graph.parts.items()
    )  # fmt: skip
    return overwrites, parts, frozenset(part[0] for part in parts)


def _tensor_names(graph: Graph) -> tuple[str, ...]:
    roots = graph.roots
    made = [roots.get(name, name) for operator in graph.operators for name in operator.outputs]
    return tuple(dict.fromkeys([*graph.inputs, *made]))


def _alike(graph: Graph) -> list[int]:
    """By operator the first one that is like it: of the same kind, epilogue and length, and with the same windows."""
    first: dict[object, int] = {}
    found = []
    for number, operator in enumerate(graph.operators):
        windows = [(stream.window, stream.stride) if stream else None for stream in operator.streams]
        key = operator.kind, operator.rows, operator.kernel.epilogue, *windows
        found.append(first.setdefault(key, number))
    return found


def _device_arrays(compilation: Compilation, memories: tuple[str, ...]) -> dict[str, Any]:
    devices, backends = compilation.target.devices, compilation.backends
    return {
        "dev_memory": [memories.index(device.memory) for device in devices],
        "dev_overhead": [ticks(backends[d.name].tile_overhead_seconds) for d in devices],
        "dev_capacity": [backends[d.name].capacity_bytes for d in devices],
        "dev_static": [backends[d.name].static_watts * 1e12 * TICK_SECONDS for d in devices],
        "period": compilation.options.period_ticks,
    }


def _link_arrays(target: Target, memories: tuple[str, ...], sizes: tuple[int, ...]) -> dict[str, Any]:
    work: list[int] = []
    energy: list[int] = []
    link_of = [-1] * (len(memories) ** 2)
    links = used_links(target, memories)
    for number, link in enumerate(links):
        a, b = memories.index(link.memories[0]), memories.index(link.memories[1])
        link_of[a * len(memories) + b] = link_of[b * len(memories) + a] = number
        joules = link_joules(target, link)
        costs = {
            size: (ticks(link.latency + size / link.bandwidth), picojoules(size * joules))
            for size in set(sizes)
        }
        work += [costs[size][0] for size in sizes]
        energy += [costs[size][1] for size in sizes]
    return {
        "links": len(links),
        "link_of": link_of,
        "link_channels": [link.channels for link in links],
        "link_overhead": [ticks(link.tile_overhead) for link in links],
        "xfer_work": work,
        "xfer_energy": energy,
    }


def used_links(target: Target, memories: Iterable[str]) -> list[Link]:
    """The links that join two of `memories`."""
    known = set(memories)
    return [link for link in target.links if known.issuperset(link.memories)]


def link_joules(target: Target, link: Link) -> float:
    """Joules per byte moved: the link and one access in each memory."""
    return link.energy_per_byte + sum(target.memory(name).energy_per_byte for name in link.memories)


def _wiring(graph: Graph, index: dict[str, int]) -> dict[str, Any]:
    producer = [-1] * len(index)
    axis = [-1] * len(index)  # by tensor that an operator makes row by row: the prefix of that axis
    given = {index[name] for name in graph.inputs}
    numbers = {**index, **{name: index[root] for name, root in graph.roots.items() if root in index}}
    out_ptr, out_tensor = [0], []
    in_ptr, in_tensor = [0], list[int]()
    streams = list[Streamed]()
    readers: list[list[int]] = [[] for _ in index]
    for number, operator in enumerate(graph.operators):
        first = len(in_tensor)
        for name, stream in zip(operator.inputs, operator.streams, strict=True):
            tensor = numbers[name]
            reading = readers[tensor]
            if reading and reading[-1] == number:  # read twice: in full
                streams[in_tensor.index(tensor, first)] = _FULL
                continue
            streams.append(stream if stream is not None and stream[0] == axis[tensor] else _FULL)
            in_tensor.append(tensor)
            reading.append(number)
        in_ptr.append(len(in_tensor))
        for name in operator.outputs:
            tensor = numbers[name]
            if producer[tensor] < 0 and tensor not in given:
                producer[tensor] = number
                axis[tensor] = operator.prefix if operator.rows > 1 else -1
                out_tensor.append(tensor)
        out_ptr.append(len(out_tensor))
    _, *columns = [[*column] for column in zip(*streams, strict=True)] or [[], [], [], [], []]
    cons_ptr = [0, *accumulate(map(len, readers))]
    cons_op = [*chain.from_iterable(readers)]
    sinks = {index[root] for root in map(graph.root, graph.outputs) if root in index}
    return {
        "producer": producer, "out_ptr": out_ptr, "out_tensor": out_tensor, "in_ptr": in_ptr,
        "in_tensor": in_tensor, "in_rows": columns[0], "in_window": columns[1], "in_stride": columns[2],
        "in_pad": columns[3],
        "cons_ptr": cons_ptr, "cons_op": cons_op,
        "sink": [int(i in sinks) for i in range(len(index))],
    }  # fmt: skip


class _Kind(NamedTuple):
    """What operators with one kernel have in common: its weights in bytes, what it adds to a rank, and by column its modes,
    those of a device behind each other. `single`: see h4hc.passes.copies.
    """

    weights: int
    effort: int
    costs: tuple[Cost, ...]
    device: tuple[int, ...]
    work: tuple[int, ...]
    energy: tuple[int, ...]
    resident: tuple[int, ...]
    single: tuple[int, ...]


def _mode_arrays(kinds: Sequence[_Kind]) -> dict[str, Any]:
    _, _, _, *columns, _ = zip(*kinds, strict=True) if kinds else [()] * len(_Kind._fields)
    device, work, energy, resident = ([*chain.from_iterable(column)] for column in columns)
    return {
        "mode_ptr": [0, *accumulate([len(kind.device) for kind in kinds])],
        "mode_device": device,
        "mode_work": work,
        "mode_energy": energy,
        "mode_resident": resident,
    }


def _kinds(graph: Graph, costs: CostTable, devices: tuple[str, ...]) -> list[_Kind]:
    """The kind of every operator, worked out once per row where a compiler keeps its rows."""
    kinds = []
    for operator, row in zip(graph.operators, costs.rows, strict=True):
        kind = row.derived.get(devices) if isinstance(row, CostRow) else None
        if kind is None:
            kind = _kind_of(operator.kernel, row, devices)
            if isinstance(row, CostRow):
                row.derived[devices] = kind
        kinds.append(kind)
    return kinds


def _kind_of(
    kernel: Kernel, row: Mapping[str, tuple[Cost, ...] | Refusal], devices: tuple[str, ...]
) -> _Kind:
    modes = [
        (number, cost)
        for number, name in enumerate(devices)
        if not isinstance(entry := row[name], Refusal)
        for cost in entry
    ]
    costs = tuple([cost for _, cost in modes])
    return _Kind(
        kernel.weight_bytes,
        1 + kernel.workload.macs // _MACS_PER_ELEMENT + kernel.workload.output_elements,
        costs,
        tuple([number for number, _ in modes]),
        tuple([ticks(cost.seconds) for cost in costs]),
        tuple([picojoules(cost.joules) for cost in costs]),
        tuple([cost.resident_bytes for cost in costs]),
        tuple(single_modes([(device, cost.mode) for device, cost in modes])),
    )


def _upward_ranks(kinds: Sequence[_Kind], data: dict[str, Any]) -> list[int]:
    """Longest remaining path per operator (HEFT's upward rank), in a measure of work that no device decides.

    Ties between tasks are broken the same way whatever devices the target has, so that an accelerator achieves alone
    what it achieves beside another one that is not used.
    """
    ranks = [0] * len(kinds)
    longest = [0] * data["tensors"]  # rank of its readers
    in_ptr, in_tensor = data["in_ptr"], data["in_tensor"]
    out_ptr, out_tensor = data["out_ptr"], data["out_tensor"]
    for v in range(len(kinds) - 1, -1, -1):
        behind = 0
        for tensor in out_tensor[out_ptr[v] : out_ptr[v + 1]]:
            if longest[tensor] > behind:  # noqa: PLR1730 (max takes longer than the rest)
                behind = longest[tensor]
        rank = ranks[v] = kinds[v].effort + behind
        for tensor in in_tensor[in_ptr[v] : in_ptr[v + 1]]:
            if longest[tensor] < rank:  # noqa: PLR1730
                longest[tensor] = rank
    return ranks


# --- spilled buffers ---------------------------------------------------------------------------------------------


def with_spills(system: System, target: Target, spilled: Iterable[tuple[str, str]]) -> System:
    """`system` with the (root tensor, memory) pairs of `spilled` in the backing memory (rule 3)."""
    data = dict(system.data)
    for name in ("mode_work", "mode_energy", "xfer_work", "xfer_energy"):
        data[name] = list(data[name])
    memories_of = _spilled_from(system, spilled)
    for m, (seconds, joules) in _access_costs(system, target, memories_of).items():
        v = bisect_right(data["mode_ptr"], m) - 1
        cost = system.mode_costs[v][m - data["mode_ptr"][v]]
        data["mode_work"][m] = ticks(cost.seconds + seconds)
        data["mode_energy"][m] = picojoules(cost.joules + joules)
    for tensor, memories in memories_of.items():
        _spill_transfers(system, target, data, tensor, memories)
    return replace(system, data=data)


def spill_costs(
    system: System, target: Target, spilled: Iterable[tuple[str, str]]
) -> dict[int, tuple[float, float]]:
    """By mode number over all operators the seconds and joules spent on `spilled` buffers, where there are any."""
    return _access_costs(system, target, _spilled_from(system, spilled))


def _spilled_from(system: System, spilled: Iterable[tuple[str, str]]) -> dict[int, list[int]]:
    """By tensor the memories from which it is spilled."""
    index = {name: i for i, name in enumerate(system.tensors)}
    found: dict[int, list[int]] = {}
    for name, memory in sorted(spilled):
        if memory in system.memories:
            found.setdefault(index[name], []).append(system.memories.index(memory))
    return found


def _access_costs(
    system: System, target: Target, memories_of: Mapping[int, list[int]]
) -> dict[int, tuple[float, float]]:
    data, found = system.data, dict[int, tuple[float, float]]()
    for tensor, memories in memories_of.items():
        size = system.bytes[tensor]
        for m in _touching_modes(system, tensor, memories):
            store = backing(target, system.memories[data["dev_memory"][data["mode_device"][m]]])
            seconds, joules = found.get(m, (0.0, 0.0))
            found[m] = seconds + size / store.bandwidth, joules + size * store.energy_per_byte
    return found


def backing(target: Target, memory: str) -> Memory:
    """The memory that takes what does not fit in `memory`; raises InfeasibleError if there is none."""
    for device in target.devices:
        if device.memory == memory and device.spill:
            return target.memory(device.spill)
    raise InfeasibleError(
        f"memory {memory} of target {target.name} is too small for the model's activations",
        code="memory",
        hint=f"enlarge {memory}, or give its devices a spill memory",
    )


def _touching_modes(system: System, tensor: int, memories: list[int]) -> list[int]:
    """Modes, on a device beside one of `memories`, of operators that read or write `tensor` (not just join or divide it)."""
    data = system.data
    operators = dict.fromkeys(data["cons_op"][data["cons_ptr"][tensor] : data["cons_ptr"][tensor + 1]])
    if data["producer"][tensor] >= 0:
        operators[data["producer"][tensor]] = None
    return [
        m
        for v in operators
        if v not in system.idle
        for m in range(data["mode_ptr"][v], data["mode_ptr"][v + 1])
        if data["dev_memory"][data["mode_device"][m]] in memories
    ]


def _spill_transfers(
    system: System, target: Target, data: dict[str, Any], tensor: int, memories: list[int]
) -> None:
    size = system.bytes[tensor]
    for number, link in enumerate(used_links(target, system.memories)):
        ends = [system.memories.index(name) for name in link.memories]
        stores = [backing(target, system.memories[m]) for m in ends if m in memories]
        if stores:
            at = number * data["tensors"] + tensor
            bandwidth = min(link.bandwidth, *(store.bandwidth for store in stores))
            data["xfer_work"][at] = ticks(link.latency + size / bandwidth)
            joules = link_joules(target, link) + sum(store.energy_per_byte for store in stores)
            data["xfer_energy"][at] = picojoules(size * joules)
