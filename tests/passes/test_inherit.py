"""Warm starts: a parent's placement for a subnet that differs in a few layers."""

from __future__ import annotations

from itertools import pairwise

import onnx
import pytest

import h4hc
from h4hc.ir.compilation import Compilation
from h4hc.passes.inherit import Inheritance, aligned, with_models
from tests.mutants import mutant
from tests.passes.texts import model as text_model


@pytest.fixture(scope="module")
def compiler() -> h4hc.Compiler:
    return h4hc.Compiler(h4hc.load_target("npu+cim"))


@pytest.fixture(scope="module")
def parent(compiler: h4hc.Compiler) -> Compilation:
    return compiler.compile(h4hc.normalise(mutant(0)), options(evaluations=2000))


def options(**fields: object) -> h4hc.Options:
    chosen = {"effort": "fast", "baselines": False, **fields}
    return h4hc.Options(**chosen)  # type: ignore[arg-type]


def latency(compilation: Compilation) -> int:
    assert compilation.schedule is not None
    return compilation.schedule.latency


def test_the_same_model_inherits_everything(compiler: h4hc.Compiler, parent: Compilation) -> None:
    again = compiler.compile(h4hc.normalise(mutant(0)), options(evaluations=0), parent=parent)
    assert again.placement == parent.placement
    assert latency(again) == latency(parent)
    assert again.parent is None


def test_few_evaluations_from_a_parent_come_close_to_a_long_search(
    compiler: h4hc.Compiler, parent: Compilation
) -> None:
    ratios = []
    for seed in range(1, 6):
        model = h4hc.normalise(mutant(seed, depths=(2, 2) if seed % 2 else (3, 1)))
        warm = compiler.compile(model, options(), parent=parent)
        long = compiler.compile(model, options(evaluations=4000))
        ratios.append(latency(warm) / latency(long))
    assert sum(ratios) / len(ratios) <= 1.02


def test_warm_results_do_not_depend_on_what_was_compiled_before(
    compiler: h4hc.Compiler, parent: Compilation
) -> None:
    model = h4hc.normalise(mutant(3))
    first = compiler.compile(model, options(), parent=parent)
    fresh = h4hc.Compiler(h4hc.load_target("npu+cim"))
    again = fresh.compile(h4hc.normalise(mutant(0)), options(evaluations=2000))
    assert first.schedule == fresh.compile(model, options(), parent=again).schedule


def test_a_parent_helps_with_other_objectives_and_baselines(
    compiler: h4hc.Compiler, parent: Compilation
) -> None:
    model = h4hc.normalise(mutant(2))
    for objective in ("energy", "throughput"):
        warm = compiler.compile(
            model, h4hc.Options(effort="fast", objective=objective, evaluations=20), parent=parent
        )
        assert warm.schedule is not None
        assert {baseline.name for baseline in warm.baselines} == {"npu", "cim"}


def chain(*channels: int) -> onnx.ModelProto:
    """1x1 convolutions of these channel counts, each behind the other."""
    steps, weights = [], {}
    for i, (a, b) in enumerate(pairwise(channels)):
        weights[f"w{i}"] = (b, a, 1, 1)
        steps.append(f"t{i + 1} = Conv (t{i}, w{i})")
    last = len(channels) - 1
    text = f"agraph (float[1,{channels[0]},8,8] t0) => (float[1,{channels[-1]},8,8] t{last}) {{ {' '.join(steps)} }}"
    return text_model(text, **weights)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((8, 16, 24, 32), (8, 16, 24, 32), [0, 1, 2]),
        ((8, 16, 24, 32), (8, 20, 24, 32), [0, 1, 2]),  # two layers of another width
        ((8, 16, 16, 32), (8, 16, 16, 16, 32), [0, 1, None, 2]),  # one layer more
        ((8, 16, 16, 16, 32), (8, 16, 16, 32), [0, 1, 3]),  # one layer less
    ],
)
def test_alignment(
    compiler: h4hc.Compiler, old: tuple[int, ...], new: tuple[int, ...], expected: list[int | None]
) -> None:
    found = correspondence(compiler, chain(*old), chain(*new))[0]
    assert [found.get(v) for v in range(len(new) - 1)] == expected


def correspondence(
    compiler: h4hc.Compiler, old: onnx.ModelProto, new: onnx.ModelProto
) -> tuple[dict[int, int], dict[int, int]]:
    """What is aligned, and that with models for the other operators."""
    both = [compiler.compile(h4hc.normalise(model), options()).graph for model in (old, new)]
    operators = [graph.operators for graph in both if graph is not None]
    keys = [[operator.kernel for operator in group] for group in operators]
    known = dict(aligned(operators[0], operators[1], *keys))
    return known, with_models(known, operators[0], operators[1], *keys)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((8, 16, 24, 16, 24, 32), (8, 16, 24, 16, 24, 16, 24, 32), {4: 2, 5: 3}),  # one more equal block
        ((8, 16, 16, 32), (8, 16, 16, 16, 32), {2: 1}),  # one more equal layer
        ((8, 16, 32), (8, 16, 12, 20, 32), {2: 0, 3: 1}),  # only class and rows are the same
    ],
)
def test_added_operators_have_models(
    compiler: h4hc.Compiler, old: tuple[int, ...], new: tuple[int, ...], expected: dict[int, int]
) -> None:
    known, found = correspondence(compiler, chain(*old), chain(*new))
    assert {v: u for v, u in found.items() if v not in known} == expected
    assert known.items() <= found.items()


def test_operators_of_a_new_class_have_no_model(compiler: h4hc.Compiler) -> None:
    text = "agraph (float[1,8,8,8] a) => (float[1,8,8,8] c) { b = Conv (a, w) c = Softmax <axis = 1> (b) }"
    known, found = correspondence(compiler, chain(8, 8), text_model(text, w=(8, 8, 1, 1)))
    assert known == found == {0: 0}


def test_an_added_block_runs_where_its_model_does(compiler: h4hc.Compiler, parent: Compilation) -> None:
    deeper = h4hc.normalise(mutant(0, depths=(3, 2)))
    child = compiler.compile(deeper, options(evaluations=0), parent=parent)
    long = compiler.compile(deeper, options(evaluations=4000))
    assert latency(child) <= 1.02 * latency(long)


def test_what_is_near_a_change_stays_within_the_model() -> None:
    assert Inheritance([0] * 8, [1] * 8, [0, 7]).near_changes == [0, 1, 5, 6, 7]
    assert Inheritance([0] * 8, [1] * 8, []).near_changes == []
