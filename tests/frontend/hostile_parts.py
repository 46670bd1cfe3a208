"""Building blocks of hostile models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from frontend_helpers import parse
from onnx import ModelProto, TensorProto, helper, numpy_helper

# name -> (error code, model)
Cases = dict[str, tuple[str, Callable[[], ModelProto]]]
INT_MIN = -(2**63)


def relu(edit: Callable[[ModelProto], object] | None = None) -> ModelProto:
    """A small good model, changed by `edit`."""
    model = parse("(float[2,3] x) => (float[2,3] y) { y = Relu (x) }")
    if edit:
        edit(model)
    return model


def conv(
    attributes: str = "", weight: str = "4,3,3,3", data: str = "1,3,8,8", op: str = "Conv"
) -> ModelProto:
    return parse(f"(float[{data}] x, float[{weight}] w) => (float[N] y) {{ y = {op}{attributes} (x, w) }}")


def weight(value: TensorProto) -> ModelProto:
    """A convolution whose weight is `value`."""
    model = parse("(float[1,1,4,4] x) => (float[N] y) { y = Conv (x, w) }")
    value.name = "w"
    model.graph.initializer.append(value)
    return model


def weight_tensor(**fields: object) -> TensorProto:
    return TensorProto(**{"data_type": 1, "dims": [1, 1, 1, 1], **fields})  # type: ignore[arg-type]


def ints(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def with_attribute(name: str, value: object) -> ModelProto:
    return relu(lambda m: m.graph.node[0].attribute.append(helper.make_attribute(name, value)))


def opset(version: int) -> ModelProto:
    return relu(lambda m: setattr(m.opset_import[0], "version", version))


def renamed_tensor(name: str) -> ModelProto:
    def edit(model: ModelProto) -> None:
        model.graph.node[0].output[0] = name
        model.graph.output[0].name = name

    return relu(edit)


def functions(bodies: str, call: str, *, body_opset: int = 20) -> ModelProto:
    text = bodies.replace("FN", f'<domain: "local", opset_import: ["": {body_opset}, "local": 1]>')
    return parse(
        f"(float[2] x) => (float[2] y) {{ y = local.{call} (x) }}", functions=text, extra=', "local": 1'
    )


def division(a: int, b: int, op: str = "Div") -> ModelProto:
    return parse(
        f"(float[2] x) => (float[N] y) <int64[1] a = {{{a}}}, int64[1] b = {{{b}}}> "
        f"{{ c = {op} (a, b) y = Expand (x, c) }}"
    )


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, varint = len(payload), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(varint) + bytes([length]) + payload
