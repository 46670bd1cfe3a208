"""What `--print-after` shows: the state of a compilation as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.ir.compilation import Compilation
from h4hc.ir.cost import Refusal
from h4hc.ir.graph import Graph, Operator
from h4hc.ir.workload import Conv, Elementwise, Generic, MatMul, Move, Reduction

if TYPE_CHECKING:
    from rich.table import Table

_PIPE_WIDTH = 180  # columns


def print_compilation(step: str, compilation: Compilation) -> None:
    """Print what pass `step` made to standard output."""
    from rich.console import Console

    table = _table(step, compilation)
    if table is not None:
        console = Console()
        # A pipe has no width of its own: give names room there.
        (console if console.is_terminal else Console(width=_PIPE_WIDTH)).print(table)


def _table(step: str, compilation: Compilation) -> Table | None:
    if compilation.schedule is not None:
        return schedule_table(compilation)
    if compilation.graph is None:
        return None
    return operator_table(step, compilation, compilation.graph)


def operator_table(title: str, compilation: Compilation, graph: Graph) -> Table:
    """One line per operator; columns appear as passes provide them."""
    from rich.markup import escape

    table = _new_table(f"after {title}: {len(graph.operators)} operators")
    for heading in ("#", "operator", "kernel", "computes", "reads", "writes", "MACs", "nodes", "streams"):
        table.add_column(
            heading, overflow="fold", justify="right" if heading in ("#", "MACs", "nodes") else "left"
        )
    costs, placement = compilation.costs, compilation.placement
    devices = [device.name for device in compilation.target.devices]
    if placement is not None:
        table.add_column("device")
        table.add_column("tiles", justify="right")
    elif costs is not None:
        for device in devices:
            table.add_column(device, justify="right", overflow="fold")
    for number, operator in enumerate(graph.operators):
        cells = [
            str(number),
            escape(operator.name),
            "+".join((operator.kind, *operator.kernel.epilogue)),
            describe(operator),
            ", ".join(_shape(graph, name) for name in operator.inputs),
            ", ".join(_shape(graph, name) for name in operator.outputs),
            str(operator.kernel.workload.macs),
            str(len(operator.nodes)),
            " ".join("full" if s is None else f"{s.window}/{s.stride}" for s in operator.streams),
        ]
        if placement is not None:
            mode = placement.modes[number]
            cells.append(placement.devices[number] + (f" ({mode})" if mode else ""))
            cells.append(str(placement.tiles[number]))
        elif costs is not None:
            row = costs.rows[number]
            for device in devices:
                entry = row[device]
                if isinstance(entry, Refusal):
                    cells.append(escape(entry.reason))
                else:
                    cells.append(" / ".join(f"{cost.seconds * 1e6:.2f} us" for cost in entry))
        table.add_row(*cells)
    return table


def schedule_table(compilation: Compilation) -> Table:
    """One line per task, in the order of start times."""
    from rich.markup import escape

    schedule = compilation.schedule
    if schedule is None:
        raise ValueError("no schedule yet")
    table = _new_table(f"schedule: {len(schedule.tasks)} tasks, {schedule.latency / 1e6:.3f} ms")
    for heading in ("task", "resource", "what", "start us", "end us", "work us", "tiles", "waits for"):
        table.add_column(
            heading, overflow="fold", justify="left" if heading in ("resource", "what") else "right"
        )
    for task in sorted(schedule.tasks, key=lambda t: (t.start, t.id)):
        table.add_row(
            str(task.id), task.resource, escape(task.operator or f"copy {task.tensor}"), f"{task.start / 1e3:.2f}",
            f"{task.end / 1e3:.2f}", f"{task.work / 1e3:.2f}", str(task.tiles),
            " ".join(f"{w.task}:{w.counts[0]}..{w.counts[-1]}" for w in task.waits),
        )  # fmt: skip
    return table


def _new_table(title: str) -> Table:
    from rich.table import Table

    return Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")


def _shape(graph: Graph, tensor: str) -> str:
    return "x".join(str(extent) for extent in graph.tensors[tensor].shape) or "scalar"


def describe(operator: Operator) -> str:
    """The workload in a few characters."""
    work = operator.kernel.workload
    match work:
        case Conv():
            groups = f" g{work.groups}" if work.groups > 1 else ""
            stride = f" s{work.stride_h}x{work.stride_w}" if (work.stride_h, work.stride_w) != (1, 1) else ""
            return f"{work.kernel_h}x{work.kernel_w}{stride}{groups} {work.in_channels}->{work.out_channels}"
        case MatMul():
            kind = "activations" if work.dynamic else "weights"
            return f"{work.batch} x [{work.m}x{work.k}][{work.k}x{work.n}] {kind}"
        case Reduction():
            window = f" {work.kernel_h}x{work.kernel_w}" if work.kernel_h * work.kernel_w > 1 else ""
            return f"{work.kind}{window} over {work.input_elements}"
        case Elementwise():
            return f"{work.kind} {work.elements}"
        case Move():
            return f"{work.kind} {work.output_elements}"
        case Generic():
            return f"{work.op_type} {work.output_elements}"
