"""Pairs in, fused frames out: AGC, alignment and engine, in the one thread that owns all three."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.capture.cameras.camera import Clock
from app.capture.synchronizer import output_time_ns
from app.pipeline.engine_builder import BuildFailure, BuiltEngine, EngineBuilder, EngineSpec
from app.pipeline.fuse_step import FuseStep
from app.pipeline.problems import ProblemLog, Severity
from app.pipeline.stats import Latency, Stage, Stats
from app.pipeline.thermal_grid import ThermalGrid
from app.pipeline.worker import Worker
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError, CameraTimeout, EndOfStream, LumithermError
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame
from fusion_core.thermal.agc import Agc, AgcConfig, contract_differences, contract_of

__all__ = ["FusionThread", "LastOutput", "PairSource"]

_WAIT_S = 0.1
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 300.0
_TELL_S = 10
_SOUND_S = 60.0  # an engine that ran so long before it failed starts over with the shortest wait


class PairSource(Protocol):
    """`app.capture.synchronizer.PairSynchronizer`, or a test's stand-in."""

    def get(self, timeout_s: float) -> FramePair: ...


@dataclass(frozen=True, slots=True)
class LastOutput:
    """When the last picture was ready (monotonic), and the flags of its pair."""

    fused_ns: int
    flags: FrameFlag


