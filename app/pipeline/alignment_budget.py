"""The alignment budget: how far visible and thermal are apart where it matters, against what is tolerated.

Three parts add up, in pixels of the visible grid:
- parallax of the nearest object that matters, f B |1/Z - 1/Z0|, from the rig's geometry;
- skew x image motion: a panning rig shows two moments side by side;
- the residual shift between the two pictures, measured once a second and taken as a median over time.

A part that cannot be told is told so, with its reason; it never counts as zero in a green light.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from app.configuration.config import BudgetConfig
from app.pipeline.state.stats import BudgetLevel, BudgetReading
from fusion_core.errors import BadInputError
from fusion_core.shift import MAX_SHIFT_PX, estimate_shift

__all__ = ["AlignmentBudget", "MotionMeter", "ShiftMeter", "assess", "parallax_px"]

AMBER_SHARE = 0.75  # of the limit: up to here the light is green
_MOTION_WIDTH_PX = 160  # motion is measured on pictures reduced to about this width
_MOTION_EVERY_NS = 100_000_000  # ten measurements a second tell a pan; more would only cost
_MOTION_MEMORY_NS = 2_000_000_000
_MOTION_MIN_GAP_NS = 50_000_000  # between the two frames: over longer times a fraction of a pixel weighs less
_MOTION_MAX_GAP_NS = 200_000_000  # frames further apart do not tell a speed
_MOTION_CONTRAST = 1.0  # levels, standard deviation: a flatter picture has no structure to follow
_MOTION_RESPONSE = 0.1  # phase correlation below this has found nothing
_SKEW_MEMORY = 128  # pairs
_SHIFT_EVERY_NS = 1_000_000_000
_SHIFT_MEMORY_NS = 30_000_000_000
_SHIFT_NEEDED = 3  # reliable measurements before a shift is believed
_SHIFT_WIDTH_PX = 640  # larger pictures are reduced to this first
_SHIFT_MAX_SKEW_PX = 1.5  # while the picture moves more than this between the two moments, no shift is measured


def parallax_px(focal_px: float, baseline_m: float, distance_m: float, reference_distance_m: float) -> float:
    """Displacement of an object at `distance_m` when the pictures coincide at `reference_distance_m`."""
    return focal_px * baseline_m * abs(1.0 / distance_m - 1.0 / reference_distance_m)


def assess(
    limit_px: float,
    parallax: float | None,
    skew: float | None,
    residual: float | None,
    notes: tuple[str, ...] = (),
    shift: tuple[float, float] | None = None,
    motion_px_s: float | None = None,
) -> BudgetReading:
    """Put the parts (px, None = cannot tell) together. Red as soon as what is known exceeds the limit."""
    parts = (parallax, skew, residual)
    total = sum(part for part in parts if part is not None)
    if total > limit_px:
        level = BudgetLevel.RED
    elif None in parts:
        level = BudgetLevel.UNKNOWN
    elif total > AMBER_SHARE * limit_px:
        level = BudgetLevel.AMBER
    else:
        level = BudgetLevel.GREEN
    dx, dy = shift if shift is not None else (None, None)
    return BudgetReading(level, limit_px, total, parallax, skew, residual, dx, dy, motion_px_s, notes)


class MotionMeter:
    """Speed of the picture as a whole, px/s, from visible frames. Not thread-safe.

    Phase correlation of two frames that follow each other, on reduced pictures, ten times a second at most. A picture
    without structure gives no measurement. Objects that move on their own do not count: the meter sees the rig move.
    """

    def __init__(self) -> None:
        self._before: tuple[int, npt.NDArray[np.float32]] | None = None
        self._window: npt.NDArray[np.float32] | None = None
        self._next_ns: int | None = None
        self._speeds: deque[tuple[int, float]] = deque(maxlen=64)

    def observe(self, visible: npt.NDArray[np.uint8], timestamp_ns: int) -> None:
        """Look at one visible frame, (H, W, 3) or (H, W) uint8; frames come in the order of their time."""
        if self._before is not None and timestamp_ns - self._before[0] < _MOTION_MIN_GAP_NS:
            return
        if self._before is None and self._next_ns is not None and timestamp_ns < self._next_ns:
            return  # between two measurements nothing is touched
        small, factor = _reduced(visible, _MOTION_WIDTH_PX)
        picture = small.astype(np.float32)
        before, self._before = self._before, (timestamp_ns, picture)
        if before is None or before[1].shape != picture.shape or timestamp_ns - before[0] > _MOTION_MAX_GAP_NS:
            return
        if self._window is None or self._window.shape != picture.shape:
            height, width = picture.shape
            self._window = np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), dtype=np.float32)
        if picture.std() < _MOTION_CONTRAST:
            return
        (dx, dy), response = cv2.phaseCorrelate(before[1], picture, self._window)
        if response >= _MOTION_RESPONSE and math.isfinite(dx) and math.isfinite(dy):
            seconds = (timestamp_ns - before[0]) / 1e9
            self._speeds.append((timestamp_ns, math.hypot(dx, dy) * factor / seconds))
        self._before = None
        self._next_ns = timestamp_ns + _MOTION_EVERY_NS

    def speed_px_s(self, now_ns: int) -> float | None:
        """The fast end (90 %) of the last two seconds; None if nothing could be measured in them."""
        while self._speeds and self._speeds[0][0] < now_ns - _MOTION_MEMORY_NS:
            self._speeds.popleft()
        if not self._speeds:
            return None
        return float(np.percentile([speed for _, speed in self._speeds], 90))


@dataclass(frozen=True, slots=True)
class _Shift:
    time_ns: int
    dx_px: float
    dy_px: float
    reliable: bool


class ShiftMeter:
    """Residual shift of thermal against visible: the median of the reliable measurements of 30 s. Not thread-safe."""

    def __init__(self) -> None:
        self._shifts: deque[_Shift] = deque(maxlen=64)

    def measure(self, visible: npt.NDArray[np.uint8], thermal: npt.NDArray[np.uint8], timestamp_ns: int) -> None:
        """Measure one aligned pair: visible (H, W, 3) or (H, W) uint8, thermal (H, W) uint8. 10 to 30 ms at 640x512.

        Raises:
            BadInputError: the sizes differ, or a picture is no 8-bit picture of at least 16x16.
        """
        if visible.shape[:2] != thermal.shape[:2] or thermal.ndim != 2:
            raise BadInputError(
                f"visible is {visible.shape}, thermal {thermal.shape}; wanted thermal (H, W) on the visible grid"
            )
        luma, factor = _reduced(visible, _SHIFT_WIDTH_PX)
        heat, _ = _reduced(thermal, _SHIFT_WIDTH_PX)
        found = estimate_shift(luma, heat, max(1, math.ceil(MAX_SHIFT_PX / factor)))
        self._shifts.append(_Shift(timestamp_ns, found.dx_px * factor, found.dy_px * factor, found.reliable))

    def shift_px(self, now_ns: int) -> tuple[float, float] | None:
        """(dx, dy) of thermal content against visible content; None if too few measurements could be trusted."""
        recent = [shift for shift in self._shifts if shift.time_ns >= now_ns - _SHIFT_MEMORY_NS]
        reliable = [shift for shift in recent if shift.reliable]
        if len(reliable) < _SHIFT_NEEDED or 3 * len(reliable) < len(recent):
            return None
        return (
            float(np.median([shift.dx_px for shift in reliable])),
            float(np.median([shift.dy_px for shift in reliable])),
        )

    def reset(self) -> None:
        """Forget everything: the geometry has changed."""
        self._shifts.clear()


class AlignmentBudget:
    """Keeps the three parts up to date. Thread-safe: pairs may be observed by one thread and measured by another.

    Args:
        config: limit and distances; its baseline and focal length win over the calibration's.
        baseline_m, focal_px: from the calibration, None where there is none.
    """

    def __init__(self, config: BudgetConfig, baseline_m: float | None = None, focal_px: float | None = None) -> None:
        self._config = config
        baseline = config.baseline_m if config.baseline_m is not None else baseline_m
        focal = config.focal_px if config.focal_px is not None else focal_px
        self._parallax: float | None = None
        if baseline is not None and focal is not None:
            self._parallax = parallax_px(focal, abs(baseline), config.near_limit_m, config.reference_distance_m)
        self._lock = threading.Lock()
        self._motion = MotionMeter()
        self._shift = ShiftMeter()
        self._shift_lock = threading.Lock()  # held while measuring, so that observing pairs never waits for it
        self._skews_ns: deque[int] = deque(maxlen=_SKEW_MEMORY)
        self._last_ns = 0
        self._next_shift_ns: int | None = None

    def observe(self, visible: npt.NDArray[np.uint8] | None, skew_ns: int | None, timestamp_ns: int) -> None:
        """Look at one pair: cheap (well under a millisecond), for every pair in the order of time.

        Args:
            visible: (H, W, 3) uint8, None in a degraded mode.
            skew_ns: visible minus thermal time, None in a degraded mode.
            timestamp_ns: time of the visible frame, or of the pair.
        """
        with self._lock:
            self._last_ns = max(self._last_ns, timestamp_ns)
            if skew_ns is not None:
                self._skews_ns.append(abs(skew_ns))
            else:
                self._skews_ns.clear()  # what was measured on pairs says nothing about a single stream
            if visible is not None:
                self._motion.observe(visible, timestamp_ns)

    def shift_due(self, timestamp_ns: int) -> bool:
        """Whether a second has passed since the last measured shift, and the picture is calm enough for one."""
        with self._lock:
            if self._next_shift_ns is not None and timestamp_ns < self._next_shift_ns:
                return False
            skew = self._skew_px(timestamp_ns)
            return skew is None or skew <= _SHIFT_MAX_SKEW_PX

    def measure_shift(self, visible: npt.NDArray[np.uint8], thermal: npt.NDArray[np.uint8], timestamp_ns: int) -> None:
        """Measure the residual shift of one aligned pair; see ShiftMeter.measure. Call when `shift_due`."""
        with self._lock:
            self._next_shift_ns = timestamp_ns + _SHIFT_EVERY_NS
        with self._shift_lock:
            self._shift.measure(visible, thermal, timestamp_ns)

    def reset_shift(self) -> None:
        """Forget the measured shift: the calibration or the correction has changed."""
        with self._shift_lock:
            self._shift.reset()

    def reading(self) -> BudgetReading:
        """The budget at the time of the newest pair."""
        with self._shift_lock:
            shift = self._shift.shift_px(self._last_ns)
        with self._lock:
            speed = self._motion.speed_px_s(self._last_ns)
            skew = self._skew_px(self._last_ns)
            pairs = len(self._skews_ns)
        notes = []
        if self._parallax is None:
            notes.append("parallax: set budget.baseline_m and budget.focal_px, or a calibration")
        if skew is None:
            notes.append("skew: no pairs" if not pairs else "skew: the visible picture shows no structure")
        if shift is None:
            fast = skew is not None and skew > _SHIFT_MAX_SKEW_PX
            notes.append("shift: not while the picture moves" if fast else "shift: too few outlines in common to tell")
        residual = math.hypot(*shift) if shift is not None else None
        return assess(self._config.limit_px, self._parallax, skew, residual, tuple(notes), shift, speed)

    def _skew_px(self, now_ns: int) -> float | None:
        speed = self._motion.speed_px_s(now_ns)
        if speed is None or not self._skews_ns:
            return None
        return speed * float(np.percentile(self._skews_ns, 95)) / 1e9


def _reduced(picture: npt.NDArray[np.uint8], width_px: int) -> tuple[npt.NDArray[np.uint8], float]:
    """One channel (green stands for luminance), reduced by a whole factor to at most 1.5 x width_px; and the factor."""
    channel = picture[:, :, 1] if picture.ndim == 3 else picture
    factor = max(1, round(channel.shape[1] / width_px))
    if factor == 1:
        return np.ascontiguousarray(channel), 1.0
    height, width = channel.shape[0] // factor, channel.shape[1] // factor
    if min(height, width) < 16:
        return np.ascontiguousarray(channel), 1.0
    cropped = np.ascontiguousarray(channel[: height * factor, : width * factor])
    reduced = cv2.resize(cropped, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, dtype=np.uint8), float(factor)
