"""Check that axes exist. Native code indexes shapes with them, not always after a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from h4hc.errors import ModelError
from h4hc.frontend.protos import Node, TensorType, attribute, label

Array = np.ndarray[Any, Any]

_AXIS = frozenset({"axis", "batch_axis", "time_axis"})
_AXES = frozenset({"axes"})
# Operators whose result has more dimensions than their inputs, so that an axis may lie beyond those.
_GROWING = frozenset({"OneHot", "Unsqueeze", "Flatten", "Concat"})
# Operators whose axes are an input, from some operator set on.
_AXES_INPUT = {
    **dict.fromkeys(
        (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
            "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Squeeze", "Unsqueeze", "CumSum",
        ),
        1,
    ),
    "Slice": 3,
    "Pad": 3,
    "DFT": 2,
}  # fmt: skip


def check_axes(node: Node, inputs: Sequence[TensorType | None], operands: Sequence[Array | None]) -> None:
    """Refuse axes that are no axes of the node's inputs, and malformed permutations and splits."""
    rank = max((len(kind.shape) for kind in inputs if kind is not None), default=0)
    for item in node.proto.attribute:
        if item.name in _AXIS:
            _check(node, item.name, (item.i,), rank)
        elif item.name in _AXES:
            _check(node, item.name, tuple(item.ints), rank)
        elif item.name == "batch_dims" and not 0 <= item.i <= rank:
            raise _error(node, f"has batch_dims = {item.i}")
        elif item.name == "perm" and sorted(item.ints) != list(range(rank)):
            raise _error(node, f"permutes {rank} dimensions by {list(item.ints)[:16]}")
    position = _AXES_INPUT.get(node.op, len(operands))
    if position < len(operands):
        axes = operands[position]
        if axes is not None:
            _check(node, "axes", tuple(axes.reshape(-1).tolist()), rank)
    if node.op == "Split":
        _check_split(node, operands)


def _check(node: Node, name: str, axes: tuple[int, ...], rank: int) -> None:
    if node.op == "Unsqueeze":
        rank += len(axes)
    elif node.op in _GROWING:
        rank += 1
    rank = max(rank, 1)
    if len(axes) > rank or any(not -rank <= axis <= rank for axis in axes):
        raise _error(node, f"has {name} {', '.join(map(str, axes[:8]))}, but tensors of rank {rank}")


def _check_split(node: Node, operands: Sequence[Array | None]) -> None:
    parts = attribute(node.proto, "num_outputs")
    if parts is not None and parts != len(node.outputs):
        raise _error(node, f"splits into {parts} parts and has {len(node.outputs)} outputs")
    sizes = attribute(node.proto, "split")
    if len(operands) > 1 and operands[1] is not None:
        sizes = tuple(operands[1].reshape(-1).tolist())
    if sizes is not None and len(sizes) != len(node.outputs):
        raise _error(node, f"splits into {len(sizes)} parts and has {len(node.outputs)} outputs")


def _error(node: Node, problem: str) -> ModelError:
    return ModelError(f"{label(node)} {problem}", code="attribute")
