"""Averages pictures of a board that is held still: noise in thermal is what limits a calibration.

The board's points are followed from the first picture (Lucas and Kanade, 1981) instead of found anew, so that every
picture of a stream can be taken. In the end the points are fitted to the mean.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import BoardNotFoundError, Detection, detect_board, to_grey
from calibration.refine import refine_points
from calibration.views import BoardView, rung_of

__all__ = ["MAX_AVERAGED", "HeldView"]

MAX_AVERAGED = 16  # pictures of one pose: a quarter of the noise; what all of them share then counts as much
MAX_MOTION_PX = 0.3  # from the first picture, at 640 px across
OWN_NOISE_PX = 0.05  # of how the points followed move as a whole
MIN_LIKENESS = 0.6  # correlation with the first picture of the board; another thing, or no board, has less
FOLLOWED = 60  # points


class HeldView:
    """A kept view, and the mean of the pictures in which the board stayed where it was."""

    def __init__(self, view: BoardView, board: Board) -> None:
        assert view.found_visible is not None and view.found_thermal is not None  # it was accepted
        self._first, self._board = view, board
        self._sums = [view.visible.astype(np.float32), view.thermal.astype(np.float32)]
        self._still = [_Still(view.visible, view.found_visible), _Still(view.thermal, view.found_thermal)]
        self._found = (view.found_visible, view.found_thermal)
        self._fitted = 1
        self.count = 1

    @property
    def full(self) -> bool:
        """Whether there are enough pictures of this pose."""
        return self.count >= MAX_AVERAGED

    def takes(self, visible: np.ndarray, thermal: np.ndarray) -> bool:
        """Add the pictures if they show this pose and are of use; returns whether they did."""
        pictures = (visible, thermal)
        if self.full or not all(still.holds(picture) for still, picture in zip(self._still, pictures, strict=True)):
            return False
        for total, picture in zip(self._sums, pictures, strict=True):
            total += picture
        self.count += 1
        return True

    def view(self, final: bool = False) -> BoardView:
        """The mean, and the points in it, which are fitted anew at four pictures and at the end."""
        means = tuple(
            np.rint(total / self.count).astype(picture.dtype)
            for total, picture in zip(self._sums, (self._first.visible, self._first.thermal), strict=True)
        )
        if self.count > self._fitted and (final or self.full or self.count >= 4 * self._fitted):
            self._found = tuple(  # type: ignore[assignment]
                self._fit(total / self.count, mean, found, final or self.full)
                for total, mean, found in zip(self._sums, means, self._found, strict=True)
            )
            self._fitted = self.count
        return replace(
            self._first, visible=means[0], thermal=means[1], found_visible=self._found[0], found_thermal=self._found[1]
        )

    def _fit(self, mean: np.ndarray, picture: np.ndarray, found: Detection, final: bool) -> Detection:
        if final and self._board.identified and len(found.ids) < len(self._board.object_points()):
            try:  # less noise may let more markers be read
                again = detect_board(
                    picture, self._board, first=[rung for rung in (rung_of(found),) if rung is not None]
                )
            except BoardNotFoundError:
                again = found
            if len(again.ids) > len(found.ids) and set(found.ids) <= set(again.ids):
                return again
        return replace(found, points_px=refine_points(to_grey(mean), found.points_px, found.ids, self._board))


class _Still:
    """Follows a board's points from its first picture."""

    def __init__(self, picture: np.ndarray, found: Detection) -> None:
        rim = 0.08 * float(np.ptp(found.points_px, axis=0).max()) + 4
        low = np.maximum(found.points_px.min(axis=0) - rim, 0).astype(int)
        high = np.minimum(found.points_px.max(axis=0) + rim + 1, found.size[::-1]).astype(int)
        self._part = slice(low[1], high[1]), slice(low[0], high[0])
        every = max(1, len(found.points_px) // FOLLOWED)
        self._points = np.ascontiguousarray((found.points_px[::every] - low).astype(np.float32).reshape(-1, 1, 2))
        self._size = found.size
        self._limit_px = MAX_MOTION_PX * found.size[1] / 640 + OWN_NOISE_PX
        self._window = int(np.clip(0.12 * float(np.ptp(found.points_px, axis=0).max()), 9, 31)) | 1
        self._flat = self._flattened(picture)
        low_value, high_value = np.percentile(self._flat, (1, 99))
        self._gain, self._offset = 255.0 / max(float(high_value - low_value), 1e-6), float(low_value)
        self._before = self._bytes(self._flat)

    def holds(self, picture: np.ndarray) -> bool:
        """Whether the board is where it was."""
        if picture.shape[:2] != self._size:
            return False
        flat = self._flattened(picture)
        spread = float(flat.std() * self._flat.std())
        if spread <= 0 or float((flat * self._flat).mean() - flat.mean() * self._flat.mean()) < MIN_LIKENESS * spread:
            return False
        window = (self._window, self._window)
        moved, status, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]
            self._before, self._bytes(flat), self._points, None, winSize=window, maxLevel=2
        )
        there = status.reshape(-1) == 1
        if there.sum() < 0.5 * len(there):
            return False
        before, now = (points.reshape(-1, 2)[there].astype(np.float64) for points in (self._points, moved))
        return _moved_px(before, now) <= self._limit_px

    def _flattened(self, picture: np.ndarray) -> np.ndarray:
        """(h, w) float32: the board without its level and its finest noise."""
        grey = to_grey(picture[self._part])
        broad = max(9, self._window * 2 + 1)
        return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.blur(grey, (broad, broad)), np.float32)

    def _bytes(self, flat: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip((flat - self._offset) * self._gain, 0, 255), np.uint8)


def _moved_px(before: np.ndarray, now: np.ndarray) -> float:
    """rms px by which (N, 2) points have moved as a whole, by a similarity, so that their noise does not count."""
    z, w = (points[:, 0] + 1j * points[:, 1] for points in (before - before.mean(axis=0), now - before.mean(axis=0)))
    trust = np.ones(len(z))
    a, b = 1.0 + 0j, 0j
    for _ in range(3):
        A = np.stack([z, np.ones_like(z)], axis=1) * trust[:, None]
        a, b = np.linalg.lstsq(A, w * trust, rcond=None)[0]
        off = np.abs(w - a * z - b)
        trust = np.minimum(1.0, 2.0 * np.median(off) / np.maximum(off, 1e-9))
    return float(np.sqrt(np.mean(np.abs(a * z + b - z) ** 2)))
