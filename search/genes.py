"""The genes of a space: every choice by name, in the order of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from h4hc.search.blocks import find_block
from h4hc.search.subnet import Group

if TYPE_CHECKING:
    from numpy.random import Generator

    from h4hc.search.spec import GroupSpec, StageSpec


class Gene(NamedTuple):
    """One choice, for example ``s4.mb.kernel`` out of 3 and 5."""

    name: str
    choices: tuple[int, ...]


Pick = Callable[[Gene], int]


class GroupGenes(NamedTuple):
    """The genes of a group: its depth, and for each block those of its kind, in the order of `names`.

    Blocks are called `prefix` and their number, their genes `path`, a dot and a name.
    """

    block: str
    path: str
    prefix: str
    names: tuple[str, ...]
    depth: Gene
    layers: tuple[tuple[Gene, ...], ...]


class StageGenes(NamedTuple):
    """The genes of a stage."""

    width: Gene
    groups: tuple[GroupGenes, ...]


def stage_genes(
    name: str, stage: StageSpec, defaults: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> StageGenes:
    """The genes of the stage called `name`; `defaults` are those of the space, by kind of block."""
    prefixes = [find_block(group.block).prefix for group in stage.groups]
    groups = []
    for i, group in enumerate(stage.groups):
        again = prefixes[:i].count(prefixes[i])
        path = f"{name}.{prefixes[i]}{f'_{again + 1}' if again else ''}"
        prefix = f"{path}_" if again else path
        groups.append(_group_genes(path, prefix, group, defaults.get(group.block, {})))
    return StageGenes(Gene(f"{name}.width", stage.width), tuple(groups))


def _group_genes(
    path: str, prefix: str, group: GroupSpec, defaults: Mapping[str, tuple[int, ...]]
) -> GroupGenes:
    rules = find_block(group.block).genes
    names = tuple(sorted(rules))
    given = {**defaults, **group.genes}
    choices = {name: given.get(name, (rules[name].default,)) for name in names}
    layers = tuple(
        tuple(Gene(f"{path}.{name}{f'.{j}' if group.per_layer else ''}", choices[name]) for name in names)
        for j in range(group.depth[-1])
    )
    return GroupGenes(group.block, path, prefix, names, Gene(f"{path}.depth", group.depth), layers)


def assemble_group(group: GroupGenes, pick: Pick) -> Group:
    """The group whose genes have the values that `pick` gives."""
    depth = pick(group.depth)
    layers = tuple(tuple(pick(gene) for gene in layer) for layer in group.layers[:depth])
    return Group(group.block, group.names if layers else (), layers)


def depth_variants(group: GroupGenes) -> list[int]:
    """For each depth of a group, the number of different choices of the genes of its blocks."""
    return [
        prod(len(gene.choices) for gene in dict.fromkeys(g for layer in group.layers[:depth] for g in layer))
        for depth in group.depth.choices
    ]


def any_of(gene: Gene, rng: Generator) -> int:
    """One of the choices of `gene`, all equally likely."""
    return gene.choices[_index(rng, len(gene.choices))]


def other_than(value: int, gene: Gene, rng: Generator) -> int:
    """One of the choices of `gene` but not `value`, all equally likely; `value` if there is no other."""
    others = [choice for choice in gene.choices if choice != value]
    return others[_index(rng, len(others))] if others else value


def weighted(gene: Gene, weights: list[int], rng: Generator) -> int:
    """One of the choices of `gene`, as likely as its weight."""
    point = rng.random() * sum(weights)
    for choice, weight in zip(gene.choices, weights, strict=True):
        point -= weight
        if point < 0:
            return choice
    return gene.choices[-1]


def _index(rng: Generator, count: int) -> int:
    return int(rng.integers(count)) if count > 1 else 0
