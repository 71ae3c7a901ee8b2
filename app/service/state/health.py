"""Liveness and readiness of the rig, apart: looked at once a second in the service's own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.configuration.service import WatchdogConfig
from app.pipeline.stats import RecordingState
from app.service.state.watchdog import Observation, Verdict, WatchdogJudge

if TYPE_CHECKING:
    from app.pipeline.live_fusion import LiveFusion

__all__ = ["READY_STATES", "Health"]

READY_STATES = ("running", "degraded_visible_only", "degraded_thermal_only")


class Health:
    """Judges the pipeline and keeps the last verdict. `look` belongs to one thread; the rest may be read by any.

    Args:
        patient: see WatchdogJudge.
    """

    def __init__(
        self,
        live: LiveFusion,
        config: WatchdogConfig,
        patient: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live, self._clock_s = live, clock_s
        self.judge = WatchdogJudge(config, patient)
        self._beats: dict[str, Callable[[], int]] = {}
        self._lock = threading.Lock()
        self._verdict = Verdict(fresh=False, stuck=())
        self._grace_until_s = clock_s() + config.no_camera_s
        self._seen_output = False

    def watch(self, name: str, beat: Callable[[], int]) -> None:
        """Also judge a worker by a counter that rises while it is alive."""
        with self._lock:
            self._beats[name] = beat

    def look(self) -> Verdict:
        """Observe and judge now."""
        now_s = self._clock_s()
        seen = self._observe()
        self._seen_output = self._seen_output or seen.fused > 0
        if not self._seen_output and now_s < self._grace_until_s:
            verdict = Verdict(fresh=False, stuck=(), waiting=True)  # starting: cameras open, the engine warms up
        else:
            verdict = self.judge.look(now_s, seen)
        self._verdict = verdict
        return verdict

    @property
    def verdict(self) -> Verdict:
        """The last judgement."""
        return self._verdict

    def readiness(self) -> tuple[bool, str]:
        """(whether pictures come out, the pipeline's state in a word)."""
        state = self._live.state.value
        return state in READY_STATES and self._verdict.alive, state

    def _observe(self) -> Observation:
        live = self._live
        snapshot = live.stats.snapshot()
        status = live.recording.status
        writing = status.recording and status.state is RecordingState.RECORDING
        with self._lock:
            beats = {name: beat() for name, beat in self._beats.items()}
        state = live.state.value
        return Observation(
            fused=snapshot.frames["fused"],
            workers=live.worker_progress(),
            cameras=snapshot.cameras,
            recorded=sum(status.frames.values()) + status.segments if writing else None,
            beats=beats,
            no_cameras=state in ("no_cameras", "starting") and "streaming" not in snapshot.cameras.values(),
            ended=state in ("stopped", "failed"),
        )
