"""Static types of all tensors, and the values of those that only shape others.

One sweep in topological order. For each node: check that its operands fit (onnx's native inference
reads out of bounds on some nonsense), ask onnx for the types of its outputs, and evaluate it if it is
integer arithmetic on known values (bounded, `fold.py`). As values are there before the nodes that
need them, one sweep suffices, however deep the chain of shapes that depend on values. Nodes alike in
everything but names are inferred once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from h4hc.errors import ModelError
from h4hc.frontend.axes import check_axes
from h4hc.frontend.check import check_computed
from h4hc.frontend.division import WATCHED, Divisions
from h4hc.frontend.fold import fold
from h4hc.frontend.limits import Limits
from h4hc.frontend.native import NativeInference, PartialType
from h4hc.frontend.operators import data_dependent
from h4hc.frontend.protos import (
    FLOATS,
    Node,
    TensorType,
    label,
    quoted,
    shape_text,
    tensor_array,
)
from h4hc.frontend.sanity import check_result, check_sanity
from h4hc.frontend.schema import type_problem
from h4hc.frontend.tensors import has_data

Array = np.ndarray[Any, Any]
# Bytes of a result that is folded even if the budget is spent.
_ALWAYS_FOLDED = 1024


@dataclass(frozen=True, slots=True)
class Inferred:
    """Static types of all tensors, and the values computed for outputs of nodes."""

    types: dict[str, TensorType]
    values: dict[str, Array]


def infer(
    nodes: Sequence[Node],
    inputs: Mapping[str, TensorType],
    stored: Mapping[str, TensorProto],
    stated: Mapping[str, TensorType],
    *,
    outputs: Iterable[str],
    opset: int,
    limits: Limits,
) -> Inferred:
    """Types and values. `nodes` in topological order, `stored` the initializers.

    `stated` are types that the model itself states; one is taken where onnx infers none, because
    the shape depends on a run-time value (the axes of a reduction given as a graph input).
    """
    sweep = _Sweep(inputs, stored, stated, opset, limits)
    used = {name for node in nodes for name in node.inputs} | set(outputs)
    for node in nodes:
        sweep.visit(node, used)
    return Inferred(sweep.types, sweep.computed)


class _Sweep:
    """The state of the sweep: what is known about the tensors so far."""

    def __init__(
        self,
        inputs: Mapping[str, TensorType],
        stored: Mapping[str, TensorProto],
        stated: Mapping[str, TensorType],
        opset: int,
        limits: Limits,
    ) -> None:
        self.types = dict(inputs)
        for name, tensor in stored.items():
            self.types[name] = TensorType(tensor.data_type, tuple(tensor.dims))
        self.stored = stored
        self.stated = stated
        self.computed: dict[str, Array] = {}
        self.folded = 0
        self.opset = opset
        self.native = NativeInference(opset, limits)
        self.limits = limits
        self.constants: dict[str, Array | None] = {}
        self.divisions = Divisions(self.types, stored, self.value)

    def visit(self, node: Node, used: set[str]) -> None:
        """Find the types of the node's outputs, and their values if they can be known."""
        types = self.types
        inputs = [types[name] if name else None for name in node.inputs]
        problem = type_problem(node.op, self.opset, tuple([kind.code if kind else 0 for kind in inputs]))
        if problem:
            raise ModelError(f"{label(node)} {problem}", code="type")
        operands = [self.value(name) for name in node.inputs]
        check_axes(node, inputs, operands)
        check_sanity(node, inputs, operands)
        if node.op in {"Div", "Mod"}:
            self.divisions.check(node)
        for name, found in zip(node.outputs, self.native.outputs(node, inputs, operands), strict=True):
            kind = self._static(node, name, found, operands)
            if kind is None:
                if name and name in used:
                    raise data_dependent(node)
                continue
            check_computed(name, kind, label(node), self.limits)
            check_result(node, inputs, kind)
            types[name] = kind
        self._fold(node, inputs, operands)
        if node.op in WATCHED:
            self.divisions.note(node)

    def value(self, name: str) -> Array | None:
        """The value of a tensor, if it is known and small."""
        if name in self.computed:
            return self.computed[name]
        if name in self.constants:
            return self.constants[name]
        tensor = self.stored.get(name)
        if tensor is None:
            return None
        kind = self.types[name]
        value = tensor_array(tensor) if self._small(kind) and has_data(tensor, kind) else None
        self.constants[name] = value
        return value

    def _small(self, kind: TensorType) -> bool:
        if kind.code in FLOATS:
            return kind.elements <= self.limits.fold_floats
        return kind.nbytes <= self.limits.fold_bytes

    def _static(
        self, node: Node, name: str, found: PartialType, operands: Sequence[Array | None]
    ) -> TensorType | None:
        """The inferred type, completed by the node's value or by the type that the model states."""
        kind = found.static or _counted(node, operands)
        stated = self.stated.get(name)
        if kind is not None or stated is None:
            return kind
        dims = stated.shape if found.dims is None else found.dims
        if len(dims) != len(stated.shape) or any(
            extent not in {None, size} for extent, size in zip(dims, stated.shape, strict=True)
        ):
            raise ModelError(
                f"{label(node)} cannot compute {quoted(name)} of the stated shape {shape_text(stated.shape)}",
                code="shape-inference",
            )
        return TensorType(found.code or stated.code, stated.shape)

    def _fold(self, node: Node, inputs: Sequence[TensorType | None], operands: list[Array | None]) -> None:
        kinds = [self.types.get(name) for name in node.outputs]
        if any(kind is not None and not self._small(kind) for kind in kinds):
            return
        size = sum(kind.nbytes for kind in kinds if kind is not None)
        if size > _ALWAYS_FOLDED and self.folded + size > self.limits.fold_total:
            return
        shapes = [kind.shape if kind else () for kind in inputs]
        results = fold(node, operands, shapes, kinds)
        for name, kind, result in zip(node.outputs, kinds, results or (), strict=False):
            if name and kind is not None and result.shape == kind.shape:
                self.computed[name] = result.astype(kind.dtype, copy=False)
                self.folded += kind.nbytes


def _counted(node: Node, operands: Sequence[Array | None]) -> TensorType | None:
    """The type of a NonZero's output, which takes the value of its input."""
    if node.op != "NonZero" or operands[0] is None or operands[0].ndim == 0:
        return None
    return TensorType(TensorProto.INT64, (operands[0].ndim, int(np.count_nonzero(operands[0]))))
