"""Thermal pictures onto the visible grid: by the rig's calibration where there is one, else by plain resizing."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from calibration.align import ThermalAligner
from calibration.rig import Calibration, RigCalibration, file_sha256, load_calibration, plain_scaling
from fusion_core.colour import luminance
from fusion_core.errors import BadInputError
from fusion_core.frames import ThermalAlignment
from fusion_core.thermal.field_of_view import FieldFiller, ThermalWarp, to_grid

__all__ = ["AlignedField", "ThermalGrid"]


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
        self._field: ThermalAlignment | None = None
        self._scaling: tuple[tuple[int, ...], ThermalWarp] | None = None  # plain, for a device

    @classmethod
    def fixed(cls, alignment: ThermalAlignment | None) -> ThermalGrid:
        """Align as another grid did, at its visible size; None = plain resize."""
        grid = cls(None)
        grid._field = alignment
        return grid

    @classmethod
    def of(cls, calibration: Calibration) -> ThermalGrid:
        """Align by a calibration that lies in no file."""
        grid = cls(None)
        grid.calibration = calibration
        return grid

    @property
    def baseline_m(self) -> float | None:
        """Distance of the two lenses, m; None if the calibration does not tell."""
        return self.calibration.baseline_m if isinstance(self.calibration, RigCalibration) else None

    @property
    def focal_px(self) -> float | None:
        """Focal length of the visible camera, px; None if the calibration does not tell."""
        return self.calibration.visible.fx_px if isinstance(self.calibration, RigCalibration) else None

    @property
    def visible_minus_thermal_ms(self) -> float | None:
        """Offset of the two cameras' time stamps, ms; None if the calibration has not measured it."""
        return self.calibration.visible_minus_thermal_ms if self.calibration is not None else None

    def corrected(
        self, correction: np.ndarray, visible_size: tuple[int, int], thermal_size: tuple[int, int]
    ) -> ThermalGrid:
        """Make a new grid, with its maps, of this alignment and a correction on top; this grid stays as it is.

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
        alignment = self.alignment(height, width)
        return alignment.seen if alignment is not None else None

    def alignment(self, height: int, width: int) -> ThermalAlignment | None:
        """What does the work at this visible size; None where thermal is plainly scaled.

        Raises:
            BadInputError: the calibration is for pictures of other proportions.
        """
        self.prepare(height, width)
        return self._field

    def prepare(self, height: int, width: int) -> None:
        """Make the maps for this visible size now (tens of ms) rather than at the next picture.

        Raises:
            BadInputError: the calibration is for pictures of other proportions.
        """
        if self.calibration is not None and (self._field is None or self._field.seen.shape != (height, width)):
            self._field = AlignedField(ThermalAligner(self.calibration, (height, width)))

    def to_visible(self, levels: np.ndarray, height: int, width: int) -> np.ndarray:
        """(Ht, Wt) uint8 to (H, W) uint8; `levels` itself where nothing is to be done.

        Raises:
            BadInputError: the calibration does not fit the pictures.
        """
        alignment = self.alignment(height, width)
        return to_grid(levels, height, width) if alignment is None else alignment.to_visible(levels)

    def warp(self, visible_size: tuple[int, int], thermal_size: tuple[int, int]) -> ThermalWarp | None:
        """What a device needs to do as `to_visible` and `filled` by itself, the same object for the same sizes.

        Args:
            visible_size, thermal_size: (height, width).

        Returns:
            None where thermal is plainly made smaller, which OpenCV does by areas.

        Raises:
            BadInputError: the calibration does not fit the pictures.
        """
        field = self.alignment(*visible_size)
        if field is not None:
            if not isinstance(field, AlignedField):
                return None
            if thermal_size != field.thermal_size:
                raise BadInputError(f"thermal pictures are {thermal_size}, calibrated {field.thermal_size}")
            return field.warp
        if any(thermal > visible for thermal, visible in zip(thermal_size, visible_size, strict=True)):
            return None
        key = (*visible_size, *thermal_size)
        if self._scaling is None or self._scaling[0] != key:
            self._scaling = key, _plain_warp(visible_size, thermal_size)
        return self._scaling[1]

    def filled(self, levels: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """(H, W) uint8 for an engine: `levels` of `to_visible`, filled where thermal does not see; see `FieldFiller`.

        Args:
            levels: (H, W) uint8. visible: (H, W, 3) uint8 RGB.
        """
        alignment = self.alignment(levels.shape[0], levels.shape[1])
        return levels if alignment is None else alignment.filled(levels, visible)


class AlignedField:
    """A `fusion_core.frames.ThermalAlignment`: a calibration's maps at one visible size. Never changes; any thread."""

    def __init__(self, aligner: ThermalAligner) -> None:
        self._aligner = aligner
        self._filler = FieldFiller(aligner.mask)

    @property
    def seen(self) -> np.ndarray:
        """(H, W) bool, where the thermal camera sees."""
        return self._aligner.mask

    def to_visible(self, thermal: np.ndarray) -> np.ndarray:
        """(Ht, Wt) uint8 or uint16 to (H, W), same dtype, 0 where the thermal camera does not see.

        Raises:
            BadInputError: another size than the calibrated thermal camera's.
        """
        return self._aligner.to_visible(thermal)

    def filled(self, levels: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """For an engine, see `FieldFiller.fill`: (H, W) uint8 and (H, W, 3) uint8 RGB to (H, W) uint8."""
        return levels if self._filler.whole else self._filler.fill(levels, luminance(visible))

    @property
    def thermal_size(self) -> tuple[int, int]:
        """(height, width) that thermal pictures must have."""
        return self._aligner.thermal_size

    @cached_property
    def warp(self) -> ThermalWarp:
        """The same for a device; made when it is first asked for (tens of ms)."""
        return ThermalWarp(self._aligner.sampling_grid(), self.thermal_size, self._filler.matrices())

    def thermal_points(self, points_visible: np.ndarray) -> np.ndarray:
        """(N, 2) visible pixels (x, y) of this size to where they lie in the thermal picture, (N, 2)."""
        return self._aligner.thermal_points(points_visible)


def _plain_warp(visible_size: tuple[int, int], thermal_size: tuple[int, int]) -> ThermalWarp:
    """As cv2.resize does by INTER_LINEAR: the border is repeated."""
    axes = []
    for visible, thermal in zip(visible_size, thermal_size, strict=True):
        places = np.clip((np.arange(visible) + 0.5) * thermal / visible - 0.5, 0, thermal - 1)
        axes.append((places + 0.5) * 2.0 / thermal - 1.0)
    grid = np.stack(np.meshgrid(axes[1], axes[0]), axis=-1).astype(np.float32)
    return ThermalWarp(grid, thermal_size, FieldFiller(np.ones(visible_size, bool)).matrices())
