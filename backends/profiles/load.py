"""Finds the profiles that a target names, and builds the cost model of a device that has some."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.backends.profiles.book import Book, Entry, entries_of
from h4hc.backends.profiles.calibration import Calibration, Whole, calibrate
from h4hc.backends.profiles.model import Profiled
from h4hc.backends.profiles.reader import check_row_peak, read_bytes
from h4hc.backends.profiles.sums import fit_increment, fit_power
from h4hc.backends.profiles.table import Profile, cached_profile
from h4hc.errors import ProfileError, TargetError
from h4hc.ir.target import Device, ProfileReference, Target
from h4hc.ir.workload import Kernel

if TYPE_CHECKING:
    from h4hc.backends.base import Backend

_CLOCK_CHANGE = 1e-3  # relative; below, a clock is the same


@dataclass(frozen=True, slots=True)
class Source:
    """A profile as a file: its name for people, its SHA-256 and what it holds."""

    name: str
    sha256: str
    profile: Profile


def without_profiles(path: Path) -> Target:
    """The target in a file as if its devices had no profiles, whether these can be read or not."""
    from h4hc.backends.files import read_target

    target, problems = read_target(path)
    if target is None or problems:
        raise TargetError(f"{path}: {problems[0]}", code="bad-target", hint="see h4hc targets validate")
    devices = tuple(device.model_copy(update={"profiles": ()}) for device in target.devices)
    return target.model_copy(update={"devices": devices})


def read_source(path: Path) -> Source:
    """The profile in a file."""
    data = read_bytes(path)
    return Source(path.name, hashlib.sha256(data).hexdigest(), cached_profile(data, str(path)))


def resolved(target: Target, folder: Path) -> Target:
    """`target` with the hash of every profile it names, found relative to `folder`.

    Raises ProfileError if one cannot be read.
    """
    if not any(device.profiles for device in target.devices):
        return target
    devices = tuple(
        device.model_copy(update={"profiles": tuple(_resolved(r, folder) for r in device.profiles)})
        if device.profiles
        else device
        for device in target.devices
    )
    return target.model_copy(update={"devices": devices})


def _resolved(reference: ProfileReference, folder: Path) -> ProfileReference:
    digest = hashlib.sha256(read_bytes(folder / reference.path)).hexdigest()
    if reference.sha256 and reference.sha256 != digest:
        raise ProfileError(
            f"{folder / reference.path}: its contents are not those that the target names",
            code="changed-profile",
            hint="correct sha256, or leave it out",
        )
    return reference.found(digest, folder)


def profiled(base: Backend, device: Device, target: Target) -> Profiled:
    """The cost model of a device that names profiles, on top of its analytical model `base`."""
    sources, stored = _read(device)
    book = book_of(sources, base, target)
    if stored is not None:
        _check_calibration(stored, sources, base, device)
        book.slowest = stored.slowest  # else it would be found from all rows again
        return Profiled(base, book, stored)
    return Profiled(base, book, lambda: calibration_of(sources, book, base, thorough=False))


def book_of(sources: list[Source], base: Backend, target: Target, keep_fallbacks: bool = False) -> Book:
    """All rows of the profiles that are about the device of `base`."""
    _check_same_device(sources)
    peak = base.peak().macs_per_second
    entries: dict[Any, list[Entry]] = {}
    refused: dict[Kernel, str] = {}
    unused: dict[str, int] = {}
    for source in sources:
        model = twin(base, target, source.profile)
        clock = model.peak().macs_per_second if model is not base else peak
        for row in source.profile.rows:
            check_row_peak(row, clock, source.name)
        found, not_run, left = entries_of(source.profile, source.name, model, _places(base, target))
        for entry in found:
            entries.setdefault(entry.key, []).append(entry)
        refused = not_run | refused
        for reason, count in left.items():
            unused[reason] = unused.get(reason, 0) + count
    chosen = [_newest(same) for same in entries.values()]
    return Book(chosen, refused, unused, keep_fallbacks)


def calibration_of(
    sources: list[Source], book: Book, base: Backend, wholes: Sequence[Whole] = (), thorough: bool = True
) -> Calibration:
    """The calibration of `base` that the profiles give; `wholes` are blocks and models of known operators."""
    increments = [found for source in sources if (found := fit_increment(source.profile)) is not None]
    powers = [rate for source in sources if (rate := fit_power(source.profile)) is not None]
    increment = increments[0] if increments else None
    power = powers[0] if powers else None
    shape, factors, classes, networks = calibrate(book, base, increment, wholes, thorough)
    first = sources[0].profile
    return Calibration(
        device=first.device,
        compiler=first.compiler,
        base=fingerprint(base),
        shape=shape,
        factors=factors,
        classes=classes,
        networks=networks,
        increment=increment,
        power=power,
        files=tuple((source.name, source.sha256) for source in sources),
        slowest=book.slowest,
    )


def fingerprint(base: Backend) -> str:
    """Identifies an analytical model: what its device and memories are, under the numbers of its preset."""
    device = base.device.model_dump(mode="json", exclude={"profiles", "sources", "name"})
    parameters = base.parameters.model_dump(mode="json", exclude={"sources"})
    memories = [
        memory.model_dump(mode="json", exclude={"sources", "name"})
        for memory in (getattr(base, "activations", None), getattr(base, "weights", None))
        if memory is not None
    ]
    text = json.dumps([device, parameters, memories], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def twin(base: Backend, target: Target, profile: Profile) -> Backend:
    """The analytical model at the clock and supply of a profile: ratios are taken to it and applied to `base`."""
    changes: dict[str, str] = {}
    own = getattr(base.parameters, "clock", None)
    if own and profile.clock and abs(profile.clock / own - 1) > _CLOCK_CHANGE:
        changes["clock"] = f"{profile.clock:.12g} Hz"
    nominal = getattr(base.parameters, "nominal_voltage", None)
    supply = getattr(base.parameters, "voltage", None) or nominal
    if supply and profile.volts and abs(profile.volts / supply - 1) > _CLOCK_CHANGE:
        changes["voltage"] = f"{profile.volts:.12g} V"
    if not changes:
        return base
    device = base.device.model_copy(
        update={"parameters": {**base.device.parameters, **changes}, "profiles": ()}
    )
    try:
        return type(base)(device, target)
    except TargetError as error:
        raise ProfileError(
            f"device {device.name}: its model does not run at the clock of the profile: {error}",
            code="bad-profile",
        ) from None


def _read(device: Device) -> tuple[list[Source], Calibration | None]:
    """The profiles of a device, and its calibration if one of the files is one."""
    from h4hc.backends.profiles.stored import is_calibration, parse_calibration

    sources: list[Source] = []
    stored: Calibration | None = None
    for reference in device.profiles:
        name, data = reference.name, _contents(device, reference)
        digest = hashlib.sha256(data).hexdigest()
        if not is_calibration(data):
            sources.append(Source(name, digest, cached_profile(data, str(reference.location))))
        elif stored is not None:
            raise ProfileError(
                f"device {device.name}: {name} is its second calibration; name one", code="two-calibrations"
            )
        else:
            stored = parse_calibration(data, str(reference.location))
    return sources, stored


def _contents(device: Device, reference: ProfileReference) -> bytes:
    data = read_bytes(reference.location)
    if reference.sha256 and hashlib.sha256(data).hexdigest() != reference.sha256:
        raise ProfileError(
            f"device {device.name}: {reference.location} has changed since the target was read",
            code="changed-profile",
            hint="read the target again",
        )
    return data


def _check_same_device(sources: list[Source]) -> None:
    for source in sources[1:]:
        first = sources[0]
        for what in ("device", "compiler"):
            one, other = getattr(first.profile, what), getattr(source.profile, what)
            if one != other:
                raise ProfileError(
                    f"{source.name} is of {what} '{other}', {first.name} of '{one}'",
                    code="mixed-profiles",
                    hint="a device takes profiles of one device and compiler version; merge others with"
                    " h4hc profile import --mix if they are comparable",
                )


def _check_calibration(stored: Calibration, sources: list[Source], base: Backend, device: Device) -> None:
    if stored.base != fingerprint(base):
        raise ProfileError(
            f"device {device.name}: its calibration was fitted to another description of the device",
            code="stale-calibration",
            hint="run h4hc profile calibrate again, or name the profile alone",
        )
    known = dict(stored.files)
    for source in sources:
        if known.get(source.name) != source.sha256:
            raise ProfileError(
                f"device {device.name}: its calibration was not fitted to {source.name} as it is now",
                code="stale-calibration",
                hint="run h4hc profile calibrate again",
            )


def _places(base: Backend, target: Target) -> tuple[frozenset[str], frozenset[str]]:
    """Names by which rows may call the memories of the device: their names and kinds."""
    device = base.device
    activations = target.memory(device.memory)
    weights = target.memory(device.weights or device.memory)
    return (
        frozenset({activations.name.lower(), activations.kind}),
        frozenset({weights.name.lower(), weights.kind}),
    )


def _newest(same: list[Entry]) -> Entry:
    """Of entries of one kernel in several profiles, that of the profile named last."""
    return same[-1]
