"""Energy and power at another supply voltage and clock than those that numbers were published at.

Switching a gate charges a capacitance: E = C V^2. So every dynamic energy of a device (MACs, its buffers and
registers, its output unit, cycles of a core) scales with (V / V0)^2, whatever the clock. `static_power` is what a
device draws while it is on, which is mostly its clock tree and idle switching: P = f C V^2, so it scales with
(f / f0) (V / V0)^2. `leakage_power`, where it is given apart, does not depend on the clock and scales
with V / V0: the supply times a current that is taken as constant, which underestimates what a lower voltage
saves (drain-induced barrier lowering reduces the current, too). Threshold and delay are not modelled: whether
a device runs at a clock at that voltage is for who gives both to know. Memories outside the device have their own
supply, and their energy per byte stays as it is.

Check: GAP9 in 22 nm, MLPerf Tiny v1.0, measured at 0.65 V and 240 MHz: 20.5 mW and 0.70 pJ per MAC; at 0.80 V
and 370 MHz: 44.3 mW and 1.10 pJ. Scaling the first gives 1.06 pJ (-4 %) and 47.9 mW (+8 %).
"""

from __future__ import annotations

from math import sqrt
from typing import Any

from pydantic import model_validator

from h4hc.ir.quantity import Hertz, Volts, Watts, parse_quantity
from h4hc.ir.target import Described, Device, split_sources


class OperatingPoint(Described):
    """Optional parameters of every device: the supply it runs at and the one its numbers are for.

    `nominal_voltage` is that of the energies and of `static_power`; without `voltage` the device runs there.
    `nominal_clock` is the clock of `static_power` (see `power_clock` if it is absent). `leakage_power`
    is power that no clock causes, not part of `static_power`.
    """

    voltage: Volts | None = None
    nominal_voltage: Volts | None = None
    nominal_clock: Hertz | None = None
    leakage_power: Watts = 0.0

    @model_validator(mode="after")
    def _comparable(self) -> OperatingPoint:
        if self.voltage is not None and self.nominal_voltage is None:
            raise ValueError("voltage: needs nominal_voltage, the supply that the energies were given for")
        return self

    @property
    def energy_scale(self) -> float:
        """What the device's own dynamic energies are multiplied with."""
        return energy_factor(self.voltage, self.nominal_voltage)


def energy_factor(voltage: float | None, nominal: float | None) -> float:
    """Dynamic energy at `voltage` relative to that at `nominal`: V^2. 1 if either is not given."""
    return 1.0 if voltage is None or nominal is None else (voltage / nominal) ** 2


def static_watts(point: OperatingPoint, power: float, clock: float, given_at: float) -> float:
    """Static power in watts at `clock` (hertz) if `power` is that at the clock `given_at` and the nominal supply."""
    factor = point.energy_scale
    return power * clock / given_at * factor + point.leakage_power * sqrt(factor)


def power_clock(device: Device, point: OperatingPoint, clock: float) -> float:
    """The clock in hertz that the static power of `device` was given at.

    `nominal_clock` if there is one; the preset's clock if the power is the preset's; else the device's own.
    """
    if point.nominal_clock is not None:
        return point.nominal_clock
    own, _ = split_sources(device.parameters)
    if device.preset is None or "static_power" in own or "clock" not in own:
        return clock
    return _preset_clock(device.preset) or clock


def _preset_clock(name: str) -> float | None:
    from h4hc.backends.files import load_preset

    values: dict[str, Any] = split_sources(load_preset(name).parameters)[0]
    return parse_quantity(values["clock"], "frequency") if "clock" in values else None
