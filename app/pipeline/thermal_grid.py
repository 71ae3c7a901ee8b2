"""Thermal pictures onto the visible grid: by the rig's calibration where there is one, else by plain resizing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from calibration.align import ThermalAligner
from calibration.rig import Calibration, RigCalibration, file_sha256, load_calibration, plain_scaling
from fusion_core.colour import luminance

__all__ = ["ThermalGrid", "to_grid"]


class ThermalGrid:
    """One way of bringing thermal onto the visible grid. One owner thread; maps are made when a size is first seen.

    Args:
        path: calibration file; None = plain resize.

    Raises:
        ConfigError, BadInputError: the file cannot be used.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.calibration: Calibration | None = None
        self.identity: str | None = None
        """Short SHA-256 of the file, kept with each recorded frame, and of a correction on top; None without both."""
        if path is not None:
            self.calibration = load_calibration(path)
            self.identity = file_sha256(path)[:16]
        self._aligner: ThermalAligner | None = None

    @property
    def baseline_m(self) -> float | None:
        """Distance of the two lenses, m; None if the calibration does not tell."""
        return self.calibration.baseline_m if isinstance(self.calibration, RigCalibration) else None

    @property
    def focal_px(self) -> float | None:
        """Focal length of the visible camera, px; None if the calibration does not tell."""
        return self.calibration.visible.fx_px if isinstance(self.calibration, RigCalibration) else None

    def corrected(
        self, correction: np.ndarray, visible_size: tuple[int, int], thermal_size: tuple[int, int]
    ) -> ThermalGrid:
        """The same alignment with a correction on top, its maps made: a new grid, this one stays as it is.

        Args:
            correction: (3, 3) homography in pixels of `visible_size`: p_visible = correction @ p_aligned_so_far.
            visible_size, thermal_size: (height, width) of the pictures.

        Raises:
            BadInputError: the calibration is for pictures of other proportions.
        """
        base = self.calibration if self.calibration is not None else plain_scaling(visible_size, thermal_size)
        scale_y, scale_x = base.visible.height / visible_size[0], base.visible.width / visible_size[1]
        S = np.array([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5], [0, 0, 1.0]])
        C = S @ correction @ np.linalg.inv(S) @ base.correction_visible
        grid = ThermalGrid(None)
        grid.path = self.path
        grid.calibration = base.with_correction(C / C[2, 2])
        digest = hashlib.sha256(np.ascontiguousarray(C, np.float64).tobytes()).hexdigest()[:8]
        grid.identity = f"{self.identity or 'none'}+{digest}"
        grid.prepare(*visible_size)
        return grid

    def mask(self, height: int, width: int) -> np.ndarray | None:
        """(H, W) bool, where the thermal camera sees; None: everywhere."""
        if self.calibration is None:
            return None
        self.prepare(height, width)
        assert self._aligner is not None  # made by prepare; for the type checker
        return self._aligner.mask

    def prepare(self, height: int, width: int) -> None:
        """Make the maps for this visible size now (tens of ms) rather than at the next picture.

        Raises:
            BadInputError: the calibration is for pictures of other proportions.
        """
        if self.calibration is not None and (self._aligner is None or self._aligner.size != (height, width)):
            self._aligner = ThermalAligner(self.calibration, (height, width))

    def to_visible(self, levels: np.ndarray, height: int, width: int) -> np.ndarray:
        """(Ht, Wt) uint8 to (H, W) uint8; the same array where nothing is to be done.

        Raises:
            BadInputError: the calibration does not fit the pictures.
        """
        if self.calibration is None:
            return to_grid(levels, height, width)
        self.prepare(height, width)
        assert self._aligner is not None  # made by prepare; for the type checker
        return self._aligner.to_visible(levels)

    def filled(self, levels: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """(H, W) uint8 for an engine: `levels` of `to_visible`, and the visible luminance where thermal does not see.

        Fused with itself the visible picture stays as it is there; fused with nothing it would be darkened.

        Args:
            levels: (H, W) uint8. visible: (H, W, 3) uint8 RGB.
        """
        if self.calibration is None:
            return levels
        mask = self.mask(*levels.shape)
        if mask is None or mask.all():
            return levels
        beside = luminance(visible)
        np.copyto(beside, levels, where=mask)
        return np.asarray(beside)


def to_grid(thermal: np.ndarray, height: int, width: int) -> np.ndarray:
    """Plain resize of (Ht, Wt) uint8 to the visible grid (H, W): area average down, linear up."""
    if thermal.shape == (height, width):
        return thermal
    shrinks = thermal.shape[0] > height or thermal.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(thermal, (width, height), interpolation=method))
