"""A small, separate maker of valid bundles: random placement, tiles, order and memory for a text model.

It knows nothing of the compiler or the checker; it only follows the meaning of a schedule: in-order
queues, tiles, waits, one transfer per tensor and memory.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from tests.verify.maker_models import chain, partitioned
from tests.verify.maker_ops import (
    CAPACITY,
    OVERHEAD,
    RESIDENT_BYTES,
    STATIC_WATTS,
    TARGET,
    Op,
    cost_joules,
    cost_seconds,
    group_nodes,
    mode_of,
    streaming,
    text_model,
)


@dataclass
class Handmade:
    """A bundle in memory."""

    model: ModelProto
    document: dict[str, Any]
    partitioned: ModelProto
    chain: list[tuple[dict[str, Any], ModelProto]]

    def write(self, folder: Path) -> Path:
        """Write the bundle and, beside it, the model; returns the model's path."""
        (folder / "subgraphs").mkdir(parents=True)
        path = folder.parent / "mini.onnx"
        path.write_bytes(self.model.SerializeToString())
        document = json.loads(json.dumps(self.document))
        document["model"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "schedule.json").write_text(json.dumps(document))
        onnx.save(self.partitioned, folder / "partitioned.onnx")
        for entry, part in self.chain:
            onnx.save(part, folder / "subgraphs" / entry["file"])
        index = {
            "version": "1.0",
            "inputs": ["x"],
            "outputs": ["y", "late"],
            "files": [e for e, _ in self.chain],
        }
        (folder / "subgraphs" / "index.json").write_text(json.dumps(index))
        write_manifest(folder)
        return path


