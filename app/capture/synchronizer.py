"""The thread-safe shell around `PairMatcher`: capture threads put frames in, one consumer takes pairs out."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from app.capture.cameras.camera import Clock, MonotonicClock
from app.capture.pairing import DropCause, PairMatcher, match_nearest, output_time_ns
from fusion_core.errors import CameraTimeout, EndOfStream
from fusion_core.frames import FrameFlag, FramePair, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.capture.sync_config import SyncConfig
    from fusion_core.frames import Frame

__all__ = ["DropCause", "PairMatcher", "PairSynchronizer", "SyncStats", "match_nearest", "output_time_ns"]

_SKEW_HISTORY: Final = 600  # pairs from which the skew percentiles are taken: 20 s at 30 fps


@dataclass(frozen=True, slots=True)
class SyncStats:
    """Counters since the start and figures over the last pairs.

    frames_in, depth, period_ms, delay_ms: by stream. outputs: every pair given out; pairs: those with both frames,
    neither held.
    """

    frames_in: Mapping[Stream, int]
    outputs: int
    pairs: int
    visible_only: int
    thermal_only: int
    held: int
    ffc: int
    skew_exceeded: int
    dropped: Mapping[DropCause, int]
    depth: Mapping[Stream, int]
    period_ms: Mapping[Stream, float]
    delay_ms: Mapping[Stream, float]
    skew_median_ms: float
    skew_abs_p95_ms: float


class PairSynchronizer:
    """Makes pairs of two streams. Owns no thread; `put` may be called by any, `get` and `poll` by one consumer.

    Args:
        config: rates, limits and buffers.
        clock: time of arrival and waiting; a test's clock works with `put` and `poll`, `get` waits in real time.
        lossless: `put` waits for room instead of dropping the oldest frame: for files read as fast as possible.
    """

    def __init__(self, config: SyncConfig, clock: Clock | None = None, *, lossless: bool = False) -> None:
        self._clock = clock if clock is not None else MonotonicClock()
        self._matcher = PairMatcher(config, lossless)
        self._lossless = lossless
        self._changed = threading.Condition()
        self._closed = False
        self._frames_in: Counter[Stream] = Counter()
        self._outputs = 0
        self._flags: Counter[FrameFlag] = Counter()
        self._pairs = 0
        self._skews_ns: deque[int] = deque(maxlen=_SKEW_HISTORY)

    @property
    def master(self) -> Stream:
        """The stream whose frames make the pairs."""
        return self._matcher.master

    def put(self, frame: Frame) -> None:
        """Hand in one frame. Never waits, except in lossless mode until there is room or `close` is called."""
        with self._changed:
            while self._lossless and not self._closed and not self._matcher.has_room(frame.stream):
                self._changed.wait(0.2)
            if self._closed:
                return
            self._frames_in[frame.stream] += 1
            self._matcher.push(frame, self._clock.now_ns())
            self._changed.notify_all()

    def end(self, stream: Stream) -> None:
        """The stream is over: its remaining frames are still paired, then the other one goes on alone."""
        with self._changed:
            self._matcher.end(stream)
            self._changed.notify_all()

    def get(self, timeout_s: float) -> FramePair:
        """The next pair, waiting for it at most `timeout_s`.

        Raises:
            CameraTimeout: no pair in time.
            EndOfStream: closed, or both streams have ended and everything has been given out.
        """
        deadline_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        with self._changed:
            while True:
                if self._closed:
                    raise EndOfStream("the synchronizer was closed, no more pairs will come")
                now_ns = self._clock.now_ns()
                pair = self._take(now_ns)
                if pair is not None:
                    return pair
                if self._matcher.finished:
                    raise EndOfStream("both streams have ended, no more pairs will come")
                if now_ns >= deadline_ns:
                    raise CameraTimeout(
                        f"no visible-thermal pair within {timeout_s * 1e3:.0f} ms, expected frames of at least one"
                        " camera; `lumitherm doctor` tests both"
                    )
                event_ns = self._matcher.next_event_ns(now_ns)
                wake_ns = deadline_ns if event_ns is None else min(deadline_ns, event_ns)
                self._changed.wait(max(0.0, (wake_ns - now_ns) / 1e9))

    def poll(self, now_ns: int) -> FramePair | None:
        """The next pair that is due at `now_ns`, without waiting; None if there is none."""
        with self._changed:
            return None if self._closed else self._take(now_ns)

    def close(self) -> None:
        """Wake everybody: `get` raises EndOfStream, `put` does nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stats(self) -> SyncStats:
        """A consistent copy of all figures."""
        with self._changed:
            matcher = self._matcher
            skews_ms = np.asarray(self._skews_ns, dtype=np.float64) / 1e6
            size = np.abs(skews_ms)
            some = skews_ms.size > 0
            return SyncStats(
                frames_in={stream: self._frames_in[stream] for stream in Stream},
                outputs=self._outputs,
                pairs=self._pairs,
                visible_only=self._flags[FrameFlag.VISIBLE_ONLY],
                thermal_only=self._flags[FrameFlag.THERMAL_ONLY],
                held=self._flags[FrameFlag.HELD],
                ffc=self._flags[FrameFlag.FFC],
                skew_exceeded=self._flags[FrameFlag.SKEW_EXCEEDED],
                dropped={cause: matcher.dropped[cause] for cause in DropCause},
                depth={stream: matcher.depth(stream) for stream in Stream},
                period_ms={stream: matcher.period_ms(stream) for stream in Stream},
                delay_ms={stream: matcher.delay_ms(stream) for stream in Stream},
                skew_median_ms=float(np.median(skews_ms)) if some else float("nan"),
                skew_abs_p95_ms=float(np.percentile(size, 95)) if some else float("nan"),
            )

    def _take(self, now_ns: int) -> FramePair | None:
        pair = self._matcher.poll(now_ns)
        if self._lossless:
            self._changed.notify_all()  # there may be room now
        if pair is None:
            return None
        self._outputs += 1
        for flag in pair.flags:
            self._flags[flag] += 1
        skew_ns = pair.skew_ns
        if skew_ns is not None and not pair.flags & FrameFlag.HELD:
            self._pairs += 1
            self._skews_ns.append(skew_ns)
        return pair
