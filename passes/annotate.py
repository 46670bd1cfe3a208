"""Annotate: what every operator costs on every device.

In:  graph, target. Out: `Compilation.costs`.

Rules:
1. Each backend is asked once per distinct kernel; answers are kept for as long as the backends are, so a search
   that reuses them pays for a kernel once.
2. A device that cannot run a kernel gives its reason; the reason is kept.
3. A graph of more than `MAX_OPERATORS` operators, fused, is refused: it would be planned for minutes.
4. Modes that would together wear a device out too soon are left out (see `h4hc.passes.wear`).
5. An operator that no device can run is an error that names it and every device's reason. No cost is invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from h4hc.errors import ModelError
from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import CostModel, CostRow, CostTable, Refusal, Row
from h4hc.ir.graph import Graph, Operator
from h4hc.ir.workload import Kernel
from h4hc.passes.wear import lasting

MAX_OPERATORS = 30_000


@dataclass(frozen=True, slots=True)
class Annotate:
    """Cost of every operator on every device. `cache` maps a kernel to its row."""

    cache: dict[Kernel, Row]
    name: str = "annotate"
    needs: tuple[str, ...] = ("graph",)
    provides: tuple[str, ...] = ("costs",)

    def run(self, compilation: Compilation) -> Compilation:
        """Provide `costs`."""
        if compilation.graph is None:
            raise ValueError("annotate needs a graph")
        if len(compilation.graph.operators) > MAX_OPERATORS:
            raise ModelError(
                f"{compilation.source.name} has {len(compilation.graph.operators)} operators after fusion, "
                f"the limit is {MAX_OPERATORS}",
                code="too-large",
                hint="compile it in parts",
            )
        return replace(compilation, costs=cost_table(compilation.graph, compilation.backends, self.cache))


def cost_table(graph: Graph, backends: Mapping[str, CostModel], cache: dict[Kernel, Row]) -> CostTable:
    """The costs of all operators of `graph`; raises ModelError if one runs nowhere."""
    bearable = {name: backend.writes_per_frame for name, backend in backends.items()}
    rows: list[Row] = []
    for operator in graph.operators:
        row = cache.get(operator.kernel)
        if row is None:
            row = CostRow({name: backend.costs(operator.kernel) for name, backend in backends.items()})
            cache[operator.kernel] = row
        if all(isinstance(entry, Refusal) for entry in row.values()):
            raise _runs_nowhere(operator, row)
        rows.append(row)
    return CostTable(tuple(lasting(rows, bearable)))


def _runs_nowhere(operator: Operator, row: Row) -> ModelError:
    reasons = ", ".join(
        f"{name}: {entry.reason}" for name, entry in row.items() if isinstance(entry, Refusal)
    )
    return ModelError(
        f"node '{operator.name}' ({operator.kind}) runs on no device of the target ({reasons})",
        code="runs-nowhere",
        hint="choose a target with a host, or replace the operator",
    )
