"""Corruptions of waits, transfers, streams and tensors."""

from __future__ import annotations

import copy

from tests.verify.damage import Document, Specimen, breaks, comes_before, drop_wait


@breaks("V06")
def a_data_wait_is_missing(specimen: Specimen) -> bool:
    return drop_wait(specimen, "data")


@breaks("V06")
def a_chunk_is_sent_one_tile_early(specimen: Specimen) -> bool:
    return any(_wait_for_less(specimen, task) for task in specimen.tasks("transfer"))


@breaks("V06")
def a_tile_starts_one_tile_early(specimen: Specimen) -> bool:
    streaming = [
        task
        for task in specimen.tasks("compute")
        if specimen.operator(task)["kind"] in ("Conv", "MatMul", "Softmax")
        and all(specimen.operator(task)["streams"])
    ]
    return any(_wait_for_less(specimen, task) for task in streaming)


def _wait_for_less(specimen: Specimen, task: Document) -> bool:
    """Take one from one count of `task` where nothing else keeps the tile behind what it awaited."""
    for wait in task["waits"]:
        counts = wait["counts"]
        for tile in range(1, len(counts)):
            if wait["reason"] != "data" or counts[tile] == counts[tile - 1]:
                continue
            counts[tile] -= 1
            if not comes_before(specimen.document, (wait["task"], counts[tile]), (task["id"], tile)):
                return True
            counts[tile] += 1
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


# --- waits -------------------------------------------------------------------------------------------


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
    task["waits"].append(
        {"task": task["id"], "counts": [1] * task["tiles"], "latency": 0, "reason": "data", "lag": 0}
    )
    return True


@breaks("V15")
def two_tasks_wait_for_each_other(specimen: Specimen) -> bool:
    task = next(t for t in specimen.tasks() if t["waits"] and t["waits"][0]["counts"][0])
    awaited = next(t for t in specimen.tasks() if t["id"] == task["waits"][0]["task"])
    counts = [task["tiles"]] * awaited["tiles"]
    awaited["waits"].append({"task": task["id"], "counts": counts, "latency": 0, "reason": "reuse", "lag": 0})
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
