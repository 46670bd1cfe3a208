"""Static types of all tensors, and the values of those that only shape others.

onnx infers the whole graph at once, without weights and without propagating values (which onnx
does without bounds). What is then still open hangs on computed shapes, so a sweep in topological
order evaluates integer arithmetic on known values (bounded, `fold.py`) and asks onnx again for one
node at a time. One sweep suffices, however deep the chain of shapes that depend on values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import EncodeError
from onnx import ModelProto, OperatorSetIdProto, TensorProto, TypeProto, checker, shape_inference

from h4hc.errors import ModelError
from h4hc.frontend.check import check_computed
from h4hc.frontend.division import WATCHED, Divisions
from h4hc.frontend.fold import fold
from h4hc.frontend.limits import Limits
from h4hc.frontend.operators import data_dependent
from h4hc.frontend.protos import (
    FLOATS,
    Node,
    TensorType,
    label,
    quoted,
    set_type,
    shape_text,
    static_type,
    tensor_array,
    tensor_proto,
    type_proto,
)
from h4hc.frontend.sanity import check_sanity
from h4hc.frontend.schema import onnx_schema, type_problem
from h4hc.frontend.tensors import has_data

Array = np.ndarray[Any, Any]
# Bytes of a result that is folded even if the budget is spent.
_ALWAYS_FOLDED = 1024
# What onnx's native inference raises on nonsense.
_NATIVE_ERRORS = (
    shape_inference.InferenceError,
    EncodeError,
    RuntimeError,
    ValueError,
    IndexError,
    TypeError,
)


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
    known = _infer_graph(nodes, sweep.types, stored, opset, limits)
    for node in nodes:
        sweep.visit(node, known, used)
    return Inferred(sweep.types, sweep.computed)


def _infer_graph(
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    stored: Mapping[str, TensorProto],
    opset: int,
    limits: Limits,
) -> dict[str, TensorType]:
    """What onnx infers from shapes alone. Large tensors stand in as inputs, so that no weights are copied."""
    model = ModelProto(ir_version=10, opset_import=[OperatorSetIdProto(version=opset)])
    graph = model.graph
    graph.name = "graph"
    graph.node.extend([node.proto for node in nodes])
    for name, kind in types.items():
        tensor = stored.get(name)
        if tensor is not None and kind.elements <= limits.inference_elements and has_data(tensor, kind):
            graph.initializer.append(tensor)
        else:
            value = graph.input.add()
            value.name = name
            set_type(value.type, kind)
    try:
        result = shape_inference.infer_shapes(model)
    except _NATIVE_ERRORS:
        # The sweep asks again node by node, and can then say which one is at fault.
        return {}
    found = ((value.name, static_type(value.type)) for value in result.graph.value_info)
    return {name: kind for name, kind in found if kind is not None}


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
        self.imports = [OperatorSetIdProto(version=opset)]
        self.limits = limits
        self.constants: dict[str, Array | None] = {}
        self.divisions = Divisions(self.types, stored, self.value)

    def visit(self, node: Node, known: Mapping[str, TensorType], used: set[str]) -> None:
        """Find the types of the node's outputs, and their values if they can be known."""
        types = self.types
        codes = tuple([types[name].code if name else 0 for name in node.inputs])
        problem = type_problem(node.op, self.opset, codes)
        if problem:
            raise ModelError(f"{label(node)} {problem}", code="type")
        operands = self._operands(node)
        check_sanity(node, types, operands, self.opset)
        if node.op in {"Div", "Mod"}:
            self.divisions.check(node)
        found = known
        if any(name and name not in known and name in used for name in node.outputs):
            found = self._infer_node(node, operands)
        for name in node.outputs:
            kind = found.get(name)
            if kind is None:
                if name and name in used:
                    raise data_dependent(node)
                continue
            check_computed(name, kind, label(node), self.limits)
            types[name] = kind
        self._fold(node, operands)
        if node.op in WATCHED:
            self.divisions.note(node)

    def _operands(self, node: Node) -> list[Array | None]:
        return [self.value(name) for name in node.inputs]

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

    def _infer_node(self, node: Node, operands: Sequence[Array | None]) -> dict[str, TensorType]:
        """Ask onnx about one node, with the values of its operands."""
        counted = _counted(node, operands)
        if counted is not None:
            return {node.outputs[0]: counted}
        schema = onnx_schema(node.op, self.opset)
        if schema is None:
            raise ModelError(f"{label(node)} is unknown", code="unknown-operator")
        input_types = {name: type_proto(self.types[name]) for name in node.inputs if name}
        data = {
            name: tensor_proto(name, self.types[name].code, value)
            for name, value in zip(node.inputs, operands, strict=True)
            if value is not None and value.size <= self.limits.inference_elements
        }
        try:
            found = shape_inference.infer_node_outputs(
                schema, node.proto, input_types, data, opset_imports=self.imports, ir_version=10
            )
        except _NATIVE_ERRORS as error:
            raise ModelError(f"{label(node)}: {_first_sentence(error)}", code="shape-inference") from error
        types = {name: self._static(node, name, proto) for name, proto in found.items()}
        return {name: kind for name, kind in types.items() if kind is not None}

    def _static(self, node: Node, name: str, found: TypeProto) -> TensorType | None:
        """The inferred type, completed by the one that the model states."""
        kind, stated = static_type(found), self.stated.get(name)
        if kind is not None or stated is None:
            return kind
        tensor = found.tensor_type
        dims = tensor.shape.dim if tensor.HasField("shape") else ()
        fits = not tensor.HasField("shape") or len(dims) == len(stated.shape)
        pairs = zip(dims, stated.shape, strict=False)
        if not fits or any(d.HasField("dim_value") and d.dim_value != extent for d, extent in pairs):
            raise ModelError(
                f"{label(node)} cannot compute {quoted(name)} of the stated shape {shape_text(stated.shape)}",
                code="shape-inference",
            )
        return TensorType(tensor.elem_type or stated.code, stated.shape)

    def _fold(self, node: Node, operands: list[Array | None]) -> None:
        kinds = [self.types.get(name) for name in node.outputs]
        if any(kind is not None and not self._small(kind) for kind in kinds):
            return
        size = sum(kind.nbytes for kind in kinds if kind is not None)
        if size > _ALWAYS_FOLDED and self.folded + size > self.limits.fold_total:
            return
        shapes = [self.types[name].shape if name else () for name in node.inputs]
        results = fold(node, operands, shapes, kinds, self.opset)
        for name, kind, result in zip(node.outputs, kinds, results or (), strict=False):
            if name and kind is not None and result.shape == kind.shape:
                self.computed[name] = result.astype(kind.dtype, copy=False)
                self.folded += kind.nbytes


def _counted(node: Node, operands: Sequence[Array | None]) -> TensorType | None:
    """The type of a NonZero's output, which takes the value of its input."""
    if node.op != "NonZero" or operands[0] is None or operands[0].ndim == 0:
        return None
    return TensorType(TensorProto.INT64, (operands[0].ndim, int(np.count_nonzero(operands[0]))))


def _first_sentence(error: Exception) -> str:
    """The useful part of a native message."""
    text = str(error).strip()
    for mark in ("[ShapeInferenceError] ", "[TypeInferenceError] "):
        text = text.rsplit(mark, 1)[-1]
    return " ".join(text.split())[:200] or type(error).__name__
