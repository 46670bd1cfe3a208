"""Closed regions: a bundle of nodes that computes one tensor from one tensor.

In:  a node graph and a run-time tensor x.
Out: the largest set of allowed nodes computed from x and constants alone from which exactly one tensor
     leaves. Such a set is one operator however an exporter spelled it: on int8 hardware any chain of unary
     functions is one 256-entry table; a mean, a difference, a square root and a quotient are a layer norm.
Cannot: cross a node that reads anything else, so a region never has a path that leaves and comes back.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from h4hc.frontend.lowering import BINARY, UNARY
from h4hc.frontend.nodes import Node, NodeGraph

_MAX_NODES = 24

POINTWISE = frozenset(UNARY) | frozenset(BINARY) | frozenset(["Where", "Not", "Identity"])
REDUCTIONS = frozenset(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceSumSquare", "ReduceL2"])
NORMALISING = REDUCTIONS | frozenset(
    "Sub Pow Mul Add Div Sqrt Reciprocal Exp Clip Max Expand Cast Abs Neg Identity".split()
)


@dataclass(frozen=True, slots=True)
class Region:
    """`nodes` in topological order; `output` is the one tensor that leaves; `closed` if `source` does not."""

    source: str
    nodes: tuple[Node, ...]
    output: str
    closed: bool


def pointwise_region(graph: NodeGraph, source: str) -> Region | None:
    """The largest unary function of `source`."""
    return _grow(graph, source, POINTWISE)


def normalising_region(graph: NodeGraph, source: str) -> Region | None:
    """A decomposed normalisation of `source` (layer norm, softmax, L2 norm), same shape out as in."""
    region = _grow(graph, source, NORMALISING)
    if region is None or not any(node.op in REDUCTIONS for node in region.nodes):
        return None
    if not any(node.op in ("Div", "Mul") for node in region.nodes):
        return None
    if graph.shape(region.output) != graph.shape(source):
        return None
    return region


def norm_kind(region: Region) -> str:
    """The ONNX name of what a normalising region computes."""
    ops = {node.op for node in region.nodes}
    if "Exp" in ops:
        return "Softmax"
    if "ReduceL2" in ops or ("ReduceSum" in ops and "Sub" not in ops):
        return "LpNormalization"
    return "LayerNormalization"


def _grow(graph: NodeGraph, source: str, allowed: frozenset[str]) -> Region | None:
    derived = {source}
    inside: list[Node] = []
    seen: set[int] = set()
    unread = {source: len(graph.readers(source)) + (source in graph.output_set)}
    frontier: list[tuple[int, Node]] = []
    best: Region | None = None
    _push(graph, source, frontier, seen)
    while frontier and len(inside) < _MAX_NODES:
        _, node = heapq.heappop(frontier)
        runtime = node.runtime
        if node.op not in allowed or not derived.issuperset(runtime) or any(node.outputs[1:]):
            seen.discard(node.index)  # another operand may still turn out to be derived
            continue
        inside.append(node)
        output = node.outputs[0]
        derived.add(output)
        unread[output] = len(graph.readers(output)) + (output in graph.output_set)
        for name in runtime:
            unread[name] -= 1
        open_tensors = [name for name, count in unread.items() if count and name != source]
        if len(open_tensors) == 1:
            best = Region(source, tuple(inside), open_tensors[0], not unread[source])
        _push(graph, output, frontier, seen)
    return best


def _push(graph: NodeGraph, tensor: str, frontier: list[tuple[int, Node]], seen: set[int]) -> None:
    for reader in graph.readers(tensor):
        if reader.index not in seen:
            seen.add(reader.index)
            heapq.heappush(frontier, (reader.index, reader))
