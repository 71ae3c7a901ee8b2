"""Aligns two pictures by hand: points placed in both, what each point is worth, and the fused picture.

No toolkit here; the window and `lumitherm calibrate points --points FILE` sit on it. Positions are pixels of the
picture they are in, the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from app.pipeline.fuse_step import fuse_levels
from app.pipeline.thermal_grid import AlignedField
from calibration.align import ThermalAligner
from calibration.homography import Model, PointSolution, solve_points
from calibration.rig import CameraSide, PlaneCalibration, plain_scaling, save_calibration
from fusion_core.errors import BadInputError
from fusion_core.files import read_bounded
from fusion_core.thermal.agc import Agc

__all__ = ["PickedPoint", "PointPicking", "Side", "read_points"]

_MOST_POINT_BYTES = 1_000_000
_MOST_PX = 1e6

Side = Literal["visible", "thermal"]
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PickedPoint:
    """A place in both pictures, or so far in one; and what the present solution says of it (None: nothing yet).

    residual_px: its distance from the map. left_out_px: its distance from a map that is fitted without it, which is
    what a new point would see. used: False for an outlier.
    """

    visible: Place | None
    thermal: Place | None
    residual_px: float | None = None
    left_out_px: float | None = None
    used: bool | None = None

    @property
    def whole(self) -> bool:
        """Whether it is placed in both pictures."""
        return self.visible is not None and self.thermal is not None


class PointPicking:
    """The points, and the map that they give. One owner thread.

    Args:
        visible: (H, W, 3) uint8 RGB. thermal: (Ht, Wt) uint8 levels or uint16 counts.
        model: map to fit; "auto" grows with the number of points.
    """

    def __init__(self, visible: npt.NDArray[np.uint8], thermal: npt.NDArray[np.integer], model: Model = "auto") -> None:
        if visible.ndim != 3 or thermal.ndim != 2:
            raise BadInputError(
                f"pictures are {visible.shape} and {thermal.shape}, must be (H, W, 3) visible and (H, W) thermal"
            )
        self.visible = visible
        self.thermal_levels = Agc().apply(thermal, 1.0) if thermal.dtype != np.uint8 else thermal.astype(np.uint8)
        self.model: Model = model
        self.points: list[PickedPoint] = []
        self.solution: PointSolution | None = None
        self.problem = ""
        self._sides = (CameraSide("", *visible.shape[:2]), CameraSide("", *thermal.shape[:2]))
        from fusion_core.engines.pyramid_engine import (
            LaplacianPyramidEngine,  # brings SciPy along: not for every command
        )

        self._engine = LaplacianPyramidEngine()

    def place(self, side: Side, at: Place) -> int:
        """Place the missing half of the last point that lacks this side, else a new point. Returns the index."""
        for index in reversed(range(len(self.points))):
            if getattr(self.points[index], side) is None:
                return self.move(index, side, at)
        empty = PickedPoint(None, None)
        self.points.append(_placed(empty, side, self._inside(side, at)))
        self._solve()
        return len(self.points) - 1

    def move(self, index: int, side: Side, at: Place) -> int:
        """Put a point elsewhere in one of the pictures."""
        self.points[index] = _placed(self.points[index], side, self._inside(side, at))
        self._solve()
        return index

    def nudge(self, index: int, side: Side, dx_px: float, dy_px: float) -> None:
        """Move a point a little; nothing happens where it has no place in this picture."""
        before: Place | None = getattr(self.points[index], side)
        if before is not None:
            self.move(index, side, (before[0] + dx_px, before[1] + dy_px))

    def remove(self, index: int) -> None:
        """Take a point away."""
        del self.points[index]
        self._solve()

    def expected(self, side: Side, at: Place) -> Place | None:
        """Find where the other picture shows what this one shows at a place; None without a solution."""
        if self.solution is None:
            return None
        H = self.solution.H_visible_thermal
        mapped = cv2.perspectiveTransform(np.array([[at]], np.float64), H if side == "thermal" else np.linalg.inv(H))
        return float(mapped[0, 0, 0]), float(mapped[0, 0, 1])

    def calibration(self, working_distance_m: float = 0.0) -> PlaneCalibration:
        """Make a calibration of the points; without enough of them it only scales the thermal picture."""
        if self.solution is None:
            visible, thermal = self._sides
            return plain_scaling((visible.height, visible.width), (thermal.height, thermal.width))
        found = self.solution.calibration(*self._sides, working_distance_m)
        used = int(self.solution.inlier.sum())
        return replace(found, verdict=f"picked by hand, {used} points, rms {found.rms_px:.2f} px")

    def fused(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: thermal by the present map, fused with visible (pyramid)."""
        alignment = AlignedField(ThermalAligner(self.calibration()))
        return fuse_levels(self._engine, self.visible, alignment.to_visible(self.thermal_levels), alignment)

    def save(
        self, path: Path, working_distance_m: float = 0.0, identities: tuple[str, str] = ("", "")
    ) -> PlaneCalibration:
        """Write the calibration file.

        Raises:
            BadInputError: too few points yet, or the file cannot be written.
        """
        if self.solution is None:
            raise BadInputError(self.problem or "nothing is picked yet")
        found = self.calibration(working_distance_m)
        found = replace(
            found,
            visible=replace(found.visible, identity=identities[0]),
            thermal=replace(found.thermal, identity=identities[1]),
        )
        try:
            save_calibration(found, path)
        except OSError as error:
            raise BadInputError(f"{path} cannot be written: {error.strerror or error}") from error
        return found

    def _inside(self, side: Side, at: Place) -> Place:
        camera = self._sides[0 if side == "visible" else 1]
        return min(max(at[0], -0.5), camera.width - 0.5), min(max(at[1], -0.5), camera.height - 0.5)

    def _solve(self) -> None:
        """Fit again; each point is told what it is worth."""
        whole = [index for index, point in enumerate(self.points) if point.whole]
        self.points = [PickedPoint(point.visible, point.thermal) for point in self.points]
        self.solution, self.problem = None, ""
        if len(whole) < 2:
            self.problem = f"{len(whole)} whole points; two give a first map, four or more one to rely on"
            return
        visible = np.array([self.points[index].visible for index in whole], np.float64)
        thermal = np.array([self.points[index].thermal for index in whole], np.float64)
        try:
            solution = solve_points(visible, thermal, model=self.model, width_px=self._sides[0].width)
        except BadInputError as error:
            self.problem = str(error)
            return
        self.solution = solution
        for row, index in enumerate(whole):
            left_out = float(solution.left_out_px[row])
            self.points[index] = replace(
                self.points[index],
                residual_px=float(solution.residual_px[row]),
                left_out_px=left_out if np.isfinite(left_out) else None,
                used=bool(solution.inlier[row]),
            )


def _placed(point: PickedPoint, side: Side, at: Place) -> PickedPoint:
    return replace(point, visible=at) if side == "visible" else replace(point, thermal=at)


def read_points(path: Path) -> list[tuple[Place, Place]]:
    """Pairs (visible, thermal) from a CSV file of lines x_visible, y_visible, x_thermal, y_thermal; # begins a remark.

    Raises:
        BadInputError: missing, or a line is not four numbers.
    """
    try:
        lines = read_bounded(path, _MOST_POINT_BYTES, "list of points").decode("utf-8-sig").splitlines()
        rows = list(csv.reader(lines))
    except BadInputError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    pairs: list[tuple[Place, Place]] = []
    for number, row in enumerate(rows, start=1):
        if not row or row[0].lstrip().startswith("#"):
            continue
        try:
            xv, yv, xt, yt = (float(cell) for cell in row)
            if not all(abs(value) <= _MOST_PX for value in (xv, yv, xt, yt)):
                raise ValueError(row)
        except ValueError as error:
            raise BadInputError(
                f"{path}, line {number}: {','.join(row)[:200]!r} is not x_visible,y_visible,x_thermal,y_thermal in"
                " pixels"
            ) from error
        pairs.append(((xv, yv), (xt, yt)))
    return pairs
