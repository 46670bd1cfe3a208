"""Elementwise operators."""

from __future__ import annotations

from collections.abc import Sequence

from h4hc.frontend.lowering.base import Lowered, Produced, default_position, generic
from h4hc.frontend.nodes import Node, NodeGraph
from h4hc.ir.graph import Streamed
from h4hc.ir.workload import Elementwise

RELU_LIKE = frozenset(["Relu", "Clip"])
UNARY = frozenset(
    """Relu Clip LeakyRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign Erf Exp Log Sqrt
    Reciprocal Abs Neg Floor Ceil Round Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Gelu Mish
    Swish ThresholdedRelu Shrink Cast CastLike QuantizeLinear DequantizeLinear BatchNormalization""".split()
)
BINARY = {
    "Add": "add",
    "Sum": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Max": "max",
    "Min": "min",
    "Pow": "other",
    "PRelu": "other",
    "Mean": "other",
}


def unary(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """A function of one tensor; its parameters must be constants."""
    kind = "relu" if node.op in RELU_LIKE else "lut"
    operands = node.runtime
    if len(operands) != 1 or any(node.outputs[1:]):
        return generic(graph, node)
    return elementwise(graph, node.outputs[0], produced, kind, operands)


def binary(graph: NodeGraph, node: Node, produced: Produced) -> Lowered:
    """An operator of one or two run-time tensors."""
    operands = node.runtime
    if len(operands) > 2:
        return generic(graph, node)
    return elementwise(graph, node.outputs[0], produced, BINARY[node.op], operands)


def elementwise(
    graph: NodeGraph, output: str, produced: Produced, kind: str, operands: Sequence[str]
) -> Lowered:
    """One pass over `output`; every operand of the output's size streams along with it."""
    elements = graph.elements(output)
    whole = [name for name in operands if graph.elements(name) == elements]
    arriving = [produced[name] for name in whole if name in produced]
    if arriving:
        position = max(arriving, key=lambda p: p.rows)
    else:
        position = default_position(graph.shape(output))
    streams = {name: Streamed(*position) for name in whole}
    return Lowered(Elementwise(elements, max(1, len(operands)), kind), streams, position)
