"""A kernel as a single-operator model compiles to that kernel again."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.frontend import load_model, normalise
from h4hc.frontend.nodes import NodeGraph
from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Precision, Reduction
from h4hc.passes.fuse import build_graph
from h4hc.profiling.build import NoModelError
from h4hc.profiling.models import FORMS, Form, kernel_model
from tests.models import EXAMPLE, NAMES, light_models, unpack

MOST_WEIGHTS = 8 << 20  # elements; nothing is learnt from larger ones


@cache
def kernels_of_models(form: Form) -> tuple[Kernel, ...]:
    """Every distinct kernel of the test models and the light models, views aside."""
    found: dict[Kernel, None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in (EXAMPLE, *(unpack(name, Path(folder)) for name in NAMES), *light_models()):
            graph = build_graph(NodeGraph(load_model(path).model), form)
            found |= dict.fromkeys(operator.kernel for operator in graph.operators)
    return tuple(
        kernel
        for kernel in found
        if kernel.workload.weight_elements <= MOST_WEIGHTS
        and not (isinstance(kernel.workload, Move) and kernel.workload.kind == "view")
    )


def lowered(model: onnx.ModelProto, form: Form) -> list[Kernel]:
    return [operator.kernel for operator in build_graph(NodeGraph(normalise(model)), form).operators]


@pytest.mark.parametrize("form", FORMS)
def test_kernels_of_real_models_survive(form: Form) -> None:
    kernels = kernels_of_models(form)
    assert len(kernels) > 700
    changed = [kernel for kernel in kernels if lowered(kernel_model(kernel, form), form) != [kernel]]
    assert changed == []


def precision(form: Form) -> Precision:
    return Precision(8, 8) if form == "int8" else Precision(32, 32)


sizes = st.integers(1, 9)


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """Any convolution whose output size some padding makes."""
    groups = draw(st.sampled_from([1, 1, 2, 6]))
    transposed = draw(st.booleans())
    axes = []
    for _ in range(2):
        kernel, stride, dilation, size = (
            draw(sizes),
            draw(st.integers(1, 3)),
            draw(st.integers(1, 2)),
            draw(sizes),
        )
        reach = (kernel - 1) * dilation + 1
        pad = draw(st.integers(0, reach - 1))
        if transposed:
            out = (size - 1) * stride + reach - pad
        else:
            size = max(size, reach - pad)
            out = (size + pad - reach) // stride + 1
        axes.append((size, max(1, out), kernel, stride, dilation))
    (ih, oh, kh, sh, dh), (iw, ow, kw, sw, dw) = axes
    channels, more = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    return Conv(
        draw(st.integers(1, 2)), channels, more, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, groups, transposed
    )


def windows(kind: str) -> st.SearchStrategy[Reduction]:
    return st.builds(lambda c, h, w: Reduction(kind, 1, c, h, w, 1, 1, h, w), sizes, st.integers(2, 9), sizes)


def rows(kind: str) -> st.SearchStrategy[Reduction]:
    return st.builds(lambda n, c: Reduction(kind, 1, c, n, 1, n, 1), sizes, st.integers(2, 9))


def moves() -> st.SearchStrategy[Move]:
    two = st.integers(2, 7)
    return st.one_of(
        st.builds(lambda a, b, r: Move("transpose", a * b * r, a * b * r, r), two, two, sizes),
        st.builds(lambda a, b, r: Move("concat", a * r, (a + b) * r, r), two, st.integers(0, 3), sizes),
        st.builds(lambda a, r: Move("split", a * r, a * r, r), two, sizes),
        st.builds(lambda a, r: Move("slice", a * r, a * r, r), sizes, sizes),
        st.builds(lambda a, b, r: Move("pad", a * r, a * (r + b), r + b), sizes, two, sizes),
        st.builds(lambda a, b: Move("resize", a, a * b), two, two),
        st.builds(lambda a, b, w: Move("gather", a * w, b * w), two, two, sizes),
        st.builds(lambda a, b: Move("expand", a, a * b), two, two),
    )


products = st.builds(MatMul, sizes, st.integers(2, 9), st.integers(2, 9), st.integers(2, 9), st.booleans())


@given(work=st.one_of(convolutions(), products), form=st.sampled_from(FORMS))
def test_any_convolution_or_product_survives(work: Conv | MatMul, form: Form) -> None:
    kernel = Kernel(work, (), precision(form))
    assert lowered(kernel_model(kernel, form), form) == [kernel]


@given(
    work=convolutions(),
    epilogue=st.sampled_from([(), ("relu",), ("lut",), ("add",), ("add", "relu"), ("mul",)]),
)
def test_steps_behind_a_convolution_survive(work: Conv, epilogue: tuple[str, ...]) -> None:
    kernel = Kernel(work, epilogue, precision("model"))
    assert lowered(kernel_model(kernel, "model"), "model") == [kernel]


@given(
    work=st.one_of(
        moves(),
        *(windows(kind) for kind in ("mean", "max", "sum", "max_pool", "average_pool")),
        *(rows(kind) for kind in ("softmax", "layer_norm", "l2_norm")),
        st.builds(
            Elementwise, st.integers(2, 99), st.integers(1, 2), st.sampled_from(["add", "sub", "mul", "max"])
        ),
        st.builds(Elementwise, st.integers(2, 99), st.just(1), st.sampled_from(["relu", "lut"])),
    ),
    form=st.sampled_from(FORMS),
)
def test_anything_else_survives(work: Move | Reduction | Elementwise, form: Form) -> None:
    kernel = Kernel(work, (), precision(form))
    assert lowered(kernel_model(kernel, form), form) == [kernel]


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (Move("view", 8, 8), "costs nothing"),
        (Move("transpose", 7, 7), "no two axes"),
        (Move("expand", 4, 6), "from 4 to 6"),
        (Generic("TopK", 100, 10, 3200), "TopK is known by its sizes only"),
        (Elementwise(8, 3, "add"), "3 operands"),
        (Reduction("max_pool", 1, 2, 4, 4, 9, 9, 2, 2), "window 2 from 4 to 9"),
    ],
)
def test_what_has_no_model_says_why(work: Move | Generic | Elementwise | Reduction, reason: str) -> None:
    with pytest.raises(NoModelError, match=reason):
        kernel_model(Kernel(work, (), precision("model")), "model")


@pytest.mark.parametrize("form", FORMS)
def test_the_same_kernel_is_the_same_bytes(form: Form) -> None:
    kernel = Kernel(Conv(1, 8, 16, 7, 7, 7, 7, 3, 3), ("relu",), precision(form))
    first, second = (
        kernel_model(kernel, form, seed=3).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second
    assert first != kernel_model(kernel, form, seed=4).SerializeToString(deterministic=True)
