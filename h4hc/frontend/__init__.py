"""ONNX in: load a model safely and bring it into the form that the compiler works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from onnx import ModelProto

from h4hc.frontend.external import load_external_data
from h4hc.frontend.limits import DEFAULT_LIMITS, Limits
from h4hc.frontend.normal import is_normal
from h4hc.frontend.normalise import normalise_in_place
from h4hc.frontend.read import read_model
from h4hc.ir.compilation import Source

__all__ = ["Limits", "Loaded", "load_model", "normalise"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model from a file: where it came from, and its normalised form."""

    source: Source
    model: ModelProto


def load_model(
    path: str | PathLike[str],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Loaded:
    """Read, check and normalise the ONNX model in the file `path`.

    `shapes` gives the shapes of inputs with dynamic dimensions. Raises `ModelError` if the file
    holds no model that can be compiled, `OptionError` if `shapes` does not fit the model.
    """
    file = Path(path)
    source, model = read_model(file, limits)
    load_external_data(model, file.parent, limits)
    normalise_in_place(model, shapes or {}, limits)
    return Loaded(source, model)


def normalise(
    model: ModelProto,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    name: str = "model",
    *,
    weightless: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> ModelProto:
    """The normalised form of a model in memory, which is not changed.

    `weightless` accepts initializers without data; such a model that is normal already is
    returned as it is. `name` is given to a graph without one.
    """
    if weightless and not shapes and is_normal(model):
        return model
    result = ModelProto()
    result.CopyFrom(model)
    result.graph.name = result.graph.name or name
    normalise_in_place(result, shapes or {}, limits, weightless=weightless)
    return result
