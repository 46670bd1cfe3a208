"""JSON to `Document`: a file of the wrong shape is a `BundleError` that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from h4hc.errors import BundleError
from h4hc.verify.document import (
    Buffer,
    Device,
    Document,
    Link,
    Memory,
    ModeCost,
    Operator,
    Stream,
    Summary,
    Target,
    TargetDevice,
    TargetLink,
    TargetMemory,
    Task,
    Tensor,
    Value,
    Wait,
)

SCHEMA_MAJOR = 1
MAX_INTEGER = 2**63
MAX_TILES = 65_536  # per task
MAX_TOTAL_TILES = 4_000_000  # bounds the time and memory of a replay of a hostile file

T = TypeVar("T")
HINT = "write the bundle again with `h4hc compile`"


def parse_json(text: bytes, where: str) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no repeated keys."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise BundleError(f"{where}: nested too deeply", code="bundle-json", hint=HINT) from None
    except ValueError as error:
        raise BundleError(f"{where}: not valid JSON: {error}", code="bundle-json", hint=HINT) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {repeated!r} appears twice")
    return result


class Fields:
    """A JSON object whose members are read by type."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _wrong(where, "an object", value)
        self.members: dict[str, Any] = value
        self.where = where

    def get(self, key: str) -> Any:
        """The member `key`, which must be there."""
        if key not in self.members:
            raise BundleError(f"{self.where}: no field {key!r}", code="bundle-field", hint=HINT)
        return self.members[key]

    def place(self, key: str) -> str:
        """How messages name the member `key`."""
        return f"{self.where}.{key}"

    def text(self, key: str) -> str:
        """A string."""
        return _text(self.get(key), self.place(key))

    def optional_text(self, key: str) -> str:
        """A string, empty for null."""
        value = self.get(key)
        return "" if value is None else _text(value, self.place(key))

    def integer(self, key: str) -> int:
        """An integer of 64 bits."""
        return _integer(self.get(key), self.place(key))

    def natural(self, key: str) -> int:
        """An integer, zero or more."""
        return _natural(self.get(key), self.place(key))

    def number(self, key: str) -> float:
        """A finite number."""
        return _number(self.get(key), self.place(key))

    def positive(self, key: str) -> float:
        """A finite number above zero."""
        value = self.number(key)
        if value <= 0:
            _wrong(self.place(key), "a positive number", value)
        return value

    def optional_number(self, key: str) -> float | None:
        """A finite number, or None for null."""
        return None if self.get(key) is None else self.number(key)

    def optional_flag(self, key: str) -> bool | None:
        """A boolean, or None for null."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            _wrong(self.place(key), "true, false or null", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        return self.array(key, _text)

    def naturals(self, key: str) -> tuple[int, ...]:
        """A list of integers, zero or more."""
        return self.array(key, _natural)

    def array(self, key: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        """A list whose items `read` turns into records."""
        value, place = self.get(key), self.place(key)
        if not isinstance(value, list):
            _wrong(place, "a list", value)
        return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))

    def objects(self, key: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of objects."""
        return self.array(key, lambda value, where: read(Fields(value, where)))

    def table(self, key: str, read: Callable[[Any, str], T]) -> dict[str, T]:
        """An object used as a dictionary."""
        fields = Fields(self.get(key), self.place(key))
        return {name: read(value, f"{fields.where}[{name!r}]") for name, value in fields.members.items()}


