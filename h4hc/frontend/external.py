"""Load tensors that live in files beside the model, and from nowhere else."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from onnx import ModelProto, NodeProto, TensorProto

from h4hc.errors import ModelError
from h4hc.frontend.files import open_regular
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import quoted
from h4hc.frontend.tensors import check_tensor_type

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_NUMBER = re.compile(r"[0-9]{1,18}")


def load_external_data(model: ModelProto, folder: Path, limits: Limits) -> None:
    """Copy the external data of every tensor of `model` into it.

    A location must name a regular file inside `folder` (the model's), reached through plain
    folders: no absolute path, no ``..``, no symbolic or hard link, no device or FIFO.
    """
    total = 0
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        total += check_tensor_type(tensor, limits).nbytes
        if total > limits.weight_bytes:
            raise ModelError(
                f"the model's external weights exceed {limits.weight_bytes} bytes", code="too-large"
            )
        _load(tensor, folder, limits)


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    yield from _attribute_tensors(iter(model.graph.node))
    for function in model.functions:
        yield from _attribute_tensors(iter(function.node))


def _attribute_tensors(nodes: Iterator[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for item in node.attribute:
            if item.HasField("t"):
                yield item.t


def _load(tensor: TensorProto, folder: Path, limits: Limits) -> None:
    entries = _entries(tensor)
    expected = check_tensor_type(tensor, limits).nbytes
    offset, length = _number(tensor, entries, "offset", 0), _number(tensor, entries, "length", expected)
    if length != expected:
        raise _error(tensor, f"states {length} bytes of external data, its shape needs {expected}")
    data = _read(tensor, folder, entries["location"], offset, expected)
    tensor.raw_data = data
    del tensor.external_data[:]
    tensor.ClearField("data_location")


def _entries(tensor: TensorProto) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if not isinstance(entry.key, str) or not isinstance(entry.value, str):
            raise _error(tensor, "has external data whose description is not UTF-8")
        if entry.key not in _KEYS or entry.key in entries:
            raise _error(tensor, f"has external data with the unknown or repeated key {quoted(entry.key)}")
        entries[entry.key] = entry.value
    if not entries.get("location"):
        raise _error(tensor, "has external data without a location")
    return entries


def _number(tensor: TensorProto, entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text):
        raise _error(tensor, f"has external data with the {key} {quoted(text)}, which is no byte count")
    return int(text)


def _read(tensor: TensorProto, folder: Path, location: str, offset: int, length: int) -> bytes:
    try:
        opened = open_regular(_confine(tensor, folder, location), follow=False)
    except OSError as error:
        raise _error(
            tensor,
            f"needs external data from {quoted(location)}: {error.strerror}",
            code="external-data-missing",
            hint="keep the data file beside the model",
        ) from error
    if opened is None:
        raise _escape(tensor, location, "is not a regular file")
    file, status = opened
    with file:
        if status.st_nlink > 1:
            raise _escape(tensor, location, "has another name elsewhere (hard link)")
        if offset + length > status.st_size:
            raise _error(
                tensor,
                f"needs bytes {offset} to {offset + length} of {quoted(location)}, "
                f"which has {status.st_size}",
                code="external-data-truncated",
            )
        file.seek(offset)
        return file.read(length)


def _confine(tensor: TensorProto, folder: Path, location: str) -> Path:
    """The path of `location` inside `folder`, if it is there without detours. Raises OSError."""
    parts = PurePosixPath(location).parts
    if not parts or "\0" in location or "\\" in location or location.startswith("/") or ":" in parts[0]:
        raise _escape(tensor, location, "is no relative path")
    if ".." in parts:
        raise _escape(tensor, location, "goes up")
    path = folder
    for part in parts:
        path = path / part
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise _escape(tensor, location, "is or passes a symbolic link")
    if not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
        raise _escape(tensor, location, "leaves the model's folder")
    return path


def _escape(tensor: TensorProto, location: str, problem: str) -> ModelError:
    return _error(
        tensor,
        f"has external data in {quoted(location)}, which {problem}",
        code="external-data-escape",
        hint="external data must be a regular file inside the model's folder",
    )


def _error(tensor: TensorProto, problem: str, *, code: str = "external-data", hint: str = "") -> ModelError:
    return ModelError(f"tensor {quoted(tensor.name)} {problem}", code=code, hint=hint)
