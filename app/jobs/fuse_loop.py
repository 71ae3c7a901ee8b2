"""The loop of every fuse job: each pair of a source goes through one FuseStep, and its view into a sink.

Three threads: one reads ahead, the calling thread fuses, one writes behind. Bounded queues lie between them. On a GPU
two pairs are under way at once: one uploads and computes while the one before downloads and is written. A failure in
any of them ends all, and what was written until then stays complete.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Protocol, Self, TypeAlias, TypeVar

import numpy as np

from app.jobs.report import FuseProgress, FuseReport, StageClock
from app.jobs.request import FuseOptions
from app.jobs.sinks import Sink
from app.jobs.sources import FuseSource, TimedPair
from app.pipeline.fuse_step import NO_ENGINE, EngineOnDemand, FuseStep
from app.pipeline.thermal_grid import ThermalGrid
from app.view.views import FileView, compose, needs_fused
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError, LumithermError
from fusion_core.frames import FrameFlag, FusedFrame
from fusion_core.thermal.agc import Agc, AgcConfig, AgcMode

__all__ = ["Observer", "StopFlag", "fuse_pairs"]

Observer: TypeAlias = Callable[[FusedFrame], None]

_T = TypeVar("_T")
_READ_AHEAD = 4
_WRITE_BEHIND = 4
_WAIT_S = 0.1
_JOIN_S = 60.0
_GAP_HELD = FrameFlag.HELD | FrameFlag.SKEW_EXCEEDED  # the last thermal frame stands in for one that is missing


class StopFlag(Protocol):
    """An event of threading or multiprocessing."""

    def is_set(self) -> bool: ...


def fuse_pairs(
    source: FuseSource,
    sink: Sink,
    make_engine: Callable[[], FusionEngine],
    options: FuseOptions,
    progress: Callable[[FuseProgress], None] | None = None,
    stop: StopFlag | None = None,
    observe: Observer | None = None,
    grid: ThermalGrid | None = None,
) -> FuseReport:
    """Fuse the pairs of `source` in order, and write the view of each to `sink`, which is closed.

    `make_engine` is called when the first pair is read, and not at all for views that need no fusing. `progress` and
    `observe` are called after each pair, on the calling thread. `stop` ends the job early. `grid` aligns thermal in
    place of the calibration of the options.

    Raises:
        ConfigError, BadInputError: the calibration or an input cannot be used. EngineError: the engine failed.
            RecordingError: the output cannot be written. What was written before stays, and the message says so.
    """
    engine = EngineOnDemand(make_engine) if needs_fused(options.view) else None
    grid = grid if grid is not None else ThermalGrid(options.calibration)
    agc = _agc_of(options, source)
    step = FuseStep(engine, Agc(agc), grid)
    step.strength = options.strength
    total = source.total if options.limit is None else min(options.limit, source.total or options.limit)
    clock, tally, interrupted = StageClock(), _Tally(source, options, agc), False
    writer, under_way = _WriteBehind(sink, clock), deque[TimedPair]()

    def pass_on(step_by_step: Callable[[], list[FusedFrame]]) -> None:
        """Fuse, and hand over what is done, in order."""
        began_s = time.perf_counter()
        for frame in step_by_step():
            timed = under_way.popleft()
            shown = _compose(options.view, frame)
            clock.add("fuse", began_s)
            writer.put(shown, timed, frame.engine)
            tally.count(timed)
            if observe is not None:
                observe(frame)
            if progress is not None:
                progress(FuseProgress(tally.done, total, tally.done / max(clock.elapsed_s, 1e-9)))
            began_s = time.perf_counter()

    size: tuple[int, ...] = ()
    try:
        with writer, _ReadAhead(islice(source.pairs(), options.limit), clock) as pairs:
            for timed in pairs:
                if interrupted := stop is not None and stop.is_set():
                    break
                assert timed.pair.visible is not None  # see TimedPair; for the type checker
                if source.apart or timed.pair.visible.pixels.shape != size:
                    pass_on(step.finish)  # before the engine forgets them
                    size = timed.pair.visible.pixels.shape
                with clock.paused():
                    _prepare(step, engine, timed, source.apart)
                under_way.append(timed)
                pass_on(partial(step.begin, timed.pair))
            pass_on(step.finish)
    except LumithermError as error:
        if sink.written and sink.kept and error is not writer.error:
            raise type(error)(f"{error} The {sink.written} {source.noun} before it are in {sink.path}.") from error
        raise
    finally:
        if engine is not None:
            engine.close()
    complaint = None if interrupted else source.complaint()
    if complaint is not None:
        sink.discard()
        raise complaint
    return tally.report(sink, clock, engine.name if engine is not None else NO_ENGINE, interrupted)


def _agc_of(options: FuseOptions, source: FuseSource) -> AgcConfig:
    """The AGC with the range, which is in the unit of the input, in counts.

    Raises:
        BadInputError: the range is empty in counts, so that nothing would be shown.
    """
    if options.agc_range is None:
        return options.agc
    low, high = (round(source.scale.to_counts(value)) for value in options.agc_range)
    if low >= high:
        shown = f"{options.agc_range[0]:g}:{options.agc_range[1]:g}"
        raise BadInputError(
            f"--agc-range {shown} lies outside of what the thermal input can hold, which is"
            f" {source.scale.zero:g} to {source.scale.zero + 65535 * source.scale.step:g}; give it in the input's unit"
        )
    changes = {"mode": AgcMode.MANUAL, "manual_low": low, "manual_high": high, "apply_to_8bit": high <= 255}
    return AgcConfig.model_validate(options.agc.model_dump() | changes)


def _prepare(step: FuseStep, engine: EngineOnDemand | None, timed: TimedPair, apart: bool) -> None:
    """Do what the first pair of a size needs: a calibration that does not fit is refused before the engine loads."""
    assert timed.pair.visible is not None  # see TimedPair; for the type checker
    height, width = timed.pair.visible.pixels.shape[:2]
    step.grid.prepare(height, width)
    if engine is not None:
        engine.warm_up(height, width)
    if apart:
        step.reset()


def _compose(view: FileView, frame: FusedFrame) -> np.ndarray:
    assert frame.pair.visible is not None  # see TimedPair; for the type checker
    return compose(view, frame.pair.visible.pixels, frame.thermal_8bit, frame.pixels)


class _Tally:
    """Counts what was fused, for the report."""

    def __init__(self, source: FuseSource, options: FuseOptions, agc: AgcConfig) -> None:
        self._source, self._agc_range, self._agc = source, options.agc_range, agc
        self._counts: tuple[int, int] | None = None  # lowest and highest of all thermal pictures, with a range alone
        self._eight_bit = False
        self.done = self._held = self._visible_only = 0
        self._first_gap_s: float | None = None
        self._first: TimedPair | None = None
        self._last: TimedPair | None = None

    def count(self, timed: TimedPair) -> None:
        self.done += 1
        self._first, self._last = self._first or timed, timed
        held = timed.pair.flags & _GAP_HELD == _GAP_HELD
        self._held += held
        self._visible_only += timed.pair.thermal is None
        if self._first_gap_s is None and (held or timed.pair.thermal is None):
            self._first_gap_s = self._seconds(timed.pts)
        if self._agc_range is not None and timed.pair.thermal is not None:
            pixels = timed.pair.thermal.pixels
            low, high = self._counts or (65535, 0)
            self._counts = min(low, int(pixels.min())), max(high, int(pixels.max()))
            self._eight_bit |= pixels.dtype == np.uint8

    def report(self, sink: Sink, clock: StageClock, engine: str, interrupted: bool) -> FuseReport:
        seconds = 0.0
        if self._source.timing is not None and self._first is not None and self._last is not None:
            seconds = max(0.001, self._seconds(self._last.pts + self._last.duration - self._first.pts))
        return FuseReport(
            output=sink.path,
            engine=engine,
            frames=sink.written,
            seconds=seconds,
            wall_s=clock.elapsed_s,
            stages=clock.times(),
            held=self._held,
            visible_only=self._visible_only,
            left_out=self._source.left_out,
            first_gap_s=self._first_gap_s,
            interrupted=interrupted,
            damage=self._source.damage,
            notes=(*self._source.notes, *self._range_notes()),
        )

    def _range_notes(self) -> tuple[str, ...]:
        """Why nothing is seen of a range that was asked for: thermal black or white throughout, or left as it is."""
        if self._agc_range is None or self._counts is None:
            return ()
        asked = f"--agc-range {self._agc_range[0]:g}:{self._agc_range[1]:g}"
        scale = self._source.scale
        low, high = (scale.zero + scale.step * value for value in self._counts)
        if self._eight_bit and not self._agc.apply_to_8bit:
            return (f"{asked} changed nothing: thermal has 8 bits, and values from {low:g} to {high:g}",)
        below = self._counts[1] <= (self._agc.manual_low or 0)
        if below or self._counts[0] >= (self._agc.manual_high or 0):
            where = "black" if below else "white"
            return (
                f"{asked} shows nothing: thermal has values from {low:g} to {high:g}, so that all of it is {where}",
            )
        return ()

    def _seconds(self, units: int) -> float:
        timing = self._source.timing
        return float(units * timing.time_base) if timing is not None else 0.0


class _ReadAhead:
    """Iterates in a thread, a few items ahead; what that raises is raised after the items before it."""

    def __init__(self, items: Iterator[TimedPair], clock: StageClock) -> None:
        self._items, self._clock = items, clock
        self._queue: queue.Queue[TimedPair | None] = queue.Queue(_READ_AHEAD)
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fuse-decode")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_JOIN_S)

    def __iter__(self) -> Iterator[TimedPair]:
        while (item := self._queue.get()) is not None:
            yield item
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                began_s = time.perf_counter()
                item = next(self._items, None)
                if item is None:
                    break
                self._clock.add("decode", began_s)
                _put(self._queue, item, lambda: not self._over.is_set())
        except BaseException as error:  # crosses to the calling thread, which raises it
            self._error = error
        _put(self._queue, None, lambda: not self._over.is_set())


class _WriteBehind:
    """Writes in a thread, which owns the sink and closes it whatever happens. `error`: what that thread raised."""

    def __init__(self, sink: Sink, clock: StageClock) -> None:
        self._sink, self._clock = sink, clock
        self._queue: queue.Queue[tuple[np.ndarray, TimedPair, str] | None] = queue.Queue(_WRITE_BEHIND)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fuse-encode")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _put(self._queue, None, self._thread.is_alive)
        self._thread.join(_JOIN_S)
        if self.error is not None:
            raise self.error

    def put(self, shown: np.ndarray, timed: TimedPair, engine: str) -> None:
        """Hand over a picture; waits while the queue is full, and raises what the thread has raised."""
        _put(self._queue, (shown, timed, engine), self._thread.is_alive)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                began_s = time.perf_counter()
                self._sink.write(*item)
                self._clock.add("encode", began_s)
        except BaseException as error:  # crosses to the calling thread, which raises it
            self.error = error
        try:
            self._sink.close()
        except LumithermError as error:
            self.error = self.error or error


def _put(items: queue.Queue[_T], item: _T, wanted: Callable[[], bool]) -> None:
    """Wait for room in a bounded queue, but no longer than somebody wants the item."""
    while wanted():
        with contextlib.suppress(queue.Full):
            items.put(item, timeout=_WAIT_S)
            return
