"""Puts the rows of several exports into one profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from h4hc.backends.profiles.table import Measurement, Profile
from h4hc.errors import ProfileError

_SAME = ("device", "compiler", "clock", "volts", "energy")


def merged(profiles: Sequence[Profile], names: Sequence[str], mix: bool = False) -> Profile:
    """One profile of all rows, repeats replaced by their median.

    Raises ProfileError if device, compiler, clock, supply or meaning of energy differ, unless they are to be
    mixed; then both stand in the result. The clock and energy of different ones cannot be mixed.
    """
    first = profiles[0]
    device, compiler = [first.device], [first.compiler]
    for profile, name in zip(profiles[1:], names[1:], strict=True):
        for what in _SAME:
            one, other = getattr(first, what), getattr(profile, what)
            if one != other and not (mix and what in ("device", "compiler")):
                raise ProfileError(
                    f"{name}: {what} is '{other}', that of {names[0]} is '{one}'",
                    code="mixed-profiles",
                    hint="import them into a profile each"
                    + (", or mix them with --mix" if what in ("device", "compiler") else ""),
                )
        device += [profile.device] if profile.device not in device else []
        compiler += [profile.compiler] if profile.compiler not in compiler else []
    memories = {memory.name: memory for profile in profiles for memory in profile.memories}
    return replace(
        first,
        device=" + ".join(device),
        compiler=" + ".join(compiler),
        rows=without_repeats([row for profile in profiles for row in profile.rows]),
        memories=tuple(memories.values()),
        sources=tuple(dict.fromkeys(source for profile in profiles for source in profile.sources)),
    )


def without_repeats(rows: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Rows in order, those of one kernel, model, mode, placement and status replaced by their median.

    Rows of blocks and models, and rows that others refer to, stay as they are.
    """
    wanted = {row.baseline for row in rows if row.baseline}
    groups: dict[object, list[Measurement]] = {}
    for index, row in enumerate(rows):
        alone = (
            row.kernel is None or bool(row.baseline) or (row.identifier in wanted and row.identifier != "")
        )
        key = (
            index
            if alone
            else (row.kernel, row.model, row.node, row.mode, row.placement, row.status, row.overlapped_with)
        )
        groups.setdefault(key, []).append(row)
    return tuple(_median(same) for same in groups.values())


def _median(rows: list[Measurement]) -> Measurement:
    if len(rows) == 1:
        return rows[0]
    times = [row.seconds for row in rows]
    energy = [row.joules for row in rows if row.joules is not None]
    seconds = median(times)
    spread = max(abs(time - seconds) for time in times)
    noise = [row.seconds_std for row in rows if row.seconds_std is not None]
    return replace(
        rows[0],
        seconds=seconds,
        seconds_std=max([spread, *noise]),
        joules=median(energy) if energy else None,
        cycles=_median_of([row.cycles for row in rows]),
        cycles_active=_median_of([row.cycles_active for row in rows]),
        cycles_idle=_median_of([row.cycles_idle for row in rows]),
        comment=rows[0].comment or f"median of {len(rows)} rows",
    )


def _median_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if len(known) == len(values) else None
