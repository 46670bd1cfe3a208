"""The inner loops of scheduling: compiled where a C compiler was at hand, else in Python; same results."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from h4hc.passes.core.fetching import Line
    from h4hc.passes.core.looping import Loop
    from h4hc.passes.core.packing import pack, pack_within, peak_bytes
    from h4hc.passes.core.reference import Problem
    from h4hc.passes.core.reuse import reuse_waits

    COMPILED = True
else:
    try:
        if os.environ.get("H4HC_PURE_PYTHON"):
            raise ImportError("asked for the Python version")
        from h4hc.passes.core._native import (
            Line,
            Loop,
            Problem,
            pack,
            pack_within,
            peak_bytes,
            reuse_waits,
        )

        COMPILED = True
    except ImportError:
        from h4hc.passes.core.fetching import Line
        from h4hc.passes.core.looping import Loop
        from h4hc.passes.core.packing import pack, pack_within, peak_bytes
        from h4hc.passes.core.reference import Problem
        from h4hc.passes.core.reuse import reuse_waits

        COMPILED = False

__all__ = [
    "COMPILED",
    "Line",
    "Loop",
    "Problem",
    "pack",
    "pack_within",
    "peak_bytes",
    "reuse_waits",
]
