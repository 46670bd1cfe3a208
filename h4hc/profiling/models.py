"""Kernels as ONNX models: one operator with its epilogue, that fuses and lowers to the kernel again.

A kernel does not say everything about the nodes it came from: which function a ``lut`` is, along which axes a
transpose goes, where a map is padded. A common choice stands for all: SiLU (a sigmoid in int8, where any
function is a table), the most balanced pair of axes, padding on both sides alike.
"""

from __future__ import annotations

from itertools import zip_longest
from math import gcd, isqrt
from typing import TYPE_CHECKING, Literal

from h4hc.ir.workload import Conv, Elementwise, Generic, Kernel, MatMul, Move, Reduction, Workload
from h4hc.profiling.build import GraphBuilder, NoModelError

if TYPE_CHECKING:
    from onnx import ModelProto

Form = Literal["int8", "model"]
FORMS: tuple[Form, ...] = ("int8", "model")

Built = tuple[str, list[int]]  # a tensor and its shape


def kernel_model(kernel: Kernel, form: Form = "int8", seed: int = 0) -> ModelProto:
    """The single-operator model of `kernel`; raises NoModelError where there is none."""
    graph = GraphBuilder("kernel", form == "int8", seed)
    tensor, shape = _anchor(graph, kernel.workload, kernel.epilogue)
    tensor = _epilogue(graph, kernel, tensor, shape)
    moved = isinstance(kernel.workload, Move)  # bytes are bytes: no quantise nodes
    # What the compiler does not fuse with the node that rounds its result keeps it wide.
    unrounded = isinstance(kernel.workload, Reduction) and kernel.workload.kind in ("softmax", "sum")
    wide = unrounded or isinstance(kernel.workload, Generic)
    graph.output(tensor, shape, stored=moved, wide=wide)
    return graph.model()


def _anchor(graph: GraphBuilder, workload: Workload, epilogue: tuple[str, ...]) -> Built:
    match workload:
        case Conv():
            return _conv(graph, workload, biased="bias" not in epilogue)
        case MatMul():
            return _matmul(graph, workload)
        case Elementwise():
            return _elementwise(graph, workload, alone=not epilogue)
        case Reduction():
            return _reduction(graph, workload)
        case Move():
            return _move(graph, workload)
        case Generic():
            return _generic(graph, workload)


