"""OR-Tools, imported when a solver runs.

Release 9.14.6206 is the one to use. Release 9.15 returned the status OPTIMAL with wrong values on about 3 % of small
scheduling models of the kind solved here, so it is refused. A proof is accepted only if two settings of the solver
agree and the value lies between a bound computed without the solver and a schedule that was replayed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from h4hc.errors import OptionError

RELEASE = "9.14.6206"
_INSTALL = f"pip install 'h4hc[exact]' or pip install ortools=={RELEASE}"


def check_solver() -> None:
    """Raise OptionError if OR-Tools is missing or of a release whose proofs are wrong."""
    try:
        found = version("ortools")
    except PackageNotFoundError:
        raise OptionError("exact effort needs OR-Tools", code="no-solver", hint=f"run {_INSTALL}") from None
    if found.split(".")[:2] == ["9", "15"]:
        raise OptionError(
            f"OR-Tools {found} returns wrong proofs of optimality",
            code="solver-release",
            hint=f"run {_INSTALL}",
        )


def cp_sat() -> Any:
    """The module of the CP-SAT solver."""
    return _module("ortools.sat.python.cp_model")


def math_opt() -> Any:
    """The module of the linear and mixed-integer solvers (HiGHS)."""
    return _module("ortools.math_opt.python.mathopt")


@cache
def _module(name: str) -> Any:
    check_solver()
    try:
        return import_module(name)
    except ImportError as error:
        raise OptionError(
            f"OR-Tools does not load: {error}", code="no-solver", hint=f"run {_INSTALL}"
        ) from None
