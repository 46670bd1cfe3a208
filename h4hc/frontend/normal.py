"""Recognise a model that needs no normalisation. A search passes thousands of those."""

from __future__ import annotations

from onnx import ModelProto

from h4hc.frontend.fold import EVALUATED
from h4hc.frontend.limits import MAX_IR, MAX_OPSET
from h4hc.frontend.protos import FLOATS


def is_normal(model: ModelProto) -> bool:
    """Whether `model` has the normal form: static types everywhere, ordered, named, nothing to fold.

    Types are taken as stated; the data of initializers is not looked at.
    """
    graph = model.graph
    if (
        model.functions
        or len(model.opset_import) != 1
        or graph.sparse_initializer
        or not 4 <= model.ir_version <= MAX_IR
    ):
        return False
    standard = model.opset_import[0]
    if standard.domain or not 1 <= standard.version <= MAX_OPSET:
        return False
    codes = _static_codes(model)
    return codes is not None and _ordered(model, codes)


def _static_codes(model: ModelProto) -> dict[str, int] | None:
    """Element type by tensor name, or None if a dimension is open."""
    graph = model.graph
    codes: dict[str, int] = {}
    for values in (graph.input, graph.output, graph.value_info):
        for value in values:
            tensor = value.type.tensor_type
            code = tensor.elem_type
            if not code:
                return None
            for dim in tensor.shape.dim:
                if dim.dim_value <= 0:
                    return None
            codes[value.name] = code
    return codes


def _ordered(model: ModelProto, codes: dict[str, int]) -> bool:
    graph = model.graph
    outputs = {value.name for value in graph.output}
    constants = {tensor.name for tensor in graph.initializer}
    ready = {value.name for value in graph.input} | constants
    if outputs & constants:
        return False
    names: set[str] = set()
    read: set[str] = set()
    dequantized: list[str] = []
    reads = 0
    nodes = graph.node
    for node in nodes:
        names.add(node.name)
        op = node.op_type
        inputs = node.input
        if node.domain or op == "Constant":
            return False
        known = op in EVALUATED
        for name in inputs:
            if name and name not in ready:
                return False
            known = known and name in constants
        read.update(inputs)
        produced = node.output
        for name in produced:
            if name and (name in ready or name not in codes):
                return False
            ready.add(name)
        first = produced[0]
        if (known or op in {"Shape", "Size"}) and codes.get(first) not in FLOATS and first not in outputs:
            return False
        if op == "DequantizeLinear" and inputs[0] not in constants:
            dequantized.append(first)
            reads += 1
    if "" in names or len(names) != len(nodes) or not outputs <= ready:
        return False
    return _all_read(model, read | outputs) and (
        not reads or _single_readers(model, set(dequantized), outputs)
    )


def _all_read(model: ModelProto, read: set[str]) -> bool:
    return all(any(name in read for name in node.output) for node in model.graph.node)


def _single_readers(model: ModelProto, dequantized: set[str], outputs: set[str]) -> bool:
    seen = dequantized & outputs
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            if name in dequantized:
                if name in seen:
                    return False
                seen.add(name)
    return True
