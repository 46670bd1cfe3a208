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

from onnx import FunctionProto, GraphProto, ModelProto

from h4hc.bundle.annotate import Annotator, annotate_model
from h4hc.bundle.nodes import Node, PlacedNodes
from h4hc.bundle.partitioned import copy_header
from h4hc.bundle.store import Document
from h4hc.bundle.tensors import Tensors
from h4hc.bundle.wire import INPUT, OUTPUT, VALUE_INFO, model_chunks
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
    compilation: Compilation, document: Document, placed: PlacedNodes, tensors: Tensors, annotator: Annotator
) -> tuple[dict[str, list[bytes]], Document]:
    """The files by name, in execution order, and their index."""
    segments = split(compilation, placed, tensors)
    digits = max(2, len(str(len(segments) - 1)))
    files: dict[str, list[bytes]] = {}
    entries: list[dict[str, Any]] = []
    builder = _Builder(compilation, document, placed, tensors, annotator)
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
            yield from node.inputs


def _writes(segment: Segment, placed: PlacedNodes) -> Iterable[str]:
    for operator in segment.operators:
        for node in placed.groups[operator]:
            yield from node.outputs


class _Builder:
    """Builds the models of the segments of one compilation."""

    def __init__(
        self,
        compilation: Compilation,
        document: Document,
        placed: PlacedNodes,
        tensors: Tensors,
        annotator: Annotator,
    ) -> None:
        self._compilation = compilation
        self._document = document
        self._placed = placed
        self._tensors = tensors
        self._annotator = annotator
        # Initializers that a caller may override.
        self._optional = [i.name for i in compilation.model.graph.input if i.name in tensors.initializers]
        self._headers: dict[tuple[Any, ...], bytes] = {}

    def build(self, segment: Segment, name: str) -> list[bytes]:
        """The model of `segment` as the chunks of its file."""
        nodes, graph = self._nodes(segment)
        graph.append(GraphProto(name=name).SerializeToString())
        used = dict.fromkeys(t for node in nodes for t in node.inputs)
        used.update(dict.fromkeys(segment.constants))
        info, infos, known = self._tensors.framed_info, self._tensors.infos, self._tensors.initializers
        optional = [name for name in self._optional if name in used]
        graph += [info(INPUT, tensor) for tensor in (*segment.inputs, *optional)]
        graph += [info(OUTPUT, tensor) for tensor in segment.outputs]
        ports = {*segment.inputs, *segment.outputs}
        inner = dict.fromkeys(t for node in nodes for t in node.outputs if t and t not in ports)
        graph += [info(VALUE_INFO, tensor) for tensor in inner if tensor in infos]
        initializers = [known[tensor] for tensor in used if tensor in known]
        return model_chunks(self._header(nodes), graph, initializers)

    def _header(self, nodes: list[Node]) -> bytes:
        """The model around a graph of `nodes`: many are alike."""
        source = self._compilation.model
        functions, domains = _needed(source, nodes)
        key = frozenset(domains), *((f.domain, f.name, f.overload) for f in functions)
        if key not in self._headers:
            model = ModelProto()
            copy_header(source, model)
            model.functions.extend(functions)
            model.ClearField("opset_import")
            model.opset_import.extend(
                o for o in source.opset_import if _plain(o.domain) in domains or not nodes
            )
            annotate_model(model, self._document, self._compilation.target)
            self._headers[key] = model.SerializeToString()
        return self._headers[key]

    def _nodes(self, segment: Segment) -> tuple[list[Node], list[bytes]]:
        """The nodes of `segment` with the constant expressions that they read, and the same as fields of a graph."""
        nodes: list[Node] = []
        fields: list[bytes] = []
        emitted: set[str] = set()

        def add_constant(tensor: str) -> None:
            for node in self._placed.constant_nodes(tensor):
                if node.name not in emitted:
                    emitted.add(node.name)
                    nodes.append(node)
                    fields.append(self._annotator.of_node(node, segment.device, segment.level, {}))

        constants = self._placed.constants
        for operator in segment.operators:
            for node in self._placed.groups[operator]:
                for tensor in node.inputs:
                    if tensor in constants:
                        add_constant(tensor)
                nodes.append(node)
                fields.append(self._annotator.of_operator(node, operator, segment.level))
        for tensor in segment.constants:
            add_constant(tensor)
        return nodes, fields


def _needed(source: ModelProto, nodes: Iterable[Node]) -> tuple[list[FunctionProto], set[str]]:
    """The functions of `source` that `nodes` call, directly or not, and the operator domains in use."""
    known = {(f.domain, f.name, f.overload): f for f in source.functions}
    called: dict[tuple[str, str, str], FunctionProto] = {}
    domains: set[str] = set()
    pending = [node.proto for node in nodes]
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
