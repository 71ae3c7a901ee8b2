"""Notices when the rig has moved since it was calibrated, proposes a correction, and applies it smoothly if wanted.

Once a second one pair is compared (`residual_field`). The evidence of the last half minute is summed, and the field
that it gives is judged. An estimate counts only where the whole frame and its parts agree; where the scene shows too
little, the monitor says so instead of guessing. Parallax of near things is a displacement too, up to some pixels to
one side, and would hide a movement of the rig to the other side. So the monitor remembers what a calm scene shows, and
the drift is the larger of two: the displacement, and how far it has moved from there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from calibration.residual_field import CorrelationVolume, ResidualField, ResidualFieldEstimator, fit_update
from calibration.rig import apply_homography
from fusion_core.errors import BadInputError, ConfigError

__all__ = ["DriftLevel", "DriftMonitor", "DriftState", "SelfAligner"]

SECOND_NS = 1_000_000_000
NOTICE_PX = 2.5
WARN_PX = 4.0
ALARM_PX = 8.0
EARLY_PX = 0.5  # warn and alarm this much before the limit: an estimate may be short by as much
CALM_EVALUATIONS = 30  # with a displacement below the notice: the scene then shows its parallax
CALM_PX = 1.0  # changes up to this are the scene's, and are learned slowly
CALM_RATE = 1 / 600  # of the difference, an evaluation
MIN_SHARE = 0.15  # of the grid that must be sure
MIN_GLOBAL_CONFIDENCE = 0.25
MAX_DISAGREEMENT_PX = 2.5  # between the whole-frame estimate and the median of the parts
WORKING_SCALE = 8 / 3  # pictures are compared reduced by this: 240 px wide for 640
VOTES = 9  # evaluations whose median is the drift
MIN_VOTES = 6
RESUM_EVERY = 600  # additions and subtractions in single precision, after which the sum is made anew
SURE = 0.15  # confidence from which a cell counts
TRUSTED_SHARE = 0.25  # of the grid that must be sure before a correction may be applied unasked
TRUSTED_QUARTER_SHARE = 0.08  # of each quarter of the picture, in three of the four at least
AGREEING = 10  # proposals in a row that must agree
AGREE_PX = 2.0  # on average over the picture


class DriftLevel(StrEnum):
    """How bad the drift is. UNKNOWN: the scene does not tell."""

    UNKNOWN = "unknown"
    OK = "ok"
    NOTICE = "notice"
    WARN = "warn"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True, eq=False)
class DriftState:
    """One evaluation. drift_px: length of the residual, or of its change since the scene was calm if that is larger
    (medians over parts and over the last evaluations). NaN if unknown.

    dx_px, dy_px: its direction: thermal(x) matches visible(x + d). confidence 0..1: share of the picture that is sure.
    residual_px, moved_px: the two that drift_px is the larger of; moved_px is NaN until the scene has been calm.
    update: (3, 3) to multiply onto the correction in use, None while there is nothing to correct.
    trusted: enough of the picture, on all its sides, agrees for a correction that nobody checks first.
    """

    t_ns: int
    drift_px: float
    dx_px: float
    dy_px: float
    confidence: float
    level: DriftLevel
    update: np.ndarray | None = field(repr=False, default=None)
    field: ResidualField | None = field(repr=False, default=None)
    trusted: bool = False
    residual_px: float = float("nan")
    moved_px: float = float("nan")


class DriftMonitor:
    """Sliding-window drift estimate. One owner thread; costs one comparison (some 30 ms at 640x480) per period.

    Args:
        size: (height, width) of the visible grid.
        window_s: length of the sliding window. period_s: time between two comparisons and evaluations.
        mask: (H, W) bool, where the thermal camera sees (`ThermalAligner.mask`).
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        window_s: float = 30.0,
        period_s: float = 1.0,
        radius_px: float = 16.0,
        mask: np.ndarray | None = None,
    ) -> None:
        if not 0 < period_s <= window_s:
            raise ConfigError(
                f"drift monitor: period_s is {period_s}, must be above 0 and at most window_s ({window_s})"
            )
        self._estimator = ResidualFieldEstimator(
            size,
            radius_px=radius_px,
            cell_px=max(32.0, size[1] / 20),
            working_width=round(min(max(size[1] / WORKING_SCALE, 120), 360)),
        )
        self._mask = mask
        self._window = max(3, round(window_s / period_s))
        self._period_ns = int(period_s * SECOND_NS)
        self._volumes: deque[CorrelationVolume] = deque()
        self._votes: deque[tuple[float, float, float]] = deque(maxlen=VOTES)
        self._total: CorrelationVolume | None = None
        self._next_ns: int | None = None
        self._additions = 0
        self._calm: np.ndarray | None = None
        self._calm_votes: list[tuple[float, float]] = []

    def reset(self) -> None:
        """Forget all evidence: after a correction was applied, or when the scene was cut."""
        self._volumes.clear()
        self._votes.clear()
        self._total = None
        self._calm = None
        self._calm_votes = []

    def due(self, t_ns: int) -> bool:
        """Whether `update` would compare now: lets the caller skip making a luma picture."""
        return self._next_ns is None or t_ns >= self._next_ns or t_ns < self._next_ns - 10 * self._period_ns

    def update(self, visible_luma: np.ndarray, thermal: np.ndarray, t_ns: int) -> DriftState | None:
        """Give one pair; None unless a period has passed.

        Args:
            visible_luma: (H, W) uint8. thermal: (H, W) uint8, aligned with the correction in use.
            t_ns: monotonic time of the pair.

        Raises:
            BadInputError: another size.
        """
        if not self.due(t_ns):
            return None
        self._next_ns = t_ns + self._period_ns
        return self.push(self._estimator.volume(visible_luma, thermal, self._mask), t_ns)

    def push(self, volume: CorrelationVolume, t_ns: int) -> DriftState:
        """Add one comparison's evidence and evaluate."""
        self._volumes.append(volume)
        if self._total is None:
            self._total = volume.copy()
        else:
            self._total += volume
        if len(self._volumes) > self._window:
            old = self._volumes.popleft()
            self._total.product -= old.product
            self._total.energy_visible -= old.energy_visible
            self._total.energy_thermal -= old.energy_thermal
            self._total.frames -= old.frames
        self._additions += 1
        if self._additions % RESUM_EVERY == 0:
            self._total = self._volumes[0].copy()
            for other in list(self._volumes)[1:]:
                self._total += other
        estimated = self._estimator.estimate(self._total)
        return self._judge(estimated, t_ns)

    def _judge(self, estimated: ResidualField, t_ns: int) -> DriftState:
        share = float((estimated.confidence > SURE).mean())
        dx, dy = estimated.median_px
        apart = float(np.hypot(dx - estimated.global_px[0], dy - estimated.global_px[1]))
        sure = (
            share >= MIN_SHARE and estimated.global_confidence >= MIN_GLOBAL_CONFIDENCE and apart <= MAX_DISAGREEMENT_PX
        )
        if sure:
            self._votes.append((dx, dy, estimated.magnitude_px))
        elif self._votes:
            self._votes.popleft()  # silence ages the old votes, so that they do not stand for ever
        if len(self._votes) < MIN_VOTES:
            nan = float("nan")
            return DriftState(t_ns, nan, nan, nan, share if sure else 0.0, DriftLevel.UNKNOWN, None, estimated)
        dx, dy, residual = (float(value) for value in np.median(np.array(self._votes), axis=0))
        change = self._change(dx, dy, residual)
        moved = float(np.hypot(*change)) if change is not None else float("nan")
        length = residual
        if change is not None and moved > residual:
            (dx, dy), length = change, moved
        level = DriftLevel.OK
        limits = (NOTICE_PX, WARN_PX - EARLY_PX, ALARM_PX - EARLY_PX)
        for limit, name in zip(limits, (DriftLevel.NOTICE, DriftLevel.WARN, DriftLevel.ALARM), strict=True):
            if length > limit:
                level = name
        update = None
        if level is not DriftLevel.OK and sure:
            update = self._proposal(estimated, share)
        trusted = _spread_out(estimated, share)
        return DriftState(t_ns, length, dx, dy, share, level, update, estimated, trusted, residual, moved)

    def _change(self, dx: float, dy: float, residual: float) -> tuple[float, float] | None:
        """Change since the scene was calm; None until it was. The calm displacement follows slow, small changes."""
        now = np.array([dx, dy])
        if self._calm is None:
            if residual > NOTICE_PX:
                self._calm_votes = []
                return None
            self._calm_votes.append((dx, dy))
            if len(self._calm_votes) < CALM_EVALUATIONS:
                return None
            self._calm = np.median(np.array(self._calm_votes), axis=0)
        change = now - self._calm
        if float(np.hypot(*change)) < CALM_PX:
            self._calm = self._calm + CALM_RATE * change
        return float(change[0]), float(change[1])

    def _proposal(self, estimated: ResidualField, share: float) -> np.ndarray | None:
        """An affine correction where much of the picture is sure, else a shift; None if it would not help."""
        try:
            update = fit_update(estimated, "affine" if share > 0.4 else "shift")
        except BadInputError:
            return None
        good = estimated.confidence > SURE
        target = estimated.centres_px[good] + estimated.d_px[good]
        before = np.linalg.norm(estimated.d_px[good], axis=1)
        after = np.linalg.norm(apply_homography(update, estimated.centres_px[good]) - target, axis=1)
        return update if np.median(after) < 0.7 * np.median(before) else None


