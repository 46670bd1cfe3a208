"""A light view of a normalised ONNX graph: nodes, who produces and reads each tensor, shapes on demand.

Reading protobuf fields is the main cost of compiling a small model, so attributes and shapes are parsed
only when they are asked for.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from h4hc.errors import ModelError

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
}

# Operators whose result differs from run to run: never constant, whatever their inputs.
_RANDOM = frozenset(
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"]
)


# Encoded TypeProto -> shape and element type. Few types recur in many tensors and models, and reading one field by
# field takes three times as long as encoding it.
_TYPES: dict[bytes, tuple[tuple[int, ...], str]] = {}


class Node:
    """One ONNX node. `index` is its position in the graph, `inputs` and `outputs` the names as written.

    `runtime` are the inputs that are computed at run time, without duplicates.
    """

    __slots__ = ("_attributes", "index", "inputs", "name", "op", "outputs", "proto", "runtime")

    def __init__(self, index: int, proto: NodeProto) -> None:
        self.index = index
        self.proto = proto
        self.op: str = proto.op_type
        self.name: str = proto.name
        self.inputs: tuple[str, ...] = tuple(proto.input)
        self.outputs: tuple[str, ...] = tuple(proto.output)
        self.runtime: tuple[str, ...] = ()
        self._attributes: dict[str, AttributeProto] | None = None

    def _attribute(self, name: str) -> AttributeProto | None:
        if self._attributes is None:
            self._attributes = {attribute.name: attribute for attribute in self.proto.attribute}
        return self._attributes.get(name)

    def integer(self, name: str, default: int) -> int:
        """The integer attribute `name`, or `default`."""
        attribute = self._attribute(name)
        return default if attribute is None else int(attribute.i)

    def integers(self, name: str) -> tuple[int, ...]:
        """The integer list attribute `name`; empty if absent."""
        attribute = self._attribute(name)
        return () if attribute is None else tuple(attribute.ints)

    def text(self, name: str, default: str) -> str:
        """The string attribute `name`, or `default`."""
        attribute = self._attribute(name)
        return default if attribute is None else attribute.s.decode("utf-8", "replace")

    def has(self, name: str) -> bool:
        """Whether the attribute `name` is given."""
        return self._attribute(name) is not None


class NodeGraph:
    """The nodes of a normalised model with their wiring.

    `constants` are the tensors known at compile time (initializers and whatever is computed from them
    alone), `nodes` the others, in topological order; `consumers[t]` lists the nodes that read t once
    each, without constant nodes.
    """

    __slots__ = ("_infos", "_initializers", "_parsed", "constants", "consumers", "inputs", "name", "nodes",
                 "opset", "output_set", "outputs", "producers")  # fmt: skip

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.name: str = graph.name
        self.opset = default_opset(model)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._infos = _value_infos(graph)
        self._parsed: dict[str, tuple[tuple[int, ...], str]] = {}
        self.inputs = tuple(i.name for i in graph.input if i.name not in self._initializers)
        self.outputs = tuple(o.name for o in graph.output)
        self.output_set = frozenset(self.outputs)
        self.constants: set[str] = set(self._initializers)
        self.producers: dict[str, Node] = {}
        self.consumers: dict[str, list[Node]] = {}
        self.nodes: list[Node] = []
        self._classify(graph)

    def _classify(self, graph: GraphProto) -> None:
        constants, producers, consumers = self.constants, self.producers, self.consumers
        wanted = self.output_set
        for index, proto in enumerate(graph.node):
            node = Node(index, proto)
            runtime = [name for name in node.inputs if name and name not in constants]
            if len(runtime) > 1:
                runtime = list(dict.fromkeys(runtime))
            node.runtime = tuple(runtime)
            if not runtime and node.op not in _RANDOM and wanted.isdisjoint(node.outputs):
                constants.update(node.outputs)
                continue
            self.nodes.append(node)
            for name in node.outputs:
                if name:
                    producers[name] = node
            for name in runtime:
                readers = consumers.get(name)
                if readers is None:
                    consumers[name] = [node]
                else:
                    readers.append(node)

    def readers(self, tensor: str) -> Sequence[Node]:
        """The run-time nodes that read `tensor`."""
        return self.consumers.get(tensor, ())

    def only_reader(self, tensor: str) -> bool:
        """Whether exactly one node reads `tensor` and it is not a graph output."""
        return len(self.consumers.get(tensor, ())) == 1 and tensor not in self.output_set

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Static shape of `tensor`."""
        return self.parsed(tensor)[0]

    def dtype(self, tensor: str) -> str:
        """Element type of `tensor`, NumPy spelling."""
        return self.parsed(tensor)[1]

    def parsed(self, tensor: str) -> tuple[tuple[int, ...], str]:
        """Shape and element type of `tensor`."""
        return self._parsed.get(tensor) or self._parse(tensor)

    def elements(self, tensor: str) -> int:
        """Number of elements of `tensor`."""
        return prod(self.parsed(tensor)[0])

    def _parse(self, tensor: str) -> tuple[tuple[int, ...], str]:
        info = self._infos.get(tensor)
        if info is not None:
            encoded = info.type.SerializeToString()
            known = _TYPES.get(encoded)
            if known is None:
                kind = info.type.tensor_type
                shape = tuple([dim.dim_value for dim in kind.shape.dim])
                known = _TYPES[encoded] = (shape, DTYPES.get(kind.elem_type, "unknown"))
            parsed = known
        elif tensor in self._initializers:
            initializer = self._initializers[tensor]
            parsed = (tuple(initializer.dims), DTYPES.get(initializer.data_type, "unknown"))
        else:
            raise ModelError(
                f"tensor '{tensor}' has no static shape",
                code="unknown-shape",
                hint="normalise the model first",
            )
        self._parsed[tensor] = parsed
        return parsed

    def integers(self, tensor: str) -> tuple[int, ...] | None:
        """The values of an integer initializer, or None if `tensor` is not one (or has no data)."""
        initializer = self._initializers.get(tensor)
        if initializer is None:
            return None
        return _integer_values(initializer)


def default_opset(model: ModelProto) -> int:
    """The version of the default ONNX domain that `model` imports."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    return 1


def _value_infos(graph: GraphProto) -> dict[str, ValueInfoProto]:
    infos = {info.name: info for info in graph.value_info}
    infos.update({info.name: info for info in graph.output})
    infos.update({info.name: info for info in graph.input})
    return infos


def _integer_values(tensor: TensorProto) -> tuple[int, ...] | None:
    if tensor.data_type not in (6, 7):
        return None
    if tensor.raw_data:
        values = array("i" if tensor.data_type == 6 else "q")
        values.frombytes(tensor.raw_data)
        if sys.byteorder == "big":
            values.byteswap()
        return tuple(values)
    return tuple(tensor.int32_data if tensor.data_type == 6 else tensor.int64_data) or None
