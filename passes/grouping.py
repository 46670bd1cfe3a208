"""Which nodes make up one operator: the rules of `h4hc.passes.fuse`, applied node by node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from h4hc.frontend.lowering import BINARY, RELU_LIKE, UNARY, accelerated, pool_padding
from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.passes.regions import Region, norm_kind, normalising_region, pointwise_region

VIEWS = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"])
_VIEW_CANDIDATES = VIEWS | frozenset(["Cast", "CastLike", "Transpose", "Expand", "Concat"])
_PROLOGUES = frozenset(["DequantizeLinear", "Expand", "Pad"])
_ARITHMETIC = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "MatMul",
        "MatMulInteger",
        "QLinearMatMul",
        "Gemm",
        "Einsum",
    ]
)
_EXTENDABLE = (
    _ARITHMETIC | UNARY | frozenset(BINARY)
    | frozenset(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax",
                 "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
                 "LpNormalization"])
)  # fmt: skip
_AFFINE = frozenset(["bias", "batch_norm"])
_SPLIT_READS = frozenset(
    ["ReduceMean", "ReduceMax", "ReduceSum", "ReduceSumSquare", "ReduceL2", "Pow", "Exp", "Abs"]
)


@dataclass(slots=True)
class Group:
    """An operator while it grows. `tail` is its last result, the one that further nodes may extend."""

    anchor: Node
    tail: str
    nodes: list[Node]
    extendable: bool
    exits: list[str]  # results that others may read, the tail among them
    epilogue: list[str] = field(default_factory=list)
    kind: str = ""
    region: Region | None = None
    joined: bool = False  # a second run-time operand has been fused

    @property
    def scaled(self) -> bool:
        """Whether scales and shifts by constants are all there is behind the anchor: more of them change nothing."""
        return bool(self.epilogue) and _AFFINE.issuperset(self.epilogue)


class Fuser:
    """The state of one fusion: which group computes each tensor, which nodes are taken."""

    def __init__(self, graph: NodeGraph) -> None:
        self.graph = graph
        self.groups: list[Group] = []
        self.group_of: dict[str, Group] = {}
        self.taken: set[int] = set()
        self.roots: dict[str, str] = {}
        self.prologues: dict[str, Node] = {}  # tensor -> the prologue node that computes it
        self.refused_regions: set[str] = set()

    def run(self) -> list[Group]:
        """Assign every run-time node to a group."""
        for node in self.graph.nodes:
            if node.index in self.taken:
                continue
            if node.op in _VIEW_CANDIDATES and is_view(self.graph, node):
                self._view(node)
            elif self._region(node):
                continue
            elif node.op in _PROLOGUES and self._is_prologue(node):
                self.prologues[node.outputs[0]] = node
            elif not (self._extend(node) or self._join(node)):
                self._start(node)
        return self.groups

    def _start(self, node: Node, region: Region | None = None, kind: str = "") -> Group:
        nodes = self._with_prologues(region.nodes if region else (node,))
        exits = [region.output] if region else [output for output in node.outputs if output]
        tail = exits[0]
        extendable = (region is not None or node.op in _EXTENDABLE) and len(exits) == 1
        group = Group(node, tail, nodes, extendable, exits, kind=kind, region=region)
        self.groups.append(group)
        self._own(group, nodes)
        return group

    def _own(self, group: Group, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.taken.add(node.index)
            for output in node.outputs:
                if output:
                    self.group_of[output] = group

    def _with_prologues(self, nodes: Iterable[Node]) -> list[Node]:
        if not self.prologues:
            return list(nodes)
        result: list[Node] = []
        for node in nodes:
            for name in node.inputs:
                prologue = self.prologues.get(name)
                if prologue is not None and prologue.index not in self.taken:
                    result.append(prologue)
                    self.taken.add(prologue.index)
            result.append(node)
        return result

    def _is_prologue(self, node: Node) -> bool:
        if not self.graph.only_reader(node.outputs[0]):
            return False
        reader = self.graph.readers(node.outputs[0])[0]
        if len(node.runtime) != 1 or is_view(self.graph, reader):
            return False
        if node.op == "Pad":
            before_conv = reader.op == "Conv" and reader.inputs[0] == node.outputs[0] and _pads_zero(node)
            return before_conv or pool_padding(self.graph, reader) is node
        if node.op == "Expand":
            return reader.op in BINARY and len(reader.runtime) == 2
        return reader.op != "DequantizeLinear" and not (reader.op in _PROLOGUES and self._is_prologue(reader))

    def _view(self, node: Node) -> None:
        source, output = node.inputs[0], node.outputs[0]
        group = self.group_of.get(source)
        if group is None:
            self._start(node)
            return
        group.nodes.append(node)
        group.exits.append(output)
        self._own(group, [node])
        self.roots[output] = self.roots.get(source, source)
        if group.tail == source and self.graph.only_reader(source):
            group.tail = output

    def _open_group(self, tensor: str) -> Group | None:
        """The group that `tensor` may extend: it is the group's last result and has one reader."""
        group = self.group_of.get(tensor)
        if (
            group is None
            or not group.extendable
            or group.tail != tensor
            or not self.graph.only_reader(tensor)
        ):
            return None
        return group

    def _region(self, node: Node) -> bool:
        """Rules 2 and 3 for a tensor with several readers."""
        if len(node.runtime) != 1:
            return False
        source = node.runtime[0]
        if len(self.graph.readers(source)) < 2 or source in self.refused_regions:
            return False
        if node.op in _SPLIT_READS or (node.op == "Mul" and node.inputs[0] == node.inputs[1]):
            region = normalising_region(self.graph, source)
            if region is not None and self._fresh(region):
                self._start(region.nodes[0], region, norm_kind(region))
                return True
        region = pointwise_region(self.graph, source)
        if region is None or node not in region.nodes or not self._fresh(region) or _requantises(region):
            self.refused_regions.add(source)
            return False
        group = self.group_of.get(source)
        if region.closed and group is not None and group.extendable and group.tail == source:
            self._append(group, region.nodes, region.output, pointwise_kind(region.nodes))
        else:
            self._start(region.nodes[0], region)
        return True

    def _fresh(self, region: Region) -> bool:
        return not any(node.index in self.taken for node in region.nodes)

    def _extend(self, node: Node) -> bool:
        """Rules 3, 4 and 6: a unary node behind the operator that computes its input."""
        runtime = node.runtime
        if len(runtime) != 1 or (node.op not in UNARY and node.op not in BINARY) or any(node.outputs[1:]):
            return False
        group = self._open_group(runtime[0])
        if group is None:
            return False
        output = node.outputs[0]
        if node.op in BINARY and self.graph.elements(output) != self.graph.elements(runtime[0]):
            return False  # a constant broadcasts the tensor
        if node.op in ("Cast", "CastLike") and not accelerated(self.graph, output):
            return False
        self._append(group, (node,), output, epilogue_kind(self.graph, node))
        return True

    def _join(self, node: Node) -> bool:
        """Rule 5: a residual add or product behind the later of the operators that compute its operands."""
        if node.op not in ("Add", "Sum", "Mul", "Sub"):
            return False
        runtime = node.runtime
        if len(runtime) != 2:
            return False
        elements = self.graph.elements(node.outputs[0])
        candidates = []
        for name in runtime:
            source = self._through_prologue(name)
            group = self._open_group(source)
            if group is not None and group.anchor.op in _ARITHMETIC and not group.joined:
                if self.graph.elements(name) == elements == self.graph.elements(source):
                    candidates.append(group)
        if not candidates:
            return False
        group = max(candidates, key=lambda g: g.anchor.index)
        group.joined = True
        self._append(group, self._with_prologues((node,)), node.outputs[0], BINARY[node.op])
        return True

    def _through_prologue(self, tensor: str) -> str:
        prologue = self.prologues.get(tensor)
        return prologue.inputs[0] if prologue is not None else tensor

    def _append(self, group: Group, nodes: Iterable[Node], tail: str, kind: str) -> None:
        nodes = list(nodes)
        group.nodes.extend(nodes)
        self._own(group, nodes)
        group.exits[group.exits.index(group.tail)] = tail
        group.tail = tail
        if not kind:
            return
        last = group.epilogue[-1] if group.epilogue else ""
        if kind in ("relu", "lut") and last in ("relu", "lut"):
            group.epilogue[-1] = "relu" if kind == last == "relu" else "lut"
        elif not (kind in _AFFINE and group.anchor.op in _ARITHMETIC and group.scaled):
            group.epilogue.append(kind)


