"""The same operator several times in one model, so that differences cancel what is not the operator.

A session that holds one operator also converts layouts at its boundary and takes the time of a call. Between a
model with one copy and a model with several, those are equal; what differs is the copies, each with weights of
its own, read from memory as in a network, and what becomes of their results:
- ``plain``: a tap of each result, which reads one element of it, is an output of the model;
- ``blocked``: likewise, but maps pass through a pool of window 1 first and the tap is a pool that reads one pixel
  of each channel, which keeps maps in the layout that convolutions work in, as the neighbours of a convolution in
  a network do;
- ``direct``: the results are the outputs of the model.
Which one adds least to an operator depends on how it is implemented; none makes it faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

Ending = Literal["plain", "blocked", "direct"]
_FLAT, _FIRST = "h4hc.flat", "h4hc.first"  # constants that every tap reads


def repeated(model: ModelProto, copies: int, ending: Ending) -> ModelProto:
    """`model` with its nodes `copies` times, all of them reading the same inputs."""
    result = _emptied(model)
    graph = result.graph
    graph.input.extend(model.graph.input)
    fronts = {value.name: _front(graph, value, ending) for value in model.graph.input}
    fixed = [tensor for tensor in model.graph.initializer if not _is_float(tensor)]
    graph.initializer.extend(fixed)
    common = fronts | {tensor.name: tensor.name for tensor in fixed} | {"": ""}
    for copy in range(copies):
        for tensor in model.graph.initializer:
            if _is_float(tensor):
                graph.initializer.append(_another(tensor, copy))
        for node in model.graph.node:
            added = graph.node.add()
            added.CopyFrom(node)
            added.name = f"{node.name}.{copy}"
            for names in (added.input, added.output):
                names[:] = [common.get(name, f"{name}.{copy}") for name in names]
        for value in model.graph.output:
            _end(graph, value, f"{value.name}.{copy}", f"{value.name}.{copy}.tap", ending)
    return result


def taps(model: ModelProto, copies: int, ending: Ending) -> ModelProto:
    """As `repeated`, without the operator: each tap reads an input that is like the operator's result."""
    result = _emptied(model)
    graph = result.graph
    graph.input.extend(model.graph.output)
    for value in model.graph.output:
        source = _front(graph, value, ending)
        for copy in range(copies):
            _end(graph, value, source, f"{value.name}.{copy}.tap", ending)
    return result


def is_map(value: ValueInfoProto) -> bool:
    """Whether a tensor is a batch of float maps, which convolutions keep in a layout of their own."""
    from onnx import TensorProto

    return len(_shape(value)) == 4 and value.type.tensor_type.elem_type == TensorProto.FLOAT


def _emptied(model: ModelProto) -> ModelProto:
    """A model of the same versions that holds nothing but the constants of taps."""
    import numpy as np
    from onnx import ModelProto, numpy_helper

    result = ModelProto()
    result.CopyFrom(model)
    result.ClearField("graph")
    result.graph.name = model.graph.name
    result.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), _FLAT))
    result.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), _FIRST))
    return result


def _front(graph: GraphProto, value: ValueInfoProto, ending: Ending) -> str:
    """The tensor to read in place of an input: a map in the layout of convolutions."""
    from onnx import helper

    if ending != "blocked" or not is_map(value):
        return value.name
    name = f"{value.name}.front"
    graph.node.append(helper.make_node("MaxPool", [value.name], [name], name, kernel_shape=[1, 1]))
    return name


def _end(graph: GraphProto, value: ValueInfoProto, source: str, name: str, ending: Ending) -> None:
    """Make `source`, a tensor like `value`, or a little of it a graph output.

    The reshape keeps optimisers from moving a transpose behind the tap.
    """
    from onnx import helper

    if ending == "direct":
        graph.output.add().CopyFrom(value)
        graph.output[-1].name = source
        return
    shape = [1]
    if ending == "blocked" and is_map(value):
        batch, channels, height, width = _shape(value)
        pool = helper.make_node(
            "MaxPool", [source], [name], name, kernel_shape=[1, 1], strides=[height, width]
        )
        graph.node.append(pool)
        shape = [batch, channels, 1, 1]
    else:
        flat = f"{name}.flat"
        graph.node.append(helper.make_node("Reshape", [source, _FLAT], [flat], flat))
        graph.node.append(helper.make_node("Gather", [flat, _FIRST], [name], name, axis=0))
    graph.output.append(helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, shape))


def _shape(value: ValueInfoProto) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _is_float(tensor: TensorProto) -> bool:
    from onnx import TensorProto

    return bool(tensor.data_type == TensorProto.FLOAT)


def _another(tensor: TensorProto, copy: int) -> TensorProto:
    """`tensor` with other values of the same size, so that nobody takes two copies for one."""
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor) * np.float32(1 + copy / 16)
    return numpy_helper.from_array(values, f"{tensor.name}.{copy}")
