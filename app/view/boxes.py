"""Draws the boxes of a detector into a picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from fusion_core.frames import Detection

__all__ = ["boxed", "draw_boxes"]

_COLOUR = (40, 230, 120)  # RGB: in no thermal palette, and far from the red of a recording
_DARK = (10, 20, 14)


def boxed(picture: np.ndarray, detections: Sequence[Detection]) -> np.ndarray:
    """The picture with its boxes, (H, W, 3) uint8 RGB; itself where there are none.

    Args:
        picture: (H, W, 3) or (H, W) uint8.
    """
    if not detections:
        return picture
    copy = picture.copy() if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    draw_boxes(copy, detections)
    return copy


def draw_boxes(
    target: np.ndarray,
    detections: Sequence[Detection],
    scale: tuple[float, float] = (1.0, 1.0),
    origin: tuple[float, float] = (0.0, 0.0),
    colour: tuple[int, ...] = _COLOUR,
    dark: tuple[int, ...] = _DARK,
) -> None:
    """Draw into a writable (H, W, 3 or 4) uint8 picture.

    Args:
        scale, origin: (y, x): pixels of the target to a pixel of the visible grid, and where that grid's origin lies.
    """
    for each in detections:
        top, bottom = (round(side * scale[0] + origin[0]) for side in (each.top, each.bottom))
        left, right = (round(side * scale[1] + origin[1]) for side in (each.left, each.right))
        cv2.rectangle(target, (left, top), (right, bottom), dark, 4)
        cv2.rectangle(target, (left, top), (right, bottom), colour, 2)
        text = f"{each.label} {each.confidence:.0%}"
        (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        base = top - 5 if top - tall - 8 >= 0 else min(bottom + tall + 5, target.shape[0] - 3)
        cv2.rectangle(target, (left - 1, base - tall - 3), (left + wide + 4, base + 4), dark, cv2.FILLED)
        cv2.putText(target, text, (left + 2, base), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
