"""Plays recordings for looking at: any pair by number, fused again by two sets of settings side by side, and rendered.

No toolkit: a window asks for a pair and pulls the result; only the newest wish counts, so that dragging never queues.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from app.pipeline.latest_slot import LatestSlot
from fusion_core.errors import BadInputError, ConfigError, LumithermError, RecordingError
from fusion_core.frames import FramePair, FusedFrame, ThermalAlignment
from fusion_core.thermal.agc import Agc, AgcConfig

if TYPE_CHECKING:
    from app.pipeline.thermal_grid import ThermalGrid
    from fusion_core.engines.engine import FusionEngine

__all__ = [
    "RECORDED",
    "FuseSettings",
    "PairSource",
    "PlaybackSession",
    "PlayedFrame",
    "RenderJob",
    "open_source",
    "recorded_calibration",
]

RECORDED = "recorded"
"""Name of the "engine" that shows the fused track as it was recorded."""
_JUMP_NS = 1_000_000_000  # pairs further apart start the AGC and the engine afresh
_JOIN_S = 30.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FuseSettings:
    """How a pair is fused: an engine's name or RECORDED, its network and weights, and the thermal AGC."""

    engine: str = RECORDED
    preset: str = "tiny"
    weights: Path | None = None
    agc: AgcConfig = field(default_factory=AgcConfig)

    @property
    def label(self) -> str:
        """Short, for the picture's corner."""
        name = self.weights.stem if self.weights is not None else self.engine
        return name if self.engine == RECORDED else f"{name}, {self.agc.mode.value}"


@dataclass(frozen=True, slots=True, eq=False)
class PlayedFrame:
    """One pair as asked for: fused by A, and by B where there is one. seconds: since the first pair."""

    index: int
    seconds: float
    frame: FusedFrame
    second: npt.NDArray[np.uint8] | None
    work_ms: float


class PairSource(Protocol):
    """Pairs by number: a recording, or two files. One thread at a time."""

    @property
    def name(self) -> str: ...
    @property
    def calibration(self) -> Path | None:
        """By which thermal is aligned; None = plain scaling."""
        ...

    def __len__(self) -> int: ...
    def seconds(self, index: int) -> float:
        """Of a pair, since the first one."""
        ...

    def pair(self, index: int) -> FramePair: ...
    def fused(self, index: int) -> npt.NDArray[np.uint8] | None:
        """The fused picture that was recorded, None if there is none."""
        ...

    def close(self) -> None: ...


class _Recording:
    """A Lumitherm recording as a source of pairs."""

    def __init__(self, path: Path) -> None:
        from app.recording.reader import RecordingReader

        self._reader = RecordingReader(path)
        self.name = path.name
        self.calibration: Path | None = None
        if len(self._reader) == 0:
            self._reader.close()
            raise BadInputError(f"{path} holds no pairs; `lumitherm recover` may find some")
        header = self._reader.info.header
        if header is not None:
            self.calibration = recorded_calibration(header.config, self._reader.line(0).calibration)

    def __len__(self) -> int:
        return len(self._reader)

    def seconds(self, index: int) -> float:
        return (self._reader.line(index).t_ns - self._reader.line(0).t_ns) / 1e9

    def pair(self, index: int) -> FramePair:
        return self._reader.pair(index)

    def fused(self, index: int) -> npt.NDArray[np.uint8] | None:
        return self._reader.fused(index)

    def close(self) -> None:
        self._reader.close()


def recorded_calibration(config: dict[str, Any], identity: str | None) -> Path | None:
    """The calibration file that a recording was made with, if it is still there and has not been changed since.

    Args:
        config: of the recording's header. identity: as its first pair has it, see `ThermalGrid.identity`.
    """
    calibration = config.get("app", {}).get("calibration", {})
    name = calibration.get("file") if isinstance(calibration, dict) else None
    if not name or not identity or not Path(name).is_file():
        return None
    from calibration.rig import file_sha256

    unchanged = file_sha256(Path(name))[:16] == identity.partition("+")[0]  # what self-alignment added is not kept
    return Path(name) if unchanged else None


def open_source(path: Path, thermal: Path | None = None) -> PairSource:
    """A recording, or with `thermal` a visible and a thermal video.

    Raises:
        BadInputError: a file cannot be read, or holds no pairs.
    """
    if thermal is None:
        return _Recording(path)
    from app.playback.sources import FilePair

    return FilePair(path, thermal)


