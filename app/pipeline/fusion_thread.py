"""Pairs in, fused frames out: AGC, alignment and engine, in the one thread that owns all three."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from app.capture.synchronizer import output_time_ns
from app.pipeline.engine.preset_choice import RateReading
from app.pipeline.engine.seat import EngineSeat
from app.pipeline.fuse_step import FuseStep
from app.pipeline.state.problems import PipelineContext, Severity
from app.pipeline.state.stats import Latency, Stage
from app.pipeline.thermal_grid import ThermalGrid
from app.process import Worker
from fusion_core.errors import BadInputError, CameraTimeout, EndOfStream
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame
from fusion_core.thermal.agc import Agc, AgcConfig

__all__ = ["AgcHistogram", "FusionThread", "LastOutput", "PairSource"]

_WAIT_S = 0.1
_FADE_S = 0.4  # between both cameras and one alone
_BINS = 256


class PairSource(Protocol):
    """`app.capture.synchronizer.PairSynchronizer`, or a test's stand-in."""

    def get(self, timeout_s: float) -> FramePair: ...


@dataclass(frozen=True, slots=True)
class LastOutput:
    """When the last picture was ready (monotonic), the flags of its pair, and the counts that its AGC spans."""

    fused_ns: int
    flags: FrameFlag
    agc_limits: tuple[float, float] | None


class AgcHistogram(NamedTuple):
    """How the counts of the last thermal frame are spread: (256,) numbers, (257,) edges in counts, span as mapped."""

    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    limits: tuple[float, float]


class FusionThread:
    """Owner of AGC, alignment and engine. Other threads ask for changes, which take effect between two pairs.

    Args:
        publish: takes each fused frame in this thread and never waits (except to keep a lossless replay complete).
        engine: fuses; this thread closes it at its end.
        agc: to begin with.
        on_end: called in this thread when the pairs are at their end.
        give_way: called in this thread before each pair; waits a moment where others need the processor more.
    """

    def __init__(
        self,
        publish: Callable[[FusedFrame], None],
        engine: EngineSeat,
        agc: AgcConfig,
        context: PipelineContext,
        on_end: Callable[[], None],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._publish, self._engine, self._give_way = publish, engine, give_way
        self._pairs: PairSource | None = None
        self._timed = True
        self._stats, self._problems, self._clock = context.stats, context.problems, context.clock
        self.agc = agc
        """The AGC that was asked for last."""
        plain = Agc(AgcConfig()), ThermalGrid(None)  # until `prepare`
        self._step = FuseStep(engine, *plain, on_fit=self._note_fit, now_ns=context.clock.now_ns, fade_s=_FADE_S)
        self._lock = threading.Lock()  # over the requested changes
        self._next_agc: Agc | None = None
        self._next_grid: ThermalGrid | None = None
        self._keep_learnt = True  # with the next grid: see set_grid
        self._grids_replaced = 0
        self._size: tuple[int, int] | None = None  # of the visible pictures
        self._in_ffc = False
        self._was_pair = False
        self._worker = Worker("fusion", self._run, context.fail, on_end)
        # Read by others:
        self.last_output: LastOutput | None = None
        self.last_thermal: Frame | None = None
        self.busy_since_ns: int | None = None
        """Since when the pair under way is being worked on; None between two pairs."""

    def prepare(self, pairs: PairSource, grid: ThermalGrid, timed: bool = True) -> None:
        """Take these pairs, whose EndOfStream ends the thread, and this alignment; before `start`.

        Args:
            timed: False for replays as fast as possible, whose latency means nothing.

        Raises:
            ConfigError: the AGC's mask cannot be read.
        """
        self._pairs, self._timed = pairs, timed
        self._step.use_agc(Agc(self.agc))
        self._step.use_grid(grid)
        self._engine.set_agc(self.agc)

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
        """The alignment that was asked for last."""
        with self._lock:
            return self._next_grid if self._next_grid is not None else self._step.grid

    def set_agc(self, config: AgcConfig) -> None:
        """Use this AGC from the next pair on. Raises ConfigError when its mask cannot be read."""
        agc = Agc(config)
        with self._lock:
            self.agc, self._next_agc = config, agc

    @property
    def strength(self) -> float:
        """0 to 1.5, see `fusion_core.colour.with_strength`; what is set holds from the next pair on."""
        return self._step.strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._step.strength = value

    def agc_histogram(self) -> AgcHistogram:
        """Of the last thermal frame as captured, every third row and column; all zero before there is one."""
        thermal, last = self.last_thermal, self.last_output
        limits = last.agc_limits if last is not None and last.agc_limits is not None else (0.0, 255.0)
        if thermal is None:
            return AgcHistogram(np.zeros(_BINS, np.int64), np.linspace(0.0, 65536.0, _BINS + 1), limits)
        sample = thermal.pixels[::3, ::3]
        low, high = int(sample.min()), int(sample.max()) + 1
        counts, edges = np.histogram(sample, _BINS, (low, max(high, low + _BINS)))
        return AgcHistogram(counts, edges, limits)

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
            if self._engine.takes_counts and self.last_thermal is not None:
                height, width = self.last_thermal.pixels.shape
                with contextlib.suppress(BadInputError):  # the next pair tells
                    grid.warp(self._size, (height, width))
        with self._lock:
            if self._next_grid is not None:
                self._grids_replaced += 1
            else:
                self._keep_learnt = True
            self._next_grid = grid
            self._keep_learnt = self._keep_learnt and small_step

    def observe(self, reading: RateReading) -> None:
        """What the pipeline keeps up with just now, for an engine that is chosen by it."""
        self._engine.observe(reading)

    # ------------------------------------------------------------------ the thread

    def _run(self, stopping: threading.Event) -> None:
        assert self._pairs is not None  # by prepare
        try:
            while not stopping.is_set():
                self._engine.take_built()
                self._give_way()
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
        self.last_output = LastOutput(frame.fused_ns, pair.flags, frame.agc_limits)
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
            self._engine.set_agc(agc.config)
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

    def _note_size(self, visible: Frame) -> None:
        size = (visible.pixels.shape[0], visible.pixels.shape[1])
        if size != self._size:
            self._size = size
            self._engine.fit(*size)
