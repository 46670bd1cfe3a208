"""One corruption per invariant, to be applied to a valid bundle.

A corruption changes a `Specimen` in place and returns True, or False where it finds nothing to corrupt.
`CORRUPTIONS` lists them with the check that must catch each.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto

Document = dict[str, Any]


@dataclass
class Specimen:
    """The parts of a bundle, free to change."""

    document: Document
    partitioned: ModelProto
    index: dict[str, Any]
    parts: dict[str, ModelProto]

    def copy(self) -> Specimen:
        parts = {path: _copied(model) for path, model in self.parts.items()}
        return Specimen(
            copy.deepcopy(self.document), _copied(self.partitioned), copy.deepcopy(self.index), parts
        )

    @classmethod
    def read(cls, folder: Path) -> Specimen:
        index = json.loads((folder / "subgraphs/index.json").read_text())
        parts = {
            f"subgraphs/{entry['file']}": onnx.load(folder / "subgraphs" / entry["file"])
            for entry in index["files"]
        }
        document = json.loads((folder / "schedule.json").read_text())
        return cls(document, onnx.load(folder / "partitioned.onnx"), index, parts)

    def tasks(self, kind: str = "") -> list[Document]:
        return [task for task in self.document["tasks"] if kind in ("", task["kind"])]

    def operator(self, task: Document) -> Document:
        return next(op for op in self.document["operators"] if op["name"] == task["operator"])

    def node(self, op_type: str) -> NodeProto | None:
        return next((node for node in self.partitioned.graph.node if node.op_type == op_type), None)


def _copied(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


Corruption = Callable[[Specimen], bool]
CORRUPTIONS: list[tuple[str, str, Corruption]] = []


def breaks(code: str) -> Callable[[Corruption], Corruption]:
    def register(function: Corruption) -> Corruption:
        CORRUPTIONS.append((code, function.__name__, function))
        return function

    return register


# --- an oracle of its own: which tiles come before which -------------------------------------------------


def comes_before(document: Document, earlier: tuple[int, int], later: tuple[int, int]) -> bool:
    """Whether tile `earlier` (task, tile) has finished when tile `later` starts: a search backwards."""
    tasks = {task["id"]: task for task in document["tasks"]}
    before_in_queue = {
        b: a for ids in document["queues"].values() for a, b in zip(ids, ids[1:], strict=False)
    }
    seen, pending = set(), [later]
    while pending:
        task, tile = pending.pop()
        for tile_before in _direct(tasks, before_in_queue, task, tile):
            if tile_before == earlier:
                return True
            if tile_before not in seen:
                seen.add(tile_before)
                pending.append(tile_before)
    return False


def _direct(
    tasks: dict[int, Document], before_in_queue: dict[int, int], task: int, tile: int
) -> Iterator[tuple[int, int]]:
    if tile:
        yield task, tile - 1
    elif task in before_in_queue:
        previous = before_in_queue[task]
        yield previous, tasks[previous]["tiles"] - 1
    for wait in tasks[task]["waits"]:
        if wait["counts"][tile]:
            yield wait["task"], wait["counts"][tile] - 1


def _drop_wait(specimen: Specimen, reason: str) -> bool:
    """Drop a wait without which its first tile is no longer behind what it awaited."""
    tasks = {task["id"]: task for task in specimen.tasks()}
    for task in specimen.tasks():
        for wait in list(task["waits"]):
            if wait["reason"] != reason or not wait["counts"][0]:
                continue
            count = wait["counts"][0] if reason == "data" else tasks[wait["task"]]["tiles"]
            task["waits"].remove(wait)
            if not comes_before(specimen.document, (wait["task"], count - 1), (task["id"], 0)):
                return True
            task["waits"].append(wait)
    return False


# --- references ------------------------------------------------------------------------------------------


@breaks("V22")
def a_task_reads_a_buffer_that_does_not_exist(specimen: Specimen) -> bool:
    specimen.tasks("compute")[0]["reads"].append(99_999)
    return True


@breaks("V22")
def two_tasks_share_an_id(specimen: Specimen) -> bool:
    specimen.tasks()[1]["id"] = specimen.tasks()[0]["id"]
    return True


@breaks("V22")
def a_wait_names_no_task(specimen: Specimen) -> bool:
    task = next(t for t in specimen.tasks() if t["waits"])
    task["waits"][0]["task"] = 99_999
    return True


@breaks("V22")
def an_operator_is_on_no_device(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["device"] = "gpu"
    return True


@breaks("V22")
def a_buffer_lies_in_no_memory(specimen: Specimen) -> bool:
    specimen.document["buffers"][0]["memory"] = "attic"
    return True


@breaks("V22")
def a_task_is_of_no_kind(specimen: Specimen) -> bool:
    specimen.tasks()[0]["kind"] = "sleep"
    return True


@breaks("V22")
def a_tick_is_a_microsecond(specimen: Specimen) -> bool:
    specimen.document["tick_seconds"] = 1e-6
    return True


@breaks("V24")
def a_memory_is_larger_than_the_target_says(specimen: Specimen) -> bool:
    specimen.document["memories"][0]["capacity"] *= 2
    return True


@breaks("V24")
def a_link_is_faster_than_the_target_says(specimen: Specimen) -> bool:
    specimen.document["links"][0]["bandwidth"] *= 2
    return True


@breaks("V24")
def the_handoff_is_forgotten(specimen: Specimen) -> bool:
    specimen.document["handoff"] = 0
    return True


# --- tasks and queues --------------------------------------------------------------------------------------


@breaks("V02")
def an_operator_has_no_task(specimen: Specimen) -> bool:
    task = specimen.tasks("compute")[-1]
    specimen.document["tasks"].remove(task)
    specimen.document["queues"][task["resource"]].remove(task["id"])
    for other in specimen.tasks():
        other["waits"] = [wait for wait in other["waits"] if wait["task"] != task["id"]]
    return True


@breaks("V02")
def an_operator_runs_twice(specimen: Specimen) -> bool:
    task = copy.deepcopy(specimen.tasks("compute")[-1])
    task["id"] = 1 + max(t["id"] for t in specimen.tasks())
    specimen.document["tasks"].append(task)
    specimen.document["queues"][task["resource"]].append(task["id"])
    return True


@breaks("V02")
def a_task_has_more_tiles_than_rows(specimen: Specimen) -> bool:
    task = next(t for t in specimen.tasks("compute") if specimen.operator(t)["rows"] == 1)
    task["tiles"] = specimen.operator(task)["tiles"] = 2
    for wait in task["waits"]:
        wait["counts"] *= 2
    return True


@breaks("V02")
def a_task_runs_elsewhere_than_its_operator(specimen: Specimen) -> bool:
    devices = [device["name"] for device in specimen.document["devices"]]
    operator = specimen.document["operators"][0]
    operator["device"] = next(name for name in devices if name != operator["device"])
    return True


@breaks("V03")
def a_device_refuses_its_operator(specimen: Specimen) -> bool:
    operator = specimen.document["operators"][0]
    operator["costs"][operator["device"]] = {"refused": "cannot"}
    return True


@breaks("V03")
def an_operator_has_no_cost_in_its_mode(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["mode"] = "turbo"
    return True


@breaks("V03")
def a_task_is_faster_than_its_cost(specimen: Specimen) -> bool:
    task = max(specimen.tasks("compute"), key=lambda t: t["work"])
    task["work"] = specimen.operator(task)["work"] = task["work"] // 2
    return True


@breaks("V03")
def a_task_takes_more_energy_than_its_cost(specimen: Specimen) -> bool:
    task = specimen.tasks("compute")[0]
    task["energy"] += 1000
    specimen.operator(task)["energy"] += 1000
    return True


@breaks("V03")
def a_tile_is_launched_for_free(specimen: Specimen) -> bool:
    tiled = [t for t in specimen.tasks("compute") if t["tiles"] > 1]
    for task in tiled:
        if sum(other["resource"] == task["resource"] for other in tiled) > 1:
            cost = specimen.operator(task)["costs"][task["resource"]][specimen.operator(task)["mode"]]
            task["work"] = specimen.operator(task)["work"] = int(cost["seconds"] * 1e9) + 1
            return True
    return False


@breaks("V04")
def two_tasks_of_a_device_overlap(specimen: Specimen) -> bool:
    for ids in specimen.document["queues"].values():
        tasks = [t for number in ids for t in specimen.tasks() if t["id"] == number]
        for before, after in zip(tasks, tasks[1:], strict=False):
            if before["end"] - before["start"] > 10 and after["work"] > 10:
                shift = after["start"] - (before["end"] - 5)
                after["start"] -= shift
                after["end"] -= shift
                return True
    return False


@breaks("V05")
def two_tasks_change_places_in_a_queue(specimen: Specimen) -> bool:
    tasks = {task["id"]: task for task in specimen.tasks()}
    for ids in specimen.document["queues"].values():
        for place in range(len(ids) - 1):
            if tasks[ids[place]]["start"] < tasks[ids[place + 1]]["start"]:
                ids[place], ids[place + 1] = ids[place + 1], ids[place]
                return True
    return False


@breaks("V05")
def a_queue_forgets_a_task(specimen: Specimen) -> bool:
    next(ids for ids in specimen.document["queues"].values() if ids).pop()
    return True


@breaks("V05")
def a_task_is_queued_on_another_resource(specimen: Specimen) -> bool:
    queues = [ids for ids in specimen.document["queues"].values() if ids]
    if len(queues) < 2:
        return False
    queues[1].append(queues[0].pop())
    return True


# --- data ----------------------------------------------------------------------------------------------------


@breaks("V06")
def a_data_wait_is_missing(specimen: Specimen) -> bool:
    return _drop_wait(specimen, "data")


@breaks("V06")
def a_tile_waits_for_one_tile_too_few(specimen: Specimen) -> bool:
    for task in specimen.tasks():
        for wait in task["waits"]:
            if wait["reason"] != "data" or task["kind"] != "transfer" or len(wait["counts"]) < 2:
                continue
            last = wait["counts"][-1]
            wait["counts"][-1] -= 1
            if not comes_before(specimen.document, (wait["task"], last - 1), (task["id"], task["tiles"] - 1)):
                return True
            wait["counts"][-1] += 1
    return False


@breaks("V06")
def the_handoff_between_devices_is_skipped(specimen: Specimen) -> bool:
    handoff = specimen.document["handoff"]
    found = False
    for task in specimen.tasks("compute"):
        for wait in task["waits"]:
            if wait["reason"] == "data" and wait["latency"] == handoff:
                wait["latency"] = 0
                found = True
    return found


@breaks("V07")
def a_tensor_is_copied_twice(specimen: Specimen) -> bool:
    task = copy.deepcopy(specimen.tasks("transfer")[-1])
    task["id"] = 1 + max(t["id"] for t in specimen.tasks())
    buffer = copy.deepcopy(next(b for b in specimen.document["buffers"] if b["id"] == task["writes"][0]))
    buffer["id"] = 1 + max(b["id"] for b in specimen.document["buffers"])
    task["writes"] = [buffer["id"]]
    specimen.document["tasks"].append(task)
    specimen.document["buffers"].append(buffer)
    specimen.document["queues"][task["resource"]].append(task["id"])
    return True


@breaks("V07")
def a_transfer_uses_a_link_that_leads_elsewhere(specimen: Specimen) -> bool:
    task = specimen.tasks("transfer")[0]
    link = task["resource"].rsplit(".", 1)[0]
    others = [entry for entry in specimen.document["links"] if entry["name"] != link]
    if not others:
        return False
    target = f"{others[0]['name']}.0"
    specimen.document["queues"][task["resource"]].remove(task["id"])
    specimen.document["queues"].setdefault(target, []).append(task["id"])
    task["resource"] = target
    return True


@breaks("V07")
def a_transfer_moves_half_of_its_tensor(specimen: Specimen) -> bool:
    task = max(specimen.tasks("transfer"), key=lambda t: t["bytes"])
    task["bytes"] //= 2
    return True


@breaks("V07")
def a_transfer_is_faster_than_its_link(specimen: Specimen) -> bool:
    task = max(specimen.tasks("transfer"), key=lambda t: t["work"])
    task["work"] -= 2
    return True


@breaks("V07")
def a_transfer_costs_no_energy(specimen: Specimen) -> bool:
    specimen.tasks("transfer")[0]["energy"] = 0
    return True


@breaks("V07")
def a_transfer_has_its_own_idea_of_chunks(specimen: Specimen) -> bool:
    task = specimen.tasks("transfer")[0]
    task["tiles"] += 1
    for wait in task["waits"]:
        wait["counts"].append(wait["counts"][-1])
    return True


@breaks("V08")
def a_stream_forgets_its_halo(specimen: Specimen) -> bool:
    for operator in specimen.document["operators"]:
        for stream in operator["streams"]:
            if stream and stream["window"] > 1 and operator["rows"] > 1:
                stream["window"] = 1
                return True
    return False


@breaks("V08")
def a_stream_forgets_its_stride(specimen: Specimen) -> bool:
    for operator in specimen.document["operators"]:
        for stream in operator["streams"]:
            if stream and stream["stride"] > 1 and operator["rows"] > 2:
                stream["stride"] = 1
                return True
    return False


@breaks("V08")
def the_second_operand_of_a_product_is_streamed(specimen: Specimen) -> bool:
    for operator in specimen.document["operators"]:
        streams = operator["streams"]
        if (
            operator["kind"] == "MatMul"
            and operator["rows"] > 1
            and len(streams) > 1
            and streams[0]
            and not streams[1]
        ):
            shape = specimen.document["tensors"][operator["inputs"][1]]["shape"]
            prefix = 1
            for extent in shape[:-2]:
                prefix *= extent
            streams[1] = {"prefix": prefix, "rows": shape[-2], "window": 1, "stride": 1, "pad": 0}
            return True
    return False


@breaks("V08")
def a_stream_pads_too_much(specimen: Specimen) -> bool:
    for operator in specimen.document["operators"]:
        for stream in operator["streams"]:
            if stream and operator["rows"] > 1:
                stream["pad"] += 1
                return True
    return False


@breaks("V08")
def an_operator_has_rows_that_do_not_divide_its_output(specimen: Specimen) -> bool:
    operator = next(op for op in specimen.document["operators"] if op["rows"] > 1)
    operator["rows"] = operator["rows"] * 1000 + 1
    return True


@breaks("V09")
def a_tensor_has_another_shape(specimen: Specimen) -> bool:
    next(t for t in specimen.document["tensors"].values() if t["shape"])["shape"][-1] += 1
    return True


@breaks("V09")
def a_tensor_has_another_type(specimen: Specimen) -> bool:
    next(iter(specimen.document["tensors"].values()))["dtype"] = "float16"
    return True


@breaks("V09")
def a_tensor_is_planned_with_half_its_bytes(specimen: Specimen) -> bool:
    next(t for t in specimen.document["tensors"].values() if t["bytes"] > 1)["bytes"] //= 2
    return True


@breaks("V09")
def a_computed_tensor_is_called_a_view(specimen: Specimen) -> bool:
    tensors, roots = specimen.document["tensors"], specimen.document["roots"]
    held = {buffer["tensor"] for buffer in specimen.document["buffers"]}
    for view, root in roots.items():
        if view in tensors:
            roots[view] = next(name for name in tensors if name in held and name != root)
            return True
    return False


@breaks("V23")
def a_task_does_not_read_an_input(specimen: Specimen) -> bool:
    next(t for t in specimen.tasks("compute") if t["reads"])["reads"].pop()
    return True


@breaks("V23")
def a_task_does_not_write_its_output(specimen: Specimen) -> bool:
    next(t for t in specimen.tasks("compute") if t["writes"])["writes"].pop()
    return True


@breaks("V23")
def a_task_reads_a_copy_in_another_memory(specimen: Specimen) -> bool:
    buffers = {b["id"]: b for b in specimen.document["buffers"]}
    for task in specimen.tasks("compute"):
        for place, number in enumerate(task["reads"]):
            for other in buffers.values():
                here = buffers[number]
                if other["tensor"] == here["tensor"] and other["memory"] != here["memory"]:
                    task["reads"][place] = other["id"]
                    return True
    return False


# --- memory --------------------------------------------------------------------------------------------------


@breaks("V10")
def a_buffer_reaches_beyond_its_memory(specimen: Specimen) -> bool:
    buffer = specimen.document["buffers"][0]
    memory = next(m for m in specimen.document["memories"] if m["name"] == buffer["memory"])
    buffer["offset"] = memory["capacity"] - memory["alignment"] * (
        memory["capacity"] % memory["alignment"] == 0
    )
    buffer["offset"] -= buffer["offset"] % memory["alignment"]
    buffer["bytes"] = max(buffer["bytes"], memory["alignment"] + 1)
    return True


@breaks("V10")
def a_buffer_is_not_aligned(specimen: Specimen) -> bool:
    specimen.document["buffers"][0]["offset"] += 1
    return True


@breaks("V10")
def two_live_buffers_share_an_address(specimen: Specimen) -> bool:
    buffers = specimen.document["buffers"]
    for first in buffers:
        for second in buffers:
            live = first["start"] < second["end"] and second["start"] < first["end"]
            if first is not second and first["memory"] == second["memory"] and live:
                second["offset"] = first["offset"]
                return True
    return False


@breaks("V10")
def a_buffer_dies_before_its_last_reader(specimen: Specimen) -> bool:
    for buffer in specimen.document["buffers"]:
        readers = [t for t in specimen.tasks() if buffer["id"] in t["reads"]]
        if readers and buffer["end"] > buffer["start"]:
            buffer["end"] = max(t["end"] for t in readers) - 1
            return True
    return False


@breaks("V10")
def a_buffer_is_smaller_than_its_tensor(specimen: Specimen) -> bool:
    next(b for b in specimen.document["buffers"] if b["bytes"] > 1)["bytes"] -= 1
    return True


@breaks("V10")
def weights_and_activations_do_not_fit_together(specimen: Specimen) -> bool:
    memory = next(m for m in specimen.document["memories"] if m["peak"])
    memory["weights"] = memory["capacity"]
    return True


@breaks("V11")
def a_reuse_wait_is_missing(specimen: Specimen) -> bool:
    return _drop_wait(specimen, "reuse")


@breaks("V13")
def resident_weights_exceed_the_array(specimen: Specimen) -> bool:
    for device in specimen.document["devices"]:
        if device["resident"]:
            device["capacity"] = device["resident"] - 1
            return True
    return False


@breaks("V13")
def resident_weights_are_not_counted(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["resident_bytes"] += 64
    return True


def _home(specimen: Specimen) -> str:
    """The memory of the io device."""
    target = specimen.document["target"]
    return str(next(device["memory"] for device in target["devices"] if device["name"] == target["io"]))


@breaks("V21")
def an_output_is_freed_before_the_end(specimen: Specimen) -> bool:
    roots = specimen.document["roots"]
    names = {roots.get(value["name"], value["name"]) for value in specimen.document["model"]["outputs"]}
    latency = specimen.document["summary"]["latency"]
    for buffer in specimen.document["buffers"]:
        if buffer["tensor"] in names and buffer["memory"] == _home(specimen) and buffer["end"] == latency:
            buffer["end"] -= 1
            return True
    return False


@breaks("V21")
def an_input_arrives_late(specimen: Specimen) -> bool:
    name = specimen.document["model"]["inputs"][0]["name"]
    held = [b for b in specimen.document["buffers"] if b["tensor"] == name and b["memory"] == _home(specimen)]
    held[0]["start"] = 1
    return True


# --- waits ----------------------------------------------------------------------------------------------------


def _waiting(specimen: Specimen, tiles: int = 1) -> Document:
    return next(t for t in specimen.tasks() if t["waits"] and t["tiles"] >= tiles)


@breaks("V14")
def a_wait_has_too_few_counts(specimen: Specimen) -> bool:
    _waiting(specimen)["waits"][0]["counts"].pop()
    return True


@breaks("V14")
def a_wait_counts_more_tiles_than_there_are(specimen: Specimen) -> bool:
    _waiting(specimen)["waits"][0]["counts"][-1] = 1000
    return True


@breaks("V14")
def the_counts_of_a_wait_fall(specimen: Specimen) -> bool:
    _waiting(specimen, tiles=2)["waits"][0]["counts"][-1] = 0
    return True


@breaks("V14")
def a_count_is_negative(specimen: Specimen) -> bool:
    _waiting(specimen)["waits"][0]["counts"][0] = -1
    return True


@breaks("V14")
def a_task_waits_for_itself(specimen: Specimen) -> bool:
    task = specimen.tasks()[0]
    task["waits"].append({"task": task["id"], "counts": [1] * task["tiles"], "latency": 0, "reason": "data"})
    return True


@breaks("V15")
def two_tasks_wait_for_each_other(specimen: Specimen) -> bool:
    task = next(t for t in specimen.tasks() if t["waits"] and t["waits"][0]["counts"][0])
    awaited = next(t for t in specimen.tasks() if t["id"] == task["waits"][0]["task"])
    counts = [task["tiles"]] * awaited["tiles"]
    awaited["waits"].append({"task": task["id"], "counts": counts, "latency": 0, "reason": "reuse"})
    return True


@breaks("V20")
def the_plan_starts_a_task_late(specimen: Specimen) -> bool:
    task = max(specimen.tasks(), key=lambda t: (t["end"], t["id"]))
    task["start"] += 1
    task["end"] += 1
    return True


@breaks("V20")
def a_wait_has_more_latency_than_planned(specimen: Specimen) -> bool:
    task = max((t for t in specimen.tasks() if t["waits"]), key=lambda t: t["end"])
    for wait in task["waits"]:
        wait["latency"] += 1_000_000
    return any(wait["counts"][0] for wait in task["waits"])


@breaks("J20")
def nothing_orders_the_data_but_luck(specimen: Specimen) -> bool:
    for task in specimen.tasks():
        task["waits"] = [wait for wait in task["waits"] if wait["reason"] != "data"]
    return True


# --- totals -----------------------------------------------------------------------------------------------------


@breaks("V18")
def frames_come_faster_than_the_busiest_device(specimen: Specimen) -> bool:
    specimen.document["summary"]["initiation_interval"] = 1
    return True


@breaks("V18")
def the_frame_rate_is_not_that_of_the_interval(specimen: Specimen) -> bool:
    specimen.document["summary"]["frames_per_second"] *= 2
    return True


def _change(path: tuple[str, ...], code: str) -> None:
    """Register the corruption that adds one to the number at `path`; a list stands for its first item."""

    def corrupt(specimen: Specimen) -> bool:
        place: Any = specimen.document
        for key in path[:-1]:
            place = place[key]
            place = place[0] if isinstance(place, list) else place
        place[path[-1]] = (
            place[path[-1]] * (1 + 1e-6) if isinstance(place[path[-1]], float) else place[path[-1]] + 2
        )
        return True

    corrupt.__name__ = f"{'_'.join(path)}_is_wrong"
    CORRUPTIONS.append((code, corrupt.__name__, corrupt))


for _path in (
    ("summary", "latency"), ("summary", "dynamic_energy"), ("summary", "static_energy"), ("summary", "energy"),
    ("summary", "latency_seconds"), ("summary", "energy_joules"), ("summary", "macs"), ("summary", "transfers"),
    ("summary", "transferred_bytes"), ("devices", "busy"), ("devices", "operators"), ("devices", "macs"),
    ("memories", "peak"), ("memories", "weights"), ("memories", "lower_bound"),
):  # fmt: skip
    _change(_path, "V19")


@breaks("V19")
def the_budget_is_met_although_there_is_none(specimen: Specimen) -> bool:
    specimen.document["summary"]["budget_met"] = True
    return True


# --- models -------------------------------------------------------------------------------------------------------


@breaks("S01")
def an_output_has_another_name(specimen: Specimen) -> bool:
    specimen.document["model"]["outputs"][0]["name"] = specimen.document["model"]["inputs"][0]["name"]
    return True


@breaks("S01")
def an_input_has_another_shape(specimen: Specimen) -> bool:
    specimen.document["model"]["inputs"][0]["shape"][-1] += 1
    return True


@breaks("S02")
def a_node_belongs_to_no_operator(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["nodes"].pop()
    return True


@breaks("S02")
def a_node_belongs_to_two_operators(specimen: Specimen) -> bool:
    first, second = specimen.document["operators"][:2]
    second["nodes"].append(first["nodes"][0])
    return True


@breaks("S02")
def an_operator_hides_an_input(specimen: Specimen) -> bool:
    operator = next(op for op in specimen.document["operators"] if len(op["inputs"]) > 1)
    operator["inputs"].pop()
    operator["streams"].pop()
    return True


@breaks("S02")
def an_operator_hides_an_output(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["outputs"].clear()
    return True


@breaks("S02")
def nodes_are_not_in_order(specimen: Specimen) -> bool:
    nodes = specimen.partitioned.graph.node
    first = NodeProto()
    first.CopyFrom(nodes[0])
    del nodes[0]
    nodes.append(first)
    return True


@breaks("S03")
def an_attribute_has_changed(specimen: Specimen) -> bool:
    node = specimen.node("Conv")
    if node is None:
        return False
    next(a for a in node.attribute if a.ints).ints[0] += 1
    return True


@breaks("S03")
def an_operator_has_been_replaced(specimen: Specimen) -> bool:
    for before, after in (("Relu", "Neg"), ("Sigmoid", "Tanh"), ("Add", "Mul")):
        node = specimen.node(before)
        if node is not None:
            node.op_type = after
            return True
    return False


@breaks("S03")
def operands_are_swapped(specimen: Specimen) -> bool:
    for node in specimen.partitioned.graph.node:
        if len(node.input) == 2 and node.op_type == "MatMul":
            node.input[0], node.input[1] = node.input[1], node.input[0]
            return True
    return False


@breaks("S03")
def a_weight_has_changed(specimen: Specimen) -> bool:
    tensor = max(specimen.partitioned.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]
    return True


@breaks("S04")
def a_node_reads_past_its_transfer(specimen: Specimen) -> bool:
    nodes = specimen.partitioned.graph.node
    transfers = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Transfer"}
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in transfers and node.op_type != "Transfer":
                node.input[place] = transfers[name]
                return True
    return False


@breaks("S04")
def a_transfer_computes(specimen: Specimen) -> bool:
    function = next((f for f in specimen.partitioned.functions if f.name == "Transfer"), None)
    if function is None:
        return False
    function.node[0].op_type = "Neg"
    return True


@breaks("S04")
def a_transfer_leads_to_another_device(specimen: Specimen) -> bool:
    node = specimen.node("Transfer")
    if node is None:
        return False
    target = next(a for a in node.attribute if a.name == "dst")
    names = [device["name"] for device in specimen.document["devices"]]
    target.s = next(name for name in names if name != target.s.decode()).encode()
    return True


@breaks("S05")
def a_subgraph_lost_a_node(specimen: Specimen) -> bool:
    del next(iter(specimen.parts.values())).graph.node[-1]
    return True


@breaks("S05")
def a_subgraph_has_another_attribute(specimen: Specimen) -> bool:
    for part in specimen.parts.values():
        for node in part.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Conv" and attribute.ints:
                    attribute.ints[0] += 1
                    return True
    return False


@breaks("S05")
def subgraphs_run_in_the_wrong_order(specimen: Specimen) -> bool:
    specimen.index["files"].reverse()
    return len(specimen.index["files"]) > 1


@breaks("S05")
def a_subgraph_is_for_another_device(specimen: Specimen) -> bool:
    names = [device["name"] for device in specimen.document["devices"]]
    entry = specimen.index["files"][0]
    entry["device"] = next(name for name in names if name != entry["device"])
    return True


@breaks("S05")
def a_subgraph_is_missing(specimen: Specimen) -> bool:
    specimen.index["files"].pop()
    return True
