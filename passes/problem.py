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

from collections.abc import Iterable
from dataclasses import replace
from math import ceil
from typing import Any

from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Cost, CostTable, Refusal
from h4hc.ir.graph import Graph, Operator, Tensor
from h4hc.ir.schedule import TICK_SECONDS
from h4hc.ir.system import System
from h4hc.ir.target import Link, Memory, Target

_NATURAL_BYTES = {"int64": 8, "uint64": 8, "complex64": 8, "float64": 8, "complex128": 16, "int32": 4, "uint32": 4,
                  "float32": 4, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2}  # fmt: skip
_MACS_PER_ELEMENT = 256  # work that one output element stands for in a rank
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
    sizes = tuple([planned_bytes(graph.tensors[name], compilation.options.precision) for name in tensors])
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
    }
    data |= _device_arrays(compilation, memories)
    data |= _link_arrays(target, memories, sizes)
    data |= _wiring(graph, index)
    modes, mode_costs = _mode_arrays(costs, devices)
    data |= modes
    data["rank"] = _upward_ranks(graph, data)
    weights = tuple([operator.kernel.weight_bytes for operator in graph.operators])
    shared = _shared_places(graph, index, sizes)
    return System(data, tensors, devices, memories, mode_costs, sizes, *shared, weights)


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
    names = dict.fromkeys(graph.inputs)
    for operator in graph.operators:
        names.update(dict.fromkeys([graph.root(name) for name in operator.outputs]))
    return tuple(names)


