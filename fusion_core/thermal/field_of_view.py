"""Fills what the thermal camera does not see with the visible luminance, led up to thermal's level.

The engine then fuses the visible picture with itself there, which leaves it as it is. Fused with nothing it would be
darkened, and the border of the thermal field would become an outline that the scene does not have. A step in level
between the two pictures would be such an outline too. So the difference along the border is smoothed, continued
outwards and faded out: seamless cloning (Perez et al. 2003) with a mean in place of the membrane.

Everything between the two full-size steps is linear and separable, on cells of 8 px: on a CPU by OpenCV, and on a GPU
as four small matrix products with the same coefficients (`FieldMatrices`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.errors import BadInputError

__all__ = ["FieldFiller", "FieldMatrices", "ThermalWarp", "to_grid"]

FEATHER_PX: Final = 48
"""How far outside the border the level fades to that of the visible picture."""
_CELL_PX: Final = 8
_SIGMA_CELLS: Final = 1.0  # over which the difference along the border is averaged
_REACH_CELLS: Final = 8  # of the averaging: a little more than the fading

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FieldMatrices:
    """`FieldFiller` as matrices: offset = up_y @ ((down_y @ difference @ down_x.T) * gain) @ up_x.T, all float32.

    difference: (H, W), thermal minus visible where thermal sees, 0 elsewhere. h, w: cells down and across.
    """

    down_y: F32  # (h, H), averages and smooths
    down_x: F32  # (w, W)
    gain: F32  # (h, w)
    up_y: F32  # (H, h)
    up_x: F32  # (W, w)
    seen: npt.NDArray[np.bool_]  # (H, W)


@dataclass(frozen=True, slots=True, eq=False)
class ThermalWarp:
    """How a thermal picture comes onto the visible grid, for a device that has no OpenCV. Never changes."""

    grid: F32
    """(H, W, 2) in [-1, 1], align_corners=False: where each visible pixel lies in the thermal picture
    (`calibration.align.ThermalAligner.sampling_grid`)."""
    thermal_size: tuple[int, int]  # (height, width)
    matrices: FieldMatrices
    """Of the filler of what thermal does not see there."""


class FieldFiller:
    """Fills thermal pictures outside one field of view. Never changes: any thread.

    Args:
        seen: (H, W) bool, where the thermal camera sees.

    Raises:
        BadInputError: `seen` is no such picture.
    """

    def __init__(self, seen: np.ndarray) -> None:
        if seen.ndim != 2 or seen.dtype != np.bool_ or not seen.size:
            raise BadInputError(f"the field of view is {seen.dtype} {seen.shape}, must be bool (H, W) with pixels")
        self._whole = bool(seen.all())
        self._size = (seen.shape[0], seen.shape[1])
        self._cells = tuple(-(-side // _CELL_PX) for side in self._size)
        self._seen = seen
        self._mask = seen.astype(np.uint8)
        self._kernel = np.asarray(cv2.getGaussianKernel(2 * _REACH_CELLS + 1, _SIGMA_CELLS, cv2.CV_32F))
        self._gain = self._gain_of(self._mask)

    @property
    def whole(self) -> bool:
        """Whether thermal sees everything, so that there is nothing to fill."""
        return self._whole

    def fill(self, levels: np.ndarray, luminance: np.ndarray) -> np.ndarray:
        """Thermal where it sees, and the visible luminance at its level elsewhere.

        Args:
            levels: (H, W) uint8 thermal on the visible grid; pixels outside the field do not matter.
            luminance: (H, W) uint8 of the visible picture.

        Returns:
            (H, W) uint8, a new array; `levels` itself if thermal sees everything.

        Raises:
            BadInputError: a picture of another size.
        """
        if levels.shape != self._size or luminance.shape != self._size:
            raise BadInputError(
                f"pictures are {levels.shape} and {luminance.shape}, the field of view is {self._size} (height, width)"
            )
        if self._whole:
            return levels
        difference = np.zeros(self._size, np.int16)  # which it stays where thermal does not see
        cv2.subtract(levels, luminance, dst=difference, mask=self._mask, dtype=cv2.CV_16S)
        offset = self._smooth(self._shrink(difference)) * self._gain
        height, width = self._size
        whole = cv2.add(luminance, cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR), dtype=cv2.CV_8U)
        return np.asarray(cv2.copyTo(levels, self._mask, whole))

    def matrices(self) -> FieldMatrices:
        """The filling as matrices, for a device that has no OpenCV: each step applied to unit vectors."""
        height, width = self._size
        down, up = [], []
        for side, cells in ((height, self._cells[0]), (width, self._cells[1])):
            averaged = cv2.resize(np.eye(side, dtype=np.float32), (side, cells), interpolation=cv2.INTER_AREA)
            down.append(cv2.filter2D(averaged, cv2.CV_32F, self._kernel, borderType=cv2.BORDER_CONSTANT))
            up.append(cv2.resize(np.eye(cells, dtype=np.float32), (cells, side), interpolation=cv2.INTER_LINEAR))
        parts = [np.ascontiguousarray(part, np.float32) for part in (down[0], down[1], up[0], up[1])]
        return FieldMatrices(parts[0], parts[1], self._gain, parts[2], parts[3], self._seen)

    def _gain_of(self, mask: npt.NDArray[np.uint8]) -> F32:
        """Per cell: fading over the smoothed share that thermal sees, so that the smoothing is a mean."""
        away_px = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        fade = 0.5 + 0.5 * np.cos(np.pi * np.minimum(away_px / FEATHER_PX, 1.0))
        share = self._smooth(self._shrink(mask.astype(np.float32)))
        fading = self._shrink(fade.astype(np.float32))
        return np.asarray(np.where(share > 1e-12, fading / np.maximum(share, 1e-12), 0.0), np.float32)

    def _shrink(self, picture: np.ndarray) -> F32:
        rows, columns = self._cells
        return np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)

    def _smooth(self, cells: F32) -> F32:
        kernel = self._kernel
        return np.asarray(cv2.sepFilter2D(cells, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT))


def to_grid(thermal: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (Ht, Wt) uint8 plainly to the visible grid (H, W): area average down, linear up."""
    if thermal.shape == (height, width):
        return thermal
    shrinks = thermal.shape[0] > height or thermal.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(thermal, (width, height), interpolation=method))
