"""What the checker believes an operator needs is enough: changing all other input never changes the output.

Each case is one ONNX node (or a short chain). For every number of output rows, the derived need of each input
is tested against onnxruntime: elements outside of the need get random values,
     the rows asked for must not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper, parser

from h4hc.verify.needs import (
    Need,
    elements_at,
    recut,
    through_block,
    through_broadcast,
    through_transpose,
    union,
)
from h4hc.verify.network import Network
from h4hc.verify.reach import group_needs


@dataclass(frozen=True)
class Case:
    """`text`: the body of a graph with output y. `axis`: the output axis whose rows are asked for."""

    name: str
    header: str
    text: str
    axis: int
    constants: dict[str, object] = field(default_factory=dict)
    streams: bool = True  # whether some input is expected not to be needed in full
    opset: int = 18


CASES = [
    Case("conv", "float[1,3,9,5] x, float[4,3,3,3] w", "y = Conv<pads=[1,1,1,1]>(x, w)", 2),
    Case("conv_stride", "float[1,3,9,5] x, float[4,3,3,1] w", "y = Conv<pads=[0,0,1,0],strides=[2,1]>(x, w)",
         2),
    Case("conv_dilated", "float[1,3,11,5] x, float[4,3,3,1] w", "y = Conv<dilations=[2,1]>(x, w)", 2),
    Case("conv_width", "float[1,3,4,9] x, float[4,3,1,3] w", "y = Conv<pads=[0,2,0,0]>(x, w)", 3),
    Case("conv_same", "float[1,3,9,5] x, float[4,3,4,1] w",
         'y = Conv<auto_pad="SAME_LOWER",strides=[2,1]>(x, w)', 2),
    Case("conv_upper", "float[1,3,9,5] x, float[4,3,4,1] w",
         'y = Conv<auto_pad="SAME_UPPER",strides=[2,1]>(x, w)', 2),
    Case("conv_groups", "float[1,4,5,5] x, float[6,2,1,1] w", "y = Conv<group=2>(x, w)", 1),
    Case("conv_1d", "float[2,3,9] x, float[4,3,3] w", "y = Conv<strides=[2]>(x, w)", 2),
    Case("conv_batch", "float[3,3,4,5] x, float[4,3,3,3] w", "y = Conv(x, w)", 0),
    Case("pointwise", "float[1,3,4,5] x, float[4,3,1,1] w", "y = Conv(x, w)", 2),
    Case("pointwise_tokens", "float[1,3,4,5] x, float[4,3,1,1] w, int64[3] s",
         "c = Conv(x, w) y = Reshape(c, s)", 2,
         {"s": [1, 4, 20]}),
    Case("conv_transpose", "float[1,3,5,4] x, float[3,2,3,2] w", "y = ConvTranspose<strides=[2,1]>(x, w)", 2),
    Case("conv_transpose_pads", "float[1,3,5,4] x, float[3,2,4,2] w",
         "y = ConvTranspose<strides=[2,1],pads=[1,0,2,0]>(x, w)", 2),
    Case("conv_transpose_shape", "float[1,3,5,4] x, float[3,2,3,2] w",
         "y = ConvTranspose<strides=[2,1],output_shape=[10,5]>(x, w)", 2),
    Case("max_pool", "float[1,3,9,5] x", "y = MaxPool<kernel_shape=[3,2],strides=[2,1],pads=[1,0,1,0]>(x)",
         2),
    Case("max_pool_ceil", "float[1,3,8,5] x", "y = MaxPool<kernel_shape=[3,1],strides=[2,1],ceil_mode=1>(x)",
         2),
    Case("average_pool", "float[1,3,9,5] x", "y = AveragePool<kernel_shape=[2,2],strides=[1,2]>(x)", 2),
    Case("global_pool", "float[1,4,3,3] x", "y = GlobalAveragePool(x)", 1),
    Case("matmul", "float[2,5,4] x, float[2,4,3] w", "y = MatMul(x, w)", 1),
    Case("matmul_batch", "float[3,5,4] x, float[3,4,3] w", "y = MatMul(x, w)", 0),
    Case("matmul_columns", "float[2,5,4] x, float[2,4,6] w", "y = MatMul(x, w)", 2),
    Case("matmul_shared", "float[3,5,4] x, float[4,6] w", "y = MatMul(x, w)", 0),
    Case("matmul_vector", "float[5,4] x, float[4] w", "y = MatMul(x, w)", 0, streams=False),
    Case("gemm", "float[5,4] x, float[3,4] w, float[5,1] c", "y = Gemm<transB=1>(x, w, c)", 0),
    Case("gemm_columns", "float[4,5] x, float[4,3] w, float[3] c", "y = Gemm<transA=1>(x, w, c)", 1),
    Case("einsum", "float[2,5,4] x, float[2,3,4] w", 'y = Einsum<equation="bik,bjk->bij">(x, w)', 1),
    Case("softmax", "float[2,5,4] x", "y = Softmax<axis=-1>(x)", 1),
    Case("softmax_outer", "float[2,5,4] x", "y = Softmax<axis=1>(x)", 2),
    Case("softmax_along", "float[1,5,4] x", "y = Softmax<axis=1>(x)", 1, streams=False),
    Case("softmax_old", "float[3,5,4] x", "y = Softmax<axis=1>(x)", 0, opset=11),
    Case("softmax_old_along", "float[1,5,4] x", "y = Softmax<axis=1>(x)", 1, streams=False, opset=11),
    Case("layer_norm", "float[2,5,4] x, float[4] s, float[4] b", "y = LayerNormalization(x, s, b)", 1),
    Case("layer_norm_mean", "float[2,5,4] x, float[4] s", "o, m = LayerNormalization(x, s) y = Identity(m)",
         1, opset=17),
    Case("layer_norm_parts", "float[2,5,4] x",
         "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) "
         "r = Sqrt(v) y = Div(d, r)", 1, opset=17),
    Case("instance_norm", "float[2,3,4,4] x, float[3] s, float[3] b", "y = InstanceNormalization(x, s, b)",
         1),
    Case("batch_norm", "float[2,3,5,4] x, float[3] s, float[3] b, float[3] m, float[3] v",
         "a = Abs(v) y = BatchNormalization(x, s, b, m, a)", 2),
    Case("lp_norm", "float[5,4] x", "y = LpNormalization<axis=1>(x)", 0),
    Case("reduce_keep", "float[2,5,4] x, int64[1] a", "y = ReduceSum(x, a)", 1, {"a": [2]}),
    Case("reduce_drop", "float[2,5,4] x, int64[1] a", "y = ReduceSum<keepdims=0>(x, a)", 1, {"a": [1]}),
    Case("reduce_middle", "float[5,3,2,4] x, int64[2] a", "y = ReduceMax(x, a)", 0, {"a": [1, 3]}),
    Case("reduce_rows", "float[1,5,4] x, int64[1] a", "y = ReduceMean<keepdims=0>(x, a)", 1, {"a": [1]}),
    Case("arg_max", "float[5,4] x", "i = ArgMax<axis=1>(x) y = Cast<to=1>(i)", 0),
    Case("top_k", "float[5,4] x, int64[1] k", "y, i = TopK<axis=1>(x, k)", 0, {"k": [2]}),
    Case("add", "float[1,3,5,4] x, float[1,3,5,4] w", "y = Add(x, w)", 2),
    Case("add_row", "float[1,3,5,4] x, float[5,1] w", "y = Add(x, w)", 2),
    Case("add_column", "float[1,3,5,4] x, float[1,3,1,4] w", "y = Add(x, w)", 2),
    Case("scale_channels", "float[1,3,5,4] x, float[1,3,1,1] w", "y = Mul(x, w)", 1),
    Case("where", "bool[5,1] c, float[5,4] x, float[4] w", "y = Where(c, x, w)", 0),
    Case("merged_rows", "float[1,4,5,2] x, float[1,4,1,1] w, int64[3] s",
         "m = Mul(x, w) y = Reshape(m, s)", 1, {"s": [1, 20, 2]}),
    Case("split_rows", "float[1,6,2] x, float[1,6,1] w, int64[4] s", "m = Mul(x, w) y = Reshape(m, s)", 2,
         {"s": [1, 2, 3, 2]}),
    Case("transpose", "float[2,5,4] x", "y = Transpose<perm=[2,0,1]>(x)", 0),
    Case("transpose_inner", "float[2,5,4] x", "y = Transpose<perm=[2,0,1]>(x)", 2),
    Case("transpose_units", "float[1,6,4] x, float[6,1,4] w, int64[5] s",
         "r = Reshape(x, s) t = Transpose<perm=[1,3,0,2,4]>(r) y = Add(t, w)", 0, {"s": [1, 6, 1, 1, 4]}),
    Case("transpose_pair", "float[1,3,4,2,2] x", "y = Transpose<perm=[0,3,1,2,4]>(x)", 2),
    Case("transpose_merged", "float[3,1,4,5] x, int64[2] s",
         "t = Transpose<perm=[1,3,0,2]>(x) y = Reshape(t, s)", 1, {"s": [5, 12]}),
    Case("concat_across", "float[1,3,5,4] x, float[1,2,5,4] w", "y = Concat<axis=1>(x, w)", 2),
    Case("concat_along", "float[1,3,4] x, float[1,5,4] w", "y = Concat<axis=1>(x, w)", 1),
    Case("split_across", "float[1,6,5,4] x", "z, y = Split<axis=1,num_outputs=2>(x)", 2),
    Case("split_along", "float[1,6,4] x", "z, y = Split<axis=1,num_outputs=2>(x)", 1),
    Case("slice_across", "float[1,6,5,4] x, int64[1] b, int64[1] e, int64[1] a", "y = Slice(x, b, e, a)", 2,
         {"b": [1], "e": [4], "a": [1]}),
    Case("slice_along", "float[1,9,4] x, int64[1] b, int64[1] e, int64[1] a, int64[1] t",
         "y = Slice(x, b, e, a, t)", 1, {"b": [-8], "e": [8], "a": [1], "t": [2]}),
    Case("slice_backwards", "float[1,9,4] x, int64[1] b, int64[1] e, int64[1] a, int64[1] t",
         "y = Slice(x, b, e, a, t)", 1, {"b": [8], "e": [2], "a": [1], "t": [-1]}, streams=False),
    Case("slice_two", "float[5,6,4] x, int64[2] b, int64[2] e", "y = Slice(x, b, e)", 0, {"b": [1, 1],
         "e": [4, 5]}),
    Case("pad_along", "float[1,5,4] x, int64[6] p", "y = Pad(x, p)", 1, {"p": [0, 2, 0, 0, 1, 0]}),
    Case("pad_across", "float[1,5,4] x, int64[6] p", "y = Pad(x, p)", 1, {"p": [0, 0, 1, 0, 0, 2]}),
    Case("pad_crop", "float[1,5,4] x, int64[6] p", "y = Pad(x, p)", 1, {"p": [0, -1, 0, 0, 2, 0]}),
    Case("pad_reflect", "float[1,5,4] x, int64[6] p", 'y = Pad<mode="reflect">(x, p)', 1, {"p": [0, 3, 0, 0,
         2, 0]}),
    Case("pad_edge", "float[1,5,4] x, int64[6] p", 'y = Pad<mode="edge">(x, p)', 1, {"p": [0, 3, 0, 0, 2,
         0]}),
    Case("pad_axes", "float[1,5,4] x, int64[2] p, float v, int64[1] a", "y = Pad(x, p, v, a)", 1,
         {"p": [2, 1], "v": 0.5, "a": [-2]}),
    Case("gather_before", "float[5,4] x, int64[3] i", "y = Gather<axis=1>(x, i)", 0, {"i": [0, 3, 1]}),
    Case("gather_behind", "float[4,5] x, int64[3] i", "y = Gather<axis=0>(x, i)", 1, {"i": [0, 3, 1]}),
    Case("gather_indices", "float[4,5] x, int64[3] i", "y = Gather<axis=0>(x, i)", 0, {"i": [0, 3, 1]},
         streams=False),
    Case("expand", "float[5,1] x, int64[2] s", "y = Expand(x, s)", 0, {"s": [5, 3]}),
    Case("expand_rows", "float[1,3] x, int64[2] s", "y = Expand(x, s)", 0, {"s": [5, 3]}, streams=False),
    Case("tile", "float[5,2] x, int64[2] t", "y = Tile(x, t)", 0, {"t": [1, 2]}),
    Case("tile_rows", "float[5,2] x, int64[2] t", "y = Tile(x, t)", 0, {"t": [2, 1]}, streams=False),
    Case("resize_across", "float[1,2,5,3] x, float r, float[4] f", 'y = Resize<mode="linear">(x, , f)', 2,
         {"f": [1.0, 1.0, 1.0, 2.0]}),
    Case("resize_along", "float[1,2,5,3] x, float[4] f", 'y = Resize<mode="nearest">(x, , f)', 2,
         {"f": [1.0, 1.0, 2.0, 1.0]}, streams=False),
    Case("depth_to_space", "float[1,8,3,2] x", "y = DepthToSpace<blocksize=2>(x)", 2),
    Case("space_to_depth", "float[1,2,6,4] x", "y = SpaceToDepth<blocksize=2>(x)", 2),
    Case("cum_sum", "float[5,4] x, int64 a", "y = CumSum(x, a)", 0, {"a": 0}),
    Case("cum_sum_reverse", "float[5,4] x, int64 a", "y = CumSum<reverse=1>(x, a)", 0, {"a": 0},
         streams=False),
    Case("cast_like", "float[5,4] x, float[5,4] w", "y = CastLike(x, w)", 0),
    Case("no_rule", "float[1,4,5,3] x", "y = LRN<size=3>(x)", 2, streams=False),
]  # fmt: skip


def build(case: Case) -> ModelProto:
    head = f'<ir_version: 8, opset_import: ["" : {case.opset}]>'
    model = parser.parse_model(f"{head} g ({case.header}) => (float y) {{ {case.text} }}")
    values = {value.name: value for value in model.graph.input}
    for name, data in case.constants.items():
        kind = np.int64 if values[name].type.tensor_type.elem_type == 7 else np.float32
        model.graph.initializer.append(numpy_helper.from_array(np.array(data, kind), name))
        model.graph.input.remove(values[name])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_needs_are_sufficient(case: Case) -> None:
    model = build(case)
    network = Network(model)
    shape = network.shape("y")
    assert shape is not None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(1)
    feed = {i.name: random_array(generator, i.shape, i.type) for i in session.get_inputs()}
    (whole,) = session.run(["y"], feed)
    assert whole.shape == shape
    prefix, rows = prod(shape[: case.axis]), shape[case.axis]
    saved = False
    for asked in range(1, rows + 1):
        wanted = Need(prefix, asked * prod(shape[case.axis + 1 :]))
        needs = group_needs(network, network.nodes, {"y": wanted})
        changed = {
            name: outside_replaced(array, needs.get(name, Need(1, 0)), generator)
            for name, array in feed.items()
        }
        saved = saved or any(not np.array_equal(changed[name], feed[name]) for name in feed)
        (found,) = session.run(["y"], changed)
        kept = slice(0, wanted.elements)
        np.testing.assert_array_equal(whole.reshape(prefix, -1)[:, kept], found.reshape(prefix, -1)[:, kept])
    assert saved == case.streams


WINDOWS = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[1,49,8] x, float[1,49,8] skip) => (float[1,49,8] y)
<int64[6] windows = {1, 1, 1, 7, 7, 8}, int64[4] image = {1, 7, 7, 8}, int64[3] tokens = {1, 49, 8}> {
  m = MatMul(x, w)
  b = Add(bias, m)
  v = Reshape(b, windows)
  t = Transpose<perm=[0,1,3,2,4,5]>(v)
  i = Reshape(t, image)
  s = Reshape(skip, image)
  r = Add(s, i)
  y = Reshape(r, tokens)
}
"""


