"""What every test needs, whatever the machine, the folder of the clone and the tests that ran before.

Property tests draw the same examples in every run; set HYPOTHESIS_PROFILE=explore to look for new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.conjecture.providers import Constants

# A machine that is busy is slow at drawing, too.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "repeatable")
settings.load_profile(PROFILE)
if PROFILE == "repeatable":
    # Hypothesis also draws the constants of the modules that are loaded, which differ with the tests that ran before.
    providers._get_local_constants = Constants

# No answers of the exact solver from, or to, other runs; output for no terminal, 80 columns wide; no other `make`.
os.environ["H4HC_CACHE_DIR"] = ""
for name in (
    "COLUMNS",
    "LINES",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "MAKEFLAGS",
    "MAKELEVEL",
):
    os.environ.pop(name, None)
