"""trace.json: the timeline in Chrome's trace event format, for Perfetto and chrome://tracing.

One process per device and DMA channel, one counter per memory, one arrow from each transfer's
producer to it and on to its readers. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from h4hc.bundle.store import Document, encode
from h4hc.bundle.timing import Timing

Event = dict[str, Any]


def build_trace(document: Document, timings: Mapping[int, Timing]) -> str:
    """The trace as JSON, one event per line."""
    scale = round(document["tick_seconds"] * 1e12)
    resources = {name: number for number, name in enumerate(_resources(document), start=1)}
    events = [
        *map(encode, _processes(resources, document)),
        *_task_events(document, timings, resources, scale),
        *_flow_events(document, resources, scale),
        *_memory_events(document, len(resources) + 1, scale),
    ]
    return '{"displayTimeUnit":"ns","traceEvents":[\n' + ",\n".join(events) + "\n]}\n"


def _resources(document: Document) -> list[str]:
    """Devices in the target's order, then the channels of its links."""
    devices = [device["name"] for device in document["devices"]]
    return devices + sorted(set(document["queues"]) - set(devices))


def _processes(resources: Mapping[str, int], document: Document) -> Iterator[Event]:
    names = [*resources, *(f"memory {memory['name']}" for memory in document["memories"])]
    for number, name in enumerate(names, start=1):
        yield {"ph": "M", "pid": number, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": number, "name": "process_sort_index", "args": {"sort_index": number}}


def _task_events(
    document: Document, timings: Mapping[int, Timing], resources: Mapping[str, int], scale: int
) -> Iterator[str]:
    """The work of every task, as JSON."""
    operators = {operator["name"]: operator for operator in document["operators"]}
    for task in document["tasks"]:
        timing = timings.get(task["id"])
        operator = operators.get(task["operator"])
        waits = [
            f'{{"latency":{wait["latency"]},"reason":{encode(wait["reason"])},"task":{wait["task"]}}}'
            for wait in task["waits"]
        ]
        after = f"{timing.cause} {timing.blocker}" if timing and timing.blocker >= 0 else ""
        yield (
            f'{{"args":{{"bytes":{task["bytes"]},"energy_pJ":{task["energy"]}'
            f',"nodes":{encode(operator["nodes"] if operator else [])},"operator":{encode(task["operator"])}'
            f',"reads":{encode(task["reads"])},"stall_us":{_microseconds(timing.stall if timing else 0, scale)!r}'
            f',"starts_after":{encode(after)},"task":{task["id"]},"tensor":{encode(task["tensor"])}'
            f',"tiles":{task["tiles"]},"waits":[{",".join(waits)}],"writes":{encode(task["writes"])}}}'
            f',"cat":{encode(task["kind"])},"dur":{_microseconds(task["end"] - task["start"], scale)!r}'
            f',"name":{encode(_title(task))},"ph":"X","pid":{resources[task["resource"]]},"tid":1'
            f',"ts":{_microseconds(task["start"], scale)!r}}}'
        )


def _title(task: Document) -> str:
    name: str = task["operator"] or task["tensor"]
    return f"weights of {name}" if task["kind"] == "weight_load" else name


def _flow_events(document: Document, resources: Mapping[str, int], scale: int) -> Iterator[str]:
    """An arrow for every data wait that a transfer or a fetch of weights is an end of, as JSON."""
    tasks = {task["id"]: task for task in document["tasks"]}
    number = 0
    for task in document["tasks"]:
        for wait in task["waits"]:
            producer = tasks[wait["task"]]
            moving = producer if task["kind"] == "compute" else task
            if wait["reason"] != "data" or moving["kind"] == "compute":
                continue
            number += 1
            common = f'"cat":{encode(moving["kind"])},"id":{number},"name":{encode(_title(moving))}'
            for start, end in (
                ("{" + common + ',"ph":"s"', producer),
                ('{"bp":"e",' + common + ',"ph":"f"', task),
            ):
                moment = _microseconds(end["start"], scale)
                yield f'{start},"pid":{resources[end["resource"]]},"tid":1,"ts":{moment!r}}}'


def _memory_events(document: Document, first_process: int, scale: int) -> Iterator[str]:
    """Live activation bytes of every memory whenever they change, as JSON."""
    changes: dict[str, dict[int, int]] = {memory["name"]: {0: 0} for memory in document["memories"]}
    for buffer in document["buffers"]:
        change = changes[buffer["memory"]]
        change[buffer["start"]] = change.get(buffer["start"], 0) + buffer["bytes"]
        change[buffer["end"]] = change.get(buffer["end"], 0) - buffer["bytes"]
    for process, memory in enumerate(document["memories"], start=first_process):
        live = 0
        for tick, added in sorted(changes[memory["name"]].items()):
            live += added
            start = f'{{"args":{{"bytes":{live}}},"name":"live activation bytes"'
            yield f'{start},"ph":"C","pid":{process},"ts":{_microseconds(tick, scale)!r}}}'


def _microseconds(ticks: int, scale: int) -> float:
    """Of `ticks` of `scale` picoseconds."""
    return ticks * scale / 1_000_000
