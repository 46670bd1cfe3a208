"""Evaluate small integer, boolean and shape arithmetic at compile time.

Every function here computes exactly what onnxruntime computes for the same operator; what is not
certain (rounding, NaN, float16) is left to run time. The caller knows the types of the results and
checks their sizes before anything is computed, so no function here can use much memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from h4hc.errors import ModelError
from h4hc.frontend.protos import Node, TensorType, attribute, label, tensor_array

Array = np.ndarray[Any, Any]
_EXACT_FLOATS = ("float32", "float64")


class Call(NamedTuple):
    """One evaluation: the operands (None: left out), and the types of the results (None: unused)."""

    node: Node
    operands: list[Array | None]
    kinds: list[TensorType | None]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return attribute(self.node.proto, name, default)

    @property
    def first(self) -> Array:
        """The first operand, which is always there."""
        operand = self.operands[0]
        if operand is None:
            raise ValueError("the first input is missing")
        return operand

    @property
    def given(self) -> list[Array]:
        """The operands that are not left out."""
        return [operand for operand in self.operands if operand is not None]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first result."""
        return self.kind.shape

    @property
    def kind(self) -> TensorType:
        """The type of the first result."""
        kind = self.kinds[0]
        if kind is None:
            raise ValueError("the first output is unused")
        return kind

    def list_operand(self, position: int, name: str) -> tuple[int, ...] | None:
        """A list of integers that older operator sets have as attribute `name`, newer ones as an input."""
        if position < len(self.operands):
            operand = self.operands[position]
            return None if operand is None else tuple(int(v) for v in operand.reshape(-1))
        values = self.attribute(name)
        return None if values is None else tuple(values)


def fold(
    node: Node,
    operands: list[Array | None],
    shapes: Sequence[tuple[int, ...]],
    kinds: list[TensorType | None],
) -> tuple[Array, ...] | None:
    """The outputs of `node`, or None if they are not known at compile time.

    `shapes` are those of the inputs, `kinds` the types of the outputs.
    """
    if kinds[0] is None:
        return None
    if node.op in _OF_SHAPES:
        return (np.asarray(_OF_SHAPES[node.op](Call(node, operands, kinds), shapes[0]), dtype=np.int64),)
    function = _FOLDERS.get(node.op)
    if function is None or not _known(node, operands):
        return None
    if any(kind is not None and kind.dtype == "float16" for kind in kinds):
        return None
    try:
        with np.errstate(all="ignore"):
            result = function(Call(node, operands, kinds))
    except (IndexError, ValueError, OverflowError) as error:
        raise ModelError(f"{label(node)} cannot be computed: {error}", code="constant-folding") from error
    if result is None:
        return None
    return tuple(np.asarray(part) for part in (result if isinstance(result, tuple) else (result,)))


def _known(node: Node, operands: Sequence[Array | None]) -> bool:
    """Whether all operands are known, finite and of a type with exact arithmetic."""
    if node.op == "CastLike":
        operands = operands[:1]
    for name, operand in zip(node.inputs, operands, strict=False):
        if operand is None:
            if name:
                return False
        elif operand.dtype.kind == "f" and (
            operand.dtype.name not in _EXACT_FLOATS or not np.isfinite(operand).all()
        ):
            return False
    return bool(node.inputs)


