"""What bounds an operator on a device, and what would change that: one line per cost.

Reads the record of a cost as it stands in schedule.json, so that the command line and the report say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from h4hc.bundle.store import Document
from h4hc.ir.quantity import format_quantity
from h4hc.ir.workload import Conv, Kernel, MatMul, Workload, kernel_class

WELL_FILLED = 0.6  # share of the peak above which only more or faster hardware helps
_HIDDEN_BY = ("compute", "output", "weights", "activations")


def advice(cost: Document, kernel: Kernel, device: str, target: Document) -> str:
    """One line on the cost `cost` of `kernel` on `device` of `target` (as in schedule.json)."""
    if not cost["seconds"]:
        return "a view: nothing is computed or moved"
    if not cost.get("terms"):
        return f"{cost['bound']} bound"
    description = next(item for item in target["devices"] if item["name"] == device)
    memories = {item["name"]: item for item in target["memories"]}
    activation = memories[description["memory"]]
    weight = memories[description["weights"] or description["memory"]]
    match cost["bound"]:
        case "weights":
            return _weights(cost, kernel.workload, weight)
        case "activations":
            return _activations(cost, activation)
        case "compute":
            return _compute(cost, kernel)
        case "output":
            return _output(cost)
        case "write":
            return _write(cost, weight)
        case "command":
            return "setting up the commands takes longer than running them: larger blocks would hide it"
        case bound:
            spent = _part(cost, "overhead") if bound == "overhead" else cost["seconds"]
            return (
                f"starting it takes {_time(spent)} of {_time(cost['seconds'])}: "
                "fuse it with a neighbour, or give it more to do"
            )


def _weights(cost: Document, item: Workload, memory: Mapping[str, Any]) -> str:
    spent = _part(cost, "weights")
    other, next_spent = _next(cost)
    moved = max(0.0, spent - memory["latency"]) * memory["bandwidth"]
    text = f"fetching weights from {memory['name']} at {_rate(memory['bandwidth'])} takes {_time(spent)}"
    if not next_spent:
        return text
    text += f", {other} {_time(next_spent)}"
    if next_spent > memory["latency"]:
        text += f": needs >= {_rate(moved / (next_spent - memory['latency']))}"
    rows = _rows(item)
    if other == "compute" and rows:
        needed = math.ceil(rows * spent / next_spent)
        text += f", or {needed} rows in place of {rows} to share them"
    return text


def _activations(cost: Document, memory: Mapping[str, Any]) -> str:
    spent = _part(cost, "activations")
    other, next_spent = _next(cost)
    moved = cost["details"].get("I/O bytes", spent * memory["bandwidth"])
    text = f"moving {_bytes(moved)} through {memory['name']} takes {_time(spent)}"
    if not next_spent:
        return f"{text}, and nothing else takes time: a wider port, or fusion with a neighbour, helps"
    return f"{text}, {other} {_time(next_spent)}: needs >= {_rate(moved / next_spent)}, or fusion"


def _compute(cost: Document, kernel: Kernel) -> str:
    used = cost["utilisation"]
    if not kernel.workload.macs:
        return "cycles per element decide: only a faster or wider unit helps"
    text = f"{used:.0%} of the peak is used"
    if used >= WELL_FILLED:
        return f"{text}: only more or faster multipliers help"
    if "decomposed" in cost["details"]:
        return f"{text}: a product of two run-time operands is decomposed here; a native one is what helps"
    tiles, macros = cost["details"].get("tiles"), cost["details"].get("macros")
    if tiles and macros:
        filled = cost["details"]["array utilisation"]
        rounds = -(-tiles * cost["details"].get("copies", 1) // macros)
        return f"{text}: the shape fills {filled:.0%} of its {tiles} tiles, which take {rounds} rounds of {macros} macros"
    reason = {
        "depthwise": "each output channel has one input channel, which leaves most of an array idle",
        "first convolution": "few input channels leave a part of the array idle",
    }.get(kernel_class(kernel))
    if reason is None:
        rows = _rows(kernel.workload)
        few = rows is not None and rows < 16
        reason = (
            f"{rows} row{'s'[: rows != 1]} share each load of the array"
            if few
            else "its extents fill no whole tiles of the array, or filling and draining take a part"
        )
    return f"{text}: {reason}"


def _output(cost: Document) -> str:
    spent = _part(cost, "output") or _part(cost, "compute")
    other, next_spent = _next(cost, without=("output", "compute"))
    against = f", {other} {_time(next_spent)}" if next_spent else ""
    return f"the output unit takes {_time(spent)}{against}: fewer steps per element, or more lanes, help"


def _write(cost: Document, memory: Mapping[str, Any]) -> str:
    spent, written = _part(cost, "write"), cost["details"].get("bytes written", 0)
    source = f" from {memory['name']}" if written else ""
    return (
        f"writing {_bytes(written)}{source} into the macros takes {_time(spent)} of {_time(cost['seconds'])} every "
        "frame: keeping them resident avoids it"
    )


def _next(cost: Document, without: tuple[str, ...] = ()) -> tuple[str, float]:
    """The longest of the parts that the deciding one hides, other than `without`."""
    parts = {name: _part(cost, name) for name in _HIDDEN_BY if name not in (cost["bound"], *without)}
    name = max(parts, key=lambda part: parts[part])
    return name, parts[name]


def _part(cost: Document, name: str) -> float:
    return float(cost["terms"].get(name, 0.0))


def _rows(item: Workload) -> int | None:
    """The input vectors that share each weight."""
    if isinstance(item, MatMul):
        return item.m
    return item.batch * item.out_h * item.out_w if isinstance(item, Conv) else None


def _shown(value: float, dimension: str) -> str:
    return format_quantity(float(f"{value:.3g}"), dimension)


def _time(seconds: float) -> str:
    return _shown(seconds, "time")


def _rate(bandwidth: float) -> str:
    return _shown(bandwidth, "bandwidth")


def _bytes(count: float) -> str:
    return _rate(count).removesuffix("/s")  # decimal units, beside bandwidths in the same
