"""All encoders of a recording: takes frames and fused pictures, gives encoded ones, and replaces what fails."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import astuple, dataclass, field

import numpy as np

from app.recording.config import RecordingConfig, TrackName
from app.recording.encoders import EncodedPacket, EncoderChoice, TrackEncoder, candidates, open_first
from app.recording.segments import EncodedPicture, Layout
from app.recording.sidecar import FrameLine, GapLine, PictureLine, RawLine, SourceRef
from app.recording.writing.rounds import Round, Rounds
from app.recording.writing.track_thread import TrackThread
from fusion_core.errors import RecordingError
from fusion_core.frames import Frame, FusedFrame, Stream

__all__ = ["EncoderBank", "FrameContext", "Shape", "track_of"]

_IN_FLIGHT = 3  # pictures of a track with its encoder; their raw pixels are held
_PATIENCE_S = 30.0  # for the last resort: a software encoder on a loaded machine is slow, not hung
_LONGEST_STEP_S = 0.2  # that counts towards a stall, so that a process that was itself stopped blames no encoder
_OPEN_TIMEOUT_S = 10.0
_DRAIN_S = 0.5
_FAILURES_IN_A_ROW = 3
_OUTAGE_NS = 500_000_000
_REDUCED_BY = 8  # CRF steps
_RAW = {Stream.VISIBLE: TrackName.VISIBLE, Stream.THERMAL: TrackName.THERMAL}

Shape = tuple[tuple[int, ...], np.dtype]


def track_of(picture: Frame | FusedFrame) -> TrackName:
    """The track that a picture belongs to."""
    return TrackName.FUSED if isinstance(picture, FusedFrame) else _RAW[picture.stream]


@dataclass(frozen=True, slots=True)
class FrameContext:
    """What the pipeline says about the frames besides the pixels; see `Recorder.describe`."""

    calibration: str | None = None
    offsets_ns: Mapping[str, int] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Job:
    track: TrackName
    line: PictureLine
    pixels: np.ndarray
    t_ns: int
    marks: tuple[GapLine, ...]
    round: Round
    fresh: bool
    layout: Layout
    since_s: float
    future: Future[EncodedPacket]


class EncoderBank:
    """Not thread-safe; owner: the recorder's thread. Each track's encoder has its thread, and its own few pictures
    under way: a slow encoder holds up no other track.

    Args:
        emit: gets each encoded picture; those of a track in their order.
        leave_out: gets a gap for a picture that fits into no file any more.
        warn: gets one line when an encoder is replaced or a track is lost.
        wake: called in an encoder's thread when a picture is done.
    """

    def __init__(
        self,
        config: RecordingConfig,
        emit: Callable[[EncodedPicture], None],
        leave_out: Callable[[GapLine], None],
        warn: Callable[[str], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._emit, self._leave_out = config, emit, leave_out
        self._warn, self._wake = warn, wake
        self._tracks = config.ordered_tracks
        self._threads: dict[TrackName, TrackThread] = {}
        self._encoders: dict[TrackName, TrackEncoder] = {}
        self._banned: dict[TrackName, set[EncoderChoice]] = {name: set() for name in TrackName}
        self._failures: dict[TrackName, int] = dict.fromkeys(TrackName, 0)
        self._lost: set[TrackName] = set()
        self._layout: Layout = ()
        self._pending: dict[TrackName, deque[_Job]] = {name: deque() for name in TrackName}
        self._waited_s: dict[TrackName, float] = dict.fromkeys(TrackName, 0.0)
        self._looked_s = time.monotonic()
        self._last_t_ns: dict[TrackName, int] = {}
        self._rounds = Rounds(config.gop_s)
        self._reduced = False
        self.opened_s = -math.inf
        """When an encoder was opened last, time.monotonic(): what waited for that is no sign of load."""
        self._former: tuple[int, ...] | None = None  # size of the fused pictures before visible changed its own
        self._resized_ns = 0

    # ---- what the recorder's thread calls

    @property
    def encoder_names(self) -> str:
        """The encoders in use, e.g. "libx264, ffvhuff"."""
        return ", ".join(dict.fromkeys(encoder.choice.name for encoder in self._encoders.values()))

    @property
    def tracks(self) -> tuple[TrackName, ...]:
        """The tracks asked for, less those whose encoders all failed."""
        return tuple(name for name in self._tracks if name not in self._lost)

    def set_tracks(self, tracks: tuple[TrackName, ...]) -> None:
        """Record other tracks from the next picture on; that begins a new file."""
        if tracks != self._tracks:
            self.drain()
            self._tracks = tracks
            for name in tuple(self._encoders):
                if name not in tracks:
                    del self._encoders[name]
            self._set_layout()

    @property
    def visible_reduced(self) -> bool:
        """Whether visible is kept in lower quality."""
        return self._reduced

    def reduce_visible(self, reduced: bool) -> None:
        """Keep visible in lower quality from the next picture on, or as configured; that begins a new file."""
        if reduced != self._reduced:
            self._reduced = reduced
            if self._encoders.pop(TrackName.VISIBLE, None) is not None:
                self._layout = ()

    def want_start(self) -> int:
        """Make the next pictures ones with which a file can begin; returns the number of their round."""
        return self._rounds.begin()

    def want_split(self) -> None:
        """Make a file begin soon, between two pairs."""
        self._rounds.want_split()

    def has_room(self, track: TrackName) -> bool:
        """Whether `take` would take a picture of this track at once."""
        return len(self._pending[track]) < _IN_FLIGHT

    def oldest_s(self, track: TrackName) -> float | None:
        """When the oldest picture of this track that is under way was offered, time.monotonic(); None without one. Any
        thread."""
        with contextlib.suppress(IndexError):
            return self._pending[track][0].since_s
        return None

    def take(
        self,
        picture: Frame | FusedFrame,
        context: FrameContext,
        shapes: Mapping[TrackName, Shape],
        since_s: float | None = None,
    ) -> None:
        """Encode a picture; call it where `has_room`.

        Args:
            shapes: of the raw pictures as far as they are known: so that a file is begun with all of its tracks.
            since_s: when it was offered, time.monotonic(); None = now.
        """
        track = track_of(picture)
        if track not in self.tracks:
            return
        fused = isinstance(picture, FusedFrame)
        t_ns = picture.pair.timestamp_ns if fused else picture.timestamp_ns  # type: ignore[union-attr]
        line = _fused_line(picture, context) if isinstance(picture, FusedFrame) else _raw_line(picture)
        if fused and tuple(picture.pixels.shape) == self._former and t_ns < self._resized_ns:
            self._leave_out(GapLine("size", t_ns, t_ns, track=str(track), frames=1))
            return
        self._match_encoders(track, picture.pixels, shapes)
        if track in self._encoders:
            since_s = time.monotonic() if since_s is None else since_s
            self._dispatch(track, line, picture.pixels, t_ns, self._outages(track, t_ns), since_s)

    def finish_ready(self) -> None:
        """Emit what is finished; replace an encoder that has given nothing for too long."""
        now_s = time.monotonic()
        step_s, self._looked_s = min(now_s - self._looked_s, _LONGEST_STEP_S), now_s
        for name, pending in self._pending.items():
            if not pending:
                self._waited_s[name] = 0.0
            elif not pending[0].future.done():
                self._waited_s[name] += step_s
                self._watch_stall(name)
            while pending and pending[0].future.done():
                self._waited_s[name] = 0.0
                if not self._complete_head(name):
                    break

    @property
    def busy(self) -> bool:
        """Whether pictures are under way."""
        return any(self._pending.values())

    def drain(self, limit_s: float = math.inf) -> None:
        """Wait until every picture taken has been emitted, or for so long."""
        end_s = time.monotonic() + limit_s
        self.finish_ready()
        while self.busy and time.monotonic() < end_s:
            time.sleep(0.001)
            self.finish_ready()

    def close(self) -> None:
        """End the encoder threads; what is still under way is lost."""
        for pending in self._pending.values():
            pending.clear()
        for thread in self._threads.values():
            if not thread.close(1.0):
                thread.abandon()
        self._threads.clear()
        self._encoders.clear()

    # ---- inside

    def _dispatch(
        self,
        track: TrackName,
        line: PictureLine,
        pixels: np.ndarray,
        t_ns: int,
        marks: tuple[GapLine, ...],
        since_s: float,
    ) -> None:
        if isinstance(line, FrameLine) and any(name is not TrackName.FUSED for name in self._encoders):
            sources = {TrackName.VISIBLE: line.visible, TrackName.THERMAL: line.thermal}
            made_of = {name: source.t_ns for name, source in sources.items() if source is not None}
            place, fresh = self._rounds.place_fused(t_ns, made_of)
        else:
            place, fresh = self._rounds.place(track, t_ns)
        encoder = self._encoders[track]
        future = self._thread_of(track).submit(lambda: encoder.encode(pixels, t_ns, fresh))
        job = _Job(track, line, pixels, t_ns, marks, place, fresh, self._layout, since_s, future)
        self._pending[track].append(job)
        future.add_done_callback(lambda _: self._wake())

    def _outages(self, track: TrackName, t_ns: int) -> tuple[GapLine, ...]:
        last_ns, self._last_t_ns[track] = self._last_t_ns.get(track), t_ns
        period_ns = self._rounds.period_ns(track)
        if last_ns is None or period_ns is None or t_ns - last_ns <= max(3 * period_ns, _OUTAGE_NS):
            return ()
        return (GapLine("outage", last_ns, t_ns, track=str(track)),)

    def _match_encoders(self, track: TrackName, pixels: np.ndarray, shapes: Mapping[TrackName, Shape]) -> None:
        """Open what is missing or does not fit; where anything changed, a file begins."""
        wanted: dict[TrackName, Shape] = dict(shapes)
        wanted[track] = (tuple(pixels.shape), pixels.dtype)
        if TrackName.FUSED not in wanted and TrackName.FUSED not in self._encoders:
            known = wanted.get(TrackName.VISIBLE) or wanted.get(TrackName.THERMAL)
            if known is not None:
                wanted[TrackName.FUSED] = ((*known[0][:2], 3), np.dtype(np.uint8))
        self._follow_size(track, wanted)
        changed = not self._layout
        for name in self.tracks:
            shape = wanted.get(name)
            if shape is None or (name in self._encoders and name is not track):
                continue
            encoder = self._encoders.get(name)
            if encoder is None or not _fits(encoder, shape):
                self.drain(_DRAIN_S)  # so that what has the former tracks comes before what has the new ones
                self._open(name, shape)
                changed = True
        if changed:
            self._set_layout(frozenset({track}) if track is TrackName.FUSED else frozenset())

    def _follow_size(self, track: TrackName, wanted: dict[TrackName, Shape]) -> None:
        """Fused pictures have visible's size: with a new one both tracks begin anew together."""
        visible, fused = self._encoders.get(TrackName.VISIBLE), self._encoders.get(TrackName.FUSED)
        if track is not TrackName.VISIBLE or visible is None or fused is None:
            return
        if visible.shape == wanted[track][0] or visible.shape != fused.shape:
            return
        self._former, self._resized_ns = fused.shape, self._last_t_ns.get(track, 0) + _OUTAGE_NS
        del self._encoders[TrackName.FUSED]
        wanted[TrackName.FUSED] = wanted[track]

    def _set_layout(self, at_once: frozenset[TrackName] = frozenset()) -> None:
        self._layout = tuple(self._encoders[name].params for name in TrackName if name in self._encoders)
        self._rounds.begin(at_once)

    def _open(self, name: TrackName, shape: Shape) -> None:
        config = self._config
        if self._reduced and name is TrackName.VISIBLE:
            config = config.model_copy(update={"quality": min(51, config.quality + _REDUCED_BY)})
        choices = tuple(c for c in candidates(config, name, shape[1]) if c not in self._banned[name])
        future = self._thread_of(name).submit(lambda: open_first(choices, name, shape[0], config.gop_s))
        try:
            encoder, reasons = future.result(timeout=_OPEN_TIMEOUT_S)
        except FutureTimeoutError:
            self._replace_thread(name)
            self._lose(name, f"no encoder for the {name} track opened within {_OPEN_TIMEOUT_S:.0f} s")
        except RecordingError as error:
            self._lose(name, str(error))
        else:
            asked = config.encoder
            if reasons and asked not in ("auto", "software") and name is not TrackName.THERMAL:
                self._warn(f"{name} is encoded by {encoder.choice.name}, not by {asked}: {reasons[0]}")
            self._encoders[name] = encoder
        finally:
            self.opened_s = time.monotonic()

    def _lose(self, name: TrackName, reason: str) -> None:
        self._lost.add(name)
        self._encoders.pop(name, None)
        self._layout = ()
        if not self.tracks:
            raise RecordingError(f"nothing can be recorded: {reason}")
        self._warn(f"the {name} track is not recorded: {reason}")

    def _thread_of(self, name: TrackName) -> TrackThread:
        if name not in self._threads:
            self._threads[name] = TrackThread(str(name), first=name is not TrackName.FUSED)
        return self._threads[name]

    def _replace_thread(self, name: TrackName) -> None:
        thread = self._threads.pop(name, None)
        if thread is not None:
            thread.abandon()

    def _watch_stall(self, name: TrackName) -> None:
        encoder = self._encoders.get(name)
        patient = encoder is None or encoder.choice.family in ("software", "lossless")
        limit_s = _PATIENCE_S if patient else self._config.encoder_stall_s
        if self._waited_s[name] > limit_s:
            self._waited_s[name] = 0.0
            self._replace_thread(name)
            self._recover_from(name, RecordingError(f"the {name} encoder gave nothing for {limit_s:.1f} s"))

    def _complete_head(self, name: TrackName) -> bool:
        """Emit the oldest picture, which is done; False when its encoder had failed and all begins anew."""
        job = self._pending[name][0]
        try:
            packet = job.future.result()
        except RecordingError as error:
            self._recover_from(name, error)
            return False
        self._failures[name] = 0
        self._pending[name].popleft()
        start_ns = job.round.start_ns
        self._emit(
            EncodedPicture(
                track=name,
                line=job.line,
                packet=packet,
                layout=job.layout,
                round=job.round.number,
                fresh=job.fresh,
                start_ns=job.t_ns if start_ns is None else start_ns,
                fell=math.isfinite(job.round.until_ns),
                marks=job.marks,
            )
        )
        return True

    def _recover_from(self, name: TrackName, error: RecordingError) -> None:
        """Replace a failed encoder and encode again everything that it had under way: nothing is lost or doubled."""
        jobs, self._pending[name] = self._pending[name], deque()
        encoder = self._encoders.pop(name, None)
        self._layout = ()
        self._failures[name] += 1
        if encoder is not None and encoder.choice.family not in ("software", "lossless"):
            self._banned[name].add(encoder.choice)
        if self._failures[name] >= _FAILURES_IN_A_ROW:
            self._lose(name, str(error))
        else:
            self._warn(f"{error}; the {name} track goes on with another encoder in a new file")
            self._open(name, (tuple(jobs[0].pixels.shape), jobs[0].pixels.dtype))
        self._set_layout(frozenset({name}))
        for job in jobs:
            if name in self._encoders:
                self._dispatch(name, job.line, job.pixels, job.t_ns, job.marks, job.since_s)


