"""Rates: the errors of fixed frame periods that are not kept: what is needed, what there is, which input to change."""

from __future__ import annotations

from h4hc.errors import InfeasibleError, Shortage
from h4hc.ir.compilation import Options
from h4hc.ir.schedule import TICK_SECONDS, Schedule


def too_fast(schedule: Schedule, options: Options, best: int) -> InfeasibleError:
    """The error of a fixed period that `schedule` does not keep; `best`: the least interval that was found, in ticks."""
    period = options.period_ticks
    wanted = _milliseconds(period)
    if schedule.interval_bound > period:
        return InfeasibleError(
            f"a frame every {wanted} is not reached: in the best placement found the busiest device or channel works "
            f"{_milliseconds(schedule.interval_bound)} a frame",
            code="interval",
            hint="choose a faster target or a smaller model, or move work to another device with --pin",
            shortage=_slow(schedule.interval_bound, period, ("frame rate", "target", "model")),
        )
    if best <= period:
        return InfeasibleError(
            f"a frame every {wanted} needs more memory for the frames in flight than the target has",
            code="interval",
            hint="enlarge the memories, or give their devices a spill memory",
        )
    return InfeasibleError(
        f"a frame every {wanted} is not reached with {options.window} frames in flight: "
        f"the best is {_milliseconds(best)}",
        code="interval",
        hint="allow more frames in flight with --frames",
        shortage=_slow(best, period, ("frames in flight", "frame rate")),
    )


def impossible(least: int, period: int) -> InfeasibleError:
    """The error of a period (ticks) below the work of the busiest device in any placement."""
    return InfeasibleError(
        f"a frame every {_milliseconds(period)} is not possible: in any placement the busiest device works "
        f"{_milliseconds(least)} a frame at least",
        code="interval",
        hint="choose a faster target or a smaller model",
        shortage=_slow(least, period, ("frame rate", "target", "model")),
    )


def _slow(interval: int, period: int, change: tuple[str, ...]) -> Shortage:
    return Shortage("frame period", interval * TICK_SECONDS, period * TICK_SECONDS, "s", change)


def _milliseconds(ticks: int) -> str:
    return f"{ticks * TICK_SECONDS * 1e3:g} ms"
