"""partitioned.onnx: the whole model with a Transfer node wherever a tensor changes device.

1. A node reads a tensor that another device produced through one ``ai.h4hc::Transfer`` per (tensor, device).
2. So it reads a graph input whose memory (the io device's) is not its device's, and so a
   graph output gets to the io device's memory. The output keeps its name; the tensor
   inside is renamed ``name@device``.
3. Constant expressions are cloned for every device that reads them; initializers are shared.

Transfer is a model-local function (Identity), so any ONNX runtime executes the model, with
results identical to the original's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, helper

from h4hc.bundle.annotate import Annotator, annotate_model
from h4hc.bundle.moves import Moves
from h4hc.bundle.nodes import Node, PlacedNodes
from h4hc.bundle.store import Document
from h4hc.bundle.tensors import Names, Tensors
from h4hc.bundle.wire import framed, model_chunks, number, text
from h4hc.ir.compilation import Compilation

DOMAIN = "ai.h4hc"
TRANSFER = "Transfer"
TRANSFER_VERSION = 1
# Multi-device annotations need IR version 11; onnxruntime 1.31 takes up to 13.
OLDEST_IR, NEWEST_IR = 11, 13


def partitioned_model(
    compilation: Compilation, document: Document, placed: PlacedNodes, tensors: Tensors, annotator: Annotator
) -> list[bytes]:
    """The partitioned model as the chunks of its file."""
    source = compilation.model
    graph = _Emitter(compilation, document, placed, tensors, annotator).emit()
    model = ModelProto()
    copy_header(source, model)
    model.opset_import.add(domain=DOMAIN, version=TRANSFER_VERSION)
    default = next((o.version for o in source.opset_import if o.domain in {"", "ai.onnx"}), None)
    if default is None:
        default = 13
        model.opset_import.add(domain="", version=default)
    model.functions.extend(source.functions)
    model.functions.append(_transfer_function(default))
    annotate_model(model, document, compilation.target)
    initializers = (tensors.initializers[name] for name in _initializer_names(source.graph))
    return model_chunks(model.SerializeToString(), graph, initializers)


def copy_header(source: ModelProto, model: ModelProto) -> None:
    """Everything of `source` but graph, functions and annotations, at an IR version that holds these."""
    model.ir_version = min(max(OLDEST_IR, source.ir_version), NEWEST_IR)
    model.opset_import.extend(o for o in source.opset_import if o.domain != DOMAIN)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        if source.HasField(field):
            setattr(model, field, getattr(source, field))
    model.metadata_props.extend(source.metadata_props)


def _initializer_names(graph: GraphProto) -> Iterator[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)


def _transfer_function(opset: int) -> FunctionProto:
    return helper.make_function(
        DOMAIN,
        TRANSFER,
        ["x"],
        ["y"],
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_opsetid("", opset)],
        attributes=["src", "dst", "bytes", "tensor", "copy"],
    )


class _Emitter:
    """Builds the graph, node by node in schedule order."""

    def __init__(
        self,
        compilation: Compilation,
        document: Document,
        placed: PlacedNodes,
        tensors: Tensors,
        annotator: Annotator,
    ) -> None:
        source = compilation.model.graph
        self._placed = placed
        self._tensors = tensors
        self._document = document
        self._annotator = annotator
        self._io = compilation.target.io
        self._memory = {device.name: device.memory for device in compilation.target.devices}
        self._names = Names((*tensors.infos, *tensors.initializers, *placed.producers, *placed.constants))
        self._node_names = Names(node.name for node in source.node)
        self._moves = Moves(document)
        self._outputs = dict.fromkeys(info.name for info in source.output).keys()
        self._kept: set[str] = set()
        # (tensor, device) -> the name under which that device reads the tensor
        self._local: dict[tuple[str, str], str] = {}
        self._nodes: list[bytes] = []  # as they stand in a graph
        self._graph = GraphProto(name=source.name, doc_string=source.doc_string)
        self._graph.input.extend(source.input)
        self._graph.output.extend(source.output)
        self._graph.value_info.extend(source.value_info)
        self._graph.quantization_annotation.extend(source.quantization_annotation)
        self._graph.metadata_props.extend(source.metadata_props)

    def emit(self) -> list[bytes]:
        """The fields of the graph, without initializers."""
        self._rename_far_outputs()
        for operator in self._placed.order:
            self._emit_operator(operator)
        for output in self._outputs:
            self._deliver(output)
        return [*self._nodes, self._graph.SerializeToString()]

    def _rename_far_outputs(self) -> None:
        """Free the name of each output that a Transfer will write."""
        for output in self._outputs:
            operator = self._placed.producers.get(output)
            if operator is not None and self._is_far(self._placed.devices[operator]):
                device = self._placed.devices[operator]
                self._local[output, device] = self._new_tensor(output, device)

    def _is_far(self, device: str) -> bool:
        """Whether the io device does not share `device`'s memory."""
        return self._memory[device] != self._memory[self._io]

    def _emit_operator(self, operator: int) -> None:
        device = self._placed.devices[operator]
        for node in self._placed.groups[operator]:
            inputs = tuple([self._read(tensor, device, operator) for tensor in node.inputs])
            outputs = tuple([self._local.get((tensor, device), tensor) for tensor in node.outputs])
            if inputs != node.inputs or outputs != node.outputs:
                node = _copied(node, inputs, outputs, node.name)
            self._nodes.append(self._annotator.of_operator(node, operator, self._placed.levels[operator]))

    def _read(self, tensor: str, device: str, operator: int) -> str:
        """The name under which `operator` on `device` reads `tensor`; emits what brings it there."""
        if not tensor:
            return tensor
        known = self._local.get((tensor, device))
        if known is not None:
            return known
        producer = self._placed.producers.get(tensor)
        level = self._placed.levels[operator]
        if producer is not None and self._placed.devices[producer] != device:
            return self._transfer(tensor, self._placed.devices[producer], device, level, operator)
        if tensor in self._placed.inputs and self._is_far(device):
            return self._transfer(tensor, self._io, device, level, operator)
        if tensor in self._placed.constants:
            self._emit_constant(tensor, device, level)
            return self._local[tensor, device]
        return tensor

    def _emit_constant(self, tensor: str, device: str, level: int) -> None:
        """Emit the nodes that compute the constant `tensor`, but those that `device` has already."""
        for node in self._placed.constant_nodes(tensor):
            outputs = [name for name in node.outputs if name]
            if any((name, device) in self._local for name in outputs):
                continue
            original = self._may_keep_names(node, device)
            for name in outputs:
                self._local[name, device] = name if original else self._new_tensor(name, device)
            copy = _copied(
                node,
                tuple([self._local.get((name, device), name) for name in node.inputs]),
                tuple([self._local.get((name, device), name) for name in node.outputs]),
                node.name if original else self._node_names.fresh(f"{node.name}@{device}"),
            )
            self._nodes.append(self._annotator.of_node(copy, device, level, {}))

    def _may_keep_names(self, node: Node, device: str) -> bool:
        """Whether this copy of a constant expression is the original; a graph output's is the io device's."""
        if node.name in self._kept or (device != self._io and not self._outputs.isdisjoint(node.outputs)):
            return False
        self._kept.add(node.name)
        return True

    def _transfer(self, tensor: str, source: str, device: str, level: int, reader: int | None) -> str:
        """Emit the Transfer of `tensor` from `source` to `device` for `reader`; returns its output."""
        delivers = tensor in self._outputs and device == self._io and self._is_far(source)
        result = tensor if delivers else self._new_tensor(tensor, device)
        move = self._moves.of(tensor, device, reader)
        fields = [
            text(NodeProto.INPUT_FIELD_NUMBER, self._local.get((tensor, source), tensor)),
            text(NodeProto.OUTPUT_FIELD_NUMBER, result),
            text(NodeProto.NAME_FIELD_NUMBER, self._node_names.fresh(f"{TRANSFER}:{tensor}@{device}")),
            text(NodeProto.OP_TYPE_FIELD_NUMBER, TRANSFER),
            _number("bytes", move.bytes),
            _number("copy", move.task is not None),
            _text("dst", device),
            _text("src", source),
            _text("tensor", move.root),
            text(NodeProto.DOMAIN_FIELD_NUMBER, DOMAIN),
        ]
        node = self._annotator.of_bytes(b"".join(fields), [result], device, level, move.properties)
        self._nodes.append(node)
        self._local[tensor, device] = result
        return result

    def _deliver(self, output: str) -> None:
        """Bring a graph output to the io device's memory, unless it is there."""
        if output in self._placed.constants:
            self._emit_constant(output, self._io, 0)
        producer = self._placed.producers.get(output)
        if producer is None or (output, self._io) in self._local:
            return
        device = self._placed.devices[producer]
        if self._is_far(device):
            self._transfer(output, device, self._io, self._placed.levels[producer] + 1, None)

    def _new_tensor(self, tensor: str, device: str) -> str:
        """A new name for `tensor` as `device` sees it, with its type on record."""
        name = self._names.fresh(f"{tensor}@{device}")
        self._graph.value_info.append(self._tensors.info(tensor, name))
        return name


def _copied(node: Node, inputs: tuple[str, ...], outputs: tuple[str, ...], name: str) -> Node:
    """A copy of `node` with other inputs and outputs, called `name`."""
    copy = NodeProto()
    copy.CopyFrom(node.proto)
    copy.input[:] = inputs
    copy.output[:] = outputs
    if name != node.name:
        copy.name = name
    return Node(copy, name, inputs, outputs)


def _number(name: str, value: int) -> bytes:
    """An attribute of a node."""
    return _attribute(name, number(AttributeProto.I_FIELD_NUMBER, value), AttributeProto.INT)


def _text(name: str, value: str) -> bytes:
    return _attribute(name, text(AttributeProto.S_FIELD_NUMBER, value), AttributeProto.STRING)


def _attribute(name: str, value: bytes, kind: int) -> bytes:
    start, end = text(AttributeProto.NAME_FIELD_NUMBER, name), number(AttributeProto.TYPE_FIELD_NUMBER, kind)
    return framed(NodeProto.ATTRIBUTE_FIELD_NUMBER, start + value + end)
