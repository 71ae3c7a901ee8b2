"""Measures raw thermal counts under spots, boxes, lines and polygons that are drawn on the visible picture.

Places are (y, x) as fractions 0..1 of the picture. They are carried over as the picture was aligned: by the calibration
(exact at its working distance), else by proportion. Near the edge of something hot a figure can be its neighbour's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.frames import FusedFrame

__all__ = ["WHOLE", "Convert", "Mark", "MarkKind", "Place", "Reading", "measure", "place_in_thermal"]

_MOST_POINTS = 512  # of a profile
_STEPS = 4  # of Newton's method, to find where a thermal pixel lies in the visible picture
_STEP_PX = 2.0

Place = tuple[float, float]
Convert = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Counts to what is shown, e.g. degrees; rising."""


class MarkKind(StrEnum):
    """What is measured."""

    SPOT = "spot"
    BOX = "box"
    LINE = "line"
    POLYGON = "polygon"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place to measure: a spot has one point, a box two opposite corners, a line two ends, a polygon its corners."""

    kind: MarkKind
    points: tuple[Place, ...]
    name: str = ""

    @property
    def corners(self) -> tuple[Place, ...]:
        """The outline, in order."""
        if self.kind is not MarkKind.BOX:
            return self.points
        (top, left), (bottom, right) = self.points
        return ((top, left), (top, right), (bottom, right), (bottom, left))

    def moved(self, dy: float, dx: float) -> Mark:
        """Return it elsewhere, as far as the picture reaches."""
        ys, xs = [y for y, _ in self.points], [x for _, x in self.points]
        dy, dx = (min(1.0 - max(at), max(-min(at), by)) for at, by in ((ys, dy), (xs, dx)))
        return replace(self, points=tuple((y + dy, x + dx) for y, x in self.points))

    def reshaped(self, corner: int, place: Place) -> Mark:
        """Return it with one of its `corners` at another place; of a box the opposite corner stays."""
        y, x = (min(1.0, max(0.0, value)) for value in place)
        if self.kind is not MarkKind.BOX:
            return replace(self, points=(*self.points[:corner], (y, x), *self.points[corner + 1 :]))
        fixed_y, fixed_x = self.corners[(corner + 2) % 4]
        (top, bottom), (left, right) = sorted((fixed_y, y)), sorted((fixed_x, x))
        return replace(self, points=((top, left), (bottom, right)))


WHOLE = Mark(MarkKind.BOX, ((0.0, 0.0), (1.0, 1.0)))
"""The whole picture, as far as the thermal camera sees."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was measured, in the unit of `convert`. coldest, hottest: (y, x) as fractions of the picture.

    profile: along a line, (N,), NaN where the thermal camera does not see.
    """

    minimum: float
    mean: float
    maximum: float
    pixels: int
    coldest: Place
    hottest: Place
    profile: npt.NDArray[np.float64] | None = field(default=None)


def measure(frame: FusedFrame, mark: Mark, convert: Convert | None = None) -> Reading | None:
    """Measure under a mark; None where the thermal camera does not see, or is missing.

    Args:
        convert: raw counts, any shape float64, to the unit of the reading; None = counts.
    """
    thermal = frame.pair.thermal
    if thermal is None:
        return None
    counts = thermal.pixels
    corners = place_in_thermal(frame, np.array(mark.corners, np.float64))
    if mark.kind is MarkKind.LINE:
        return _along(frame, counts, corners, convert)
    rows, columns = counts.shape
    if mark.kind is MarkKind.SPOT:
        row, column = (math.floor(value) for value in corners[0])
        rows_cut, columns_cut = slice(row, row + 1), slice(column, column + 1)
        if not (0 <= row < rows and 0 <= column < columns):
            return None
        mask = None
    else:
        first = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        last = np.maximum(np.round(corners.max(axis=0)).astype(int), first + 1)
        if first[0] >= rows or first[1] >= columns or last.min() < 0 or (corners.max(axis=0) < 0).any():
            return None
        rows_cut, columns_cut = slice(first[0], min(rows, last[0])), slice(first[1], min(columns, last[1]))
        mask = _inside(corners, first, counts[rows_cut, columns_cut].shape) if mark.kind is MarkKind.POLYGON else None
    part = counts[rows_cut, columns_cut]
    if part.size == 0 or (mask is not None and not mask.any()):
        return None
    low, high, cold, hot = cv2.minMaxLoc(part, None if mask is None else mask)
    chosen = part if mask is None else part[mask > 0]
    offset = (rows_cut.start + 0.5, columns_cut.start + 0.5)
    places = [(offset[0] + at[1], offset[1] + at[0]) for at in (cold, hot)]
    coldest, hottest = (_place_in_picture(frame, place) for place in places)
    values = _converted(np.array([low, chosen.mean(), high]), convert)
    mean = values[1] if convert is None else float(_converted(chosen.astype(np.float64), convert).mean())
    return Reading(float(values[0]), float(mean), float(values[2]), int(chosen.size), coldest, hottest)


def place_in_thermal(frame: FusedFrame, places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Carry (N, 2) places (y, x), 0..1 of the picture, over to thermal (row, column), (N, 2); pixel centres are .5."""
    thermal = frame.pair.thermal
    assert thermal is not None  # by the callers
    if frame.alignment is None:
        return places * np.array(thermal.pixels.shape, np.float64)
    tall, wide = frame.alignment.seen.shape
    points = places[:, ::-1] * (wide, tall) - 0.5
    return np.asarray(frame.alignment.thermal_points(points)[:, ::-1] + 0.5, np.float64)


