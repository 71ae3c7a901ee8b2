"""Chooses calibration views from a stream of pictures, and says what is missing.

A view must have the board in both pictures, still, sharp, and in a new pose. While the board is then held on, its
pictures are averaged: noise in thermal is what limits a calibration.

It has no thread and no camera: feed it pairs, it answers. The command line and the assistant window both use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calibration.assess import Assessment, assess
from calibration.board import Board
from calibration.detect import Detection
from calibration.held_view import HeldView
from calibration.pose_planner import PLACES
from calibration.shared_field import COVERAGE_CELLS
from calibration.views import BoardView, PairDetector

__all__ = ["CaptureGuide", "CaptureVerdict"]

TARGET_VIEWS = 20
QUICK_RUNGS = 7
ASSESSED_FROM = 8  # views
MAX_MOTION_PX = 1.0  # per picture, at 640 px across
MIN_SHARPNESS = 0.45  # of the sharpest board so far
MIN_NEWNESS = 0.10
MIN_LEAN = 0.15  # some 15 degrees at the usual distances
_TILTS = (
    (3, 1, "its right edge turned away by about 30 degrees"),
    (3, -1, "its left edge turned away by about 30 degrees"),
    (4, 1, "its lower edge tipped away by about 30 degrees"),
    (4, -1, "its upper edge tipped away by about 30 degrees"),
)


@dataclass(frozen=True, slots=True, eq=False)
class CaptureVerdict:
    """accepted: this pair was kept. reason: why or why not. guidance: what to do next. view: what was found.

    improved: this pair was averaged into the view kept last; `view` is that view, under its first name.
    """

    accepted: bool
    reason: str
    guidance: str
    view: BoardView
    improved: bool = False


class CaptureGuide:
    """Keeps still, sharp, new views. Not thread-safe.

    Args:
        require_still: compare with the picture before (streams); False for folders of single pictures.
        target: how many views to keep. exactly: True stops at the target. False judges the views too: it may stop
            from 12 views on, and goes on to twice the target while the common field is not covered, or rotation and
            homography are not known as exactly as `calibration.pose_planner` wants.
        working_distance_m: where the alignment is to be exact; 0: near to horizon, as `solve_views` proposes.
    """

    def __init__(
        self,
        board: Board,
        *,
        require_still: bool = True,
        roll_deg: float = 0.0,
        target: int = TARGET_VIEWS,
        exactly: bool = True,
        working_distance_m: float = 0.0,
    ) -> None:
        self._distance_m = working_distance_m
        self._board, self._require_still, self._roll_deg, self._target = board, require_still, roll_deg, target
        self._exactly = exactly
        self._detector = PairDetector(board, roll_deg=roll_deg, max_rungs=QUICK_RUNGS)
        self.assessment: Assessment | None = None
        self.accepted: list[BoardView] = []
        self._poses: list[np.ndarray] = []
        self._before: Detection | None = None
        self._held: HeldView | None = None
        self._sharpest = 0.0
        self._cells = np.zeros((COVERAGE_CELLS, COVERAGE_CELLS), int)

    @property
    def done(self) -> bool:
        """Whether there are enough views, and the last one is averaged like the others."""
        most = self._target if self._exactly else 2 * self._target
        if len(self.accepted) >= most:
            return self._held is None
        return not self._exactly and self.assessment is not None and self.assessment.enough

    @property
    def short(self) -> str:
        """Say what the views do not reach; "" when nothing is known to be missing."""
        return self.assessment.lacking if self.assessment is not None else ""

    @property
    def coverage(self) -> float:
        """Share of the cells in which a board point was seen: of the field that both cameras share, once the views tell
        it, else of the thermal picture."""
        if self.assessment is not None:
            return self.assessment.covered
        return float((self._cells > 0).mean())

    @property
    def cells(self) -> np.ndarray:
        """(6, 6) int, board points per cell of the thermal picture."""
        return self._cells.copy()

    def offer(self, name: str, visible: np.ndarray, thermal: np.ndarray) -> CaptureVerdict:
        """Judge one pair: visible (H, W, 3) uint8 RGB, thermal (Ht, Wt) uint8 or uint16."""
        if self._held is not None:
            if self._held.takes(visible, thermal):
                self.accepted[-1] = kept = self._held.view()
                self._before = kept.found_visible
                reason = f"held still, {self._held.count} pictures averaged"
                if self._held.full:
                    reason += ", enough of this pose"
                    self._end_hold()
                return CaptureVerdict(False, reason, self.guidance(), self.accepted[-1], improved=True)
            self._end_hold()
            if self.done:
                return CaptureVerdict(False, "enough views", self.guidance(), self.accepted[-1], improved=True)
        view = self._detector.look(name, visible, thermal)
        reason = self._objection(view)
        self._before = view.found_visible
        if reason:
            return CaptureVerdict(False, reason, self.guidance(), view)
        assert view.found_visible is not None and view.found_thermal is not None  # by _objection
        self.accepted.append(view)
        self._poses.append(_pose(view.found_visible, self._board))
        height, width = view.found_thermal.size
        points = view.found_thermal.points_px
        column = np.clip((points[:, 0] * COVERAGE_CELLS / width).astype(int), 0, COVERAGE_CELLS - 1)
        row = np.clip((points[:, 1] * COVERAGE_CELLS / height).astype(int), 0, COVERAGE_CELLS - 1)
        np.add.at(self._cells, (row, column), 1)
        if self._require_still:
            self._held = HeldView(view, self._board)
        else:
            self._assess()
        return CaptureVerdict(True, f"view {len(self.accepted)} kept", self.guidance(), view)

    def _end_hold(self) -> None:
        """End the held view: the board was taken away, or enough pictures of it are there."""
        assert self._held is not None
        self.accepted[-1] = self._held.view(final=True)
        self._held = None
        self._assess()

    def _assess(self) -> None:
        if len(self.accepted) >= ASSESSED_FROM:
            self.assessment = assess(self.accepted, self._board, self._distance_m) or self.assessment

    @property
    def covered_field(self) -> str:
        """What `coverage` is a share of, in words."""
        return "of the thermal picture" if self.assessment is None else "of the common field in the thermal picture"

    def guidance(self) -> str:
        """Say in one sentence what the next view should be."""
        count = len(self.accepted)
        if self.done:
            enough = f"{count} views, {self.coverage:.0%} {self.covered_field} covered"
            if self.short and not self._exactly:
                return f"That is as many as are of use: {enough}, but {self.short}. Solve now."
            return f"Enough: {enough}. Solve now."
        text = f"{count} of {self._target} views"
        if self.assessment is not None and self.short:
            text = f"{count} views, {self.short}" + ("" if count < self._target else ": go on")
        if self.assessment is not None and self.assessment.advice is not None:
            return f"{text}. {self.assessment.advice.text}."
        cells = self._cells if self.assessment is None else self.assessment.coverage_thermal
        coarse = _coarse(cells)
        row, column = np.unravel_index(int(coarse.argmin()), coarse.shape)
        poses = np.array(self._poses).reshape(-1, 5)
        place = PLACES[int(row)][int(column)]
        wanted = _wanted(poses) if count >= 3 else ""
        text += f". Bring the board to the {place} {self.covered_field}"
        return text + (f", {wanted}." if wanted else ".")

    def _objection(self, view: BoardView) -> str:
        if view.found_visible is None or view.found_thermal is None:
            sides = [
                side
                for side, found in (("visible", view.found_visible), ("thermal", view.found_thermal))
                if found is None
            ]
            return f"no board in the {' and the '.join(sides)} picture"
        sharpness = _sharpness(view.visible, view.found_visible)
        self._sharpest = max(self._sharpest * 0.995, sharpness)
        if self._require_still:
            before = self._before
            now = view.found_visible
            if before is None:
                return "hold still"
            _, then, again = np.intersect1d(before.ids, now.ids, return_indices=True)
            if len(then) < 0.9 * max(len(before.ids), len(now.ids)):
                return "hold still"
            motion = float(np.median(np.linalg.norm(before.points_px[then] - now.points_px[again], axis=1)))
            if motion > MAX_MOTION_PX * view.visible.shape[1] / 640:
                return f"moving ({motion:.1f} visible px a picture), hold still"
        if sharpness < MIN_SHARPNESS * self._sharpest:
            return "blurred"
        pose = _pose(view.found_visible, self._board)
        if self._poses and min(float(np.linalg.norm(pose - other)) for other in self._poses) < MIN_NEWNESS:
            return "much like a view that is kept already"
        return ""


def _coarse(cells: np.ndarray) -> np.ndarray:
    """(3, 3) points in each ninth; where the other camera does not see, as many as anywhere."""
    ninths = cells.reshape(3, COVERAGE_CELLS // 3, 3, COVERAGE_CELLS // 3)
    seen = (ninths >= 0).sum(axis=(1, 3))
    points = np.maximum(ninths, 0).sum(axis=(1, 3))
    empty = (ninths == 0).sum(axis=(1, 3))
    return np.where(seen == 0, np.inf, points / np.maximum(seen, 1) - 1000.0 * empty)


def _wanted(poses: np.ndarray) -> str:
    """Say what the poses (n, 5) lack. Tilts about both axes and to both sides tell a turned camera from a moved
    principal point; near and far boards tell a focal length from a distance."""
    for axis, sign, words in _TILTS:
        if (sign * poses[:, axis]).max() < MIN_LEAN:
            return words
    return "nearer or farther than before" if poses[:, 2].max() < 1.4 * poses[:, 2].min() else ""


def _pose(detection: Detection, board: Board) -> np.ndarray:
    """(5,) where the board is (0..1), how large, and how its perspective leans: enough to tell poses apart."""
    height, width = detection.size
    scale = max(board.extent_m)
    H, _ = cv2.findHomography(board.object_points()[detection.ids, :2] / scale, detection.points_px / width)
    centre = detection.points_px.mean(axis=0) / np.array([width, height])
    size = float(np.sqrt(abs(np.linalg.det(H[:2, :2])))) if H is not None else 0.0
    lean = H[2, :2] if H is not None else np.zeros(2)
    return np.array([centre[0], centre[1], size, 1.5 * lean[0], 1.5 * lean[1]])


def _sharpness(image: np.ndarray, detection: Detection) -> float:
    """Strong gradients on the board per contrast, independent of its size."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    low, high = detection.points_px.min(axis=0).astype(int), detection.points_px.max(axis=0).astype(int) + 1
    patch = grey[max(0, low[1]) : high[1], max(0, low[0]) : high[0]].astype(np.float32)
    if patch.size < 100:
        return 0.0
    gradient = np.hypot(cv2.Sobel(patch, cv2.CV_32F, 1, 0), cv2.Sobel(patch, cv2.CV_32F, 0, 1))
    return float(np.percentile(gradient, 97) / (np.percentile(patch, 95) - np.percentile(patch, 5) + 1e-6))
