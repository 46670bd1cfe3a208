"""A read-only view of an ONNX graph: who produces and who reads what, shapes and constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

TRANSFER = ("ai.h4hc", "Transfer")
DEFAULT_DOMAINS = ("", "ai.onnx")
# Operators whose result differs from run to run: never constants, although they may have no input.
RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)
# Operators that know their result from the shape of their input alone.
SHAPE_ONLY = frozenset(("Shape", "Size"))
SMALL_CONSTANT = 65_536  # elements; larger ones are weights, never indices or axes


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `index` is its position in the file."""

    index: int
    name: str
    domain: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: NodeProto

    @property
    def is_transfer(self) -> bool:
        """Whether the node is a change of device."""
        return (self.domain, self.op) == TRANSFER

    @property
    def label(self) -> str:
        """How messages name the node."""
        return f"node {self.name!r} ({self.op})"

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of attribute `name` (bytes as text), or `default` if it is absent or of no known type."""
        from onnx import helper

        for attribute in self.proto.attribute:
            if attribute.name == name:
                try:
                    value = helper.get_attribute_value(attribute)
                except ValueError:
                    return default
                return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return default

    def integers(self, name: str) -> tuple[int, ...]:
        """The value of the integer list attribute `name`, empty if there is none."""
        value = self.attribute(name)
        ints = value if isinstance(value, list) else []
        return tuple(ints) if all(isinstance(item, int) for item in ints) else ()

    def text(self, name: str) -> str:
        """The value of the text attribute `name`, empty if there is none."""
        value = self.attribute(name)
        return value if isinstance(value, str) else ""


class Network:
    """The graph of `model`. Shapes are inferred; the file is asked only where inference has no answer."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.nodes = tuple(_node(index, proto) for index, proto in enumerate(graph.node))
        self.initializers: Mapping[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.sparse = frozenset(tensor.values.name for tensor in graph.sparse_initializer)
        self.inputs = tuple(v.name for v in graph.input if v.name not in self.initializers)
        self.outputs = tuple(v.name for v in graph.output)
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def overridable(self) -> frozenset[str]:
        """The initializers that a caller may replace: before IR version 4 they were listed but fixed."""
        listed = {value.name for value in self.model.graph.input} if self.model.ir_version >= 4 else set()
        return frozenset(listed.intersection(self.initializers))

    @cached_property
    def opset(self) -> int:
        """The version of the default domain."""
        return next((o.version for o in self.model.opset_import if o.domain in DEFAULT_DOMAINS), 1)

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Tensors that are known before the model runs: initializers and what is computed from them alone.

        A node that writes a graph output counts as work of the run all the same.
        """
        known = set(self.initializers) | self.sparse
        wanted = set(self.outputs)
        for node in self.nodes:
            fixed = node.op not in RANDOM and all(not name or name in known for name in node.inputs)
            if fixed and wanted.isdisjoint(node.outputs):
                known.update(name for name in node.outputs if name)
        return frozenset(known)

    @cached_property
    def _stated(self) -> Mapping[str, tuple[tuple[int, ...], int]]:
        return _stated_shapes(self.model.graph)

    @cached_property
    def _inferred(self) -> Mapping[str, tuple[tuple[int, ...], int]]:
        return infer_shapes(self.model)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """The static shape of `tensor`, or None if nobody knows it."""
        found = self._inferred.get(tensor) or self._stated.get(tensor)
        return found[0] if found else None

    def element_type(self, tensor: str) -> int | None:
        """ONNX's number of the element type of `tensor`."""
        found = self._inferred.get(tensor) or self._stated.get(tensor)
        return found[1] if found else None

    def contradictions(self) -> list[str]:
        """Tensors whose stated shape is not the inferred one."""
        return [
            f"tensor {name!r} is stated as {list(stated[0])} but is {list(self._inferred[name][0])}"
            for name, stated in self._stated.items()
            if name in self._inferred and self._inferred[name] != stated
        ]

    def source(self, tensor: str) -> str:
        """The tensor that `tensor` is a transferred copy of (itself, if it is none)."""
        node = self.producers.get(tensor)
        steps = 0
        while node is not None and node.is_transfer and node.inputs and steps <= len(self.nodes):
            tensor = node.inputs[0]
            node = self.producers.get(tensor)
            steps += 1
        return tensor

    def integers(self, tensor: str) -> tuple[int, ...] | None:
        """The values of an integer initializer, or None."""
        from onnx import TensorProto, numpy_helper

        found = self.initializers.get(tensor)
        if found is None or found.data_type not in (TensorProto.INT32, TensorProto.INT64):
            return None
        if prod(found.dims) > SMALL_CONSTANT or found.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return tuple(int(value) for value in numpy_helper.to_array(found).reshape(-1))
        except ValueError:
            return None


def _node(index: int, proto: NodeProto) -> Node:
    return Node(
        index, proto.name, proto.domain, proto.op_type, tuple(proto.input), tuple(proto.output), proto
    )


def _stated_shapes(graph: GraphProto) -> dict[str, tuple[tuple[int, ...], int]]:
    found = {
        tensor.name: (tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer if tensor.name
    }
    for info in (*graph.value_info, *graph.output, *graph.input):
        kind = info.type.tensor_type
        if not kind.HasField("shape"):
            continue
        dims = kind.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            found[info.name] = (tuple(dim.dim_value for dim in dims), kind.elem_type)
    return found


def infer_shapes(model: ModelProto) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shapes by ONNX shape inference from the graph inputs alone, without the file's own value_info.

    Runs on a copy without weight data, and without propagating values: onnx does that element by element, so that
    one long constant would take gigabytes. A model that inference refuses gives nothing: the functional check
    then decides.
    """
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(weightless(model))
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return {}
    return _stated_shapes(inferred.graph)


def weightless(model: ModelProto) -> ModelProto:
    """A copy of `model` without value_info and without the data of large initializers."""
    from onnx import ModelProto, TensorProto

    graph = model.graph
    copy = ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    # Other functions are not expected here, and expanding them could take for ever.
    copy.functions.extend(f for f in model.functions if (f.domain, f.name) == TRANSFER and len(f.node) == 1)
    copy.graph.name = graph.name or "graph"
    copy.graph.node.extend(graph.node)
    copy.graph.input.extend(graph.input)
    copy.graph.output.extend(graph.output)
    for tensor in graph.initializer:
        if prod(tensor.dims) <= 1024 and tensor.data_location != TensorProto.EXTERNAL:
            copy.graph.initializer.append(tensor)
        else:
            light = copy.graph.initializer.add()
            light.name, light.data_type = tensor.name, tensor.data_type
            light.dims.extend(tensor.dims)
    return copy
