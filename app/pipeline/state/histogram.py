"""Histograms of durations in fixed memory: percentiles to 2.5 %, from 10 microseconds to 100 seconds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

__all__ = ["Histogram", "WindowedHistogram"]

_LOWEST_MS = 0.01
_RATIO = 1.05  # of neighbouring bucket edges
_LOG_RATIO = math.log(_RATIO)
_BUCKETS = math.ceil(math.log(1e5 / _LOWEST_MS) / _LOG_RATIO) + 2  # first: below the lowest; last: above 100 s


class Histogram:
    """Counts in fixed buckets of geometric width. Not thread-safe."""

    __slots__ = ("_counts", "count", "maximum", "sum")

    def __init__(self) -> None:
        self._counts: list[int] = [0] * _BUCKETS
        self.count = 0
        self.sum = 0.0
        self.maximum: float | None = None

    def add(self, milliseconds: float) -> None:
        """Count a value; NaN and infinity are ignored, negative values count as 0."""
        if not math.isfinite(milliseconds):
            return
        value = max(0.0, milliseconds)
        self._counts[_bucket(value)] += 1
        self.count += 1
        self.sum += value
        self.maximum = value if self.maximum is None else max(self.maximum, value)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram to this one."""
        if other.count == 0 or other.maximum is None:
            return
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.sum += other.sum
        self.maximum = other.maximum if self.maximum is None else max(self.maximum, other.maximum)

    def cumulative(self, edges_ms: Sequence[float]) -> tuple[int, ...]:
        """How many values are at most each edge (rising), to 5 % of the edge; as monitoring systems count."""
        result, seen, index = [], 0, 0
        for edge in edges_ms:
            end = _bucket(edge) + 1
            seen += sum(self._counts[index:end])
            index = max(index, end)
            result.append(seen)
        return tuple(result)

    def percentile(self, percent: float) -> float | None:
        """The value below which `percent` of the values lie, to 2.5 %; None without values."""
        if self.count == 0 or self.maximum is None:
            return None
        wanted = max(1, math.ceil(percent / 100.0 * self.count))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_middle(index), self.maximum)
        return self.maximum


class WindowedHistogram:
    """Histogram of the recent past: `slices` slices of `slice_ns` each, the oldest forgotten whole. Not thread-safe."""

    def __init__(self, slices: int, slice_ns: int) -> None:
        self._slice_ns = slice_ns
        self._span = slices
        self._slices: deque[tuple[int, Histogram]] = deque(maxlen=slices)

    def add(self, milliseconds: float, now_ns: int) -> None:
        """Count a value at this time."""
        number = now_ns // self._slice_ns
        if not self._slices or self._slices[-1][0] < number:
            self._slices.append((number, Histogram()))
        self._slices[-1][1].add(milliseconds)

    def merged(self, now_ns: int) -> Histogram:
        """All values of the window that ends now."""
        oldest = now_ns // self._slice_ns - self._span
        result = Histogram()
        for number, histogram in self._slices:
            if number > oldest:
                result.merge(histogram)
        return result


def _bucket(value: float) -> int:
    if value < _LOWEST_MS:
        return 0
    return min(1 + int(math.log(value / _LOWEST_MS) / _LOG_RATIO), _BUCKETS - 1)


def _middle(index: int) -> float:
    if index == 0:
        return _LOWEST_MS / 2.0
    return float(_LOWEST_MS * _RATIO ** (index - 0.5))
