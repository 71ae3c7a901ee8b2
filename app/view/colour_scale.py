"""What the palette means in the view that is shown: the span of counts, its colours, and how the counts are spread."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.view.composer import HEAT_FIRST, heat_span, warm_palette
from app.view.measuring import place_in_thermal
from app.view.settings import Picture, ViewSettings, panels_of
from fusion_core.frames import FusedFrame
from fusion_core.thermal.palettes import palette_table

__all__ = ["ColourScale", "ScaleKind", "colour_scale"]

_BINS = 96
_SAMPLES = 3000  # points of the picture that tell which count has which colour
_COLOURS = 128  # steps of the bar


class ScaleKind(StrEnum):
    """Where the palette is used."""

    PICTURE = "picture"  # the thermal picture
    HEAT = "heat"  # the overlay: its lower end is the threshold


@dataclass(frozen=True, slots=True, eq=False)
class ColourScale:
    """low, high: counts at the ends. colours: (N, 3) uint8 RGB from low to high. numbers: (M,) pixels between the
    (M + 1,) edges in counts, of the whole thermal picture."""

    kind: ScaleKind
    low: float
    high: float
    colours: npt.NDArray[np.uint8]
    numbers: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]


def colour_scale(frame: FusedFrame, settings: ViewSettings) -> ColourScale | None:
    """Tell what the palette means in this view; None where it is not used. Takes about a millisecond."""
    thermal = frame.pair.thermal
    if thermal is None or frame.thermal_8bit is None:
        return None
    counts = thermal.pixels
    if _shows_thermal(settings, frame):
        limits = frame.agc_limits or (float(counts.min()), float(counts.max()))
        low, high = float(limits[0]), max(float(limits[0]) + 1.0, float(limits[1]))
        levels = _levels_between(frame, low, high)
        table = palette_table(settings.palette)
        colours = (table[::-1] if settings.black_hot else table)[levels]
        kind = ScaleKind.PICTURE
    elif settings.heat:
        low, high = heat_span(counts, settings.heat_share, settings.heat_from)
        levels = np.linspace(HEAT_FIRST, 255, _COLOURS).astype(np.uint8)
        colours, kind = palette_table(warm_palette(settings.palette))[levels], ScaleKind.HEAT
    else:
        return None
    sample = counts[::3, ::3]
    first, last = min(float(sample.min()), low), max(float(sample.max()) + 1.0, high)
    numbers, edges = np.histogram(sample, _BINS, (first, max(last, first + _BINS)))
    return ColourScale(kind, low, high, np.asarray(colours, np.uint8), numbers.astype(np.int64), edges)


def _shows_thermal(settings: ViewSettings, frame: FusedFrame) -> bool:
    height, width = frame.pixels.shape[:2]
    panels = panels_of(settings, height, width, height, width)
    return any(panel.picture in (Picture.THERMAL, Picture.BLEND) for panel in panels)


def _levels_between(frame: FusedFrame, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Level of each step from low to high, (N,) uint8, rising: read off the picture, since equalization bends it."""
    levels, thermal = frame.thermal_8bit, frame.pair.thermal
    assert levels is not None and thermal is not None  # by the caller
    height, width = levels.shape
    step = max(1, round((height * width / _SAMPLES) ** 0.5))
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
    places = place_in_thermal(frame, np.stack([(rows + 0.5) / height, (columns + 0.5) / width], axis=1))
    at = np.floor(places).astype(int)
    inside = ((at >= 0) & (at < thermal.pixels.shape)).all(axis=1)
    found = thermal.pixels[at[inside, 0], at[inside, 1]].astype(np.float64)
    shown = levels[rows[inside], columns[inside]].astype(np.float64)
    steps = np.linspace(low, high, _COLOURS)
    nearest = np.clip(np.round((found - low) / (high - low) * (_COLOURS - 1)), 0, _COLOURS - 1).astype(int)
    sums, numbers = np.bincount(nearest, shown, _COLOURS), np.bincount(nearest, minlength=_COLOURS)
    known = numbers > 0
    known[[0, -1]] = True
    means = np.where(numbers > 0, sums / np.maximum(numbers, 1), 0.0)
    means[0], means[-1] = (means[0] if numbers[0] else 0.0), (means[-1] if numbers[-1] else 255.0)
    straight = np.interp(steps, steps[known], means[known])
    return np.clip(np.maximum.accumulate(straight), 0, 255).astype(np.uint8)
