"""Can a reader work with a document? Its form against the schema, its references against each other.

Knows the keywords that `schedule.schema.json` uses, and no others. Whether the schedule is correct is for
`h4hc.verify` to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

from h4hc.bundle.store import SCHEMA_VERSION, Document
from h4hc.errors import BundleError

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def validate_document(document: Document, where: str) -> None:
    """Raise BundleError, naming the first field that is wrong; `where` is the file."""
    schema = load_schema()
    if _minor(document["schema_version"]) > _minor(SCHEMA_VERSION):
        schema = _tolerant(schema)
    problem = next(_problems(document, schema, schema["$defs"], ""), None)
    if problem is None:
        problem = next(_dangling(document), None)
    if problem is not None:
        raise BundleError(
            f"{where}: {problem}", code="malformed-schedule", hint="write the bundle again with h4hc compile"
        )


def load_schema() -> dict[str, Any]:
    """The JSON Schema of schedule.json."""
    text = resources.files("h4hc.firmware").joinpath("schedule.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _minor(version: str) -> int:
    minor = version.partition(".")[2]
    return int(minor) if minor.isdecimal() else 0


def _tolerant(schema: Any) -> Any:
    """`schema`, but fields that it does not know are allowed: a newer minor version has added them."""
    if isinstance(schema, dict):
        return {key: _tolerant(part) for key, part in schema.items() if part is not False}
    return [_tolerant(part) for part in schema] if isinstance(schema, list) else schema


def _problems(value: Any, schema: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[str]:
    """What is wrong with `value` under `schema`, as ``path: problem``."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    if "oneOf" in schema:
        yield from _alternatives(value, schema["oneOf"], definitions, path)
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        yield f"{path or 'the document'} is not {' or '.join(kinds)}"
        return
    yield from _value_problems(value, schema, path)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, schema.get("items", {}), definitions, f"{path}[{index}]")
    elif isinstance(value, dict):
        yield from _member_problems(value, schema, definitions, path)


def _alternatives(
    value: Any, schemas: list[dict[str, Any]], definitions: dict[str, Any], path: str
) -> Iterator[str]:
    """Nothing if an alternative fits, else the problem of the one that `value` is most like."""
    failures = [next(_problems(value, schema, definitions, path), None) for schema in schemas]
    if None not in failures:
        yield max((failure for failure in failures if failure is not None), key=_likeness)


def _likeness(problem: str) -> tuple[bool, int]:
    """An alternative of another ``type`` is unlike; else the deeper in the value, the more alike."""
    place = problem.partition(" ")[0]
    return not place.endswith(".type"), len(place)


def _value_problems(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is none of {', '.join(schema['enum'])}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path} is below {schema['minimum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"{path} is not above {schema['exclusiveMinimum']}"
    if "minItems" in schema and len(value) < schema["minItems"]:
        yield f"{path} has fewer than {schema['minItems']} items"
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield f"{path} has more than {schema['maxItems']} items"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path} does not match {schema['pattern']}"


def _member_problems(
    value: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any], path: str
) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    kind = properties.get("type", {})
    if "const" in kind and value.get("type") != kind["const"]:
        yield f"{path}.type is not {kind['const']}"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name} is missing".lstrip(".")
    if "not" in schema and all(name in value for name in schema["not"]["required"]):
        yield f"{path} has {schema['not']['required']}"
    for name, member in value.items():
        place = f"{path}.{name}".lstrip(".")
        if name in properties:
            yield from _problems(member, properties[name], definitions, place)
        elif others is False:
            yield f"{place} is unknown"
        elif others is not True:
            yield from _problems(member, others, definitions, place)


def _dangling(document: Document) -> Iterator[str]:
    """References to what does not exist, and lists whose lengths do not fit."""
    operators = {operator["name"] for operator in document["operators"]}
    tasks = {task["id"]: task for task in document["tasks"]}
    buffers = {buffer["id"] for buffer in document["buffers"]}
    memories = {memory["name"] for memory in document["memories"]}
    devices = {device["name"] for device in document["devices"]}
    for buffer in document["buffers"]:
        if buffer["memory"] not in memories:
            yield f"buffer {buffer['id']} is in an unknown memory"
    for operator in document["operators"]:
        if operator["device"] not in devices:
            yield f"operator {operator['name']} runs on an unknown device"
        if not devices.issuperset(operator["costs"]):
            yield f"operator {operator['name']} has costs of an unknown device"
    for task in document["tasks"]:
        label = f"task {task['id']}"
        if task["kind"] == "compute" and task["operator"] not in operators:
            yield f"{label} runs an unknown operator"
        if task["id"] not in document["queues"].get(task["resource"], ()):
            yield f"{label} is not in the queue of {task['resource']}"
        if not buffers.issuperset((*task["reads"], *task["writes"])):
            yield f"{label} uses an unknown buffer"
        for wait in task["waits"]:
            if wait["task"] not in tasks or len(wait["counts"]) != task["tiles"]:
                yield f"{label} has a wait that does not fit"
    for resource, ids in document["queues"].items():
        if not set(ids) <= tasks.keys():
            yield f"queue {resource} lists an unknown task"
    if {device["name"] for device in document["target"]["devices"]} != devices:
        yield "the devices are not those of the target"
    described = {memory["name"] for memory in document["target"]["memories"]}
    for device in document["target"]["devices"]:
        if not described.issuperset({device["memory"], device["weights"] or device["memory"]}):
            yield f"device {device['name']} of the target names an unknown memory"
