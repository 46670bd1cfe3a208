"""Corruptions of weights that are fetched before their operator starts."""

from __future__ import annotations

from typing import Any

from tests.verify.damage import Specimen, breaks

Document = dict[str, Any]


def load_of(specimen: Specimen) -> Document | None:
    """The last fetch, if there is any."""
    return next(iter(specimen.tasks("weight_load")[::-1]), None)


def buffer_of(specimen: Specimen, task: Document) -> Document:
    return next(b for b in specimen.document["buffers"] if b["id"] in task["writes"])


def user_of(specimen: Specimen, task: Document) -> Document:
    return next(t for t in specimen.tasks("compute") if t["operator"] == task["operator"])


def stated(specimen: Specimen, task: Document) -> Document:
    operator = specimen.operator(task)
    fetch: Document = operator["costs"][operator["device"]]["prefetch"]["fetch"]
    return fetch


def without(specimen: Specimen, task: Document) -> None:
    """Take a task out of the schedule, with its buffers and all waits for it."""
    document = specimen.document
    gone = set(task["writes"])
    document["tasks"].remove(task)
    document["buffers"] = [b for b in document["buffers"] if b["id"] not in gone]
    for other in document["tasks"]:
        other["waits"] = [wait for wait in other["waits"] if wait["task"] != task["id"]]
        other["reads"] = [number for number in other["reads"] if number not in gone]
    for queue in document["queues"].values():
        if task["id"] in queue:
            queue.remove(task["id"])


@breaks("V26")
def weights_are_never_fetched(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        without(specimen, load)
    return load is not None


@breaks("V26")
def weights_are_fetched_for_an_operator_that_reads_its_own(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        operator = specimen.operator(load)
        operator["costs"][operator["device"]][""] = operator["costs"][operator["device"]]["prefetch"]
        operator["mode"] = ""
    return load is not None


@breaks("V26")
def fewer_bytes_are_fetched_than_there_are(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        load["bytes"] -= 1
        buffer_of(specimen, load)["bytes"] -= 1
        specimen.document["prefetch"]["bytes"] -= 1
    return load is not None


@breaks("V26")
def the_buffer_of_weights_is_too_small(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        buffer_of(specimen, load)["bytes"] -= 1
    return load is not None


@breaks("V26")
def a_fetch_is_faster_than_its_memory(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        stated(specimen, load)["seconds"] /= 2
        load["work"] = -(-load["work"] // 2)
    return load is not None


@breaks("V26")
def a_fetch_takes_less_time_than_its_cost(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        load["work"] -= 2
    return load is not None


@breaks("V26")
def a_fetch_costs_no_energy(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        load["energy"] = 0
    return load is not None


@breaks("V26")
def a_fetch_brings_weights_elsewhere(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        device = next(
            d
            for d in specimen.document["target"]["devices"]
            if d["name"] == specimen.operator(load)["device"]
        )
        buffer_of(specimen, load)["memory"] = device["weights"]
    return load is not None


@breaks("V26")
def a_fetch_runs_on_the_port_of_another_memory(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        queues = specimen.document["queues"]
        other = next(
            m["name"] for m in specimen.document["memories"] if f"{m['name']}.fetch" != load["resource"]
        )
        queues[load["resource"]].remove(load["id"])
        load["resource"] = f"{other}.fetch"
        queues[load["resource"]] = [load["id"]]
    return load is not None


@breaks("V26")
def an_operator_reads_the_weights_of_another(specimen: Specimen) -> bool:
    loads = specimen.tasks("weight_load")
    if len(loads) < 2:
        return False
    first, second = (user_of(specimen, load) for load in loads[:2])
    own, other = loads[0]["writes"][0], loads[1]["writes"][0]
    first["reads"] = [other if number == own else number for number in first["reads"]]
    second["reads"] = [own if number == other else number for number in second["reads"]]
    return True


@breaks("V26")
def a_fetch_shares_its_port(specimen: Specimen) -> bool:
    """Drop the waits that keep a fetch behind an operator that reads its weights at the same memory."""
    for load in specimen.tasks("weight_load"):
        queue = specimen.document["queues"][load["resource"]]
        if queue[0] == load["id"] and any(wait["reason"] == "order" for wait in load["waits"]):
            load["waits"] = [wait for wait in load["waits"] if wait["reason"] != "order"]
            return True
    return False


@breaks("V26")
def a_fetch_shares_its_port_with_another_frame(specimen: Specimen) -> bool:
    """Drop the waits that keep fetches behind the tasks of the window before."""
    found = False
    for load in specimen.tasks("weight_load"):
        kept = [wait for wait in load["waits"] if wait["reason"] != "order" or not wait["lag"]]
        found = found or len(kept) < len(load["waits"])
        load["waits"] = kept
    return found


@breaks("V26")
def an_operator_overtakes_a_fetch_at_its_port(specimen: Specimen) -> bool:
    """Let an operator that has its weights fetched read them itself, while others are fetched."""
    load = load_of(specimen)
    earlier = specimen.tasks("weight_load")[:-1]
    if load is None or not earlier:
        return False
    operator = specimen.operator(earlier[0])
    cost = operator["costs"][operator["device"]]["prefetch"]
    cost["details"][f"{load['resource'].removesuffix('.fetch')} bytes"] = 1
    user = user_of(specimen, earlier[0])
    return bool(load["start"] < user["end"] and user["start"] < load["end"])


@breaks("V26")
def the_record_of_fetches_is_wrong(specimen: Specimen) -> bool:
    if not specimen.document.get("prefetch"):
        return False
    specimen.document["prefetch"]["bytes"] += 1
    return True


@breaks("V06")
def an_operator_does_not_wait_for_its_weights(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        user = user_of(specimen, load)
        user["waits"] = [wait for wait in user["waits"] if wait["task"] != load["id"]]
    return load is not None


@breaks("V10")
def weights_lie_over_live_activations(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is None:
        return False
    mine = buffer_of(specimen, load)
    for other in specimen.document["buffers"]:
        live = other["start"] < mine["end"] and mine["start"] < other["end"]
        if live and other["memory"] == mine["memory"] and not other["weights"]:
            mine["offset"] = other["offset"]
            return True
    return False


@breaks("V10")
def weights_are_gone_before_their_operator_ends(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        buffer_of(specimen, load)["end"] -= 1
    return load is not None


@breaks("V22")
def a_fetch_is_for_an_operator_that_does_not_exist(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if load is not None:
        load["operator"] = "nobody"
    return load is not None


@breaks("V20")
def a_fetch_starts_late(specimen: Specimen) -> bool:
    load = load_of(specimen)
    if specimen.document["summary"]["frames_in_flight"] > 1:  # then tasks may run ahead of the plan
        return False
    if load is not None:
        load["start"] += 1
        load["end"] += 1
    return load is not None
