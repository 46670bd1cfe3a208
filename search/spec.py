"""What a space file holds: the pydantic models behind `h4hc.search.space.Space`, with their checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from h4hc.backends.problems import nearest
from h4hc.search.blocks import Block, Rule, blocks, find_block
from h4hc.search.subnet import MAX_DEPTH

MAX_CHOICES = 64


def _choices(value: Any) -> Any:
    """A single number is a list of one; true and false are 1 and 0."""
    items = value if isinstance(value, list | tuple) else [value]
    return [int(item) if isinstance(item, bool) else item for item in items]


Number = Annotated[int, Field(strict=True, ge=0, le=1 << 16)]
Choices = Annotated[
    tuple[Number, ...], BeforeValidator(_choices), Field(min_length=1, max_length=MAX_CHOICES)
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]


class Part(BaseModel):
    """Unknown keys are mistakes, and a space never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GroupSpec(Part):
    """Blocks of one kind, one after the other. Genes stand beside `block` and `depth`; a list is a choice.

    One choice holds for all blocks of the group, unless `per_layer`.
    """

    block: str
    depth: Choices
    per_layer: bool = False
    genes: Mapping[str, Choices] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        """Move the genes that stand beside the other keys into `genes`."""
        if not isinstance(data, Mapping) or not isinstance(data.get("genes", {}), Mapping):
            return data
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        beside = {key: value for key, value in data.items() if key not in cls.model_fields}
        inside = dict(own.get("genes", {}))
        for name in beside:
            if name in inside:
                raise ValueError(f"{name} is given twice, beside and in genes")
        return {**own, "genes": inside | beside}


class StageSpec(Part):
    """Groups that share a width; the first block of the stage takes the stride."""

    width: Choices
    stride: Annotated[int, Field(strict=True, ge=1, le=8)] = 1
    groups: Annotated[tuple[GroupSpec, ...], Field(min_length=1, max_length=16)]


class StemSpec(Part):
    """The first convolution."""

    width: Choices
    kernel: Annotated[int, Field(strict=True, ge=1, le=15)] = 3
    stride: Annotated[int, Field(strict=True, ge=1, le=8)] = 2


class HeadSpec(Part):
    """What follows the stages.

    ``pool``: mean, classifier. ``conv``: 1x1 convolution to `width`, mean, classifier. ``v3``: 1x1 convolution
    that expands by `expand`, mean, 1x1 convolution to `width`, classifier (MobileNetV3).
    """

    kind: Literal["pool", "conv", "v3"] = "pool"
    width: Choices | None = None
    expand: Annotated[int, Field(strict=True, ge=1, le=16)] = 6

    @model_validator(mode="after")
    def _check(self) -> HeadSpec:
        if (self.width is None) != (self.kind == "pool"):
            raise ValueError(
                f"head.width: head of kind {self.kind} {'has none' if self.width else 'needs one'}"
            )
        return self


def check_group(group: GroupSpec, where: str) -> list[str]:
    """What is wrong with the genes of a group, one line per problem."""
    if group.block not in blocks():
        return [f"{where}.block: no block {group.block}; {nearest(group.block, blocks(), 'blocks')}"]
    rules = find_block(group.block).genes
    problems = check_choices(group.depth, Rule(1, 0, MAX_DEPTH), f"{where}.depth")
    for name, values in group.genes.items():
        if name not in rules:
            advice = nearest(name, [*rules, "per_layer"], "genes")
            problems.append(f"{where}.{name}: {group.block} has no gene {name}; {advice}")
        else:
            problems += check_choices(values, rules[name], f"{where}.{name}")
    return problems


def check_choices(values: tuple[int, ...], rule: Rule, where: str) -> list[str]:
    """What is wrong with the choices of a gene."""
    if list(values) != sorted(set(values)):
        return [f"{where}: {list(values)} must rise without repeats"]
    odd = " odd" if rule.odd else ""
    for value in values:
        if not rule.low <= value <= rule.high or (rule.odd and value and not value % 2):
            return [f"{where}: {value} must be{odd or ' a number'} from {rule.low} to {rule.high}"]
    return []


def check_order(stage: StageSpec, where: str) -> list[str]:
    """The block that comes first must be one that may change the shape, whatever the depths."""
    for group in stage.groups:
        block: Block = find_block(group.block)
        if not block.reshapes:
            return [
                f"{where}.groups: a {group.block} block may come first, but cannot change width or stride; "
                "put a group of convolutional blocks of depth 1 or more before it"
            ]
        if group.depth[0] > 0:
            return []
    return [f"{where}.groups: all may be empty; give one of them a depth of 1 or more"]