def decode(value: Any) -> Document:
    """The parsed schedule.json as a `Document`; refuses a newer major version."""
    top = Fields(value, "schedule.json")
    version = top.text("schema_version")
    major, _, minor = version.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and version.isascii()):
        raise BundleError(
            f"schedule.json: schema_version {version!r} is not MAJOR.MINOR", code="bundle-version"
        )
    if int(major) != SCHEMA_MAJOR:
        raise BundleError(
            f"schedule.json: schema version {version}, this h4hc reads {SCHEMA_MAJOR}.x",
            code="bundle-version",
            hint="use the h4hc release that wrote it",
        )
    model = Fields(top.get("model"), "schedule.json.model")
    options = Fields(top.get("options"), "schedule.json.options")
    tasks = top.objects("tasks", _task)
    if sum(task.tiles for task in tasks) > MAX_TOTAL_TILES:
        raise BundleError(f"schedule.json.tasks: more than {MAX_TOTAL_TILES} tiles", code="bundle-limit")
    return Document(
        schema_version=version,
        model_name=model.text("name"),
        model_path=model.text("path"),
        model_sha256=model.text("sha256"),
        inputs=model.objects("inputs", _value),
        outputs=model.objects("outputs", _value),
        target=_target(Fields(top.get("target"), "schedule.json.target")),
        precision=options.text("precision"),
        budget_seconds=options.optional_number("budget_seconds"),
        tick_seconds=top.number("tick_seconds"),
        summary=_summary(Fields(top.get("summary"), "schedule.json.summary")),
        handoff=top.natural("handoff"),
        devices=top.objects("devices", _device),
        links=top.objects("links", _link),
        memories=top.objects("memories", _memory),
        operators=top.objects("operators", _operator),
        roots=top.table("roots", _text),
        tensors=top.table("tensors", _tensor),
        buffers=top.objects("buffers", _buffer),
        tasks=tasks,
        queues=top.table("queues", _naturals),
    )


def _target(fields: Fields) -> Target:
    memories = fields.objects("memories", lambda memory: (memory.text("name"), _target_memory(memory)))
    devices = fields.objects("devices", lambda device: (device.text("name"), _target_device(device)))
    links = fields.objects("links", lambda link: (link.text("name"), _target_link(link)))
    return Target(fields.text("io"), fields.number("handoff"), dict(memories), dict(devices), dict(links))


def _target_memory(fields: Fields) -> TargetMemory:
    return TargetMemory(
        bytes=fields.natural("bytes"),
        alignment=fields.natural("alignment"),
        bandwidth=fields.positive("bandwidth"),
        energy_per_byte=fields.number("energy_per_byte"),
    )


def _target_device(fields: Fields) -> TargetDevice:
    return TargetDevice(
        kind=fields.text("kind"),
        memory=fields.text("memory"),
        spill=fields.optional_text("spill"),
        weights=fields.optional_text("weights"),
    )


def _target_link(fields: Fields) -> TargetLink:
    return TargetLink(
        memories=fields.texts("memories"),
        channels=fields.natural("channels"),
        bandwidth=fields.positive("bandwidth"),
        latency=fields.number("latency"),
        tile_overhead=fields.number("tile_overhead"),
        energy_per_byte=fields.number("energy_per_byte"),
    )


def _value(fields: Fields) -> Value:
    return Value(fields.text("name"), fields.naturals("shape"), fields.text("dtype"))


def _summary(fields: Fields) -> Summary:
    return Summary(
        latency=fields.natural("latency"),
        initiation_interval=fields.natural("initiation_interval"),
        energy=fields.natural("energy"),
        dynamic_energy=fields.natural("dynamic_energy"),
        static_energy=fields.natural("static_energy"),
        latency_seconds=fields.number("latency_seconds"),
        energy_joules=fields.number("energy_joules"),
        frames_per_second=fields.number("frames_per_second"),
        macs=fields.natural("macs"),
        transfers=fields.natural("transfers"),
        transferred_bytes=fields.natural("transferred_bytes"),
        budget_met=fields.optional_flag("budget_met"),
    )


def _device(fields: Fields) -> Device:
    return Device(
        name=fields.text("name"),
        kind=fields.text("kind"),
        memory=fields.text("memory"),
        spill=fields.optional_text("spill"),
        static_watts=fields.number("static_watts"),
        capacity=fields.natural("capacity"),
        resident=fields.natural("resident"),
        busy=fields.natural("busy"),
        operators=fields.natural("operators"),
        macs=fields.natural("macs"),
    )


def _link(fields: Fields) -> Link:
    memories = fields.texts("memories")
    if len(memories) != 2:
        _wrong(fields.place("memories"), "two memory names", list(memories))
    return Link(
        name=fields.text("name"),
        memories=(memories[0], memories[1]),
        channels=fields.natural("channels"),
        latency=fields.natural("latency"),
        tile_overhead=fields.natural("tile_overhead"),
        bandwidth=fields.positive("bandwidth"),
        energy_per_byte=fields.number("energy_per_byte"),
    )


