"""Calibrations as files: JSON, the same for the same profile and device."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from h4hc.backends.profiles.calibration import Calibration, ClassFit, NetworkFit
from h4hc.backends.profiles.overlap import Factors, Shape
from h4hc.backends.profiles.sums import Increment, Power
from h4hc.errors import ProfileError

KEY = "h4hc_calibration"
VERSION = "1.0"
__all__ = ["Calibration", "ClassFit", "Factors", "Increment", "NetworkFit", "Power", "Shape"]


def is_calibration(data: bytes) -> bool:
    """Whether a file holds a calibration rather than a profile."""
    return data.lstrip()[:1] == b"{"


def calibration_text(calibration: Calibration) -> str:
    """The calibration as it stands in a file."""
    document = {KEY: VERSION, **TypeAdapter(Calibration).dump_python(calibration, mode="json")}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def parse_calibration(data: bytes, name: str) -> Calibration:
    """The calibration in `data`; `name` stands in messages. Raises ProfileError."""
    try:
        document: Any = json.loads(data, parse_float=_number, parse_int=_integer, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{name}: is not valid JSON: {error}", code="bad-calibration") from None
    version = str(document.pop(KEY, "")) if isinstance(document, dict) else ""
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ProfileError(
            f"{name}: is no calibration that this h4hc reads",
            code="bad-calibration",
            hint=f"write it with h4hc profile calibrate ({KEY} {VERSION})",
        )
    try:
        return TypeAdapter(Calibration).validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"{name}: {place}: {first['msg']}", code="bad-calibration") from None


def _number(text: str) -> float:
    """A number of zero or more that is neither infinite nor absent."""
    value = float(text)
    if not 0 <= value < 1e30:
        raise ValueError(f"{text[:40]} is not a number of zero or more")
    return value


def _integer(text: str) -> int:
    return int(_number(text))
