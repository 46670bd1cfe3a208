"""Frames in flight in the summary: what each number of them gives, and what bounds the interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from h4hc.cli.layout import Column, Fit, table
from h4hc.cli.units import si, times

_COLUMNS = (
    Column("frames in flight", Fit.NAME),
    Column("interval"),
    Column("frames/s", spare=True),
    Column("latency"),
    Column("above bound", spare=True),
    Column("", Fit.TEXT),
)


def front_table(summary: dict[str, Any], width: int) -> str:
    """The intervals and latencies that were found, and what no interval is below; the chosen one is marked."""
    return table(_COLUMNS, [*_points(summary), *_bounds(summary)], width)


def _points(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for every point of the front that reads unlike the others."""
    bound = summary["interval_bound_seconds"]
    chosen = summary["initiation_interval_seconds"], summary["latency_seconds"]
    rows: dict[tuple[str, ...], tuple[str, ...]] = {}
    for point in summary["front"]:
        interval, latency = point["interval_seconds"], point["latency_seconds"]
        numbers = (*_rate(interval), si(latency, "s"), times(interval / bound if bound else None))
        mark = "chosen" if (interval, latency) == chosen else ""
        if mark or numbers not in rows:
            rows[numbers] = (str(point["frames"]), *numbers, mark)
    return list(rows.values())


def _bounds(summary: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("least by busiest resource", *_rate(summary["interval_bound_seconds"]))
    if summary["recurrence_bound_seconds"] is not None:
        yield ("least by longest path", *_rate(summary["recurrence_bound_seconds"]))


def _rate(interval: float) -> tuple[str, str]:
    return si(interval, "s"), si(1 / interval, "") if interval else ""


def overlap(summary: dict[str, Any]) -> list[str]:
    """What overlap gains, if anything: a sooner result of one frame, or more frames if several are in flight."""
    time, interval = summary["time"], summary["initiation_interval_seconds"]
    if summary["frames_in_flight"] > 1:
        rate = times(time["layer_by_layer_seconds"] / interval)
        return [f"Overlap gives {rate} the frames per second of layer by layer."]
    gain = times(time["overlap_gain"])
    return [] if gain in ("", "1.00x") else [f"Overlap makes it {gain} faster than layer by layer."]


def sooner(summary: dict[str, Any]) -> dict[str, float]:
    """The share that fetching weights ahead saves of the time between frames, where it shortens that, else of latency."""
    fetched = summary["prefetch"]
    if summary["frames_in_flight"] > 1:
        saved = 1 - summary["initiation_interval_seconds"] / fetched["initiation_interval_seconds"]
        if saved > 1e-9:  # at a fixed rate it stays
            return {"time between frames": saved}
    return {"latency": 1 - summary["latency_seconds"] / fetched["latency_seconds"]}
