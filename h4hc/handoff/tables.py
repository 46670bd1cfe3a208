"""schedule.json -> the tables that firmware reads.

Everything is in an order that follows from the document alone: engines in the order of devices, links and memories,
tasks in the order of their queues, tensors and constants by name, all else as in schedule.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from h4hc.bundle.store import Document
from h4hc.errors import BundleError
from h4hc.handoff import layout
from h4hc.handoff.codes import (
    DEVICE_KINDS,
    DTYPES,
    EPILOGUE,
    EXTENTS,
    KINDS,
    MEMORY_KINDS,
    OTHER,
    WORKLOADS,
    code,
)
from h4hc.handoff.layout import NONE, Names, Tables
from h4hc.handoff.thresholds import Run, runs, thresholds

KIND_OF_TASK = {
    "compute": layout.COMPUTE,
    "transfer": layout.TRANSFER,
    "weight_load": layout.WEIGHT_LOAD,
}
RESIDENT = "resident"


def build_tables(document: Document) -> tuple[Tables, Names]:
    """The tables of a valid document, and what their indices stand for."""
    listed = sorted(number for ids in document["queues"].values() for number in ids)
    if listed != sorted(task["id"] for task in document["tasks"]) or len(set(listed)) < len(listed):
        raise _malformed("the queues do not hold every task once")
    try:
        return _Builder(document).build()
    except KeyError as error:
        raise _malformed(f"{error.args[0]!r} is used but not described") from None


def _malformed(problem: str) -> BundleError:
    return BundleError(problem, code="malformed-schedule", hint="compile the model again")


class _Pool:
    """A vector of integers from which rows take ranges; equal ranges are kept once."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self._found: dict[tuple[int, ...], int] = {}

    def place(self, values: Iterable[int]) -> int:
        """Where `values` stand."""
        key = tuple(values)
        if key not in self._found:
            self._found[key] = len(self.items)
            self.items += key
        return self._found[key]


