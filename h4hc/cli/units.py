"""Quantities as people read them: three digits and a prefix."""

from __future__ import annotations

from math import floor, log10

_PREFIXES = {-4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P"}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_LEAST_SHARE = 0.0005  # a change below it reads 0.0%


def si(value: float, unit: str) -> str:
    """`value` with three digits and an SI prefix: 0.00123, "s" -> "1.23 ms"."""
    if not value:
        return f"0 {unit}".rstrip()
    exponent = floor(log10(abs(value)) / 3)
    if abs(float(f"{value / 1000.0**exponent:.3g}")) >= 1000:
        exponent += 1
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    scaled = value / 1000.0**exponent
    digits = 0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2
    return f"{scaled:.{digits}f} {_PREFIXES[exponent]}{unit}".rstrip()


def size(count: int) -> str:
    """Bytes with a binary prefix: 1536 -> "1.50 KiB"."""
    scaled, index = float(count), 0
    while scaled >= 1024 and index < len(_BINARY) - 1:
        scaled /= 1024
        index += 1
    digits = 0 if index == 0 or scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {_BINARY[index]}"


def times(ratio: float | None) -> str:
    """A ratio: 1.336 -> "1.34x"; nothing for None."""
    return "" if ratio is None else f"{ratio:.2f}x"


def percent(share: float) -> str:
    """A share in four columns, so that those of several rows stand below each other: 0.07 -> "  7%"."""
    return f"{share:>4.0%}"


def savings(shares: dict[str, float]) -> str:
    """What is saved, as shares of what it would be otherwise: "0.7% less energy"; what does not change is left out."""
    return ", ".join(
        f"{abs(share):.1%} {'less' if share > 0 else 'more'} {what}"
        for what, share in shares.items()
        if abs(share) >= _LEAST_SHARE
    )
