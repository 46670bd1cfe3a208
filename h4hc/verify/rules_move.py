"""Rows that elementwise operators and data movement read. From the ONNX operator definitions.

Each rule gives, per input index, what the asked output rows need; an input that it leaves out is needed in
full.
"""

from __future__ import annotations

from math import prod

from h4hc.verify.needs import (
    NOTHING,
    Need,
    axis_need,
    ceil_div,
    through_block,
    through_broadcast,
    through_transpose,
)
from h4hc.verify.sight import Needs, Shape, Sight

# --- same shape, views -------------------------------------------------------------------------------


def elementwise(sight: Sight) -> Needs:
    """Elementwise with broadcasting, over all inputs."""
    shape = sight.shape_out()
    inputs = range(len(sight.node.inputs))
    return {i: through_broadcast(sight.need, shape, sight.shape_in(i)) for i in inputs if sight.has_input(i)}


def first_input(sight: Sight) -> Needs:
    """Elementwise on the first input; the others are parameters. Also views."""
    training = sight.node.op == "BatchNormalization" and sight.node.attribute("training_mode", 0)
    if training or prod(sight.shape_in(0)) != prod(sight.shape_out()):
        return {}
    return {0: sight.need}


def cast_like(sight: Sight) -> Needs:
    """Reads the data of its first input and only the type of its second."""
    return {0: sight.need, 1: NOTHING}


def transpose(sight: Sight) -> Needs:
    """The asked output axes are input axes; nothing changes where only axes of extent 1 move."""
    shape = sight.shape_in(0)
    permutation = sight.node.attribute("perm") or list(range(len(shape)))[::-1]
    return {0: through_transpose(sight.need, shape, permutation)}


# --- movement ----------------------------------------------------------------------------------------


def concat(sight: Sight) -> Needs:
    """Along the axis one input comes after the other; across it all pass."""
    out = sight.shape_out()
    axis = sight.axis(1, len(out))
    outer, inner = prod(out[:axis]), prod(out[axis + 1 :])
    along, rows = sight.row()
    needs: dict[int, Need] = {}
    offset = 0
    for index in range(len(sight.node.inputs)):
        shape = sight.shape_in(index)
        if along == axis:
            needs[index] = axis_need(shape, axis, rows - offset)
        else:
            needs[index] = through_block(sight.need, outer, out[axis], shape[axis], inner)
        offset += shape[axis]
    return needs


def split(sight: Sight) -> Needs:
    """Along the axis the part starts at an offset; across it rows pass."""
    shape, out = sight.shape_in(0), sight.shape_out()
    axis = sight.axis(0, len(shape))
    along, rows = sight.row()
    if along == axis:
        before = [sight.network.shape(name) for name in sight.node.outputs[: sight.output]]
        offset = sum(part[axis] if part else shape[axis] for part in before)
        return {0: axis_need(shape, axis, rows + offset if rows else 0)}
    inner = prod(shape[axis + 1 :])
    return {0: through_block(sight.need, prod(shape[:axis]), out[axis], shape[axis], inner)}


def slicing(sight: Sight) -> Needs:
    """Along a cut axis rows shift and scale; across it they pass."""
    shape, out = sight.shape_in(0), sight.shape_out()
    cuts = _cuts(sight, shape)
    changed = [
        axis for axis, (start, step) in cuts.items() if (start, step, out[axis]) != (0, 1, shape[axis])
    ]
    if not changed:
        return {0: sight.need}
    along, rows = sight.row()
    if along in changed:
        start, step = cuts[along]
        if step < 0:
            return {}
        return {0: axis_need(shape, along, start + (rows - 1) * step + 1 if rows else 0)}
    if len(changed) == 1:
        axis = changed[0]
        inner = prod(shape[axis + 1 :])
        return {0: through_block(sight.need, prod(shape[:axis]), out[axis], shape[axis], inner)}
    return {0: axis_need(shape, along, rows)}


