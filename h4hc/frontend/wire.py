"""Look at the encoded bytes of a model before they are parsed.

An empty message takes two bytes in a file and more than a hundred in memory, so that a small file
could take all memory while it is parsed. The scan walks the wire format (tag, length, payload) and
counts messages without building them. Packed numbers grow as well, from a byte to eight. What is malformed is
left to the parser to report.
"""

from __future__ import annotations

from typing import Any

from onnx import ModelProto

from h4hc.errors import ModelError
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import quoted

# Messages up to this size are not entered in the first scan, payloads from this size on are data.
_LARGE = 4096
# FieldDescriptor.type of numbers of variable length -> bytes of one in memory: (u)int64, (u)int32, bool, enum.
_VARIABLE_LENGTH = {3: 8, 4: 8, 5: 4, 13: 4, 8: 1, 14: 4}


def check_wire(data: bytes, where: str, limits: Limits) -> None:
    """Refuse encoded models that would grow out of proportion when parsed."""
    if len(data) <= limits.plain_bytes:
        return
    _, blobs = _scan(data, _LARGE, limits, where)
    if len(data) - blobs > limits.plain_bytes:
        _scan(data, 0, limits, where)


def _scan(data: bytes, enter_above: int, limits: Limits, where: str) -> tuple[int, int]:
    """Fields seen and bytes in large payloads (weights), entering messages larger than `enter_above`."""
    fields = blobs = grown = 0
    stack: list[tuple[int, int, Any]] = [(0, len(data), ModelProto.DESCRIPTOR)]
    while stack:
        position, end, descriptor = stack.pop()
        messages = _message_fields(descriptor)
        while position < end:
            fields += 1
            if fields > limits.fields:
                raise ModelError(
                    f"{quoted(where)} consists of more than {limits.fields} parts", code="too-large"
                )
            tag, position = _varint(data, position, end)
            wire_type = tag & 7
            if wire_type == 0:
                _, position = _varint(data, position, end)
            elif wire_type == 2:
                length, position = _varint(data, position, end)
                inner = messages.get(tag >> 3)
                if inner is not None and length > enter_above:
                    stack.append((position, min(position + length, end), inner))
                elif inner is None and length >= _LARGE:
                    blobs += length
                    grown += length * _growth(descriptor, tag >> 3)
                    if grown > limits.weight_bytes:
                        raise ModelError(
                            f"{quoted(where)} holds more than {limits.weight_bytes} bytes of numbers",
                            code="too-large",
                            hint="store weights as raw_data",
                        )
                position += length
            elif wire_type in {1, 5}:
                position += 8 if wire_type == 1 else 4
            else:
                break
    return fields, blobs


_FIELDS: dict[str, dict[int, Any]] = {}


def _message_fields(descriptor: Any) -> dict[int, Any]:
    """Field number -> descriptor of the message in it, for the fields that hold messages."""
    known = _FIELDS.get(descriptor.full_name)
    if known is None:
        known = {f.number: f.message_type for f in descriptor.fields if f.message_type is not None}
        _FIELDS[descriptor.full_name] = known
    return known


def _growth(descriptor: Any, number: int) -> int:
    """Bytes in memory of each byte of a packed field: numbers of variable length take one byte and up."""
    field = descriptor.fields_by_number.get(number)
    return 0 if field is None else _VARIABLE_LENGTH.get(field.type, 0)


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at `position` and the position after it; beyond the end, the end."""
    if position < end and data[position] < 0x80:
        return data[position], position + 1
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return value, end