def _spread_out(estimated: ResidualField, share: float) -> bool:
    """Whether the sure places lie all over the picture: one near or moving thing fills one quarter of it, not three."""
    sure = estimated.confidence > SURE
    rows, columns = sure.shape[0] // 2, sure.shape[1] // 2
    quarters = (sure[:rows, :columns], sure[:rows, columns:], sure[rows:, :columns], sure[rows:, columns:])
    return share >= TRUSTED_SHARE and sum(float(q.mean()) >= TRUSTED_QUARTER_SHARE for q in quarters) >= 3


class SelfAligner:
    """Turns proposals into corrections: never ("off"), on request ("propose"), or by itself and slowly ("apply").

    "apply" waits for `agreeing` proposals in a row that are `trusted` and agree to 2 px on average: what passes through
    the picture does not stay in one place that long. The correction moves by at most `rate_px_s` at the picture's
    corners, and by at most `step_px` at once, however long ago the last step was. While it moves, `moving` is True and
    the drift monitor's evidence is of no use (`DriftMonitor.reset` when it has settled). One owner thread.
    """

    def __init__(
        self,
        mode: Literal["off", "propose", "apply"],
        size: tuple[int, int],
        *,
        rate_px_s: float = 2.0,
        step_px: float = float("inf"),
        limit_px: float = 60.0,
        agreeing: int = AGREEING,
    ) -> None:
        if mode not in ("off", "propose", "apply"):
            raise ConfigError(f"self_align is {mode!r}, must be off, propose or apply")
        if rate_px_s <= 0 or step_px <= 0 or limit_px <= 0 or agreeing < 1:
            raise ConfigError(
                f"self_align: rate_px_s {rate_px_s}, step_px {step_px}, limit_px {limit_px} and agreeing {agreeing} "
                "must be above 0"
            )
        self.mode = mode
        height, width = size
        self._corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
        y, x = np.mgrid[1:6:2, 1:6:2] / 6
        self._inside = np.stack([x.ravel() * width, y.ravel() * height], axis=-1)  # (9, 2) places all over the picture
        self._rate_px_s, self._step_px, self._limit_px = rate_px_s, step_px, limit_px
        self._start = np.eye(3)
        self._current = self._start.copy()
        self._target = self._current.copy()
        self._proposal: np.ndarray | None = None
        self._agreeing: deque[np.ndarray] = deque(maxlen=agreeing)
        self._last_ns: int | None = None

    @property
    def correction(self) -> np.ndarray:
        """(3, 3) in use now."""
        return self._current.copy()

    @property
    def proposal(self) -> np.ndarray | None:
        """(3, 3) correction that is proposed and not yet applied."""
        return None if self._proposal is None else self._proposal.copy()

    @property
    def moving(self) -> bool:
        """Whether the correction is on its way to a new value."""
        return self._distance(self._current, self._target) > 1e-9

    @property
    def moved_px(self) -> float:
        """How far the correction in use lies from the one that this run started with, at the corners."""
        return self._distance(self._current, self._start)

    def distance_px(self, correction: np.ndarray) -> float:
        """How far a correction lies from the one in use, at the corners."""
        return self._distance(correction, self._current)

    def offer(self, state: DriftState) -> None:
        """Take the monitor's result, which was measured with `correction` in use."""
        if self.mode == "off" or self.moving:
            return
        if state.level is DriftLevel.OK:
            self._proposal = None  # the proposal has been applied, or did not hold
        if state.update is None:
            self._agreeing.clear()
            return
        proposal = state.update @ self._current
        proposal = proposal / proposal[2, 2]
        if self._distance(proposal, self._start) > self._limit_px:
            self._agreeing.clear()
            return  # a rig this far off needs a new calibration; the level stays an alarm
        self._proposal = proposal
        if not state.trusted:
            self._agreeing.clear()
            return
        self._agreeing.append(proposal)
        if self.mode == "apply" and len(self._agreeing) == self._agreeing.maxlen and self._agree():
            self.accept()

    def _agree(self) -> bool:
        """Whether the last proposals agree with the newest."""
        newest = apply_homography(self._agreeing[-1], self._inside)
        return all(
            float(np.linalg.norm(apply_homography(other, self._inside) - newest, axis=1).mean()) <= AGREE_PX
            for other in self._agreeing
        )

    def accept(self) -> None:
        """Start moving to the proposal. Does nothing without one."""
        if self._proposal is not None:
            self._target, self._proposal = self._proposal, None
        self._agreeing.clear()

    def discard(self) -> None:
        """Drop the proposal and go back to the correction that this run started with."""
        self._proposal = None
        self._agreeing.clear()
        self._target = self._start.copy()

    def step(self, t_ns: int) -> np.ndarray | None:
        """Advance to this time. Returns the new correction if it has changed, else None."""
        last, self._last_ns = self._last_ns, t_ns
        if not self.moving or last is None:
            return None
        allowed = min(self._step_px, self._rate_px_s * max(0, t_ns - last) / SECOND_NS)
        distance = self._distance(self._current, self._target)
        if distance <= allowed:
            self._current = self._target.copy()
        else:
            self._current = self._current + (self._target - self._current) * (allowed / distance)
        return self._current.copy()

    def _distance(self, a: np.ndarray, b: np.ndarray) -> float:
        """Largest distance between the two corrections at the picture's corners, pixels."""
        return float(
            np.linalg.norm(apply_homography(a, self._corners) - apply_homography(b, self._corners), axis=1).max()
        )
