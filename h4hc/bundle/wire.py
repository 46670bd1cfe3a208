"""Protocol-buffer framing, so that what several models hold is serialised once.

A message may be written as the bytes of its parts, one field after the other. A model file is thus a list of chunks: the
model without its graph, the graph without weights, then each initializer's bytes, which all files share.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from onnx import GraphProto, ModelProto, NodeProto

VARINT, LENGTH_DELIMITED = 0, 2
GRAPH = ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = GraphProto.INITIALIZER_FIELD_NUMBER
SPARSE_INITIALIZER = GraphProto.SPARSE_INITIALIZER_FIELD_NUMBER
SMALL = 1 << 16  # graphs up to that many bytes are one chunk
NODE = GraphProto.NODE_FIELD_NUMBER
INPUT = GraphProto.INPUT_FIELD_NUMBER
OUTPUT = GraphProto.OUTPUT_FIELD_NUMBER
VALUE_INFO = GraphProto.VALUE_INFO_FIELD_NUMBER
METADATA = NodeProto.METADATA_PROPS_FIELD_NUMBER
CONFIGURATION = NodeProto.DEVICE_CONFIGURATIONS_FIELD_NUMBER


@lru_cache(maxsize=4096)
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


def framed(field: int, payload: bytes) -> bytes:
    """The message `payload` as field `field`."""
    return header(field, len(payload)) + payload


def text(field: int, value: str) -> bytes:
    """The text `value` as field `field`."""
    return framed(field, value.encode())


@lru_cache(maxsize=4096)
def number(field: int, value: int) -> bytes:
    """The integer `value`, not negative, as field `field`."""
    return varint(field << 3 | VARINT) + varint(value)


def model_chunks(
    model: bytes, graph: Iterable[bytes], initializers: Iterable[tuple[bytes, bytes]]
) -> list[bytes]:
    """The file of a model from its bytes without a graph, and those of the graph's fields without initializers.

    Each initializer is its header in the graph and its bytes.
    """
    start = b"".join(graph)
    parts = [part for initializer in initializers for part in initializer]
    size = len(start) + sum(map(len, parts))
    chunks = [model, header(GRAPH, size), start, *parts]
    return [b"".join(chunks)] if size <= SMALL else chunks
