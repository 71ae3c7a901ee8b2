"""While views are still being captured: what the calibration would be with those that are there, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.board import Board
from calibration.extrinsics import PairView, solve_stereo
from calibration.field import coverage, covered_share, predicted_two_sigma_px, propose_working_distance_m
from calibration.intrinsics import solve_intrinsics
from calibration.solve import MAX_TWO_SIGMA_PX, MIN_COVERAGE, MIN_GOOD_VIEWS
from calibration.views import BoardView
from fusion_core.errors import BadInputError

__all__ = ["Assessment", "assess"]

MARGIN = 0.6  # resampling, which the verdict also asks, tends to say more than the noise of the points alone


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """coverage_visible, coverage_thermal: (6, 6) points in the common field, -1 outside it; two_sigma_px: the largest
    over the picture, from the noise of the points; views: that agree."""

    coverage_visible: np.ndarray
    coverage_thermal: np.ndarray
    two_sigma_px: float
    views: int

    @property
    def covered(self) -> float:
        """Share of the common field in which a board point was seen, in the worse of the two pictures."""
        return min(covered_share(self.coverage_visible), covered_share(self.coverage_thermal))

    @property
    def enough(self) -> bool:
        """Whether solving can be expected to end well."""
        return (
            self.views >= MIN_GOOD_VIEWS
            and self.covered >= MIN_COVERAGE + 0.05
            and self.two_sigma_px <= MARGIN * MAX_TWO_SIGMA_PX
        )

    @property
    def lacking(self) -> str:
        """What is not enough yet, in words."""
        if self.covered < MIN_COVERAGE + 0.05:
            return f"{self.covered:.0%} of the common field covered"
        return f"2 sigma {self.two_sigma_px:.1f} px"


def assess(views: Sequence[BoardView], board: Board, working_distance_m: float = 0.0) -> Assessment | None:
    """Solve from these views, all found in both pictures; None where they do not determine a rig yet."""
    seen = [view for view in views if view.found_visible is not None and view.found_thermal is not None]
    try:
        visible = solve_intrinsics({v.name: v.found_visible for v in seen if v.found_visible is not None}, board)
        thermal = solve_intrinsics({v.name: v.found_thermal for v in seen if v.found_thermal is not None}, board)
        pairs = [
            PairView.common(v.name, v.found_visible, v.found_thermal)
            for v in seen
            if v.found_visible is not None
            and v.found_thermal is not None
            and v.name not in visible.rejected
            and v.name not in thermal.rejected
        ]
        stereo = solve_stereo(pairs, board, visible.camera, thermal.camera, working_distance_m=1.0)
    except BadInputError:
        return None
    distance_m = working_distance_m or propose_working_distance_m(stereo.rig)
    rig = replace(stereo.rig, working_distance_m=distance_m)
    kept = [pair for pair in pairs if pair.name in stereo.view_rms_px]
    middle = board.object_points().mean(axis=0)
    depths = [float((cv2.Rodrigues(pose[:3])[0] @ middle + pose[3:])[2]) for pose in stereo.bundle.poses]
    two_sigma = predicted_two_sigma_px(stereo.bundle, rig)
    return Assessment(
        coverage([pair.visible_px for pair in kept], rig, "visible", float(np.median(depths))),
        coverage([pair.thermal_px for pair in kept], rig, "thermal", float(np.median(depths))),
        float(np.nanmax(two_sigma)) if np.isfinite(two_sigma).any() else float("inf"),
        len(kept),
    )
