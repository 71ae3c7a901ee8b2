"""Finds the thermal camera's shutter correction (FFC) in its pictures: they freeze, or all pixels jump together.

A pure detector of one stream: `FfcDetector.mark` flags frames, `PairMatcher` holds the last good one in their place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fusion_core.frames import Frame, FrameFlag

if TYPE_CHECKING:
    from app.capture.config import FfcConfig

__all__ = ["FfcDetector"]

_STEP: Final = 8  # every 8th pixel each way is looked at: 5120 of a 640x512 picture
_WINDOW_NS: Final = 200_000_000  # a joint jump may be spread over the frames of this long
_SHARED: Final = 0.9  # of the pixels must have moved in the direction of the jump


class FfcDetector:
    """Flags thermal frames during a shutter correction. Used by the thermal capture thread, in the order of the frames.

    Two signs: `repeated_frames` bit-identical frames in a row (a live sensor's noise never repeats), or a jump of the
    whole picture's level against some frame of the last 200 ms: the median change exceeds `jump_fraction` of the
    picture's spread and `jump_counts`, and 90 % of the pixels share its sign and at least half its size. A hot object
    that enters moves its own pixels only. Frames until `settle_ms` after the last sign are flagged too.
    """

    def __init__(self, config: FfcConfig) -> None:
        self._config = config
        self._last_pixels: np.ndarray | None = None
        self._repeats = 0
        self._history: list[tuple[int, np.ndarray]] = []  # (stamp, sampled pixels as float32) of the last 200 ms
        self._active_until_ns: int | None = None
        self.count = 0
        """Freezes so far."""

    @property
    def active(self) -> bool:
        """Whether the last frame was flagged."""
        return self._active_until_ns is not None

    def mark(self, frame: Frame) -> Frame:
        """Give the frame, flagged FFC if the shutter spoils it."""
        if not self._config.enabled or frame.pixels.ndim != 2:
            return frame
        sign = self._is_repeat(frame.pixels)
        if not sign:
            sign = self._is_joint_jump(frame)
        if sign:
            if self._active_until_ns is None:
                self.count += 1
            self._active_until_ns = frame.timestamp_ns + round(self._config.settle_ms * 1e6)
        elif self._active_until_ns is not None and frame.timestamp_ns >= self._active_until_ns:
            self._active_until_ns = None
        if self._active_until_ns is None:
            return frame
        return replace(frame, flags=frame.flags | FrameFlag.FFC)

    def _is_repeat(self, pixels: np.ndarray) -> bool:
        last, self._last_pixels = self._last_pixels, pixels
        same = last is not None and last.shape == pixels.shape and last.dtype == pixels.dtype
        if same and last is not None:
            # a sample first: two live frames differ within a few pixels, so the full comparison is rare
            same = np.array_equal(last[::_STEP, ::_STEP], pixels[::_STEP, ::_STEP]) and np.array_equal(last, pixels)
        self._repeats = self._repeats + 1 if same else 0
        return self._repeats + 1 >= self._config.repeated_frames and self._repeats > 0

    def _is_joint_jump(self, frame: Frame) -> bool:
        sample = frame.pixels[::_STEP, ::_STEP].astype(np.float32)
        history = [
            (time_ns, old)
            for time_ns, old in self._history
            if 0 < frame.timestamp_ns - time_ns <= _WINDOW_NS and old.shape == sample.shape
        ]
        low, high = np.percentile(sample, (5, 95))
        least = self._config.jump_counts * (0.1 if frame.pixels.dtype == np.uint8 else 1.0)
        limit = max(least, self._config.jump_fraction * float(high - low))
        found = False
        for _, old in history:
            change = sample - old
            median = float(np.median(change))
            if abs(median) >= limit and float(np.mean(change * np.sign(median) > abs(median) / 2)) >= _SHARED:
                found = True
                break
        # after a jump the new level is the normal one: compare only with frames that have it
        self._history = [(frame.timestamp_ns, sample)] if found else [*history, (frame.timestamp_ns, sample)]
        return found
