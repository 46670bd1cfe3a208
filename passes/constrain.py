"""Constrain: leave out what the user rules out.

In:  graph, costs, options. Out: `Compilation.choices`, the costs that the later passes may choose from.

Rules:
1. A constraint names operators by their name, by the name of a node in them, or by a pattern with * and ?; one that
   matches nothing is an error that names the nearest operator.
2. A pin leaves one device (and one of its modes, if named); a ban takes one away. Pins are applied first, and the last
   pin that matches an operator holds.
3. An operator that is left without a device, or that its pinned device refuses, is an error that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from h4hc.errors import OptionError
from h4hc.ir.compilation import Compilation, Constraint
from h4hc.ir.cost import Cost, CostTable, Refusal
from h4hc.ir.graph import Operator

Row = Mapping[str, tuple[Cost, ...] | Refusal]


@dataclass(frozen=True, slots=True)
class Constrain:
    """Apply the pins and bans of the options."""

    name: str = "constrain"
    needs: tuple[str, ...] = ("graph", "costs")
    provides: tuple[str, ...] = ("choices",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `choices`."""
        graph, costs = compilation.graph, compilation.costs
        if graph is None or costs is None:
            raise ValueError("constrain needs graph and costs")
        constraints = compilation.options.constraints
        if not constraints:
            return replace(compilation, choices=costs)
        devices = [device.name for device in compilation.target.devices]
        for constraint in constraints:
            _check_device(constraint, devices)
        matches = [_matching(constraint, graph.operators) for constraint in constraints]
        rows = list(costs.rows)
        for wanted in (True, False):
            pinned: dict[int, Constraint] = {}
            for constraint, found in zip(constraints, matches, strict=True):
                if constraint.pin is wanted:
                    if wanted:
                        pinned |= dict.fromkeys(found, constraint)
                    else:
                        for index in found:
                            rows[index] = _banned(rows[index], constraint)
            for index, constraint in pinned.items():
                rows[index] = _pinned(graph.operators[index], rows[index], constraint)
        for operator, row in zip(graph.operators, rows, strict=True):
            if all(isinstance(entry, Refusal) for entry in row.values()):
                reasons = ", ".join(f"{n}: {e.reason}" for n, e in row.items() if isinstance(e, Refusal))
                raise OptionError(
                    f"operator '{operator.name}' is left without a device ({reasons})",
                    code="constraint",
                    hint="drop one of its constraints",
                )
        return replace(compilation, choices=CostTable(tuple(rows)))


def _check_device(constraint: Constraint, devices: Sequence[str]) -> None:
    if constraint.device not in devices:
        raise OptionError(
            f"{constraint}: the target has no device {constraint.device}",
            code="constraint",
            hint=f"choose from {', '.join(devices)}",
        )


def _matching(constraint: Constraint, operators: Sequence[Operator]) -> list[int]:
    """The operators that `constraint` is about: by exact name, else as a pattern."""
    pattern = constraint.operators
    found = [i for i, o in enumerate(operators) if pattern == o.name or pattern in o.nodes]
    if not found:
        found = [
            i for i, o in enumerate(operators) if any(fnmatchcase(n, pattern) for n in (o.name, *o.nodes))
        ]
    if found:
        return found
    from difflib import get_close_matches

    names = [operator.name for operator in operators]
    near = get_close_matches(pattern, names, n=1, cutoff=0.5)
    raise OptionError(
        f"{constraint}: no operator or node is called that",
        code="constraint",
        hint=f"did you mean {near[0]}?" if near else "h4hc compile --print-after fuse lists the operators",
    )


def _banned(row: Row, constraint: Constraint) -> Row:
    """`row` without the device of `constraint`, or without one of its modes."""
    entry = row[constraint.device]
    if isinstance(entry, Refusal):
        return row
    kept = tuple(cost for cost in entry if constraint.mode and cost.mode != constraint.mode)
    return {**row, constraint.device: kept or Refusal(f"excluded by {constraint}")}


def _pinned(operator: Operator, row: Row, constraint: Constraint) -> Row:
    """`row` with nothing but the device of `constraint`."""
    entry = row[constraint.device]
    if isinstance(entry, Refusal):
        raise OptionError(
            f"{constraint}: {constraint.device} cannot run '{operator.name}': {entry.reason}",
            code="constraint",
            hint="pin it to another device",
        )
    kept = tuple(cost for cost in entry if not constraint.mode or cost.mode == constraint.mode)
    if not kept:
        offered = ", ".join(cost.mode or "(unnamed)" for cost in entry)
        raise OptionError(
            f"{constraint}: {constraint.device} has no mode {constraint.mode} for '{operator.name}'",
            code="constraint",
            hint=f"it offers {offered}",
        )
    others = Refusal(f"excluded by {constraint}")
    return {name: kept if name == constraint.device else others for name in row}
