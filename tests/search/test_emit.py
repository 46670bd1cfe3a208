"""The emitter: valid models whose size is what the space says, and that the compiler takes."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h4hc
from h4hc.errors import SpaceError
from h4hc.frontend.normal import is_normal
from h4hc.search.emit import emit, random_weights
from h4hc.search.space import Space, load_space
from h4hc.search.subnet import from_json
from tests.search.spaces import SHIPPED, kitchen_sink

SPACES = {name: load_space(name) for name in SHIPPED} | {"sink": kitchen_sink(), "sequence": kitchen_sink(1)}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = model.graph
    found = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in (*graph.input, *graph.output, *graph.value_info)
    }
    return found | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def macs_of(model: onnx.ModelProto) -> int:
    """Multiply-accumulates, counted from the nodes and the shapes of their tensors."""
    shapes, total = shapes_of(model), 0
    for node in model.graph.node:
        result = prod(shapes[node.output[0]])
        if node.op_type == "Conv":
            total += result * prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            total += result * shapes[node.input[0]][-1]
    return total


def parameters_of(model: onnx.ModelProto) -> int:
    return sum(prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_models_are_valid_and_of_the_stated_size(name: str, seed: int) -> None:
    space = SPACES[name]
    subnet = space.sample(rng(seed))
    model = emit(space, subnet)
    assert is_normal(model)
    assert (macs_of(model), parameters_of(model)) == (space.macs(subnet), space.parameters(subnet))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert from_json(model.metadata_props[0].value) == subnet


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("which", ["largest", "smallest", "random"])
def test_stated_shapes_are_those_that_onnx_infers(name: str, which: str) -> None:
    space = SPACES[name]
    subnet = space.sample(rng(5)) if which == "random" else getattr(space, which)()
    model = emit(space, subnet)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    assert shapes_of(inferred) == shapes_of(model)


@pytest.mark.parametrize("name", ["h4h-tiny", "sink", "sequence"])
def test_models_with_weights_pass_the_checker(name: str) -> None:
    space = SPACES[name]
    for subnet in (space.largest(), space.smallest(), space.sample(rng(1))):
        model = emit(space, subnet, random_weights(space.program(subnet)))
        onnx.checker.check_model(model, full_check=True)


def test_blocks_out_of_the_cache_give_the_same_model() -> None:
    subnets = [SPACES["h4h-imagenet"].sample(rng(seed)) for seed in range(5)]
    used, fresh = SPACES["h4h-imagenet"], load_space("h4h-imagenet")
    for subnet in subnets:
        first = emit(used, subnet).SerializeToString(deterministic=True)
        assert emit(used, subnet).SerializeToString(deterministic=True) == first
        assert emit(fresh, subnet).SerializeToString(deterministic=True) == first


def test_weights_must_be_those_of_the_subnet() -> None:
    space = SPACES["h4h-tiny"]
    weights = random_weights(space.program(space.largest()))
    with pytest.raises(
        SpaceError, match=r"weight stem\.conv\.weight is of shape \(8, 1, 3, 3\); .* \(4, 1, 3, 3\)"
    ):
        emit(space, space.smallest(), weights)
    del weights["head.classifier.bias"]
    with pytest.raises(
        SpaceError, match=r"weight head\.classifier\.bias is not given; the subnet needs \(10,\)"
    ):
        emit(space, space.largest(), weights)


def compiled(space: Space, seed: int, folder: Path) -> None:
    """Compile with and without weights; verify the bundle of the model with weights."""
    subnet = space.sample(rng(seed))
    compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
    options = h4hc.Options(effort="fast")
    weightless = compiler.compile(h4hc.normalise(emit(space, subnet), weightless=True), options)
    assert weightless.graph is not None
    assert sum(op.kernel.workload.macs for op in weightless.graph.operators) == space.macs(subnet)
    path = folder / "subnet.onnx"
    onnx.save(emit(space, subnet, random_weights(space.program(subnet))), path)
    loaded = h4hc.load_model(path)
    result = compiler.compile(loaded.model, options, loaded.source)
    assert weightless.graph == result.graph
    h4hc.write_bundle(result, folder / "bundle")
    report = h4hc.verify_bundle(folder / "bundle", path, seeds=1, isolate=False)
    assert [f"{c.code} {c.detail}" for c in report.checks if c.passed is not True] == []


@pytest.mark.parametrize("name", ["h4h-tiny", "sink", "sequence"])
@pytest.mark.parametrize("seed", [0, 1])
def test_models_compile_and_verify(name: str, seed: int, tmp_path: Path) -> None:
    compiled(SPACES[name], seed, tmp_path)


def test_an_imagenet_subnet_compiles_and_verifies(tmp_path: Path) -> None:
    space = SPACES["h4h-imagenet"]
    depths = {gene.name: [1] for gene in space.genes if gene.name.endswith("vit.depth")}
    compiled(space.restrict(genes={**depths, "resolution": [192]}), 0, tmp_path)