class _Builder:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.names = Names(
            model=document["model"]["name"],
            devices=tuple(device["name"] for device in document["devices"]),
            links=tuple(link["name"] for link in document["links"]),
            memories=tuple(memory["name"] for memory in document["memories"]),
            operators=tuple(operator["name"] for operator in document["operators"]),
            tensors=tuple(sorted(document["tensors"])),
            constants=tuple(sorted({name for op in document["operators"] for name in op["constants"]})),
        )
        self.device = _index(self.names.devices)
        self.memory = _index(self.names.memories)
        self.operator = _index(self.names.operators)
        self.constant = _index(self.names.constants)
        self.tensor = _index(self.names.tensors)
        self.buffer = {buffer["id"]: index for index, buffer in enumerate(document["buffers"])}
        self.tasks = {task["id"]: task for task in document["tasks"]}
        self.dims, self.params, self.quants = _Pool(), _Pool(), list[layout.Quant]()
        self.latencies: list[int] = [0]

    def build(self) -> tuple[Tables, Names]:
        """Every table of the document."""
        document = self.document
        several = document["summary"]["frames_in_flight"] > 1
        resources = self._resources()
        queues = [[self.tasks[number] for number in document["queues"][name]] for name in resources]
        needed = {number: runs(found) for number, found in thresholds(queues, several).items()}
        inputs, outputs = self._ports()
        tasks, uses, transfers = self._tasks(queues, needed, inputs, outputs)
        tensors = tuple(self._tensor(document["tensors"][name]) for name in self.names.tensors)
        kernels = tuple(map(self._kernel, document["operators"]))
        waits = tuple(
            layout.Wait(
                run.value, run.tile, run.tiles, run.step, run.engine, run.lag, self._latency(run.latency)
            )
            for queue in queues
            for task in queue
            for run in needed[task["id"]]
        )
        tables = Tables(
            header=self._header(),
            engines=_engines(resources, queues),
            tasks=tasks,
            waits=waits,
            uses=uses,
            latencies=tuple(self.latencies),
            memories=tuple(map(_memory, document["memories"])),
            devices=tuple(self._device(device) for device in document["devices"]),
            buffers=tuple(map(self._buffer, document["buffers"])),
            tensors=tensors,
            dims=tuple(self.dims.items),
            quants=tuple(self.quants),
            transfers=transfers,
            kernels=kernels,
            params=tuple(self.params.items),
            inputs=inputs,
            outputs=outputs,
        )
        return tables, self.names

    def _resources(self) -> dict[str, tuple[int, int, int]]:
        """The queues that have tasks, in order: kind, owner and channel of each."""
        known = {name: (layout.ENGINE_DEVICE, index, 0) for index, name in enumerate(self.names.devices)}
        for index, link in enumerate(self.document["links"]):
            for channel in range(link["channels"]):
                known[f"{link['name']}.{channel}"] = layout.ENGINE_CHANNEL, index, channel
        for index, name in enumerate(self.names.memories):
            known.setdefault(f"{name}.fetch", (layout.ENGINE_FETCH, index, 0))
        queues = self.document["queues"]
        unknown = sorted(queues.keys() - known.keys())
        if unknown:
            raise _malformed(f"queue {unknown[0]} belongs to no device or link")
        return {name: place for name, place in known.items() if queues.get(name)}

    def _header(self) -> layout.Header:
        document, summary = self.document, self.document["summary"]
        tasks = document["tasks"]
        present = {
            layout.FEATURE_TILES: any(task["tiles"] > 1 for task in tasks),
            layout.FEATURE_PIPELINED: summary["frames_in_flight"] > 1,
            layout.FEATURE_WEIGHT_LOAD: any(task["kind"] == "weight_load" for task in tasks),
            layout.FEATURE_LATENCY: any(wait["latency"] for task in tasks for wait in task["waits"]),
        }
        return layout.Header(
            crc32=0,
            major=layout.MAJOR,
            minor=layout.MINOR,
            min_reader=0,
            features=sum(bit for bit, used in present.items() if used),
            latency=summary["latency"],
            interval=summary["initiation_interval"],
            frames_in_flight=summary["frames_in_flight"],
            last_stage=max((task["stage"] for task in tasks), default=0),
            tick_picoseconds=round(document["tick_seconds"] * 1e12),
            size=0,
            model_sha256=bytes.fromhex(document["model"]["sha256"] or "00" * layout.HASH_BYTES),
            target_sha256=target_hash(document["target"]),
        )

    def _tasks(
        self,
        queues: Sequence[Sequence[Document]],
        needed: Mapping[int, Sequence[Run]],
        inputs: Iterable[int],
        outputs: Iterable[int],
    ) -> tuple[tuple[layout.Task, ...], tuple[int, ...], tuple[layout.Transfer, ...]]:
        given, wanted = frozenset(inputs), frozenset(outputs)
        source = self._sources()
        rows, uses, transfers = [], list[int](), list[layout.Transfer]()
        waits = 0
        for queue in queues:
            for task in queue:
                reads = [self.buffer[number] for number in task["reads"]]
                writes = [self.buffer[number] for number in task["writes"]]
                if (len(reads), len(writes)) != (1, 1) and task["kind"] == "transfer":
                    raise _malformed(f"transfer {task['id']} does not move one buffer to another")
                if len(writes) != 1 and task["kind"] == "weight_load":
                    raise _malformed(f"weight load {task['id']} writes {len(writes)} buffers")
                if task["kind"] == "transfer":
                    item = len(transfers)
                    transfers.append(self._transfer(task, reads[0], writes[0], source.get(task["tensor"])))
                else:
                    item = self.operator[task["operator"]]
                rows.append(
                    layout.Task(
                        start=task["start"],
                        work=task["work"],
                        tiles=task["tiles"],
                        item=item,
                        first_wait=waits,
                        waits=len(needed[task["id"]]),
                        first_use=len(uses),
                        id=task["id"],
                        reads=len(reads),
                        writes=len(writes),
                        stage=task["stage"],
                        kind=KIND_OF_TASK[task["kind"]],
                        flags=layout.READS_INPUT * (not given.isdisjoint(reads))
                        | layout.WRITES_OUTPUT * (not wanted.isdisjoint(writes)),
                    )
                )
                uses += reads + writes
                waits += len(needed[task["id"]])
        return tuple(rows), tuple(uses), tuple(transfers)

    def _sources(self) -> dict[str, Document]:
        """The operator that computes each root tensor; its outputs may be views of that."""
        roots = self.document["roots"]
        return {
            roots.get(name, name): operator
            for operator in self.document["operators"]
            for name in operator["outputs"]
        }

    def _transfer(self, task: Document, read: int, written: int, source: Document | None) -> layout.Transfer:
        """Rows appear in the order in which the tensor's operator writes them, if that cuts it into equal parts."""
        slabs, rows = (source["prefix"], source["rows"]) if source else (1, 1)
        pieces = slabs * rows
        if (
            pieces < 1
            or prod(self.document["tensors"][task["tensor"]]["shape"]) % pieces
            or task["bytes"] % pieces
        ):
            slabs = rows = 1
        return layout.Transfer(task["bytes"], read, written, slabs, rows)

    def _ports(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The buffers of the graph's inputs and of its outputs: those of their root tensors at the io device."""
        document = self.document
        devices = {device["name"]: device["memory"] for device in document["devices"]}
        home = devices[document["target"]["io"]]
        at: dict[int, str] = {}
        for end in ("writes", "reads"):
            for task in document["tasks"]:
                if task["kind"] == "compute":
                    for number in task[end]:
                        at.setdefault(number, devices[task["resource"]])
        places: dict[str, int] = {}
        for index, buffer in enumerate(document["buffers"]):
            if at.get(buffer["id"], home) == home:
                places.setdefault(buffer["tensor"], index)

        def buffers(ports: Iterable[Document]) -> tuple[int, ...]:
            names = [port["name"] for port in ports]
            return tuple(places.get(document["roots"].get(name, name), NONE) for name in names)

        return buffers(document["model"]["inputs"]), buffers(document["model"]["outputs"])

    def _device(self, device: Document) -> layout.Device:
        return layout.Device(self.memory[device["memory"]], code(device["kind"], DEVICE_KINDS))

    def _buffer(self, buffer: Document) -> layout.Buffer:
        return layout.Buffer(
            buffer["offset"],
            buffer["bytes"],
            buffer["stride"],
            self.tensor.get(buffer["tensor"], NONE),
            self.memory[buffer["memory"]],
            buffer["copies"],
        )

    def _tensor(self, tensor: Document) -> layout.Tensor:
        quant, count, axis, rank = NONE, 0, 0, len(tensor["shape"])
        stated = tensor.get("quantisation")
        if stated:
            quant, count = len(self.quants), len(stated["scale"])
            axis = stated["axis"] + (rank if stated["axis"] < 0 else 0)
            self.quants += map(layout.Quant, stated["scale"], stated["zero_point"])
        first = self.dims.place(min(extent, NONE) for extent in tensor["shape"])
        return layout.Tensor(first, quant, rank, DTYPES.get(tensor["dtype"], 0), count, axis)

    def _kernel(self, operator: Document) -> layout.Kernel:
        workload = operator["workload"]
        kind = workload["type"]
        extents = [min(int(workload[name]), NONE) for name in EXTENTS.get(kind, ())]
        epilogue = [code(step, EPILOGUE) for step in operator["epilogue"]]
        constants = [self.constant[name] for name in operator["constants"]]
        return layout.Kernel(
            first_param=self.params.place((*extents, *epilogue, *constants)),
            slabs=max(1, operator["prefix"]),
            rows=max(1, operator["rows"]),
            epilogue=len(epilogue),
            constants=len(constants),
            params=len(extents),
            workload=code(kind, WORKLOADS),
            kind=code(workload["kind"], KINDS[kind]) if kind in KINDS else OTHER,
            weight_copies=weight_copies(operator["mode"]),
        )

    def _latency(self, ticks: int) -> int:
        if ticks not in self.latencies:
            self.latencies.append(ticks)
        return self.latencies.index(ticks)


def _index(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names)}


def _engines(
    resources: Mapping[str, tuple[int, int, int]], queues: Sequence[Sequence[Document]]
) -> tuple[layout.Engine, ...]:
    rows, first = [], 0
    for (kind, owner, channel), queue in zip(resources.values(), queues, strict=True):
        tiles = sum(task["tiles"] for task in queue)
        rows.append(layout.Engine(first, len(queue), tiles, owner, kind, channel))
        first += len(queue)
    return tuple(rows)


def _memory(memory: Document) -> layout.Memory:
    return layout.Memory(
        memory["capacity"],
        memory["peak"],
        memory["weights"],
        memory["alignment"],
        code(memory["kind"], MEMORY_KINDS),
    )


def weight_copies(mode: str) -> int:
    """How often mode `mode` of an operator keeps its weights in the device: ``resident x3`` three times."""
    name, _, count = mode.partition(" x")
    if name != RESIDENT:
        return 0
    return min(int(count), 255) if count.isdecimal() else 1


def target_hash(target: Document) -> bytes:
    """SHA-256 of a target description as schedule.json has it, with sorted keys."""
    text = json.dumps(target, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()