@pytest.mark.parametrize("rows", [1, 7, 20, 48, 49])
def test_one_window_of_the_whole_image_keeps_rows(rows: int) -> None:
    """The end of a window attention block: where one window is the whole image, only axes of extent 1 move."""
    model = parser.parse_model(WINDOWS)
    for name, shape in (("w", (8, 8)), ("bias", (8,))):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    network = Network(model)
    needs = group_needs(network, network.nodes, {"y": Need(1, rows * 8)})
    assert (needs["x"], needs["skip"]) == (Need(1, rows * 8), Need(1, rows * 8))


def random_array(generator: np.random.Generator, shape: list[int], kind: str) -> np.ndarray:
    if "bool" in kind:
        return generator.integers(0, 2, shape).astype(bool)
    return generator.standard_normal(shape).astype(np.float32)


def outside_replaced(array: np.ndarray, need: Need, generator: np.random.Generator) -> np.ndarray:
    """`array` with new values wherever `need` does not reach."""
    slabs = array.reshape(need.prefix, -1).copy()
    rest = slabs[:, need.elements :]
    slabs[:, need.elements :] = random_array(
        generator, list(rest.shape), "bool" if array.dtype == bool else ""
    )
    return slabs.reshape(array.shape)


# --- the arithmetic, against sets of elements --------------------------------------------------------