class FusionThread:
    """Owner of AGC, alignment and engine. Other threads ask for changes, which take effect between two pairs.

    Args:
        pairs: gives pairs; EndOfStream ends the thread.
        publish: takes each fused frame in this thread and never waits (except to keep a lossless replay complete).
        first: the engine to begin with; `instead_of` says why it is not the wanted one, None if it is.
        fallback: always works, stands in for an engine that is being built or has failed; may be `first`.
        spec: the wanted engine.
        timed: False for replays as fast as possible, whose latency means nothing.
    """

    def __init__(
        self,
        pairs: PairSource,
        publish: Callable[[FusedFrame], None],
        builder: EngineBuilder,
        first: FusionEngine,
        fallback: FusionEngine,
        spec: EngineSpec,
        agc: AgcConfig,
        grid: ThermalGrid,
        stats: Stats,
        problems: ProblemLog,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        on_end: Callable[[], None],
        *,
        instead_of: str | None = None,
        timed: bool = True,
    ) -> None:
        self._pairs, self._publish, self._builder = pairs, publish, builder
        self._engine, self._fallback, self._spec = first, fallback, spec
        self._step = FuseStep(_Seat(self), Agc(agc), grid, on_fit=self._note_fit, now_ns=clock.now_ns)
        self._stats, self._problems, self._clock, self._timed = stats, problems, clock, timed
        self._lock = threading.Lock()  # over the requested changes
        self._next_agc: Agc | None = None
        self._next_grid: ThermalGrid | None = None
        self._keep_learnt = True  # with the next grid: see set_grid
        self._grids_replaced = 0
        self._built: BuiltEngine | None = None  # of the engine in use
        self._engine_since_s = 0.0
        self._retry_s = _FIRST_RETRY_S
        self._size: tuple[int, int] | None = None  # of the visible pictures
        self._in_ffc = False
        self._was_pair = False
        self._told_s = 0  # of the build under way
        self._worker = Worker("fusion", self._run, on_failure, on_end)
        # Read by others:
        self.last_output: LastOutput | None = None
        self.last_thermal: Frame | None = None
        self.busy_since_ns: int | None = None
        """Since when the pair under way is being worked on; None between two pairs."""
        stats.engine(first.name, instead_of)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def request_stop(self) -> None:
        """Ask the thread to end after the pair under way."""
        self._worker.request_stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came in time."""
        return self._worker.join(timeout_s)

    @property
    def ident(self) -> int | None:
        """Native thread id, for measurements; None before the start."""
        return self._worker.native_id

    @property
    def grid(self) -> ThermalGrid:
        """How thermal comes onto the visible grid, as asked for last."""
        with self._lock:
            return self._next_grid if self._next_grid is not None else self._step.grid

    @property
    def agc_config(self) -> AgcConfig:
        """The AGC settings asked for last."""
        with self._lock:
            return self._next_agc.config if self._next_agc is not None else self._step.agc.config

    @property
    def weights_sha256(self) -> str | None:
        """Of the engine in use; None for one without weights."""
        built = self._built
        return built.weights_sha256 if built is not None else None

    def set_agc(self, agc: Agc) -> None:
        """Use this AGC from the next pair on; it is this thread's from now on."""
        with self._lock:
            self._next_agc = agc

    @property
    def grid_in_use(self) -> ThermalGrid:
        """The alignment of the pair under way; another than `grid` while that waits for the next pair."""
        return self._step.grid

    @property
    def grids_replaced(self) -> int:
        """Alignments that were replaced by a newer one before any pair used them: the slot holds one."""
        return self._grids_replaced

    def set_grid(self, grid: ThermalGrid, *, small_step: bool = False) -> None:
        """Use this alignment from the next pair on. Its maps are made here, so that no picture waits for them.

        Args:
            small_step: it differs by less than a pixel, and what the engine has learnt about the displacement holds.

        Raises:
            BadInputError: it does not fit the visible pictures.
        """
        if self._size is not None:
            grid.prepare(*self._size)
        with self._lock:
            if self._next_grid is not None:
                self._grids_replaced += 1
            else:
                self._keep_learnt = True
            self._next_grid = grid
            self._keep_learnt = self._keep_learnt and small_step

    # ------------------------------------------------------------------ the thread

    def _run(self, stopping: threading.Event) -> None:
        try:
            while not stopping.is_set():
                self._take_engine()
                try:
                    pair = self._pairs.get(_WAIT_S)
                except CameraTimeout:
                    continue
                except EndOfStream:
                    return
                self.busy_since_ns = self._clock.now_ns()
                self._process(pair)
                self.busy_since_ns = None
        finally:
            self._engine.close()
            self._fallback.close()

    def _process(self, pair: FramePair) -> None:
        stats = self._stats
        stats.frame(Stage.PAIRED)
        if pair.skew_ns is not None and not pair.flags & FrameFlag.HELD:
            stats.skew(pair.skew_ns)
        self._apply_changes()
        self._watch_flags(pair)
        if pair.visible is not None:
            self._note_size(pair.visible)
        thermal = pair.thermal
        if thermal is not None and (self.last_thermal is None or self.last_thermal.pixels is not thermal.pixels):
            self.last_thermal = thermal
        frame = self._step.fuse(pair)
        if pair.visible is not None and thermal is not None:
            stats.fuse_time(frame.fuse_ms)
        self.last_output = LastOutput(frame.fused_ns, pair.flags)
        stats.frame(Stage.FUSED)
        if self._timed:
            stats.latency(Latency.FUSED, (frame.fused_ns - output_time_ns(pair)) / 1e6)
        self._publish(frame)

    # ------------------------------------------------------------------ changes

    def _note_fit(self, error: BadInputError | None) -> None:
        if error is None:
            self._stats.warn("calibration", None)
            return
        self._problems.add(
            Severity.ERROR,
            "calibration",
            f"{error} The thermal picture is only scaled meanwhile.",
            "choose a calibration of these two cameras at these sizes, or none",
        )
        self._stats.warn("calibration", "the calibration does not fit the pictures; thermal is only scaled")

    def _apply_changes(self) -> None:
        if self._next_agc is None and self._next_grid is None:
            return
        with self._lock:
            agc, self._next_agc = self._next_agc, None
            grid, self._next_grid = self._next_grid, None
            keep_learnt = self._keep_learnt
        if agc is not None:
            self._step.use_agc(agc)
            self._compare_agc()
        if grid is not None:
            self._step.use_grid(grid)
            self._stats.warn("calibration", None)
            if not keep_learnt:
                self._engine.reset()

    def _watch_flags(self, pair: FramePair) -> None:
        """Shutter and missing streams: what was learnt before does not hold after."""
        in_ffc = bool(pair.flags & FrameFlag.FFC)
        is_pair = pair.visible is not None and pair.thermal is not None
        if in_ffc != self._in_ffc:
            self._stats.ffc(in_ffc)
            if not in_ffc:
                self._step.agc.reset()  # the correction has moved the counts
        if is_pair and not self._was_pair:
            self._engine.reset()
            if not self._in_ffc:
                self._step.agc.reset()
        self._in_ffc, self._was_pair = in_ffc, is_pair

    # ------------------------------------------------------------------ engine

    def _note_size(self, visible: Frame) -> None:
        size = (visible.pixels.shape[0], visible.pixels.shape[1])
        if size == self._size:
            return
        changed = self._size is not None
        self._size = size
        self._builder.set_size(*size)
        built = self._built
        if changed and built is not None and built.size != size:
            reason = f"the visible picture is now {size[1]}x{size[0]}; the engine is built anew"
            self._problems.add(Severity.INFO, "engine", reason)
            self._drop_engine(reason)
            self._builder.request(built.spec)

    def _take_engine(self) -> None:
        self._tell_progress()
        result = self._builder.take()
        if isinstance(result, BuiltEngine):
            if self._size is not None and result.size != self._size:
                result.engine.close()
                self._builder.request(result.spec)
                return
            if self._engine is not self._fallback:
                self._engine.close()
                self._builder.tidy()
            self._engine, self._built = result.engine, result
            self._engine_since_s = time.monotonic()
            self._stats.engine(result.engine.name)
            self._problems.add(
                Severity.INFO, "engine", f"{result.engine.name} fuses from now on, built in {result.seconds:.1f} s"
            )
            self._compare_agc()
        elif isinstance(result, BuildFailure):
            again = f"; next attempt in {result.retry_s:.0f} s" if result.retry_s is not None else ""
            reason = f"{result.spec.shown} cannot be used: {result.error}"
            self._stats.engine(self._engine.name, reason)
            self._problems.add(
                Severity.ERROR,
                "engine",
                f"{reason}; {self._engine.name} fuses instead{again}",
                "choose another engine, or mend what the message says",
            )

    def _tell_progress(self) -> None:
        """Every ten seconds of a build, while something else stands in: which engine it is, and how long it takes."""
        building = self._builder.building
        if building is None or self._engine is not self._fallback:
            self._told_s = 0
        elif building[1] >= self._told_s + _TELL_S:
            self._told_s = int(building[1])
            self._stats.engine(self._engine.name, f"{building[0].shown} is being built, {self._told_s} s so far")

    def _fuse(self, visible: np.ndarray, levels: np.ndarray) -> np.ndarray:
        try:
            return self._engine.fuse(visible, levels)
        except Exception as error:  # a broken engine costs the engine, not the picture
            if self._engine is self._fallback:
                raise
            spec = self._built.spec if self._built is not None else self._spec
            if time.monotonic() - self._engine_since_s > _SOUND_S:
                self._retry_s = _FIRST_RETRY_S
            reason = f"{self._engine.name} failed: {error}"
            self._problems.add(
                Severity.ERROR,
                "engine",
                f"{reason}; {self._fallback.name} fuses instead, next attempt in {self._retry_s:.0f} s",
                "if it fails again, choose another engine",
                None if isinstance(error, LumithermError) else error,
            )
            self._drop_engine(reason)
            self._builder.request(spec, after_s=self._retry_s)
            self._retry_s = min(3.0 * self._retry_s, _LONGEST_RETRY_S)
        return self._fallback.fuse(visible, levels)

    def _drop_engine(self, reason: str) -> None:
        if self._engine is not self._fallback:
            self._engine.close()
            self._builder.tidy()
        self._engine, self._built = self._fallback, None
        self._fallback.reset()
        self._stats.engine(self._fallback.name, reason)
        self._stats.warn("agc", None)

    def _compare_agc(self) -> None:
        trained = self._built.agc if self._built is not None else None
        differences = contract_differences(contract_of(self._step.agc.config), trained) if trained is not None else []
        text = f"the AGC differs from the one the network was trained with: {'; '.join(differences)}"
        self._stats.warn("agc", text if differences else None)


class _Seat:
    """The engine that the thread has at the moment, as its `FuseStep` sees it."""

    def __init__(self, thread: FusionThread) -> None:
        self._thread = thread

    @property
    def name(self) -> str:
        return self._thread._engine.name

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        return self._thread._fuse(visible, thermal)

    def reset(self) -> None:
        self._thread._engine.reset()
