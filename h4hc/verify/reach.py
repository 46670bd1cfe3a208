"""What an ONNX node must have read before it can write the first rows of its output.

The rules lean to the safe side: an operator without a rule, or of an unusual form, needs all of every input.
`node_needs` answers for one node, `group_needs` composes the answers over the nodes of a fused operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from h4hc.verify import rules_compute as compute
from h4hc.verify import rules_move as move
from h4hc.verify.needs import Need, everything, union
from h4hc.verify.network import DEFAULT_DOMAINS, Network, Node
from h4hc.verify.sight import Needs, Sight, UnknownShapeError

UNKNOWN_TOTAL = 2**62  # elements of a tensor without shape: more than any tensor has

ELEMENTWISE = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd",
    "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Celu", "Cos", "Cosh", "Div", "Elu", "Equal",
    "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf",
    "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
)  # fmt: skip
FIRST_INPUT = (
    "BatchNormalization", "Cast", "Clip", "DequantizeLinear", "Dropout", "Flatten", "Identity",
    "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze",
)  # fmt: skip
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

Rule = Callable[[Sight], Needs]
RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, move.elementwise),
    **dict.fromkeys(FIRST_INPUT, move.first_input),
    **dict.fromkeys(REDUCTIONS, compute.reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), compute.arg_reduce),
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), compute.pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), compute.global_pool),
    **dict.fromkeys(("LogSoftmax", "Softmax"), compute.softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), compute.normalisation),
    **dict.fromkeys(("Resize", "Tile", "Upsample"), move.kept_axes),
    "CastLike": move.cast_like,
    "Concat": move.concat,
    "Conv": compute.convolution(1),
    "ConvInteger": compute.convolution(1),
    "ConvTranspose": compute.conv_transpose,
    "CumSum": move.cumulative,
    "DepthToSpace": move.depth_to_space,
    "Einsum": compute.einsum,
    "Expand": move.expand,
    "Gather": move.gather,
    "Gemm": compute.gemm,
    "GroupNormalization": compute.group_norm,
    "InstanceNormalization": compute.instance_norm,
    "LpNormalization": compute.one_axis(-1),
    "MatMul": compute.matmul(0, 1),
    "MatMulInteger": compute.matmul(0, 1),
    "Pad": move.pad,
    "QLinearConv": compute.convolution(3),
    "QLinearMatMul": compute.matmul(0, 3),
    "Slice": move.slicing,
    "SpaceToDepth": move.space_to_depth,
    "Split": move.split,
    "TopK": compute.top_k,
    "Transpose": move.transpose,
}


def node_needs(network: Network, node: Node, output: int, need: Need) -> Needs:
    """Per input index, what `node` reads to compute `need` of output number `output`."""
    rule = RULES.get(node.op) if node.domain in DEFAULT_DOMAINS else None
    if rule is None:
        return {}
    sight = Sight(network, node, output, need)
    try:
        return rule(sight)
    except (UnknownShapeError, LookupError, ArithmeticError, ValueError, TypeError):
        return {}  # a node too odd to read: all of its inputs are needed


def group_needs(network: Network, nodes: Sequence[Node], wanted: Mapping[str, Need]) -> dict[str, Need]:
    """What the nodes (in topological order) read from outside to compute `wanted`, by tensor name.

    Copies made by Transfer nodes count as the tensor they copy.
    """
    needs = dict(wanted)
    for node in reversed(nodes):
        asked = [(i, needs[name]) for i, name in enumerate(node.outputs) if name in needs]
        for index, need in asked:
            answers = node_needs(network, node, index, need)
            for position, name in enumerate(node.inputs):
                if name:
                    _add(network, needs, network.source(name), answers.get(position))
    written = {name for node in nodes for name in node.outputs}
    return {name: need for name, need in needs.items() if name not in written}


def _add(network: Network, needs: dict[str, Need], name: str, need: Need | None) -> None:
    shape = network.shape(name)
    total = prod(shape) if shape is not None else UNKNOWN_TOTAL
    answer = everything(total) if need is None else need
    needs[name] = union(needs[name], answer, total) if name in needs else answer