extents = st.integers(1, 4)


def elements(need: Need, total: int) -> set[int]:
    slab = total // need.prefix
    return {p * slab + e for p in range(need.prefix) for e in range(min(need.elements, slab))}


@st.composite
def needs_of(draw: st.DrawFn, total: int) -> Need:
    prefix = draw(st.sampled_from([p for p in range(1, total + 1) if total % p == 0]))
    return Need(prefix, draw(st.integers(0, total // prefix)))


@given(st.data(), st.sampled_from([1, 6, 12, 24, 36]))
def test_recut_and_union_cover(data: st.DataObject, total: int) -> None:
    first, second = data.draw(needs_of(total)), data.draw(needs_of(total))
    assert elements(first, total) <= elements(recut(first, total, second.prefix), total)
    assert elements(first, total) | elements(second, total) <= elements(union(first, second, total), total)
    assert elements_at(first, total, first.prefix) == first.elements


@given(st.data(), extents, extents, extents, extents)
def test_through_block_covers(data: st.DataObject, outer: int, written: int, read: int, inner: int) -> None:
    need = data.draw(needs_of(outer * written * inner))
    asked = elements(need, outer * written * inner)
    expected = {
        (e // (written * inner)) * read * inner + middle * inner + e % inner
        for e in asked
        for middle in range(read)
    }
    answer = through_block(need, outer, written, read, inner)
    assert expected <= elements(answer, outer * read * inner)


@given(st.data(), st.lists(extents, min_size=1, max_size=4))
def test_through_broadcast_covers(data: st.DataObject, shape: list[int]) -> None:
    need = data.draw(needs_of(prod(shape)))
    operand = [extent if data.draw(st.booleans()) else 1 for extent in shape]
    operand = operand[data.draw(st.integers(0, len(shape))) :]
    index = np.broadcast_to(np.arange(prod(operand)).reshape(operand), shape).reshape(-1)
    expected = {int(index[e]) for e in elements(need, prod(shape))}
    assert expected <= elements(through_broadcast(need, shape, operand), prod(operand))


@given(st.data(), st.lists(extents, min_size=1, max_size=5))
def test_through_transpose_covers(data: st.DataObject, shape: list[int]) -> None:
    permutation = data.draw(st.permutations(range(len(shape))))
    need = data.draw(needs_of(prod(shape)))
    index = np.arange(prod(shape)).reshape(shape).transpose(permutation).reshape(-1)
    expected = {int(index[e]) for e in elements(need, prod(shape))}
    answer = through_transpose(need, shape, permutation)
    assert expected <= elements(answer, prod(shape))
    if np.array_equal(index, np.arange(prod(shape))):
        assert answer == need
