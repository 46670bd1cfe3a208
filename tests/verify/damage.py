"""What corruptions of a valid bundle are made of; the corruptions stand in damage_*.py.

A corruption changes a `Specimen` in place and returns True, or False where it finds nothing to corrupt.
`CORRUPTIONS` lists them with the check that must catch each.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto

Document = dict[str, Any]


@dataclass
class Specimen:
    """The parts of a bundle, free to change."""

    document: Document
    partitioned: ModelProto
    index: dict[str, Any]
    parts: dict[str, ModelProto]

    def copy(self) -> Specimen:
        parts = {path: _copied(model) for path, model in self.parts.items()}
        return Specimen(
            copy.deepcopy(self.document), _copied(self.partitioned), copy.deepcopy(self.index), parts
        )

    @classmethod
    def read(cls, folder: Path) -> Specimen:
        index = json.loads((folder / "subgraphs/index.json").read_text())
        parts = {
            f"subgraphs/{entry['file']}": onnx.load(folder / "subgraphs" / entry["file"])
            for entry in index["files"]
        }
        document = json.loads((folder / "schedule.json").read_text())
        return cls(document, onnx.load(folder / "partitioned.onnx"), index, parts)

    def tasks(self, kind: str = "") -> list[Document]:
        return [task for task in self.document["tasks"] if kind in ("", task["kind"])]

    def operator(self, task: Document) -> Document:
        return next(op for op in self.document["operators"] if op["name"] == task["operator"])

    def node(self, op_type: str) -> NodeProto | None:
        return next((node for node in self.partitioned.graph.node if node.op_type == op_type), None)


def _copied(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


Corruption = Callable[[Specimen], bool]
CORRUPTIONS: list[tuple[str, str, Corruption]] = []


def breaks(code: str) -> Callable[[Corruption], Corruption]:
    def register(function: Corruption) -> Corruption:
        CORRUPTIONS.append((code, function.__name__, function))
        return function

    return register


# --- an oracle of its own: which tiles come before which ---------------------------------------------


def comes_before(document: Document, earlier: tuple[int, int], later: tuple[int, int]) -> bool:
    """Whether tile `earlier` (task, tile) has finished when tile `later` starts: a search backwards."""
    tasks = {task["id"]: task for task in document["tasks"]}
    before_in_queue = {b: a for ids in document["queues"].values() for a, b in pairwise(ids)}
    seen, pending = set(), [later]
    while pending:
        task, tile = pending.pop()
        for tile_before in _direct(tasks, before_in_queue, task, tile):
            if tile_before == earlier:
                return True
            if tile_before not in seen:
                seen.add(tile_before)
                pending.append(tile_before)
    return False


def _direct(
    tasks: dict[int, Document], before_in_queue: dict[int, int], task: int, tile: int
) -> Iterator[tuple[int, int]]:
    if tile:
        yield task, tile - 1
    elif task in before_in_queue:
        previous = before_in_queue[task]
        yield previous, tasks[previous]["tiles"] - 1
    for wait in tasks[task]["waits"]:
        if wait["counts"][tile]:
            yield wait["task"], wait["counts"][tile] - 1


def drop_wait(specimen: Specimen, reason: str) -> bool:
    """Drop a wait without which its first tile is no longer behind what it awaited."""
    tasks = {task["id"]: task for task in specimen.tasks()}
    for task in specimen.tasks():
        for wait in list(task["waits"]):
            if wait["reason"] != reason or not wait["counts"][0]:
                continue
            count = wait["counts"][0] if reason == "data" else tasks[wait["task"]]["tiles"]
            task["waits"].remove(wait)
            if not comes_before(specimen.document, (wait["task"], count - 1), (task["id"], 0)):
                return True
            task["waits"].append(wait)
    return False


def home(specimen: Specimen) -> str:
    """The memory of the io device."""
    target = specimen.document["target"]
    return str(next(device["memory"] for device in target["devices"] if device["name"] == target["io"]))
