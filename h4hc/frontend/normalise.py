"""Bring a model into the form that the compiler works on.

The steps, in order: versions and counts, inlined functions, constants as initializers, operators
checked against the standard, unique names, topological order, static input shapes, types of all
tensors, folded shape arithmetic, weights checked, private DequantizeLinear nodes. Cheap checks
come before anything native sees the model.

Float arithmetic on constants stays in the graph: each floating-point kernel that runs is the one
of the original model, so that results stay the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, TensorProto

from h4hc.errors import ModelError
from h4hc.frontend import structure
from h4hc.frontend.bind import bind_inputs
from h4hc.frontend.check import (
    check_boundary,
    check_counts,
    check_initializers,
    check_metadata,
    check_name,
    check_node_names,
    check_versions,
)
from h4hc.frontend.dequantize import private_dequantizers
from h4hc.frontend.infer import infer
from h4hc.frontend.inline import inline_functions
from h4hc.frontend.limits import Limits
from h4hc.frontend.operators import check_nodes
from h4hc.frontend.place import place_values
from h4hc.frontend.protos import (
    DTYPES,
    Node,
    TensorType,
    as_node,
    label,
    quoted,
    set_type,
    shape_text,
    static_type,
)
from h4hc.frontend.tensors import check_weights


def normalise_in_place(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...]], limits: Limits, *, weightless: bool = False
) -> None:
    """Normalise `model`, which the caller owns. Raises ModelError if it cannot be compiled."""
    opset = check_versions(model)
    check_counts(model, limits)
    check_boundary(model, limits)
    check_name(model.graph.name, "graph", limits)
    check_node_names(model.graph.node, limits)
    check_metadata(model)
    graph = model.graph
    protos, constants = structure.lift_constants(inline_functions(model, opset, limits))
    if len(protos) > limits.nodes:
        raise ModelError(f"the model has more than {limits.nodes} nodes", code="too-large")
    graph.initializer.extend(constants)
    _detach(model)
    stored = check_initializers(graph.initializer, limits, weightless=weightless)
    protos = structure.separate_outputs(protos, graph, graph.initializer)
    stored = {tensor.name: tensor for tensor in stored.values()}
    _drop_listed_constants(model, stored)
    structure.name_nodes(protos)
    nodes = [as_node(proto) for proto in protos]
    check_nodes(nodes, opset, limits)
    inputs = [value for value in graph.input if value.name not in stored]
    outputs = [value.name for value in graph.output]
    nodes = structure.order(nodes, {v.name for v in inputs} | set(stored), outputs)
    nodes = structure.live(nodes, outputs)
    if not nodes:
        raise ModelError("the model computes nothing: its outputs are its inputs", code="empty")
    types = bind_inputs(inputs, shapes, limits)
    _check_listed(model, stored)
    inferred = infer(nodes, types, stored, _stated(model), outputs=outputs, opset=opset, limits=limits)
    check_weights(nodes, stored)
    inferred.types.update(_statistics(nodes, inferred.types))
    nodes = _without_untyped(nodes, inferred.types)
    nodes, folded = place_values(nodes, inferred, outputs)
    nodes = structure.live(nodes, outputs)
    names = structure.constant_names(nodes, (*stored, *folded))
    _check_sizes(nodes, inferred.types, names)
    nodes = private_dequantizers(nodes, names, outputs, inferred.types, limits)
    _write(model, nodes, inferred.types, folded)


def _stated(model: ModelProto) -> dict[str, TensorType]:
    """The static types that the model states for what it computes."""
    graph = model.graph
    found = {value.name: static_type(value.type) for value in (*graph.value_info, *graph.output)}
    return {
        name: kind
        for name, kind in found.items()
        if kind is not None and kind.code in DTYPES and min(kind.shape, default=1) > 0
    }


def _statistics(nodes: Sequence[Node], types: Mapping[str, TensorType]) -> dict[str, TensorType]:
    """The types of the statistics that a BatchNormalization writes beside its result.

    onnx infers none before operator set 14, where naming these outputs is what makes the node compute statistics
    of its own instead of using the given ones: they must stay, read or not.
    """
    return {
        output: types[node.inputs[1]]
        for node in nodes
        if node.op == "BatchNormalization" and node.inputs[1] in types
        for output in node.outputs[1:]
        if output and output not in types
    }


def _without_untyped(nodes: Sequence[Node], types: Mapping[str, TensorType]) -> list[Node]:
    """`nodes` without outputs that nothing reads and onnx infers no type for (a Dropout's mask)."""
    result: list[Node] = []
    for node in nodes:
        if all(name in types for name in node.outputs if name):
            result.append(node)
            continue
        names = [name if name in types else "" for name in node.outputs]
        while names and not names[-1]:
            names.pop()
        node.proto.output[:] = names
        result.append(as_node(node.proto))
    return result


def _detach(model: ModelProto) -> None:
    """Drop what does not belong to inference, or would be stale afterwards."""
    del model.functions[:]
    del model.training_info[:]
    del model.configuration[:]
    del model.graph.quantization_annotation[:]


def _drop_listed_constants(model: ModelProto, stored: Mapping[str, TensorProto]) -> None:
    """Before IR version 4 initializers had to be listed as inputs; they were constants all the same."""
    if model.ir_version >= 4:
        return
    model.ir_version = 4
    kept = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _check_listed(model: ModelProto, stored: Mapping[str, TensorProto]) -> None:
    """An initializer that is also an input is that input's default value and must be of its type."""
    for value in model.graph.input:
        tensor = stored.get(value.name)
        if tensor is None:
            continue
        stated = value.type.tensor_type
        dims = stated.shape.dim if stated.HasField("shape") else ()
        fits = not stated.HasField("shape") or len(dims) == len(tensor.dims)
        fits = fits and all(
            not d.HasField("dim_value") or d.dim_value == n for d, n in zip(dims, tensor.dims, strict=False)
        )
        if not fits or stated.elem_type != tensor.data_type:
            raise ModelError(
                f"the default value of input {quoted(value.name)} is not of the input's type",
                code="tensor-data",
            )
        set_type(value.type, TensorType(tensor.data_type, tuple(tensor.dims)))


def _check_sizes(nodes: Sequence[Node], types: Mapping[str, TensorType], constants: set[str]) -> None:
    """Refuse run-time tensors without elements (a constant may be empty: the roi of a Resize)."""
    for node in nodes:
        for name in node.outputs:
            if name and name not in constants and name in types and 0 in types[name].shape:
                raise ModelError(
                    f"{label(node)} computes {quoted(name)} of {shape_text(types[name].shape)}: no elements",
                    code="zero-size",
                )


def _write(
    model: ModelProto, nodes: Sequence[Node], types: dict[str, TensorType], folded: Mapping[str, TensorProto]
) -> None:
    """Put the results into `model`."""
    graph = model.graph
    for value in graph.output:
        code = value.type.tensor_type.elem_type
        if code not in {TensorProto.UNDEFINED, types[value.name].code}:
            raise ModelError(
                f"output {quoted(value.name)} is computed as {types[value.name].dtype}, not as stated",
                code="type",
            )
        set_type(value.type, types[value.name])
    for value in graph.input:
        set_type(value.type, types[value.name])
    used = {name for node in nodes for name in node.inputs}
    _keep_initializers(model, used | {value.name for value in graph.input})
    graph.initializer.extend(folded[name] for name in folded if name in used)
    protos = [node.proto for node in nodes]
    del graph.node[:]
    graph.node.extend(protos)
    _write_value_info(model, nodes, types)
    domains = [item.version for item in model.opset_import if not item.domain]
    del model.opset_import[:]
    model.opset_import.add(version=domains[0])
    graph.name = graph.name or "model"


def _keep_initializers(model: ModelProto, used: set[str]) -> None:
    """Delete the initializers that nothing reads, in runs from the end, which moves no weights."""
    tensors = model.graph.initializer
    unused = [index for index, tensor in enumerate(tensors) if tensor.name not in used]
    while unused:
        end = start = unused.pop()
        while unused and unused[-1] == start - 1:
            start = unused.pop()
        del tensors[start : end + 1]


def _write_value_info(model: ModelProto, nodes: Sequence[Node], types: dict[str, TensorType]) -> None:
    graph = model.graph
    del graph.value_info[:]
    boundary = {value.name for value in graph.output}
    for node in nodes:
        for name in node.outputs:
            if name and name not in boundary and name in types:
                value = graph.value_info.add()
                value.name = name
                set_type(value.type, types[name])
