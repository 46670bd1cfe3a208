"""What a target is made of: memories, devices and the links between memories.

A target file (YAML) holds one `Target`. Quantities are texts with a unit there and SI floats
here. Any value may be given as ``{value: 5.9 pJ/B, source: where it comes from}``; the sources
are collected in `sources`. A device names its activation memory; the numbers behind its cost
model come from its preset, changed by `parameters`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from h4hc.errors import TargetError
from h4hc.ir.quantity import Bytes, BytesPerSecond, JoulesPerByte, Seconds, SecondsOrZero

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=64)]
PrecisionName = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]?x[1-9][0-9]?$")]
TARGET_VERSION = "1.0"
MAX_PARTS = 32

_Item = TypeVar("_Item", "Memory", "Device")


class Described(BaseModel):
    """A frozen record whose values may carry their source: ``{value: ..., source: ...}``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    sources: dict[str, str] = Field(default_factory=dict, description="Where values come from, by field.")

    @model_validator(mode="before")
    @classmethod
    def _collect_sources(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        values, sources = split_sources(data)
        return values | {"sources": sources} if sources else values


def split_sources(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """`data` with every ``{value, source}`` replaced by its value, and the sources by key."""
    values: dict[str, Any] = {}
    given = data.get("sources")
    sources: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {}
    for key, item in data.items():
        if isinstance(item, Mapping) and set(item) == {"value", "source"}:
            values[key] = item["value"]
            sources[key] = item["source"]
        elif key != "sources" or not isinstance(item, Mapping):
            values[key] = item
    return values, sources


class Memory(Described):
    """A memory that holds activations or weights.

    `bandwidth` (bytes per second) and `latency` (seconds to the first byte) are those that a
    device sees at its port; `write_latency` is that of a write where it differs. Accesses shorter than `burst`
    bytes keep the port busy as long as a whole burst. `energy_per_byte` (joules) is charged for a read as for a
    write.
    """

    name: Name
    kind: Literal["sram", "dram", "flash", "nvm"]
    bytes: Bytes
    alignment: Bytes = 16
    bandwidth: BytesPerSecond
    latency: SecondsOrZero
    write_latency: SecondsOrZero | None = None
    burst: Bytes = 1
    energy_per_byte: JoulesPerByte


class ProfileReference(BaseModel):
    """A file of measured costs: its `path` as written, relative to the target's file, and the hash of its contents.

    The hash is filled in when the target is read from its file, so that what a target costs is part of what it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    _folder: str = PrivateAttr(default="")  # where this machine keeps it: no part of the description

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePath(self.path).name

    @property
    def location(self) -> Path:
        """Where the file is."""
        return Path(self._folder) / self.path

    def found(self, sha256: str, folder: Path) -> ProfileReference:
        """This reference with the hash of the file that it names in `folder`."""
        copy = self.model_copy(update={"sha256": sha256})
        copy._folder = str(folder)
        return copy


def _profile_reference(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Profiles = Annotated[
    tuple[Annotated[ProfileReference, BeforeValidator(_profile_reference, json_schema_input_type=str)], ...],
    Field(max_length=MAX_PARTS),
]


class Device(Described):
    """A queue that runs operators. `kind` chooses the cost model, `preset` its numbers.

    `memory` holds its activations, `spill` those that do not fit there, `weights` its constant
    operands. `precisions` restricts the preset's (``8x8``: activation bits x weight bits).
    `parameters` replace values of the preset. `profiles` are files of measured costs, which come before those
    of the model.
    """

    name: Name
    kind: Name
    preset: Name | None = None
    memory: Name
    spill: Name | None = None
    weights: Name | None = None
    precisions: tuple[PrecisionName, ...] = ()
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    profiles: Profiles = ()


class Link(Described):
    """A bridge with DMA channels between two memories, usable in both directions.

    A transfer takes `latency` + bytes / `bandwidth`, and `tile_overhead` seconds more for each
    further chunk; each of the `channels` runs one transfer at a time at full bandwidth.
    """

    name: Name
    memories: tuple[Name, Name]
    bandwidth: BytesPerSecond
    latency: SecondsOrZero
    tile_overhead: SecondsOrZero
    energy_per_byte: JoulesPerByte
    channels: Annotated[int, Field(ge=1, le=16, strict=True)] = 1


class Target(Described):
    """A system: what `h4hc compile --target` compiles for.

    `io` is the device in whose memory graph inputs arrive and outputs are expected; `handoff`
    the seconds from the end of a task to the start of one that waits for it on another device.
    """

    h4hc_target: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+$")]
    name: Name
    description: str = ""
    io: Name
    handoff: Seconds
    memories: Annotated[tuple[Memory, ...], Field(max_length=MAX_PARTS)]
    devices: Annotated[tuple[Device, ...], Field(max_length=MAX_PARTS)]
    links: Annotated[tuple[Link, ...], Field(max_length=MAX_PARTS)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Target:
        problems = inconsistencies(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def memory(self, name: str) -> Memory:
        """The memory called `name`."""
        return _named(self.memories, name, "memory", self.name)

    def device(self, name: str) -> Device:
        """The device called `name`."""
        return _named(self.devices, name, "device", self.name)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the host devices."""
        return tuple([device.name for device in self.devices if device.kind == "host"])

    def link_between(self, first: str, second: str) -> Link:
        """The link that joins the two memories, in either direction."""
        for link in self.links:
            if set(link.memories) == {first, second}:
                return link
        raise TargetError(
            f"target {self.name}: no link joins the memories {first} and {second}",
            code="no-link",
            hint="add one under links",
        )

    def restrict(self, device_names: Iterable[str]) -> Target:
        """This target with only the named devices and the io device, and what they use."""
        wanted = {self.device(name).name for name in device_names} | {self.io}
        devices = tuple(d for d in self.devices if d.name in wanted)
        if len(devices) == len(self.devices):
            return self
        used = {m for d in devices for m in (d.memory, d.spill, d.weights) if m is not None}
        return self.model_copy(
            update={
                "name": "+".join(d.name for d in devices if d.name != self.io) or self.io,
                "description": f"{self.name} with {', '.join(d.name for d in devices)} only",
                "devices": devices,
                "memories": tuple(m for m in self.memories if m.name in used),
                "links": tuple(link for link in self.links if used.issuperset(link.memories)),
            }
        )

    @property
    def sha256(self) -> str:
        """Hash of the description; equal descriptions hash equally whatever the file looked like."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def inconsistencies(target: Target) -> list[str]:
    """What fields contradict each other, one line ``path: problem`` each."""
    problems = _version_problems(target)
    for field in ("memories", "devices", "links"):
        problems += _duplicates(field, [item.name for item in getattr(target, field)])
    memories = {m.name for m in target.memories}
    for index, device in enumerate(target.devices):
        for field in ("memory", "spill", "weights"):
            name = getattr(device, field)
            if name is not None and name not in memories:
                problems.append(f"devices[{index}].{field}: {_unknown('memory', name, memories)}")
        if device.spill == device.memory:
            problems.append(
                f"devices[{index}].spill: is the device's own memory {device.memory}; name another"
            )
    for index, link in enumerate(target.links):
        for end, name in enumerate(link.memories):
            if name not in memories:
                problems.append(f"links[{index}].memories[{end}]: {_unknown('memory', name, memories)}")
        if link.memories[0] == link.memories[1]:
            problems.append(f"links[{index}].memories: joins {link.memories[0]} to itself")
    return problems + _io_problems(target) + _link_problems(target)


def _version_problems(target: Target) -> list[str]:
    if target.h4hc_target.partition(".")[0] == TARGET_VERSION.partition(".")[0]:
        return []
    return [f"h4hc_target: version {target.h4hc_target} is not supported; this h4hc reads {TARGET_VERSION}"]


def _io_problems(target: Target) -> list[str]:
    kinds = {d.name: d.kind for d in target.devices}
    if target.io not in kinds:
        return [f"io: {_unknown('device', target.io, kinds)}"]
    if kinds[target.io] != "host":
        return [f"io: device {target.io} is of kind {kinds[target.io]}; name one of kind host"]
    return []


def _link_problems(target: Target) -> list[str]:
    """Every two memories that devices compute in must be joined, and by one link only."""
    problems = []
    joined: dict[frozenset[str], str] = {}
    for index, link in enumerate(target.links):
        ends = frozenset(link.memories)
        if ends in joined:
            problems.append(f"links[{index}]: joins the same memories as link {joined[ends]}")
        joined[ends] = link.name
    used = list(dict.fromkeys(d.memory for d in target.devices))
    for index, first in enumerate(used):
        for second in used[index + 1 :]:
            if frozenset((first, second)) not in joined:
                problems.append(
                    f"links: none joins the memories {first} and {second}, which devices compute in"
                )
    return problems


def _duplicates(field: str, names: list[str]) -> list[str]:
    return [
        f"{field}[{index}].name: {name} is already used by {field}[{names.index(name)}]"
        for index, name in enumerate(names)
        if names.index(name) != index
    ]


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    if not names:
        return f"no {what} is called {name}; there is none at all"
    return f"no {what} is called {name}; there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"


def _named(items: tuple[_Item, ...], name: str, what: str, target: str) -> _Item:
    for item in items:
        if item.name == name:
            return item
    raise TargetError(
        f"target {target}: no {what} is called {name}",
        code=f"unknown-{what}",
        hint=f"it has {', '.join(item.name for item in items)}",
    )
