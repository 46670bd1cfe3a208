"""From a subnet to its operations: stem, stages, head."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from h4hc.search.blocks import find_block
from h4hc.search.program import Builder, Program, Section, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h4hc.search.genes import GroupGenes
    from h4hc.search.space import Space
    from h4hc.search.subnet import Subnet

# Name of the block, its kind, what it reads, width, stride, genes.
SectionKey = tuple[str, str, Value, int, int, tuple[int, ...]]
_REMEMBERED = 20_000


def program(space: Space, subnet: Subnet) -> Program:
    """The operations of `subnet`, which must be of `space`."""
    space.values(subnet)
    x = source = input_value(space, subnet.resolution)
    sections = [_remembered(space, ("stem", "", x, subnet.stem, space.stem.stride, ()))]
    x = sections[0].result
    for stage, genes, spec in zip(subnet.stages, space.layout, space.stages, strict=True):
        stride = spec.stride
        for group, own in zip(stage.groups, genes.groups, strict=True):
            for j, layer in enumerate(group.layers):
                key = (f"{own.prefix}{j}", group.block, x, stage.width, stride, layer)
                sections.append(_remembered(space, key))
                x, stride = sections[-1].result, 1
    sections.append(_remembered(space, ("head", "", x, subnet.head, 1, ())))
    return Program(source, tuple(sections))


def input_value(space: Space, resolution: int) -> Value:
    """The input of a network of `space`."""
    extents = (resolution,) * space.dims
    return Value("image" if space.dims == 2 else "sequence", (space.channels, *extents), extents)


def _remembered(space: Space, key: SectionKey) -> Section:
    section = space.sections.get(key)
    if section is None:
        if len(space.sections) >= _REMEMBERED:
            space.sections.clear()
        section = space.sections[key] = write(space, key)
    return section


def write(space: Space, key: SectionKey) -> Section:
    """Write one block, preceded by the change between map and tokens where it needs one."""
    name, kind, x, width, stride, values = key
    b = Builder(name, space.activation, space.layer_scale)
    if name == "stem":
        y = b.conv(x, "conv", width, space.stem.kernel, stride)
        y = b.act(y, "act")
        return Section(name, "stem", tuple(b.ops), y)
    if name == "head":
        return _head(space, b, x, width)
    block = find_block(kind)
    x = _as(b, x, block.layout)
    y = block.build(b, x, width, stride, dict(zip(sorted(block.genes), values, strict=True)))
    return Section(name, block.part, tuple(b.ops), y)


def _as(b: Builder, x: Value, layout: str) -> Value:
    if x.layout == layout:
        return x
    return b.tokens(x, "tokens") if layout == "tokens" else b.map(x, "map")


def _head(space: Space, b: Builder, x: Value, width: int) -> Section:
    y = _as(b, x, "map")
    if space.head.kind == "v3":
        y = b.act(b.conv(y, "expand", y.width * space.head.expand), "expand.act")
        y = b.act(b.conv(b.mean(y, "mean"), "mix", width, norm=""), "mix.act")
    else:
        if space.head.kind == "conv":
            y = b.act(b.conv(y, "conv", width), "conv.act")
        y = b.mean(y, "mean")
    y = b.classifier(b.flatten(y, "flatten"), "classifier", space.classes)
    return Section("head", "head", tuple(b.ops), y)


def every_section(space: Space) -> Iterator[Section]:
    """Every block of every subnet, at the largest resolution: what the weights of a supernet must cover."""
    source = input_value(space, space.resolutions[-1])
    x: dict[Value, None] = {}
    for width in space.stem.width:
        section = write(space, ("stem", "", source, width, space.stem.stride, ()))
        x[_anonymous(section.result)] = None
        yield section
    for genes, spec in zip(space.layout, space.stages, strict=True):
        entering: dict[tuple[Value, int, int], None] = {
            (value, width, spec.stride): None for value in x for width in genes.width.choices
        }
        for group in genes.groups:
            left: dict[tuple[Value, int, int], None] = {}
            current = entering
            for depth in range(group.depth.choices[-1] + 1):
                if depth in group.depth.choices:
                    left.update(current)
                if depth < group.depth.choices[-1]:
                    following: dict[tuple[Value, int, int], None] = {}
                    for section, state in _layer(space, group, depth, current):
                        following[state] = None
                        yield section
                    current = following
            entering = left
        x = {value: None for value, _, _ in entering}
    for value in x:
        for width in space.head_gene.choices:
            yield write(space, ("head", "", value, width, 1, ()))


def _layer(
    space: Space, group: GroupGenes, depth: int, entering: dict[tuple[Value, int, int], None]
) -> Iterator[tuple[Section, tuple[Value, int, int]]]:
    for value, width, stride in entering:
        for values in product(*(gene.choices for gene in group.layers[depth])):
            section = write(space, (f"{group.prefix}{depth}", group.block, value, width, stride, values))
            yield section, (_anonymous(section.result), width, 1)


def _anonymous(value: Value) -> Value:
    """Weights do not depend on the names of values."""
    return value._replace(name="x")
