"""What a schedule amounts to, as plain data: what `--json` prints, and what the words for people are made of.

Reads the document of schedule.json alone, so a fresh compilation and an old bundle look the same.
"""

from __future__ import annotations

from typing import Any

from h4hc.bundle.bottlenecks import bottlenecks
from h4hc.bundle.recurrence import recurrence_bound

MOST_EXPENSIVE = 5


def summary_json(document: dict[str, Any]) -> dict[str, Any]:
    """The summary as plain data: seconds, joules, bytes, hertz; shares and ratios as fractions of one."""
    summary, tick = document["summary"], document["tick_seconds"]
    latency, energy = summary["latency_seconds"], summary["energy_joules"]
    recurrence = recurrence_bound(document)
    transfers = [task for task in document["tasks"] if task["kind"] == "transfer"]
    return {
        "model": document["model"]["name"],
        "target": document["target"]["name"],
        "objective": document["options"]["objective"],
        "budget_seconds": document["options"]["budget_seconds"],
        "budget_met": summary["budget_met"],
        "latency_seconds": latency,
        "frames_per_second": summary["frames_per_second"],
        "initiation_interval_seconds": summary["initiation_interval"] * tick,
        "interval_bound_seconds": summary["interval_bound"] * tick,
        "recurrence_bound_seconds": None if recurrence is None else recurrence * tick,
        "frames_in_flight": summary["frames_in_flight"],
        "front": [
            {
                "frames": point["frames"],
                "interval_seconds": point["interval"] * tick,
                "latency_seconds": point["latency"] * tick,
            }
            for point in summary["front"]
        ],
        "energy_joules": energy,
        "claims": [_claim(claim, tick) for claim in document.get("claims", [])],
        "splitting": document.get("splitting"),
        "prefetch": document.get("prefetch"),
        "macs": summary["macs"],
        "baselines": [
            {
                "name": baseline["name"],
                "latency_seconds": baseline["latency_seconds"],
                "frames_per_second": _ratio(
                    1.0, baseline.get("initiation_interval_seconds", baseline["latency_seconds"])
                )
                or 0.0,
                "energy_joules": baseline["energy_joules"],
                "latency_ratio": _ratio(baseline["latency_seconds"], latency),
                "energy_ratio": _ratio(baseline["energy_joules"], energy),
            }
            for baseline in summary["baselines"]
        ],
        "devices": [
            {
                "name": device["name"],
                "operators": device["operators"],
                "macs": device["macs"],
                "busy_seconds": device["busy"] * tick,
                "busy_share": _ratio(device["busy"], summary["initiation_interval"]) or 0.0,
                "resident_bytes": device["resident"],
                "resident_capacity": device["capacity"],
            }
            for device in document["devices"]
        ],
        "transfers": {
            "count": summary["transfers"],
            "bytes": summary["transferred_bytes"],
            "seconds": sum(task["work"] for task in transfers) * tick,
        },
        "memories": [
            {key: memory[key] for key in ("name", "capacity", "weights", "peak", "lower_bound")}
            for memory in document["memories"]
        ],
        "time": _time(document),
        "most_expensive": [
            {
                "name": operator["name"],
                "kind": operator["kind"],
                "device": operator["device"],
                "seconds": operator["work"] * tick,
                "latency_share": _ratio(operator["work"], summary["latency"]) or 0.0,
                "joules": operator["energy"] * 1e-12,
                "bound": operator["bound"],
            }
            for operator in _most_expensive(document["operators"])
        ],
    }


def _claim(claim: dict[str, Any], tick: float) -> dict[str, Any]:
    """A claim in seconds, joules or joule seconds."""
    unit = {"dynamic-energy": 1e-12, "sequential-edp": 1e-15}.get(claim["kind"], tick)
    return {**claim, "value": claim["value"] * unit}


def _time(document: dict[str, Any]) -> dict[str, Any]:
    """Critical path, idle times and the gain over running layer by layer."""
    tick, latency = document["tick_seconds"], document["summary"]["latency"]
    found = bottlenecks(document)
    names = {task["id"]: task["operator"] or task["tensor"] for task in document["tasks"]}
    resources = {task["id"]: task["resource"] for task in document["tasks"]}
    return {
        "layer_by_layer_seconds": found.layer_by_layer * tick,
        "overlap_gain": _ratio(found.layer_by_layer, latency),
        "critical_shares": {name: ticks / latency for name, ticks in found.shares.items()},
        "critical_path": [
            {
                "name": names[step.task],
                "resource": resources[step.task],
                "tiles": [step.first, step.last],
                "seconds": step.work * tick,
                "handoff_seconds": step.latency * tick,
            }
            for step in found.path
        ],
        "idle": [
            {
                "resource": entry.resource,
                "busy_seconds": entry.busy * tick,
                "idle_seconds": {cause: ticks * tick for cause, ticks in entry.causes.items()},
            }
            for entry in found.idle
        ],
    }


def _most_expensive(operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The operators that occupy their device longest; of equals the earlier one."""
    return sorted(operators, key=lambda operator: -operator["work"])[:MOST_EXPENSIVE]


def _ratio(value: float, base: float) -> float | None:
    return value / base if base else None
