"""Make the shapes of the graph inputs static."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import TensorShapeProto, ValueInfoProto

from h4hc.errors import ModelError, OptionError
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import ITEM_BYTES, TensorType, quoted, shape_text

# A dimension as the model states it: a number, a symbol, or nothing.
Dim = int | str | None


def bind_inputs(
    inputs: Sequence[ValueInfoProto], shapes: Mapping[str, tuple[int, ...]], limits: Limits
) -> dict[str, TensorType]:
    """The static type of each graph input.

    1. `shapes` gives the shape of an input and thereby the value of the symbols in it, wherever
       they occur.
    2. What remains open on axis 0 of an input of rank 2 or more is the batch, and becomes 1; so
       does its symbol elsewhere.
    3. What then remains open is refused.
    """
    stated = {value.name: _dims(value, limits) for value in inputs}
    for name in shapes:
        if name not in stated:
            raise OptionError(
                f"there is no input {quoted(name)} to give a shape to",
                code="unknown-input",
                hint=f"the inputs are {_listing(stated)}",
            )
    symbols: dict[str, int] = {}
    for name, given in shapes.items():
        _learn(name, stated[name], given, symbols, _listing(stated))
    for name, dims in stated.items():
        if name not in shapes and dims is not None and len(dims) >= 2 and isinstance(dims[0], str):
            symbols.setdefault(dims[0], 1)
    types: dict[str, TensorType] = {}
    for value in inputs:
        dims = stated[value.name]
        shape = shapes[value.name] if value.name in shapes else _resolve(value.name, dims, symbols)
        types[value.name] = _sized(value, tuple(shape), limits)
    return types


def _dims(value: ValueInfoProto, limits: Limits) -> tuple[Dim, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    if len(tensor.shape.dim) > limits.rank:
        raise ModelError(
            f"input {quoted(value.name)} has {len(tensor.shape.dim)} dimensions", code="too-large"
        )
    dims = tuple(_dim(d) for d in tensor.shape.dim)
    if any(isinstance(d, int) and d < 1 for d in dims):
        raise ModelError(
            f"input {quoted(value.name)} has the shape {shape_text(dims)}",
            code="zero-size" if 0 in dims else "shape",
            hint="dimensions must be at least 1",
        )
    return dims


def _dim(dim: TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None


def _learn(
    name: str, dims: tuple[Dim, ...] | None, given: tuple[int, ...], symbols: dict[str, int], listing: str
) -> None:
    """Check the shape `given` for an input and note the values of its symbols."""
    if any(isinstance(extent, bool) or not isinstance(extent, int) or extent < 1 for extent in given):
        raise OptionError(
            f"the shape {shape_text(given)} of input {quoted(name)} is no shape", code="bad-shape"
        )
    fits = dims is None or len(dims) == len(given)
    for dim, extent in zip(dims or (), given, strict=False):
        expected = dim if isinstance(dim, int) else extent
        if isinstance(dim, str):
            expected = symbols.setdefault(dim, extent)
        fits = fits and expected == extent
    if not fits:
        raise OptionError(
            f"the shape {shape_text(given)} does not fit input {quoted(name)} of {shape_text(dims or ())}",
            code="bad-shape",
            hint=f"the inputs are {listing}",
        )


def _resolve(name: str, dims: tuple[Dim, ...] | None, symbols: Mapping[str, int]) -> tuple[int, ...]:
    if dims is None:
        raise ModelError(
            f"input {quoted(name)} has no shape",
            code="dynamic-shape",
            hint=f"give it with --shape {name}=1x...",
        )
    shape: list[int] = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            shape.append(dim)
        elif dim is not None and dim in symbols:
            shape.append(symbols[dim])
        elif axis == 0 and len(dims) >= 2:
            shape.append(1)
        else:
            example = shape_text(d if isinstance(d, int) else "N" for d in dims)
            raise ModelError(
                f"input {quoted(name)} has the dynamic shape {shape_text(dims)}",
                code="dynamic-shape",
                hint=f"give it with --shape {name}={example}, each N a number",
            )
    return tuple(shape)


def _sized(value: ValueInfoProto, shape: tuple[int, ...], limits: Limits) -> TensorType:
    code = value.type.tensor_type.elem_type
    kind = TensorType(code, shape)
    if kind.elements * ITEM_BYTES[code] > limits.tensor_bytes:
        raise ModelError(f"input {quoted(value.name)} has {kind.nbytes} bytes", code="too-large")
    return kind


def _listing(stated: Mapping[str, tuple[Dim, ...] | None]) -> str:
    parts = [f"{name} ({'unknown' if dims is None else shape_text(dims)})" for name, dims in stated.items()]
    return ", ".join(parts[:8]) + (", ..." if len(parts) > 8 else "")
