"""schedule.json as a dictionary: everything that firmware, checker and report need to know.

Times are integer ticks of `TICK_SECONDS`, energies integer picojoules, sizes bytes; floats are
SI. The format is described field by field in `h4hc/firmware/schedule.schema.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import PurePath

from h4hc import __version__
from h4hc.bundle.costs import chosen_cost, cost_records, costs_with_fetches
from h4hc.bundle.planned import tensor_records
from h4hc.bundle.store import SCHEMA_VERSION, Document
from h4hc.ir.compilation import Compilation, Options
from h4hc.ir.cost import CostTable
from h4hc.ir.graph import Graph, Operator
from h4hc.ir.placement import Placement
from h4hc.ir.prefetching import Prefetching
from h4hc.ir.schedule import TICK_SECONDS, Buffer, Schedule, Task
from h4hc.ir.splitting import Splitting
from h4hc.ir.target import Link, Target
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction, Workload
from h4hc.passes.problem import ticks

WORKLOADS: Mapping[str, Callable[..., Workload]] = {
    kind.__name__: kind for kind in (Conv, MatMul, Elementwise, Reduction, Move, Generic)
}


def build_document(compilation: Compilation) -> Document:
    """The document of a finished compilation."""
    graph, _, placement, schedule = finished(compilation)
    target, costs = compilation.target, costs_with_fetches(compilation)
    tasks = {task.operator: task for task in schedule.tasks if task.kind == "compute"}
    rows = cost_records(costs)
    operators = [
        _operator(operator, index, costs, placement, tasks.get(operator.name), rows[index])
        for index, operator in enumerate(graph.operators)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "producer": {"name": "h4hc", "version": __version__},
        "model": _model(compilation, graph),
        "target": target.model_dump(mode="json"),
        "options": options_record(compilation.options),
        "tick_seconds": TICK_SECONDS,
        "summary": _summary(compilation, graph, schedule),
        "claims": [
            {"kind": claim.kind, "value": claim.value, "status": claim.status, "method": claim.method}
            for claim in compilation.claims
        ],
        "splitting": _splitting(compilation.splitting),
        "prefetch": _prefetching(compilation.prefetching),
        "handoff": ticks(target.handoff),
        "devices": _devices(compilation, operators, schedule),
        "links": [_link(link) for link in target.links],
        "memories": _memories(target, schedule),
        "operators": operators,
        "roots": dict(graph.roots),
        "tensors": tensor_records(compilation, graph),
        "buffers": [_buffer(buffer) for buffer in schedule.buffers],
        "tasks": [_task(task) for task in schedule.tasks],
        "queues": {resource: list(ids) for resource, ids in schedule.queues},
    }


def _splitting(splitting: Splitting | None) -> Document | None:
    """The operators that two devices compute together, and what the model achieves without that."""
    if splitting is None:
        return None
    return {
        "operators": [
            {
                "operator": split.operator,
                "parts": [{"operator": name, "channels": count} for name, count in split.parts],
            }
            for split in splitting.operators
        ],
        "latency_seconds": splitting.latency,
        "energy_joules": splitting.energy,
    }


def _prefetching(prefetching: Prefetching | None) -> Document | None:
    """The operators whose weights are fetched before, and what the schedule achieves without that."""
    if prefetching is None:
        return None
    return {
        "operators": list(prefetching.operators),
        "bytes": prefetching.bytes,
        "latency_seconds": prefetching.latency,
        "initiation_interval_seconds": prefetching.interval,
        "energy_joules": prefetching.energy,
    }


def finished(compilation: Compilation) -> tuple[Graph, CostTable, Placement, Schedule]:
    """The results of the passes; a compilation that lacks one cannot be written."""
    results = {name: getattr(compilation, name) for name in ("graph", "costs", "placement", "schedule")}
    missing = [name for name, result in results.items() if result is None]
    if missing:
        raise ValueError(f"the compilation has no {', '.join(missing)} yet: run the passes first")
    return results["graph"], results["costs"], results["placement"], results["schedule"]


def options_record(options: Options) -> Document:
    """The options that decide a schedule."""
    return {
        "objective": options.objective,
        "budget_seconds": options.budget_seconds,
        "precision": options.precision,
        "weights": options.weights,
        "frames": options.window,
        "interval_seconds": options.interval_seconds,
        "effort": options.effort,
    }


def _model(compilation: Compilation, graph: Graph) -> Document:
    source = compilation.source
    return {
        "name": _printable(source.name),
        "path": _printable(PurePath(source.path).name),
        "sha256": source.sha256,
        "inputs": [_port(graph, name) for name in graph.inputs],
        "outputs": [_port(graph, name) for name in graph.outputs],
    }


def _printable(text: str) -> str:
    """`text` without the lone surrogates that stand for undecodable bytes in a file's name."""
    return text.encode("utf-8", "backslashreplace").decode()