def _place_in_picture(frame: FusedFrame, wanted: Place) -> Place:
    """Find the place, 0..1, whose thermal row and column these are: the alignment goes the other way only."""
    thermal = frame.pair.thermal
    assert thermal is not None  # by the callers
    rows, columns = thermal.pixels.shape
    here = np.array([wanted[0] / rows, wanted[1] / columns])
    if frame.alignment is None:
        return float(here[0]), float(here[1])
    height, width = frame.alignment.seen.shape
    reach = np.array([_STEP_PX / height, _STEP_PX / width])
    for _ in range(_STEPS):
        around = place_in_thermal(frame, here + np.array([(0.0, 0.0), (reach[0], 0.0), (0.0, reach[1])]))
        slope = np.stack([(around[1] - around[0]) / reach[0], (around[2] - around[0]) / reach[1]], axis=1)
        if abs(np.linalg.det(slope)) < 1e-9:
            break
        here = here + np.linalg.solve(slope, np.asarray(wanted) - around[0])
    return float(np.clip(here[0], 0.0, 1.0)), float(np.clip(here[1], 0.0, 1.0))


def _inside(corners: npt.NDArray[np.float64], first: npt.NDArray[np.int64], shape: tuple[int, ...]) -> np.ndarray:
    """Mark the pixels whose centres lie in a polygon, (h, w) uint8; the pixels on its outline count."""
    mask = np.zeros(shape, np.uint8)
    outline = np.round((corners - first - 0.5)[:, ::-1] * 16).astype(np.int32)
    cv2.fillPoly(mask, [outline], 1, shift=4)
    return mask


def _along(
    frame: FusedFrame, counts: np.ndarray, ends: npt.NDArray[np.float64], convert: Convert | None
) -> Reading | None:
    length = float(np.hypot(*(ends[1] - ends[0])))
    steps = np.linspace(0.0, 1.0, min(_MOST_POINTS, max(2, math.ceil(length) + 1)))
    line = ends[0] + steps[:, None] * (ends[1] - ends[0])
    inside = (line >= 0.0).all(axis=1) & (line < counts.shape).all(axis=1)
    if not inside.any():
        return None
    at = (line - 0.5).astype(np.float32)
    found = cv2.remap(
        counts.astype(np.float32), at[:, 1:], at[:, :1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    values = _converted(np.asarray(found, np.float64).ravel(), convert)
    values[~inside] = np.nan
    cold, hot = int(np.nanargmin(values)), int(np.nanargmax(values))
    coldest, hottest = (_place_in_picture(frame, (float(line[n, 0]), float(line[n, 1]))) for n in (cold, hot))
    mean = float(np.nanmean(values))
    return Reading(float(values[cold]), mean, float(values[hot]), int(inside.sum()), coldest, hottest, profile=values)


def _converted(values: npt.NDArray[np.float64], convert: Convert | None) -> npt.NDArray[np.float64]:
    return np.asarray(values if convert is None else convert(values), np.float64)
