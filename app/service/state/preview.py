"""Small JPEG pictures of what is going on, encoded once for all who look."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from app.pipeline.state.latest_slot import LatestSlot
from app.view.boxes import boxed
from fusion_core.errors import RunError
from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PICTURES", "Preview", "picture_of"]

PICTURES: Final = ("fused", "visible", "thermal")
_QUALITY: Final = 75


def picture_of(frame: FusedFrame, name: str) -> np.ndarray | None:
    """(H, W, 3) or (H, W) uint8: fused, visible, or thermal after AGC, with boxes; None when this frame has none."""
    picture = frame.thermal_8bit
    if name == "fused":
        picture = frame.pixels
    elif name == "visible":
        picture = frame.pair.visible.pixels if frame.pair.visible is not None else None
    return None if picture is None else boxed(picture, frame.detections)


class Preview:
    """Makes previews. Thread-safe; one encoding at a time, kept until there is a newer picture and `fps` allows it."""

    def __init__(
        self,
        latest: LatestSlot[FusedFrame],
        width: int,
        fps: float,
        shown: Callable[[FusedFrame], None] = lambda frame: None,
    ) -> None:
        self._latest, self._width, self._period_s, self._shown = latest, width, 1 / fps, shown
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[int, float, bytes]] = {}
        self._told = 0

    def jpeg(self, name: str) -> tuple[int, bytes]:
        """(number of the picture, JPEG).

        Raises:
            RunError: there is no such picture now.
        """
        with self._lock:
            sequence, now_s = self._latest.sequence, time.monotonic()
            kept = self._kept.get(name)
            if kept is not None and (kept[0] == sequence or now_s - kept[1] < self._period_s):
                return kept[0], kept[2]
            frame = self._latest.peek()
            pixels = picture_of(frame, name) if frame is not None else None
            if frame is None or pixels is None:
                self._kept.pop(name, None)
                raise RunError(f"there is no {name} picture now")
            data = _encode(pixels, self._width)
            self._kept[name] = (sequence, now_s, data)
            new, self._told = sequence > self._told, max(sequence, self._told)
        if new:
            self._shown(frame)
        return sequence, data


def _encode(pixels: np.ndarray, width: int) -> bytes:
    if pixels.shape[1] > width:
        height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
    if pixels.ndim == 3:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    done, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not done:
        raise RunError("the preview could not be encoded")
    return bytes(data.tobytes())
