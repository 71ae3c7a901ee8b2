"""What a recording does without when the encoders cannot keep up: the fused track first, then visible's quality."""

from __future__ import annotations

from enum import StrEnum

from app.recording.config import TrackName

__all__ = ["LoadLadder", "LoadStep"]

_LONG_S = 0.3  # that a raw picture waits for its encoder: encoding falls behind. What waits is lost in a kill.
_SHORT_S = 0.08
_PATIENCE_S = 0.3  # above _LONG_S before the next step
_SETTLE_S = 1.0  # for a step to show what it brings
_CALM_S = 10.0  # below _SHORT_S before a step is taken back
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
    """Goes up and down the steps by how long raw pictures wait. Not thread-safe; owner: the recorder's thread.

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

    def observe(self, raw_wait_s: float, now_s: float) -> LoadStep:
        """Look at how long the oldest raw picture has waited; returns the step that holds from now on."""
        self._high_since_s = (self._high_since_s or now_s) if raw_wait_s >= _LONG_S else None
        self._low_since_s = (self._low_since_s or now_s) if raw_wait_s <= _SHORT_S else None
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
