"""Fuse two videos into one: decode, fuse and encode side by side in three threads.

The decode thread reads both files, pairs them by time stamp, brings thermal to 8 bit and to the visible size; the
calling thread runs the engine and composes the view; the encode thread owns the output file. Bounded queues lie
between them, a failure in any of them ends all three, and whatever was encoded until then stays a file that plays.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from app.media.pairing import MediaPair, default_max_skew_ns, pair_by_time
from app.media.reader import FrameReader, MediaFrame
from app.media.writer import VideoFormat, VideoWriter
from app.pipeline.thermal_grid import ThermalGrid
from app.view.views import View, compose, needs_fused, view_size
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import BadInputError, LumithermError
from fusion_core.frames import FrameFlag
from fusion_core.thermal.agc import Agc, AgcConfig

__all__ = [
    "FuseProgress",
    "FuseReport",
    "Observer",
    "StageTime",
    "VideoOptions",
    "calibrated_grid",
    "check_overlap",
    "fuse_videos",
]

# A visible frame, thermal (H, W) uint8 on its grid or None, fused (H, W, 3) uint8 RGB or None.
Observer: TypeAlias = Callable[[MediaFrame, np.ndarray | None, np.ndarray | None], None]

_DECODE_AHEAD = 4
_ENCODE_QUEUE = 4
_WAIT_S = 0.1
_JOIN_S = 60.0


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """What the caller chooses for a video.

    max_skew_ns: None takes it from the thermal frame rate. calibration: the rig's file, None for plain scaling.
    encoder_threads: None takes one up to 1280x720, so that the network keeps the other cores, and a quarter of the
    cores above.
    """

    view: View = View.FUSED
    crf: int = 18
    limit: int | None = None
    max_skew_ns: int | None = None
    max_hold_ns: int = 500_000_000
    thermal_offset_ns: int = 0
    agc: AgcConfig = field(default_factory=AgcConfig)
    calibration: Path | None = None
    encoder_threads: int | None = None


@dataclass(frozen=True, slots=True)
class FuseProgress:
    """How far a job is; `total` may be None (unknown) or off by a few. fps counts from the first frame."""

    done: int
    total: int | None
    fps: float


@dataclass(frozen=True, slots=True)
class StageTime:
    """Time of one stage: per frame in ms, and its share (0..1) of the sum over the three stages."""

    median_ms: float
    p95_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class FuseReport:
    """What a job did. `damage` has one line an input that broke off early or could not be
    read in places; the output then ends (or is held) there, or leaves those pairs out, which `left_out` counts."""

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
        """Frames a second of wall time, decoding and encoding included, engine warm-up left out."""
        return self.frames / self.wall_s if self.wall_s > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    pair: MediaPair
    thermal: np.ndarray | None  # (H, W) uint8 on the visible grid


class _Abandoned(Exception):  # noqa: N818 - ends a stage because another one failed or the user stopped
    pass


class _Stage:
    """A bounded queue whose two ends give up when `over` is set, so that no thread waits for a dead one."""

    def __init__(self, size: int, over: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(size)
        self._over = over

    def put(self, item: Any) -> None:
        while not self._over.is_set():
            try:
                return self._queue.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue
        raise _Abandoned

    def get(self) -> Any:
        while True:
            try:
                return self._queue.get(timeout=_WAIT_S)
            except queue.Empty:
                if self._over.is_set():
                    raise _Abandoned from None


def check_overlap(visible: FrameReader, thermal: FrameReader, options: VideoOptions) -> int:
    """Give the largest skew of a pair in ns; refuse streams that declare times which do not meet.

    Raises:
        BadInputError: no overlap in time.
    """
    max_skew_ns = options.max_skew_ns if options.max_skew_ns is not None else default_max_skew_ns(thermal.rate)
    offset_s = options.thermal_offset_ns / 1e9
    slack_s = max_skew_ns / 1e9
    starts_late = visible.end_s is not None and thermal.start_s + offset_s > visible.end_s + slack_s
    ends_early = thermal.end_s is not None and thermal.end_s + offset_s < visible.start_s - slack_s
    if starts_late or ends_early:
        raise BadInputError(_no_overlap(visible, thermal, offset_s))
    return max_skew_ns


def _no_overlap(visible: FrameReader, thermal: FrameReader, offset_s: float) -> str:
    shift_ms = (visible.start_s - thermal.start_s) * 1000
    return (
        f"the two do not overlap in time: {visible.path} covers {_span(visible, 0.0)}, {thermal.path} covers "
        f"{_span(thermal, offset_s)}. If both began together, --thermal-offset-ms {shift_ms:.0f} moves thermal there."
    )


def _span(reader: FrameReader, offset_s: float) -> str:
    end = "its end" if reader.end_s is None else f"{reader.end_s + offset_s:.3f} s"
    return f"{reader.start_s + offset_s:.3f} s to {end}"


def fuse_videos(
    visible: FrameReader,
    thermal: FrameReader,
    output: Path,
    engine: FusionEngine,
    options: VideoOptions,
    progress: Callable[[FuseProgress], None] | None = None,
    stop: threading.Event | None = None,
    observe: Observer | None = None,
) -> FuseReport:
    """Fuse frame by frame into `output` (.mkv or .mp4), one output frame a visible frame with the same time stamp.

    The engine is called from this thread only; it is not closed. `stop` ends the job early with a file that plays.
    `observe` sees the three pictures of each frame, on the calling thread.

    Raises:
        BadInputError: no overlap in time, a damaged picture in a sequence. RecordingError: disk full and the like.
        EngineError: the engine failed. In each case the frames before it are in `output`.
    """
    max_skew_ns = check_overlap(visible, thermal, options)
    return _VideoJob(visible, thermal, output, engine, options, max_skew_ns, progress, stop, observe).run()


class _VideoJob:
    def __init__(
        self,
        visible: FrameReader,
        thermal: FrameReader,
        output: Path,
        engine: FusionEngine,
        options: VideoOptions,
        max_skew_ns: int,
        progress: Callable[[FuseProgress], None] | None,
        stop: threading.Event | None,
        observe: Observer | None,
    ) -> None:
        self._visible, self._thermal = visible, thermal
        self._output, self._engine, self._options = output, engine, options
        self._progress, self._user_stop = progress, stop or threading.Event()
        self._max_skew_ns = max_skew_ns
        self._observe = observe
        self._grid = calibrated_grid(options.calibration, visible.height, visible.width)
        self._decode_over, self._encode_over = threading.Event(), threading.Event()
        self._decoded = _Stage(_DECODE_AHEAD, self._decode_over)
        self._to_encode = _Stage(_ENCODE_QUEUE, self._encode_over)
        self._decode_error: BaseException | None = None
        self._encode_error: BaseException | None = None
        self._times_ms: dict[str, list[float]] = {"decode": [], "fuse": [], "encode": []}
        self._held = self._visible_only = self._fused = self._frames = 0
        self._constant = 0  # written by the decode thread, read after it has ended
        self._first_gap_s: float | None = None
        self._first_s = self._last_s = 0.0

    def run(self) -> FuseReport:
        self._engine.warm_up(self._visible.height, self._visible.width)
        self._engine.reset()
        height, width = view_size(self._options.view, self._visible.height, self._visible.width)
        self._writer = VideoWriter(
            self._output,
            height,
            width,
            self._visible.time_base,
            self._visible.rate,
            VideoFormat(
                crf=self._options.crf, threads=self._options.encoder_threads or _encoder_threads(height, width)
            ),
            self._visible.sample_aspect_ratio,
            {"comment": f"fused by Lumitherm ({self._engine.name})"},
        )
        began_s = time.perf_counter()
        decode = threading.Thread(target=self._decode, name="fuse-decode")
        encode = threading.Thread(target=self._encode, name="fuse-encode")
        decode.start()
        encode.start()
        failure: BaseException | None = None
        try:
            self._fuse_all(began_s)
        except _Abandoned:
            failure = None  # the encode thread's own error follows below
        except BaseException as error:  # a Ctrl-C without a handler too: the file is finished first
            failure = error
        self._decode_over.set()
        self._finish_encoding(encode)
        decode.join(_JOIN_S)
        wall_s = time.perf_counter() - began_s
        failures: list[BaseException | None] = [self._encode_error, failure, self._decode_error]
        for raised in failures:
            if raised is not None:
                self._raise(raised)
        return self._report(wall_s)

    def _fuse_all(self, began_s: float) -> None:
        fuses = needs_fused(self._options.view)
        limit = self._options.limit
        total = self._visible.expected_frames
        total = limit if total is None else min(total, limit or total)
        while not self._user_stop.is_set():
            if self._encode_error is not None:
                raise _Abandoned
            work = self._decoded.get()
            if work is None:
                return
            start_s = time.perf_counter()
            visible = work.pair.visible.frame.pixels
            fused = None
            if fuses and work.thermal is not None:
                fused = self._engine.fuse(visible, self._grid.filled(work.thermal, visible))
            shown = compose(self._options.view, visible, work.thermal, fused)
            self._times_ms["fuse"].append((time.perf_counter() - start_s) * 1000)
            self._to_encode.put((shown, work.pair.visible))
            self._count(work.pair)
            if self._observe is not None:
                self._observe(work.pair.visible, work.thermal, fused)
            if self._progress is not None:
                elapsed_s = time.perf_counter() - began_s
                self._progress(FuseProgress(self._frames, total, self._frames / max(elapsed_s, 1e-9)))

    def _count(self, pair: MediaPair) -> None:
        time_s = pair.visible.frame.timestamp_ns / 1e9
        if self._frames == 0:
            self._first_s = time_s
        self._last_s = time_s + float(pair.visible.duration * self._visible.time_base)
        self._frames += 1
        if pair.flags & FrameFlag.HELD:
            self._held += 1
        elif pair.flags & FrameFlag.VISIBLE_ONLY:
            self._visible_only += 1
        else:
            self._fused += 1
            return
        if self._first_gap_s is None:
            self._first_gap_s = time_s

    def _decode(self) -> None:
        """Thread: read, pair, AGC, resize. Owns both readers and the AGC."""
        try:
            agc = Agc(self._options.agc)
            pairs = pair_by_time(
                self._visible.frames(),
                self._thermal.frames(),
                self._max_skew_ns,
                self._options.max_hold_ns,
                self._options.thermal_offset_ns,
            )
            last: MediaFrame | None = None
            picture: np.ndarray | None = None
            done = 0
            while not self._decode_over.is_set() and (self._options.limit is None or done < self._options.limit):
                start_s = time.perf_counter()
                pair = next(pairs, None)
                if pair is None:
                    break
                if pair.thermal is not None and pair.thermal is not last:
                    picture = self._prepare(agc, pair.thermal, last)
                    last = pair.thermal
                self._times_ms["decode"].append((time.perf_counter() - start_s) * 1000)
                self._decoded.put(_Work(pair, picture if pair.thermal is not None else None))
                done += 1
            self._decoded.put(None)
        except _Abandoned:
            return
        except BaseException as error:  # crosses to the calling thread, which raises it
            self._decode_error = error
            try:
                self._decoded.put(None)
            except _Abandoned:
                return

    def _prepare(self, agc: Agc, thermal: MediaFrame, last: MediaFrame | None) -> np.ndarray:
        if thermal.frame.pixels.min() == thermal.frame.pixels.max():
            self._constant += 1
        since_s = None if last is None else (thermal.frame.timestamp_ns - last.frame.timestamp_ns) / 1e9
        levels = agc.apply(thermal.frame.pixels, since_s)
        return self._grid.to_visible(levels, self._visible.height, self._visible.width)

    def _encode(self) -> None:
        """Thread: owns the writer from here on and closes it, whatever happens."""
        try:
            while (item := self._to_encode.get()) is not None:
                pixels, frame = item
                start_s = time.perf_counter()
                self._writer.write(pixels, frame.pts, frame.duration)
                self._times_ms["encode"].append((time.perf_counter() - start_s) * 1000)
        except _Abandoned:
            pass
        except BaseException as error:  # crosses to the calling thread, which raises it
            self._encode_error = error
            self._encode_over.set()
        try:
            self._writer.close()
        except LumithermError as error:
            self._encode_error = self._encode_error or error

    def _finish_encoding(self, encode: threading.Thread) -> None:
        with contextlib.suppress(_Abandoned):  # then the encode thread has ended already
            self._to_encode.put(None)
        encode.join(_JOIN_S)
        if self._writer.frames_written == 0:
            self._output.unlink(missing_ok=True)

    def _raise(self, error: BaseException) -> None:
        written = self._writer.frames_written
        if isinstance(error, LumithermError) and error is not self._encode_error and written:
            raise type(error)(f"{error} The {written} frames before it are in {self._output}.") from error
        raise error

    def _report(self, wall_s: float) -> FuseReport:
        interrupted = self._user_stop.is_set()
        if not self._fused and not self._held and not interrupted:
            self._output.unlink(missing_ok=True)
            raise BadInputError(_no_overlap(self._visible, self._thermal, self._options.thermal_offset_ns / 1e9))
        totals = {name: sum(times) for name, times in self._times_ms.items()}
        whole = sum(totals.values()) or 1.0
        stages = {
            name: StageTime(float(np.median(times)), float(np.percentile(times, 95)), totals[name] / whole)
            for name, times in self._times_ms.items()
            if times
        }
        return FuseReport(
            output=self._output,
            engine=self._engine.name,
            frames=self._writer.frames_written,
            seconds=max(0.0, self._last_s - self._first_s),
            wall_s=wall_s,
            stages=stages,
            held=self._held,
            visible_only=self._visible_only,
            first_gap_s=self._first_gap_s,
            interrupted=interrupted,
            damage=tuple(d for d in (self._visible.damage, self._thermal.damage) if d is not None),
            notes=(*self._visible.notes, *self._thermal.notes, *self._own_notes()),
        )

    def _own_notes(self) -> list[str]:
        notes = []
        visible, thermal = self._visible, self._thermal
        ratio = (visible.width / visible.height) / (thermal.width / thermal.height)
        if abs(ratio - 1) > 0.02:
            notes.append(
                f"the pictures differ in shape (visible {visible.width}x{visible.height}, thermal {thermal.width}x"
                f"{thermal.height}); thermal was stretched, a calibrated rig would be aligned properly"
            )
        if self._constant:
            notes.append(
                f"{thermal.path.name}: {self._constant} thermal frames have the same value in every pixel "
                "(lens covered or shutter closed)"
            )
        return notes


def _encoder_threads(height: int, width: int) -> int:
    if height * width <= 1280 * 720:
        return 1
    return max(1, min(8, (os.cpu_count() or 1) // 4))


def calibrated_grid(calibration: Path | None, height: int, width: int) -> ThermalGrid:
    """Brings thermal onto a visible grid of this size. Raises ConfigError, BadInputError: the file cannot be used."""
    grid = ThermalGrid(calibration)
    grid.prepare(height, width)
    return grid
