"""Finds a board in pairs of pictures, and keeps what was found in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import Board
from calibration.board_transfer import Likeness, complete, transfer_board
from calibration.detect import BoardNotFoundError, Detection, Rung, detect_board, match_orders

__all__ = ["BoardView", "PairDetector", "detect_views", "overlay", "rung_of"]


KNOWN_RUNGS = 3  # preparations that worked, tried first: near and far boards want different ones
CARRIED_FROM = 0.6  # of the board's points
SEARCH_EVERY = 4  # misses of a stream: then all scales and turns are tried again


@dataclass(frozen=True, slots=True, eq=False)
class BoardView:
    """One pair of pictures and what was found in each; an empty reason means found."""

    name: str
    visible: np.ndarray
    thermal: np.ndarray
    found_visible: Detection | None
    found_thermal: Detection | None
    why_not_visible: str = ""
    why_not_thermal: str = ""


def detect_views(
    pictures: Iterable[tuple[str, np.ndarray, np.ndarray]],
    board: Board,
    *,
    roll_deg: float = 0.0,
    progress: Callable[[str], None] | None = None,
) -> list[BoardView]:
    """Look for the board in each pair of (name, visible RGB, thermal counts), and settle the numbering of the two.

    Never raises for a picture without a board: the view holds the reason.
    """
    views = []
    detector = PairDetector(board, roll_deg=roll_deg)
    for name, visible, thermal in pictures:
        view = detector.look(name, visible, thermal)
        views.append(view)
        if progress is not None:
            marks = ["found" if seen is not None else "not found" for seen in (view.found_visible, view.found_thermal)]
            progress(f"{name}: visible {marks[0]}, thermal {marks[1]}")
    return views


class PairDetector:
    """Finds a board in both pictures of a pair, numbered alike, and tries first what worked on the pair before.

    Where one camera alone can read a board of markers, the other's picture is searched for the look of the board
    (`calibration.board_transfer`).

    Args:
        max_rungs: preparations to try on one picture; 0: all. Pictures of a stream then share the ladder.
    """

    def __init__(self, board: Board, *, roll_deg: float = 0.0, max_rungs: int = 0) -> None:
        self._board, self._roll_deg, self._max_rungs = board, roll_deg, max_rungs
        self._first: dict[str, list[Rung]] = {"visible": [], "thermal": []}
        self._misses = {"visible": 0, "thermal": 0}
        self._likeness: dict[str, Likeness | None] = {"visible": None, "thermal": None}
        self._not_carried = 0

    def look(self, name: str, visible: np.ndarray, thermal: np.ndarray) -> BoardView:
        """Visible (H, W, 3) uint8 RGB, thermal (Ht, Wt) counts. Where nothing is found, the view holds the reason."""
        pictures = {"visible": visible, "thermal": thermal}
        found: dict[str, Detection | None] = {"visible": None, "thermal": None}
        why = {"visible": "", "thermal": ""}
        for side, image in pictures.items():
            try:
                seen = detect_board(
                    image,
                    self._board,
                    polarity="normal" if side == "visible" else "unknown",
                    first=self._first[side],
                    max_rungs=self._max_rungs,
                    skip=self._misses[side] * max(1, self._max_rungs - len(self._first[side])),
                )
                self._misses[side] = 0
                rung = rung_of(seen)
                if rung is not None:
                    others = [known for known in self._first[side] if known != rung]
                    self._first[side] = [rung, *others][:KNOWN_RUNGS]
                if self._board.identified and len(seen.ids) < len(self._board.object_points()):
                    seen = complete(image, self._board, seen)
                found[side] = seen
            except BoardNotFoundError as error:
                why[side] = str(error)
                self._misses[side] += 1
        if self._board.identified:
            self._carry(pictures, found, why)
        in_visible, in_thermal = found["visible"], found["thermal"]
        if in_visible is not None and in_thermal is not None:
            in_visible, in_thermal = match_orders(in_visible, in_thermal, self._roll_deg)
        return BoardView(name, visible, thermal, in_visible, in_thermal, why["visible"], why["thermal"])

    def _carry(self, pictures: dict[str, np.ndarray], found: dict[str, Detection | None], why: dict[str, str]) -> None:
        for side, other, roll_deg in (
            ("thermal", "visible", self._roll_deg),
            ("visible", "thermal", -self._roll_deg),
        ):
            read = found[other]
            if found[side] is not None or read is None:
                continue
            if len(read.ids) < CARRIED_FROM * len(self._board.object_points()):
                continue
            known = self._likeness[side]
            again = self._not_carried % SEARCH_EVERY == SEARCH_EVERY - 1
            tries = [known] if known is None or (self._max_rungs and not again) else [known, None]
            for first in tries:
                try:
                    found[side], self._likeness[side] = transfer_board(
                        pictures[side], self._board, read, roll_deg=roll_deg, first=first
                    )
                except BoardNotFoundError as error:
                    reason = str(error)
                else:
                    why[side] = ""
                    self._not_carried = 0
                    break
            else:
                why[side] += f"; by the {other} picture: {reason}"
                self._not_carried += 1


def rung_of(detection: Detection | None) -> Rung | None:
    """The rung that a detection came from, to be tried first on the next picture."""
    if detection is None:
        return None
    words = detection.rung.replace(" inverted", "").split(" x")
    if len(words) != 2:
        return None
    return Rung(words[0], " inverted" in detection.rung, float(words[1]))  # type: ignore[arg-type]


def overlay(view: BoardView, side: str, width: int = 480) -> np.ndarray:
    """Draw the found points, joined in order, (h, width, 3) uint8 RGB: first points red, last violet."""
    image = view.visible if side == "visible" else view.thermal
    detection = view.found_visible if side == "visible" else view.found_thermal
    if image.ndim == 2:
        low, high = np.percentile(image, (1, 99))
        grey = np.clip((image.astype(np.float32) - low) * (255 / max(float(high - low), 1e-6)), 0, 255).astype(np.uint8)
        image = np.repeat(grey[..., None], 3, axis=2)
    scale = width / image.shape[1]
    picture = cv2.resize(image, (width, round(image.shape[0] * scale)), interpolation=cv2.INTER_AREA)
    if detection is None:
        return np.asarray(picture)
    points = np.rint((detection.points_px + 0.5) * scale - 0.5).astype(int)
    hues = np.linspace(0, 140, len(points)).astype(np.uint8)
    colours = cv2.cvtColor(
        np.stack([hues, np.full_like(hues, 255), np.full_like(hues, 255)], -1)[None], cv2.COLOR_HSV2RGB
    )[0]
    for index, (x, y) in enumerate(points):
        colour = tuple(int(c) for c in colours[index])
        if index:
            cv2.line(picture, tuple(map(int, points[index - 1])), (int(x), int(y)), colour, 1, cv2.LINE_AA)
        cv2.circle(picture, (int(x), int(y)), 3, colour, 1, cv2.LINE_AA)
    return np.asarray(picture)