class _Fuser:
    """Fuses pairs by one set of settings; makes its engine when it is first needed. One owner thread."""

    def __init__(self, settings: FuseSettings, calibration: Path | None) -> None:
        self.settings = settings
        self._calibration = calibration
        self._grid: ThermalGrid | None = None
        self._agc = Agc(settings.agc)
        self._engine: FusionEngine | None = None
        self._size: tuple[int, int] = (0, 0)
        self._before: int | None = None

    def fuse(self, pair: FramePair, recorded: npt.NDArray[np.uint8] | None) -> FusedFrame:
        """The pair as these settings show it. Without a thermal or visible frame, what is there."""
        began = time.perf_counter()
        visible = pair.visible.pixels if pair.visible is not None else recorded
        levels = self._levels(pair)
        if visible is None:
            if levels is None:
                raise RecordingError("the pair holds no picture")
            visible = np.repeat(levels[..., None], 3, axis=2)
        height, width = visible.shape[:2]
        grid, alignment = (None, None) if levels is None else self._aligned(levels, height, width)
        name = self.settings.engine
        if name == RECORDED:
            pixels = recorded if recorded is not None else visible
        elif grid is None:
            pixels = visible
        else:
            engine = self._ready(height, width)
            whole = grid if alignment is None else alignment.filled(grid, visible)
            pixels, name = engine.fuse(visible, whole), engine.name
        return FusedFrame(
            pixels=pixels,
            pair=pair,
            fuse_ms=(time.perf_counter() - began) * 1e3,
            engine=name,
            thermal_8bit=grid,
            agc_limits=self._agc.limits,
            alignment=alignment,
        )

    def _aligned(
        self, levels: npt.NDArray[np.uint8], height: int, width: int
    ) -> tuple[npt.NDArray[np.uint8], ThermalAlignment | None]:
        """On the visible grid, by the calibration where it can be read and fits, as when it was recorded."""
        from app.pipeline.thermal_grid import ThermalGrid  # brings codecs along, which a window need not wait for

        try:
            if self._grid is None:
                self._grid = ThermalGrid(self._calibration)
            return self._grid.to_visible(levels, height, width), self._grid.alignment(height, width)
        except (BadInputError, ConfigError) as error:
            structlog.get_logger("playback").warning("thermal is only scaled", reason=str(error))
            self._grid = ThermalGrid(None)
            return self._grid.to_visible(levels, height, width), None

    def _levels(self, pair: FramePair) -> npt.NDArray[np.uint8] | None:
        if pair.thermal is None:
            return None
        now = pair.thermal.timestamp_ns
        before, self._before = self._before, now
        if before is None or not 0 <= now - before <= _JUMP_NS:
            self._agc.reset()
            if self._engine is not None:
                self._engine.reset()
            return self._agc.apply(pair.thermal.pixels)
        return self._agc.apply(pair.thermal.pixels, (now - before) / 1e9)

    def _ready(self, height: int, width: int) -> FusionEngine:
        if self._engine is None:
            from fusion_core.engines.engine import create_engine

            settings = self.settings
            self._engine = create_engine(settings.engine, settings.preset, settings.weights)
        if self._size != (height, width):
            self._engine.warm_up(height, width)
            self._size = (height, width)
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


@dataclass(slots=True)
class _Wish:
    index: int
    serial: int


