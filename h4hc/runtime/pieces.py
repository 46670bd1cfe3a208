"""What each worker does: the queues of a schedule as pieces, a piece being one onnxruntime session or one copy.

Consecutive tasks of a device make one piece as long as none but the first waits for another queue: a piece waits
only before it starts, so pieces cannot wait for each other in a circle unless their tasks do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from h4hc.errors import BundleError
from h4hc.verify.document import Document, Task
from h4hc.verify.folder import Bundle
from h4hc.verify.network import Network, Node

TASK = "h4hc.task"
WEIGHT_LOAD = "weight_load"


@dataclass(frozen=True, slots=True)
class Wait:
    """Task `task` must have ended in the window `lag` windows ago."""

    task: int
    lag: int


@dataclass(frozen=True, slots=True)
class Piece:
    """`tasks` that run as one: `nodes` of the partitioned model, in order (none: copies alone).

    `reads` and `writes` are tensors by the names of the partitioned model. `copies`: pairs (from, to) that a DMA
    channel moves. `stage` as in the schedule.
    """

    tasks: tuple[int, ...]
    label: str
    stage: int
    waits: tuple[Wait, ...]
    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Program:
    """The pieces of every queue, in order.

    `aliases`: tensors handed over within a memory, by the tensor that they are. `places`: copies of the buffer
    of a tensor; a tensor that is not listed has one place per frame. `loose`: graph outputs that no task computes.
    """

    network: Network
    queues: Mapping[str, tuple[Piece, ...]]
    aliases: Mapping[str, str]
    places: Mapping[str, int]
    loose: tuple[str, ...]
    frames_in_flight: int

    def source(self, tensor: str) -> str:
        """The tensor that is written where `tensor` is read."""
        while tensor in self.aliases:
            tensor = self.aliases[tensor]
        return tensor


def plan_pieces(bundle: Bundle) -> Program:
    """The program of the bundle. Raises BundleError if the nodes of partitioned.onnx do not name their tasks."""
    document, network = bundle.document, Network(bundle.partitioned)
    of_task = _nodes_by_task(network, document)
    aliases = {
        node.outputs[0]: node.inputs[0] for node in network.nodes if node.is_transfer and not _moves(node)
    }
    program = Program(
        network,
        dict.fromkeys(document.queues, ()),
        aliases,
        _places(document, network, of_task),
        _loose(network, of_task),
        document.summary.frames_in_flight,
    )
    wanted = _wanted(program, of_task)
    queue_of = {task: name for name, queue in document.queues.items() for task in queue}
    tasks = {task.id: task for task in document.tasks}
    queues = {
        name: tuple(
            _piece(program, group, of_task, wanted, queue_of)
            for group in _groups([tasks[i] for i in queue], queue_of)
        )
        for name, queue in document.queues.items()
    }
    return replace(program, queues=queues)


def _moves(node: Node) -> bool:
    return bool(node.attribute("copy", 1))


def _nodes_by_task(network: Network, document: Document) -> dict[int, list[Node]]:
    """The nodes of every task, in the order of the file."""
    found: dict[int, list[Node]] = {task.id: [] for task in document.tasks}
    for node in network.nodes:
        stated = next((entry.value for entry in node.proto.metadata_props if entry.key == TASK), None)
        if stated is None:
            continue
        if not stated.isdecimal() or int(stated) not in found:
            raise BundleError(
                f"partitioned.onnx: {node.label} names task {stated!r}, which the schedule does not have",
                code="bundle-task",
                hint="compile the model again",
            )
        found[int(stated)].append(node)
    for task in document.tasks:
        if not found[task.id] and task.kind != WEIGHT_LOAD:
            raise BundleError(
                f"partitioned.onnx: no node names {task.label}",
                code="bundle-task",
                hint="compile the model again",
            )
    return found


def _places(document: Document, network: Network, of_task: Mapping[int, list[Node]]) -> dict[str, int]:
    """How many frames each tensor's buffer has room for."""
    copies = {(buffer.tensor, buffer.memory): buffer.copies for buffer in document.buffers}
    memory = {device.name: device.memory for device in document.devices}
    owner = {node.index: task for task, nodes in of_task.items() for node in nodes}
    tasks = {task.id: task for task in document.tasks}
    found: dict[str, int] = {}
    for value in document.inputs:
        key = document.root(value.name), memory[document.target.io]
        if key in copies:
            found[value.name] = copies[key]
    for node in network.nodes:
        if node.index not in owner:
            continue
        if node.is_transfer:
            key = node.text("tensor"), memory.get(node.text("dst"), "")
        else:
            key = "", memory[tasks[owner[node.index]].resource]
        for name in node.outputs:
            room = copies.get((key[0] or document.root(_plain(name, document)), key[1]))
            if room is not None:
                found[name] = room
    return found


def _plain(name: str, document: Document) -> str:
    """The model's name of a tensor that was renamed ``name@device`` where it is computed."""
    known = document.tensors.keys() | document.roots.keys()
    return name if name in known else name.rpartition("@")[0] or name


def _loose(network: Network, of_task: Mapping[int, list[Node]]) -> tuple[str, ...]:
    owned = {name for nodes in of_task.values() for node in nodes for name in node.outputs}
    return tuple(name for name in network.outputs if name not in owned)


def _wanted(program: Program, of_task: Mapping[int, list[Node]]) -> dict[str, set[int]]:
    """The tasks that read each tensor (-1: the caller)."""
    readers: dict[str, set[int]] = {program.source(name): {-1} for name in program.network.outputs}
    for task, nodes in of_task.items():
        for node in nodes:
            for name in _with_constants(program.network, node):
                readers.setdefault(program.source(name), set()).add(task)
    return readers


def _with_constants(network: Network, node: Node) -> Iterable[str]:
    return (name for name in node.inputs if name and name not in network.constants)


def _groups(queue: list[Task], queue_of: Mapping[int, str]) -> list[list[Task]]:
    groups: list[list[Task]] = []
    for task in queue:
        alone = task.kind != "compute" or any(queue_of[wait.task] != task.resource for wait in task.waits)
        if alone or not groups or groups[-1][-1].stage != task.stage:
            groups.append([task])
        else:
            groups[-1].append(task)
    return groups


def _piece(
    program: Program,
    group: list[Task],
    of_task: Mapping[int, list[Node]],
    wanted: Mapping[str, set[int]],
    queue_of: Mapping[int, str],
) -> Piece:
    ids = tuple(task.id for task in group)
    nodes = sorted((node for id_ in ids for node in of_task[id_]), key=lambda node: node.index)
    waits = tuple(
        Wait(wait.task, wait.lag) for wait in group[0].waits if queue_of[wait.task] != group[0].resource
    )
    label = group[0].label if len(group) == 1 else f"{group[0].label} to {group[-1].label}"
    if group[0].kind != "compute":
        copies = tuple((program.source(node.inputs[0]), node.outputs[0]) for node in nodes)
        return Piece(ids, label, group[0].stage, waits, (), tuple(c[0] for c in copies),
                     tuple(c[1] for c in copies), copies)  # fmt: skip
    own = {name for node in nodes for name in node.outputs if name}
    reads = dict.fromkeys(
        name for node in nodes for name in _with_constants(program.network, node) if name not in own
    )
    writes = tuple(
        name for node in nodes for name in node.outputs if name and wanted.get(name, set()).difference(ids)
    )
    return Piece(ids, label, group[0].stage, waits, tuple(nodes), tuple(reads), writes, ())
