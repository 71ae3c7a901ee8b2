"""What is looked at a few times a second, off the fusion thread: counters, queues, and the alignment budget."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

from app.capture.capture_thread import CaptureState
from app.capture.synchronizer import DropCause, output_time_ns
from app.pipeline.alignment_budget import AlignmentBudget
from app.pipeline.capture_supervisor import CaptureSupervisor
from app.pipeline.engine.preset_choice import RateReading
from app.pipeline.fusion_thread import FusionThread
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, ProblemLog, Severity
from app.pipeline.state.stats import Stage, Stats
from app.recording.writing.recorder import RETRY_S, Recorder
from app.recording.writing.status import RecordingState, RecordingStatus
from fusion_core.frames import FrameFlag, FusedFrame, Stream

__all__ = ["BudgetFeeder", "Monitor", "RecorderReport"]

_STUCK_NS = 5_000_000_000
_TICK_NS = 500_000_000
_FIGURES = re.compile(r"[\d.]+")


class BudgetFeeder:
    """Keeps the alignment budget up to date from the newest fused frames. One thread.

    It need not see every frame: motion is measured between two frames 50 to 200 ms apart.
    """

    def __init__(self, budget: AlignmentBudget, latest: LatestSlot[FusedFrame], stats: Stats) -> None:
        self._budget, self._latest, self._stats = budget, latest, stats
        self._last: FusedFrame | None = None
        self._next_reading_ns = 0

    def feed(self, now_ns: int) -> None:
        """Look at the newest frame; once a second measure the shift and publish a reading."""
        frame = self._latest.peek()
        if frame is not None and frame is not self._last:
            self._last = frame
            self._observe(frame)
        if now_ns >= self._next_reading_ns:
            self._next_reading_ns = now_ns + 1_000_000_000
            if frame is not None:
                self._stats.budget(self._budget.reading())

    def forget_shift(self) -> None:
        """The alignment has changed: measurements under the former one do not hold. Any thread may call this."""
        self._budget.reset_shift()

    def _observe(self, frame: FusedFrame) -> None:
        pair = frame.pair
        visible = pair.visible
        time_ns = output_time_ns(pair)
        self._budget.observe(visible.pixels if visible is not None else None, pair.skew_ns, time_ns)
        fresh = not pair.flags & (FrameFlag.HELD | FrameFlag.FFC | FrameFlag.SKEW_EXCEEDED)
        levels = frame.thermal_8bit
        if visible is not None and levels is not None and fresh and self._budget.shift_due(time_ns):
            self._budget.measure_shift(visible.pixels, levels, time_ns)


class RecorderReport:
    """The recorder's listener: brings its state into `Stats`, and what the user should know into the problems."""

    def __init__(self, stats: Stats, problems: ProblemLog, queue_frames: int) -> None:
        self._stats, self._problems, self._queue_frames = stats, problems, queue_frames
        self._lock = threading.Lock()
        self._before: tuple[RecordingState, str] = (RecordingState.OFF, "")

    def show(self, status: RecordingStatus) -> None:
        """Show the state now; tell a change once."""
        self._stats.recording(
            status.state,
            str(status.path) if status.path is not None else None,
            status.seconds if status.recording else None,
            status.disk_seconds_left,
            status.frames if status.recording else {},
            status.step.value,
        )
        for track, depth in status.depths.items():
            self._stats.queue(f"recorder_{track}", depth, self._queue_frames)
        for track, count in status.refused_in_all.items():
            self._stats.set_drops(f"recorder_{track}", count)
        if status.left_out_in_all:
            self._stats.set_drops("recorder_left_out", status.left_out_in_all)
        self._stats.warn("recording", status.reason or None)
        now = (status.state, _FIGURES.sub("#", status.reason))  # "full in 4 min", "full in 3 min": told once
        with self._lock:
            before, self._before = self._before, now
        if before != now:
            self._tell_change(before[0], status)

    def tell(self, text: str, advice: str = "", *, lost: bool = True) -> None:
        """Note a problem. lost: pictures are, or a file may be."""
        self._problems.add(Severity.ERROR if lost else Severity.WARNING, "recording", text, advice)

    def _tell_change(self, before: RecordingState, status: RecordingStatus) -> None:
        reason = status.reason
        if before is RecordingState.PAUSED and status.state is RecordingState.RECORDING:
            self._problems.add(Severity.INFO, "recording", "there is space again, the recording goes on")
        if not reason:
            return
        if status.state is RecordingState.FAILED:
            text = f"the recorder failed: {reason}; a new file is begun in {RETRY_S:.0f} s"
            self.tell(text, "lumitherm recording recover FILE mends the last file")
        elif status.state is RecordingState.PAUSED:
            self.tell(f"nothing is recorded: {reason}", "make space; recording then continues automatically")
        elif status.state is RecordingState.RECORDING:
            self.tell(reason, lost=False)


