"""Conditions that mark events: pure decisions on thermal pictures and the time, and the thread that applies them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import structlog

from app.configuration.service import TriggerConfig, TriggerKind
from app.pipeline.state.latest_slot import LatestSlot
from app.service.state.health import ServiceWorker
from fusion_core.errors import ConfigError, LumithermError
from fusion_core.frames import Detection, FrameFlag, FusedFrame

__all__ = ["Rule", "TriggerThread", "make_rules", "threshold_counts"]

_PERIOD_S = 0.1
_BACKGROUND_SHARE = 0.05  # of a new picture in the background that motion is measured against
_WARM_UP = 10  # pictures before motion is believed
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def threshold_counts(config: TriggerConfig, automatic_scale: str) -> int | None:
    """The threshold in counts.

    Args:
        automatic_scale: what `scale: auto` means for this rig; see app.rig.radiometry.default_scale.

    Raises:
        ConfigError: degrees are asked of a camera whose scale is not known.
    """
    if config.celsius is None:
        return config.counts
    from app.rig.radiometry import scale_of  # imports the configuration, which imports ours

    name = automatic_scale if config.scale == "auto" else config.scale
    scale = scale_of(name)
    if scale is None:
        raise ConfigError(
            f"service.triggers: {config.name} has a threshold in degrees, but the camera's scale is {name}; set"
            " thermal.kelvin_per_count or scale: tlinear-0.01, kelvin-64, ... if the camera is so, or give counts"
        )
    return scale.counts(config.celsius)


class Rule:
    """One trigger with its memory. One thread; the caller gives time and pictures."""

    def __init__(self, config: TriggerConfig, threshold: int | None) -> None:
        self.config, self._threshold = config, threshold
        self._since_s: float | None = None
        self._last_s: float | None = None
        self._background: np.ndarray | None = None
        self._seen = 0
        self._last_minute = ""

    def on_picture(self, now_s: float, thermal: np.ndarray) -> bool:
        """Whether a thermal picture, (H, W) counts, sets it off now."""
        config = self.config
        if config.kind in (TriggerKind.SCHEDULE, TriggerKind.DETECTION) or self._threshold is None:
            return False
        if not self._holds(_region(thermal, config.region)):
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s >= config.hold_s and self._fire(now_s)

    def on_detections(self, now_s: float, detections: Sequence[Detection]) -> bool:
        """Whether what the detector sees sets it off now."""
        config = self.config
        if config.kind is not TriggerKind.DETECTION:
            return False
        if not any(not config.labels or each.label in config.labels for each in detections):
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        return now_s - self._since_s >= config.hold_s and self._fire(now_s)

    def on_time(self, now_s: float, local: datetime) -> bool:
        """Whether the time of the day sets it off. A clock that is put back does not do so twice."""
        config = self.config
        if config.kind is not TriggerKind.SCHEDULE:
            return False
        minute = f"{local:%H:%M}"
        if minute not in config.at or _DAYS[local.weekday()] not in config.days:
            self._last_minute = ""
            return False
        if minute == self._last_minute:
            return False
        self._last_minute = minute
        return self._fire(now_s)

    def _holds(self, part: np.ndarray) -> bool:
        threshold, kind = self._threshold or 0, self.config.kind
        if kind is TriggerKind.HOT:
            share = float(np.count_nonzero(part >= threshold) / part.size)
        elif kind is TriggerKind.COLD:
            share = float(np.count_nonzero(part <= threshold) / part.size)
        else:
            share = self._moved(part)
        return bool(share * 100.0 >= self.config.area_percent)

    def _moved(self, part: np.ndarray) -> float:
        """Share of the region that differs from the slow background by more than the threshold."""
        now = part.astype(np.float32)
        now -= np.median(now)  # a gain step or drift of the whole picture is no motion
        background = self._background
        if background is None or background.shape != now.shape:
            self._background, self._seen = now, 1
            return 0.0
        share = float(np.count_nonzero(np.abs(now - background) > (self._threshold or 0)) / now.size)
        background += (now - background) * max(_BACKGROUND_SHARE, 1.0 / (self._seen + 1))
        self._seen += 1
        return share if self._seen > _WARM_UP else 0.0

    def _fire(self, now_s: float) -> bool:
        if self._last_s is not None and now_s - self._last_s < self.config.cooldown_s:
            return False
        self._last_s = now_s
        return True


def make_rules(configs: Sequence[TriggerConfig], automatic_scale: str) -> list[Rule]:
    """A rule for each trigger. Raises ConfigError, see threshold_counts."""
    return [Rule(config, threshold_counts(config, automatic_scale)) for config in configs]


class TriggerThread(ServiceWorker):
    """Applies rules to the newest thermal picture ten times a second. Thread: `triggers`.

    Args:
        mark: marks an event, given the trigger's name.
    """

    def __init__(
        self,
        latest: LatestSlot[FusedFrame],
        rules: Sequence[Rule],
        mark: Callable[[str], object],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__("triggers", self._work, on_failure)
        self._latest, self._rules, self._mark = latest, list(rules), mark
        self._lock = threading.Lock()

    def use(self, rules: Sequence[Rule]) -> None:
        """Other rules from the next picture on."""
        with self._lock:
            self._rules = list(rules)

    def _work(self, stopping: threading.Event) -> None:
        seen = 0
        while not stopping.wait(_PERIOD_S):
            self.heartbeat.beat()
            seen = self._look(seen)

    def _look(self, seen: int) -> int:
        frame, sequence = self._latest.peek(), self._latest.sequence
        with self._lock:
            rules = list(self._rules)
        now_s = time.monotonic()
        fired = [rule for rule in rules if rule.on_time(now_s, datetime.now().astimezone())]
        if frame is not None and sequence != seen:
            fired += [rule for rule in rules if rule.on_detections(now_s, frame.detections)]
            thermal, flags = frame.pair.thermal, frame.pair.flags
            if thermal is not None and not flags & (FrameFlag.FFC | FrameFlag.HELD):
                fired += [rule for rule in rules if rule.on_picture(now_s, thermal.pixels)]
        for rule in fired:
            try:
                self._mark(rule.config.name)
            except LumithermError as error:
                structlog.get_logger("service").error("an event could not be marked", reason=str(error))
        return sequence


def _region(thermal: np.ndarray, region: tuple[float, float, float, float]) -> np.ndarray:
    """The part of (H, W) that a region of fractions covers; at least one pixel."""
    height, width = thermal.shape[:2]
    top, left = int(region[0] * height), int(region[1] * width)
    bottom, right = round((region[0] + region[2]) * height), round((region[1] + region[3]) * width)
    return thermal[min(top, height - 1) : max(bottom, top + 1), min(left, width - 1) : max(right, left + 1)]
