"""The live pipeline: cameras, synchronizer, fusion, recorder. Owns every thread; knows no window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from app.capture.cameras.camera import Clock, MonotonicClock
from app.capture.cameras.factory import CameraPair, create_cameras
from app.capture.offsets import resolve_offsets
from app.capture.synchronizer import output_time_ns
from app.configuration.config import AppConfig
from app.media.snapshot import save_snapshot
from app.pipeline.alignment import Alignment
from app.pipeline.capture_supervisor import CaptureSupervisor
from app.pipeline.detector import Detector
from app.pipeline.engine.builder import EngineFactory
from app.pipeline.engine.seat import EngineSeat
from app.pipeline.fusion_thread import FusionThread
from app.pipeline.monitor import Monitor, RecorderReport
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineContext, PipelineProblem, ProblemLog, Severity
from app.pipeline.state.stats import Latency, Stage, Stats
from app.pipeline.thermal_grid import ThermalGrid
from app.process import Worker, return_free_memory
from app.recording.config import TrackName
from app.recording.writing.recorder import Recorder
from fusion_core.engines.engine import create_engine
from fusion_core.errors import LumithermError, RunError
from fusion_core.frames import Frame, FrameFlag, FusedFrame, Stream
from fusion_core.redaction import redacted
from fusion_core.thermal.agc import contract_of

__all__ = ["LiveFusion", "PipelineProblem", "PipelineState", "Severity"]

_LOOP_S: Final = 0.06  # the budget needs two frames 50 to 200 ms apart
_SILENT_NS: Final = 1_000_000_000
_END_S: Final = 30.0  # after the end of a replay: time to write what is queued and to check the files
_RAW_WAIT_S: Final = 0.25  # that a raw picture waits for its encoder: then fusion waits, too
_GIVE_WAY_S: Final = 0.25  # before each picture at most, so that there are some whatever happens
_PAINTING_S: Final = 0.7  # at most, on a slow machine
_PAINTED_S: Final = 1.5  # of the simulated rig's world, before its first picture; the rest follows beside the cameras


class PipelineState(StrEnum):
    """What the user sees at one glance."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED_VISIBLE_ONLY = "degraded_visible_only"  # thermal is missing; the visible picture goes on alone
    DEGRADED_THERMAL_ONLY = "degraded_thermal_only"  # visible is missing; the thermal picture goes on alone
    NO_CAMERAS = "no_cameras"  # both are missing; they are reopened for ever
    STOPPED = "stopped"
    FAILED = "failed"  # see `failure`; stopped in order