def _conv(graph: GraphBuilder, conv: Conv, biased: bool) -> Built:
    source = graph.input([conv.batch, conv.in_channels, conv.in_h, conv.in_w])
    kernel = [conv.kernel_h, conv.kernel_w]
    strides, dilations = [conv.stride_h, conv.stride_w], [conv.dilation_h, conv.dilation_w]
    pads, more = _conv_pads(conv)
    attributes = {
        "kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": conv.groups, "pads": pads,
    }  # fmt: skip
    if conv.transposed:
        weights = [conv.in_channels, conv.out_channels // conv.groups, *kernel]
        attributes["output_padding"] = more
    else:
        weights = [conv.out_channels, conv.in_channels // conv.groups, *kernel]
    inputs = [source, graph.weight(weights)]
    if biased:
        inputs.append(graph.bias([conv.out_channels]))
    result = graph.node("ConvTranspose" if conv.transposed else "Conv", inputs, **attributes)
    return result, [conv.batch, conv.out_channels, conv.out_h, conv.out_w]


def _conv_pads(conv: Conv) -> tuple[list[int], list[int]]:
    """Padding (all starts, then all ends) that makes the output size, and output_padding if transposed."""
    starts, ends, more = [], [], []
    for size, out, kernel, stride, dilation in (
        (conv.in_h, conv.out_h, conv.kernel_h, conv.stride_h, conv.dilation_h),
        (conv.in_w, conv.out_w, conv.kernel_w, conv.stride_w, conv.dilation_w),
    ):
        reach = (kernel - 1) * dilation + 1
        total = (size - 1) * stride + reach - out if conv.transposed else (out - 1) * stride + reach - size
        starts.append(max(0, total) // 2)
        ends.append(max(0, total) - max(0, total) // 2)
        more.append(max(0, -total))
    return starts + ends, more


def _matmul(graph: GraphBuilder, product: MatMul) -> Built:
    batch = [product.batch] if product.batch > 1 else []
    left = graph.input([*batch, product.m, product.k])
    second = [*batch, product.k, product.n]
    if product.dynamic:
        right = graph.input(second)
    else:
        right = graph.weight(second, product.k**-0.5)
    return graph.node("MatMul", [left, right]), [*batch, product.m, product.n]


_BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "min": "Min",
    "max": "Max",
    "other": "PRelu",
}


def _elementwise(graph: GraphBuilder, work: Elementwise, alone: bool) -> Built:
    shape = [1, work.elements]
    source = graph.input(shape)
    if work.kind in ("relu", "lut"):
        return _unary(graph, source, work.kind, alone), shape
    if work.inputs == 2:
        second = graph.input(shape)
    elif work.inputs == 1:
        second = graph.weight(shape, 1.0)
    else:
        raise NoModelError(f"an elementwise operator of {work.inputs} operands")
    if work.kind == "div" and not graph.int8:
        second = graph.node("Abs", [second]) if work.inputs == 1 else second
    return graph.node(_BINARY[work.kind], [source, second]), shape


def _unary(graph: GraphBuilder, tensor: str, kind: str, alone: bool) -> str:
    """A clamp, or SiLU; next to more functions of the same tensor a sigmoid, which does not fuse with them."""
    if kind == "relu":
        return graph.node("Relu", [tensor])
    sigmoid = graph.node("Sigmoid", [tensor])
    return graph.node("Mul", [tensor, sigmoid]) if alone and not graph.int8 else sigmoid


_ROWWISE = {"softmax": "Softmax", "layer_norm": "LayerNormalization", "l2_norm": "LpNormalization"}
_REDUCE = {"mean": "ReduceMean", "max": "ReduceMax", "sum": "ReduceSum"}


def _reduction(graph: GraphBuilder, work: Reduction) -> Built:
    if work.kind in _ROWWISE:
        shape = [work.in_h, work.channels]
        inputs = [graph.input(shape)]
        if work.kind == "layer_norm":
            inputs += [graph.bias([work.channels]), graph.bias([work.channels])]
        return graph.node(_ROWWISE[work.kind], inputs, axis=-1), shape
    source = graph.input([work.batch, work.channels, work.in_h, work.in_w])
    shape = [work.batch, work.channels, work.out_h, work.out_w]
    if work.kind in _REDUCE:
        return graph.node(_REDUCE[work.kind], [source, graph.integers([2, 3])]), shape
    name = "MaxPool" if work.kind == "max_pool" else "AveragePool"
    if (work.kernel_h, work.kernel_w, work.out_h, work.out_w) == (work.in_h, work.in_w, 1, 1):
        return graph.node(f"Global{name}", [source]), shape
    (sh, bh, eh), (sw, bw, ew) = (
        _pool_axis(work.in_h, work.out_h, work.kernel_h),
        _pool_axis(work.in_w, work.out_w, work.kernel_w),
    )
    window = {"kernel_shape": [work.kernel_h, work.kernel_w], "strides": [sh, sw], "pads": [bh, bw, eh, ew]}
    return graph.node(name, [source], **window), shape


def _pool_axis(size: int, out: int, kernel: int) -> tuple[int, int, int]:
    """Stride and padding at both ends under which a window over `size` has `out` places."""
    for stride in sorted(range(1, size + 1), key=lambda s: (abs(s * out - size), s)):
        total = max(0, (out - 1) * stride + kernel - size)
        begin, end = total // 2, total - total // 2
        if end < kernel and (size + total - kernel) // stride + 1 == out:
            return stride, begin, end
    raise NoModelError(f"a pool of window {kernel} from {size} to {out}")


def _move(graph: GraphBuilder, move: Move) -> Built:
    read, written, run = move.input_elements, move.output_elements, move.run
    match move.kind:
        case "transpose":
            first = _divisor(read // run)
            source = graph.input([first, read // run // first, run], stored=True)
            shape = [read // run // first, first, run]
            return graph.node("Transpose", [source], perm=[1, 0, 2]), shape
        case "concat":
            return _concat(graph, read // run, written // run, run)
        case "split":
            return _split(graph, read // run, run)
        case "slice":
            return _slice(graph, written, run)
        case "pad":
            return _pad(graph, read, written, run)
        case "resize":
            return _resize(graph, read, written)
        case "gather":
            return _gather(graph, read, written)
        case "expand" if written % read == 0:
            source = graph.input([1, read], stored=True)
            repeats = [written // read, 1]
            return graph.node("Tile", [source, graph.integers(repeats)]), [written // read, read]
        case "view":
            raise NoModelError("a view costs nothing")
    raise NoModelError(f"a {move.kind} from {read} to {written} elements in runs of {run}")


def _divisor(number: int) -> int:
    """The divisor of `number` (of more than one prime) nearest below its square root, above 1."""
    for candidate in range(isqrt(number), 1, -1):
        if number % candidate == 0:
            return candidate
    raise NoModelError(f"a transpose of {number} runs, which no two axes hold")


def _concat(graph: GraphBuilder, read: int, written: int, run: int) -> Built:
    parts = [graph.input([1, length, run], stored=True) for length in (read - read // 2, read // 2) if length]
    if written > read:
        parts.append(graph.weight([1, written - read, run], 1.0, stored=True))
    return graph.node("Concat", parts, axis=1), [1, written, run]


def _split(graph: GraphBuilder, length: int, run: int) -> Built:
    """Two parts; the second is the graph's first output."""
    if length < 2:
        raise NoModelError("a split of one element")
    halves = [length - length // 2, length // 2]
    source = graph.input([1, length, run], stored=True)
    first, second = graph.split(source, halves)
    graph.output(first, [1, halves[0], run], stored=True)
    return second, [1, halves[1], run]


def _slice(graph: GraphBuilder, written: int, run: int) -> Built:
    if run == written:  # also the copy that a view of a graph input is
        source = graph.input([written], stored=True)
        return graph.node("Reshape", [source, graph.integers([1, written])]), [1, written]
    rows = written // run
    source = graph.input([rows, run + 1], stored=True)
    arguments = [graph.integers(v) for v in ([0, 0], [rows, run], [0, 1])]
    return graph.node("Slice", [source, *arguments]), [rows, run]


def _gather(graph: GraphBuilder, read: int, written: int) -> Built:
    """Rows of a table by falling indices; two at least, since consecutive ones are a slice."""
    if min(read, written) < 2:
        raise NoModelError("a gather of one element")
    width = gcd(read, written)
    if width == min(read, written):
        width //= next(factor for factor in range(2, width + 1) if width % factor == 0)
    rows, count = read // width, written // width
    source = graph.input([rows, width], stored=True)
    index = [(1 - i) % rows for i in range(count)]
    return graph.node("Gather", [source, graph.integers(index)], axis=0), [count, width]


def _grid(elements: int, rows: int, columns: int) -> tuple[int, int]:
    """Two axes of `elements` in all, at least `rows` x `columns`, the last one longer than `columns`."""
    for candidate in range(rows, elements // (columns + 1) + 1):
        if elements % candidate == 0:
            return candidate, elements // candidate
    raise NoModelError(f"a slice of {rows} x {columns} from {elements} elements")


def _pad(graph: GraphBuilder, read: int, written: int, run: int) -> Built:
    rows = written // run
    if read == written:
        source = graph.input([read], stored=True)
        return graph.node("Pad", [source, graph.integers([0, 0])]), [read]
    for candidate in range(rows, 0, -1):
        if read % candidate == 0 and read // candidate < run:
            source = graph.input([candidate, read // candidate], stored=True)
            pads = graph.integers([0, 0, rows - candidate, run - read // candidate])
            return graph.node("Pad", [source, pads]), [rows, run]
    raise NoModelError(f"a pad from {read} to {written} elements in runs of {run}")


def _resize(graph: GraphBuilder, read: int, written: int) -> Built:
    """Square maps where the sizes allow it."""
    side, out, channels = next(
        (
            (side, isqrt(written * side * side // read), read // (side * side))
            for side in range(min(128, isqrt(read)), 0, -1)
            if read % (side * side) == 0 and _is_square(written * side * side, read)
        ),
        (0, 0, 0),
    )
    shape = [1, channels, out, out] if side else [1, 1, written, 1]
    source = graph.input([1, channels, side, side] if side else [1, 1, read, 1], stored=True)
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return graph.node("Resize", [source, "", "", graph.integers(shape)], **attributes), shape


def _is_square(numerator: int, denominator: int) -> bool:
    quotient, rest = divmod(numerator, denominator)
    return rest == 0 and isqrt(quotient) ** 2 == quotient


def _generic(graph: GraphBuilder, work: Generic) -> Built:
    """Only local response normalisation has a shape that its sizes give away."""
    if work.op_type != "LRN" or work.input_elements != work.output_elements:
        raise NoModelError(f"{work.op_type} is known by its sizes only")
    channels = next(c for c in (64, 32, 16, 8, 4, 2, 1) if work.input_elements % c == 0)
    shape = [1, channels, work.input_elements // channels, 1]
    return graph.node("LRN", [graph.input(shape)], size=5), shape


_OPERANDS = {"add": "Add", "mul": "Mul", "sub": "Sub"}


def _epilogue(graph: GraphBuilder, kernel: Kernel, tensor: str, shape: list[int]) -> str:
    """The nodes behind the anchor. One operand of a product's epilogue is computed at run time: the first."""
    free = isinstance(kernel.workload, Conv | MatMul)
    for step, after in zip_longest(kernel.epilogue, kernel.epilogue[1:]):
        if step in ("relu", "lut"):
            alone = not after or (free and after in _OPERANDS)
            tensor = _unary(graph, tensor, step, alone)
        elif step in ("bias", "batch_norm"):
            operand = graph.weight(_per_channel(kernel.workload, shape), 0.5)
            tensor = graph.node("Add" if step == "bias" else "Mul", [tensor, operand])
        else:
            operand = graph.input(shape) if free else graph.weight(shape, 1.0)
            tensor = graph.requantise(tensor) if free else tensor
            free = False
            tensor = graph.node(_OPERANDS[step], [tensor, operand])
    return tensor


def _per_channel(workload: Workload, shape: list[int]) -> list[int]:
    """The shape of a constant with one value per channel."""
    maps = isinstance(workload, Conv) or (isinstance(workload, Reduction) and len(shape) == 4)
    return [shape[1], 1, 1] if maps else [1] if isinstance(workload, Elementwise) else [shape[-1]]
