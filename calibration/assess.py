"""Judges a capture while it runs: what the views so far would give, and what they lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.board import Board
from calibration.board_bend import lenses_and_board
from calibration.bundle import Sighting
from calibration.extrinsics import PairView, solve_stereo
from calibration.pose_planner import Advice, Planner, Reached
from calibration.shared_field import (
    coverage,
    covered_share,
    predicted_two_sigma_px,
    propose_working_distance_m,
    reached_share,
)
from calibration.solve import MAX_TWO_SIGMA_PX, MIN_COVERAGE, MIN_GOOD_VIEWS, MIN_REACHED
from calibration.views import BoardView
from fusion_core.errors import BadInputError

__all__ = ["Assessment", "assess"]

MARGIN = 0.6  # resampling, which the verdict asks too, tends to give more than the noise of the points alone
COVERAGE_MARGIN = 0.05
AIM_MARGIN = 0.8  # of the aim, for 2 sigma: 2.5 sigma are then inside it


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """coverage_visible, coverage_thermal: (6, 6) points in the common field, -1 outside it; two_sigma_px: the largest
    over the picture, from the noise of the points. views: those that agree. reached: compared with the aim.
    common_field: share of the field at the working distance that both cameras also see at the boards' distance.
    advice: the pose that helps most."""

    coverage_visible: np.ndarray
    coverage_thermal: np.ndarray
    two_sigma_px: float
    views: int
    reached: Reached
    common_field: float
    advice: Advice | None

    @property
    def covered(self) -> float:
        """Share of the common field in which board points were seen, in the worse of the two pictures."""
        return min(covered_share(self.coverage_visible), covered_share(self.coverage_thermal))

    @property
    def enough(self) -> bool:
        """Whether solving should end well, and within the aim."""
        return self.views >= MIN_GOOD_VIEWS and not self.lacking

    @property
    def lacking(self) -> str:
        """Say what is not enough yet; "" if nothing but, perhaps, the number of views."""
        parts = []
        if self.covered < MIN_COVERAGE + COVERAGE_MARGIN:
            parts.append(f"{self.covered:.0%} of the common field covered")
        if self.common_field < MIN_REACHED + COVERAGE_MARGIN:
            parts.append("boards are held too close")
        if short := self.reached.short_of(AIM_MARGIN):
            parts.append(short)
        elif self.two_sigma_px > MARGIN * MAX_TWO_SIGMA_PX:
            parts.append(f"2 sigma {self.two_sigma_px:.1f} visible px")
        return ", ".join(parts)


def assess(views: Sequence[BoardView], board: Board, working_distance_m: float = 0.0) -> Assessment | None:
    """Solve from these views, all found in both pictures; None where they do not determine a rig yet.

    Args:
        working_distance_m: where the alignment is to be exact; 0: the distance that `solve_views` would propose.
    """
    seen = [view for view in views if view.found_visible is not None and view.found_thermal is not None]
    try:
        found = (
            {v.name: v.found_visible for v in seen if v.found_visible is not None},
            {v.name: v.found_thermal for v in seen if v.found_thermal is not None},
        )
        visible, thermal, board = lenses_and_board(found, board)
        usable = [v for v in seen if v.name not in visible.rejected and v.name not in thermal.rejected]
        pairs = [
            PairView.common(v.name, v.found_visible, v.found_thermal)
            for v in usable
            if v.found_visible is not None and v.found_thermal is not None
        ]
        stereo = solve_stereo(
            pairs, board, visible.camera, thermal.camera, working_distance_m=1.0,
            sightings={v.name: Sighting.of(v.name, v.found_visible, v.found_thermal) for v in usable},
        )  # fmt: skip
    except BadInputError:
        return None
    distance_m = working_distance_m or propose_working_distance_m(stereo.rig)
    rig = replace(stereo.rig, working_distance_m=distance_m)
    kept = [pair for pair in pairs if pair.name in stereo.view_rms_px]
    middle = board.object_points().mean(axis=0)
    depths = [float((cv2.Rodrigues(pose[:3])[0] @ middle + pose[3:])[2]) for pose in stereo.bundle.poses]
    board_m = float(np.median(depths))
    two_sigma = predicted_two_sigma_px(stereo.bundle, rig)
    planner = Planner(stereo.bundle, rig, board)
    counts = {
        "visible": coverage([pair.visible_px for pair in kept], rig, "visible", board_m),
        "thermal": coverage([pair.thermal_px for pair in kept], rig, "thermal", board_m),
    }
    uncovered = min(covered_share(count) for count in counts.values()) < MIN_COVERAGE + COVERAGE_MARGIN
    return Assessment(
        counts["visible"],
        counts["thermal"],
        float(np.nanmax(two_sigma)) if np.isfinite(two_sigma).any() else float("inf"),
        len(kept),
        planner.reached,
        reached_share(rig, board_m),
        planner.advise(counts, board_m, uncovered),
    )