class Monitor:
    """Brings the counters of all stages into `Stats`, twice a second. Called by the pipeline's thread."""

    def __init__(
        self,
        cameras: CaptureSupervisor,
        fusion: FusionThread,
        recording: Recorder,
        context: PipelineContext,
        buffer_frames: int,
    ) -> None:
        self._capture, self._fusion = cameras, fusion
        self._recording = recording
        self._stats, self._problems, self._clock = context.stats, context.problems, context.clock
        self._buffer_frames = buffer_frames
        self._reconnects = dict.fromkeys(Stream, 0)
        self._drops: dict[str, int] = {}
        self._before_first: Mapping[DropCause, int] | None = None
        self._next_ns = 0
        self._stuck_told = False

    def tick(self, now: bool = False) -> None:
        """Do what is due; `now` does it whether or not it is."""
        now_ns = self._clock.now_ns()
        if now_ns < self._next_ns and not now:
            return
        self._next_ns = now_ns + _TICK_NS
        self._cameras()
        self._synchronization()
        self._recording.describe(drops=dict(self._drops))
        self._recording.tick()
        self._watch_rate()
        self._watch_fusion(now_ns)

    def first_picture(self) -> None:
        """Count from here on: what one camera gave before the other had begun is no loss. Called by any thread."""
        if self._before_first is None:
            self._before_first = self._capture.synchronizer.stats().dropped

    def _cameras(self) -> None:
        for stream in Stream:
            figures = self._capture.figures(stream)
            self._stats.camera_state(stream, figures.state.value)
            reconnects = self._capture.reconnects(stream)
            for _ in range(reconnects - self._reconnects[stream]):
                self._stats.reconnect(stream)
            self._reconnects[stream] = reconnects
            lost = self._capture.lost_frames(stream)
            if lost:
                self._count(f"{stream.value}_camera", lost)
            text = None
            if figures.state is CaptureState.STREAMING and figures.bad_stamps > figures.frames / 2:
                text = f"the {stream.value} camera's time stamps are useless; frames are stamped on arrival"
            self._stats.warn(f"{stream.value}_stamps", text)

    def _synchronization(self) -> None:
        """Publish the synchronizer's drops and queues. What different frame rates leave over is no loss."""
        figures = self._capture.synchronizer.stats()
        before = self._before_first
        for cause, total in figures.dropped.items():
            number = total - before.get(cause, 0) if before is not None else 0
            if number > 0 and not cause.value.endswith("_unused"):
                self._count(cause.value, number)
        for stream, depth in figures.depth.items():
            self._stats.queue(stream.value, depth, self._buffer_frames)

    def _count(self, cause: str, total: int) -> None:
        self._drops[cause] = total
        self._stats.set_drops(cause, total)

    def _watch_rate(self) -> None:
        fps, fuse = self._stats.rates()
        captured = fps[Stage(self._capture.synchronizer.master.value)]
        self._fusion.observe(RateReading(captured, fps[Stage.FUSED], fuse.p95))

    def _watch_fusion(self, now_ns: int) -> None:
        since_ns = self._fusion.busy_since_ns
        stuck = since_ns is not None and now_ns - since_ns > _STUCK_NS
        if stuck and not self._stuck_told and since_ns is not None:
            seconds = (now_ns - since_ns) / 1e9
            self._problems.add(
                Severity.ERROR,
                "engine",
                f"the engine has been busy with one picture for {seconds:.0f} s",
                "if this goes on, restart with another engine",
            )
        elif self._stuck_told and since_ns is None:
            self._problems.add(Severity.INFO, "engine", "the engine has finished the picture that took so long")
        self._stuck_told = stuck or (self._stuck_told and since_ns is not None)
