"""Spaces: what they hold, and that every network in them is one value."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.errors import SpaceError
from h4hc.search.space import Space, load_space, space_from, space_names
from h4hc.search.subnet import Subnet, from_dict, from_json
from tests.search.spaces import SHIPPED, kitchen_sink

# Resolution, widths (stem, stages, head), kernels, expansions, depths of the published AlphaNet models, and their
# millions of multiply-accumulates as published.
ALPHANET = {
    "A0": (192, (16, 16, 24, 32, 64, 112, 192, 216, 1792), "3333333", "1444466", "1333331", 203),
    "A1": (224, (16, 16, 24, 32, 64, 112, 192, 216, 1984), "3335353", "1444466", "1333331", 279),
    "A2": (224, (16, 16, 24, 32, 64, 112, 200, 224, 1984), "3333353", "1454466", "1333341", 317),
    "A3": (224, (16, 16, 24, 32, 64, 112, 208, 224, 1984), "3335333", "1444466", "2334351", 357),
    "A4": (256, (16, 16, 24, 32, 64, 112, 192, 216, 1984), "3335353", "1445466", "1334351", 444),
    "A5 small": (256, (16, 16, 24, 32, 64, 112, 208, 216, 1984), "3333353", "1445466", "1334451", 491),
    "A5 base": (288, (16, 16, 24, 32, 64, 112, 200, 216, 1984), "3355333", "1444566", "2343351", 596),
    "A6": (288, (16, 16, 24, 32, 64, 112, 216, 224, 1984), "3333353", "1465466", "1334461", 709),
}
SINK = kitchen_sink()
SPACES = {name: load_space(name) for name in SHIPPED} | {"sink": SINK}
SEEDS = st.integers(0, 2**32 - 1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def alphanet(name: str) -> tuple[Space, Subnet]:
    resolution, widths, kernels, expansions, depths, _ = ALPHANET[name]
    values = {"resolution": resolution, "stem": widths[0], "head": widths[-1]}
    for i in range(7):
        values[f"s{i + 1}.width"] = widths[i + 1]
        for gene, digits in (("kernel", kernels), ("expand", expansions), ("depth", depths)):
            values[f"s{i + 1}.mb.{gene}"] = int(digits[i])
    space = load_space("alphanet")
    return space, space.assemble(lambda gene: values.get(gene.name, gene.choices[0]))


@pytest.mark.parametrize("name", ALPHANET)
def test_published_networks_have_their_published_size(name: str) -> None:
    space, subnet = alphanet(name)
    assert subnet in space
    assert space.macs(subnet) / 1e6 == pytest.approx(ALPHANET[name][-1], rel=0.003)


def test_shipped_spaces() -> None:
    assert tuple(space_names()) == SHIPPED
    found = {name: (load_space(name).size(), len(load_space(name).genes)) for name in SHIPPED}
    assert found == {
        "alphanet": (440_301_256_704, 28),
        "cnn-only": (185_752_092_672, 28),
        "h4h-imagenet": (481_469_424_205_824, 32),
        "h4h-tiny": (20_736, 12),
        "nasvit": (48_157_949_952, 23),
    }


def test_cnn_only_is_the_cnn_part_of_the_hybrid_space() -> None:
    part, own = load_space("h4h-imagenet").restrict(cnn_only=True), load_space("cnn-only")
    assert part.size() == own.size()
    for pick in ("largest", "smallest"):
        assert part.macs(getattr(part, pick)()) == own.macs(getattr(own, pick)())


def test_published_extremes_of_the_tiny_space() -> None:
    space = load_space("h4h-tiny")
    assert (space.macs(space.largest()), space.macs(space.smallest())) == (506_560, 13_368)


@pytest.mark.parametrize("name", SPACES)
@given(seed=SEEDS)
def test_round_trips(name: str, seed: int) -> None:
    space = SPACES[name]
    subnet = space.sample(rng(seed))
    assert space.decode(space.encode(subnet)) == subnet
    assert from_json(subnet.to_json()) == subnet
    assert from_dict(json.loads(json.dumps(subnet.to_dict()))).id == subnet.id
    assert space.sample(rng(seed)) == subnet


@given(data=st.data())
def test_any_vector_is_a_subnet_in_canonical_form(data: st.DataObject) -> None:
    vector = [data.draw(st.integers(0, len(gene.choices) - 1), gene.name) for gene in SINK.genes]
    subnet = SINK.decode(vector)
    canonical = SINK.encode(subnet)
    assert SINK.decode(canonical) == subnet
    used = SINK.values(subnet)
    for gene, given_index, index in zip(SINK.genes, vector, canonical, strict=True):
        assert index == (given_index if gene.name in used else 0)
    # Whatever stands at unused genes, the network is the same.
    noise = [
        index if gene.name in used else len(gene.choices) - 1
        for gene, index in zip(SINK.genes, vector, strict=True)
    ]
    assert SINK.decode(noise) == subnet
    assert hash(SINK.decode(noise)) == hash(subnet)


@st.composite
def small_spaces(draw: st.DrawFn) -> Space:
    """Spaces of at most a few thousand vectors."""

    def subset(values: list[int], most: int = 2) -> list[int]:
        return sorted(draw(st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)))

    stages = []
    for _ in range(draw(st.integers(1, 2))):
        first = {
            "block": "mbconv",
            "depth": subset([1, 2]),
            "kernel": subset([3, 5]),
            "per_layer": draw(st.booleans()),
        }
        second = {
            "block": draw(st.sampled_from(["transformer", "vgg"])),
            "depth": subset([0, 1, 2], 3),
            "per_layer": draw(st.booleans()),
        }
        if second["block"] == "transformer":
            second["mlps"] = subset([1, 2])
        stages.append({"width": subset([8, 16]), "groups": [first, second]})
    return space_from(
        {"name": "small", "resolutions": subset([8, 16]), "stem": {"width": subset([4, 8])}, "stages": stages}
    )


@given(small_spaces())
def test_size_counts_the_different_subnets(space: Space) -> None:
    vectors = itertools.product(*(range(len(gene.choices)) for gene in space.genes))
    found = {space.decode(vector) for vector in vectors}
    assert len(found) == space.size()
    assert len({subnet.id for subnet in found}) == len(found)


@pytest.mark.parametrize("name", SPACES)
@given(seed=SEEDS)
def test_children_are_in_the_space(name: str, seed: int) -> None:
    space, random = SPACES[name], rng(seed)
    mother, father = space.sample(random), space.sample(random)
    assert space.mutate(mother, random) in space
    assert space.mutate(mother, random, 0.0) == mother
    child = space.crossover(mother, father, random)
    values, ours, theirs = (space.values(subnet) for subnet in (child, mother, father))
    for gene, value in values.items():
        assert value in (ours.get(gene), theirs.get(gene))
    assert space.crossover(mother, mother, random) == mother


def test_mutation_changes_every_gene_if_asked_and_one_on_average() -> None:
    space, random = load_space("alphanet"), rng()
    parent = space.sample(random)
    every = space.mutate(parent, random, 1.0)
    assert all(a != b for a, b in zip(space.encode(parent), space.encode(every), strict=True))
    changed = [
        sum(
            a != b
            for a, b in zip(space.encode(parent), space.encode(space.mutate(parent, random)), strict=True)
        )
        for _ in range(500)
    ]
    assert np.mean(changed) == pytest.approx(1.0, abs=0.15)


def test_samples_are_uniform_per_gene_or_per_subnet() -> None:
    space = space_from(
        {
            "name": "skewed",
            "resolutions": 8,
            "stem": {"width": 8},
            "stages": [
                {
                    "width": 8,
                    "groups": [{"block": "vgg", "depth": [1, 2], "kernel": [1, 3, 5], "per_layer": True}],
                }
            ],
        }
    )
    random, count = rng(), 6000
    depths = Counter(space.sample(random).depth for _ in range(count))
    assert depths[1] / count == pytest.approx(1 / 2, abs=0.03)
    assert space.size() == 3 + 9
    evenly = Counter(space.sample_evenly(random) for _ in range(count))
    assert len(evenly) == 12
    # Chi-squared with 11 degrees of freedom: 31.3 is the 0.1 % quantile.
    assert sum((found - count / 12) ** 2 / (count / 12) for found in evenly.values()) < 31.3


def test_largest_and_smallest() -> None:
    space = load_space("h4h-imagenet")
    assert space.smallest().transformers == 0
    assert space.largest().transformers == 5 + 8 + 7 + 5
    sizes = [space.macs(space.sample(rng(seed))) for seed in range(20)]
    assert space.macs(space.smallest()) < min(sizes)
    assert max(sizes) < space.macs(space.largest())


def test_subspaces() -> None:
    space = load_space("h4h-imagenet")
    cnn, hybrid = space.restrict(cnn_only=True), space.restrict(hybrid=True)
    narrow = space.restrict(genes={"resolution": [192], "s4.vit.depth": [1, 2], "s4.mb.kernel": [5]})
    assert narrow.size() == space.size() // 4 // 3 // 2
    for seed in range(20):
        assert cnn.sample(rng(seed)).transformers == 0
        assert hybrid.sample(rng(seed)).transformers >= 4
        for part in (cnn, hybrid, narrow):
            subnet = part.sample(rng(seed))
            assert subnet in space
            assert space.macs(subnet) == part.macs(subnet)
    assert space.largest() not in cnn


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "nasvit",
            {"cnn_only": True},
            "space nasvit has no subnets without transformers in every stage: s4.vit.depth",
        ),
        ("alphanet", {"genes": {"s4.mb.kernal": [3]}}, "no gene s4.mb.kernal; did you mean s4.mb.kernel?"),
        ("alphanet", {"genes": {"s4.mb.kernel": [7]}}, "s4.mb.kernel: 7 is none of its choices [3, 5]"),
        ("alphanet", {"genes": {"resolution": []}}, "resolution: no value is none of its choices"),
    ],
)
def test_impossible_subspaces(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space(name).restrict(**options)
    assert message in str(caught.value)


def test_copies_leave_the_caches_behind() -> None:
    space = kitchen_sink()
    space.program(space.largest())
    there = pickle.loads(pickle.dumps(space))
    assert there == space
    assert "sections" in vars(space)
    assert "sections" not in vars(there)
    assert there.program(there.largest()) == space.program(space.largest())
    assert copy.deepcopy(space) is space


def test_data_of_another_shape() -> None:
    space = load_space("h4h-tiny").adapted(classes=7, channels=2)
    assert (space.classes, space.channels, space.size()) == (7, 2, 20_736)
    with pytest.raises(SpaceError, match="classes: "):
        space.adapted(classes=0)


def test_no_torch_is_needed() -> None:
    code = (
        "import sys, numpy; from h4hc.search.space import load_space; from h4hc.search.emit import emit;"
        "s = load_space('h4h-tiny'); emit(s, s.sample(numpy.random.default_rng(0)));"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
