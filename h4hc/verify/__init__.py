"""The independent checker: reads a bundle and the model, shares no code with the compiler.

`verify_bundle` runs every check; docs/verification.md lists them by code.
"""

from __future__ import annotations

from h4hc.verify.check import verify_bundle
from h4hc.verify.report import Check, Report

__all__ = ["Check", "Report", "verify_bundle"]
