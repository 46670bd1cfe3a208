"""Frames in flight in the summary: what each number of them gives, and what bounds the interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from h4hc.cli.summary import si

HEADINGS = ("frames in flight", "interval", "frames/s", "latency", "above the bound", "")


def front_rows(summary: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The rows under `HEADINGS`; the chosen number of frames is marked."""
    bound, recurrence = summary["interval_bound_seconds"], summary["recurrence_bound_seconds"]
    chosen = summary["initiation_interval_seconds"], summary["latency_seconds"]
    for point in summary["front"]:
        interval, latency = point["interval_seconds"], point["latency_seconds"]
        yield (
            str(point["frames"]),
            *_rate(interval),
            si(latency, "s"),
            f"{interval / bound:.2f}x" if bound else "",
            "chosen" if (interval, latency) == chosen else "",
        )
    yield ("no less: busiest resource", *_rate(bound))
    if recurrence is not None:
        yield ("no less: longest path of a frame", *_rate(recurrence))


def _rate(interval: float) -> tuple[str, str]:
    return si(interval, "s"), si(1 / interval, "") if interval else ""


def overlap(summary: dict[str, Any]) -> str:
    """What overlap gains: a sooner result of one frame, or more frames if several are in flight."""
    time, interval = summary["time"], summary["initiation_interval_seconds"]
    if summary["frames_in_flight"] > 1:
        rate = time["layer_by_layer_seconds"] / interval
        return f" Overlap gives {rate:.2f}x the frames per second of layer by layer."
    gain = time["overlap_gain"]
    return "" if gain is None else f" Overlap makes it {gain:.2f}x faster than layer by layer."


def fetched_gain(summary: dict[str, Any]) -> tuple[float, str]:
    """The share that fetching weights ahead saves, and of what: of the time between frames, where it shortens that."""
    fetched = summary["prefetch"]
    if summary["frames_in_flight"] > 1:
        sooner = 1 - summary["initiation_interval_seconds"] / fetched["initiation_interval_seconds"]
        if sooner > 1e-9:  # at a fixed rate it stays
            return sooner, "time between frames"
    return 1 - summary["latency_seconds"] / fetched["latency_seconds"], "latency"
