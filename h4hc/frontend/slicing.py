"""A model with some of its operators computed in parts (see h4hc.frontend.splitting).

The nodes of an operator are repeated for each part, with slices of its constants, and a Concat writes the tensor
that the last of them wrote: nothing else in the model changes. The parts of node `n` are `n/part0` and `n/part1`,
the Concat `n/parts`; what is no longer read is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from h4hc.frontend.protos import unique_names
from h4hc.frontend.splitting import Operands, Splittable, Splitter
from h4hc.ir.splitting import joined_name, part_names

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto


class Cut(NamedTuple):
    """`operator` in two parts, the first of which has `first` channels."""

    operator: Splittable
    first: int


class Range(NamedTuple):
    """Part `number`: the channels from `start` up to `stop`."""

    number: int
    start: int
    stop: int


def split_model(model: ModelProto, splitter: Splitter, cuts: Sequence[Cut]) -> ModelProto:
    """`model`, which `splitter` is about, with the operators of `cuts` in parts. `model` itself is unchanged."""
    return _Rewriter(model, splitter).run(cuts)


class _Rewriter:
    def __init__(self, model: ModelProto, splitter: Splitter) -> None:
        graph = model.graph
        self._model = model
        self._splitter = splitter
        self._nodes: dict[str, NodeProto] = {node.name: node for node in graph.node}
        self._infos: dict[str, ValueInfoProto] = {i.name: i for i in (*graph.value_info, *graph.output)}
        self._stored: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self._node_names = set(self._nodes)
        self._tensor_names = {*self._infos, *self._stored, *(info.name for info in graph.input)}
        self._sliced: dict[tuple[str, int, int, int], str] = {}
        self._new_nodes: list[NodeProto] = []
        self._new_infos: list[ValueInfoProto] = []
        self._new_tensors: list[TensorProto] = []

    def run(self, cuts: Sequence[Cut]) -> ModelProto:
        from onnx import ModelProto

        replaced = {name for cut in cuts for name in (*cut.operator.shared, *cut.operator.nodes)}
        last = {cut.operator.nodes[-1]: cut for cut in cuts}
        nodes: list[NodeProto] = []
        for node in self._model.graph.node:
            if node.name in last:
                self._new_nodes = nodes
                self._emit(last[node.name])
            elif node.name not in replaced:
                nodes.append(node)
        result = ModelProto()
        for field, value in self._model.ListFields():
            if field.name != "graph":
                _assign(result, field.name, value)
        self._fill(result, nodes)
        return result

    def _fill(self, result: ModelProto, nodes: list[NodeProto]) -> None:
        source, graph = self._model.graph, result.graph
        outputs = {info.name for info in source.output}
        nodes = _read(nodes, outputs)
        used = outputs | {name for node in nodes for name in node.input}
        made = {name for node in nodes for name in node.output}
        listed = {info.name for info in source.input}
        for field, value in source.ListFields():
            if field.name not in ("node", "initializer", "value_info"):
                _assign(graph, field.name, value)
        graph.node.extend(nodes)
        graph.initializer.extend(t for t in source.initializer if t.name in used or t.name in listed)
        graph.initializer.extend(self._new_tensors)
        known = {*used, *made, *listed}
        graph.value_info.extend(info for info in source.value_info if info.name in known)
        graph.value_info.extend(self._new_infos)

    def _emit(self, cut: Cut) -> None:
        operator = cut.operator
        ranges = (Range(0, 0, cut.first), Range(1, cut.first, operator.channels))
        parts = [self._part(operator, part) for part in ranges]
        joined = self._node_name(joined_name(operator.operator))
        node = self._add(self._nodes[operator.nodes[-1]], joined, parts, [operator.output])
        node.op_type, node.domain, node.overload = "Concat", "", ""
        del node.attribute[:]
        node.attribute.add(name="axis", i=operator.axis, type=2)

    def _part(self, operator: Splittable, part: Range) -> str:
        """Emit the nodes of one part; returns its result."""
        local: dict[str, str] = {}
        for name in (*operator.shared, *operator.nodes):
            source = self._nodes[name]
            operands = operator.slices.get(name)
            inputs = [
                self._slice(tensor, operands[index], part)
                if operands is not None and index in operands
                else local.get(tensor, tensor)
                for index, tensor in enumerate(source.input)
            ]
            tensor = source.output[0]
            axis = None if operands is None else operator.axis
            local[tensor] = self._tensor(tensor, axis, part)
            self._add(source, self._node_name(part_names(name)[part.number]), inputs, [local[tensor]])
        return local[operator.output]

    def _add(self, source: NodeProto, name: str, inputs: list[str], outputs: list[str]) -> NodeProto:
        from onnx import NodeProto

        node = NodeProto()
        node.CopyFrom(source)
        node.name = name
        node.input[:] = inputs
        node.output[:] = outputs
        self._new_nodes.append(node)
        return node

    def _slice(self, tensor: str, axis: int, part: Range) -> str:
        """The name of the part of the constant `tensor` along `axis`."""
        key = tensor, axis, part.start, part.stop
        if key not in self._sliced:
            found = self._splitter.expression(tensor, axis)
            self._sliced[key] = (
                self._slice_stored(tensor, axis, part)
                if found is None
                else self._slice_computed(self._nodes[found[0].name], found[1], axis, part)
            )
        return self._sliced[key]

    def _slice_stored(self, tensor: str, axis: int, part: Range) -> str:
        name = self._tensor_name(part_names(tensor)[part.number])
        self._new_tensors.append(sliced_tensor(self._stored[tensor], name, axis, part.start, part.stop))
        return name

    def _slice_computed(self, source: NodeProto, operands: Operands, axis: int, part: Range) -> str:
        inputs = [
            self._slice(tensor, operands[index], part) if index in operands else tensor
            for index, tensor in enumerate(source.input)
        ]
        if source.op_type == "ConstantOfShape":
            inputs = [self._sliced_shape(source.input[0], axis, part)]
        output = self._tensor(source.output[0], axis, part)
        self._add(source, self._node_name(part_names(source.name)[part.number]), inputs, [output])
        return output

    def _sliced_shape(self, tensor: str, axis: int, part: Range) -> str:
        """A shape like the stored `tensor`, with the extent of `part` along `axis`."""
        from onnx import numpy_helper

        extents = numpy_helper.to_array(self._stored[tensor]).copy()
        extents[axis] = part.stop - part.start
        name = self._tensor_name(part_names(tensor)[part.number])
        self._new_tensors.append(numpy_helper.from_array(extents, name))
        return name

    def _tensor(self, tensor: str, axis: int | None, part: Range) -> str:
        """A new tensor like `tensor`, with the channels of `part` if an `axis` is given."""
        from onnx import ValueInfoProto

        info = ValueInfoProto()
        info.CopyFrom(self._infos[tensor])
        info.name = self._tensor_name(part_names(tensor)[part.number])
        if axis is not None:
            info.type.tensor_type.shape.dim[axis].dim_value = part.stop - part.start
        self._new_infos.append(info)
        return str(info.name)

    def _node_name(self, wanted: str) -> str:
        return next(unique_names([wanted], self._node_names))

    def _tensor_name(self, wanted: str) -> str:
        return next(unique_names([wanted], self._tensor_names))


def sliced_tensor(tensor: TensorProto, name: str, axis: int, start: int, stop: int) -> TensorProto:
    """The part of a stored tensor from `start` up to `stop` along `axis`; without data if it has none."""
    from onnx import TensorProto, numpy_helper

    dims = list(tensor.dims)
    dims[axis] = stop - start
    if not tensor.HasField("raw_data") and not _typed_data(tensor):
        return TensorProto(name=name, data_type=tensor.data_type, dims=dims)
    index = (slice(None),) * axis + (slice(start, stop),)
    return numpy_helper.from_array(numpy_helper.to_array(tensor)[index].copy(), name)


def _typed_data(tensor: TensorProto) -> bool:
    """Whether the elements are in one of the typed fields."""
    return any(field.name.endswith("_data") for field, _ in tensor.ListFields())


def _read(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """`nodes` without those whose results nobody reads."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _assign(target: object, name: str, value: object) -> None:
    """Copy the field `name` of a message, whatever its kind."""
    field = getattr(target, name)
    if hasattr(field, "extend"):
        field.extend(value)
    elif hasattr(field, "CopyFrom"):
        field.CopyFrom(value)
    else:
        setattr(target, name, value)
