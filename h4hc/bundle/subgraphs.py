"""subgraphs/: one ONNX model per device segment, and the order in which to run them.

A segment is the operators of one (level, device), see `h4hc.bundle.nodes`. Its graph inputs and outputs
are the tensors that cross its border, under the names they have in the original model:
feeding a dictionary of tensors through the files in order leads from the model's inputs to its outputs.
Initializers that the original lists as inputs (a caller may override them) are listed here as well, but not
in the index: runtimes prepare fixed weights in other ways, which changes the last bits of results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from h4hc.bundle.annotate import annotate_model, annotator
from h4hc.bundle.nodes import PlacedNodes
from h4hc.bundle.partitioned import copy_header
from h4hc.bundle.store import Document
from h4hc.bundle.tensors import Tensors
from h4hc.bundle.wire import model_chunks
from h4hc.ir.compilation import Compilation

INDEX_VERSION = "1.0"


@dataclass(slots=True)
class Segment:
    """Operators (indices, in order) of one device and level; `constants` are graph outputs computed
    from constants alone, which the first segment of the io device produces.
    """

    level: int
    device: str
    operators: list[int] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def subgraph_files(
    compilation: Compilation, document: Document, placed: PlacedNodes, tensors: Tensors
) -> tuple[dict[str, list[bytes]], Document]:
    """The files by name, in execution order, and their index."""
    segments = split(compilation, placed, tensors)
    digits = max(2, len(str(len(segments) - 1)))
    files: dict[str, list[bytes]] = {}
    entries: list[dict[str, Any]] = []
    builder = _Builder(compilation, document, placed, tensors)
    for number, segment in enumerate(segments):
        name = f"{number:0{digits}d}_{segment.device}"
        files[f"{name}.onnx"] = builder.build(segment, name)
        entries.append(
            {
                "file": f"{name}.onnx",
                "device": segment.device,
                "level": segment.level,
                "inputs": segment.inputs,
                "outputs": segment.outputs,
                "operators": [document["operators"][i]["name"] for i in segment.operators],
            }
        )
    graph = compilation.model.graph
    return files, {
        "version": INDEX_VERSION,
        "inputs": [info.name for info in graph.input if info.name in placed.inputs],
        "outputs": [info.name for info in graph.output],
        "files": entries,
    }


def split(compilation: Compilation, placed: PlacedNodes, tensors: Tensors) -> list[Segment]:
    """The segments in (level, device) order, with what crosses their borders."""
    outputs = [info.name for info in compilation.model.graph.output]
    found: dict[tuple[int, str], Segment] = {}
    for operator in placed.order:
        key = placed.levels[operator], placed.devices[operator]
        found.setdefault(key, Segment(*key)).operators.append(operator)
    constant_outputs = [name for name in outputs if name in placed.constants or name in tensors.initializers]
    if constant_outputs:
        key = 0, compilation.target.io
        found.setdefault(key, Segment(*key)).constants = constant_outputs
    rank = {device.name: index for index, device in enumerate(compilation.target.devices)}
    segments = sorted(found.values(), key=lambda s: (s.level, rank[s.device]))
    _cut(segments, placed, outputs)
    return segments


def _cut(segments: list[Segment], placed: PlacedNodes, outputs: list[str]) -> None:
    """Fill in which tensors enter and leave each segment."""
    home = {operator: segment for segment in segments for operator in segment.operators}
    leaving = {name: None for name in outputs if name in placed.producers}
    for segment in segments:
        entering: dict[str, None] = {}
        for tensor in _reads(segment, placed):
            producer = placed.producers.get(tensor)
            if producer is None:
                if tensor in placed.inputs:
                    entering[tensor] = None
            elif home[producer] is not segment:
                entering[tensor] = None
                leaving[tensor] = None
        segment.inputs = list(entering)
    for segment in segments:
        segment.outputs = [tensor for tensor in _writes(segment, placed) if tensor in leaving]
        segment.outputs += segment.constants


def _reads(segment: Segment, placed: PlacedNodes) -> Iterable[str]:
    for operator in segment.operators:
        for node in placed.groups[operator]:
            yield from node.input


def _writes(segment: Segment, placed: PlacedNodes) -> Iterable[str]:
    for operator in segment.operators:
        for node in placed.groups[operator]:
            yield from node.output


class _Builder:
    """Builds the models of the segments of one compilation."""

    def __init__(
        self, compilation: Compilation, document: Document, placed: PlacedNodes, tensors: Tensors
    ) -> None:
        self._compilation = compilation
        self._document = document
        self._placed = placed
        self._tensors = tensors
        self._annotator = annotator(document, compilation.target)

    def build(self, segment: Segment, name: str) -> list[bytes]:
        """The model of `segment` as the chunks of its file."""
        source = self._compilation.model
        graph = GraphProto(name=name)
        nodes = self._add_nodes(graph, segment)
        used = dict.fromkeys(t for node in nodes for t in node.input)
        used.update(dict.fromkeys(segment.constants))
        known = self._tensors.initializers
        graph.input.extend(self._tensors.info(tensor) for tensor in segment.inputs)
        graph.input.extend(i for i in source.graph.input if i.name in used and i.name in known)
        graph.output.extend(self._tensors.info(tensor) for tensor in segment.outputs)
        ports = {*segment.inputs, *segment.outputs}
        inner = dict.fromkeys(t for node in nodes for t in node.output if t and t not in ports)
        graph.value_info.extend(self._tensors.infos[t] for t in inner if t in self._tensors.infos)
        model = ModelProto()
        copy_header(source, model)
        functions, domains = _needed(source, nodes)
        model.functions.extend(functions)
        model.ClearField("opset_import")
        model.opset_import.extend(o for o in source.opset_import if _plain(o.domain) in domains or not nodes)
        annotate_model(model, self._document, self._compilation.target)
        return model_chunks(model, graph, [known[tensor] for tensor in used if tensor in known])

    def _add_nodes(self, graph: GraphProto, segment: Segment) -> list[NodeProto]:
        emitted: set[str] = set()
        for operator in segment.operators:
            for node in self._placed.groups[operator]:
                for tensor in node.input:
                    self._add_constant(graph, tensor, segment, emitted)
                copy = graph.node.add()
                copy.CopyFrom(node)
                self._annotator.on_operator(copy, operator, segment.level)
        for tensor in segment.constants:
            self._add_constant(graph, tensor, segment, emitted)
        return list(graph.node)

    def _add_constant(self, graph: GraphProto, tensor: str, segment: Segment, emitted: set[str]) -> None:
        """Add the nodes that compute `tensor`, if it is a constant expression, but each only once."""
        if tensor not in self._placed.constants:
            return
        for node in self._placed.constant_nodes(tensor):
            if node.name not in emitted:
                emitted.add(node.name)
                copy = graph.node.add()
                copy.CopyFrom(node)
                self._annotator.on_node(copy, segment.device, segment.level, {})


def _needed(source: ModelProto, nodes: Iterable[NodeProto]) -> tuple[list[FunctionProto], set[str]]:
    """The functions of `source` that `nodes` call, directly or not, and the operator domains in use."""
    known = {(f.domain, f.name, f.overload): f for f in source.functions}
    called: dict[tuple[str, str, str], FunctionProto] = {}
    domains: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        domains.add(_plain(node.domain))
        key = node.domain, node.op_type, node.overload
        if key in known and key not in called:
            called[key] = known[key]
            pending.extend(known[key].node)
    return [function for key, function in known.items() if key in called], domains


def _plain(domain: str) -> str:
    """``ai.onnx`` is another name of the default domain."""
    return "" if domain == "ai.onnx" else domain
