"""Limits that the command line sets: energy budgets, smaller memories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h4hc.errors import OptionError

if TYPE_CHECKING:
    from h4hc.ir.target import Target

_JOULES = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6, "nJ": 1e-9}


def parse_energy(text: str) -> float:
    """Joules of a text such as ``200uJ``; raises OptionError."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzµJ")
    try:
        joules = float(number) * _JOULES[text.strip()[len(number) :].strip()]
    except (ValueError, KeyError):
        joules = -1.0
    if not 0 < joules < 1e6:
        raise OptionError(
            f"{text[:60]!r} is no energy", code="option", hint="write a number and a unit, for example 200uJ"
        )
    return joules


def limited(target: Target, limits: tuple[str, ...]) -> Target:
    """`target` with memories of the sizes in `limits`, texts such as ``sram=512KiB``; raises OptionError."""
    if not limits:
        return target
    from pydantic_core import PydanticCustomError

    from h4hc.ir.quantity import parse_quantity

    sizes: dict[str, int] = {}
    names = [memory.name for memory in target.memories]
    for text in limits:
        name, _, size = text.partition("=")
        if name not in names:
            raise OptionError(
                f"{text[:60]!r}: the target has no memory {name[:60]!r}",
                code="option",
                hint=f"write NAME=SIZE, for example {names[0]}=512KiB; it has {', '.join(names)}",
            )
        try:
            sizes[name] = int(parse_quantity(size, "bytes"))
        except PydanticCustomError as error:
            raise OptionError(f"{text[:60]!r}: {error}", code="option") from None
        if sizes[name] < 1:
            raise OptionError(f"{text[:60]!r}: a memory holds a byte at least", code="option")
    memories = tuple(
        memory.model_copy(update={"bytes": sizes.get(memory.name, memory.bytes)})
        for memory in target.memories
    )
    return target.model_copy(update={"memories": memories})
