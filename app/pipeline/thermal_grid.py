"""Thermal pictures onto the visible grid: by the rig's calibration where there is one, else by plain resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.fuse_video import to_grid
from calibration.align import ThermalAligner
from calibration.rig import Calibration, RigCalibration, file_sha256, load_calibration

__all__ = ["ThermalGrid"]


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
        """Short SHA-256 of the file, kept with each recorded frame; None without calibration."""
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
