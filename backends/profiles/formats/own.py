"""The documented format of h4hc itself."""

from __future__ import annotations

from dataclasses import replace

from h4hc.backends.profiles.formats import Said
from h4hc.backends.profiles.reader import parse_profile
from h4hc.backends.profiles.table import Profile


def read(data: bytes, name: str, said: Said) -> Profile:
    """The profile in `data`; what the user says of device, compiler and date replaces what it says."""
    profile = parse_profile(data, name)
    return replace(
        profile,
        device=said.device or profile.device,
        compiler=said.compiler or profile.compiler,
        date=said.date or profile.date,
    )
