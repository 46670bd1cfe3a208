"""Graphs put together from blocks equal those that the compiler makes of whole models."""

from __future__ import annotations

import numpy as np
import pytest

import h4hc
from h4hc.ir.compilation import Compilation, Source
from h4hc.ir.graph import Graph
from h4hc.passes.fuse import Fuse
from h4hc.search.emit import emit
from h4hc.search.pieces import Pieces
from h4hc.search.space import Space, load_space
from h4hc.search.subnet import Subnet
from tests.search.spaces import SHIPPED, kitchen_sink

COMPILER = h4hc.Compiler(h4hc.load_target("npu+cim"))
SPACES = [load_space(name) for name in SHIPPED] + [kitchen_sink(1), kitchen_sink(2)]


def whole(space: Space, subnet: Subnet, precision: str) -> Graph:
    """As the compiler makes it."""
    compilation = Compilation(
        source=Source("model", "", ""),
        model=emit(space, subnet),
        target=COMPILER.target,
        options=h4hc.Options(precision=precision),
        backends=COMPILER.backends,
    )
    graph = Fuse().run(compilation).graph
    assert graph is not None
    return graph


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("precision", ["int8", "model"])
def test_pieces_make_the_same_graph(space: Space, precision: str) -> None:
    """In the same order too, on which placements depend where they are equally good."""
    pieces = Pieces(space, precision)
    rng = np.random.default_rng(1)
    sampled = [space.sample(rng) for _ in range(6)]
    mutants = [space.mutate(subnet, rng, 0.2) for subnet in sampled]  # known blocks beside others
    subnets = [space.largest(), space.smallest(), *sampled, *mutants]
    for subnet in subnets:
        expected = whole(space, subnet, precision)
        found = pieces.graph(space.program(subnet), expected.name)
        assert found == expected
        assert list(found.tensors) == list(expected.tensors)
        assert list(found.roots) == list(expected.roots)


def test_neighbours_of_one_space_share_pieces_and_give_the_same_schedule() -> None:
    space = load_space("h4h-imagenet")
    pieces = Pieces(space, "int8")
    rng = np.random.default_rng(2)
    options = h4hc.Options(effort="fast", baselines=False, prefetch=False)
    subnet = space.sample(rng)
    for _ in range(4):
        model = emit(space, subnet)
        alone = COMPILER.compile(model, options)
        given = COMPILER.compile(model, options, graph=pieces.graph(space.program(subnet), model.graph.name))
        assert given.schedule == alone.schedule
        assert given.placement == alone.placement
        subnet = space.mutate(subnet, rng)
