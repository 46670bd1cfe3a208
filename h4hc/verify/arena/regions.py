"""Which bytes of its buffers each tile of a task reads and writes.

What a tile reads follows from the ONNX nodes (see h4hc.verify.reach), what it writes from the rows of the kernel. A tile
reads what no tile of its task before it has read: a kernel keeps the rows that its windows share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from h4hc.verify.needs import Need, everything
from h4hc.verify.plan import Plan

if TYPE_CHECKING:
    import numpy as np

    from h4hc.verify.arena.tables import Kernel, Tables, Task
    from h4hc.verify.document import Operator

    Array = np.ndarray[Any, Any]


class Part(NamedTuple):
    """Of each of `slabs` equal slabs of consecutive elements, the fraction from `first` up to `last` of `total`."""

    slabs: int
    first: int
    last: int
    total: int

    def of(self, image: Array) -> Array:
        """These bytes of an image, as a view."""
        if self.first == 0 and self.last == self.total:
            return image
        cut = image.reshape(self.slabs, -1)
        width = cut.shape[1]
        return cut[:, width * self.first // self.total : width * self.last // self.total]


@dataclass(frozen=True, slots=True)
class Use:
    """A buffer (its number) that a task reads or writes, and the parts by tile. `tensors` lie in it (none: weights).

    `kept`: the task writes over what it reads here, or it joins or divides in place; it may not be read again.
    """

    buffer: int
    tensors: tuple[str, ...]
    parts: tuple[tuple[Part, ...], ...]
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What a compute task does. `idle`: it moves nothing, its results lie there already."""

    operator: str
    reads: tuple[Use, ...]
    writes: tuple[Use, ...]
    idle: bool
    missing: tuple[str, ...]  # tensors that its nodes read, but no buffer of the task holds


WHOLE = Part(1, 0, 1, 1)


def work_of(plan: Plan, tables: Tables, task: Task) -> Work:
    """What the compute task `task` reads and writes."""
    kernel = tables.kernels[task.item]
    operator = plan.document.operators[task.item]
    buffers = plan.document.buffers
    reads = tables.reads(task)
    roots = {name: plan.root(name) for name in plan.external_reads[operator.name]}
    parts = {name: _read_parts(plan, operator, name, task.tiles) for name in roots}
    found = []
    held: set[str] = set()
    over = {plan.sharing.over.get(buffers[buffer].id) for buffer in tables.writes(task)}
    idle = task.id in plan.sharing.idle
    for buffer in reads:
        root = buffers[buffer].tensor if tables.buffers[buffer].tensor >= 0 else ""
        names = tuple(name for name, other in roots.items() if root and other == root)
        held.update(names)
        by_tile = tuple(tuple(part for name in names for part in parts[name][k]) for k in range(task.tiles))
        if (
            not names
        ):  # encoded weights, or a tensor that its nodes do not read: all of it, before the first tile
            by_tile = ((WHOLE,), *[()] * (task.tiles - 1))
        found.append(Use(buffer, names, by_tile, buffers[buffer].id in over or idle))
    writes = tuple(_write(plan, kernel, buffer, task.tiles) for buffer in tables.writes(task))
    missing = tuple(name for name in roots if name not in held)
    return Work(operator.name, tuple(found), writes, idle, missing)


def _read_parts(plan: Plan, operator: Operator, name: str, tiles: int) -> list[tuple[Part, ...]]:
    """Per tile, what it reads of the tensor `name` that the tiles before it have not read."""
    total = plan.elements(name)
    if tiles == 1 or total == 0:
        needs = [plan.reach(operator, operator.rows).get(name, everything(total))]
        needs += [needs[0]] * (tiles - 1)
    else:
        needs = [
            plan.reach(operator, (tile + 1) * operator.rows // tiles).get(name, everything(total))
            for tile in range(tiles)
        ]
    parts: list[tuple[Part, ...]] = []
    before: Need | None = None
    for need in needs:
        slab = total // need.prefix if need.prefix else 0
        last = min(need.elements, slab)
        if last <= 0:
            parts.append(())
            continue
        first = min(before.elements, slab) if before is not None and before.prefix == need.prefix else 0
        parts.append((Part(need.prefix, first, last, slab),) if last > first else ())
        before = need
    return parts


def _write(plan: Plan, kernel: Kernel, buffer: int, tiles: int) -> Use:
    """The rows that each tile writes; everything with the last one where the rows do not come in slabs."""
    tensor = plan.document.buffers[buffer].tensor
    elements = plan.document.tensors[tensor].elements
    slabs, rows = kernel.slabs, kernel.rows
    if tiles == 1 or slabs * rows == 0 or elements % (slabs * rows):
        parts: tuple[tuple[Part, ...], ...] = (*[()] * (tiles - 1), (WHOLE,))
    else:
        ends = [rows * k // tiles for k in range(tiles + 1)]
        parts = tuple((Part(slabs, ends[k], ends[k + 1], rows),) for k in range(tiles))
    return Use(buffer, (tensor,), parts)
