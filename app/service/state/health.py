"""Is the rig alive, and is it ready? Judged by output and by each worker's progress, never by a process being there.

Workers of the service beat (`Heartbeat`), those of the pipeline count what they do. `Health` looks at both once a
second, and its `HealthJudge` says what stands still.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.configuration.service import WatchdogConfig
from app.pipeline.state.stats import RecordingState
from app.process import Worker

if TYPE_CHECKING:
    from app.pipeline.live_fusion import LiveFusion

__all__ = ["READY_STATES", "Health", "HealthJudge", "Heartbeat", "Observation", "ServiceWorker", "Verdict"]

READY_STATES = ("running", "degraded_visible_only", "degraded_thermal_only")
_BACKOFF_ALLOWANCE_S = 40.0  # a camera that is gone is asked again after up to 10 s, and opening it may take 20 s
_LONGEST_PAUSE_S = 1.0
_WAITING_STATES = ("lost", "opening", "closed")


class Heartbeat:
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
        """The thread begins to wait for somebody else, for at most this many seconds; until then it counts as alive."""
        self._count += 1
        self._until_s = self._clock_s() + seconds

    @property
    def beats(self) -> int:
        """A number that changes from one look to the next, half a second later, while the thread is alive."""
        now_s = self._clock_s()
        return int(now_s * 10) if now_s < self._until_s else self._count


class ServiceWorker(Worker):
    """A worker of the service, with a heartbeat by which others see that it is alive."""

    def __init__(
        self, name: str, body: Callable[[threading.Event], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        super().__init__(name, body, lambda _, error: on_failure(error))
        self.heartbeat = Heartbeat()


@dataclass(frozen=True, slots=True)
class Observation:
    """What is looked at once a second.

    fused: pictures so far. workers: see LiveFusion.worker_progress. cameras: state words by stream.
    recorded: pictures on disk so far, None while nothing is to be written. beats: further workers' own counters.
    no_cameras: neither camera delivers, both are being (re)opened. ended: the sources are at their end, nothing more is
    to come.
    """

    fused: int
    workers: Mapping[str, int] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)
    recorded: int | None = None
    beats: Mapping[str, int] = field(default_factory=dict)
    no_cameras: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """fresh: the output counter has moved since `fresh` was last taken. stuck: why the service counts as stuck.

    waiting: no camera is there; that is named, is no output, and is not yet held against the service. given_up: it has
    waited for long enough, and nothing but the cameras is missing.
    """

    fresh: bool
    stuck: tuple[str, ...]
    waiting: bool = False
    given_up: bool = False

    @property
    def alive(self) -> bool:
        """Whether nothing stands still."""
        return not self.stuck


class HealthJudge:
    """Remembers when each counter last moved. One thread; the caller gives the time.

    Args:
        patient: wait for cameras for ever, as safe mode does.
    """

    def __init__(self, config: WatchdogConfig, patient: bool = False) -> None:
        self._config, self._patient = config, patient
        self._last: dict[str, tuple[int, float]] = {}
        self._taken = 0  # output counter at the last `take`
        self._fused = 0
        self._no_camera_since_s: float | None = None
        self._looked_s: float | None = None
        self._counted_s = 0.0

    def look(self, now_s: float, seen: Observation) -> Verdict:
        """Judge one observation; call it about once a second.

        Of a longer pause only a second counts: then this whole process was held up, which is no worker's fault.
        """
        pause_s = now_s - self._looked_s if self._looked_s is not None else 0.0
        self._looked_s = now_s
        self._counted_s += min(pause_s, _LONGEST_PAUSE_S)
        now_s = self._counted_s
        limit_s = self._config.worker_limit_s
        self._fused = seen.fused
        if seen.ended:
            return Verdict(fresh=True, stuck=())
        stuck = []
        for name, value in (*seen.workers.items(), *seen.beats.items()):
            if name == "fusion":
                continue  # it may rightly wait for pictures; the output counter below judges it
            stream, _, kind = name.partition(" ")
            away = kind == "capture" and seen.cameras.get(stream, "closed") in _WAITING_STATES
            still_s = self._still_s(name, value, now_s)
            if kind == "capture" and seen.cameras.get(stream) == "ended":
                continue
            if still_s > limit_s + (_BACKOFF_ALLOWANCE_S if away else 0.0):
                stuck.append(f"{name} has stood still for {still_s:.0f} s")
        silent_s = self._still_s("output", seen.fused, now_s)
        waiting = self._waits(now_s, seen)
        given_up = False
        if silent_s > limit_s and not waiting:
            given_up = seen.no_cameras and not stuck
            stuck.append(f"no picture has come out for {silent_s:.0f} s")
        if seen.recorded is None:
            self._last.pop("recorder", None)
        elif silent_s <= limit_s:
            still_s = self._still_s("recorder", seen.recorded, now_s)
            if still_s > limit_s:
                stuck.append(f"recorder has written nothing for {still_s:.0f} s")
        return Verdict(seen.fused > self._taken, tuple(stuck), waiting, given_up)

    def take(self) -> None:
        """The watchdog was told of the pictures so far: the next ping needs newer ones."""
        self._taken = self._fused

    def _waits(self, now_s: float, seen: Observation) -> bool:
        """Before the first picture it waits for ever: a fresh start has just been tried."""
        if not seen.no_cameras:
            self._no_camera_since_s = None
            return False
        if self._no_camera_since_s is None:
            self._no_camera_since_s = now_s
        if self._patient or seen.fused == 0:
            return True
        return now_s - self._no_camera_since_s <= self._config.no_camera_s

    def _still_s(self, name: str, value: int, now_s: float) -> float:
        before = self._last.get(name)
        if before is None or before[0] != value:
            self._last[name] = (value, now_s)
            return 0.0
        return now_s - before[1]


class Health:
    """Judges the pipeline and keeps the last verdict. `look` belongs to one thread; the rest may be read by any.

    Args:
        patient: see HealthJudge.
    """

    def __init__(
        self,
        live: LiveFusion,
        config: WatchdogConfig,
        patient: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live, self._clock_s = live, clock_s
        self.judge = HealthJudge(config, patient)
        self._hearts: dict[str, Heartbeat] = {}
        self._lock = threading.Lock()
        self._verdict = Verdict(fresh=False, stuck=())
        self._grace_until_s = clock_s() + config.no_camera_s
        self._seen_output = False

    def watch(self, name: str, heartbeat: Heartbeat) -> None:
        """Also judge this worker of the service."""
        with self._lock:
            self._hearts[name] = heartbeat

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
            beats = {name: heart.beats for name, heart in self._hearts.items()}
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
