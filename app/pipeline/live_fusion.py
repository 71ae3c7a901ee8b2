"""The live pipeline: cameras, synchronizer, fusion, recorder. Owns every thread; knows no window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from app.capture.cameras.camera import Clock, MonotonicClock
from app.capture.cameras.factory import CameraPair, create_cameras
from app.capture.cameras.uri import redact
from app.capture.offsets import resolve_offsets
from app.capture.synchronizer import output_time_ns
from app.configuration.config import AppConfig, SelfAlign
from app.media.snapshot import save_snapshot
from app.pipeline.alignment_budget import AlignmentBudget
from app.pipeline.capture_crew import CaptureCrew
from app.pipeline.engine_seat import EngineFactory, EngineSeat
from app.pipeline.fusion_thread import FusionThread
from app.pipeline.latest_slot import LatestSlot
from app.pipeline.monitor import BudgetFeeder, Monitor
from app.pipeline.problems import PipelineContext, PipelineProblem, ProblemLog, Severity
from app.pipeline.recording_control import RecordingControl
from app.pipeline.self_alignment import SelfAlignment
from app.pipeline.stats import Latency, Stage, Stats
from app.pipeline.thermal_grid import ThermalGrid
from app.process import Worker, return_free_memory
from app.recording.writing.recorder import RecorderStatus, RecordingSummary
from calibration.rig import check_identities
from fusion_core.engines.engine import create_engine
from fusion_core.errors import BadInputError, LumithermError, RunError
from fusion_core.frames import FrameFlag, FusedFrame, Stream
from fusion_core.thermal.agc import Agc, AgcConfig, contract_of

__all__ = ["AgcHistogram", "LiveFusion", "PipelineProblem", "PipelineState", "Severity"]

_LOOP_S: Final = 0.06  # the budget needs two frames 50 to 200 ms apart
_SILENT_NS: Final = 1_000_000_000
_END_S: Final = 30.0  # after the end of a replay: time to write what is queued and to check the files
_BINS: Final = 256
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


class AgcHistogram(NamedTuple):
    """How the counts of the last thermal frame are spread: (256,) numbers, (257,) edges in counts, span as mapped."""

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    limits: tuple[float, float]


class LiveFusion:
    """The pipeline of one rig, from `start` to `stop`; used once. All methods may be called from any thread.

    Threads: `pipeline` (starts, watches and stops the others), one a camera, `fusion`, `engine builder`, `drift`, and
    the recorder's. Pictures leave through `latest`; a consumer pulls and may be as slow as it likes.

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
        self.latest: LatestSlot[FusedFrame] = LatestSlot()
        self.stats = Stats(self._clock.now_ns)
        self._problems = ProblemLog()
        self._recording = RecordingControl(config.recording, self._clock.now_ns, self.stats, self._problems)
        self._context = PipelineContext(self._clock, self.stats, self._problems, self._fail)
        self.engine = EngineSeat(config.engine, engine_factory, self._context)
        self._worker = Worker("pipeline", self._run, self._fail)
        self._lock = threading.Lock()  # over start, stop and the requests before the threads are there
        self._wake = threading.Event()
        self._done = threading.Event()
        self._ended = False  # both sources are at their end
        self._stopping = False
        self._failure: BaseException | None = None
        self._deadline_s: float | None = None
        self._agc = config.agc
        self._calibration = config.calibration.file
        self._fusion: FusionThread | None = None
        self._crew: CaptureCrew | None = None
        self._monitor: Monitor | None = None
        self._feeder: BudgetFeeder | None = None
        self._alignment: SelfAlignment | None = None
        self._painter: Worker | None = None  # paints the rest of a simulated rig
        self._offsets_ns = dict.fromkeys(Stream, 0)  # added to the stamps since the start
        self._lossless = False
        self._loops = 0  # of the pipeline's thread

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

        What went wrong on the way is in `errors`; a thread that hangs in a driver is left behind and named there.
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
            self._recording.close(timeout_s)
            self._done.set()
        elif not self._worker.join(timeout_s) and first:
            self._problems.add(
                Severity.ERROR,
                "pipeline",
                f"it did not stop within {timeout_s:g} s; a camera or a disk hangs",
                "end the program; lumitherm recover FILE mends the last recording",
            )

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end: of the sources, by `stop`, or by a failure. Whether it has come; files are closed then."""
        return self._done.wait(timeout_s)

    @property
    def failure(self) -> BaseException | None:
        """What made the pipeline stop by itself, None if nothing did."""
        return self._failure

    @property
    def errors(self) -> tuple[PipelineProblem, ...]:
        """The last hundred things that went wrong (or well again), oldest first."""
        return self._problems.recent()

    @property
    def state(self) -> PipelineState:
        """What the pipeline does now."""
        if self._failure is not None:
            return PipelineState.FAILED
        if self._stopping or self._ended or self._done.is_set():
            return PipelineState.STOPPED
        crew, fusion = self._crew, self._fusion
        last = fusion.last_output if fusion is not None else None
        if crew is None or fusion is None or last is None:
            return PipelineState.NO_CAMERAS if crew is not None and crew.all_in_trouble else PipelineState.STARTING
        if self._clock.now_ns() - last.fused_ns > _SILENT_NS and fusion.busy_since_ns is None:
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
        crew = self._crew
        if crew is None:
            return {}
        progress = {"pipeline": self._loops, "fusion": self.stats.frames_so_far(Stage.FUSED)}
        for stream in Stream:
            figures = crew.figures(stream)
            progress[f"{stream.value} capture"] = (
                figures.frames + figures.timeouts + figures.open_failures + crew.reconnects(stream)
            )
        return progress

    # ------------------------------------------------------------------ recording

    def start_recording(self, label: str | None = None) -> None:
        """Record from the next picture on; `label` becomes part of the file's name. Raises RecordingError."""
        self._recording.start(label)

    def stop_recording(self, timeout_s: float = 5.0) -> RecordingSummary | None:
        """End the recording, check it, and tell what it holds; None if there was none. Raises RecordingError."""
        return self._recording.stop(timeout_s)

    def mark_event(self, label: str) -> None:
        """Mark this moment; begins a recording with the seconds before if none is under way. Raises RecordingError."""
        self._recording.mark(label)

    def remember_recording(
        self, note: Callable[[bool, str | None], None], wanted: bool | None = None, label: str | None = None
    ) -> None:
        """Go on as before a restart, and tell `note` what is asked for; before `start`. See RecordingControl."""
        self._recording.remember(note, wanted, label)

    @property
    def recorder_status(self) -> RecorderStatus | None:
        """How the recorder is doing; None before it was used."""
        return self._recording.status

    @property
    def last_recording(self) -> RecordingSummary | None:
        """What the last recording that was stopped consists of."""
        return self._recording.summary

    # ------------------------------------------------------------------ changes while it runs

    def set_agc(self, config: AgcConfig) -> None:
        """Use this AGC from the next picture on. Raises ConfigError when its mask cannot be read."""
        agc = Agc(config)
        with self._lock:
            self._agc = config
            fusion = self._fusion
        if fusion is not None:
            fusion.set_agc(agc)

    @property
    def agc(self) -> AgcConfig:
        """The AGC in use."""
        return self._agc

    def agc_histogram(self) -> AgcHistogram:
        """Of the last thermal frame as captured, every third row and column; all zero before there is one."""
        fusion = self._fusion
        thermal = fusion.last_thermal if fusion is not None else None
        newest = self.latest.peek()
        limits = newest.agc_limits if newest is not None and newest.agc_limits is not None else (0.0, 255.0)
        if thermal is None:
            return AgcHistogram(np.zeros(_BINS, np.int64), np.linspace(0.0, 65536.0, _BINS + 1), limits)
        sample = thermal.pixels[::3, ::3]
        low, high = int(sample.min()), int(sample.max()) + 1
        counts, edges = np.histogram(sample, _BINS, (low, max(high, low + _BINS)))
        return AgcHistogram(counts, edges, limits)

    def set_calibration(self, path: Path | None) -> None:
        """Align thermal by this file from the next picture on; None = plain scaling.

        Raises:
            ConfigError, BadInputError: the file cannot be used, or does not fit the pictures.
        """
        grid = ThermalGrid(path)
        if self._alignment is not None:
            self._alignment.use(grid)
        elif self._fusion is not None:
            self._fusion.set_grid(grid)
        with self._lock:
            self._calibration = path
        self.stats.warn("calibration_cameras", None)
        self._use_grid(grid)

    def camera_devices(self) -> tuple[str, str]:
        """Which devices give visible and thermal, as a calibration names them; "" for files and simulated cameras."""
        crew = self._crew
        if crew is None:
            return "", ""
        return crew.device(Stream.VISIBLE) or "", crew.device(Stream.THERMAL) or ""

    @property
    def offset_between_ms(self) -> float:
        """What is added to thermal stamps less what is added to visible ones, since the start."""
        return (self._offsets_ns[Stream.THERMAL] - self._offsets_ns[Stream.VISIBLE]) / 1e6

    def accept_correction(self) -> None:
        """Move thermal by the correction that the drift monitor proposes, slowly; see `stats` for what it is.

        Nothing happens without a proposal. The calibration file stays as it is; the proposal lies beside it.

        Raises:
            RunError: the drift monitor is off (calibration.self_align), or the pipeline does not run.
        """
        self._drift_monitor().accept()

    def discard_correction(self) -> None:
        """Drop the proposed correction, and go back to the calibration as it was loaded. Raises RunError as above."""
        self._drift_monitor().discard()

    def _drift_monitor(self) -> SelfAlignment:
        if self._alignment is None:
            raise RunError("there is no drift monitor: calibration.self_align is off, or the pipeline does not run yet")
        return self._alignment

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
        fusion = self._fusion
        facts: dict[str, Any] = {
            "rig": self.config.rig,
            "calibration": fusion.grid.identity if fusion is not None else None,
            "agc": contract_of(self._agc),
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
            cameras = self._camera_factory(
                self.config.visible, self.config.thermal, simulation=self.config.simulation, clock=self._clock
            )
            grid = ThermalGrid(self._calibration)
            if stopping.is_set():
                return
            self._lossless = cameras.lossless
            configs, problem = resolve_offsets(self.config.visible, self.config.thermal, grid.visible_minus_thermal_ms)
            if problem is not None:
                self._problems.add(Severity.WARNING, "calibration", problem)
            self._offsets_ns = {stream: round((configs[stream].offset_ms or 0.0) * 1e6) for stream in Stream}
            timed = self.config.model_copy(
                update={"visible": configs[Stream.VISIBLE], "thermal": configs[Stream.THERMAL]}
            )
            crew = CaptureCrew(timed, cameras, self._context)
            fusion = self._make_fusion(crew, grid)
            monitor = Monitor(crew, fusion, self._recording, self._context, self.config.sync.buffer_frames)
            with self._lock:
                self._crew, self._fusion, self._monitor = crew, fusion, monitor
            self._use_grid(grid)
            self._alignment = self._make_alignment(fusion, grid)
            self.engine.start()
            rig = cameras.rig if not cameras.lossless else None
            if rig is not None:
                rig.warm_up(_PAINTED_S, stopping, _PAINTING_S)
            if stopping.is_set():
                return
            self._recording.tick()  # a recording from the start has the very first picture
            fusion.start()
            crew.start()
            if rig is not None:
                self._painter = Worker("rig painter", partial(rig.warm_up, None), self._fail)
                self._painter.start()
            if self._alignment is not None:
                self._alignment.start()
            while not (stopping.is_set() or self._ended or self._failure is not None):
                self._loops += 1
                crew.tick()
                monitor.tick()
                self._refuse_other_cameras(crew, fusion)
                if self._feeder is not None:
                    self._feeder.feed(self._clock.now_ns())
                self._wake.wait(_LOOP_S)
                self._wake.clear()
            monitor.tick(now=True)
        except BaseException as error:
            self._fail("pipeline", error)
        finally:
            self._shut_down()
            self._done.set()

    def _make_fusion(self, crew: CaptureCrew, grid: ThermalGrid) -> FusionThread:
        self.engine.prepare()
        return FusionThread(
            crew.synchronizer,
            self._publish,
            self.engine,
            self._agc,
            grid,
            self._context,
            self._on_end,
            timed=not self._lossless,
        )

    def _use_grid(self, grid: ThermalGrid) -> None:
        budget = AlignmentBudget(self.config.budget, grid.baseline_m, grid.focal_px)
        self._feeder = BudgetFeeder(budget, self.latest, self.stats)
        offsets = {stream.value: offset_ns for stream, offset_ns in self._offsets_ns.items()}
        used = self.config.calibration.model_copy(update={"file": grid.path})
        config = self.config.model_copy(update={"calibration": used})
        settings = {"app": _without_secrets(config.model_dump(mode="json"))}
        self._recording.describe(calibration=grid.identity or "none", offsets_ns=offsets, settings=settings)

    def _refuse_other_cameras(self, crew: CaptureCrew, fusion: FusionThread) -> None:
        """A calibration that belongs to other cameras than those that are connected is put aside."""
        calibration = fusion.grid.calibration
        if calibration is None:
            return
        try:
            check_identities(calibration, crew.device(Stream.VISIBLE), crew.device(Stream.THERMAL))
        except BadInputError as error:
            plain = ThermalGrid(None)
            if self._alignment is not None:
                self._alignment.use(plain)
            else:
                fusion.set_grid(plain)
            self._use_grid(plain)
            self.stats.warn("calibration_cameras", "the calibration belongs to other cameras; thermal is only scaled")
            self._problems.add(Severity.ERROR, "calibration", f"{error} Thermal is only scaled meanwhile.")

    def _make_alignment(self, fusion: FusionThread, grid: ThermalGrid) -> SelfAlignment | None:
        """The drift monitor, None if it is off. A replay as fast as possible is watched, never corrected."""
        settings = self.config.calibration
        mode = settings.self_align
        if mode is SelfAlign.OFF:
            return None
        if mode is SelfAlign.APPLY and self._lossless:
            mode = SelfAlign.PROPOSE
            text = "a replay as fast as possible is not corrected on the way: self_align is propose here, not apply"
            self.stats.warn("self_align", text)
            self._problems.add(Severity.WARNING, "calibration", text, "load the proposed calibration and replay again")
        file = settings.proposal_file
        if file is None and settings.file is not None:
            file = settings.file.with_suffix(".proposed.yaml")
        elif file is None:
            file = self.config.recording.directory / f"{_plain_name(self.config.rig)}.proposed.yaml"
        return SelfAlignment(
            mode.value,
            self.latest,
            fusion,
            grid,
            self._context,
            file,
            self._on_corrected,
        )

    def _on_corrected(self, grid: ThermalGrid) -> None:
        """In the drift thread: frames from now on are aligned otherwise."""
        self._recording.describe(calibration=grid.identity or "none")
        feeder = self._feeder
        if feeder is not None:
            feeder.forget_shift()

    def _publish(self, frame: FusedFrame) -> None:
        """In the fusion thread: to the screen, then to the recorder."""
        if self.latest.put(frame) == 1 and self._monitor is not None:
            self._monitor.first_picture()
        while self._lossless and not self._recording.has_room():
            time.sleep(0.002)  # a replay as fast as possible waits for its recording, which is to be complete
            if self._stopping:
                return  # the user has had enough: the recording ends here
        self._recording.offer(frame)

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
            self._problems.add(Severity.ERROR, source, f"{error}", advice, None if expected else error)
        self._wake.set()

    def _shut_down(self) -> None:
        """Sources first, then fusion, then the recorder with everything that was fused until then."""
        with self._lock:
            deadline_s = self._deadline_s if self._deadline_s is not None else time.monotonic() + _END_S
        crew, fusion = self._crew, self._fusion
        if self._painter is not None:
            self._painter.stop(1.0)
        if crew is not None:
            crew.request_stop()
        self.engine.request_stop()
        alignment = self._alignment
        if alignment is not None:
            alignment.request_stop()
        if fusion is not None:
            fusion.request_stop()
            if not fusion.join(min(1.5, deadline_s - time.monotonic())):
                self._problems.add(Severity.WARNING, "engine", "the engine did not finish its last picture in time")
        self._recording.close(max(0.5, deadline_s - time.monotonic() - 0.3))
        if crew is not None:
            crew.stop(max(0.3, deadline_s - time.monotonic()))
        self.engine.join(0.1)
        return_free_memory()
        if alignment is not None and not alignment.join(max(0.3, deadline_s - time.monotonic())):
            self._problems.add(Severity.WARNING, "calibration", "the drift monitor did not end in time")


def _plain_name(rig: str) -> str:
    """The rig's name as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in rig)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return value
