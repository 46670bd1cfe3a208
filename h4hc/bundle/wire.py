"""Protocol-buffer framing, so that weights are serialised once and never copied between models.

A message may be written as the bytes of its parts in any field order. A model file is thus a list of
chunks: the small part without weights, then each initializer's bytes, which all files share.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, ModelProto

LENGTH_DELIMITED = 2
GRAPH = ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = GraphProto.INITIALIZER_FIELD_NUMBER
SPARSE_INITIALIZER = GraphProto.SPARSE_INITIALIZER_FIELD_NUMBER


def header(field: int, size: int) -> bytes:
    """The tag and length that precede a message of `size` bytes in field `field`."""
    return varint(field << 3 | LENGTH_DELIMITED) + varint(size)


def varint(value: int) -> bytes:
    """A non-negative integer in base 128, least significant group first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def model_chunks(
    model: ModelProto, graph: GraphProto, initializers: Iterable[tuple[int, bytes]]
) -> list[bytes]:
    """The file of `model` (without its graph) around `graph` (without its initializers).

    Each initializer is its field number in GraphProto and its bytes.
    """
    parts = [graph.SerializeToString()]
    for field, payload in initializers:
        parts += (header(field, len(payload)), payload)
    return [model.SerializeToString(), header(GRAPH, sum(map(len, parts))), *parts]