def _memory(fields: Fields) -> Memory:
    return Memory(
        name=fields.text("name"),
        capacity=fields.natural("capacity"),
        alignment=fields.natural("alignment"),
        weights=fields.natural("weights"),
        peak=fields.natural("peak"),
        lower_bound=fields.natural("lower_bound"),
    )


def _operator(fields: Fields) -> Operator:
    return Operator(
        name=fields.text("name"),
        kind=fields.text("kind"),
        macs=fields.natural("macs"),
        weight_bytes=fields.natural("weight_bytes"),
        nodes=fields.texts("nodes"),
        inputs=fields.texts("inputs"),
        outputs=fields.texts("outputs"),
        constants=fields.texts("constants"),
        rows=fields.natural("rows"),
        prefix=fields.natural("prefix"),
        streams=fields.array("streams", _stream),
        device=fields.text("device"),
        mode=fields.text("mode"),
        tiles=fields.natural("tiles"),
        work=fields.natural("work"),
        energy=fields.natural("energy"),
        resident_bytes=fields.natural("resident_bytes"),
        costs=fields.table("costs", _costs),
    )


def _stream(value: Any, where: str) -> Stream | None:
    if value is None:
        return None
    fields = Fields(value, where)
    return Stream(
        prefix=fields.natural("prefix"),
        rows=fields.natural("rows"),
        window=fields.integer("window"),
        stride=fields.integer("stride"),
        pad=fields.integer("pad"),
    )


def _costs(value: Any, where: str) -> dict[str, ModeCost] | str:
    fields = Fields(value, where)
    refused = fields.members.get("refused")
    if isinstance(refused, str):
        return refused
    modes = {}
    for mode in fields.members:
        cost = Fields(fields.members[mode], f"{where}[{mode!r}]")
        resident = cost.natural("resident_bytes") if "resident_bytes" in cost.members else None
        modes[mode] = ModeCost(cost.number("seconds"), cost.number("joules"), resident)
    return modes


def _tensor(value: Any, where: str) -> Tensor:
    fields = Fields(value, where)
    return Tensor(fields.naturals("shape"), fields.text("dtype"), fields.natural("bytes"))


def _buffer(fields: Fields) -> Buffer:
    return Buffer(
        id=fields.natural("id"),
        tensor=fields.text("tensor"),
        memory=fields.text("memory"),
        offset=fields.natural("offset"),
        bytes=fields.natural("bytes"),
        start=fields.natural("start"),
        end=fields.natural("end"),
    )


def _task(fields: Fields) -> Task:
    tiles = fields.natural("tiles")
    if not 1 <= tiles <= MAX_TILES:
        _wrong(fields.place("tiles"), f"between 1 and {MAX_TILES}", tiles)
    return Task(
        id=fields.natural("id"),
        kind=fields.text("kind"),
        resource=fields.text("resource"),
        operator=fields.text("operator"),
        tensor=fields.text("tensor"),
        start=fields.natural("start"),
        end=fields.natural("end"),
        work=fields.natural("work"),
        tiles=tiles,
        energy=fields.natural("energy"),
        bytes=fields.natural("bytes"),
        waits=fields.objects("waits", _wait),
        reads=fields.naturals("reads"),
        writes=fields.naturals("writes"),
    )


def _wait(fields: Fields) -> Wait:
    return Wait(
        fields.natural("task"),
        fields.array("counts", _integer),
        fields.natural("latency"),
        fields.text("reason"),
    )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _wrong(where, "a string", value)
    return value


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        _wrong(where, "an integer", value)
    if abs(value) >= MAX_INTEGER:
        _wrong(where, "an integer of 64 bits", value)
    return value


def _natural(value: Any, where: str) -> int:
    number = _integer(value, where)
    if number < 0:
        _wrong(where, "zero or more", value)
    return number


def _naturals(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        _wrong(where, "a list", value)
    return tuple(_natural(item, f"{where}[{index}]") for index, item in enumerate(value))


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        _wrong(where, "a number", value)
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        _wrong(where, "a number of 64 bits", value)
    if not math.isfinite(value):
        _wrong(where, "a finite number", value)
    return float(value)


def _wrong(where: str, expected: str, value: object) -> NoReturn:
    found = (
        "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)[:40]
    )
    raise BundleError(f"{where}: expected {expected}, found {found}", code="bundle-field", hint=HINT)