def is_view(graph: NodeGraph, node: Node) -> bool:
    """Whether `node` only gives the elements of its first input another shape."""
    if node.op not in _VIEW_CANDIDATES or not node.inputs or node.inputs[0] in graph.constants:
        return False
    if any(graph.readers(name) or name in graph.output_set for name in node.outputs[1:]):
        return False
    if node.op == "Dropout":  # a training mode given as an input would make it random
        return len(node.inputs) < 3
    if node.op in VIEWS:
        return len(node.runtime) == 1
    if node.op in ("Cast", "CastLike"):
        return graph.dtype(node.inputs[0]) == graph.dtype(node.outputs[0])
    if node.op == "Transpose":
        shape = graph.shape(node.inputs[0])
        permutation = node.integers("perm") or tuple(reversed(range(len(shape))))
        moved = [axis for axis in permutation if shape[axis] != 1]
        return moved == sorted(moved)
    if node.op in ("Expand", "Concat"):
        return len(node.inputs) <= 2 and len(node.runtime) == 1 and (
            graph.elements(node.inputs[0]) == graph.elements(node.outputs[0])
        )  # fmt: skip
    return False


def _requantises(region: Region) -> bool:
    """Whether a region only converts between number formats: that belongs to its neighbours."""
    return all(node.op in ("QuantizeLinear", "DequantizeLinear") for node in region.nodes)


def _pads_zero(node: Node) -> bool:
    return node.text("mode", "constant") == "constant"


def pointwise_kind(nodes: Iterable[Node]) -> str:
    """``relu`` if every node clamps, else ``lut``."""
    return "relu" if all(node.op in RELU_LIKE for node in nodes) else "lut"


def epilogue_kind(graph: NodeGraph, node: Node) -> str:
    """What a node with one run-time operand does to each element of it; empty for requantisation (free)."""
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return ""
    if node.op == "BatchNormalization":
        return "batch_norm"
    if node.op in RELU_LIKE:
        return "relu"
    if node.op not in ("Add", "Sum", "Sub", "Mul", "Div"):
        return "lut"
    constant = next((name for name in node.inputs if name in graph.constants), None)
    if constant is None:  # x + x, x * x
        return "lut"
    per_channel = max(graph.shape(node.outputs[0]), default=1)
    if graph.elements(constant) > per_channel:
        return BINARY[node.op] if node.op != "Div" else "mul"
    return "bias" if node.op in ("Add", "Sum", "Sub") else "batch_norm"
