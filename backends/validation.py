"""What each preset was compared with: ``fidelity.json``, written by ``benchmarks/fidelity.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from h4hc.backends.files import FOLDER

PATH = FOLDER / "fidelity.json"


class Validation(NamedTuple):
    """Relative errors of a preset on `layers` operators of one class against `reference`.

    `error` is the mean of their sizes, `bias` the signed mean: positive where the model finds more.
    """

    reference: str
    layers: int
    error: float
    bias: float

    def __str__(self) -> str:
        many = f"{self.layers} layer{'s'[: self.layers != 1]}"
        return f"{self.reference}: mean error {self.error:.1%} on {many}, bias {self.bias:+.1%}"


@lru_cache(maxsize=4)
def validations(path: Path = PATH) -> Mapping[str, Mapping[str, Validation]]:
    """By preset and class of kernel (see `h4hc.ir.workload.CLASSES`); empty if nothing was compared yet."""
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {
        preset: {
            kind: Validation(entry["reference"], entry["layers"], entry["error"], entry["bias"])
            for kind, entry in classes.items()
        }
        for preset, classes in data.items()
    }


def validation(preset: str | None, kind: str, path: Path = PATH) -> Validation | None:
    """What was compared for kernels of class `kind`; None if they never were."""
    return validations(path).get(preset or "", {}).get(kind)
