"""A cost model that prefers measurements: measured, interpolated, calibrated, and only then analytical."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from h4hc.backends.base import Backend, Peak
from h4hc.backends.profiles.book import Book, Entry, Key, at_mode, scaled
from h4hc.backends.profiles.calibration import Calibration
from h4hc.ir.cost import Cost, Refusal
from h4hc.ir.workload import Kernel, Move, kernel_class

LEVELS = ("measured", "interpolated", "calibrated", "analytical")


class Profiled(Backend):
    """A device whose costs come from its book of measurements where they can.

    Ratios of measured to analytical time are taken at the clock of the measurement and applied at the clock of
    the device; so compute scales with the clock and memory does not. The calibration is fitted when a kernel
    first needs it, if it is not given.
    """

    def __init__(
        self, base: Backend, book: Book, calibration: Calibration | Callable[[], Calibration]
    ) -> None:
        vars(self).update(vars(base))  # power, capacity and whatever else the device's own model exposes
        self.base = base
        self.book = book
        self._calibration = calibration
        self._peak = base.peak().macs_per_second

    @property
    def calibration(self) -> Calibration:
        """The fit of the analytical model to the book."""
        if not isinstance(self._calibration, Calibration):
            self._calibration = self._calibration()
        return self._calibration

    def peak(self) -> Peak:
        """The peak of the device as described."""
        return self.base.peak()

    def channel_granule(self, kernel: Kernel) -> int:
        """As the device's own model has it."""
        return self.base.channel_granule(kernel)

    def costs(self, kernel: Kernel) -> tuple[Cost, ...] | Refusal:
        """The cost in each mode, each from the best source there is."""
        found = self.base.costs(kernel)
        if isinstance(kernel.workload, Move) and kernel.workload.kind == "view":
            return found
        if isinstance(found, Refusal):
            return self._measured_only(kernel, found)
        status = self.book.refused.get(at_mode(kernel, "").kernel) if self.book.refused else None
        if status is not None:
            return Refusal(f"its profile says {status}")
        return tuple(self._best(kernel, cost) for cost in found)

    def _best(self, kernel: Kernel, cost: Cost) -> Cost:
        key = at_mode(kernel, cost.mode)
        entry = self.book.entries.get(key)
        if entry is not None:
            return self._measured(entry, cost)
        if cost.seconds <= 0:
            return cost
        return self._interpolated(kernel, key, cost) or self._calibrated(kernel, cost) or cost

    def _measured(self, entry: Entry, cost: Cost) -> Cost:
        seconds = entry.seconds
        joules = entry.joules
        if entry.model is not self.base and entry.analytical is not None:
            at_own = _mode(self.base.costs(entry.key.kernel._replace(entropy=entry.entropy)), cost.mode)
            if at_own is not None:
                seconds *= at_own.seconds / entry.analytical.seconds
                if joules is not None and entry.analytical.joules > 0:
                    joules *= at_own.joules / entry.analytical.joules
        return scaled(
            cost, seconds, cost.joules if joules is None else joules, f"measured ({entry.file})", entry.spread
        )

    def _least(self, kernel: Kernel) -> float:
        """Seconds at the peak: no estimate may be faster. Narrower operands than 8 bits have another peak."""
        return kernel.workload.macs / self._peak if min(kernel.precision) >= 8 else 0.0

    def _interpolated(self, kernel: Kernel, key: Key, cost: Cost) -> Cost | None:
        guess = self.book.guess(key)
        if guess is None:
            return None
        known = self.calibration.classes.get(kernel_class(key.kernel))
        return scaled(
            cost,
            max(cost.seconds * guess.seconds, self._least(kernel)),
            cost.joules * (guess.joules or 1.0),
            f"interpolated ({self._files()})",
            known.interpolated if known else None,
        )

    def _calibrated(self, kernel: Kernel, cost: Cost) -> Cost | None:
        name = kernel_class(kernel)
        if not self.calibration.covers(name, cost):
            return None
        known = self.calibration.classes.get(name)
        return scaled(
            cost,
            max(self.calibration.seconds(name, cost), self._least(kernel)),
            self.calibration.joules(name, cost),
            f"calibrated ({self.calibration.label})",
            known.calibrated if known else None,
        )

    def _files(self) -> str:
        return ", ".join(dict.fromkeys(entry.file for entry in self.book.entries.values()))

    def _measured_only(self, kernel: Kernel, refusal: Refusal) -> tuple[Cost, ...] | Refusal:
        """What was measured although the model refuses it, if its energy was measured too."""
        key = at_mode(kernel, "")
        entry = self.book.entries.get(key)
        if entry is None or entry.model is not self.base:
            return refusal
        if entry.joules is None:
            return replace(refusal, reason=f"{refusal.reason} (measured, but its energy was not)")
        return (
            Cost(
                entry.seconds,
                entry.joules,
                min(1.0, kernel.workload.macs / (self.peak().macs_per_second * entry.seconds)),
                source=f"measured ({entry.file})",
                compute_seconds=entry.seconds,
                uncertainty=entry.spread,
                energy={"measured": entry.joules},
            ),
        )


def _mode(found: tuple[Cost, ...] | Refusal, mode: str) -> Cost | None:
    if isinstance(found, Refusal):
        return None
    return next((cost for cost in found if cost.mode == mode and cost.seconds > 0), None)
