"""OR-Tools, imported when a solver runs.

Release 9.14.6206 is the one to use. Release 9.15 returned the status OPTIMAL with wrong values on about 3 % of small
scheduling models of the kind solved here, so it is refused. A proof is accepted only if two settings of the solver
agree and the value lies between a bound computed without the solver and a schedule that was replayed.
"""

from __future__ import annotations

from functools import cache
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


@cache
def cp_sat() -> Any:
    """The module of the CP-SAT solver."""
    check_solver()
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise OptionError(
            f"OR-Tools does not load: {error}", code="no-solver", hint=f"run {_INSTALL}"
        ) from None
    return cp_model


@cache
def math_opt() -> Any:
    """The module of the linear and mixed-integer solvers (HiGHS)."""
    check_solver()
    try:
        from ortools.math_opt.python import mathopt
    except ImportError as error:
        raise OptionError(
            f"OR-Tools does not load: {error}", code="no-solver", hint=f"run {_INSTALL}"
        ) from None
    return mathopt
