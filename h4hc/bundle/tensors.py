"""The tensors of an ONNX model by name: their types, and their initializers as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnx import ModelProto, ValueInfoProto

from h4hc.bundle.wire import INITIALIZER, SPARSE_INITIALIZER, framed, header


@dataclass(frozen=True, slots=True)
class Tensors:
    """`infos` types every tensor but the initializers; `initializers` maps a name to the header that it has in
    a GraphProto, and its serialised bytes.
    """

    infos: Mapping[str, ValueInfoProto]
    initializers: Mapping[str, tuple[bytes, bytes]]
    _serialised: dict[str, bytes] = field(default_factory=dict)

    def info(self, tensor: str, name: str) -> ValueInfoProto:
        """The type of `tensor`, under another name."""
        info = ValueInfoProto()
        info.CopyFrom(self._info(tensor))
        info.name = name
        return info

    def framed_info(self, field_number: int, tensor: str) -> bytes:
        """The type of `tensor` as a field of a graph."""
        known = self._serialised.get(tensor)
        if known is None:
            known = self._serialised[tensor] = self._info(tensor).SerializeToString()
        return framed(field_number, known)

    def _info(self, tensor: str) -> ValueInfoProto:
        known = self.infos.get(tensor)
        if known is None:
            raise ValueError(f"the normalised model does not state the type of tensor {tensor}")
        return known


def model_tensors(model: ModelProto) -> Tensors:
    """The tensors of `model`; serialises every initializer, once."""
    graph = model.graph
    infos = {info.name: info for part in (graph.value_info, graph.output, graph.input) for info in part}
    payloads = {tensor.name: (INITIALIZER, tensor.SerializeToString()) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        payloads[sparse.values.name] = (SPARSE_INITIALIZER, sparse.SerializeToString())
    initializers = {name: (header(at, len(data)), data) for name, (at, data) in payloads.items()}
    return Tensors(infos, initializers)


class Names:
    """Hands out names that nothing else in the model has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """`wanted`, with a number behind it if it is taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}.{number}"
        self._taken.add(name)
        return name
