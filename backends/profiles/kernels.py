"""Kernels as columns of a profile, and back.

`kernel_of(row_of(kernel))` is `canonical(kernel)`: what cannot be told apart by measuring is left out.
Bias and batch norm directly behind a convolution or product are part of its rescaling and cost nothing of
their own; kernels without weights have no weight width; how well weights compress is kept beside the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Precision, Reduction, Workload

DIMENSIONS = (
    "n", "in_c", "in_h", "in_w", "out_c", "out_h", "out_w", "kh", "kw", "sh", "sw", "dh", "dw", "groups",
    "gemm_b", "gemm_m", "gemm_k", "gemm_n",
)  # fmt: skip
EXTRA = ("inputs", "run", "operations")  # of element-wise operators, of moves, of anything else
LONGEST = 2**31

_CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger")
_PRODUCTS = ("MatMul", "Gemm", "QLinearMatMul", "MatMulInteger", "FullyConnected")
_UNARY = (
    "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "LeakyRelu",
    "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "Swish", "Abs", "Neg", "Floor", "Ceil", "Round", "Sign",
    "Cast", "QuantizeLinear", "DequantizeLinear", "BatchNormalization",
)  # fmt: skip
# Operator name -> kind; the first name of a kind is the one that is written.
_ELEMENTWISE = {
    "Add": "add", "Sum": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max",
    "Relu": "relu", "Clip": "relu", "Lut": "lut", **dict.fromkeys(_UNARY, "lut"), "Pow": "other", "PRelu": "other",
}  # fmt: skip
_REDUCTIONS = {
    "MaxPool": "max_pool", "GlobalMaxPool": "max_pool", "AveragePool": "average_pool",
    "GlobalAveragePool": "average_pool", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "max",
    "ReduceSum": "sum", "Softmax": "softmax", "LogSoftmax": "softmax", "LayerNormalization": "layer_norm",
    "RMSNormalization": "layer_norm", "InstanceNormalization": "layer_norm", "GroupNormalization": "layer_norm",
    "LpNormalization": "l2_norm",
}  # fmt: skip
_MOVES = {
    "Reshape": "view", "Flatten": "view", "Identity": "view", "Squeeze": "view", "Unsqueeze": "view",
    "Transpose": "transpose", "DepthToSpace": "transpose", "SpaceToDepth": "transpose", "Concat": "concat",
    "Split": "split", "Slice": "slice", "Pad": "pad", "Resize": "resize", "Upsample": "resize", "Gather": "gather",
    "Expand": "expand", "Tile": "expand",
}  # fmt: skip
_WINDOWS = ("max_pool", "average_pool", "mean", "max", "sum")

STEPS = ("bias", "batch_norm", "relu", "lut", "add", "mul", "sub", "div", "min", "max")
_CLAMPS = ("relu", "relu6", "relun", "relu_n1_to_1", "clip", "clamp")
_TABLES = (
    "lut", "sigmoid", "hardsigmoid", "tanh", "gelu", "silu", "swish", "hardswish", "leakyrelu", "elu", "selu",
    "mish", "softplus", "erf", "exp",
)  # fmt: skip
# Width in bits of the types that operands are stored in.
TYPES = {
    "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int4": 4, "uint4": 4, "int32": 32, "uint32": 32, "int64": 64,
    "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "int2": 2, "bool": 8,
}  # fmt: skip
_WRITTEN_TYPES = {2: "int2", 4: "int4", 8: "int8", 16: "int16", 32: "float32", 64: "float64"}


def canonical(kernel: Kernel) -> Kernel:
    """`kernel` without what a measurement cannot tell apart."""
    workload, epilogue, precision = kernel.workload, kernel.epilogue, kernel.precision
    if isinstance(workload, Conv | MatMul):
        while epilogue and epilogue[0] in ("bias", "batch_norm"):
            epilogue = epilogue[1:]
    if not workload.weight_elements:
        bits = precision.activation_bits
        precision = Precision(bits, 8 if bits <= 16 else bits)
    return Kernel(workload, epilogue, precision)


def row_of(kernel: Kernel) -> dict[str, int | str]:
    """The columns that say what `kernel` computes. Raises ValueError for kinds that no operator has."""
    found = canonical(kernel)
    clamp = next((step for step in reversed(found.epilogue) if step in ("relu", "lut")), "none")
    row = _workload_row(found.workload)
    bits = found.precision
    row |= {"act": clamp, "epilogue": " ".join(found.epilogue), "dtype_act": _type(bits.activation_bits)}
    row["dtype_out"] = row["dtype_act"]
    if found.workload.weight_elements:
        row["dtype_wt"] = _type(bits.weight_bits)
    return row


def kernel_of(row: Mapping[str, int | str]) -> Kernel:
    """What a row measures. Raises ValueError, in words for people, if it does not say."""
    workload = _workload(row)
    activation = _bits(row, "dtype_act") or 8
    weight = (_bits(row, "dtype_wt") if workload.weight_elements else 0) or 8
    return canonical(Kernel(workload, _epilogue(row), Precision(activation, weight)))


def _workload(row: Mapping[str, int | str]) -> Workload:
    op = str(row.get("onnx_op", ""))
    if "operations" in row:
        return Generic(op, _volume(row, "in"), _volume(row, "out"), _extent(row, "operations"))
    if op in _CONVOLUTIONS or op == "ConvTranspose":
        return _convolution(row, op == "ConvTranspose")
    if op in _PRODUCTS:
        b, m, k, n = (_extent(row, name, 1 if name == "gemm_b" else 0) for name in DIMENSIONS[-4:])
        return MatMul(b, m, k, n, dynamic="dtype_wt" not in row)
    if op in _ELEMENTWISE:
        kind = _ELEMENTWISE[op]
        inputs = _extent(row, "inputs", 1 if kind in ("relu", "lut") else 2)
        side = "out" if "out_c" in row else "in"
        return Elementwise(max(1, _volume(row, side)), inputs, kind)
    if op in _REDUCTIONS:
        return _reduction(row, _REDUCTIONS[op], op.startswith(("Global", "Reduce")))
    if op in _MOVES:
        return Move(_MOVES[op], _volume(row, "in"), _volume(row, "out"), _extent(row, "run", 1))
    raise ValueError(
        f"onnx_op {op or 'is empty'} is not known by its shapes; give its number of scalar operations in column operations"
    )


def _convolution(row: Mapping[str, int | str], transposed: bool) -> Conv:
    sizes = [
        _extent(row, name, default)
        for name, default in zip(DIMENSIONS[:14], (1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1), strict=True)
    ]
    n, in_c, in_h, in_w, out_c, out_h, out_w, kh, kw, sh, sw, dh, dw, groups = sizes
    if in_c % groups or out_c % groups:
        raise ValueError(f"groups {groups} does not divide in_c {in_c} and out_c {out_c}")
    return Conv(
        n, in_c, out_c, in_h, in_w, out_h, out_w, kh, kw, sh, sw, dh, dw, groups, transposed
    )  # fmt: skip


def _reduction(row: Mapping[str, int | str], kind: str, whole: bool) -> Reduction:
    n, channels = _extent(row, "n", 1), _extent(row, "in_c")
    in_h, in_w = _extent(row, "in_h", 1), _extent(row, "in_w", 1)
    if kind not in _WINDOWS:
        out_h, out_w = _extent(row, "out_h", in_h), _extent(row, "out_w", in_w)
        return Reduction(kind, n, channels, in_h, in_w, out_h, out_w)
    out_h, out_w = _extent(row, "out_h", 1), _extent(row, "out_w", 1)
    kernel_h = _extent(row, "kh", in_h if whole else 0)
    kernel_w = _extent(row, "kw", in_w if whole else 0)
    return Reduction(kind, n, channels, in_h, in_w, out_h, out_w, kernel_h, kernel_w)


def _workload_row(workload: Workload) -> dict[str, int | str]:
    match workload:
        case Conv() as c:
            name = "ConvTranspose" if c.transposed else "Conv"
            sizes = [c.batch, c.in_channels, c.in_h, c.in_w, c.out_channels, c.out_h, c.out_w]
            sizes += [c.kernel_h, c.kernel_w, c.stride_h, c.stride_w, c.dilation_h, c.dilation_w, c.groups]
            return {"onnx_op": name, **dict(zip(DIMENSIONS[:14], sizes, strict=True))}
        case MatMul() as m:
            sizes = [m.batch, m.m, m.k, m.n]
            return {"onnx_op": "MatMul", **dict(zip(DIMENSIONS[-4:], sizes, strict=True))}
        case Elementwise() as e:
            return {"onnx_op": _written(_ELEMENTWISE, e.kind), "out_c": e.elements, "inputs": e.inputs}
        case Reduction() as r:
            sizes = [
                r.batch,
                r.channels,
                r.in_h,
                r.in_w,
                r.channels,
                r.out_h,
                r.out_w,
                r.kernel_h,
                r.kernel_w,
            ]
            return {"onnx_op": _written(_REDUCTIONS, r.kind), **dict(zip(DIMENSIONS[:9], sizes, strict=True))}
        case Move() as v:
            name = _written(_MOVES, v.kind)
            return {"onnx_op": name, "in_c": v.input_elements, "out_c": v.output_elements, "run": v.run}
        case Generic() as g:
            row: dict[str, int | str] = {"onnx_op": g.op_type, "operations": g.operations}
            return row | {"in_c": g.input_elements, "out_c": g.output_elements}


def _written(names: Mapping[str, str], kind: str) -> str:
    for name, known in names.items():
        if known == kind:
            return name
    raise ValueError(f"no operator is of kind {kind}")


def _extent(row: Mapping[str, int | str], name: str, default: int = 0) -> int:
    """A size of at least one; a `default` of zero means that it must be given."""
    value = int(row.get(name, default))
    if value < 1:
        raise ValueError(f"{name} is missing" if name not in row else f"{name} must be at least 1")
    return value


def _volume(row: Mapping[str, int | str], side: str) -> int:
    """Elements of the input (`in`) or output (`out`) map; zero where the operator reads none at run time."""
    if f"{side}_c" not in row:
        raise ValueError(f"{side}_c is missing")
    sizes = (row.get(name, 1) for name in ("n", f"{side}_c", f"{side}_h", f"{side}_w"))
    return prod(int(size) for size in sizes)


def _epilogue(row: Mapping[str, int | str]) -> tuple[str, ...]:
    act = str(row.get("act", "")).lower().replace("-", "").replace(" ", "")
    step = _activation(act)
    if "epilogue" not in row:
        return (step,) if step else ()
    steps = tuple(str(row["epilogue"]).split())
    for name in steps:
        if name not in STEPS:
            raise ValueError(f"epilogue step {name} is unknown; known are {', '.join(STEPS)}")
    if step and step not in steps:
        raise ValueError(f"act {act} is not among the steps of epilogue {' '.join(steps)}")
    return steps


def _activation(act: str) -> str:
    if act in ("", "none", "linear"):
        return ""
    if act in _CLAMPS:
        return "relu"
    if act in _TABLES:
        return "lut"
    known = ", ".join(("none", *_CLAMPS, *_TABLES))
    raise ValueError(f"act {act} is unknown; known are {known}")


def _bits(row: Mapping[str, int | str], column: str) -> int:
    """Width of the type in `column`; zero where it is empty."""
    name = str(row.get(column, "")).lower()
    if name and name not in TYPES:
        raise ValueError(f"{column} {name} is unknown; known are {', '.join(TYPES)}")
    return TYPES.get(name, 0)


def _type(bits: int) -> str:
    if bits not in _WRITTEN_TYPES:
        raise ValueError(f"no type has {bits} bits")
    return _WRITTEN_TYPES[bits]
