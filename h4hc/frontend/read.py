"""Read a model file: the bytes, and the protobuf message in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from h4hc.errors import ModelError
from h4hc.frontend.files import open_regular
from h4hc.frontend.limits import Limits
from h4hc.frontend.wire import check_wire
from h4hc.ir.compilation import Source


def read_model(path: Path, limits: Limits) -> tuple[Source, ModelProto]:
    """The model in the file `path`, without its external data, and where it came from."""
    data = read_bytes(path, limits)
    source = Source(name=path.stem, path=str(path), sha256=hashlib.sha256(data).hexdigest())
    return source, parse(data, str(path), limits)


def read_bytes(path: Path, limits: Limits) -> bytes:
    """The content of a regular file of a sane size."""
    where = f"'{path}'"
    try:
        opened = open_regular(path, follow=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"cannot read the model {where}: {reason}", code="unreadable") from error
    if opened is None:
        raise ModelError(f"the model {where} is not a regular file", code="not-a-file")
    file, status = opened
    with file:
        if status.st_size == 0:
            raise ModelError(f"the model {where} is empty", code="not-onnx")
        if status.st_size > limits.file_bytes:
            raise ModelError(
                f"the model {where} has {status.st_size} bytes, the limit is {limits.file_bytes}",
                code="too-large",
                hint="store the weights as external data",
            )
        return file.read(limits.file_bytes)


def parse(data: bytes, where: str, limits: Limits) -> ModelProto:
    """The ModelProto that `data` encodes."""
    check_wire(data, where, limits)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"'{where}' is not an ONNX model, or it is truncated",
            code="not-onnx",
            hint="export the model again",
        ) from error
    if not model.HasField("graph") or not model.ir_version:
        raise ModelError(f"'{where}' is not an ONNX model: it holds no graph", code="not-onnx")
    return model