def write_manifest(folder: Path) -> None:
    """Make the manifest agree with the files as they are."""
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    model = json.loads((folder / "schedule.json").read_text())["model"]
    manifest = {"format": "h4hc-bundle", "model": {"name": "mini", "sha256": model["sha256"]}, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


# --- schedule ----------------------------------------------------------------------------------------


@dataclass
class Job:
    id: int
    kind: str
    resource: str
    operator: str
    tensor: str
    work: int
    tiles: int
    energy: int
    bytes: int
    waits: list[dict[str, Any]]
    reads: list[int]
    writes: list[int]
    ends: list[int] = field(default_factory=list)
    start: int = 0

    def record(self) -> dict[str, Any]:
        names = ("id", "kind", "resource", "operator", "tensor", "work", "tiles", "energy", "bytes")
        return {name: getattr(self, name) for name in names} | {
            "start": self.start, "end": self.ends[-1], "waits": self.waits, "reads": self.reads,
                "writes": self.writes, "stage": 0,
        }  # fmt: skip


class Maker:
    """One random bundle."""

    def __init__(self, seed: int, model: ModelProto | None = None) -> None:
        self.rng = random.Random(seed)
        self.model = model or text_model()
        graph = self.model.graph
        self.shapes = {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in (*graph.value_info, *graph.input, *graph.output)
        }
        self.ops, self.roots = group_nodes(self.model, self.rng)
        self.jobs: list[Job] = []
        self.queues: dict[str, list[int]] = {}
        self.free: dict[str, int] = {}
        self.buffers: list[dict[str, Any]] = []
        self.where: dict[tuple[str, str], int] = {}  # (root, memory) -> buffer
        self.writer: dict[int, Job | None] = {}
        self.producer: dict[str, Op] = {}
        self.memory = {d["name"]: d["memory"] for d in TARGET["devices"]}

    def size(self, tensor: str) -> int:
        return prod(self.shapes[tensor])

    def root(self, tensor: str) -> str:
        return self.roots.get(tensor, tensor)

    def make(self) -> Handmade:
        for op in self.ops:
            streaming(op, self.shapes)
            op.device = self.rng.choice(list(self.memory))
            op.tiles = min(op.rows, self.rng.choice([1, 1, 2, 3, 4, 7]))
        for value in self.model.graph.input:
            self._buffer(value.name, "dram", None)
        for op in self._random_order():
            self._run(op)
        for value in self.model.graph.output:
            self._copy(self.root(value.name), "dram")
        latency = max(job.ends[-1] for job in self.jobs)
        self._allocate(latency)
        document = self._document(latency)
        return Handmade(self.model, document, partitioned(self), chain(self))

    def _random_order(self) -> list[Op]:
        left, done, order = list(self.ops), {value.name for value in self.model.graph.input}, []
        while left:
            ready = [op for op in left if done.issuperset(op.inputs)]
            op = self.rng.choice(ready)
            left.remove(op)
            order.append(op)
            done.update(name for node in op.nodes for name in node.output)
        return order

    def _buffer(self, tensor: str, memory: str, writer: Job | None) -> int:
        number = len(self.buffers)
        size = self.size(tensor)
        self.buffers.append(
            {"id": number, "tensor": tensor, "memory": memory, "bytes": size, "copies": 1, "stride": 0}
        )
        self.where[tensor, memory] = number
        self.writer[number] = writer
        return number

    def _append(self, job: Job) -> Job:
        """Put the job at the end of its queue and compute its times."""
        now = self.free.get(job.resource, 0)
        for tile in range(job.tiles):
            begin = now
            for wait in job.waits:
                count = wait["counts"][tile]
                if count:
                    begin = max(begin, self.jobs[wait["task"]].ends[count - 1] + wait["latency"])
            if tile == 0:
                job.start = begin
            now = begin + job.work * (tile + 1) // job.tiles - job.work * tile // job.tiles
            job.ends.append(now)
        self.free[job.resource] = now
        self.queues.setdefault(job.resource, []).append(job.id)
        self.jobs.append(job)
        return job

    def _copy(self, root: str, memory: str) -> int:
        """The buffer of `root` in `memory`; adds the transfer that fills it."""
        if (root, memory) in self.where:
            return self.where[root, memory]
        op = self.producer.get(root)
        home = self.memory[op.device] if op else "dram"
        source = self.where[root, home]
        writer = self.writer[source]
        link = next(entry for entry in TARGET["links"] if set(entry["memories"]) == {home, memory})
        tiles = writer.tiles if writer else 1
        size = self.size(root)
        waits = []
        if writer:
            waits = [
                {
                    "task": writer.id,
                    "counts": list(range(1, tiles + 1)),
                    "latency": 0,
                    "reason": "data",
                    "lag": 0,
                }
            ]
        joules = link["energy_per_byte"] + sum(
            m["energy_per_byte"] for m in TARGET["memories"] if m["name"] in link["memories"]
        )
        work = ceil(300 + size / link["bandwidth"] * 1e9) + (tiles - 1) * 50
        channel = f"{link['name']}.{self.rng.randrange(link['channels'])}"
        job = Job(
            len(self.jobs), "transfer", channel, "", root, work, tiles,
                ceil(size * joules * 1e12 * (1 - 1e-9)),
            size, waits, [source], [],
        )  # fmt: skip
        self._append(job)
        job.writes.append(self._buffer(root, memory, job))
        return job.writes[0]

    def _run(self, op: Op) -> None:
        memory = self.memory[op.device]
        reads, waits = [], []
        for name, stream in zip(op.inputs, op.streams, strict=True):
            buffer = self._copy(self.root(name), memory)
            reads.append(buffer)
            writer = self.writer[buffer]
            if writer is not None:
                waits.append(self._wait(op, stream, name, writer))
        work = ceil(cost_seconds(op.name, op.device) * 1e9) + (op.tiles - 1) * OVERHEAD[op.device]
        job = Job(
            len(self.jobs), "compute", op.device, op.name, "", work, op.tiles,
            ceil(cost_joules(op.name, op.device) * 1e12), 0, waits, list(dict.fromkeys(reads)), [],
        )  # fmt: skip
        self._append(job)
        for name in dict.fromkeys(self.root(output) for output in op.outputs):
            job.writes.append(self._buffer(name, memory, job))
        for node in op.nodes:
            for name in node.output:
                self.producer[name] = op

    def _wait(self, op: Op, stream: dict[str, int] | None, name: str, writer: Job) -> dict[str, Any]:
        made = self.producer.get(name)
        counts = [writer.tiles] * op.tiles
        if stream and made and made.rows > 1 and made.prefix == stream["prefix"]:
            counts = []
            for tile in range(op.tiles):
                out = (tile + 1) * op.rows // op.tiles
                need = max(0, (out - 1) * stream["stride"] - stream["pad"] + stream["window"])
                rows = ceil(min(stream["rows"], need) * made.rows / stream["rows"])
                counts.append(ceil(rows * writer.tiles / made.rows))
        other = writer.kind == "compute" and writer.resource != op.device
        return {
            "task": writer.id,
            "counts": counts,
            "latency": 200 if other else 0,
            "reason": "data",
            "lag": 0,
        }

    # --- memory ------------------------------------------------------------------------------------------

    def _users(self, number: int) -> list[Job]:
        return [job for job in self.jobs if number in job.reads or number in job.writes]

    def _allocate(self, latency: int) -> None:
        outputs = {self.root(value.name) for value in self.model.graph.output}
        for buffer in self.buffers:
            users = self._users(buffer["id"])
            first = 0 if self.writer[buffer["id"]] is None else min(job.start for job in users)
            last = max([first, *(job.ends[-1] for job in users)])
            if buffer["tensor"] in outputs and buffer["memory"] == "dram":
                last = latency
            buffer |= {"start": first, "end": last}
        placed: list[dict[str, Any]] = []
        for buffer in self.rng.sample(self.buffers, len(self.buffers)):
            buffer["offset"] = self._first_fit(buffer, placed)
            placed.append(buffer)
        for later in sorted(self.buffers, key=lambda b: (b["start"], b["end"], b["id"])):
            for earlier in self.buffers:
                if earlier is not later and earlier["end"] <= later["start"] and _touch(earlier, later):
                    self._order(earlier["id"], later["id"])

    def _first_fit(self, buffer: dict[str, Any], placed: list[dict[str, Any]]) -> int:
        alignment = next(m["alignment"] for m in TARGET["memories"] if m["name"] == buffer["memory"])
        offset = 0
        while True:
            buffer["offset"] = offset
            clash = [b for b in placed if _touch(b, buffer) and not _apart(b, buffer)]
            if not clash:
                return offset
            offset = max(-(-(b["offset"] + b["bytes"]) // alignment) * alignment for b in clash)

    def _order(self, earlier: int, later: int) -> None:
        writer = self.writer[later]
        for user in self._users(earlier):
            known = writer is None or user is writer or any(w["task"] == user.id for w in writer.waits)
            if writer is not None and not (known and user is writer):
                counts = [user.tiles] * writer.tiles
                writer.waits.append(
                    {"task": user.id, "counts": counts, "latency": 0, "reason": "reuse", "lag": 0}
                )

    # --- files ---------------------------------------------------------------------------------------------

    def _document(self, latency: int) -> dict[str, Any]:
        dynamic = sum(job.energy for job in self.jobs)
        used = {job.resource for job in self.jobs}
        static = round(sum(w for d, w in STATIC_WATTS.items() if d in used) * latency * 1e3)
        operators = [self._operator(op) for op in self.ops]
        transfers = [job for job in self.jobs if job.kind == "transfer"]
        return {
            "schema_version": "1.0",
            "producer": {"name": "maker", "version": "1"},
            "model": {
                "name": "mini", "path": "mini.onnx", "sha256": "",
                "inputs": [self._port(v.name) for v in self.model.graph.input],
                "outputs": [self._port(v.name) for v in self.model.graph.output],
            },
            "target": TARGET,
            "options": {"objective": "latency", "budget_seconds": None, "precision": "int8",
                "weights": "typical", "effort": "fast", "frames": 1, "interval_seconds": None},
            "tick_seconds": 1e-9,
            "summary": {
                "latency": latency, "initiation_interval": latency, "energy": dynamic + static,
                "interval_bound": max(self._busy().values()), "frames_in_flight": 1, "front": [],
                "dynamic_energy": dynamic, "static_energy": static, "latency_seconds": latency * 1e-9,
                "energy_joules": (dynamic + static) * 1e-12, "frames_per_second": 1e9 / latency,
                "macs": sum(op["macs"] for op in operators), "transfers": len(transfers),
                "transferred_bytes": sum(job.bytes for job in transfers), "budget_met": None, "baselines": [],
            },
            "handoff": 200,
            "devices": [self._device(entry, operators) for entry in TARGET["devices"]],
            "links": [entry | {"latency": 300, "tile_overhead": 50} for entry in TARGET["links"]],
            "memories": [self._memory(entry) for entry in TARGET["memories"]],
            "operators": operators,
            "roots": self.roots,
            "tensors": {
                name: {"shape": list(self.shapes[name]), "dtype": "float32", "bytes": self.size(name)}
                for op in self.ops
                for name in (*op.inputs, *op.outputs)
            },
            "buffers": self.buffers,
            "tasks": [job.record() for job in self.jobs],
            "queues": self.queues,
        }  # fmt: skip

    def _busy(self) -> dict[str, int]:
        busy: dict[str, int] = {}
        for job in self.jobs:
            busy[job.resource] = busy.get(job.resource, 0) + job.work
        return busy

    def _port(self, name: str) -> dict[str, Any]:
        return {"name": name, "shape": list(self.shapes[name]), "dtype": "float32"}

    def _operator(self, op: Op) -> dict[str, Any]:
        job = next(job for job in self.jobs if job.operator == op.name)
        costs: dict[str, Any] = {
            device: {
                mode_of(device): {
                    "seconds": cost_seconds(op.name, device),
                    "joules": cost_joules(op.name, device),
                    "resident_bytes": RESIDENT_BYTES[device],
                }
            }
            for device in self.memory
        }
        if op.device != "cim":
            costs["cim"] = {"refused": "not today"}
        weights = {t.name: prod(t.dims) for t in self.model.graph.initializer}
        return {
            "name": op.name, "kind": op.kind, "macs": 10, "nodes": [node.name for node in op.nodes],
            "weight_bytes": sum(weights[name] for name in op.constants),
            "inputs": op.inputs, "outputs": op.outputs, "constants": op.constants, "rows": op.rows,
            "prefix": op.prefix, "streams": op.streams, "device": op.device, "mode": mode_of(op.device),
            "tiles": op.tiles,
            "work": job.work, "energy": job.energy, "resident_bytes": RESIDENT_BYTES[op.device],
                "costs": costs,
        }  # fmt: skip

    def _device(self, entry: dict[str, Any], operators: list[dict[str, Any]]) -> dict[str, Any]:
        mine = [op for op in operators if op["device"] == entry["name"]]
        return {
            "name": entry["name"], "kind": entry["kind"], "memory": entry["memory"], "spill": None,
            "static_watts": STATIC_WATTS[entry["name"]], "capacity": CAPACITY[entry["name"]],
            "tile_overhead": OVERHEAD[entry["name"]],
            "resident": sum(op["resident_bytes"] for op in mine), "operators": len(mine),
            "busy": sum(op["work"] for op in mine), "macs": sum(op["macs"] for op in mine),
        }  # fmt: skip

    def _memory(self, entry: dict[str, Any]) -> dict[str, Any]:
        step = entry["alignment"]
        mine = [b for b in self.buffers if b["memory"] == entry["name"]]
        size = {b["id"]: -(-b["bytes"] // step) * step for b in mine}
        ends = {b["id"]: max(b["end"], b["start"] + 1) for b in mine}
        live = [
            sum(size[b["id"]] for b in mine if b["start"] <= t < ends[b["id"]])
            for t in {b["start"] for b in mine}
        ]
        weights = sum(self._operator(op)["weight_bytes"] for op in self.ops if op.device != "cim")
        return {
            "name": entry["name"], "kind": entry["kind"], "capacity": entry["bytes"], "alignment": step,
            "weights": weights if entry["name"] == "dram" else 0,
            "peak": max((b["offset"] + size[b["id"]] for b in mine), default=0), "lower_bound": max(live,
                default=0),
        }  # fmt: skip


def _touch(a: dict[str, Any], b: dict[str, Any]) -> bool:
    same = a["memory"] == b["memory"]
    first, second = a["offset"] + a["bytes"], b["offset"] + b["bytes"]
    return bool(same and a["offset"] < second and b["offset"] < first)


def _apart(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["end"] <= b["start"] or b["end"] <= a["start"])
