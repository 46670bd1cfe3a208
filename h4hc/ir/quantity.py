"""Physical quantities as people write them (``4 GB/s``, ``5.9 pJ/B``), parsed to SI floats.

A quantity is a number and a unit. A number without a unit is refused: which of two units was
meant cannot be guessed. Decimal prefixes are powers of ten (``MB`` is 10^6 bytes), ``KiB``,
``MiB`` and ``GiB`` powers of two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

Unit = tuple[str, float]  # name and factor to SI

_PREFIXES = {"f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
_SPLIT = re.compile(rf"({_NUMBER}) ?([^\s0-9][^\s]*)")


def _scaled(unit: str, prefixes: str) -> dict[str, Decimal]:
    """`unit` under each prefix of the space-separated list (``-`` stands for no prefix)."""
    names = [p.replace("-", "") for p in prefixes.split()]
    return {f"{p}{unit}": Decimal(10) ** _PREFIXES[p] for p in names}


def _binary(unit: str) -> dict[str, Decimal]:
    return {f"{p}{unit}": Decimal(2) ** power for p, power in _BINARY.items()}


_ENERGY_PREFIXES = "f p n u"
UNITS: Mapping[str, Mapping[str, Decimal]] = {
    "bytes": _scaled("B", "- k M G") | _binary("B"),
    "bits": _scaled("bit", "- k M G") | _binary("bit"),
    "time": _scaled("s", "p n u µ m -"),
    "frequency": _scaled("Hz", "- k M G"),
    "bandwidth": _scaled("B/s", "- k M G T") | _binary("B/s"),
    "power": _scaled("W", "n u µ m -"),
    "voltage": _scaled("V", "m -"),
    "energy": _scaled("J", "p n u µ m -"),
    "energy per byte": _scaled("J/B", _ENERGY_PREFIXES),
    "energy per bit": _scaled("J/bit", _ENERGY_PREFIXES),
    "energy per MAC": _scaled("J/MAC", _ENERGY_PREFIXES),
    "energy per cycle": _scaled("J/cycle", _ENERGY_PREFIXES),
    "energy per element": _scaled("J/element", _ENERGY_PREFIXES),
}
# Least (zero aside) and greatest SI value of each dimension that makes a system; beyond, sums of times in
# nanoseconds and of energies in picojoules would not fit 64 bits.
_RANGES: Mapping[str, tuple[float, float]] = {
    "bytes": (1.0, 2.0**50),
    "bits": (1.0, 2.0**53),
    "time": (1e-15, 1e3),
    "frequency": (1e3, 1e12),
    "bandwidth": (1e3, 1e18),
    "power": (1e-12, 1e6),
    "energy": (1e-12, 1e6),
    "voltage": (0.3, 1.5),  # below, transistors hardly switch; above, thin-oxide gates break down
}
_ENERGY_RANGE = (1e-21, 1e-6)


def sensible_range(dimension: str) -> tuple[float, float]:
    """The least and the greatest SI value, other than zero, that a quantity of `dimension` may have."""
    return _RANGES.get(dimension, _ENERGY_RANGE)


def parse_quantity(value: object, dimension: str) -> float:
    """The SI value of `value`, a text such as ``4 GB/s``, in the given dimension of `UNITS`.

    Raises `PydanticCustomError` with the accepted units if it is anything else, or far out of range.
    """
    units = UNITS[dimension]
    match = _SPLIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise PydanticCustomError(
            "quantity",
            "{value} is no {dimension}; write a number and one of the units {units}",
            {"value": repr(value), "dimension": dimension, "units": ", ".join(units)},
        )
    result = float(Decimal(match[1]) * units[match[2]])
    least, greatest = sensible_range(dimension)
    if result and not least <= result <= greatest:
        raise PydanticCustomError(
            "quantity",
            "{value} is no sensible {dimension}",
            {
                "value": repr(match[0] if len(match[0]) <= 40 else f"{match[0][:37]}..."),
                "dimension": dimension,
            },
        )
    return result


def format_quantity(value: float, dimension: str) -> str:
    """`value` (SI) in the largest unit that keeps it at 1 or above; bytes in binary units where exact."""
    plain, binary = _units(dimension)
    exact = [unit for unit in binary if value >= unit[1] and value % unit[1] == 0]
    fitting = (unit for unit in plain if unit[1] <= value * (1 + 1e-9))
    name, factor = exact[-1] if exact else next(fitting, plain[-1])
    return f"{value / factor:.6g} {name}"


@cache
def _units(dimension: str) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """The decimal units to write a quantity in, largest first, and the binary ones, smallest first."""
    units = [(name, float(factor)) for name, factor in UNITS[dimension].items() if "µ" not in name]
    plain = sorted((unit for unit in units if unit[0][1:2] != "i"), key=lambda unit: -unit[1])
    stored = dimension in ("bytes", "bits")
    return tuple(plain), tuple(unit for unit in units if stored and unit[0][1:2] == "i")


def _quantity(dimension: str, *, zero: bool) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        parsed = parse_quantity(value, dimension)
        if parsed == 0 and not zero:
            raise PydanticCustomError("quantity", "{value} must be greater than zero", {"value": repr(value)})
        return parsed

    return parse


def _schema(dimension: str) -> WithJsonSchema:
    units = "|".join(re.escape(u) for u in UNITS[dimension])
    return WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^\s*{_NUMBER} ?(?:{units})\s*$",
            "description": f"{dimension}: a number and a unit, one of {', '.join(UNITS[dimension])}",
        }
    )


def _whole_bytes(value: Any) -> int:
    parsed = _quantity("bytes", zero=False)(value)
    if parsed != int(parsed):
        raise PydanticCustomError(
            "quantity", "{value} is not a whole number of bytes", {"value": repr(value)}
        )
    return int(parsed)


# Field types of target and preset files. The `...OrZero` kinds allow zero.
Bytes = Annotated[int, BeforeValidator(_whole_bytes), _schema("bytes")]
Seconds = Annotated[float, BeforeValidator(_quantity("time", zero=False)), _schema("time")]
SecondsOrZero = Annotated[float, BeforeValidator(_quantity("time", zero=True)), _schema("time")]
Hertz = Annotated[float, BeforeValidator(_quantity("frequency", zero=False)), _schema("frequency")]
BytesPerSecond = Annotated[float, BeforeValidator(_quantity("bandwidth", zero=False)), _schema("bandwidth")]
Watts = Annotated[float, BeforeValidator(_quantity("power", zero=True)), _schema("power")]
Volts = Annotated[float, BeforeValidator(_quantity("voltage", zero=False)), _schema("voltage")]
JoulesPerByte = Annotated[
    float, BeforeValidator(_quantity("energy per byte", zero=True)), _schema("energy per byte")
]
JoulesPerBit = Annotated[
    float, BeforeValidator(_quantity("energy per bit", zero=True)), _schema("energy per bit")
]
JoulesPerMac = Annotated[
    float, BeforeValidator(_quantity("energy per MAC", zero=False)), _schema("energy per MAC")
]
JoulesPerCycle = Annotated[
    float, BeforeValidator(_quantity("energy per cycle", zero=False)), _schema("energy per cycle")
]
JoulesPerElement = Annotated[
    float, BeforeValidator(_quantity("energy per element", zero=True)), _schema("energy per element")
]
