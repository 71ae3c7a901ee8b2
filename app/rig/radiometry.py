"""From raw thermal counts to degrees, where the camera's scale is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from app.configuration.config import AppConfig

__all__ = ["SCALES", "Radiometry", "default_scale", "is_scale", "scale_of"]

_OWN = "kelvin:"


@dataclass(frozen=True, slots=True)
class Radiometry:
    """A linear scale: degrees Celsius = counts * kelvin_per_count + celsius_at_zero."""

    kelvin_per_count: float
    celsius_at_zero: float

    def celsius(self, counts: float) -> float:
        """Temperature of a count, as the camera reckons it."""
        return counts * self.kelvin_per_count + self.celsius_at_zero

    def counts(self, celsius: float) -> int:
        """The count nearest to a temperature, 0..65535."""
        return min(65535, max(0, round((celsius - self.celsius_at_zero) / self.kelvin_per_count)))


SCALES: Mapping[str, Radiometry | None] = MappingProxyType(
    {
        "relative": None,  # counts say which is hotter, not how hot
        "tlinear-0.01": Radiometry(0.01, -273.15),  # TLinear, high resolution: hundredths of a kelvin
        "tlinear-0.1": Radiometry(0.1, -273.15),  # TLinear, low resolution
        "kelvin-64": Radiometry(1.0 / 64.0, -273.15),  # 64ths of a kelvin: double-height USB cameras
        "kelvin-16": Radiometry(1.0 / 16.0, -273.15),
        "simulated": Radiometry(1.0 / 40.0, 20.0 - 24000.0 / 40.0),  # the simulated rig's own scale
    }
)


def is_scale(name: str) -> bool:
    """Whether `scale_of` knows it."""
    try:
        return name in SCALES or (name.startswith(_OWN) and float(name.removeprefix(_OWN)) > 0)
    except ValueError:
        return False


def scale_of(name: str) -> Radiometry | None:
    """The scale of that name, of SCALES or `kelvin:0.02` (kelvin a count); None where counts are no temperatures."""
    if name.startswith(_OWN) and is_scale(name):
        return Radiometry(float(name.removeprefix(_OWN)), -273.15)
    return SCALES.get(name)


def default_scale(config: AppConfig) -> str:
    """The scale to begin with: the thermal camera's `kelvin_per_count`; the simulated rig's own; else relative."""
    own = config.thermal.kelvin_per_count
    if own is not None:
        known = (name for name, scale in SCALES.items() if scale == Radiometry(own, -273.15))
        return next(known, f"{_OWN}{own:g}")
    gain = config.simulation.thermal_gain
    return "simulated" if config.thermal.uri.startswith("sim:") and gain == 40.0 else "relative"
