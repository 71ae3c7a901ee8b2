"""Pair two recorded streams by time stamp.

The visible stream is the master: each of its frames appears in the output once, with its own stamp, so that length
and rhythm stay as they were recorded. Each gets the thermal frame nearest in time. When the nearest is further away
than `max_skew_ns` (a shutter freeze, a gap, the end of the thermal recording), the last thermal frame is held for
`max_hold_ns` and marked; after that the visible frame stands alone, marked too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from app.media.reader import MediaFrame
from fusion_core.frames import FrameFlag

__all__ = ["DEFAULT_MAX_HOLD_MS", "MediaPair", "default_max_skew_ns", "pair_by_time"]

DEFAULT_MAX_HOLD_MS = 500.0  # a thermal camera's shutter (flat-field correction) takes 0.2 to 0.5 s
_LEAST_MAX_SKEW_NS = 25_000_000


@dataclass(frozen=True, slots=True, eq=False)
class MediaPair:
    """A visible frame and its thermal partner; `thermal` is None where VISIBLE_ONLY is flagged."""

    visible: MediaFrame
    thermal: MediaFrame | None
    flags: FrameFlag
    skew_ns: int  # visible minus thermal time after the offset; 0 without thermal


def default_max_skew_ns(thermal_rate: Fraction | None) -> int:
    """0.75 thermal frame intervals, at least 25 ms: a nearest neighbour in a steady stream is at most 0.5 away."""
    if thermal_rate is None or thermal_rate <= 0:
        return 100_000_000
    return max(_LEAST_MAX_SKEW_NS, round(Fraction(750_000_000) / thermal_rate))


def pair_by_time(
    visible: Iterable[MediaFrame],
    thermal: Iterable[MediaFrame],
    max_skew_ns: int,
    max_hold_ns: int = round(DEFAULT_MAX_HOLD_MS * 1e6),
    thermal_offset_ns: int = 0,
) -> Iterator[MediaPair]:
    """Give each visible frame its thermal partner. Streams: reads ahead one thermal frame only.

    Args:
        visible, thermal: frames with strictly increasing stamps.
        max_skew_ns: two frames further apart are no pair.
        max_hold_ns: for how long after its own time the last thermal frame may stand in.
        thermal_offset_ns: added to thermal stamps, when the two clocks are known to differ.

    Yields:
        One pair a visible frame, in order. Equal distances go to the earlier thermal frame.
    """
    source = iter(thermal)
    current: MediaFrame | None = None
    upcoming: MediaFrame | None = next(source, None)

    def time_ns(frame: MediaFrame) -> int:
        return frame.frame.timestamp_ns + thermal_offset_ns

    for frame in visible:
        now_ns = frame.frame.timestamp_ns
        while upcoming is not None and time_ns(upcoming) <= now_ns:
            current, upcoming = upcoming, next(source, None)
        nearest = current
        if upcoming is not None and (current is None or time_ns(upcoming) - now_ns < now_ns - time_ns(current)):
            nearest = upcoming
        if nearest is not None and abs(now_ns - time_ns(nearest)) <= max_skew_ns:
            yield MediaPair(frame, nearest, FrameFlag.NONE, now_ns - time_ns(nearest))
        elif current is not None and now_ns - time_ns(current) <= max_hold_ns:
            yield MediaPair(frame, current, FrameFlag.HELD | FrameFlag.SKEW_EXCEEDED, now_ns - time_ns(current))
        else:
            yield MediaPair(frame, None, FrameFlag.VISIBLE_ONLY, 0)
