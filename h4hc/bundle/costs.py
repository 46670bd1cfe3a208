"""Costs as they stand in schedule.json."""

from __future__ import annotations

from collections.abc import Mapping

from h4hc.bundle.store import Document
from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Cost, CostRow, CostTable, Refusal

DIGITS = 4  # significant, of the parts of a cost
_SHORT = f"%.{DIGITS}g"


def costs_with_fetches(compilation: Compilation) -> CostTable:
    """The costs of a compilation, with those of operators whose weights are fetched before."""
    graph, costs = compilation.graph, compilation.costs
    if graph is None or costs is None:
        raise ValueError("the compilation has no costs yet")
    known: dict[int, CostRow] = {}  # by the row: equal kernels share one, or have different ones
    for operator, row in zip(graph.operators, costs.rows, strict=True):
        if id(row) not in known:
            known[id(row)] = more = CostRow(row)
            for name, entry in row.items():
                fetched = compilation.backends[name].prefetched(operator.kernel)
                if fetched is not None and not isinstance(entry, Refusal):
                    more[name] = (*entry, fetched)
    return CostTable(tuple(known[id(row)] for row in costs.rows))


def cost_records(costs: CostTable) -> list[Document]:
    """The costs of every operator by device and mode. Operators with equal kernels share a row, and its record."""
    records: dict[int, Document] = {}
    for row in costs.rows:
        if id(row) not in records:
            records[id(row)] = {name: modes_record(entry) for name, entry in row.items()}
    return [records[id(row)] for row in costs.rows]


def chosen_cost(row: Mapping[str, tuple[Cost, ...] | Refusal], operator: str, device: str, mode: str) -> Cost:
    """The cost of the device and mode that the placement chose."""
    modes = row.get(device)
    if isinstance(modes, tuple):
        for cost in modes:
            if cost.mode == mode:
                return cost
    raise ValueError(f"operator {operator} is placed on {device} in mode {mode!r}, which has no cost")


def modes_record(entry: tuple[Cost, ...] | Refusal) -> Document:
    """The cost of each mode of a device, or why it refuses."""
    if isinstance(entry, Refusal):
        return {"refused": entry.reason}
    return {cost.mode: _cost(cost) for cost in entry}


def _cost(cost: Cost) -> Document:
    """The cost, with its parts to `DIGITS` digits where they are not zero; they are for people."""
    terms = {
        "compute": cost.compute_seconds,
        "weights": cost.weight_seconds,
        "activations": cost.activation_seconds,
        "output": cost.output_seconds,
        "write": cost.write_seconds,
        "overhead": cost.overhead_seconds,
    }
    record = {
        "seconds": cost.seconds,
        "joules": cost.joules,
        "utilisation": cost.utilisation,
        "source": cost.source,
        "bound": cost.bound,
        "resident_bytes": cost.resident_bytes,
        "terms": _rounded(terms),
        "energy": _rounded(cost.energy),
        "details": _rounded(cost.details),
    }
    if cost.fetch is not None:
        fetch = cost.fetch
        record["fetch"] = {"bytes": fetch.bytes, "seconds": fetch.seconds, "joules": fetch.joules}
    return record if cost.uncertainty is None else record | {"uncertainty": cost.uncertainty}


def _rounded(parts: Mapping[str, float]) -> dict[str, float]:
    return {
        name: value if isinstance(value, int) else float(_SHORT % value)
        for name, value in parts.items()
        if value
    }