def _cuts(sight: Sight, shape: Shape) -> dict[int, tuple[int, int]]:
    """Start and step of a Slice, by axis."""
    starts = sight.integers(1, "starts") or ()
    axes = sight.integers(3, "axes") or tuple(range(len(starts)))
    steps = sight.integers(4) or (1,) * len(starts)
    cuts = {}
    for start, axis, step in zip(starts, axes, steps, strict=True):
        at = axis + len(shape) if axis < 0 else axis
        first = start + shape[at] if start < 0 else start
        cuts[at] = (max(0, min(first, shape[at])), step)
    return cuts


def pad(sight: Sight) -> Needs:
    """Along a padded axis rows shift; reflections read ahead."""
    shape, out = sight.shape_in(0), sight.shape_out()
    pads = sight.integers(1, "pads") or ()
    axes = sight.integers(3) or tuple(range(len(shape)))
    before = {
        (axis + len(shape) if axis < 0 else axis): (pads[i], pads[i + len(axes)])
        for i, axis in enumerate(axes)
    }
    changed = [axis for axis, (first, last) in before.items() if first or last]
    if not changed:
        return {0: sight.need}
    along, rows = sight.row()
    mode = sight.node.attribute("mode", "constant")
    if along in changed:
        first = before[along][0]
        if mode == "wrap" or rows == 0:
            return {} if rows else {0: NOTHING}
        least = first + 1 if mode == "reflect" and first > 0 else int(mode == "edge")
        return {0: axis_need(shape, along, max(least, rows - first))}
    if len(changed) == 1:
        axis = changed[0]
        inner = prod(shape[axis + 1 :])
        return {0: through_block(sight.need, prod(shape[:axis]), out[axis], shape[axis], inner)}
    return {0: axis_need(shape, along, rows)}


def gather(sight: Sight) -> Needs:
    """Rows of the data before and behind the axis, rows of the indices in its place."""
    data, indices = sight.shape_in(0), sight.shape_in(1)
    axis = sight.axis(0, len(data))
    along, rows = sight.row()
    if along < axis:
        inner = prod(data[axis + 1 :])
        return {0: through_block(sight.need, prod(data[:axis]), prod(indices), data[axis], inner)}
    if along < axis + len(indices):
        return {1: axis_need(indices, along - axis, rows)}
    return {0: axis_need(data, along - len(indices) + 1, rows)}


def expand(sight: Sight) -> Needs:
    """Broadcasting."""
    return {0: through_broadcast(sight.need, sight.shape_out(), sight.shape_in(0))}


def kept_axes(sight: Sight) -> Needs:
    """Tile, Resize: an axis whose extent does not change keeps its rows, any other is needed in full."""
    shape, out = sight.shape_in(0), sight.shape_out()
    axis, rows = sight.row()
    crops = sight.node.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if crops or sight.node.attribute("mode", "") == "cubic":
        return {}
    return {0: axis_need(shape, axis, rows)} if shape[axis] == out[axis] else {}


def depth_to_space(sight: Sight) -> Needs:
    """`blocksize` output rows come from one input row."""
    shape, out = sight.shape_in(0), sight.shape_out()
    axis, rows = sight.row()
    if axis == 1:
        return {}
    factor = max(1, out[axis] // shape[axis])
    return {0: axis_need(shape, axis, ceil_div(rows, factor))}


def space_to_depth(sight: Sight) -> Needs:
    """One output row comes from `blocksize` input rows."""
    shape, out = sight.shape_in(0), sight.shape_out()
    axis, rows = sight.row()
    if axis == 1:
        return {}
    return {0: axis_need(shape, axis, rows * max(1, shape[axis] // out[axis]))}


def cumulative(sight: Sight) -> Needs:
    """A running sum reads what is before, unless it runs backwards."""
    if sight.node.attribute("reverse", 0):
        return {}
    shape = sight.shape_in(0)
    axis, rows = sight.row()
    return {0: axis_need(shape, axis, rows)}
