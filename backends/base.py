"""What a cost model of a device is, and how the one for a device of a target is found.

A backend is built once per device from the target and then asked for the cost of kernels. It
is pure: equal kernels have equal costs. A kernel that the device cannot run is refused with the
reason; a cost is never invented. Kinds that are not built in come from the entry-point group
`ENTRY_POINTS`: an entry named after the kind, pointing to a subclass of `Backend`.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from h4hc.backends.files import FOLDER, load_preset, read_target, target_path
from h4hc.backends.problems import first_problem, nearest
from h4hc.errors import TargetError
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.target import Described, Device, Target, split_sources
from h4hc.ir.workload import Kernel, Precision

ENTRY_POINTS = "h4hc.backends"
BUILT_IN = {
    "npu": "h4hc.backends.npu.backend:Npu",
    "systolic": "h4hc.backends.systolic.backend:Systolic",
    "cim": "h4hc.backends.cim.backend:Cim",
    "host": "h4hc.backends.host:Host",
}


@dataclass(frozen=True, slots=True)
class Peak:
    """The best a device can do at 8 bit x 8 bit, memory traffic aside: MACs per second, joules per MAC."""

    macs_per_second: float
    joules_per_mac: float

    @property
    def tops(self) -> float:
        """Tera-operations per second, a MAC being two operations."""
        return 2 * self.macs_per_second / 1e12

    @property
    def tops_per_watt(self) -> float:
        """Tera-operations per joule."""
        return 2 / self.joules_per_mac / 1e12


class Backend(ABC):
    """The cost model of one device.

    `parameters` are the numbers of the preset, with the target's on top. `static_watts` is the power
    that the device draws whatever it does; it is not part of the joules of a cost. `capacity_bytes` is the
    room for resident weights (0: the device is not weight-stationary). `tile_overhead_seconds` is what each
    tile of a streamed task costs beyond the first: a semaphore and the restart of the operator's pipeline.
    `writes_per_frame` is how often a frame may write a cell of the device's array without wearing it out too soon.
    """

    Parameters: ClassVar[type[Described]]
    parameters: Described

    def __init__(self, device: Device, target: Target) -> None:
        self.name = device.name
        self.kind = device.kind
        self.device = device
        self.static_watts = 0.0
        self.capacity_bytes = 0
        self.tile_overhead_seconds = 0.0
        self.writes_per_frame = math.inf
        self._prefetched: dict[Kernel, Cost | None] = {}

    @abstractmethod
    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """What `kernel` costs in each mode the device can run it in, or why it cannot."""

    def channel_granule(self, kernel: Kernel) -> int:
        """Output channels that the device computes together: a part of `kernel` should have a multiple of them."""
        return 1

    def prefetched(self, kernel: Kernel) -> Cost | None:
        """What `kernel` costs once a fetch has put its weights in the device's memory; None if that is not possible.

        Worked out once per kernel: planning, exact search and the bundle all ask.
        """
        if kernel not in self._prefetched:
            self._prefetched[kernel] = self.prefetched_cost(kernel)
        return self._prefetched[kernel]

    def prefetched_cost(self, kernel: Kernel) -> Cost | None:
        """Works out `prefetched`; most devices offer none."""
        return None

    @property
    def area_mm2(self) -> float | None:
        """Square millimetres of the device, where its model knows them."""
        return None

    @abstractmethod
    def peak(self) -> Peak:
        """The device's peak figures."""


def load_target(name_or_path: str | Path) -> Target:
    """The shipped target called `name_or_path`, or the one in the file at that path, with valid devices.

    Raises `TargetError` for a name that is unknown and for a file that cannot be read or makes no sense, with
    the first problem in it and the number of others.
    """
    path = target_path(name_or_path)
    shipped = path.parent == FOLDER / "targets"  # whose devices the tests build
    target, problems = _read(path) if shipped else check_target(path)
    if target is None or problems:
        more = len(problems) - 1
        raise TargetError(
            f"{path}: {problems[0]}",
            code="bad-target",
            hint=f"{more} more problem{'s'[: more > 1]}, listed by h4hc targets validate" if more else "",
        )
    return target


