"""The pre-event buffer: the last seconds of encoded pairs, kept in memory until something happens."""

from __future__ import annotations

from collections import deque

from app.recording.segments import EncodedPair

__all__ = ["PacketRing"]


class PacketRing:
    """Encoded pairs of the last `seconds`, beginning with one at which a file can start. Not thread-safe.

    It holds up to one key-frame interval more than `seconds`, so that the first pair is never too late. Above
    `max_bytes` it gets shorter.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._span_ns = round(seconds * 1e9)
        self._max_bytes = max_bytes
        self._pairs: deque[EncodedPair] = deque()
        self._starts: deque[int] = deque()  # running numbers of the pairs that can start a file
        self._first = 0  # running number of _pairs[0]
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def seconds(self) -> float:
        """Time between the oldest and the newest pair."""
        return (self._pairs[-1].t_ns - self._pairs[0].t_ns) / 1e9 if self._pairs else 0.0

    @property
    def first_ns(self) -> int | None:
        """Time of the oldest pair; None when empty."""
        return self._pairs[0].t_ns if self._pairs else None

    def add(self, pair: EncodedPair) -> None:
        """Take the next pair in and let go of what is too old or too much."""
        if not self._span_ns or (not self._pairs and not pair.starts):
            return
        if pair.starts:
            self._starts.append(self._first + len(self._pairs))
        self._pairs.append(pair)
        self.nbytes += pair.nbytes
        while len(self._starts) > 1:
            second = self._pairs[self._starts[1] - self._first]
            if self.nbytes <= self._max_bytes and pair.t_ns - second.t_ns < self._span_ns:
                break
            self._drop_before(self._starts[1])
        if self.nbytes > self._max_bytes and len(self._starts) == 1:
            self.clear()  # not even one key-frame interval fits

    def _drop_before(self, number: int) -> None:
        while self._first < number:
            self.nbytes -= self._pairs.popleft().nbytes
            self._first += 1
        while self._starts and self._starts[0] < number:
            self._starts.popleft()

    def take_all(self) -> list[EncodedPair]:
        """Everything, oldest first; the ring is empty afterwards."""
        pairs = list(self._pairs)
        self.clear()
        return pairs

    def clear(self) -> None:
        """Forget everything."""
        self._first += len(self._pairs)
        self._pairs.clear()
        self._starts.clear()
        self.nbytes = 0
