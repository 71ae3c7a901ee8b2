"""Pairs of board pictures, and what was found in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import BoardNotFoundError, Detection, Rung, detect_board, match_orders

__all__ = ["BoardView", "detect_views", "overlay", "rung_of"]


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
    """Look for the board in each pair of (name, visible RGB, thermal counts); numbering settled between the two.

    Never raises for a picture without a board: the reason is in the view.
    """
    views = []
    first_visible: Rung | None = None
    first_thermal: Rung | None = None
    for name, visible, thermal in pictures:
        found: dict[str, Detection | None] = {"visible": None, "thermal": None}
        why = {"visible": "", "thermal": ""}
        for side, image, first in (("visible", visible, first_visible), ("thermal", thermal, first_thermal)):
            try:
                found[side] = detect_board(
                    image, board, polarity="normal" if side == "visible" else "unknown", first=first
                )
            except BoardNotFoundError as error:
                why[side] = str(error)
        seen_visible, seen_thermal = found["visible"], found["thermal"]
        if seen_visible is not None and seen_thermal is not None:
            seen_visible, seen_thermal = match_orders(seen_visible, seen_thermal, roll_deg)
        first_visible = rung_of(seen_visible) or first_visible
        first_thermal = rung_of(seen_thermal) or first_thermal
        views.append(BoardView(name, visible, thermal, seen_visible, seen_thermal, why["visible"], why["thermal"]))
        if progress is not None:
            marks = ["found" if detection is not None else "not found" for detection in (seen_visible, seen_thermal)]
            progress(f"{name}: visible {marks[0]}, thermal {marks[1]}")
    return views


def rung_of(detection: Detection | None) -> Rung | None:
    """The rung that a detection came from, to be tried first on the next picture."""
    if detection is None:
        return None
    words = detection.rung.replace(" inverted", "").split(" x")
    if len(words) != 2:
        return None
    return Rung(words[0], " inverted" in detection.rung, float(words[1]))  # type: ignore[arg-type]


def overlay(view: BoardView, side: str, width: int = 480) -> np.ndarray:
    """The picture with the found points drawn, (h, width, 3) uint8 RGB: first points red, last violet.

    Joined in order.
    """
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
