"""A subnet: one network out of a space, as a value.

Equal networks are equal values: a layer that a subnet does not have leaves no trace in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from h4hc.errors import SpaceError

MAX_DEPTH = 64  # blocks of one group


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive blocks of one kind: for each, the values of its `genes` (sorted). No blocks: no genes either."""

    block: str
    genes: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]

    @property
    def depth(self) -> int:
        return len(self.layers)

    def gene(self, name: str, layer: int = 0) -> int:
        """The value of gene `name` in block `layer`."""
        return self.layers[layer][self.genes.index(name)]


@dataclass(frozen=True, slots=True)
class Stage:
    """Groups of blocks that share a width (channels)."""

    width: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Subnet:
    """One network: input resolution, widths of stem and head (0: the space has none to choose), stages."""

    space: str
    resolution: int
    stem: int
    stages: tuple[Stage, ...]
    head: int

    @property
    def transformers(self) -> int:
        """Number of transformer blocks."""
        from h4hc.search.blocks import find_block

        return sum(
            group.depth
            for stage in self.stages
            for group in stage.groups
            if group.depth and find_block(group.block).part == "transformer"
        )

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(group.depth for stage in self.stages for group in stage.groups)

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this subnet."""
        return identifier(self.to_json())

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` takes back."""
        return {
            "space": self.space,
            "resolution": self.resolution,
            "stem": self.stem,
            "stages": [
                {
                    "width": stage.width,
                    "groups": [
                        {
                            "block": group.block,
                            "depth": group.depth,
                            "genes": {
                                name: [layer[i] for layer in group.layers]
                                for i, name in enumerate(group.genes)
                            },
                        }
                        for group in stage.groups
                    ],
                }
                for stage in self.stages
            ],
            "head": self.head,
        }

    def to_json(self) -> str:
        """Canonical JSON text: equal subnets give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))


def identifier(text: str) -> str:
    """The `Subnet.id` that goes with the text of `Subnet.to_json`."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def from_json(text: str) -> Subnet:
    """The subnet written by `Subnet.to_json`. Raises SpaceError if the text holds none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise SpaceError("the subnet is not valid JSON", code="bad-subnet") from None
    return from_dict(data)


def from_dict(data: Any) -> Subnet:
    """The subnet of `Subnet.to_dict`. Raises SpaceError if the data holds none."""
    top = _fields(data, "subnet", ("space", "resolution", "stem", "stages", "head"))
    if not isinstance(top["space"], str):
        raise _bad("subnet.space", "a name")
    return Subnet(
        top["space"],
        _number(top["resolution"], "subnet.resolution"),
        _number(top["stem"], "subnet.stem"),
        tuple(
            _stage(stage, f"subnet.stages[{i}]")
            for i, stage in enumerate(_items(top["stages"], "subnet.stages"))
        ),
        _number(top["head"], "subnet.head"),
    )


def _stage(data: Any, where: str) -> Stage:
    fields = _fields(data, where, ("width", "groups"))
    groups = _items(fields["groups"], f"{where}.groups")
    return Stage(
        _number(fields["width"], f"{where}.width"),
        tuple(_group(group, f"{where}.groups[{i}]") for i, group in enumerate(groups)),
    )


def _group(data: Any, where: str) -> Group:
    fields = _fields(data, where, ("block", "depth", "genes"))
    genes = fields["genes"]
    depth = _number(fields["depth"], f"{where}.depth")
    if not isinstance(fields["block"], str):
        raise _bad(f"{where}.block", "a name")
    if not 0 <= depth <= MAX_DEPTH:
        raise _bad(f"{where}.depth", f"from 0 to {MAX_DEPTH}")
    if not isinstance(genes, Mapping) or (genes and not depth):
        raise _bad(f"{where}.genes", "a mapping, empty if the depth is 0")
    columns = []
    for name, values in sorted(genes.items()):
        column = [
            _number(value, f"{where}.genes.{name}") for value in _items(values, f"{where}.genes.{name}")
        ]
        if len(column) != depth:
            raise _bad(f"{where}.genes.{name}", f"a list of {depth} numbers, one per block")
        columns.append(column)
    layers = tuple(tuple(column[i] for column in columns) for i in range(depth))
    return Group(fields["block"], tuple(sorted(genes)) if depth else (), layers)


def _fields(data: Any, where: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping) or sorted(map(str, data)) != sorted(names):
        raise _bad(where, f"a mapping with the keys {', '.join(names)}")
    return data


def _items(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise _bad(where, "a list")
    return data


def _number(data: Any, where: str) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        raise _bad(where, "a whole number")
    return data


def _bad(where: str, expected: str) -> SpaceError:
    return SpaceError(f"{where} must be {expected}", code="bad-subnet")
