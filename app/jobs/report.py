"""What a fuse job tells: how far it is, what it did, and how long its stages took."""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["FuseProgress", "FuseReport", "StageClock", "StageTime"]


@dataclass(frozen=True, slots=True)
class FuseProgress:
    """How far a job is; `total` may be None (unknown) or off by a few. fps counts from the first frame."""

    done: int
    total: int | None
    fps: float


@dataclass(frozen=True, slots=True)
class StageTime:
    """Time of one stage: per frame in ms, and its share (0..1) of the sum over all stages."""

    median_ms: float
    p95_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class FuseReport:
    """What a job did.

    seconds: length of the video, 0 for pictures. wall_s: without making and warming up the engine. damage: one line an
    input that broke off early or could not be read in places; the output then ends (or is held) there, or leaves those
    pairs out, which `left_out` counts.
    """

    output: Path
    engine: str
    frames: int
    seconds: float
    wall_s: float
    stages: dict[str, StageTime] = field(default_factory=dict)
    held: int = 0
    visible_only: int = 0
    left_out: int = 0
    first_gap_s: float | None = None
    interrupted: bool = False
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fps(self) -> float:
        """Frames a second of wall time, decoding and encoding included."""
        return self.frames / self.wall_s if self.wall_s > 0 else 0.0


class StageClock:
    """Times the stages of a job, and the job from when the clock is made. Each stage belongs to one thread."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._paused_s = 0.0
        self._times_ms: dict[str, array[float]] = {}

    def add(self, stage: str, began_s: float) -> None:
        """Count one run of a stage, which began at `began_s` of `time.perf_counter` and ends now."""
        self._times_ms.setdefault(stage, array("d")).append((time.perf_counter() - began_s) * 1000)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of this block out of `elapsed_s`."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - began_s

    @property
    def elapsed_s(self) -> float:
        """Wall time of the job, without its pauses."""
        return time.perf_counter() - self._began_s - self._paused_s

    def times(self) -> dict[str, StageTime]:
        """Each stage that ran, in the order in which they began."""
        whole_ms = sum(map(sum, self._times_ms.values())) or 1.0
        return {
            stage: StageTime(float(np.median(times)), float(np.percentile(times, 95)), sum(times) / whole_ms)
            for stage, times in self._times_ms.items()
        }
