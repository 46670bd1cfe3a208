"""What the checker says: one `Check` per invariant, gathered in a `Report`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from h4hc.errors import one_line

SHOWN_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one invariant.

    `code` is stable (documented in docs/verification.md). `passed` is None for a check that was
    not run; `detail` then says why. `count` is the number of facts that were looked at.
    """

    code: str
    name: str
    passed: bool | None
    detail: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one bundle, in the order in which they ran."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that found a problem."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def skipped(self) -> tuple[Check, ...]:
        """The checks that were not run."""
        return tuple(check for check in self.checks if check.passed is None)

    @property
    def passed(self) -> bool:
        """No check failed (skipped checks do not count)."""
        return not self.failed

    @property
    def exit_code(self) -> int:
        """What `h4hc verify` exits with: 1 if any check failed."""
        return 0 if self.passed else 1

    @property
    def verdict(self) -> str:
        """One line for people."""
        facts = sum(check.count for check in self.checks)
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        if self.passed:
            return f"verified: {len(self.checks) - len(self.skipped)} checks passed{skipped} ({facts} facts)"
        codes = ", ".join(check.code for check in self.failed)
        return f"NOT verified: {len(self.failed)} of {len(self.checks)} checks failed ({codes}){skipped}"

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        checks = [
            {"code": c.code, "name": c.name, "passed": c.passed, "detail": c.detail, "count": c.count}
            for c in self.checks
        ]
        return {"passed": self.passed, "verdict": self.verdict, "checks": checks}


@dataclass(slots=True)
class Tally:
    """Counts the facts that one check looks at and keeps the problems that it finds."""

    count: int = 0
    problems: list[str] = field(default_factory=list)
    skipped: str = ""

    def expect(self, holds: bool, problem: str) -> bool:
        """Count one fact; keep `problem` unless it `holds`."""
        self.count += 1
        if not holds:
            self.problems.append(problem)
        return holds

    def check(self, code: str, name: str) -> Check:
        """Close the tally."""
        if self.problems:
            shown = "; ".join(self.problems[:SHOWN_PROBLEMS])
            more = len(self.problems) - SHOWN_PROBLEMS
            detail = f"{shown}; and {more} more" if more > 0 else shown
            return Check(code, name, False, one_line(detail), self.count)
        return Check(code, name, None if self.skipped else True, one_line(self.skipped), self.count)
