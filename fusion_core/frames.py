"""Frames, pairs and fused frames: what travels between the stages of the pipeline.

Published pixel arrays are read-only (`Frame` makes them so), so that stages share them without copying.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag, StrEnum
from typing import Protocol

import numpy as np

__all__ = [
    "Detection",
    "Frame",
    "FrameFlag",
    "FramePair",
    "FusedFrame",
    "Stream",
    "ThermalAlignment",
    "TimestampSource",
]


class Stream(StrEnum):
    """Which of the two pictures a frame belongs to."""

    VISIBLE = "visible"
    THERMAL = "thermal"


class TimestampSource(StrEnum):
    """Where a frame's time stamp comes from, best first."""

    KERNEL = "kernel"  # the driver's buffer time (V4L2, monotonic)
    SENDER = "sender"  # the sending camera's clock (RTP/RTCP), mapped onto this computer's
    FILE = "file"  # a file's presentation time
    SIMULATED = "simulated"  # the simulated rig's exact exposure time
    ARRIVAL = "arrival"  # this computer's clock right after the grab


class FrameFlag(IntFlag):
    """What a consumer has to know about a frame or a pair. 0 = nothing special."""

    NONE = 0
    FFC = 1  # thermal shutter (flat-field correction) in progress: the picture is frozen or disturbed
    HELD = 2  # the last good thermal frame, shown again
    REUSED_VISIBLE = 4  # this visible frame already served an earlier pair
    STALE = 8  # older than the configuration wants
    VISIBLE_ONLY = 16  # degraded mode: thermal is missing
    THERMAL_ONLY = 32  # degraded mode: visible is missing
    GAP_BEFORE = 64  # frames of this stream were lost before this one
    SKEW_EXCEEDED = 128  # the two times are further apart than max_skew_ms


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One grabbed picture.

    pixels: visible (H, W, 3) uint8 RGB; thermal (H, W) uint16 raw counts, or uint8 if the camera gives no more.
    index: +1 per frame that the source produced; a jump means frames were lost.
    timestamp_ns: monotonic clock; the middle of the exposure, as exactly as `ts_source` allows.
    """

    stream: Stream
    pixels: np.ndarray
    index: int
    timestamp_ns: int
    ts_source: TimestampSource
    flags: FrameFlag = FrameFlag.NONE

    def __post_init__(self) -> None:
        self.pixels.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class FramePair:
    """A visible and a thermal frame of the same moment; in a degraded mode one of them is None (never both)."""

    visible: Frame | None
    thermal: Frame | None
    flags: FrameFlag = FrameFlag.NONE

    def __post_init__(self) -> None:
        if self.visible is None and self.thermal is None:
            raise ValueError("a FramePair needs at least one frame, got none")

    @property
    def skew_ns(self) -> int | None:
        """Visible time minus thermal time; None when one of the two is missing."""
        if self.visible is None or self.thermal is None:
            return None
        return self.visible.timestamp_ns - self.thermal.timestamp_ns

    @property
    def timestamp_ns(self) -> int:
        """The pair's time: thermal is the master clock, visible stands in when thermal is missing."""
        frame = self.thermal if self.thermal is not None else self.visible
        assert frame is not None  # by __post_init__; for the type checker
        return frame.timestamp_ns


class ThermalAlignment(Protocol):
    """How a thermal picture came onto the visible grid. Never changes; any thread may call it."""

    @property
    def seen(self) -> np.ndarray:
        """(H, W) bool, where the thermal camera sees."""
        ...

    def to_visible(self, thermal: np.ndarray) -> np.ndarray:
        """(Ht, Wt) uint8 or uint16 to (H, W), 0 where the thermal camera does not see."""
        ...

    def filled(self, levels: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """For an engine: (H, W) uint8 `levels`, filled from `visible`, (H, W, 3) uint8, where thermal does not see."""
        ...

    def thermal_points(self, points_visible: np.ndarray) -> np.ndarray:
        """(N, 2) visible pixels (x, y) to where they lie in the thermal picture, (N, 2)."""
        ...


@dataclass(frozen=True, slots=True)
class Detection:
    """Something that a detector saw: its box in pixels of the visible grid, and how sure it was, 0..1."""

    label: str
    confidence: float
    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True, slots=True, eq=False)
class FusedFrame:
    """The picture that is shown and recorded: (H, W, 3) uint8 RGB at the visible camera's size.

    thermal_8bit is the thermal picture after AGC on the visible grid, 0 where the thermal camera does not see (the
    engine was given `alignment.filled` of it); None without thermal. alignment: None = plainly scaled, sees all.
    fused_ns is the monotonic time at which the fused pixels were ready; fuse_ms the engine's share.
    """

    pixels: np.ndarray
    pair: FramePair
    fuse_ms: float
    engine: str
    fused_ns: int = 0
    thermal_8bit: np.ndarray | None = None
    agc_limits: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())
    alignment: ThermalAlignment | None = None
    detections: tuple[Detection, ...] = ()  # of a detector, seen in this picture or shortly before

    def __post_init__(self) -> None:
        self.pixels.flags.writeable = False
