"""Compares a visible with a thermal picture: outlines that look alike in both, their correlation, and its peak.

Brightness says nothing across the two spectra, and a contrast may be reversed. What both pictures share is where
outlines lie and how they run. So the gradient magnitude is normalised against its surroundings, which keeps one bright
lamp or one hot engine from deciding alone. Its direction counts by the cosine and the sine of twice its angle, which a
reversed contrast leaves as they are.

The callers differ in their numbers, and their measured results rest on these. Each gives its own `OutlineForm`. The
network has a form of its features for tensors, `fusion_core.rfvif.features.gradient_features`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "OutlineForm",
    "box_mean",
    "correlation_volume",
    "gaussian_mean",
    "oriented_outlines",
    "outlines",
    "parabola_peak",
    "second_peak",
    "surface_peak",
]

Plane = npt.NDArray[np.float32]
LocalMean = Callable[[Plane], Plane]


def box_mean(side_px: int, border: int = cv2.BORDER_REFLECT_101) -> LocalMean:
    """Mean over a square; border: of OpenCV's border types."""
    return partial(_box_mean, side_px=side_px, border=border)


def gaussian_mean(sigma_px: float) -> LocalMean:
    """Mean weighted by a Gaussian."""
    return partial(_gaussian_mean, sigma_px=sigma_px)


def _box_mean(plane: Plane, side_px: int, border: int) -> Plane:
    return np.asarray(cv2.boxFilter(plane, -1, (side_px, side_px), borderType=border), np.float32)


def _gaussian_mean(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px), np.float32)


@dataclass(frozen=True, slots=True)
class OutlineForm:
    """How gradients become outlines that are alike in both spectra.

    smoothing_px: sigma of the Gaussian before the gradient is taken; 0: none.
    kernel: "scharr" gives grey levels per pixel, "sobel" eight times that.
    root: take the root of the magnitude, so that a few strong edges do not decide alone.
    local_mean: what counts as the surroundings.
    level: what a magnitude is measured by. "deviation": less the local mean, by the local deviation. "rms": by the
        local root mean square.
    variance_floor, level_floor, level_floor_share: keep noise in flat regions from growing to the weight of outlines.
        The first is added to the local variance. The second is added to the level, and so is the third times the
        picture's mean level.
    ceiling: the largest normalised magnitude.
    flat: squared gradient below which a direction fades.
    """

    smoothing_px: float
    kernel: Literal["scharr", "sobel"]
    local_mean: LocalMean
    level: Literal["deviation", "rms"] = "deviation"
    root: bool = False
    variance_floor: float = 0.0
    level_floor: float = 0.0
    level_floor_share: float = 0.0
    ceiling: float = float("inf")
    flat: float = 1e-6


def outlines(picture: npt.NDArray[Any], form: OutlineForm) -> Plane:
    """Normalised gradient magnitude of a (H, W) picture of any dtype, float32."""
    return _normalised(*_gradients(picture, form), form)


def oriented_outlines(picture: npt.NDArray[Any], form: OutlineForm) -> tuple[Plane, Plane, Plane]:
    """`outlines`, and their positive part times cos 2a and sin 2a, a the gradient's angle; each (H, W) float32."""
    gx, gy = _gradients(picture, form)
    normal = _normalised(gx, gy, form)
    gxx, gyy = gx * gx, gy * gy
    strength = np.maximum(normal, 0.0) / np.maximum(gxx + gyy, np.float32(form.flat))
    cos2, sin2 = (gxx - gyy) * strength, 2.0 * gx * gy * strength
    return normal, np.asarray(cos2, np.float32), np.asarray(sin2, np.float32)


