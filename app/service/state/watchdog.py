"""Is it alive? Judged by the output counter and by each worker's progress; never by the mere presence of a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.configuration.service import WatchdogConfig

__all__ = ["Observation", "Verdict", "WatchdogJudge"]

_BACKOFF_ALLOWANCE_S = 40.0  # a camera that is gone is asked again after up to 10 s, and opening it may take 20 s
_LONGEST_PAUSE_S = 1.0
_WAITING_STATES = ("lost", "opening", "closed")


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


class WatchdogJudge:
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