class LiveFusion:
    """The pipeline of one rig, from `start` to `stop`; used once. All methods may be called from any thread.

    Threads: `pipeline` (starts, watches and stops the others), one a camera, `fusion`, `engine builder`, `drift`,
    `detector`, and the recorder's.

    Attributes:
        latest: pictures leave here; a consumer pulls and may be as slow as it likes.
        stats, problems: all numbers, and what went wrong (or well again) lately.
        cameras, fusion, engine, alignment, recording: the parts; each says what may be asked of it while it runs.

    Args:
        config: everything.
        clock: monotonic time.
        camera_factory: makes both cameras; `app.capture.cameras.factory.create_cameras` unless a test says otherwise.
        engine_factory: makes engines; `fusion_core.engines.engine.create_engine` unless a test says otherwise.
    """

    def __init__(
        self,
        config: AppConfig,
        *,
        clock: Clock | None = None,
        camera_factory: Callable[..., CameraPair] = create_cameras,
        engine_factory: EngineFactory = create_engine,
    ) -> None:
        self.config = config
        self._clock: Clock = clock if clock is not None else MonotonicClock()
        self._camera_factory = camera_factory
        self._worker = Worker("pipeline", self._run, self._fail)
        self._lock = threading.Lock()  # over start, stop and the failure
        self._wake = threading.Event()
        self._done = threading.Event()
        self._ended = False  # both sources are at their end
        self._stopping = False
        self._failure: BaseException | None = None
        self._deadline_s: float | None = None
        self._lossless = False
        self._gives_way = False  # fusion, to the encoders of what is recorded
        self._loops = 0  # of the pipeline's thread
        self._painter: Worker | None = None  # paints the rest of a simulated rig
        self.latest: LatestSlot[FusedFrame] = LatestSlot()
        self.stats = Stats(self._clock.now_ns)
        self.problems = ProblemLog()
        context = PipelineContext(self._clock, self.stats, self.problems, self._fail)
        report = RecorderReport(self.stats, self.problems, config.recording.queue_frames)
        self.recording = Recorder(config.recording, self._clock.now_ns, report)
        self._counted_track = next(iter(config.recording.ordered_tracks), None)
        self.engine = EngineSeat(config.engine, engine_factory, context)
        self.cameras = CaptureSupervisor(config, context, self._record_raw)
        self.fusion = FusionThread(self._publish, self.engine, config.agc, context, self._on_end, self._give_way)
        self.fusion.strength = config.engine.strength
        self.alignment = Alignment(config, self.latest, self.fusion, self._describe, context)
        self.detector = (
            Detector(wanted, self.latest, context, self._clock.now_ns) if (wanted := config.detector) else None
        )
        self._monitor = Monitor(self.cameras, self.fusion, self.recording, context, config.sync.buffer_frames)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Start everything and return at once. Cameras that are not there are waited for.

        Raises:
            RunError: it was started before.
        """
        with self._lock:
            if self._stopping or self._worker.native_id is not None:
                raise RunError("this pipeline was started before; make a new LiveFusion")
            self._worker.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop in order and close every file; returns after `timeout_s` at the latest. May be called again.

        What went wrong on the way is in `problems`; a thread that hangs in a driver is left behind and named there.
        """
        with self._lock:
            first = not self._stopping
            self._stopping = True
            if first:
                self._deadline_s = time.monotonic() + 0.9 * timeout_s
        self._worker.request_stop()
        self.engine.request_stop()
        self._wake.set()
        if self._worker.native_id is None:
            self.recording.close(timeout_s)
            self._done.set()
        elif not self._worker.join(timeout_s) and first:
            self.problems.add(
                Severity.ERROR,
                "pipeline",
                f"it did not stop within {timeout_s:g} s; a camera or a disk hangs",
                "end the program; lumitherm recording recover FILE mends the last recording",
            )

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end: of the sources, by `stop`, or by a failure. Whether it has come; files are closed then."""
        return self._done.wait(timeout_s)

    @property
    def failure(self) -> BaseException | None:
        """What made the pipeline stop by itself, None if nothing did."""
        return self._failure

    @property
    def state(self) -> PipelineState:
        """What the pipeline does now."""
        if self._failure is not None:
            return PipelineState.FAILED
        if self._stopping or self._ended or self._done.is_set():
            return PipelineState.STOPPED
        last = self.fusion.last_output
        if last is None:
            return PipelineState.NO_CAMERAS if self.cameras.all_in_trouble else PipelineState.STARTING
        if self._clock.now_ns() - last.fused_ns > _SILENT_NS and self.fusion.busy_since_ns is None:
            return PipelineState.NO_CAMERAS
        if last.flags & FrameFlag.VISIBLE_ONLY:
            return PipelineState.DEGRADED_VISIBLE_ONLY
        if last.flags & FrameFlag.THERMAL_ONLY:
            return PipelineState.DEGRADED_THERMAL_ONLY
        return PipelineState.RUNNING

    def worker_progress(self) -> dict[str, int]:
        """For each worker a number that rises for as long as it is not stuck: pipeline, visible and thermal capture.

        A capture that waits out a back-off stands still for as long; that of fusion is the number of fused pictures.
        Empty before the workers are there.
        """
        captures = self.cameras.progress()
        if not captures:
            return {}
        return {"pipeline": self._loops, "fusion": self.stats.frames_so_far(Stage.FUSED), **captures}

    # ------------------------------------------------------------------ pictures

    def snapshot(self, folder: Path) -> Path:
        """Save the newest picture with its two sources and all that is known of it; runs in the calling thread.

        Returns:
            The new folder, with fused.png, visible.png, thermal.tiff and snapshot.json.

        Raises:
            RunError: there is no picture yet, or it cannot be written.
        """
        frame = self.latest.peek()
        if frame is None:
            raise RunError("there is no picture yet to take a snapshot of; wait for the first one")
        facts: dict[str, Any] = {
            "rig": self.config.rig,
            "calibration": self.fusion.grid.identity,
            "agc": contract_of(self.fusion.agc),
            "weights_sha256": self.engine.weights_sha256,
            "state": self.state.value,
        }
        return save_snapshot(frame, folder, facts)

    def note_shown(self, frame: FusedFrame) -> None:
        """A consumer has just put this picture on a screen: counts it and its latency."""
        self.stats.frame(Stage.SHOWN)
        if not self._lossless:
            self.stats.latency(Latency.SHOWN, (self._clock.now_ns() - output_time_ns(frame.pair)) / 1e6)

    # ------------------------------------------------------------------ the pipeline's thread

    def _run(self, stopping: threading.Event) -> None:
        try:
            cameras = self._prepare(stopping)
            if cameras is None or stopping.is_set():
                return
            self.recording.tick()  # a recording from the start has the very first picture
            self.fusion.start()
            self.cameras.start()
            if cameras.rig is not None and not self._lossless:
                self._painter = Worker("rig painter", partial(cameras.rig.warm_up, None), self._fail)
                self._painter.start()
            self.alignment.start()
            if self.detector is not None:
                self.detector.start()
            while not (stopping.is_set() or self._ended or self._failure is not None):
                self._loops += 1
                self.cameras.tick()
                self._monitor.tick()
                self.alignment.tick(self.cameras.device(Stream.VISIBLE), self.cameras.device(Stream.THERMAL))
                self._wake.wait(_LOOP_S)
                self._wake.clear()
            self._monitor.tick(now=True)
        except BaseException as error:
            self._fail("pipeline", error)
        finally:
            self._shut_down()
            self._done.set()

    def _prepare(self, stopping: threading.Event) -> CameraPair | None:
        """Make what takes time or may fail: cameras, calibration, engine; None if somebody stopped the pipeline."""
        config = self.config
        cameras = self._camera_factory(config.visible, config.thermal, simulation=config.simulation, clock=self._clock)
        grid = ThermalGrid(self.alignment.file)
        if stopping.is_set():
            return None
        self._lossless = self.recording.patient = cameras.lossless
        configs, problem = resolve_offsets(config.visible, config.thermal, grid.visible_minus_thermal_ms)
        if problem is not None:
            self.problems.add(Severity.WARNING, "calibration", problem)
        self.cameras.prepare(cameras, configs)
        self.engine.prepare()
        self.fusion.prepare(self.cameras.synchronizer, grid, timed=not self._lossless)
        self.alignment.prepare(grid, self._lossless)
        self.engine.start()
        if cameras.rig is not None and not self._lossless:
            cameras.rig.warm_up(_PAINTED_S, stopping, _PAINTING_S)
        return cameras

    def _describe(self, grid: ThermalGrid) -> None:
        """Any thread: what the recording says of the frames from now on."""
        used = self.config.calibration.model_copy(update={"file": grid.path})
        config = self.config.model_copy(update={"calibration": used})
        self.recording.describe(
            calibration=grid.identity or "none",
            offsets_ns={stream.value: offset_ns for stream, offset_ns in self.cameras.offsets_ns.items()},
            settings={"app": redacted(config.model_dump(mode="json"))},
        )

    def _publish(self, frame: FusedFrame) -> None:
        """In the fusion thread: to the screen, then to the recorder."""
        if self.detector is not None:
            frame = self.detector.attach(frame)
        if self.latest.put(frame) == 1:
            self._monitor.first_picture()
        self._record(frame, TrackName.FUSED)

    def _record_raw(self, frame: Frame) -> None:
        """In the capture threads, before pairing: what the cameras give is recorded whatever becomes of it."""
        self._record(frame, TrackName(frame.stream.value))

    def _record(self, picture: Frame | FusedFrame, track: TrackName) -> None:
        """Any thread. Pictures of the fused track count as recorded, where there is none those of the first."""
        self._wait_for_recorder(track)
        if self.recording.offer(picture) and self.recording.wanted and track == self._counted_track:
            self.stats.frame(Stage.RECORDED)

    def _wait_for_recorder(self, track: TrackName) -> None:
        """A replay as fast as possible waits for its recording, which is to be complete."""
        while self._lossless and not self._stopping and not self.recording.has_room(track):
            time.sleep(0.002)

    def _give_way(self) -> None:
        """In the fusion thread: what the cameras gave is encoded first."""
        if self._lossless or self.recording.raw_wait_s < _RAW_WAIT_S:
            if self._gives_way:
                self._gives_way = False
                self.stats.warn("fusion", None)
            return
        self._gives_way = True
        self.stats.warn("fusion", "fusion waits: the recording of the raw pictures goes first")
        end_s = time.monotonic() + _GIVE_WAY_S
        while self.recording.raw_wait_s >= _RAW_WAIT_S and time.monotonic() < end_s and not self._stopping:
            time.sleep(0.01)

    def _on_end(self) -> None:
        self._ended = True
        self._wake.set()

    def _fail(self, source: str, error: BaseException) -> None:
        """Any thread: something that cannot go on. The pipeline stops in order."""
        with self._lock:
            first = self._failure is None
            if first:
                self._failure = error
        if first:
            expected = isinstance(error, LumithermError)
            advice = "" if expected else "this is a bug; please report it with the log"
            self.problems.add(Severity.ERROR, source, f"{error}", advice, None if expected else error)
        self._wake.set()

    def _shut_down(self) -> None:
        """Sources first, then fusion, then the recorder with everything that was fused until then."""
        with self._lock:
            deadline_s = self._deadline_s if self._deadline_s is not None else time.monotonic() + _END_S
        if self._painter is not None:
            self._painter.stop(1.0)
        for part in (self.cameras, self.engine, self.alignment, self.fusion):
            part.request_stop()
        if self.detector is not None and not self.detector.stop(0.5):
            self.problems.add(Severity.WARNING, "detector", "the detector did not finish its last picture in time")
        if not self.fusion.join(min(1.5, deadline_s - time.monotonic())):
            self.problems.add(Severity.WARNING, "engine", "the engine did not finish its last picture in time")
        self.recording.close(max(0.5, deadline_s - time.monotonic() - 0.3))
        self.cameras.stop(max(0.3, deadline_s - time.monotonic()))
        self.engine.join(0.1)
        return_free_memory()
        if not self.alignment.join(max(0.3, deadline_s - time.monotonic())):
            self.problems.add(Severity.WARNING, "calibration", "the drift monitor did not end in time")
