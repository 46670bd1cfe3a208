"""One operator of a model as a model of its own, with random weights in place of the trained ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from h4hc.profiling.build import IR_VERSION, PRODUCER, NoModelError, random_values

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

    from h4hc.ir.graph import Graph, Operator

_SMALL = 16  # elements: scales, axes, sizes, exponents keep their values


class Extractor:
    """Takes operators out of one normalised model."""

    def __init__(self, model: ModelProto, graph: Graph) -> None:
        self.model = model
        self.graph = graph
        self.nodes = {node.name: node for node in model.graph.node}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.order = {node.name: index for index, node in enumerate(model.graph.node)}
        self.types = {
            value.name: value
            for values in (model.graph.value_info, model.graph.input, model.graph.output)
            for value in values
        }

    def is_quantised(self, operator: Operator) -> bool:
        """Whether `operator` works on integers as it stands in the model."""
        ops = (self.nodes[name].op_type for name in operator.nodes)
        return any(op.startswith("QLinear") or op.endswith(("Integer", "izeLinear")) for op in ops)

    def extract(self, operator: Operator, seed: int = 0) -> ModelProto:
        """The nodes of `operator` and the constants that they read; tensors are renamed."""
        from onnx import helper

        nodes = self._with_constants([self.nodes[name] for name in operator.nodes])
        if any(attribute.HasField("g") for node in nodes for attribute in node.attribute):
            raise NoModelError("it holds a graph of its own, which may read what is outside")
        names = _Names()
        inputs = [self._boundary(name, names, "x") for name in operator.inputs]
        outputs = [self._boundary(name, names, "y") for name in operator.outputs]
        weights = dict.fromkeys(name for node in nodes for name in node.input if name in self.initializers)
        initializers = [self._weight(self.initializers[name], names, seed) for name in weights]
        graph = helper.make_graph(
            [_renamed(node, names, index) for index, node in enumerate(nodes)],
            "kernel", inputs, outputs, initializers,
        )  # fmt: skip
        result = helper.make_model(
            graph, producer_name=PRODUCER, ir_version=max(IR_VERSION, self.model.ir_version)
        )
        del result.opset_import[:]
        result.opset_import.extend(self.model.opset_import)
        return result

    def _with_constants(self, nodes: list[NodeProto]) -> list[NodeProto]:
        """`nodes` and those of the constant expressions that they read, in topological order."""
        found = {node.name: node for node in nodes}
        waiting = list(nodes)
        boundary = {name for name, tensor in self.graph.tensors.items() if not tensor.constant}
        while waiting:
            for name in waiting.pop().input:
                producer = self.producers.get(name)
                if producer is not None and name not in boundary and producer.name not in found:
                    found[producer.name] = producer
                    waiting.append(producer)
        return sorted(found.values(), key=lambda node: self.order[node.name])

    def _boundary(self, name: str, names: _Names, prefix: str) -> ValueInfoProto:
        from onnx import ValueInfoProto

        value = ValueInfoProto()
        value.CopyFrom(self.types[name])
        value.name = names.give(name, prefix)
        value.doc_string = ""
        return value

    def _weight(self, tensor: TensorProto, names: _Names, seed: int) -> TensorProto:
        """`tensor` with random values if it holds many floating-point ones."""
        import numpy as np
        from onnx import TensorProto, numpy_helper

        name = names.give(tensor.name, "w")
        count = int(np.prod(tensor.dims, dtype=np.int64))
        if count > _SMALL and tensor.data_type == TensorProto.FLOAT:
            fan_in = max(1, count // max(1, tensor.dims[0]))
            values = random_values(seed, name, tuple(tensor.dims)) * fan_in**-0.5
            if len(tensor.dims) == 1:  # it may be a variance
                values = abs(values) + 0.5
            return numpy_helper.from_array(values, name)
        return numpy_helper.from_array(numpy_helper.to_array(tensor), name)


class _Names:
    """Short names for tensors, in the order in which they are met."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {"": ""}
        self.count = 0

    def give(self, name: str, prefix: str) -> str:
        if name not in self.given:
            self.given[name] = f"{prefix}{self.count}"
            self.count += 1
        return self.given[name]

    def all(self, names: Iterable[str]) -> list[str]:
        return [self.give(name, "t") for name in names]


def _renamed(node: NodeProto, names: _Names, index: int) -> NodeProto:
    from onnx import NodeProto

    result = NodeProto()
    result.CopyFrom(node)
    result.name = f"n{index}"
    result.doc_string = ""
    del result.metadata_props[:]
    result.input[:] = names.all(node.input)
    result.output[:] = names.all(node.output)
    return result
