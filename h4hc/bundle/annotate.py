"""Placement and cost as ONNX metadata: multi-device annotations and `metadata_props`.

Written last, behind finished nodes: most ONNX tools drop both, so schedule.json stays the source of truth. Both are the
last fields of a node, so an annotated node is its own bytes and those of its annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from onnx import ModelProto, NodeProto

from h4hc import __version__
from h4hc.bundle.nodes import Node
from h4hc.bundle.store import Document
from h4hc.bundle.wire import CONFIGURATION, METADATA, NODE, framed, number, text
from h4hc.ir.target import Target

PREFIX = "h4hc."
# onnxruntime reads this key where a session assigns layers to execution providers by name.
LAYER_ANNOTATION = "layer_ann"
_PREFIX, _LAYER_ANNOTATION = PREFIX.encode(), LAYER_ANNOTATION.encode()


class _Place(NamedTuple):
    """What a device adds to its nodes: the properties before and behind all others, and its number in a sharding."""

    first: bytes
    last: bytes
    number: bytes


class _Shared(NamedTuple):
    """What an operator adds to its nodes: the properties of all, and those that `anchor` has beyond."""

    anchor: str
    properties: bytes
    cost: bytes


@dataclass(frozen=True, slots=True)
class Annotator:
    """Annotates nodes of one compilation. `operators` are the document's records, in graph order.

    Gives nodes as they stand in the bytes of a graph; one that several graphs hold is made once.
    """

    configuration: bytes  # as in each node: the name of the target
    operators: list[Document]
    task_of: Mapping[str, int]
    _places: Mapping[str, _Place]
    _known: dict[str, tuple[Node, bytes]] = field(default_factory=dict)  # by the node's name
    _shared: dict[int, _Shared] = field(default_factory=dict)

    def of_operator(self, node: Node, operator: int, level: int) -> bytes:
        """`node` of an operator of level `level`, with where and as what it runs; its cost at the anchor node only."""
        name = node.name
        known = self._known.get(name)
        if known is None or known[0] is not node:  # another one under that name has other inputs or outputs
            anchor, properties, cost = self._of_all_nodes(operator)
            if name == anchor:
                properties += cost
            plain, device = _plain(node.proto), self.operators[operator]["device"]
            known = node, self._annotated(plain, node.outputs, device, level, properties)
            self._known.setdefault(name, known)
        return known[1]

    def of_node(self, node: Node, device: str, level: int, properties: Mapping[str, str]) -> bytes:
        """`node` on `device` in pipeline stage `level`, with further `properties`."""
        return self.of_bytes(_plain(node.proto), node.outputs, device, level, properties)

    def of_bytes(
        self, plain: bytes, outputs: Iterable[str], device: str, level: int, properties: Mapping[str, str]
    ) -> bytes:
        """The same of a node without annotations that is `plain` bytes and has `outputs`."""
        return self._annotated(plain, outputs, device, level, _properties(properties))

    def _of_all_nodes(self, operator: int) -> _Shared:
        """The operator and its task, and its cost."""
        known = self._shared.get(operator)
        if known is None:
            record = self.operators[operator]
            own, cost = {"operator": record["name"]}, record["costs"][record["device"]][record["mode"]]
            task = self.task_of.get(record["name"])
            if task is not None:
                own["task"] = str(task)
            more = {
                "seconds": repr(cost["seconds"]),
                "joules": repr(cost["joules"]),
                "source": cost["source"],
            }
            if record["mode"]:
                more["mode"] = record["mode"]
            known = _Shared(anchor_node(record), _properties(own), _properties(more))
            self._shared[operator] = known
        return known

    def _annotated(
        self, plain: bytes, outputs: Iterable[str], device: str, level: int, properties: bytes
    ) -> bytes:
        """Its outputs are whole on `device`: a NodeDeviceConfigurationProto, with a ShardingSpecProto of each."""
        first, last, place = self._places[device]
        parts = [framed(2, text(1, tensor) + place) for tensor in outputs if tensor]
        configuration = b"".join([self.configuration, *parts, number(3, level)])
        parts = [plain, first, properties, last, framed(CONFIGURATION, configuration)]
        return framed(NODE, b"".join(parts))


def _properties(values: Mapping[str, str]) -> bytes:
    return b"".join([_property(PREFIX + key, value) for key, value in values.items()])


def _property(key: str, value: str) -> bytes:
    """A StringStringEntryProto among the metadata of a node."""
    return framed(METADATA, _key(key) + text(2, value))


@lru_cache(maxsize=64)
def _key(key: str) -> bytes:
    return text(1, key)


def anchor_node(record: Document) -> str:
    """The node that gave the operator its name, else its last."""
    name: str = record["name"]
    return name if name in record["nodes"] else record["nodes"][-1]


def annotator(document: Document, target: Target) -> Annotator:
    """The annotator for the schedule in `document`."""
    return Annotator(
        configuration=text(1, target.name),
        operators=document["operators"],
        task_of={task["operator"]: task["id"] for task in document["tasks"] if task["kind"] == "compute"},
        _places={device.name: _place(device.name, index) for index, device in enumerate(target.devices)},
    )


def _place(device: str, index: int) -> _Place:
    return _Place(_property(PREFIX + "device", device), _property(LAYER_ANNOTATION, device), number(2, index))


def _plain(node: NodeProto) -> bytes:
    """`node` without what an earlier compilation of the same model left on it."""
    data: bytes = node.SerializeToString()
    # To look for the keys in all of the node is quicker than to look at each key.
    if node.device_configurations or _PREFIX in data or _LAYER_ANNOTATION in data:
        copy = NodeProto.FromString(data)
        copy.ClearField("device_configurations")
        _drop_own_properties(copy)
        data = copy.SerializeToString()
    return data


def annotate_model(model: ModelProto, document: Document, target: Target) -> None:
    """State target, result and tool version on `model`, and declare the devices."""
    _drop_own_properties(model)
    summary = document["summary"]
    properties = {
        "energy_joules": repr(summary["energy_joules"]),
        "latency_seconds": repr(summary["latency_seconds"]),
        "target": target.name,
        "version": __version__,
    }
    for key, value in properties.items():
        model.metadata_props.add(key=PREFIX + key, value=value)
    model.ClearField("configuration")
    names = [device.name for device in target.devices]
    model.configuration.add(name=target.name, num_devices=len(names), device=names)


def _drop_own_properties(proto: NodeProto | ModelProto) -> None:
    kept = [p for p in proto.metadata_props if not p.key.startswith(PREFIX) and p.key != LAYER_ANNOTATION]
    if len(kept) != len(proto.metadata_props):
        copies = [type(p).FromString(p.SerializeToString()) for p in kept]
        proto.ClearField("metadata_props")
        proto.metadata_props.extend(copies)