def _shape(call: Call, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape has had a start and an end since operator set 15; both clamp as Python slices do."""
    return shape[call.attribute("start", 0) : call.attribute("end", len(shape))]


def _size(_call: Call, shape: tuple[int, ...]) -> int:
    return TensorType(0, shape).elements


def _reshape(call: Call) -> Array:
    return call.first.reshape(call.shape)


def _expand(call: Call) -> Array:
    return np.broadcast_to(call.first, call.shape)


def _tile(call: Call) -> Array:
    return np.tile(call.first, call.list_operand(1, "repeats") or ())


def _constant_of_shape(call: Call) -> Array:
    value = call.attribute("value")
    return np.full(
        call.shape, 0.0 if value is None else tensor_array(value).reshape(-1)[0], dtype=call.kind.dtype
    )


def _range(call: Call) -> Array | None:
    if call.kind.dtype in _EXACT_FLOATS:
        return None
    start, _, step = call.given
    return np.asarray(start + step * np.arange(call.shape[0], dtype=start.dtype))


def _gather(call: Call) -> Array:
    data, indices = call.given
    return np.take(data, indices, axis=call.attribute("axis", 0))


def _concat(call: Call) -> Array:
    return np.concatenate(call.given, axis=call.attribute("axis", 1))


def _slice(call: Call) -> Array:
    starts, ends = call.list_operand(1, "starts"), call.list_operand(2, "ends")
    axes, steps = call.list_operand(3, "axes"), call.list_operand(4, "steps")
    if starts is None or ends is None:
        raise ValueError("it has no starts or ends")
    index: list[slice] = [slice(None)] * call.first.ndim
    steps = steps or (1,) * len(starts)
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps, strict=True):
        index[axis] = slice(start, end, step)
    return call.first[tuple(index)]


def _split(call: Call) -> tuple[Array, ...] | None:
    axis = call.attribute("axis", 0)
    sizes = [kind.shape[axis] for kind in call.kinds if kind is not None]
    if len(sizes) < len(call.kinds):
        return None
    return tuple(np.split(call.first, np.cumsum(sizes)[:-1].tolist(), axis=axis))


def _transpose(call: Call) -> Array:
    return np.transpose(call.first, call.attribute("perm"))


def _cast(call: Call) -> Array | None:
    source, target = call.first, np.dtype(call.kind.dtype)
    if source.dtype.kind == "f" and target.kind in "iu":
        info = np.iinfo(target)
        # Out of range the result depends on the processor.
        if source.size and not (
            float(info.min) < float(source.min()) and float(source.max()) < float(info.max)
        ):
            return None
    return source.astype(target)


def _where(call: Call) -> Array:
    return np.where(*call.given)


def _non_zero(call: Call) -> Array:
    return np.stack(np.nonzero(call.first)).astype(np.int64)


def _divide(call: Call) -> Array | None:
    a, b = call.given
    if a.dtype.kind == "f":
        return np.divide(a, b) if b.all() else None
    check_divisor(call.node, a, b)
    quotient = np.floor_divide(a, b)
    # ONNX truncates towards zero, NumPy rounds down.
    inexact = quotient * b != a
    rounded: Array = quotient + (inexact & ((a < 0) != (b < 0))).astype(a.dtype)
    return rounded


def _modulo(call: Call) -> Array | None:
    a, b = call.given
    if a.dtype.kind == "f":
        return None
    check_divisor(call.node, a, b)
    return np.fmod(a, b) if call.attribute("fmod", 0) else np.mod(a, b)


def check_divisor(node: Node, dividend: Array | None, divisor: Array) -> None:
    """Refuse integer divisions that kill the process at run time: by zero, and the least number by -1."""
    least = (
        dividend is not None
        and dividend.dtype.kind == "i"
        and (dividend == np.iinfo(dividend.dtype).min).any()
    )
    if not divisor.all() or (least and (divisor == -1).any()):
        problem = "overflows in an integer division" if divisor.all() else "divides integers by zero"
        raise ModelError(f"{label(node)} {problem}", code="integer-division")


def _clip(call: Call) -> Array | None:
    low, high = (*call.operands, None, None)[1:3]
    if call.first.dtype.kind == "f" or (low is None and high is None):
        return None
    result = call.first if low is None else np.maximum(call.first, low)
    return result if high is None else np.minimum(result, high)


def _reduction(function: np.ufunc) -> Callable[[Call], Array | None]:
    def reduce(call: Call) -> Array | None:
        data = call.first
        if data.dtype.kind == "f":
            return None
        axes = call.list_operand(1, "axes")
        if not axes:
            if call.attribute("noop_with_empty_axes", 0):
                return data
            axes = tuple(range(data.ndim))
        reduced: Array = function.reduce(data, axis=axes, dtype=data.dtype)
        return reduced.reshape(call.shape)

    return reduce


def _unary(function: np.ufunc) -> Callable[[Call], Array]:
    return lambda call: np.asarray(function(call.first))


def _variadic(function: np.ufunc) -> Callable[[Call], Array]:
    def fold_all(call: Call) -> Array:
        result = call.first
        for operand in call.given[1:]:
            result = function(result, operand)
        return np.asarray(result)

    return fold_all


_OF_SHAPES: Mapping[str, Callable[[Call, tuple[int, ...]], Any]] = {"Shape": _shape, "Size": _size}
_FOLDERS: Mapping[str, Callable[[Call], Array | tuple[Array, ...] | None]] = {
    "Abs": _unary(np.absolute),
    "Add": _variadic(np.add),
    "And": _variadic(np.logical_and),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _unary(np.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Equal": _variadic(np.equal),
    "Expand": _expand,
    "Flatten": _reshape,
    "Floor": _unary(np.floor),
    "Gather": _gather,
    "Greater": _variadic(np.greater),
    "GreaterOrEqual": _variadic(np.greater_equal),
    "Identity": _reshape,
    "Less": _variadic(np.less),
    "LessOrEqual": _variadic(np.less_equal),
    "Max": _variadic(np.maximum),
    "Min": _variadic(np.minimum),
    "Mod": _modulo,
    "Mul": _variadic(np.multiply),
    "Neg": _unary(np.negative),
    "NonZero": _non_zero,
    "Not": _unary(np.logical_not),
    "Or": _variadic(np.logical_or),
    "Range": _range,
    "ReduceMax": _reduction(np.maximum),
    "ReduceMin": _reduction(np.minimum),
    "ReduceProd": _reduction(np.multiply),
    "ReduceSum": _reduction(np.add),
    "Reshape": _reshape,
    "Round": _unary(np.rint),
    "Slice": _slice,
    "Split": _split,
    "Sqrt": _unary(np.sqrt),
    "Squeeze": _reshape,
    "Sub": _variadic(np.subtract),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Where": _where,
    "Xor": _variadic(np.logical_xor),
}
EVALUATED = frozenset(_FOLDERS) | frozenset(_OF_SHAPES)
