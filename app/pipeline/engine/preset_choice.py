"""The largest network that keeps the cameras' rate: tried by timing, watched by rate. Pure decisions, every call brings
its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["PresetAction", "PresetChoice", "RateReading"]

_KEEPS: Final = 0.9  # fused / captured below this is too slow
_SHARE_OF_PERIOD: Final = 0.85  # of the time between two pictures, that a network may take; alignment needs the rest
_ROOM: Final = 0.4  # of it, that a network takes at most before the next larger one is tried
_SLOW_S: Final = 3.0  # too slow for this long: down
_STEADY_S: Final = 5.0  # in time for this long: up
_SOUND_S: Final = 600.0  # in use for this long: its wait starts over
_FIRST_WAIT_S: Final = 30.0
_LONGEST_WAIT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class RateReading:
    """What the pipeline keeps up with. captured_hz: of the stream that makes the pairs; fuse_p95_ms: None = unknown."""

    captured_hz: float
    fused_hz: float
    fuse_p95_ms: float | None

    @property
    def keeps(self) -> bool:
        """Whether (nearly) every picture is fused."""
        return self.captured_hz > 0 and self.fused_hz >= _KEEPS * self.captured_hz

    @property
    def period_ms(self) -> float:
        """Between two pictures."""
        return 1000.0 / self.captured_hz if self.captured_hz > 0 else 1000.0 / 30.0


class PresetAction(StrEnum):
    """What is to be done."""

    TRY = "try"  # build and time the network of `PresetChoice.trying`
    STEP_DOWN = "step_down"  # let the stand-in fuse from now on


class PresetChoice:
    """Which network fuses. Up by one when there is room, down to the stand-in when pictures are lost.

    Never to and fro: what was too slow waits for 30 s, 60 s, ... an hour, and starts over after ten sound minutes.

    Args:
        presets: from the cheapest to the dearest.
    """

    def __init__(self, presets: Sequence[str]) -> None:
        self._presets = tuple(presets)
        self._level = -1  # of the network in use; -1 = none, the stand-in
        self._trying: int | None = 0 if self._presets else None
        self._since_s = 0.0  # the present level
        self._slow_since_s: float | None = None
        self._steady_since_s: float | None = None
        self._not_before_s = [0.0] * len(self._presets)
        self._waits_s = [_FIRST_WAIT_S] * len(self._presets)

    @property
    def trying(self) -> str | None:
        """The preset that is being built and timed; the first one from the start on. None while none is."""
        return self._presets[self._trying] if self._trying is not None else None

    def observe(self, now_s: float, reading: RateReading) -> PresetAction | None:
        """Look at the rates, about twice a second. What it asks for is taken as done."""
        if self._trying is not None:
            self._slow_since_s = self._steady_since_s = None  # building and timing take their share
            return None
        if reading.keeps:
            self._slow_since_s = None
            self._steady_since_s = now_s if self._steady_since_s is None else self._steady_since_s
        else:
            self._steady_since_s = None
            self._slow_since_s = now_s if self._slow_since_s is None else self._slow_since_s
        if self._level >= 0 and now_s - self._since_s >= _SOUND_S:
            self._waits_s[self._level] = _FIRST_WAIT_S
        if self._slow_since_s is not None and now_s - self._slow_since_s >= _SLOW_S and self._level >= 0:
            self._refuse(self._level, now_s)
            self._enter(-1, now_s)
            return PresetAction.STEP_DOWN
        if self._steady_since_s is not None and now_s - self._steady_since_s >= _STEADY_S and self._may_try(reading):
            above = self._level + 1
            if now_s >= self._not_before_s[above]:
                self._trying = above
                return PresetAction.TRY
        return None

    def tried(self, now_s: float, fuse_ms: float, reading: RateReading | None) -> bool:
        """The network of `trying` takes this long a picture: whether it is to fuse from now on."""
        level, self._trying = self._trying, None
        if level is None:
            return False
        period_ms = reading.period_ms if reading is not None else 1000.0 / 30.0
        if fuse_ms > _SHARE_OF_PERIOD * period_ms:
            self._refuse(level, now_s)
            return False
        self._enter(level, now_s)
        return True

    def lost(self, now_s: float) -> None:
        """The network in use failed or does not fit any more; the same one is being built anew."""
        if self._level >= 0:
            self._trying = self._level
            self._enter(-1, now_s)

    def wait_s(self, now_s: float) -> float:
        """For how long at least the next larger network is not tried."""
        above = self._level + 1
        return max(0.0, self._not_before_s[above] - now_s) if above < len(self._presets) else 0.0

    def _may_try(self, reading: RateReading) -> bool:
        if self._level + 1 >= len(self._presets):
            return False
        roomy = reading.fuse_p95_ms is not None and reading.fuse_p95_ms <= _ROOM * reading.period_ms
        return self._level < 0 or roomy

    def _refuse(self, level: int, now_s: float) -> None:
        self._not_before_s[level] = now_s + self._waits_s[level]
        self._waits_s[level] = min(2.0 * self._waits_s[level], _LONGEST_WAIT_S)

    def _enter(self, level: int, now_s: float) -> None:
        self._level, self._since_s = level, now_s
        self._slow_since_s = self._steady_since_s = None
