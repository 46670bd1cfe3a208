"""Which operators can be computed in parts of their output channels, with the bits of the whole.

A part repeats the operator's nodes with the slices of its constants that belong to some output channels; a Concat puts
the parts together. Whether each channel keeps its bits depends on how a runtime adds up the products of a
channel. The rules below hold for onnxruntime's CPU kernels in float32 (MLAS); tests hold them against the installed one.

1. Conv of one group, in one or two spatial dimensions: all channels of a map are rows of one matrix product, each added
   up in the same order however many there are. A map of one pixel is a matrix-vector product, whose order depends on the
   number of rows, and so is a part of one channel: refused.
2. MatMul and Gemm with a stored second operand: its columns are packed, and each is added up in blocks of fixed depth.
   If the second operand is computed (dequantised), the depth of a block grows when there are at most
   `NARROW` columns: every part must be wider, unless a single block holds all (`DEPTH`).
3. What follows on each element is repeated where each element's bits depend on it alone: IEEE arithmetic, comparisons,
   rounding to 8 bits, and the functions that onnxruntime computes alike in the body and at the end of a vector.
   Others (Softplus, Selu, Log, Sin) are left behind the Concat.
4. Grouped convolutions read other input channels for other output channels: refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.ir.graph import Operator
from h4hc.ir.splitting import part_names

if TYPE_CHECKING:
    from onnx import ModelProto

NARROW = 64  # columns
DEPTH = 128  # products that are always added up in one block

_BROADCASTING = frozenset(["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "PRelu"])
_UNARY = frozenset(
    ["Relu", "LeakyRelu", "ThresholdedRelu", "Clip", "Neg", "Abs", "Sqrt", "HardSigmoid", "HardSwish",
     "Sigmoid", "Tanh", "Erf"]
)  # fmt: skip
_QUANTISING = frozenset(["QuantizeLinear", "DequantizeLinear"])

Operands = dict[int, int]  # index of an input -> the axis along which it is sliced


@dataclass(frozen=True, slots=True)
class Splittable:
    """An operator that can be computed in parts of its `channels` output channels, axis `axis` of `output`.

    `shared` are the nodes in front that every part repeats whole, `nodes` those that it repeats in part; `slices` says
    which of their inputs are sliced along which axis. Every part has at least `least` channels.
    """

    operator: str
    shared: tuple[str, ...]
    nodes: tuple[str, ...]
    slices: Mapping[str, Operands]
    output: str
    axis: int
    channels: int
    least: int

    def allows(self, first: int) -> bool:
        """Whether the bits are those of the whole if the first part has `first` channels."""
        return self.least <= first <= self.channels - self.least


class Splitter:
    """Finds out which operators of a normalised model can be computed in parts."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = NodeGraph(model)
        listed = {info.name for info in model.graph.input}  # may be overridden by a caller
        self._stored = {tensor.name for tensor in model.graph.initializer if tensor.name not in listed}
        self._nodes = {node.name: node for node in self.graph.nodes}
        self._taken = self._nodes.keys()
        self._expressions = {
            proto.output[0]: Node(index, proto)
            for index, proto in enumerate(model.graph.node)
            if len(proto.output) == 1 and proto.output[0] in self.graph.constants
        }

    def splittable(self, operator: Operator) -> Splittable | None:
        """How `operator` can be computed in parts; None if that may change bits."""
        anchor = self._nodes.get(operator.name)
        if anchor is None or operator.name not in operator.nodes:
            return None
        if not self._taken.isdisjoint(part_names(operator.name)):
            return None
        found = self._anchor(anchor)
        if found is None:
            return None
        axis, least, operands = found
        group = [self._nodes[name] for name in operator.nodes]
        shared = self._prologue(anchor, group)
        slices = {anchor.name: operands} | self._epilogue(anchor, group, axis)
        nodes = [node for node in group if node.name in slices]
        nodes = self._closed(nodes, shared)
        if not nodes:
            return None
        kept = tuple(node.name for node in nodes)
        output = nodes[-1].outputs[0]
        return Splittable(
            operator.name,
            tuple(node.name for node in shared),
            kept,
            {name: slices[name] for name in kept},
            output,
            axis,
            self.graph.shape(output)[axis],
            least,
        )

    # --- the operator itself ---------------------------------------------------------------------------------

    def _anchor(self, node: Node) -> tuple[int, int, Operands] | None:
        """The channel axis, the fewest channels of a part, and the operands to slice."""
        if len(node.inputs) < 2 or len(node.outputs) != 1 or len(node.runtime) != 1 or not _standard(node):
            return None
        if node.inputs[0] != node.runtime[0] or self.graph.dtype(node.outputs[0]) != "float32":
            return None
        if node.op == "Conv":
            found = self._convolution(node)
        elif node.op in ("MatMul", "Gemm"):
            found = self._product(node)
        else:
            return None
        if found is None or not self._sliceable(node, found[2]):
            return None
        return found

    def _convolution(self, node: Node) -> tuple[int, int, Operands] | None:
        shape = self.graph.shape(node.outputs[0])
        pixels = self.graph.elements(node.outputs[0]) // max(1, shape[0] * shape[1])
        if node.integer("group", 1) != 1 or len(shape) not in (3, 4) or pixels < 2:
            return None
        has_bias = len(node.inputs) > 2 and bool(node.inputs[2])
        return 1, 2, {1: 0, 2: 0} if has_bias else {1: 0}

    def _product(self, node: Node) -> tuple[int, int, Operands] | None:
        weights = self.graph.shape(node.inputs[1])
        shape = self.graph.shape(node.outputs[0])
        if len(weights) != 2 or node.integer("transA", 0):
            return None
        column = 0 if node.integer("transB", 0) else 1
        depth = weights[1 - column]
        operands = {1: column}
        if node.op == "Gemm" and len(node.inputs) > 2 and node.inputs[2]:
            added = self._broadcast(node.inputs[2], shape, len(shape) - 1)
            if added is None:
                return None
            operands |= {2: added} if added >= 0 else {}
        packed = node.inputs[1] in self._stored
        return len(shape) - 1, 2 if packed or depth <= DEPTH else NARROW + 1, operands

    # --- the nodes around it ----------------------------------------------------------------------------------

    def _prologue(self, anchor: Node, group: Iterable[Node]) -> list[Node]:
        """The nodes of `group` through which `anchor` reads its input."""
        by_output = {output: node for node in group for output in node.outputs}
        found: list[Node] = []
        tensor = anchor.inputs[0]
        while tensor in by_output:
            node = by_output[tensor]
            if len(node.runtime) != 1 or len(node.outputs) != 1:
                break
            found.append(node)
            tensor = node.runtime[0]
        return found[::-1]

    def _epilogue(self, anchor: Node, group: Iterable[Node], axis: int) -> dict[str, Operands]:
        """The nodes of `group` that work on each channel of the result by itself."""
        shape = self.graph.shape(anchor.outputs[0])
        inside = {anchor.outputs[0]}
        found: dict[str, Operands] = {}
        for node in group:
            if not node.runtime or not inside.issuperset(node.runtime) or len(node.outputs) != 1:
                continue
            if not _standard(node):
                continue
            if self.graph.shape(node.outputs[0]) != shape:
                continue
            operands = self._elementwise(node, shape, axis)
            if operands is not None and self._sliceable(node, operands):
                found[node.name] = operands
                inside.add(node.outputs[0])
        return found

    def _elementwise(self, node: Node, shape: tuple[int, ...], axis: int) -> Operands | None:
        """The operands to slice of a node that treats each element by itself; None for any other."""
        if node.op in _UNARY:
            return {}
        if node.op in _BROADCASTING:
            return self._broadcasts(node, shape, axis)
        if node.op in _QUANTISING:
            return self._scales(node, axis)
        if node.op == "BatchNormalization" and axis == 1 and not node.integer("training_mode", 0):
            return dict.fromkeys(range(1, 5), 0)
        return None

    def _broadcasts(self, node: Node, shape: tuple[int, ...], axis: int) -> Operands | None:
        found: Operands = {}
        for index, name in enumerate(node.inputs):
            if name in self.graph.constants:
                along = self._broadcast(name, shape, axis)
                if along is None:
                    return None
                if along >= 0:
                    found[index] = along
        return found

    def _broadcast(self, tensor: str, shape: tuple[int, ...], axis: int) -> int | None:
        """The axis of `tensor` that runs along `axis` of what it broadcasts to; -1 if none does, None if unclear."""
        own = self.graph.shape(tensor)
        along = axis - (len(shape) - len(own))
        if along < 0 or own[along] == 1:
            return -1 if len(own) <= len(shape) else None
        return along if own[along] == shape[axis] else None

    def _scales(self, node: Node, axis: int) -> Operands | None:
        """The sliced operands of a quantising node whose data is sliced along `axis`."""
        if len(node.inputs) < 2 or node.integer("block_size", 0):
            return None
        rank = len(self.graph.shape(node.inputs[0]))
        scale = self.graph.shape(node.inputs[1])
        if self.graph.elements(node.inputs[1]) == 1 or node.integer("axis", 1) % rank != axis:
            return {} if len(scale) <= 1 else None
        return {index: 0 for index in range(1, len(node.inputs)) if node.inputs[index]}

    def _closed(self, nodes: list[Node], shared: list[Node]) -> list[Node]:
        """The longest beginning of `nodes` of whose results only the last one is read elsewhere."""
        if any(not self.graph.only_reader(node.outputs[0]) for node in shared):
            return []
        for count in range(len(nodes), 0, -1):
            kept = nodes[:count]
            names = {node.name for node in kept}
            leaving = [
                node
                for node in kept
                if node.outputs[0] in self.graph.output_set
                or any(reader.name not in names for reader in self.graph.readers(node.outputs[0]))
            ]
            if leaving == [kept[-1]]:
                return kept
        return []

    # --- constants ----------------------------------------------------------------------------------------------

    def _sliceable(self, node: Node, operands: Operands) -> bool:
        return all(self._constant(node.inputs[index], axis) for index, axis in operands.items())

    def _constant(self, tensor: str, axis: int) -> bool:
        """Whether the constant `tensor` can be sliced along `axis`: it is stored, dequantised or all one value."""
        if tensor in self._stored:
            return True
        node = self._expressions.get(tensor)
        if node is None or not _standard(node):
            return False
        if node.op == "ConstantOfShape":
            return node.inputs[0] in self._stored and self.graph.integers(node.inputs[0]) is not None
        if node.op != "DequantizeLinear":
            return False
        scales = self._scales(node, axis)
        return scales is not None and self._sliceable(node, {0: axis} | scales)

    def expression(self, tensor: str, axis: int) -> tuple[Node, Operands] | None:
        """The node that computes the constant `tensor`, and which of its operands to slice; None if it is stored."""
        node = self._expressions.get(tensor)
        if tensor in self._stored or node is None:
            return None
        if node.op == "ConstantOfShape":
            return node, {}
        return node, {0: axis} | (self._scales(node, axis) or {})


def _standard(node: Node) -> bool:
    """Whether the node is of the default domain: elsewhere the same name may mean something else."""
    return node.proto.domain in ("", "ai.onnx")
