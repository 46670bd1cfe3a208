"""What rows of whole models say, with no operator of them known: a bandwidth, or the power of a device.

Two models that differ in a known number of weight bytes differ in time by a fixed part and those bytes over
the bandwidth they come at. The mean power of a device is its idle power and an energy per MAC times its MAC rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from h4hc.backends.profiles.table import Measurement, Profile, by_identifier, macs_of
from h4hc.errors import ProfileError


class Fitted(NamedTuple):
    """One row beside what the fit says of it, in seconds or joules."""

    name: str
    measured: float
    fitted: float


@dataclass(frozen=True, slots=True)
class Increment:
    """More weights: `fixed` seconds and a `bandwidth` in bytes per second, from pairs of rows."""

    fixed: float
    bandwidth: float
    rows: tuple[Fitted, ...] = ()


@dataclass(frozen=True, slots=True)
class Power:
    """`idle` watts and `per_mac` joules, everything that a MAC causes included."""

    idle: float
    per_mac: float
    rows: tuple[Fitted, ...] = ()


def fit_increment(profile: Profile) -> Increment | None:
    """The bandwidth of weights from rows that name a `baseline`; None if fewer than two do.

    Raises ProfileError where more bytes take no more time.
    """
    known = by_identifier(profile.rows)
    pairs = [(row, known[row.baseline]) for row in profile.rows if row.baseline and row.status == "ok"]
    steps = [_step(row, base) for row, base in pairs if base.status == "ok"]
    if len({bytes_ for bytes_, _, _ in steps}) < 2:
        return None
    import numpy as np

    from h4hc.backends.profiles.fit import line

    fixed, slope = line(np.array([b for b, _, _ in steps]), np.array([t for _, t, _ in steps]))
    if slope <= 0:
        raise ProfileError(
            f"profile of {profile.device}: rows with more weight bytes than their baseline take no more time",
            code="bad-calibration",
            hint="check weight_bytes and baseline",
        )
    rows = tuple(Fitted(name, seconds, fixed + slope * size) for size, seconds, name in steps)
    return Increment(fixed, 1 / slope, rows)


def _step(row: Measurement, base: Measurement) -> tuple[float, float, str]:
    """Bytes and seconds by which a row exceeds its baseline, and its name."""
    if row.weight_bytes is None or base.weight_bytes is None:
        raise ProfileError(
            f"line {row.line}: a row with a baseline needs weight_bytes, and so does its baseline",
            code="bad-calibration",
        )
    return (
        float(row.weight_bytes - base.weight_bytes),
        row.seconds - base.seconds,
        row.model or f"line {row.line}",
    )


def fit_power(profile: Profile) -> Power | None:
    """Idle power and energy per MAC from rows of whole models with energy and MACs; None if fewer than two."""
    rows = [
        (row, macs)
        for row in profile.rows
        if row.granularity == "model" and row.status == "ok" and row.joules and (macs := macs_of(row))
    ]
    if len({macs / row.seconds for row, macs in rows}) < 2 or profile.energy != "total":
        return None
    import numpy as np

    from h4hc.backends.profiles.fit import line

    rates = np.array([macs / row.seconds for row, macs in rows])
    watts = np.array([(row.joules or 0.0) / row.seconds for row, _ in rows])
    idle, per_mac = line(rates, watts)
    fitted = tuple(
        Fitted(row.model or f"line {row.line}", row.joules or 0.0, idle * row.seconds + per_mac * macs)
        for row, macs in rows
    )
    return Power(idle, per_mac, fitted)