def _gradients(picture: npt.NDArray[Any], form: OutlineForm) -> tuple[Plane, Plane]:
    values = picture.astype(np.float32)
    if form.smoothing_px > 0.0:
        values = _gaussian_mean(values, form.smoothing_px)
    if form.kernel == "scharr":
        gx, gy = (cv2.Scharr(values, cv2.CV_32F, *axis, scale=1.0 / 32.0) for axis in ((1, 0), (0, 1)))
    else:
        gx, gy = (cv2.Sobel(values, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    return np.asarray(gx, np.float32), np.asarray(gy, np.float32)


def _normalised(gx: Plane, gy: Plane, form: OutlineForm) -> Plane:
    energy = gx * gx + gy * gy
    if form.root:
        energy = np.sqrt(energy)
    normal = np.sqrt(energy)
    variance = form.local_mean(energy)
    if form.level == "deviation":
        mean = form.local_mean(normal)
        variance -= mean * mean
        normal -= mean
    level = np.sqrt(np.maximum(variance, 0.0) + np.float32(form.variance_floor))
    level += np.float32(form.level_floor_share * float(level.mean()) + form.level_floor)
    normal /= level
    return np.minimum(normal, np.float32(form.ceiling))


def correlation_volume(
    fixed: Sequence[Plane],
    moving: Sequence[Plane],
    moving_energy: Plane,
    steps: Sequence[tuple[int, int]],
    cells: LocalMean,
    inside: Plane | None = None,
) -> tuple[Plane, Plane]:
    """Products of two pictures' outlines at every step, and the energy of the moving ones there, in cells.

    Args:
        fixed: planes (H, W).
        moving: as many planes with the same margin all round, of at least the largest step.
        moving_energy: what `moving` counts for, with their margin.
        steps: (dx, dy): `moving` is read at p + (dx, dy).
        cells: from (H, W) to (gh, gw), the mean over each cell's window.
        inside: (H, W), what of the moving energy counts; None: all of it.

    Returns:
        Two of (steps, gh, gw) float32.
    """
    height, width = fixed[0].shape
    margin_y, margin_x = (moving[0].shape[0] - height) // 2, (moving[0].shape[1] - width) // 2
    total, term = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    products, energies = [], []
    for dx, dy in steps:
        top, left = margin_y + dy, margin_x + dx
        window = (slice(top, top + height), slice(left, left + width))
        np.multiply(fixed[0], moving[0][window], out=total)
        for still, moved in zip(fixed[1:], moving[1:], strict=True):
            np.multiply(still, moved[window], out=term)
            np.add(total, term, out=total)
        products.append(cells(total))
        energies.append(cells(moving_energy[window] if inside is None else moving_energy[window] * inside))
    return np.stack(products), np.stack(energies)


def parabola_peak(before: npt.NDArray[Any], peak: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Where the parabola through three neighbouring values has its top, -0.5..0.5 steps from the middle one; 0 where
    it has none. Arrays of one shape, element by element."""
    bend = before - 2 * peak + after
    top = bend < -1e-9
    offset = 0.5 * (before - after) / np.where(top, bend, -1.0)
    return np.where(top, np.clip(offset, -0.5, 0.5), 0.0)


def second_peak(surface: Plane, row: int, column: int, apart_px: int) -> float:
    """The highest value of a surface (H, W) more than `apart_px` rows or columns from (row, column)."""
    others = surface.copy()
    others[max(row - apart_px, 0) : row + apart_px + 1, max(column - apart_px, 0) : column + apart_px + 1] = -1.0
    return float(others.max())


def surface_peak(surface: Plane, row: int, column: int) -> tuple[float, float]:
    """(x, y) of a peak between the pixels of a surface (H, W).

    The parabolic surface that fits the 3x3 values around best, by least squares, has its top there; at most a pixel
    from (column, row). A peak on the border, or without a top, stays at whole pixels.
    """
    if not (0 < row < surface.shape[0] - 1 and 0 < column < surface.shape[1] - 1):
        return float(column), float(row)
    z = surface[row - 1 : row + 2, column - 1 : column + 2].astype(np.float64)
    gx, gy = (z[:, 2] - z[:, 0]).sum() / 6, (z[2] - z[0]).sum() / 6
    gxx = (z[:, 2] - 2 * z[:, 1] + z[:, 0]).sum() / 3
    gyy = (z[2] - 2 * z[1] + z[0]).sum() / 3
    gxy = (z[2, 2] - z[2, 0] - z[0, 2] + z[0, 0]) / 4
    determinant = gxx * gyy - gxy * gxy
    if determinant <= 1e-12 or gxx >= 0:
        return float(column), float(row)
    dx = float(np.clip((gxy * gy - gyy * gx) / determinant, -1, 1))
    dy = float(np.clip((gxy * gx - gxx * gy) / determinant, -1, 1))
    return column + dx, row + dy