def _read(path: Path) -> tuple[Target | None, list[str]]:
    """The target in a file, with the hashes of the profiles that it names."""
    target, problems = read_target(path)
    if target is None or not any(device.profiles for device in target.devices):
        return target, problems
    from h4hc.backends.profiles.load import resolved

    try:
        return resolved(target, path.parent), problems
    except TargetError as error:
        return None, [*problems, str(error)]


def check_target(path: Path) -> tuple[Target | None, list[str]]:
    """The target in a file and what is wrong with it and its devices, one line per problem."""
    target, problems = _read(path)
    if target is None:
        return None, problems
    for index, device in enumerate(target.devices):
        try:
            load_backend(device, target)
        except TargetError as error:
            problems.append(f"devices[{index}]: {error}")
    return target, problems


def load_backends(target: Target) -> dict[str, Backend]:
    """The cost model of each device of `target`, by device name.

    Raises `TargetError` for an unknown kind or preset, for parameters that make no sense and for profiles that do
    not belong to their device.
    """
    return {device.name: load_backend(device, target) for device in target.devices}


def load_backend(device: Device, target: Target) -> Backend:
    """The cost model of one device: analytical, or measured as far as its profiles go."""
    analytical = backend_class(device.kind)(device, target)
    if not device.profiles:
        return analytical
    from h4hc.backends.profiles.load import profiled

    return profiled(analytical, device, target)


def backend_class(kind: str) -> type[Backend]:
    """The class that models devices of `kind`."""
    if kind in BUILT_IN:
        module, _, name = BUILT_IN[kind].partition(":")
        found = getattr(importlib.import_module(module), name)
    else:
        found = _third_party(kind)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise TargetError(
            f"device kind {kind}: {found!r} is not a subclass of h4hc.backends.base.Backend",
            code="bad-backend",
        )
    return found


def _third_party(kind: str) -> object:
    from importlib.metadata import entry_points

    entries = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if kind in entries:
        return entries[kind].load()
    kinds = [*BUILT_IN, *sorted(entries)]
    raise TargetError(
        f"device kind {kind} is unknown",
        code="unknown-kind",
        hint=nearest(kind, kinds, "kinds") + f"; packages add kinds through the entry points {ENTRY_POINTS}",
    )


def parameters(device: Device, model: type[Described]) -> Described:
    """The preset of `device` with its own parameters on top, validated as `model`.

    Raises `TargetError` naming the device and the parameter.
    """
    merged: dict[str, object] = {}
    sources: dict[str, str] = {}
    if device.preset is not None:
        preset = load_preset(device.preset)
        if preset.kind != device.kind:
            raise TargetError(
                f"device {device.name}: preset {preset.name} is for kind {preset.kind}, not {device.kind}",
                code="bad-preset",
            )
        merged, sources = split_sources(preset.parameters)
    overrides, override_sources = split_sources(device.parameters)
    for name in overrides:
        sources[name] = override_sources.get(name, "given by the target")
    return _validated(device, model, merged | overrides | {"sources": sources})


def _validated(device: Device, model: type[Described], values: Mapping[str, object]) -> Described:
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise TargetError(
            f"device {device.name}: parameters.{first_problem(error, model)}", code="bad-parameters"
        ) from None


def precisions(device: Device, offered: Iterable[str]) -> frozenset[Precision]:
    """The operand widths that `device` computes with: its own list, which its preset must offer."""
    known = list(offered)
    for name in device.precisions:
        if name not in known:
            raise TargetError(
                f"device {device.name}: precision {name} is not offered by its preset",
                code="bad-precision",
                hint=f"it offers {', '.join(known)}",
            )
    return frozenset(parse_precision(name) for name in device.precisions or known)


def parse_precision(name: str) -> Precision:
    """``16x8`` -> 16-bit activations, 8-bit weights."""
    activation, _, weight = name.partition("x")
    return Precision(int(activation), int(weight))


def precision_refusal(device: str, precision: Precision, offered: frozenset[Precision]) -> Refusal:
    """The refusal of an operand width."""
    names = ", ".join(f"{a}x{w}" for a, w in sorted(offered))
    wide = precision.activation_bits == 32 or precision.weight_bits == 32
    what = "32-bit" if wide else f"{precision.activation_bits}x{precision.weight_bits}-bit"
    return Refusal(f"{what} operands: {device} computes {names} bit (activation x weight)")
