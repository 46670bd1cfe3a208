"""The kinds of blocks that stages are made of.

A block writes its operations through a `Builder`; the emitter, the counters and the supernet follow from that.
Other packages add kinds through the entry-point group ``h4hc.blocks``: an entry is a `Block`.
All convolutional kinds take maps of any number of dimensions, so sequences (1-D) need no kinds of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from h4hc.errors import SpaceError
from h4hc.search.program import Builder, Value, divisible

ENTRY_POINTS = "h4hc.blocks"


class Rule(NamedTuple):
    """What a gene may be: whole numbers from `low` to `high`; `default` if a space does not say.

    `odd`: odd ones only, and 0 if that is within the limits.
    """

    default: int
    low: int
    high: int
    odd: bool = False


SWITCH = Rule(0, 0, 1)
Genes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """One kind of block.

    `part` is ``cnn`` or ``transformer`` (what training may freeze), `layout` what it reads and writes (``map`` or
    ``tokens``). One that `reshapes` may change the width and stride. `build(builder, x, width, stride, genes)`
    writes the operations and returns the result; weights must not shrink when a gene or a width grows.
    """

    name: str
    prefix: str
    part: str
    layout: str
    reshapes: bool
    genes: Mapping[str, Rule]
    build: Callable[[Builder, Value, int, int, Genes], Value]


def mbconv(b: Builder, x: Value, width: int, stride: int, genes: Genes) -> Value:
    """Inverted bottleneck (MobileNetV2): expand, depthwise, squeeze and excite, project; residual.

    With `project` a block that changes the shape has a shortcut too: average pooling and a 1x1 convolution, as
    in AttentiveNAS.
    """
    y, hidden = x, x.width * genes["expand"]
    if genes["expand"] > 1:
        y = b.act(b.conv(x, "expand", hidden), "expand.act")
    y = b.conv(y, "depthwise", hidden, genes["kernel"], stride, depthwise=True)
    y = b.act(y, "depthwise.act")
    if genes["se"]:
        y = squeeze_excite(b, y)
    shortcut: Value | None = x
    if stride > 1 or x.width != width:
        shortcut = projected(b, x, width, stride) if genes["project"] else None
    y = b.conv(y, "project", width, norm="zeros" if shortcut else "ones")
    return b.add(shortcut, y, "add") if shortcut else y


def squeeze_excite(b: Builder, x: Value) -> Value:
    """Scales the channels of `x` by a function of their means (SENet; hard sigmoid as in MobileNetV3)."""
    y = b.conv(b.mean(x, "se.mean"), "se.reduce", divisible(x.width // 4), norm="", bias=True)
    y = b.conv(b.act(y, "se.reduce.act", "relu"), "se.expand", x.width, norm="", bias=True)
    return b.mul(x, b.act(y, "se.gate", "hard_sigmoid"), "se.scale")


def projected(b: Builder, x: Value, width: int, stride: int) -> Value:
    """A shortcut for a block that changes the shape."""
    y = b.pool(x, "shortcut.pool", "average", stride) if stride > 1 else x
    return b.conv(y, "shortcut", width, norm="") if y.width != width else y


def vgg(b: Builder, x: Value, width: int, stride: int, genes: Genes) -> Value:
    """A plain convolution (VGG), after max pooling where the map shrinks."""
    y = b.pool(x, "pool", "max", stride) if stride > 1 else x
    return b.act(b.conv(y, "conv", width, genes["kernel"]), "act", "relu")


def resnet(b: Builder, x: Value, width: int, stride: int, genes: Genes) -> Value:
    """A residual block: two convolutions, or a bottleneck of a quarter of the width (ResNet)."""
    if genes["bottleneck"]:
        inner = divisible(width / 4, 4)
        y = b.act(b.conv(x, "reduce", inner), "reduce.act", "relu")
        y = b.act(b.conv(y, "middle", inner, genes["kernel"], stride), "middle.act", "relu")
        y = b.conv(y, "restore", width, norm="zeros")
    else:
        y = b.act(b.conv(x, "conv1", width, genes["kernel"], stride), "conv1.act", "relu")
        y = b.conv(y, "conv2", width, genes["kernel"], norm="zeros")
    same = stride == 1 and x.width == width
    return b.act(b.add(x if same else b.conv(x, "shortcut", width, 1, stride), y, "add"), "act", "relu")


def dilated(b: Builder, x: Value, width: int, stride: int, genes: Genes) -> Value:
    """Multi-level dilated convolution (RapidNet): depthwise branches of dilation 1, 2, ..., summed and mixed.

    Then a feed-forward pair of 1x1 convolutions that expands by `expand`.
    """
    y = b.conv(x, "level1", x.width, genes["kernel"], stride, depthwise=True)
    for level in range(2, genes["levels"] + 1):
        branch = b.conv(x, f"level{level}", x.width, genes["kernel"], stride, depthwise=True, dilation=level)
        y = b.add(y, branch, f"sum{level}", residual=False)
    same = stride == 1 and x.width == width
    y = b.conv(b.act(y, "act"), "mix", width, norm="zeros" if same else "ones")
    if same:
        y = b.add(x, y, "add1")
    z = b.act(b.conv(y, "expand", width * genes["expand"]), "expand.act")
    return b.add(y, b.conv(z, "project", width, norm="zeros"), "add2")


def transformer(b: Builder, x: Value, width: int, stride: int, genes: Genes) -> Value:
    """Self-attention over all tokens, then `mlps` feed-forward layers; pre-norm, layer scale on each branch.

    `heads` 0: as many as fit into the width. Values are `v_ratio` times as wide as queries. `position`: relative
    position bias. `talking`: heads are mixed before and after the softmax. `v_conv`: depthwise convolution of the
    values in the map, of that kernel. `gate`: activation before the output projection (the last three: NASViT).
    """
    size = genes["head_size"]
    heads = genes["heads"] or max(1, width // size)
    y = b.norm(x, "norm1")
    queries = b.split(b.linear(y, "q", heads * size, gain=size**-0.5), "q.heads", heads)
    keys = b.split(b.linear(y, "k", heads * size), "k.heads", heads, transposed=True)
    values = b.linear(y, "v", heads * size * genes["v_ratio"])
    if genes["v_conv"]:
        values = b.map(values, "v.map")
        values = b.conv(values, "v.conv", values.width, genes["v_conv"], depthwise=True)
        values = b.tokens(values, "v.tokens")
    scores = b.matmul(queries, keys, "scores")
    if genes["position"]:
        scores = b.position(scores, "position")
    if genes["talking"]:
        scores = b.conv(scores, "talk1", heads, norm="", bias=True, start="identity")
    scores = b.softmax(scores, "softmax")
    if genes["talking"]:
        scores = b.conv(scores, "talk2", heads, norm="", bias=True, start="identity")
    y = b.merge(b.matmul(scores, b.split(values, "v.heads", heads), "mix"), "merge")
    if genes["gate"]:
        y = b.act(y, "gate")
    scaled = b.layer_scale > 0
    x = b.add(x, b.linear(y, "out", width, scaled=scaled), "add1")
    for i in range(1, genes["mlps"] + 1):
        y = b.linear(b.norm(x, f"mlp{i}.norm"), f"mlp{i}.expand", width * genes["mlp_ratio"])
        y = b.linear(b.act(y, f"mlp{i}.act"), f"mlp{i}.project", width, scaled=scaled)
        x = b.add(x, y, f"mlp{i}.add")
    return x


KERNEL = Rule(3, 1, 15, odd=True)
SHIPPED = (
    Block(
        "mbconv",
        "mb",
        "cnn",
        "map",
        True,
        {"kernel": KERNEL, "expand": Rule(4, 1, 16), "se": SWITCH, "project": SWITCH},
        mbconv,
    ),
    Block("vgg", "vgg", "cnn", "map", True, {"kernel": KERNEL}, vgg),
    Block("resnet", "res", "cnn", "map", True, {"kernel": KERNEL, "bottleneck": SWITCH}, resnet),
    Block(
        "dilated",
        "dil",
        "cnn",
        "map",
        True,
        {"kernel": KERNEL, "levels": Rule(2, 1, 8), "expand": Rule(4, 1, 16)},
        dilated,
    ),
    Block(
        "transformer",
        "vit",
        "transformer",
        "tokens",
        False,
        {
            "heads": Rule(0, 0, 64),
            "head_size": Rule(8, 1, 256),
            "v_ratio": Rule(1, 1, 8),
            "mlp_ratio": Rule(2, 1, 8),
            "mlps": Rule(1, 1, 4),
            "position": Rule(1, 0, 1),
            "talking": SWITCH,
            "v_conv": Rule(0, 0, 15, odd=True),
            "gate": SWITCH,
        },
        transformer,
    ),
)


@cache
def blocks() -> Mapping[str, Block]:
    """All kinds by name: the shipped ones and those of installed packages."""
    from importlib.metadata import entry_points

    found = {block.name: block for block in SHIPPED}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        try:
            block = entry.load()
        except Exception as error:
            raise SpaceError(
                f"entry point {entry.name} of {ENTRY_POINTS} cannot be loaded: {type(error).__name__}: {error}",
                code="bad-block",
                hint="mend or uninstall the package that defines it",
            ) from error
        if not isinstance(block, Block) or block.name in found:
            raise SpaceError(
                f"entry point {entry.name} of {ENTRY_POINTS} is not a Block of a new name",
                code="bad-block",
                hint="mend or uninstall the package that defines it",
            )
        found[block.name] = block
    return found


def find_block(name: str) -> Block:
    """The kind called `name`. Raises SpaceError if there is none."""
    known = blocks()
    if name not in known:
        raise SpaceError(f"there is no block {name}", code="unknown-block", hint=f"known: {', '.join(known)}")
    return known[name]