def _port(graph: Graph, name: str) -> Document:
    tensor = graph.tensors[name]
    return {"name": name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def _summary(compilation: Compilation, graph: Graph, schedule: Schedule) -> Document:
    transfers = [task for task in schedule.tasks if task.kind == "transfer"]
    latency = schedule.latency * TICK_SECONDS
    interval = schedule.initiation_interval * TICK_SECONDS
    budget = compilation.options.budget_seconds
    return {
        "latency": schedule.latency,
        "initiation_interval": schedule.initiation_interval,
        "interval_bound": schedule.interval_bound,
        "frames_in_flight": schedule.frames_in_flight,
        "front": [
            {"frames": point.frames, "interval": point.interval, "latency": point.latency}
            for point in schedule.front
        ],
        "energy": schedule.energy,
        "dynamic_energy": schedule.dynamic_energy,
        "static_energy": schedule.static_energy,
        "latency_seconds": latency,
        "energy_joules": schedule.energy * 1e-12,
        "frames_per_second": 1 / interval if interval else 0.0,
        "macs": sum(operator.kernel.workload.macs for operator in graph.operators),
        "transfers": len(transfers),
        "transferred_bytes": sum(task.bytes for task in transfers),
        "budget_met": None if budget is None else latency <= budget,
        "baselines": [
            {
                "name": b.name,
                "latency_seconds": b.latency,
                "initiation_interval_seconds": b.interval or b.latency,
                "energy_joules": b.energy,
            }
            for b in compilation.baselines
        ],
    }


def _devices(compilation: Compilation, operators: list[Document], schedule: Schedule) -> list[Document]:
    rows = []
    for device in compilation.target.devices:
        backend = compilation.backends[device.name]
        own = [operator for operator in operators if operator["device"] == device.name]
        rows.append(
            {
                "name": device.name,
                "kind": device.kind,
                "memory": device.memory,
                "spill": device.spill,
                "static_watts": backend.static_watts,
                "tile_overhead": ticks(backend.tile_overhead_seconds),
                "capacity": backend.capacity_bytes,
                "resident": sum(operator["resident_bytes"] for operator in own),
                "busy": sum(task.work for task in schedule.tasks if task.resource == device.name),
                "operators": len(own),
                "macs": sum(operator["macs"] for operator in own),
            }
        )
    return rows


def _link(link: Link) -> Document:
    return {
        "name": link.name,
        "memories": list(link.memories),
        "channels": link.channels,
        "latency": ticks(link.latency),
        "tile_overhead": ticks(link.tile_overhead),
        "bandwidth": link.bandwidth,
        "energy_per_byte": link.energy_per_byte,
    }


def _memories(target: Target, schedule: Schedule) -> list[Document]:
    rows = []
    for use in schedule.memories:
        memory = target.memory(use.memory)
        rows.append(
            {
                "name": memory.name,
                "kind": memory.kind,
                "capacity": use.capacity,
                "alignment": memory.alignment,
                "weights": use.weights,
                "peak": use.peak,
                "lower_bound": use.lower_bound,
            }
        )
    return rows


def _operator(
    operator: Operator, index: int, costs: CostTable, placement: Placement, task: Task | None, row: Document
) -> Document:
    kernel = operator.kernel
    device, mode = placement.devices[index], placement.modes[index]
    cost = chosen_cost(costs.rows[index], operator.name, device, mode)
    return {
        "name": operator.name,
        "kind": operator.kind,
        "workload": workload_record(kernel.workload),
        "epilogue": list(kernel.epilogue),
        "macs": kernel.workload.macs,
        "weight_bytes": kernel.weight_bytes,
        "nodes": list(operator.nodes),
        "inputs": list(operator.inputs),
        "outputs": list(operator.outputs),
        "constants": list(operator.constants),
        "rows": operator.rows,
        "prefix": operator.prefix,
        "streams": [
            None
            if stream is None
            else {
                "prefix": stream.prefix,
                "rows": stream.rows,
                "window": stream.window,
                "stride": stream.stride,
                "pad": stream.pad,
            }
            for stream in operator.streams
        ],
        "device": device,
        "mode": mode,
        "tiles": placement.tiles[index],
        "work": task.work if task else 0,
        "energy": task.energy if task else 0,
        "resident_bytes": cost.resident_bytes,
        "source": cost.source,
        "bound": cost.bound,
        "utilisation": cost.utilisation,
        "costs": row,
    }


def workload_record(workload: Workload) -> Document:
    """The workload's fields and its type."""
    values = {field.name: getattr(workload, field.name) for field in fields(workload)}
    return {"type": type(workload).__name__} | values


def read_kernel(operator: Document) -> Kernel:
    """The kernel of an operator's record, without its precision."""
    values = dict(operator["workload"])
    workload = WORKLOADS[values.pop("type")](**values)
    return Kernel(workload, tuple(operator["epilogue"]))


def _buffer(buffer: Buffer) -> Document:
    return {
        "id": buffer.id,
        "tensor": buffer.tensor,
        "memory": buffer.memory,
        "offset": buffer.offset,
        "bytes": buffer.bytes,
        "start": buffer.start,
        "end": buffer.end,
        "copies": buffer.copies,
        "stride": buffer.stride,
        "weights": buffer.weights,
    }


def _task(task: Task) -> Document:
    return {
        "id": task.id,
        "kind": task.kind,
        "resource": task.resource,
        "operator": task.operator,
        "tensor": task.tensor,
        "start": task.start,
        "end": task.end,
        "work": task.work,
        "tiles": task.tiles,
        "energy": task.energy,
        "bytes": task.bytes,
        "waits": [
            {
                "task": wait.task,
                "counts": list(wait.counts),
                "latency": wait.latency,
                "reason": wait.reason,
                "lag": wait.lag,
            }
            for wait in task.waits
        ],
        "reads": list(task.reads),
        "writes": list(task.writes),
        "stage": task.stage,
    }
