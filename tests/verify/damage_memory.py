"""Corruptions of buffers, resident weights and totals."""

from __future__ import annotations

from typing import Any

from tests.verify.damage import CORRUPTIONS, Specimen, breaks, drop_wait, home


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
    return drop_wait(specimen, "reuse")


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


@breaks("V13")
def an_operator_keeps_less_than_its_cost_says(specimen: Specimen) -> bool:
    for operator in specimen.document["operators"]:
        if operator["resident_bytes"] > 1:
            operator["resident_bytes"] -= 1
            device = next(d for d in specimen.document["devices"] if d["name"] == operator["device"])
            device["resident"] -= 1
            return True
    return False


@breaks("V21")
def an_output_is_freed_before_the_end(specimen: Specimen) -> bool:
    roots = specimen.document["roots"]
    names = {roots.get(value["name"], value["name"]) for value in specimen.document["model"]["outputs"]}
    latency = specimen.document["summary"]["latency"]
    for buffer in specimen.document["buffers"]:
        if buffer["tensor"] in names and buffer["memory"] == home(specimen) and buffer["end"] == latency:
            buffer["end"] -= 1
            return True
    return False


@breaks("V21")
def an_input_arrives_late(specimen: Specimen) -> bool:
    name = specimen.document["model"]["inputs"][0]["name"]
    held = [b for b in specimen.document["buffers"] if b["tensor"] == name and b["memory"] == home(specimen)]
    held[0]["start"] = 1
    return True


@breaks("V13")
def weights_are_resident_in_the_wrong_mode(specimen: Specimen) -> bool:
    for operator in specimen.document["operators"]:
        if operator["mode"] == "resident":
            operator["costs"][operator["device"]]["stream"] = operator["costs"][operator["device"]][
                "resident"
            ]
            operator["mode"] = "stream"
            return True
    return False


@breaks("V13")
def copies_take_the_room_of_one(specimen: Specimen) -> bool:
    return claim_copies(specimen, room=1)


def claim_copies(specimen: Specimen, room: int) -> bool:
    """Claim two copies of an operator's weights that take `room` times the bytes of one, and as long."""
    for operator in specimen.document["operators"]:
        if operator["mode"] != "resident":
            continue
        modes = operator["costs"][operator["device"]]
        modes["resident x2"] = modes["resident"] | {"resident_bytes": room * operator["resident_bytes"]}
        operator["mode"] = "resident x2"
        device = next(d for d in specimen.document["devices"] if d["name"] == operator["device"])
        more = (room - 1) * operator["resident_bytes"]
        operator["resident_bytes"] += more
        device["resident"] += more
        return True
    return False


# --- totals ------------------------------------------------------------------------------------------


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
    ("summary", "latency"), ("summary", "dynamic_energy"), ("summary", "static_energy"),
    ("summary", "energy"),
    ("summary", "latency_seconds"), ("summary", "energy_joules"), ("summary", "macs"),
    ("summary", "transfers"),
    ("summary", "transferred_bytes"), ("devices", "busy"), ("devices", "operators"), ("devices", "macs"),
    ("memories", "peak"), ("memories", "weights"), ("memories", "lower_bound"),
):  # fmt: skip
    _change(_path, "V19")


@breaks("V19")
def the_budget_is_met_although_there_is_none(specimen: Specimen) -> bool:
    specimen.document["summary"]["budget_met"] = True
    return True