def _fits(encoder: TrackEncoder, shape: Shape) -> bool:
    return encoder.shape == shape[0] and (encoder.choice.pixel_format == "gray16le") == (shape[1] == np.uint16)


def _raw_line(frame: Frame) -> RawLine:
    """The sidecar line, still without the place in the file."""
    return RawLine(_RAW[frame.stream], frame.index, frame.timestamp_ns, str(frame.ts_source), int(frame.flags))


def _fused_line(frame: FusedFrame, context: FrameContext) -> FrameLine:
    """The sidecar line, still without the place in the file."""
    pair = frame.pair
    limits = frame.agc_limits
    return FrameLine(
        n=0,
        t_ns=pair.timestamp_ns,
        visible=_source(pair.visible),
        thermal=_source(pair.thermal),
        skew_ns=pair.skew_ns,
        flags=int(pair.flags),
        engine=frame.engine,
        fuse_ms=round(float(frame.fuse_ms), 3),
        fused_ns=frame.fused_ns,
        agc=None if limits is None else (float(limits[0]), float(limits[1])),
        calibration=context.calibration,
        offsets_ns=dict(context.offsets_ns),
        drops=dict(context.drops),
        notes=tuple(frame.notes),
        detections=tuple(astuple(each) for each in frame.detections),
    )


def _source(frame: Frame | None) -> SourceRef | None:
    if frame is None:
        return None
    return SourceRef(frame.index, frame.timestamp_ns, str(frame.ts_source), int(frame.flags))
