"""From raw thermal counts to degrees, where the camera's scale is known, also of surfaces that are no black body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from app.configuration.config import AppConfig

__all__ = [
    "SCALES",
    "Radiometry",
    "Surface",
    "default_scale",
    "is_scale",
    "object_celsius",
    "recorded_scale",
    "scale_of",
]

_OWN = "kelvin:"

_BAND_UM = (7.5, 13.5)  # of uncooled cameras
_C2_UM_K = 14387.77  # second radiation constant
_KELVIN = 273.15
_LEAST_KELVIN, _MOST_KELVIN = 1e-6, 10.0  # a count, that a recording of others may tell
_COLDEST_C, _HOTTEST_C = -150.0, 2000.0  # of the table


@dataclass(frozen=True, slots=True)
class Surface:
    """What is looked at: emissivity, above 0 to 1, and the temperature of what it reflects, degrees Celsius."""

    emissivity: float = 1.0
    reflected_c: float = 20.0


@dataclass(frozen=True, slots=True)
class Radiometry:
    """A linear scale: degrees Celsius = counts * kelvin_per_count + celsius_at_zero, for a black body."""

    kelvin_per_count: float
    celsius_at_zero: float

    def celsius(self, counts: float) -> float:
        """Temperature of a count, as the camera reckons it."""
        return counts * self.kelvin_per_count + self.celsius_at_zero

    def counts(self, celsius: float) -> int:
        """The count nearest to a temperature, 0..65535."""
        return min(65535, max(0, round((celsius - self.celsius_at_zero) / self.kelvin_per_count)))

    def of_surface(self, counts: npt.NDArray[np.float64], surface: Surface) -> npt.NDArray[np.float64]:
        """Temperature of a surface, degrees Celsius, any shape; see `object_celsius`."""
        return object_celsius(counts * self.kelvin_per_count + self.celsius_at_zero, surface)


def object_celsius(apparent_c: npt.NDArray[np.float64], surface: Surface) -> npt.NDArray[np.float64]:
    """Temperature of a surface that looks like a black body of `apparent_c`, degrees Celsius, any shape.

    The camera sees emissivity * L(object) + (1 - emissivity) * L(reflected), L = the radiance of a black body in the
    band of 7.5 to 13.5 um. The air between is left out: up to some 10 m it is worth less than 1 K. Where the reflected
    part alone would be more than what is seen, the answer is the coldest of the table, -150.
    """
    if surface.emissivity >= 1.0:
        return apparent_c
    degrees, radiance = _table()
    seen = np.interp(apparent_c, degrees, radiance)
    reflected = float(np.interp(surface.reflected_c, degrees, radiance))
    own = (seen - (1.0 - surface.emissivity) * reflected) / surface.emissivity
    return np.asarray(np.interp(own, radiance, degrees), np.float64)


@lru_cache(maxsize=1)
def _table() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Degrees Celsius and the radiance of a black body in the band, by Planck's law; its unit cancels out."""
    degrees = np.concatenate([np.arange(_COLDEST_C, 200.0, 0.25), np.arange(200.0, _HOTTEST_C + 1, 2.0)])
    wavelengths = np.linspace(*_BAND_UM, 121)[None, :]
    planck = wavelengths**-5.0 / np.expm1(_C2_UM_K / (wavelengths * (degrees[:, None] + _KELVIN)))
    return degrees, np.asarray(np.trapezoid(planck, wavelengths, axis=1))


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
    return _begin_with(config.thermal.kelvin_per_count, config.thermal.uri, config.simulation.thermal_gain)


def recorded_scale(config: Mapping[str, Any]) -> str:
    """The same for a recording, by the configuration in its header, which may be of another version."""
    thermal, simulation = (config.get(name) for name in ("thermal", "simulation"))
    uri, own = (thermal.get(key) if isinstance(thermal, Mapping) else None for key in ("uri", "kelvin_per_count"))
    gain = simulation.get("thermal_gain") if isinstance(simulation, Mapping) else None
    kelvin = float(own) if isinstance(own, int | float) and _LEAST_KELVIN <= own <= _MOST_KELVIN else None
    return _begin_with(kelvin, str(uri or ""), 40.0 if gain == 40.0 else 0.0)


def _begin_with(own: float | None, uri: str, gain: float) -> str:
    if own is not None:
        known = (name for name, scale in SCALES.items() if scale == Radiometry(own, -273.15))
        return next(known, f"{_OWN}{own:g}")
    return "simulated" if uri.startswith("sim:") and gain == 40.0 else "relative"
