"""A counter by which others see that a thread is alive."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pulse"]


class Pulse:
    """Rises while its thread is alive. `beat` and `allow` belong to that thread; `beats` may be read by any."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._count = 0
        self._until_s = 0.0

    def beat(self) -> None:
        """The thread is alive."""
        self._count += 1
        self._until_s = 0.0

    def allow(self, seconds: float) -> None:
        """The thread begins to wait for somebody else, who may take so long; until then it counts as alive."""
        self._count += 1
        self._until_s = self._clock_s() + seconds

    @property
    def beats(self) -> int:
        """A number that changes from one look to the next, half a second later, while the thread is alive."""
        now_s = self._clock_s()
        return int(now_s * 10) if now_s < self._until_s else self._count
