"""Estimates how far a thermal picture is displaced as a whole against the visible one, and whether that can be told.

The outlines of `fusion_core.cross_spectral` are correlated over the whole frame; the peak lies at the displacement.
A displacement that varies over the picture cannot be seen this way. Where there are few common outlines (a night
without light) the peak drowns in noise: then `reliable` is False and the estimate must not be used.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from fusion_core.cross_spectral import OutlineForm, box_mean, outlines, second_peak, surface_peak
from fusion_core.errors import BadInputError

__all__ = ["MAX_SHIFT_PX", "ShiftEstimate", "correlation_surface", "estimate_shift", "translate"]

MAX_SHIFT_PX = 16

# Smoothed, because outlines of the two cameras are never sharp at the same pixel.
_OUTLINES = OutlineForm(
    smoothing_px=1.0, kernel="sobel", local_mean=box_mean(31), level_floor=1e-3, level_floor_share=0.1
)
_PEAK_RADIUS_PX = 3  # the second peak is searched outside this square
# A peak this high above the noise of the surface was the true one on pairs of real cameras.
_RELIABLE_PEAK = 0.12
_RELIABLE_LEAD = 0.02

Surface = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ShiftEstimate:
    """Thermal content at p + (dx_px, dy_px) matches visible content at p.

    confidence: 0..1, 0.5 where `reliable` begins. reliable: the peak is high and stands alone. peak: the normalised
    correlation there, -1..1. Undo the displacement with `translate(thermal, -dx_px, -dy_px)`.
    """

    dx_px: float
    dy_px: float
    confidence: float
    reliable: bool
    peak: float


def estimate_shift(visible: np.ndarray, thermal: np.ndarray, max_shift_px: int = MAX_SHIFT_PX) -> ShiftEstimate:
    """Estimate the displacement of the whole thermal picture, sub-pixel.

    Args:
        visible: (H, W) uint8, luminance.
        thermal: (H, W) uint8.
        max_shift_px: displacements up to this along each axis are considered. Pictures too small for it
            (a side under 4 x max_shift_px) are searched over a quarter of their smaller side.

    Raises:
        BadInputError: another shape or dtype, or a side under 16 px.
    """
    surface = correlation_surface(visible, thermal, max_shift_px)
    radius = surface.shape[0] // 2
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    peak = float(surface[row, column])
    lead = peak - second_peak(surface, int(row), int(column), _PEAK_RADIUS_PX)
    on_border = row in (0, 2 * radius) or column in (0, 2 * radius)
    margin = min(peak / _RELIABLE_PEAK, lead / _RELIABLE_LEAD)
    confidence = 0.0 if on_border else float(np.clip(margin / (1.0 + margin), 0.0, 1.0)) if margin > 0 else 0.0
    x, y = surface_peak(surface, int(row), int(column))
    return ShiftEstimate(
        dx_px=x - radius,
        dy_px=y - radius,
        confidence=confidence,
        reliable=confidence >= 0.5,
        peak=peak,
    )


def correlation_surface(visible: np.ndarray, thermal: np.ndarray, max_shift_px: int = MAX_SHIFT_PX) -> Surface:
    """Normalised cross-correlation of the outlines at every whole-pixel displacement.

    Surfaces of several frames of one rig may be averaged before the peak is searched.

    Returns:
        (2 r + 1, 2 r + 1) float32, -1..1, [r + dy, r + dx] for the displacement (dx, dy); r is max_shift_px, or less
        for small pictures. All zero if one of the pictures has no outlines.

    Raises:
        BadInputError: as in `estimate_shift`.
    """
    for name, picture in (("visible", visible), ("thermal", thermal)):
        if picture.ndim != 2 or picture.dtype != np.uint8 or min(picture.shape) < 16:
            raise BadInputError(
                f"{name} picture is {picture.dtype} {picture.shape}, must be uint8 (H, W), 16x16 or more"
            )
    if visible.shape != thermal.shape:
        raise BadInputError(f"visible is {visible.shape}, thermal {thermal.shape} (height, width), must be the same")
    if max_shift_px < 1:
        raise BadInputError(f"max_shift_px is {max_shift_px}, must be at least 1")
    radius = min(max_shift_px, min(visible.shape) // 4)
    return _normalised_correlation(outlines(visible, _OUTLINES), outlines(thermal, _OUTLINES), radius)


def _normalised_correlation(visible: Surface, thermal: Surface, radius: int) -> Surface:
    """Correlation coefficient of the visible plane, less a margin of `radius`, with every window of the thermal one.

    The same numbers as cv2.matchTemplate with TM_CCOEFF_NORMED, from one transform of each whole plane, which for a
    template of nearly that size is twice as fast.
    """
    height, width = visible.shape
    inner = (slice(radius, height - radius), slice(radius, width - radius))
    template = np.zeros_like(visible)
    template[inner] = visible[inner] - visible[inner].mean()
    # The margin of the template is zero, so that nothing wraps round within the radius.
    shape = (scipy.fft.next_fast_len(height, real=True), scipy.fft.next_fast_len(width, real=True))
    spectrum = scipy.fft.rfft2(template, s=shape)
    np.conj(spectrum, out=spectrum)
    spectrum *= scipy.fft.rfft2(thermal, s=shape)
    product = scipy.fft.irfft2(spectrum, s=shape, overwrite_x=True)
    around = np.arange(-radius, radius + 1)
    product = product[np.ix_(around, around)].astype(np.float64)  # negative indices: displacements up and left
    rows, columns = height - 2 * radius, width - 2 * radius
    total, squares = (
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
        for table in cv2.integral2(thermal, sdepth=cv2.CV_64F, sqdepth=cv2.CV_64F)
    )
    energy = (squares - total**2 / (rows * columns)) * float(np.vdot(template, template))
    # Planes without outlines have no energy but what rounding leaves.
    floor = 1e-6 * rows * columns
    surface = np.where(energy > floor**2, product / np.sqrt(np.maximum(energy, floor**2)), 0.0)
    return np.asarray(surface, np.float32)


def translate(picture: np.ndarray, dx_px: float, dy_px: float) -> np.ndarray:
    """Move a picture's content by (dx_px, dy_px), positive to the right and down; the border is mirrored.

    Args:
        picture: (H, W) or (H, W, 3), uint8, uint16 or float32.

    Returns:
        Same shape and dtype, a new array. Whole pixels are moved exactly, fractions by bicubic interpolation.
    """
    height, width = picture.shape[:2]
    whole = float(dx_px).is_integer() and float(dy_px).is_integer()
    if whole and abs(dx_px) < width and abs(dy_px) < height:
        dx, dy = int(dx_px), int(dy_px)
        grown = cv2.copyMakeBorder(
            picture, max(dy, 0), max(-dy, 0), max(dx, 0), max(-dx, 0), borderType=cv2.BORDER_REFLECT_101
        )
        return np.ascontiguousarray(grown[max(-dy, 0) :, max(-dx, 0) :][:height, :width])
    matrix = np.array([[1.0, 0.0, dx_px], [0.0, 1.0, dy_px]])
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    )
