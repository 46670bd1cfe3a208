"""Compilations made by hand: an ONNX model and a choice of devices in, a valid schedule out.

One operator per node; reshapes join the operator that produces their input, as views. Costs are
invented, and every operator runs as soon as its device and its operands are free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, helper, parser, shape_inference

from h4hc.backends import load_target
from h4hc.ir.compilation import Baseline, Compilation, Options, Source
from h4hc.ir.cost import Cost, CostTable, Refusal
from h4hc.ir.graph import Graph, Operator, Tensor
from h4hc.ir.placement import Placement
from h4hc.ir.schedule import Buffer, MemoryUse, Schedule, Task, Wait
from h4hc.ir.target import Target
from h4hc.ir.workload import Elementwise, Generic, Kernel, MatMul

VIEWS = {"Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze"}
HANDOFF = 1000

# Two convolutions, a view, a constant expression that both accelerators read, two outputs.
EXAMPLE = """
<ir_version: 8, opset_import: ["" : 17]>
example (float[1, 4, 8, 8] image) => (float[1, 64] scores, float[1, 4, 8, 8] features)
<
  float[4, 4, 1, 1] w1, float[4, 4, 1, 1] w2, float[16, 4] raw,
  int64[2] flat_shape = {1, 256}, int64[2] weight_shape = {64, 1}
