"""Rows that products, windows, reductions and normalisations read. From the ONNX operator definitions.

Each rule gives, per input index, what the asked output rows need; an input that it leaves out is needed in
full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod

from h4hc.verify.needs import (
    Need,
    along_axis,
    axis_need,
    ceil_div,
    everything,
    through_block,
    through_broadcast,
)
from h4hc.verify.sight import Needs, Shape, Sight

# --- windows -----------------------------------------------------------------------------------------


def _window_rows(sight: Sight, kernel: Sequence[int], axis: int, rows: int, extent: int) -> int:
    """Input indices along spatial `axis` (counted from 2) that the first `rows` output indices read."""
    if rows == 0:
        return 0
    spatial = len(kernel)
    strides = sight.node.attribute("strides") or [1] * spatial
    dilations = sight.node.attribute("dilations") or [1] * spatial
    pads = sight.node.attribute("pads") or [0] * (2 * spatial)
    at = axis - 2
    reach = (kernel[at] - 1) * dilations[at] + 1
    before = pads[at]
    automatic = sight.node.attribute("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = max(0, (sight.shape_out()[axis] - 1) * strides[at] + reach - extent)
        before = total // 2 if automatic == "SAME_UPPER" else total - total // 2
    elif automatic == "VALID":
        before = 0
    return max(0, min(extent, int((rows - 1) * strides[at] - before + reach)))


def convolution(weight: int) -> Callable[[Sight], Needs]:
    """Conv and its integer forms; `weight` is the index of the weight input."""

    def rule(sight: Sight) -> Needs:
        shape, weights = sight.shape_in(0), sight.shape_in(weight)
        out = sight.shape_out()
        kernel, groups = weights[2:], int(sight.node.attribute("group", 1))
        if groups == 1 and set(kernel) == {1} and shape[2:] == out[2:]:
            return {0: through_block(sight.need, shape[0], out[1], shape[1], prod(shape[2:]))}
        axis, rows = sight.row()
        if axis == 0:
            return {0: axis_need(shape, 0, rows)}
        if axis == 1:
            used = ceil_div(rows, out[1] // groups) * (shape[1] // groups)
            return {0: axis_need(shape, 1, used)}
        return {0: axis_need(shape, axis, _window_rows(sight, kernel, axis, rows, shape[axis]))}

    return rule


def conv_transpose(sight: Sight) -> Needs:
    """Output row o gathers input rows up to (o + pad) / stride."""
    shape, kernel = sight.shape_in(0), sight.shape_in(1)[2:]
    axis, rows = sight.row()
    if axis < 2:
        return {0: axis_need(shape, 0, rows)} if axis == 0 else {}
    at, node = axis - 2, sight.node
    stride = (node.attribute("strides") or [1] * len(kernel))[at]
    dilation = (node.attribute("dilations") or [1] * len(kernel))[at]
    extra = (node.attribute("output_padding") or [0] * len(kernel))[at]
    pads = node.attribute("pads") or [0] * (2 * len(kernel))
    before = pads[at]
    if node.attribute("output_shape") or node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        whole = stride * (shape[axis] - 1) + extra + (kernel[at] - 1) * dilation + 1
        before = max(before, ceil_div(max(0, whole - sight.shape_out()[axis]), 2))
    return {0: axis_need(shape, axis, (rows - 1 + before) // stride + 1 if rows else 0)}


def pool(sight: Sight) -> Needs:
    """Windows along the spatial axes; batch and channels pass."""
    shape = sight.shape_in(0)
    axis, rows = sight.row()
    if axis >= 2:
        kernel = sight.node.attribute("kernel_shape")
        rows = _window_rows(sight, kernel, axis, rows, shape[axis])
    return {0: axis_need(shape, axis, rows)}


def global_pool(sight: Sight) -> Needs:
    """All of the spatial axes."""
    shape = sight.shape_in(0)
    return {0: through_block(sight.need, prod(shape[:2]), 1, prod(shape[2:]), 1)}


# --- products ----------------------------------------------------------------------------------------


def matmul(left: int, right: int) -> Callable[[Sight], Needs]:
    """MatMul and its integer forms; `left` and `right` are the indices of the operands."""

    def rule(sight: Sight) -> Needs:
        a, b, out = sight.shape_in(left), sight.shape_in(right), sight.shape_out()
        if len(a) < 2 or len(b) < 2:
            return {}
        batch, m, k, n = prod(out[:-2]), a[-2], a[-1], b[-1]
        needs: dict[int, Need] = {}
        if prod(a[:-2]) == batch:
            needs[left] = through_block(sight.need, batch * m, n, k, 1)
        if prod(b[:-2]) == batch:
            needs[right] = _columns(sight.need, batch, m, k, n)
        return needs

    return rule


def _columns(need: Need, batch: int, m: int, k: int, n: int) -> Need:
    """The need of the right operand [batch, k, n] of a product [batch, m, n]."""
    if m and need.prefix % (batch * m) == 0:  # columns of every row: the same columns of the operand
        part = need.prefix // (batch * m)
        return Need(batch * k * part, need.elements)
    return through_block(need, batch, m * n, k * n, 1)


def gemm(sight: Sight) -> Needs:
    """Rows of the output follow rows of A, columns follow columns of B."""
    out = sight.shape_out()
    axis, rows = sight.row()
    a_axis = 1 if sight.node.attribute("transA", 0) else 0
    b_axis = 0 if sight.node.attribute("transB", 0) else 1
    needs: dict[int, Need] = {}
    if axis == 0:
        needs[0] = axis_need(sight.shape_in(0), a_axis, rows)
    else:
        needs[1] = axis_need(sight.shape_in(1), b_axis, rows)
    if sight.has_input(2):
        needs[2] = through_broadcast(sight.need, out, sight.shape_in(2))
    return needs


def einsum(sight: Sight) -> Needs:
    """An operand that carries the asked letter once is read along it."""
    terms, arrow, result = str(sight.node.attribute("equation", "")).replace(" ", "").partition("->")
    if not arrow or "." in terms:
        return {}
    axis, rows = sight.row()
    letter = result[axis]
    return {
        index: axis_need(sight.shape_in(index), term.index(letter), rows)
        for index, term in enumerate(terms.split(","))
        if term.count(letter) == 1
    }


# --- reductions and normalisation --------------------------------------------------------------------


def softmax(sight: Sight) -> Needs:
    """Mixes one axis; before opset 13 all axes from `axis` on."""
    shape = sight.shape_in(0)
    if sight.network.opset >= 13:
        axis = sight.axis(-1, len(shape))
        last = axis
    else:
        axis, last = sight.axis(1, len(shape)), len(shape) - 1
    return {0: _mixing(sight.need, shape, axis, last)}


def _mixing(need: Need, shape: Shape, first: int, last: int) -> Need:
    """The need of an operator that keeps the shape and mixes axes `first` to `last`."""
    mixed = prod(shape[first : last + 1])
    return through_block(need, prod(shape[:first]), mixed, mixed, prod(shape[last + 1 :]))


def normalisation(sight: Sight) -> Needs:
    """LayerNormalization and its kin: axes from `axis` on are mixed, the statistics are outputs too."""
    shape = sight.shape_in(0)
    axis = sight.axis(-1, len(shape))
    mixed = prod(shape[axis:])
    written = mixed if sight.output == 0 else 1
    return {0: through_block(sight.need, prod(shape[:axis]), written, mixed, 1)}


def one_axis(default: int) -> Callable[[Sight], Needs]:
    """Mixes one axis, given by `axis`, and keeps the shape."""

    def rule(sight: Sight) -> Needs:
        shape = sight.shape_in(0)
        axis = sight.axis(default, len(shape))
        return {0: _mixing(sight.need, shape, axis, axis)}

    return rule


def instance_norm(sight: Sight) -> Needs:
    """Mixes the spatial axes of each channel."""
    shape = sight.shape_in(0)
    return {0: _mixing(sight.need, shape, 2, len(shape) - 1)}


def group_norm(sight: Sight) -> Needs:
    """Mixes the channels of a group and all spatial axes."""
    shape = sight.shape_in(0)
    outer = shape[0] * int(sight.node.attribute("num_groups", 1))
    mixed = prod(shape) // outer
    return {0: through_block(sight.need, outer, mixed, mixed, 1)}


def reduce(sight: Sight) -> Needs:
    """Mixes the reduced axes."""
    shape = sight.shape_in(0)
    axes = sight.integers(1, "axes")
    if not axes:
        return {0: sight.need} if sight.node.attribute("noop_with_empty_axes", 0) else {}
    return {0: _reduced(sight, shape, axes)}


def _reduced(sight: Sight, shape: Shape, axes: Iterable[int]) -> Need:
    """The need of the input of a reduction over `axes`."""
    gone = sorted({axis + len(shape) if axis < 0 else axis for axis in axes})
    if gone == list(range(gone[0], gone[-1] + 1)):
        first, last = gone[0], gone[-1]
        mixed = prod(shape[first : last + 1])
        return through_block(sight.need, prod(shape[:first]), 1, mixed, prod(shape[last + 1 :]))
    kept = [1 if axis in gone else extent for axis, extent in enumerate(shape)]
    axis, rows = along_axis(sight.need, kept)
    return everything(prod(shape)) if axis in gone else axis_need(shape, axis, rows)


def arg_reduce(sight: Sight) -> Needs:
    """ArgMax and ArgMin: mixes one axis."""
    shape = sight.shape_in(0)
    return {0: _reduced(sight, shape, [sight.axis(0, len(shape))])}


def top_k(sight: Sight) -> Needs:
    """Mixes one axis, which becomes shorter."""
    shape = sight.shape_in(0)
    axis = sight.axis(-1, len(shape))
    inner = prod(shape[axis + 1 :])
    return {0: through_block(sight.need, prod(shape[:axis]), sight.shape_out()[axis], shape[axis], inner)}
