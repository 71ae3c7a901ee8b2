"""Choose calibration views from a stream of pictures: the board found in both, still, sharp, and a new pose.

Say what is missing.

No thread and no camera: feed it pairs, it answers. The command line and the assistant window both sit on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import BoardNotFoundError, Detection, Rung, detect_board, match_orders
from calibration.solve import COVERAGE_CELLS, MIN_GOOD_VIEWS, BoardView, rung_of

__all__ = ["CaptureGuide", "CaptureVerdict"]

TARGET_VIEWS = 20
QUICK_RUNGS = 4
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
_PLACES = (("top left", "top", "top right"), ("left", "middle", "right"), ("bottom left", "bottom", "bottom right"))


@dataclass(frozen=True, slots=True, eq=False)
class CaptureVerdict:
    """accepted: this pair was kept. reason: why or why not. guidance: what to do next. view: what was found."""

    accepted: bool
    reason: str
    guidance: str
    view: BoardView


class CaptureGuide:
    """Keeps still, sharp, new views. Not thread-safe.

    Args:
        require_still: compare with the picture before (streams); False for folders of single pictures.
    """

    def __init__(
        self, board: Board, *, require_still: bool = True, roll_deg: float = 0.0, target: int = TARGET_VIEWS
    ) -> None:
        self._board, self._require_still, self._roll_deg, self._target = board, require_still, roll_deg, target
        self.accepted: list[BoardView] = []
        self._poses: list[np.ndarray] = []
        self._before: Detection | None = None
        self._sharpest = 0.0
        self._first: dict[str, Rung | None] = {"visible": None, "thermal": None}
        self._cells = np.zeros((COVERAGE_CELLS, COVERAGE_CELLS), int)

    @property
    def done(self) -> bool:
        """Whether there are enough views and the picture is well covered."""
        return len(self.accepted) >= self._target or (len(self.accepted) >= MIN_GOOD_VIEWS and self.coverage >= 0.9)

    @property
    def coverage(self) -> float:
        """Share of the thermal picture's 6x6 cells in which a board point was seen."""
        return float((self._cells > 0).mean())

    @property
    def cells(self) -> np.ndarray:
        """(6, 6) int, board points per cell of the thermal picture."""
        return self._cells.copy()

    def offer(self, name: str, visible: np.ndarray, thermal: np.ndarray) -> CaptureVerdict:
        """Judge one pair: visible (H, W, 3) uint8 RGB, thermal (Ht, Wt) uint8 or uint16."""
        found: dict[str, Detection | None] = {"visible": None, "thermal": None}
        why = {"visible": "", "thermal": ""}
        for side, image in (("visible", visible), ("thermal", thermal)):
            try:
                found[side] = detect_board(
                    image,
                    self._board,
                    polarity="normal" if side == "visible" else "unknown",
                    first=self._first[side],
                    max_rungs=QUICK_RUNGS,
                )
                self._first[side] = rung_of(found[side]) or self._first[side]
            except BoardNotFoundError as error:
                why[side] = str(error)
        in_visible, in_thermal = found["visible"], found["thermal"]
        if in_visible is not None and in_thermal is not None:
            in_visible, in_thermal = match_orders(in_visible, in_thermal, self._roll_deg)
        view = BoardView(name, visible, thermal, in_visible, in_thermal, why["visible"], why["thermal"])
        reason = self._objection(view)
        self._before = in_visible
        if reason:
            return CaptureVerdict(False, reason, self.guidance(), view)
        assert in_visible is not None and in_thermal is not None  # by _objection
        self.accepted.append(view)
        self._poses.append(_pose(in_visible, self._board))
        height, width = in_thermal.size
        column = np.clip((in_thermal.points_px[:, 0] * COVERAGE_CELLS / width).astype(int), 0, COVERAGE_CELLS - 1)
        row = np.clip((in_thermal.points_px[:, 1] * COVERAGE_CELLS / height).astype(int), 0, COVERAGE_CELLS - 1)
        np.add.at(self._cells, (row, column), 1)
        return CaptureVerdict(True, f"view {len(self.accepted)} kept", self.guidance(), view)

    def guidance(self) -> str:
        """One sentence: what the next view should be."""
        count = len(self.accepted)
        if self.done:
            return f"Enough: {count} views, {self.coverage:.0%} of the thermal picture covered. Solve now."
        coarse = self._cells.reshape(3, COVERAGE_CELLS // 3, 3, COVERAGE_CELLS // 3).sum(axis=(1, 3))
        row, column = np.unravel_index(int(coarse.argmin()), coarse.shape)
        poses = np.array(self._poses).reshape(-1, 5)
        place = _PLACES[int(row)][int(column)]
        text = f"{count} of {self._target} views. Bring the board to the {place} of the thermal picture"
        wanted = _wanted(poses) if count >= 3 else ""
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
            if before is None or len(before.ids) != len(view.found_visible.ids):
                return "hold still"
            motion = float(np.median(np.linalg.norm(before.points_px - view.found_visible.points_px, axis=1)))
            if motion > MAX_MOTION_PX * view.visible.shape[1] / 640:
                return f"moving ({motion:.1f} px a picture), hold still"
        if sharpness < MIN_SHARPNESS * self._sharpest:
            return "blurred"
        pose = _pose(view.found_visible, self._board)
        if self._poses and min(float(np.linalg.norm(pose - other)) for other in self._poses) < MIN_NEWNESS:
            return "much like a view that is kept already"
        return ""


def _wanted(poses: np.ndarray) -> str:
    """What the poses (n, 5) lack. Tilts about both axes and to both sides are what tells a turned camera from a moved
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
