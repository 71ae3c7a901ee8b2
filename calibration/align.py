"""Moves thermal pictures onto the visible pixel grid: maps computed once, applied to each frame."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.rig import Calibration
from fusion_core.errors import BadInputError

__all__ = ["ThermalAligner"]


class ThermalAligner:
    """Resamples thermal pictures onto the visible grid. One owner thread; `to_visible` gives a new array.

    Args:
        calibration: stereo or plane.
        size: (height, width) of the visible grid to produce; default the calibrated visible size. Another size must
            have the same proportions (the network running at a lower resolution).

    Raises:
        BadInputError: the proportions differ from the calibrated visible camera's.
    """

    def __init__(self, calibration: Calibration, size: tuple[int, int] | None = None) -> None:
        visible = calibration.visible
        height, width = size or (visible.height, visible.width)
        if abs(height * visible.width - width * visible.height) > max(visible.width, visible.height):
            raise BadInputError(
                f"visible pictures are {width}x{height}, the calibration was made at {visible.width}x{visible.height}: "
                "other proportions. Set the camera to the calibrated size, or calibrate again."
            )
        self._calibration = calibration
        self._size = (height, width)
        self._thermal_size = (calibration.thermal.height, calibration.thermal.width)
        self._compute()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the visible grid."""
        return self._size

    @property
    def thermal_size(self) -> tuple[int, int]:
        """(height, width) that thermal pictures must have."""
        return self._thermal_size

    @property
    def calibration(self) -> Calibration:
        """The calibration in use, correction included."""
        return self._calibration

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, True where the thermal camera sees. Read-only."""
        return self._mask

    def to_visible(self, thermal: np.ndarray) -> np.ndarray:
        """Resample a thermal picture onto the visible pixel grid.

        Exact for objects at the working distance; nearer and farther ones shift by parallax.

        Args:
            thermal: (Ht, Wt) uint8 or uint16, raw thermal camera pixels.

        Returns:
            (H, W), same dtype. Pixels that the thermal camera does not see are 0; see `mask`.

        Raises:
            BadInputError: another size than the calibrated thermal camera's, or another dtype.
        """
        if thermal.shape != self._thermal_size or thermal.dtype not in (np.uint8, np.uint16):
            height, width = self._thermal_size
            raise BadInputError(
                f"thermal picture is {thermal.dtype} {thermal.shape}, the calibration wants uint8 or "
                f"uint16 ({height}, {width}). "
                "Set the thermal camera to the calibrated size, or calibrate again (lumitherm calibrate capture)."
            )
        return np.asarray(
            cv2.remap(
                thermal,
                self._map_xy,
                self._map_fraction,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=0,
            )
        )

    def thermal_points(self, points_visible: np.ndarray) -> np.ndarray:
        """(N, 2) pixels (x, y) of the visible grid to where they lie in the thermal picture, (N, 2) float64."""
        visible = self._calibration.visible
        scale = np.array([visible.width / self._size[1], visible.height / self._size[0]])
        points = (np.asarray(points_visible, np.float64).reshape(-1, 2) + 0.5) * scale - 0.5
        return np.asarray(self._calibration.thermal_from_visible(points)).reshape(-1, 2)

    def sampling_grid(self) -> np.ndarray:
        """(H, W, 2) float32, x and y in [-1, 1] with align_corners=False: for torch's grid_sample, to warp on a GPU."""
        points = self._positions().reshape(*self._size, 2)
        height, width = self._thermal_size
        grid = (points + 0.5) * np.array([2.0 / width, 2.0 / height]) - 1.0
        return np.ascontiguousarray(grid, np.float32)

    def _positions(self) -> np.ndarray:
        """(H * W, 2) thermal pixel of each visible pixel: exact on a grid of every 8th pixel.

        Linear in between (below 0.01 px off).
        """
        height, width = self._size
        visible = self._calibration.visible
        scale_y, scale_x = visible.height / height, visible.width / width
        step = 8
        rows, columns = (height + step - 1) // step + 2, (width + step - 1) // step + 2
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float64) * step - step / 2
        nodes = np.stack([(x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5], axis=-1).reshape(-1, 2)
        coarse = self._calibration.thermal_from_visible(nodes).reshape(rows, columns, 2)
        at_x = ((np.arange(width) + step / 2) / step).astype(np.float32)
        at_y = ((np.arange(height) + step / 2) / step).astype(np.float32)
        map_x, map_y = np.meshgrid(at_x, at_y)
        fine = [_interpolate(np.ascontiguousarray(coarse[..., axis]), map_x, map_y) for axis in (0, 1)]
        return np.stack(fine, axis=-1).reshape(-1, 2)

    def _compute(self) -> None:
        height, width = self._size
        points = self._positions().reshape(height, width, 2).astype(np.float32)
        thermal_height, thermal_width = self._thermal_size
        mask = (
            (points[..., 0] >= 0)
            & (points[..., 1] >= 0)
            & (points[..., 0] <= thermal_width - 1)
            & (points[..., 1] <= thermal_height - 1)
        )
        mask.flags.writeable = False
        self._mask = mask
        points = np.clip(points, -30000, 30000)
        self._map_xy, self._map_fraction = cv2.convertMaps(
            np.ascontiguousarray(points[..., 0]), np.ascontiguousarray(points[..., 1]), cv2.CV_16SC2
        )


def _interpolate(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate the node values linearly; the nodes are 8 px apart, a lens bends by well below 0.01 px in between."""
    columns, rows = values.shape[1], values.shape[0]
    x0 = np.clip(x[0].astype(int), 0, columns - 2)
    y0 = np.clip(y[:, 0].astype(int), 0, rows - 2)
    fx, fy = (x[0] - x0)[None, :], (y[:, 0] - y0)[:, None]
    across = values[:, x0] * (1 - fx) + values[:, x0 + 1] * fx  # (rows, W)
    return np.asarray(across[y0] * (1 - fy) + across[y0 + 1] * fy)
