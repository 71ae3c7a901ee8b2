"""The one source of numbers: rates, latency, skew, drops and states, counted by all stages and read by all displays.

Every method of `Stats` may be called from any thread and takes microseconds; memory is bounded whatever happens.
`snapshot` gives a frozen picture that is plain JSON (`StatsSnapshot.to_dict`).
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from app.pipeline.state.histogram import Histogram, WindowedHistogram
from app.recording.writing.status import LoadStep, RecordingState
from fusion_core.frames import Stream

__all__ = [
    "BudgetLevel",
    "BudgetReading",
    "Distribution",
    "DriftReading",
    "HistogramReading",
    "Latency",
    "QueueDepth",
    "RecordingState",
    "Stage",
    "Stats",
    "StatsSnapshot",
]

_MAX_TIMES = 2048  # time stamps kept a stage: a window of 2 s up to 1000 frames/s
_EDGES_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 2500.0)
_MAX_CAUSES = 64  # different drop causes, queues or notes; more are counted together as "other"


class Stage(StrEnum):
    """Where frames are counted."""

    VISIBLE = "visible"
    THERMAL = "thermal"
    PAIRED = "paired"
    FUSED = "fused"
    SHOWN = "shown"
    RECORDED = "recorded"


class Latency(StrEnum):
    """From the time stamp of a pair to ..."""

    FUSED = "grab_to_fused"
    SHOWN = "grab_to_shown"


class BudgetLevel(StrEnum):
    """What the alignment budget says."""

    GREEN = "green"  # up to three quarters of the limit
    AMBER = "amber"  # up to the limit
    RED = "red"  # above: expect double edges
    UNKNOWN = "unknown"  # a part cannot be told, and the rest is within the limit


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """The alignment budget, px on the visible grid. A part that cannot be told is None and has its reason in notes.

    total_px: the sum of the parts that are known. shift_dx_px, shift_dy_px: the measured residual shift, thermal
    content lies that far right of and below the visible content. motion_px_s: how fast the picture moves.
    """

    level: BudgetLevel
    limit_px: float
    total_px: float
    parallax_px: float | None
    skew_px: float | None
    residual_px: float | None
    shift_dx_px: float | None = None
    shift_dy_px: float | None = None
    motion_px_s: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftReading:
    """What the drift monitor says. Pixels of the visible grid; None where the scene does not tell.

    level: unknown, ok, notice (above 2.5 px), warn (4) or alarm (8). far_px: how far off thermal lies where it belongs
    further away than the monitor reaches; None: not known to. dx_px, dy_px: how far right and down the thermal
    picture has to move. confidence: share of the picture that says so. mode: off, propose or apply.
    proposed_px: how far the proposed correction moves the picture's corners; applied_px: how far the one in use does;
    moving: it is on its way to another. proposal_file: the proposal, as a calibration to load.
    looked, skipped: comparisons made, and moments without a pair fit for one (held, moving, no partner).
    steps, steps_replaced: corrections handed to the fusion thread, and those a newer one replaced before it took them.
    """

    level: str
    mode: str
    far_px: float | None = None
    drift_px: float | None = None
    dx_px: float | None = None
    dy_px: float | None = None
    confidence: float = 0.0
    proposed_px: float | None = None
    applied_px: float = 0.0
    moving: bool = False
    proposal_file: str | None = None
    looked: int = 0
    skipped: int = 0
    steps: int = 0
    steps_replaced: int = 0


@dataclass(frozen=True, slots=True)
class Distribution:
    """Figures of a quantity in ms; NaN-free: `count` 0 has None everywhere."""

    count: int
    p50: float | None
    p95: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class HistogramReading:
    """All values since the start: `at_most[i]` of them are at most `edges_ms[i]`, to 5 %."""

    edges_ms: tuple[float, ...]
    at_most: tuple[int, ...]
    count: int
    sum_ms: float


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Fill of a bounded queue, and the most since the start."""

    depth: int
    capacity: int
    most: int


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """All numbers at one moment. fps and latency, skew: over the last seconds; the rest: since the start."""

    uptime_s: float
    fps: Mapping[str, float]
    frames: Mapping[str, int]
    latency_ms: Mapping[str, Distribution]
    latency_total_ms: Mapping[str, Distribution]
    skew_ms: Distribution  # absolute
    skew_mean_ms: float | None  # signed, visible minus thermal: shows a constant offset between the clocks
    fuse_ms: Distribution
    drops: Mapping[str, int]
    reconnects: Mapping[str, int]
    cameras: Mapping[str, str]
    ffc_count: int
    ffc_active: bool
    queues: Mapping[str, QueueDepth]
    engine: str
    fallback_reason: str | None
    recording: RecordingState
    recording_file: str | None
    recorded_s: float | None
    disk_s_left: float | None
    budget: BudgetReading | None
    warnings: tuple[str, ...]
    recorded: Mapping[str, int] = field(default_factory=dict)
    """Pictures of the recording under way by track."""
    recording_step: str = LoadStep.FULL.value
    """What is recorded under the present load."""
    histograms: Mapping[str, HistogramReading] = field(default_factory=dict)
    """grab_to_fused, grab_to_shown, skew (absolute) and fuse, for monitoring systems."""
    drift: DriftReading | None = None

    @property
    def total_drops(self) -> int:
        """All drops of all causes."""
        return sum(self.drops.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: numbers rounded to a thousandth, no NaN, no infinity."""
        plain = _plain(self)
        assert isinstance(plain, dict)  # a dataclass becomes a dict
        return plain


@dataclass(slots=True)
class _Distributions:
    recent: WindowedHistogram
    total: Histogram = field(default_factory=Histogram)


class Stats:
    """Counts for the whole application. Thread-safe; owns no thread.

    Args:
        clock_ns: monotonic time, ns.
        window_s: seconds over which rates are taken; latency and skew are taken over five times as long.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns, window_s: float = 2.0) -> None:
        self._lock = threading.Lock()
        self._clock_ns = clock_ns
        self._window_ns = int(window_s * 1e9)
        self._start_ns = clock_ns()
        self._times: dict[Stage, deque[int]] = {stage: deque(maxlen=_MAX_TIMES) for stage in Stage}
        self._frames = dict.fromkeys(Stage, 0)
        slices, slice_ns = 10, self._window_ns // 2
        self._latency = {kind: _Distributions(WindowedHistogram(slices, slice_ns)) for kind in Latency}
        self._skew = WindowedHistogram(slices, slice_ns)
        self._fuse = WindowedHistogram(slices, slice_ns)
        self._skew_total, self._fuse_total = Histogram(), Histogram()
        self._skew_mean_ms: float | None = None
        self._drops: dict[str, int] = {}
        self._reconnects = dict.fromkeys(Stream, 0)
        self._cameras = dict.fromkeys(Stream, "closed")
        self._ffc_count = 0
        self._ffc_active = False
        self._queues: dict[str, QueueDepth] = {}
        self._engine = "none"
        self._fallback_reason: str | None = None
        self._recording = RecordingState.OFF
        self._recording_file: str | None = None
        self._recorded_s: float | None = None
        self._disk_s_left: float | None = None
        self._recorded: dict[str, int] = {}
        self._recording_step = LoadStep.FULL.value
        self._budget: BudgetReading | None = None
        self._drift: DriftReading | None = None
        self._warnings: dict[str, str] = {}

    # ------------------------------------------------------------------ counting

    def frame(self, stage: Stage, count: int = 1) -> None:
        """A frame (or `count` of them) has passed this stage just now."""
        now_ns = self._clock_ns()
        with self._lock:
            self._frames[stage] += count
            self._times[stage].extend([now_ns] * min(count, _MAX_TIMES))

    def latency(self, kind: Latency, milliseconds: float) -> None:
        """One frame took this long; values that are no number are ignored, negative ones count as 0."""
        now_ns = self._clock_ns()
        with self._lock:
            self._latency[kind].recent.add(milliseconds, now_ns)
            self._latency[kind].total.add(milliseconds)

    def fuse_time(self, milliseconds: float) -> None:
        """The engine's share of one pair."""
        now_ns = self._clock_ns()
        with self._lock:
            self._fuse.add(milliseconds, now_ns)
            self._fuse_total.add(milliseconds)

    def skew(self, skew_ns: int) -> None:
        """Visible minus thermal time of one pair."""
        now_ns = self._clock_ns()
        skew_ms = skew_ns / 1e6
        with self._lock:
            self._skew.add(abs(skew_ms), now_ns)
            self._skew_total.add(abs(skew_ms))
            mean = self._skew_mean_ms
            self._skew_mean_ms = skew_ms if mean is None else mean + 0.02 * (skew_ms - mean)

    def drop(self, cause: str, count: int = 1) -> None:
        """Frames were lost for this reason."""
        with self._lock:
            key = self._bounded(self._drops, cause)
            self._drops[key] = self._drops.get(key, 0) + count

    def set_drops(self, cause: str, total: int) -> None:
        """The number of drops of a cause that somebody else counts since the start."""
        with self._lock:
            self._drops[self._bounded(self._drops, cause)] = total

    def reconnect(self, stream: Stream) -> None:
        """A camera is back after it was lost."""
        with self._lock:
            self._reconnects[stream] += 1

    def camera_state(self, stream: Stream, state: str) -> None:
        """A short word on a camera, e.g. "streaming" or "stalled"."""
        with self._lock:
            self._cameras[stream] = state

    def ffc(self, active: bool) -> None:
        """The thermal shutter is closed or open; each closing counts once."""
        with self._lock:
            if active and not self._ffc_active:
                self._ffc_count += 1
            self._ffc_active = active

    def queue(self, name: str, depth: int, capacity: int) -> None:
        """The fill of a queue at this moment."""
        with self._lock:
            key = self._bounded(self._queues, name)
            before = self._queues.get(key)
            self._queues[key] = QueueDepth(depth, capacity, max(depth, before.most if before else 0))

    def engine(self, name: str, fallback_reason: str | None = None) -> None:
        """What fuses now, and why it is not what was asked for (None: it is)."""
        with self._lock:
            self._engine, self._fallback_reason = name, fallback_reason

    def recording(
        self,
        state: RecordingState,
        file: str | None = None,
        recorded_s: float | None = None,
        disk_s_left: float | None = None,
        recorded: Mapping[str, int] | None = None,
        step: str = LoadStep.FULL.value,
    ) -> None:
        """What the recorder does, into which file, for how long, for how many seconds there is space, how many pictures
        of each track it has written, and what it leaves out under load."""
        with self._lock:
            self._recorded, self._recording_step = dict(recorded or {}), step
            self._recording, self._recording_file = state, file
            self._recorded_s, self._disk_s_left = recorded_s, disk_s_left

    def budget(self, reading: BudgetReading | None) -> None:
        """The newest alignment budget."""
        with self._lock:
            self._budget = reading

    def drift(self, reading: DriftReading | None) -> None:
        """The newest word of the drift monitor."""
        with self._lock:
            self._drift = reading

    def warn(self, key: str, text: str | None) -> None:
        """Show a lasting warning under this key, e.g. "agc"; None takes it away."""
        with self._lock:
            if text is None:
                self._warnings.pop(key, None)
            else:
                self._warnings[self._bounded(self._warnings, key)] = text

    # ------------------------------------------------------------------ reading

    def frames_so_far(self, stage: Stage) -> int:
        """Frames that have passed this stage since the start."""
        with self._lock:
            return self._frames[stage]

    def rates(self) -> tuple[dict[Stage, float], Distribution]:
        """Frames a second of each stage, and the engine's share of a pair, over the last seconds."""
        now_ns = self._clock_ns()
        with self._lock:
            return {stage: self._rate(stage, now_ns) for stage in Stage}, _figures(self._fuse.merged(now_ns))

    def snapshot(self) -> StatsSnapshot:
        """All numbers at this moment."""
        now_ns = self._clock_ns()
        with self._lock:
            return StatsSnapshot(
                uptime_s=(now_ns - self._start_ns) / 1e9,
                fps=_frozen({stage.value: self._rate(stage, now_ns) for stage in Stage}),
                frames=_frozen({stage.value: count for stage, count in self._frames.items()}),
                latency_ms=_frozen({k.value: _figures(d.recent.merged(now_ns)) for k, d in self._latency.items()}),
                latency_total_ms=_frozen({k.value: _figures(d.total) for k, d in self._latency.items()}),
                skew_ms=_figures(self._skew.merged(now_ns)),
                skew_mean_ms=self._skew_mean_ms,
                fuse_ms=_figures(self._fuse.merged(now_ns)),
                drops=_frozen(self._drops),
                reconnects=_frozen({stream.value: count for stream, count in self._reconnects.items()}),
                cameras=_frozen({stream.value: state for stream, state in self._cameras.items()}),
                ffc_count=self._ffc_count,
                ffc_active=self._ffc_active,
                queues=_frozen(self._queues),
                engine=self._engine,
                fallback_reason=self._fallback_reason,
                recording=self._recording,
                recording_file=self._recording_file,
                recorded_s=self._recorded_s,
                disk_s_left=self._disk_s_left,
                budget=self._budget,
                drift=self._drift,
                warnings=tuple(self._warnings.values()),
                recorded=_frozen(self._recorded),
                recording_step=self._recording_step,
                histograms=_frozen(
                    {
                        **{kind.value: _reading(d.total) for kind, d in self._latency.items()},
                        "skew": _reading(self._skew_total),
                        "fuse": _reading(self._fuse_total),
                    }
                ),
            )

    def _rate(self, stage: Stage, now_ns: int) -> float:
        """Frames a second: from the intervals within the window; falls to 0 when frames stop coming."""
        times = self._times[stage]
        while times and times[0] <= now_ns - self._window_ns:
            times.popleft()
        if len(times) < 2:
            return len(times) / (self._window_ns / 1e9)
        span_ns = times[-1] - times[0]
        silence_ns = now_ns - times[-1]
        if span_ns <= 0:
            return len(times) / (self._window_ns / 1e9)
        if silence_ns > 2 * span_ns / (len(times) - 1):
            return (len(times) - 1) / ((span_ns + silence_ns) / 1e9)
        return (len(times) - 1) / (span_ns / 1e9)

    @staticmethod
    def _bounded(known: Mapping[str, object], key: str) -> str:
        return key if key in known or len(known) < _MAX_CAUSES else "other"


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))


def _figures(histogram: Histogram) -> Distribution:
    return Distribution(
        count=histogram.count,
        p50=histogram.percentile(50.0),
        p95=histogram.percentile(95.0),
        maximum=histogram.maximum,
    )


def _reading(histogram: Histogram) -> HistogramReading:
    return HistogramReading(_EDGES_MS, histogram.cumulative(_EDGES_MS), histogram.count, histogram.sum)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value
