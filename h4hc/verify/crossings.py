"""S04 and S06: how partitioned.onnx shows the placement: Transfer nodes and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from h4hc.verify.network import TRANSFER, Network, Node
from h4hc.verify.report import Tally

if TYPE_CHECKING:
    from h4hc.verify.plan import Plan

PREFIX = "h4hc."  # of the keys of metadata_props


def transfer_nodes(plan: Plan) -> Tally:
    """S04: what changes device goes through one Transfer, which is an Identity and says so."""
    tally = Tally()
    network = plan.network
    _expect_function(tally, network)
    devices = _devices_of_nodes(plan)
    for node in network.nodes:
        if node.is_transfer:
            _expect_transfer_node(tally, plan, node, devices)
            continue
        device = devices.get(node.index)
        if device is None:
            continue
        for tensor in dict.fromkeys(node.inputs):
            if tensor and tensor not in network.constants:
                there = _location(plan, tensor, devices)
                tally.expect(
                    there is None or there == device or (there == "" and _at_io(plan, device)),
                    f"{node.label} on {device} reads {tensor!r}, which is on {there or 'the io device'}",
                )
    for name in network.outputs:
        there = _location(plan, name, devices)
        tally.expect(
            not there or _at_io(plan, there),
            f"output {name!r} stays on {there}, outside the io device's memory",
        )
    return tally


def _expect_function(tally: Tally, network: Network) -> None:
    used = any(node.is_transfer for node in network.nodes)
    found = [f for f in network.model.functions if (f.domain, f.name) == TRANSFER]
    if used or found:
        tally.expect(len(found) == 1, f"{len(found)} functions define Transfer")
    for function in found:
        plain = (
            len(function.input) == 1
            and len(function.output) == 1
            and len(function.node) == 1
            and function.node[0].op_type == "Identity"
            and function.node[0].domain in ("", "ai.onnx")
            and list(function.node[0].input) == list(function.input)
            and list(function.node[0].output) == list(function.output)
        )
        tally.expect(plain, "the function Transfer is not a plain Identity")
    others = sorted(f"{f.domain}.{f.name}" for f in network.model.functions if (f.domain, f.name) != TRANSFER)
    tally.expect(not others, f"partitioned.onnx defines other functions: {others[:3]}")


def _devices_of_nodes(plan: Plan) -> Mapping[int, str]:
    return {index: plan.operators[name].device for index, name in plan.owner.items()}


def _location(plan: Plan, tensor: str, devices: Mapping[int, str]) -> str | None:
    """The device that holds `tensor`: "" for a graph input, None if not known or constant."""
    network = plan.network
    if tensor in network.inputs:
        return ""
    node = network.producers.get(tensor)
    if node is None:
        return None
    if node.is_transfer:
        return node.text("dst") or "nowhere"
    return devices.get(node.index)


def _at_io(plan: Plan, device: str) -> bool:
    """Whether `device` works in the memory of the io device."""
    known = plan.devices.get(device)
    return known is not None and known.memory == plan.io_memory


def _expect_transfer_node(tally: Tally, plan: Plan, node: Node, devices: Mapping[int, str]) -> None:
    if not tally.expect(len(node.inputs) == 1 == len(node.outputs), f"{node.label} is not unary"):
        return
    there = _location(plan, node.inputs[0], devices)
    source, target = node.text("src"), node.text("dst")
    known = plan.devices
    tally.expect(
        source in known and target in known, f"{node.label} names unknown devices {source!r}, {target!r}"
    )
    at_source = there == source or (there == "" and _at_io(plan, source)) or there is None
    tally.expect(
        at_source, f"{node.label} leaves {source!r}, but its tensor is on {there or 'the io device'}"
    )
    tally.expect(source != target, f"{node.label} stays on {source!r}")
    if source in known and target in known:
        _expect_labels(tally, plan, node, known[source].memory, known[target].memory)


def _expect_labels(tally: Tally, plan: Plan, node: Node, source: str, target: str) -> None:
    """The attributes of a Transfer name its tensor and bytes, and say if a task copies it."""
    read = plan.stated(plan.network.source(node.outputs[0]))
    root = plan.document.root(read)
    tensor = plan.document.tensors.get(read)
    size = tensor.bytes if tensor else None
    copied = source != target and (root, target) in plan.copies
    stated = tuple(node.attribute(name) for name in ("tensor", "bytes", "copy"))
    tally.expect(
        stated == (root, size, int(copied)),
        f"{node.label} states tensor, bytes and copy {stated}, the schedule says {(root, size, int(copied))}",
    )
    tally.expect(copied or source == target, f"{node.label}: no transfer task copies {root!r} to {target}")


def annotated(plan: Plan) -> Tally:
    """S06: where partitioned.onnx names operator and device of a node, it names those of the schedule."""
    tally = Tally()
    names = {c.name: tuple(c.device) for c in plan.network.model.configuration}
    for node in plan.network.nodes:
        owner = plan.owner.get(node.index)
        if owner is None:
            continue
        device = plan.operators[owner].device
        stated = {entry.key: entry.value for entry in node.proto.metadata_props}
        for key, expected in ((f"{PREFIX}operator", owner), (f"{PREFIX}device", device)):
            if key in stated:
                tally.expect(
                    stated[key] == expected, f"{node.label} states {key} {stated[key]!r}, not {expected!r}"
                )
        for configuration in node.proto.device_configurations:
            known = names.get(configuration.configuration_id, ())
            indices = {index for spec in configuration.sharding_spec for index in spec.device}
            there = {known[index] if 0 <= index < len(known) else str(index) for index in indices}
            tally.expect(
                there <= {device}, f"{node.label} is annotated with devices {sorted(there)}, not {device}"
            )
    return tally