class PlaybackSession:
    """One open source. `show` asks for a pair; the newest finished one is in `latest`.

    Thread: `playback`, from the constructor to `close`; it owns source and engines. All methods may be called from
    any thread. What goes wrong is in `error`, and the next wish is tried again.

    Args:
        open_it: opens the source, on the thread.
    """

    def __init__(self, open_it: Callable[[], PairSource], first: FuseSettings, second: FuseSettings | None) -> None:
        self.latest: LatestSlot[PlayedFrame] = LatestSlot()
        self._open_it = open_it
        self._condition = threading.Condition()
        self._settings = (first, second)
        self._wish: _Wish | None = None
        self._serial = 0
        self._closing = False
        self._times: list[float] = []
        self._name = ""
        self._opened = False
        self._error = ""
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="playback")
        self._thread.start()

    # ------------------------------------------------------------------ what is open

    @property
    def opened(self) -> bool:
        """Whether the source is open; `error` says why not."""
        with self._condition:
            return self._opened

    @property
    def error(self) -> str:
        """What went wrong last; "" when the last wish was met."""
        with self._condition:
            return self._error

    @property
    def name(self) -> str:
        """Of the source."""
        return self._name

    @property
    def seconds(self) -> list[float]:
        """Time of each pair since the first one; not to be changed."""
        return self._times

    @property
    def busy(self) -> bool:
        """Whether a wish is being met or waits."""
        with self._condition:
            return self._busy or self._wish is not None

    # ------------------------------------------------------------------ wishes

    def show(self, index: int) -> None:
        """Ask for a pair; an earlier wish that was not begun is dropped."""
        with self._condition:
            self._serial += 1
            self._wish = _Wish(index, self._serial)
            self._condition.notify_all()

    def set_settings(self, first: FuseSettings, second: FuseSettings | None) -> None:
        """Fuse by these from the next wish on."""
        with self._condition:
            self._settings = (first, second)

    def close(self) -> None:
        """End the thread and close everything. Waits for the pair that is being fused."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join(_JOIN_S)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        source: PairSource | None = None
        fusers: list[_Fuser | None] = [None, None]
        try:
            source = self._attempt(self._open)
            while source is not None:
                wish = self._next()
                if wish is None:
                    return
                found = self._attempt(partial(self._play, source, fusers, wish))
                if found is not None:
                    self.latest.put(found)
                with self._condition:
                    self._busy = False
        finally:
            for fuser in fusers:
                if fuser is not None:
                    fuser.close()
            if source is not None:
                source.close()

    def _open(self) -> PairSource:
        source = self._open_it()
        times = [source.seconds(index) for index in range(len(source))]
        with self._condition:
            self._times, self._name, self._opened = times, source.name, True
        return source

    def _attempt(self, work: Callable[[], _T]) -> _T | None:
        try:
            result = work()
        except Exception as error:  # the thread lives on: the window shows this and may ask again
            text = str(error)
            if not isinstance(error, LumithermError):
                structlog.get_logger("playback").error("playback failed", exc_info=error)
                text = f"unexpected: {type(error).__name__}: {error}"
            with self._condition:
                self._error = text
            return None
        with self._condition:
            self._error = ""
        return result

    def _next(self) -> _Wish | None:
        with self._condition:
            while self._wish is None and not self._closing:
                self._condition.wait(1.0)
            if self._closing:
                return None
            wish, self._wish, self._busy = self._wish, None, True
            return wish

    def _play(self, source: PairSource, fusers: list[_Fuser | None], wish: _Wish) -> PlayedFrame:
        began = time.perf_counter()
        with self._condition:
            settings = self._settings
        index = min(max(wish.index, 0), len(source) - 1)
        recorded = source.fused(index)
        try:
            pair = source.pair(index)
        except RecordingError:
            if recorded is None:
                raise
            pair = None  # only the fused track was kept
        shown: list[FusedFrame | None] = [None, None]
        for number, wanted in enumerate(settings):
            fuser = fusers[number]
            if fuser is not None and fuser.settings != wanted:
                fuser.close()
                fuser = fusers[number] = None
            if wanted is None:
                continue
            if fuser is None:
                fuser = fusers[number] = _Fuser(wanted, source.calibration)
            shown[number] = fuser.fuse(pair if pair is not None else _lone(recorded), recorded)
        first, second = shown
        if first is None:
            raise RecordingError("nothing to show")
        pixels = None if second is None else second.pixels
        return PlayedFrame(index, self._times[index], first, pixels, (time.perf_counter() - began) * 1e3)


def _lone(fused: npt.NDArray[np.uint8] | None) -> FramePair:
    """A pair whose visible frame is the fused picture, for recordings that hold nothing else."""
    from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

    if fused is None:
        raise RecordingError("the pair holds no picture")
    frame = Frame(Stream.VISIBLE, fused, 0, 0, TimestampSource.FILE)
    return FramePair(frame, None, FrameFlag.VISIBLE_ONLY)


class RenderJob:
    """Fuses a range of a source into a video file, in a thread `render` of its own. `cancel` leaves what is done.

    Args:
        open_it: opens a source of its own, on the thread.
        start, stop: pairs, stop excluded.
    """

    def __init__(
        self, open_it: Callable[[], PairSource], settings: FuseSettings, start: int, stop: int, output: Path
    ) -> None:
        self.output = output
        self.total = max(0, stop - start)
        self._open_it, self._settings, self._start, self._stop = open_it, settings, start, stop
        self._cancelled = threading.Event()
        self._done = 0
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="render")
        self._thread.start()

    @property
    def done(self) -> int:
        """Pairs that are written."""
        return self._done

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    @property
    def error(self) -> str:
        """Why it ended early; "" if it did not, or was cancelled."""
        return self._error

    @property
    def cancelled(self) -> bool:
        """Whether it was told to end early."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End after the present pair; the file plays up to there."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; False if it still runs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._render()
        except Exception as error:  # shown by whoever looks at `error`
            self._error = str(error)
            if not isinstance(error, LumithermError):
                structlog.get_logger("playback").error("render failed", exc_info=error)
                self._error = f"unexpected: {type(error).__name__}: {error}"

    def _render(self) -> None:
        from app.media.writer import VideoWriter

        source = self._open_it()
        fuser = _Fuser(self._settings, source.calibration)
        writer: VideoWriter | None = None
        try:
            zero = source.seconds(self._start)
            last_ms = -1
            for index in range(self._start, min(self._stop, len(source))):
                if self._cancelled.is_set():
                    break
                recorded = source.fused(index)
                pixels = fuser.fuse(source.pair(index), recorded).pixels
                if writer is None:
                    height, width = pixels.shape[:2]
                    writer = VideoWriter(self.output, height, width, Fraction(1, 1000))
                ms = max(last_ms + 1, round((source.seconds(index) - zero) * 1000))
                writer.write(pixels, ms, self._length_ms(source, index))
                last_ms = ms
                self._done += 1
        finally:
            if writer is not None:
                writer.close()
            fuser.close()
            source.close()

    @staticmethod
    def _length_ms(source: PairSource, index: int) -> int:
        following = min(index + 1, len(source) - 1)
        return max(1, round((source.seconds(following) - source.seconds(index)) * 1000)) if following > index else 33
