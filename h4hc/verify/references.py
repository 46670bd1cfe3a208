"""V22: names and indices of the schedule point at things that exist; tables agree with the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from h4hc.verify.document import Document, Task
from h4hc.verify.report import Tally

TICK = 1e-9


def references(document: Document) -> Tally:
    """Every reference resolves and every identifier is used once."""
    tally = Tally()
    for what, names in (
        ("device", [d.name for d in document.devices]),
        ("link", [link.name for link in document.links]),
        ("memory", [m.name for m in document.memories]),
        ("operator", [o.name for o in document.operators]),
        ("task", [t.id for t in document.tasks]),
        ("buffer", [b.id for b in document.buffers]),
    ):
        _unique(tally, what, names)
    tally.expect(document.tick_seconds == TICK, f"tick_seconds is {document.tick_seconds}, not {TICK}")
    memories = {m.name for m in document.memories}
    for device in document.devices:
        listed = device.memory in memories and (not device.spill or device.spill in memories)
        tally.expect(listed, f"device {device.name} uses a memory that is not listed")
    for link in document.links:
        tally.expect(
            memories.issuperset(link.memories), f"link {link.name} joins a memory that is not listed"
        )
        tally.expect(1 <= link.channels <= 1024, f"link {link.name} has {link.channels} channels")
    for memory in document.memories:
        tally.expect(memory.alignment >= 1, f"memory {memory.name} has alignment {memory.alignment}")
    _tensor_references(tally, document, memories)
    _task_references(tally, document)
    return tally


def _unique(tally: Tally, what: str, names: Iterable[object]) -> None:
    seen: set[object] = set()
    for name in names:
        tally.expect(name not in seen, f"{what} {name!r} is listed twice")
        seen.add(name)


def _tensor_references(tally: Tally, document: Document, memories: set[str]) -> None:
    tensors = document.tensors
    devices = {d.name for d in document.devices}
    for value in (*document.inputs, *document.outputs):
        tally.expect(value.name in tensors, f"graph tensor {value.name!r} is not among the tensors")
    for operator in document.operators:
        for name in (*operator.inputs, *operator.outputs):
            tally.expect(name in tensors, f"operator {operator.name!r}: tensor {name!r} is not listed")
        tally.expect(
            operator.device in devices,
            f"operator {operator.name!r}: device {operator.device!r} is not listed",
        )
    for view, root in document.roots.items():
        if view in tensors:
            tally.expect(root in tensors, f"view {view!r}: its root {root!r} is not listed")
        tally.expect(root not in document.roots, f"view {view!r}: its root {root!r} is a view itself")
    for buffer in document.buffers:
        known = buffer.tensor in tensors and buffer.memory in memories
        tally.expect(known, f"buffer {buffer.id} names tensor {buffer.tensor!r} in memory {buffer.memory!r}")
        own = document.root(buffer.tensor) == buffer.tensor
        tally.expect(own, f"buffer {buffer.id} holds {buffer.tensor!r}, which is only a view")


def _task_references(tally: Tally, document: Document) -> None:
    devices = {d.name for d in document.devices}
    channels = {
        f"{link.name}.{channel}" for link in document.links for channel in range(min(link.channels, 1024))
    }
    operators = {o.name for o in document.operators}
    buffers = {b.id for b in document.buffers}
    tasks = {t.id for t in document.tasks}
    for task in document.tasks:
        if task.kind == "compute":
            known = task.operator in operators and task.resource in devices
        else:
            known = task.kind == "transfer" and task.tensor in document.tensors and task.resource in channels
        tally.expect(
            known, f"{task.label}: kind {task.kind!r} on resource {task.resource!r} refers to nothing"
        )
        _known_ids(tally, task, buffers, tasks)
    for resource, ids in document.queues.items():
        tally.expect(resource in devices | channels, f"queue {resource!r} is of no device or channel")
        tally.expect(tasks.issuperset(ids), f"queue {resource!r} lists a task that does not exist")


def _known_ids(tally: Tally, task: Task, buffers: set[int], tasks: set[int]) -> None:
    tally.expect(
        buffers.issuperset((*task.reads, *task.writes)), f"{task.label}: uses a buffer that does not exist"
    )
    for wait in task.waits:
        tally.expect(wait.task in tasks, f"{task.label}: waits for task {wait.task}, which does not exist")


def target_tables(document: Document) -> Tally:
    """V24: the device, link and memory tables say what the embedded target says."""
    tally = Tally()
    stated = {key: _by_name(document.target.get(key)) for key in ("devices", "links", "memories")}
    for memory in document.memories:
        source = stated["memories"].get(memory.name, {})
        size = (source.get("bytes"), source.get("alignment"))
        tally.expect(
            size == (memory.capacity, memory.alignment),
            f"memory {memory.name}: {memory.capacity} bytes, alignment {memory.alignment}; target: {size}",
        )
    for device in document.devices:
        source = stated["devices"].get(device.name, {})
        found = (source.get("kind"), source.get("memory"), source.get("spill") or "")
        tally.expect(
            found == (device.kind, device.memory, device.spill),
            f"device {device.name}: kind, memory and spill differ from the target's {found}",
        )
    for link in document.links:
        source = stated["links"].get(link.name, {})
        same = (
            sorted(source.get("memories") or ()) == sorted(link.memories)
            and source.get("channels") == link.channels
            and _close(source.get("bandwidth"), link.bandwidth)
            and _close(source.get("energy_per_byte"), link.energy_per_byte)
            and _ticks(source.get("latency"), link.latency)
            and _ticks(source.get("tile_overhead"), link.tile_overhead)
        )
        tally.expect(same, f"link {link.name} differs from the target's description")
    tally.expect(
        _ticks(document.target.get("handoff"), document.handoff), "handoff differs from the target's"
    )
    return tally


def _by_name(items: object) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(items, list):
        return {}
    named = [item for item in items if isinstance(item, dict)]
    return {item["name"]: item for item in named if isinstance(item.get("name"), str)}


def _close(stated: object, value: float) -> bool:
    return isinstance(stated, int | float) and abs(stated - value) <= 1e-9 * abs(value)


def _ticks(seconds: object, ticks: int) -> bool:
    """Whether `ticks` is `seconds` in ticks, whichever way it was rounded."""
    return isinstance(seconds, int | float) and abs(seconds / TICK - ticks) < 1
