"""Subspaces: a space with fewer choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from h4hc.backends.problems import nearest
from h4hc.errors import SpaceError
from h4hc.search.blocks import find_block

if TYPE_CHECKING:
    from h4hc.search.space import Space


def narrowed(space: Space, cnn_only: bool, hybrid: bool, genes: Mapping[str, Sequence[int]]) -> Space:
    """`space` with fewer choices; see `Space.restrict`."""
    from h4hc.search.space import space_from

    wanted = {name: tuple(values) for name, values in genes.items()}
    for stage in space.layout:
        for group in stage.groups:
            if find_block(group.block).part != "transformer":
                continue
            name, depths = group.depth.name, wanted.get(group.depth.name, group.depth.choices)
            if cnn_only:
                wanted[name] = tuple(depth for depth in depths if depth == 0)
            elif hybrid:
                wanted[name] = tuple(depth for depth in depths if depth > 0)
            if not wanted.get(name, depths):
                kind = "without" if cnn_only else "with"
                raise SpaceError(
                    f"space {space.name} has no subnets {kind} transformers in every stage: {name} has the choices "
                    f"{list(depths)}",
                    code="empty-space",
                )
    data = space.model_dump(by_alias=True)
    known: list[str] = []

    def narrow(name: str, choices: tuple[int, ...], parent: Any, key: str) -> None:
        known.append(name)
        if name not in wanted:
            return
        chosen = tuple(sorted(set(wanted.pop(name))))
        strange = [value for value in chosen if value not in choices]
        if strange or not chosen:
            raise SpaceError(
                f"{name}: {strange[0] if strange else 'no value'} is none of its choices {list(choices)}",
                code="bad-subspace",
            )
        parent[key] = chosen

    narrow("resolution", space.resolutions, data, "resolutions")
    narrow("stem", space.stem.width, data["stem"], "width")
    if space.head.width:
        narrow("head", space.head.width, data["head"], "width")
    for stage, plan in zip(space.layout, data["stages"], strict=True):
        narrow(stage.width.name, stage.width.choices, plan, "width")
        for group, inner in zip(stage.groups, plan["groups"], strict=True):
            narrow(group.depth.name, group.depth.choices, inner, "depth")
            inner["genes"] = dict(inner["genes"])
            for gene in group.layers[0] if group.layers else ():
                own = gene.name.removeprefix(f"{group.path}.").split(".")[0]
                narrow(f"{group.path}.{own}", gene.choices, inner["genes"], own)
    if wanted:
        name = next(iter(wanted))
        raise SpaceError(
            f"space {space.name} has no gene {name}; {nearest(name, known, 'genes')}", code="bad-subspace"
        )
    return space_from(data)
