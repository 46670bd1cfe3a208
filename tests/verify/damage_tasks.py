"""Corruptions of names, tables, tasks and queues."""

from __future__ import annotations

import copy
from itertools import pairwise

from tests.verify.damage import Specimen, breaks


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


# --- tasks and queues --------------------------------------------------------------------------------


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
    overhead = {device["name"]: device["tile_overhead"] for device in specimen.document["devices"]}
    for task in specimen.tasks("compute"):
        if task["tiles"] > 1 and overhead[task["resource"]] > 1:
            task["work"] -= overhead[task["resource"]]
            specimen.operator(task)["work"] = task["work"]
            return True
    return False


@breaks("V03")
def a_device_launches_tiles_more_slowly_than_planned(specimen: Specimen) -> bool:
    tiled = {task["resource"] for task in specimen.tasks("compute") if task["tiles"] > 1}
    for device in specimen.document["devices"]:
        if device["name"] in tiled:
            device["tile_overhead"] += 2
            return True
    return False


@breaks("V04")
def two_tasks_of_a_device_overlap(specimen: Specimen) -> bool:
    for ids in specimen.document["queues"].values():
        tasks = [t for number in ids for t in specimen.tasks() if t["id"] == number]
        for before, after in pairwise(tasks):
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


@breaks("V24")
def a_device_is_not_listed(specimen: Specimen) -> bool:
    used = {operator["device"] for operator in specimen.document["operators"]}
    devices = specimen.document["devices"]
    spare = [device for device in devices if device["name"] not in used]
    for device in spare:
        devices.remove(device)
    return bool(spare)
