"""The text of `h4hc report --measured`: plan against measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.cli.layout import Column, Fit, echo, table, terminal_width
from h4hc.cli.units import si
from h4hc.errors import one_line

if TYPE_CHECKING:
    from h4hc.bundle.measured import Measured

SHOWN = 10


def print_measured(measured: Measured) -> None:
    """Latency and interval, each queue, and the tasks that exceed their plan most."""
    frames = "one frame" if measured.frames == 1 else f"median of {measured.frames} frames"
    echo(f"{frames}: {_against('latency', measured.latency, measured.planned_latency)}")
    if measured.interval is not None:
        echo(_against("interval", measured.interval, measured.planned_interval))
    width = terminal_width()
    numbers = [Column("planned"), Column("measured"), Column("ratio")]
    queues = [
        (queue.queue, si(queue.planned, "s"), si(queue.measured, "s"), _ratio(queue.measured, queue.planned))
        for queue in measured.queues
    ]
    echo(table([Column("queue", Fit.TEXT), *numbers], queues, width))
    worst = [
        (
            str(task.task),
            one_line(task.name),
            task.queue,
            si(task.planned, "s"),
            si(task.measured, "s"),
            _ratio(task.measured, task.planned),
            si(task.excess, "s"),
        )
        for task in [task for task in measured.offenders if task.excess > 0][:SHOWN]
    ]
    if worst:
        headings = [
            Column("task", Fit.TEXT),
            Column("operator or tensor", Fit.NAME),
            Column("queue", Fit.TEXT),
        ]
        echo(table([*headings, *numbers, Column("excess")], worst, width))
    slower = sum(task.excess > 0 for task in measured.tasks)
    echo(f"{slower} of {len(measured.tasks)} tasks took longer than planned")


def _against(what: str, value: float, planned: float) -> str:
    return f"{what} {si(value, 's')}, planned {si(planned, 's')} ({_ratio(value, planned)})"


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.3g}x" if base else "-"