>
{
  [first] a = Conv (image, w1)
  [act] b = Relu (a)
  [second] features = Conv (b, w2)
  [weight] table = Reshape (raw, weight_shape)
  [flatten] flat = Reshape (features, flat_shape)
  [row] line = Transpose (table)
  [cut] part = Slice (flat, zero, sixtyfour)
  [scale] scaled = Mul (part, line)
  [shift] scores = Add (scaled, line)
}
"""

# A buffer, and the task that fills it (None: there from the start).
Place = tuple[int, int | None]
Devices = Callable[[NodeProto], str]


@dataclass(frozen=True)
class StubBackend:
    name: str
    static_watts: float = 0.01
    capacity_bytes: int = 0
    tile_overhead_seconds: float = 20e-9
    writes_per_frame: float = math.inf

    def prefetched(self, kernel: Kernel) -> Cost | None:
        return None


def example_model() -> ModelProto:
    model = parser.parse_model(EXAMPLE)
    values = {"w1": (4, 4, 1, 1), "w2": (4, 4, 1, 1), "raw": (16, 4)}
    for index, (name, shape) in enumerate(values.items()):
        count = 1
        for extent in shape:
            count *= extent
        data = [((7 * i + index) % 13) / 13 - 0.5 for i in range(count)]
        model.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, data))
    model.graph.initializer.append(helper.make_tensor("zero", onnx.TensorProto.INT64, [2], [0, 0]))
    model.graph.initializer.append(helper.make_tensor("sixtyfour", onnx.TensorProto.INT64, [2], [1, 64]))
    return model


def by_name(devices: Mapping[str, str], other: str = "npu") -> Devices:
    return lambda node: devices.get(node.name, other)


EXAMPLE_DEVICES = by_name({"second": "cim", "cut": "cim", "shift": "cim", "scale": "npu", "act": "host"})


def compile_by_hand(
    model: ModelProto,
    devices: Devices,
    target: Target | None = None,
    options: Options | None = None,
    name: str = "example",
) -> Compilation:
    model = with_shapes(model)
    target = target or load_target("npu+cim")
    graph = lower(model, name)
    placement = Placement(
        devices=tuple(devices(node_of(model, operator)) for operator in graph.operators),
        modes=("",) * len(graph.operators),
        tiles=(1,) * len(graph.operators),
    )
    return Compilation(
        source=Source(name, f"/somewhere/{name}.onnx", "0" * 64),
        model=model,
        target=target,
        options=options or Options(),
        backends={d.name: StubBackend(d.name) for d in target.devices},  # type: ignore[dict-item]
        graph=graph,
        costs=CostTable(tuple(invent_costs(operator, target) for operator in graph.operators)),
        placement=placement,
        schedule=Scheduler(graph, placement, target).run(),
        baselines=(Baseline("npu", 40e-6, 3e-6), Baseline("cim", 30e-6, 2e-6)),
    )


def with_shapes(model: ModelProto) -> ModelProto:
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for index, node in enumerate(inferred.graph.node):
        node.name = node.name or f"node_{index}"
    return inferred


def node_of(model: ModelProto, operator: Operator) -> NodeProto:
    return next(node for node in model.graph.node if node.name == operator.name)


def lower(model: ModelProto, name: str) -> Graph:
    tensors = typed_tensors(model)
    constants = {t.name for t in model.graph.initializer}
    constants |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    groups: list[list[NodeProto]] = []
    producer: dict[str, int] = {}
    roots: dict[str, str] = {}
    for node in model.graph.node:
        if all(t in constants for t in node.input if t):
            constants.update(node.output)
            continue
        if node.op_type in VIEWS and node.input[0] in producer:
            group = producer[node.input[0]]
            groups[group].append(node)
            roots[node.output[0]] = roots.get(node.input[0], node.input[0])
        else:
            group = len(groups)
            groups.append([node])
        producer.update(dict.fromkeys(node.output, group))
    tensors |= {
        n: Tensor(t.name, t.shape, t.dtype, constant=True) for n, t in tensors.items() if n in constants
    }
    return Graph(
        name=name,
        inputs=tuple(i.name for i in model.graph.input if i.name not in constants),
        outputs=tuple(o.name for o in model.graph.output),
        tensors=tensors,
        operators=tuple(make_operator(group, constants, tensors) for group in groups),
        roots=roots,
    )


def typed_tensors(model: ModelProto) -> dict[str, Tensor]:
    graph = model.graph
    found = {
        t.name: Tensor(t.name, tuple(t.dims), helper.tensor_dtype_to_np_dtype(t.data_type).name)
        for t in graph.initializer
    }
    for info in (*graph.value_info, *graph.input, *graph.output):
        kind = info.type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)
        found[info.name] = Tensor(info.name, shape, helper.tensor_dtype_to_np_dtype(kind.elem_type).name)
    return found


def make_operator(nodes: list[NodeProto], constants: set[str], tensors: Mapping[str, Tensor]) -> Operator:
    inside = {t for node in nodes for t in node.output}
    reads = [t for t in dict.fromkeys(t for node in nodes for t in node.input) if t and t not in inside]
    anchor = nodes[0]
    size = sum(tensors[t].elements for t in anchor.output if t)
    workload = (
        MatMul(1, size // 8 + 1, 8, 8)
        if anchor.op_type in {"Conv", "MatMul", "Gemm"}
        else Elementwise(size, 2, "add")
        if anchor.op_type in {"Add", "Mul", "Relu"}
        else Generic(anchor.op_type, size, size, size)
    )
    inputs = tuple(t for t in reads if t not in constants)
    return Operator(
        name=anchor.name,
        kind=anchor.op_type,
        kernel=Kernel(workload),
        inputs=inputs,
        outputs=tuple(t for node in nodes for t in node.output if t),
        constants=tuple(t for t in reads if t in constants),
        nodes=tuple(node.name for node in nodes),
        streams=(None,) * len(inputs),
    )


def invent_costs(operator: Operator, target: Target) -> dict[str, tuple[Cost, ...] | Refusal]:
    size = operator.kernel.workload.output_elements + 8 * operator.kernel.workload.macs
    row: dict[str, tuple[Cost, ...] | Refusal] = {}
    for index, device in enumerate(target.devices):
        row[device.name] = (
            Cost(seconds=1e-6 + size * 1e-9 * (index + 1), joules=size * 1e-12, utilisation=0.5),
        )
    return row


class Scheduler:
    """Greedy, in graph order, whole tensors; buffers are never reused."""

    def __init__(self, graph: Graph, placement: Placement, target: Target) -> None:
        self.graph = graph
        self.placement = placement
        self.target = target
        self.memory = {d.name: d.memory for d in target.devices}
        self.queues: dict[str, list[int]] = {d.name: [] for d in target.devices}
        self.tasks: list[Task] = []
        self.buffers: list[Buffer] = []
        self.free: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        # (root, memory) -> (buffer, task that filled it)
        self.places: dict[tuple[str, str], Place] = {}

    def run(self) -> Schedule:
        io = self.memory[self.target.io]
        for tensor in self.graph.inputs:
            self.places[tensor, io] = self.add_buffer(tensor, io), None
        costs = [invent_costs(operator, self.target) for operator in self.graph.operators]
        for index, operator in enumerate(self.graph.operators):
            device = self.placement.devices[index]
            roots = dict.fromkeys(self.graph.root(t) for t in operator.inputs)
            sources = [self.place(root, self.memory[device]) for root in roots]
            writes = [
                self.add_buffer(t, self.memory[device]) for t in operator.outputs if t not in self.graph.roots
            ]
            (cost,) = costs[index][device]
            task = self.add_compute(device, operator.name, round(cost.seconds * 1e9), sources, tuple(writes))
            for buffer in writes:
                self.places[self.buffers[buffer].tensor, self.memory[device]] = buffer, task
        for tensor in self.graph.outputs:
            if not self.graph.tensors[tensor].constant:
                self.place(self.graph.root(tensor), io)
        return self.finish()

    def place(self, root: str, memory: str) -> Place:
        if (root, memory) not in self.places:
            origin = next(m for tensor, m in self.places if tensor == root)
            link = self.target.link_between(origin, memory)
            buffer = self.add_buffer(root, memory)
            task = self.add_transfer(f"{link.name}.0", root, self.places[root, origin], buffer)
            self.places[root, memory] = buffer, task
        return self.places[root, memory]

    def add_buffer(self, tensor: str, memory: str) -> int:
        size = self.graph.tensors[tensor].elements
        offset = self.offsets.get(memory, 0)
        self.offsets[memory] = offset + (size + 15) // 16 * 16
        self.buffers.append(Buffer(len(self.buffers), tensor, memory, offset, size, 0, 0))
        return len(self.buffers) - 1

    def add_compute(
        self, device: str, operator: str, work: int, sources: list[Place], writes: tuple[int, ...]
    ) -> int:
        task = self.empty_task(device, work, sources, writes)
        return self.append(task._replace(kind="compute", operator=operator))

    def add_transfer(self, channel: str, tensor: str, source: Place, buffer: int) -> int:
        task = self.empty_task(channel, 1500, [source], (buffer,))
        size = self.buffers[buffer].bytes
        return self.append(task._replace(kind="transfer", tensor=tensor, bytes=size))

    def empty_task(self, resource: str, work: int, sources: list[Place], writes: tuple[int, ...]) -> Task:
        waits = tuple(
            Wait(task, (1,), 0 if self.tasks[task].resource == resource else HANDOFF)
            for task in dict.fromkeys(task for _, task in sources)
            if task is not None
        )
        start = max([self.free.get(resource, 0), *(self.tasks[w.task].end + w.latency for w in waits)])
        return Task(
            id=len(self.tasks),
            kind="",
            resource=resource,
            operator="",
            tensor="",
            start=start,
            end=start + work,
            work=work,
            tiles=1,
            energy=work * 3,
            bytes=0,
            waits=waits,
            reads=tuple(buffer for buffer, _ in sources),
            writes=writes,
        )

    def append(self, task: Task) -> int:
        self.tasks.append(task)
        self.free[task.resource] = task.end
        self.queues.setdefault(task.resource, []).append(task.id)
        return task.id

    def finish(self) -> Schedule:
        latency = max((task.end for task in self.tasks), default=0)
        buffers = tuple(
            Buffer(
                b.id,
                b.tensor,
                b.memory,
                b.offset,
                b.bytes,
                min((t.start for t in self.tasks if b.id in t.writes), default=0),
                max([t.end for t in self.tasks if b.id in (*t.reads, *t.writes)], default=latency),
            )
            for b in self.buffers
        )
        return Schedule(
            tasks=tuple(self.tasks),
            buffers=buffers,
            queues=tuple((name, tuple(ids)) for name, ids in self.queues.items()),
            memories=tuple(
                MemoryUse(m.name, m.bytes, 0, self.offsets.get(m.name, 0), self.offsets.get(m.name, 0))
                for m in self.target.memories
            ),
            latency=latency,
            initiation_interval=latency,
            dynamic_energy=sum(task.energy for task in self.tasks),
            static_energy=latency * 10,
        )


def written(compilation: Compilation, folder: Path) -> Path:
    from h4hc.bundle import write_bundle

    write_bundle(compilation, folder)
    return folder