def _device_arrays(compilation: Compilation, memories: tuple[str, ...]) -> dict[str, Any]:
    devices, backends = compilation.target.devices, compilation.backends
    return {
        "dev_memory": [memories.index(device.memory) for device in devices],
        "dev_overhead": [ticks(backends[d.name].tile_overhead_seconds) for d in devices],
        "dev_capacity": [backends[d.name].capacity_bytes for d in devices],
        "dev_static": [backends[d.name].static_watts * 1e12 * TICK_SECONDS for d in devices],
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


def operator_inputs(graph: Graph, operator: Operator) -> list[tuple[str, Any]]:
    """(root tensor, stream or None) per distinct root that `operator` reads; full if it reads it twice."""
    found: dict[str, Any] = {}
    for name, stream in zip(operator.inputs, operator.streams, strict=True):
        root = graph.root(name)
        found[root] = None if root in found else stream
    return list(found.items())


def _wiring(graph: Graph, index: dict[str, int]) -> dict[str, Any]:
    producer = [-1] * len(index)
    position: dict[int, tuple[int, int]] = {}
    out_ptr, out_tensor = [0], []
    for number, operator in enumerate(graph.operators):
        for name in dict.fromkeys([graph.root(name) for name in operator.outputs]):
            tensor = index[name]
            if producer[tensor] < 0 and name not in graph.inputs:
                producer[tensor] = number
                position[tensor] = operator.prefix, operator.rows
                out_tensor.append(tensor)
        out_ptr.append(len(out_tensor))
    in_ptr, in_tensor, rows, window, stride, pad = [0], [], [], [], [], []
    readers: list[list[int]] = [[] for _ in index]
    for number, operator in enumerate(graph.operators):
        for name, stream in operator_inputs(graph, operator):
            tensor = index[name]
            made = position.get(tensor)
            streaming = stream is not None and made is not None and made[0] == stream.prefix and made[1] > 1
            in_tensor.append(tensor)
            rows.append(stream.rows if streaming else 0)
            window.append(stream.window if streaming else 1)
            stride.append(stream.stride if streaming else 1)
            pad.append(stream.pad if streaming else 0)
            readers[tensor].append(number)
        in_ptr.append(len(in_tensor))
    cons_ptr, cons_op = [0], []
    for group in readers:
        cons_op += group
        cons_ptr.append(len(cons_op))
    sinks = {index[root] for root in map(graph.root, graph.outputs) if root in index}
    return {
        "producer": producer, "out_ptr": out_ptr, "out_tensor": out_tensor, "in_ptr": in_ptr,
        "in_tensor": in_tensor, "in_rows": rows, "in_window": window, "in_stride": stride, "in_pad": pad,
        "cons_ptr": cons_ptr, "cons_op": cons_op,
        "sink": [int(i in sinks) for i in range(len(index))],
    }  # fmt: skip


def _mode_arrays(
    costs: CostTable, devices: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[tuple[Cost, ...], ...]]:
    pointers, device_of, work, energy, resident = [0], list[int](), list[int](), list[int](), list[int]()
    mode_costs = []
    known: dict[
        int, tuple[list[tuple[int, Cost]], list[int], list[int]]
    ] = {}  # rows repeat: each is converted once
    for row in costs.rows:
        found = known.get(id(row))
        if found is None:
            modes = [
                (number, cost)
                for number, name in enumerate(devices)
                if not isinstance(entry := row[name], Refusal)
                for cost in entry
            ]
            found = known[id(row)] = (
                modes,
                [ticks(cost.seconds) for _, cost in modes],
                [picojoules(cost.joules) for _, cost in modes],
            )
        device_of += [number for number, _ in found[0]]
        work += found[1]
        energy += found[2]
        resident += [cost.resident_bytes for _, cost in found[0]]
        pointers.append(len(device_of))
        mode_costs.append(tuple([cost for _, cost in found[0]]))
    arrays = {
        "mode_ptr": pointers,
        "mode_device": device_of,
        "mode_work": work,
        "mode_energy": energy,
        "mode_resident": resident,
    }
    return arrays, tuple(mode_costs)


def _upward_ranks(graph: Graph, data: dict[str, Any]) -> list[int]:
    """Longest remaining path per operator (HEFT's upward rank), in a measure of work that no device decides.

    Ties between tasks are broken the same way whatever devices the target has, so that an accelerator achieves alone
    what it achieves beside another one that is not used.
    """
    n = data["operators"]
    ranks = [0] * n
    out_ptr, out_tensor = data["out_ptr"], data["out_tensor"]
    cons_ptr, cons_op = data["cons_ptr"], data["cons_op"]
    for v in range(n - 1, -1, -1):
        longest = 0
        for tensor in out_tensor[out_ptr[v] : out_ptr[v + 1]]:
            for reader in cons_op[cons_ptr[tensor] : cons_ptr[tensor + 1]]:
                longest = max(longest, ranks[reader])
        workload = graph.operators[v].kernel.workload
        ranks[v] = longest + 1 + workload.macs // _MACS_PER_ELEMENT + workload.output_elements
    return ranks


# --- spilled buffers ---------------------------------------------------------------------------------------------


def with_spills(system: System, target: Target, spilled: Iterable[tuple[str, str]]) -> System:
    """`system` with the (root tensor, memory) pairs of `spilled` in the backing memory (rule 3)."""
    data = dict(system.data)
    for name in ("mode_work", "mode_energy", "xfer_work", "xfer_energy"):
        data[name] = list(data[name])
    index = {name: i for i, name in enumerate(system.tensors)}
    by_tensor: dict[int, list[int]] = {}
    for name, memory in sorted(spilled):
        if memory in system.memories:
            by_tensor.setdefault(index[name], []).append(system.memories.index(memory))
    seconds: dict[int, float] = {}
    joules: dict[int, float] = {}
    for tensor, memories in by_tensor.items():
        size = system.bytes[tensor]
        for m in _modes_touching(system, tensor, memories):
            store = backing(target, system.memories[data["dev_memory"][data["mode_device"][m]]])
            seconds[m] = seconds.get(m, 0.0) + size / store.bandwidth
            joules[m] = joules.get(m, 0.0) + size * store.energy_per_byte
        _spill_transfers(system, target, data, tensor, memories)
    costs = [cost for alternatives in system.mode_costs for cost in alternatives]
    for m, extra in seconds.items():
        data["mode_work"][m] = ticks(costs[m].seconds + extra)
        data["mode_energy"][m] = picojoules(costs[m].joules + joules[m])
    return replace(system, data=data)


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


def _modes_touching(system: System, tensor: int, memories: list[int]) -> list[int]:
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
