"""Maps a sender's frame times onto our monotonic clock, so that network jitter does not reach the time stamps."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["SenderClock"]

_SPAN_NS: Final = 10_000_000_000  # the window of the minimum; 100 ppm of drift make 1 ms in it
_BUCKET_NS: Final = 500_000_000
_JUMP_NS: Final = 1_000_000_000


class SenderClock:
    """The least delay seen lately is taken as the path's constant delay; what exceeds it is jitter and is removed.

    A frame's stamp is its sender time plus the smallest (arrival - sender time) of the last 10 s: never in the future,
    off by the path's constant delay (which belongs into `offset_ms`), following a drift of 100 ppm within 1 ms.
    """

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()  # (bucket of arrival, smallest difference in it)
        self._last: tuple[int, int] | None = None

    def to_monotonic(self, sender_ns: int, arrival_ns: int) -> int:
        """Monotonic time of a frame sent at `sender_ns` (any origin) that arrived at `arrival_ns`."""
        difference = arrival_ns - sender_ns
        if self._last is not None:
            sender_step, arrival_step = sender_ns - self._last[0], arrival_ns - self._last[1]
            if sender_step <= 0 or abs(sender_step - arrival_step) > _JUMP_NS:
                self._buckets.clear()  # the sender restarted or set its clock
        self._last = (sender_ns, arrival_ns)
        bucket = arrival_ns // _BUCKET_NS
        if self._buckets and self._buckets[-1][0] == bucket:
            self._buckets[-1] = (bucket, min(difference, self._buckets[-1][1]))
        else:
            self._buckets.append((bucket, difference))
        while self._buckets[0][0] < bucket - _SPAN_NS // _BUCKET_NS:
            self._buckets.popleft()
        return sender_ns + min(smallest for _, smallest in self._buckets)
