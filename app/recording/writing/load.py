"""What a recording does without when the encoders cannot keep up: the fused track first, then visible's quality."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from app.recording.config import TrackName

__all__ = ["LoadLadder", "LoadStep"]

_HIGH = 0.25  # share of a raw queue that means that encoding falls behind
_LOW = 0.05
_PATIENCE_S = 0.5  # above _HIGH before the next step
_SETTLE_S = 2.0  # for a step to show what it brings
_CALM_S = 10.0  # below _LOW before a step is taken back
_LONGEST_CALM_S = 300.0


class LoadStep(StrEnum):
    """How much is recorded; the raw frames are in every step."""

    FULL = "full"
    WITHOUT_FUSED = "without_fused"
    VISIBLE_REDUCED = "visible_reduced"  # and without fused

    @property
    def reason(self) -> str:
        """For the user; "" when all is recorded as configured."""
        return {
            LoadStep.FULL: "",
            LoadStep.WITHOUT_FUSED: "encoding cannot keep up: the fused track is left out, the raw ones go on",
            LoadStep.VISIBLE_REDUCED: (
                "encoding cannot keep up: the fused track is left out and visible is kept in lower quality"
            ),
        }[self]


class LoadLadder:
    """Goes up and down the steps by how full the raw queues are. Not thread-safe; owner: the recorder's thread.

    Args:
        tracks: those that are recorded.
    """

    def __init__(self, tracks: tuple[TrackName, ...]) -> None:
        steps = [LoadStep.FULL]
        if TrackName.FUSED in tracks and len(tracks) > 1:
            steps.append(LoadStep.WITHOUT_FUSED)
        if TrackName.VISIBLE in tracks:
            steps.append(LoadStep.VISIBLE_REDUCED)
        self._steps = steps
        self._at = 0
        self._high_since_s: float | None = None
        self._low_since_s: float | None = None
        self._changed_s: float | None = None
        self._calm_s = _CALM_S

    @property
    def step(self) -> LoadStep:
        """The step now."""
        return self._steps[self._at]

    def observe(self, fill: Mapping[TrackName, float], now_s: float) -> LoadStep:
        """Look at the queues of the raw tracks (0 empty, 1 full); returns the step that holds from now on."""
        most = max((share for track, share in fill.items() if track is not TrackName.FUSED), default=0.0)
        self._high_since_s = (self._high_since_s or now_s) if most >= _HIGH else None
        self._low_since_s = (self._low_since_s or now_s) if most <= _LOW else None
        settled = self._changed_s is None or now_s - self._changed_s >= _SETTLE_S
        if self._high_since_s is not None and settled and now_s - self._high_since_s >= _PATIENCE_S:
            if self._at + 1 < len(self._steps):
                if self._changed_s is not None and now_s - self._changed_s < 3 * self._calm_s:
                    self._calm_s = min(2 * self._calm_s, _LONGEST_CALM_S)  # it was taken back too soon
                self._move(1, now_s)
        elif self._at and self._low_since_s is not None and now_s - self._low_since_s >= self._calm_s:
            self._move(-1, now_s)
        return self.step

    def _move(self, by: int, now_s: float) -> None:
        self._at += by
        self._changed_s = now_s
        self._high_since_s = self._low_since_s = None
