"""Cameras through PyAV: video files, RTSP and RTSPS streams, and the system's cameras on Windows and macOS."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import av

from app.capture.cameras.camera import CameraInfo, Clock, TimeBase
from app.capture.cameras.sender_clock import SenderClock
from app.capture.cameras.uri import CameraUri
from app.media.decoded import DECODER_LIMITS, FrameConverter, bound_decoder
from app.media.geometry import MediaInput
from app.media.reader import VideoReader
from fusion_core.errors import BadInputError, CameraLost, CameraTimeout, ConfigError, EndOfStream
from fusion_core.files import read_bounded
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource
from fusion_core.redaction import redact, redact_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.capture.config import CameraConfig

__all__ = ["AvFileCamera", "AvLiveCamera", "rtsp_url_with_credentials"]

_MIN_SILENCE_S: Final = 1.0  # a live source that sends nothing for this long is given up by the helper thread
_QUEUE_FRAMES: Final = 4
_LATE_NS: Final = 250_000_000  # a real-time file further behind than this skips pictures
_SKIP_MOST: Final = 9  # ... but shows one in ten
_MOST_SECRET_BYTES: Final = 4096
_JOIN_S: Final = 0.3


class _Decoded(NamedTuple):
    """A decoded picture: its presentation time since the stream's start (None if unknown) and its packet's arrival."""

    video: Any
    time_ns: int | None
    arrival_ns: int


class _AvSource:
    """One open container and its chosen video track; used by one thread."""

    def __init__(self, uri: CameraUri, config: CameraConfig, clock: Clock) -> None:
        self.shown = config.shown_uri
        self._clock = clock
        name, format_name, options = _open_arguments(uri, config)
        # FFmpeg's own time limits: one for opening, one for each packet.
        timeout = (config.open_timeout_s, max(_MIN_SILENCE_S, 4 / config.fps if config.fps else 0.0))
        try:
            self._container = av.open(
                name, format=format_name, options=options | DECODER_LIMITS, timeout=timeout, metadata_errors="replace"
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise self._cannot_open(error) from None
        try:
            self.track = self._choose_track(uri)
            if getattr(self.track, "codec_context", None) is None:
                raise self._cannot_open(ValueError("its video is in a format that the decoder does not know"))
            try:
                bound_decoder(self.track.codec_context, self.shown)
            except BadInputError as error:
                raise self._cannot_open(error) from None
        except BaseException:
            self._container.close()
            raise
        self.track.thread_type = "SLICE"  # frame threads would add a frame each
        self.track.codec_context.flags |= av.codec.context.Flags.low_delay
        self.fps = float(self.track.average_rate or self.track.guessed_rate or 0)

    def _cannot_open(self, error: Exception) -> CameraLost:
        reason = redact(f"{type(error).__name__}: {error}")
        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            reason += "; the camera refused the user name or password: see credentials_env and credentials_file"
        return CameraLost(
            f"{self.shown} would not open ({reason}), expected a video stream. Is the camera on and reachable?"
        )

    def _choose_track(self, uri: CameraUri) -> Any:
        tracks = self._container.streams.video
        number = int(uri.options.get("track", "0"))
        if number >= len(tracks):
            raise CameraLost(
                f"{self.shown} has {len(tracks)} video track(s), track {number} is not there (they count from 0)"
            )
        return tracks[number]

    def pictures(self) -> Iterator[_Decoded]:
        """Decode until the end. Raises CameraLost on a broken or silent live source."""
        try:
            for packet in self._container.demux(self.track):
                arrival_ns = self._clock.now_ns()
                try:
                    decoded = packet.decode()
                except (av.error.InvalidDataError, av.error.UndefinedError):
                    continue  # a damaged packet: the next key frame repairs the picture; the stamps show the gap
                for video in decoded:
                    if video.is_corrupt:
                        continue
                    time_ns = None
                    if video.pts is not None:
                        time_ns = round(video.pts * video.time_base * 1_000_000_000)
                    yield _Decoded(video, time_ns, arrival_ns)
        except EOFError:
            return
        except av.error.ExitError:
            raise CameraLost(f"{self.shown} sent nothing for too long; the connection is given up") from None
        except (av.FFmpegError, OSError) as error:
            raise CameraLost(f"{self.shown} broke off ({redact(str(error))}); it is reopened") from None

    def close(self) -> None:
        self._container.close()

    def describe(self, uri: CameraUri, ts_source: TimestampSource) -> CameraInfo:
        codec = self.track.codec_context
        return CameraInfo(
            identity=self.shown,
            model=f"{uri.kind} {codec.name}",
            width=codec.width,
            height=codec.height,
            fps=self.fps,
            pixel_format=f"{codec.name} {codec.pix_fmt}",
            ts_source=ts_source,
        )


class AvFileCamera:
    """A video file (or one of its tracks). One thread reads it; it starts none.

    Time stamps are the file's own, from the shared `TimeBase` on, so that two tracks of a recording keep their skew.
    `realtime=1` gives each picture at its time; otherwise as fast as it is read. `loop=1` starts over at the end.
    """

    def __init__(self, stream: Stream, uri: CameraUri, config: CameraConfig, base: TimeBase) -> None:
        self._stream, self._uri, self._config, self._base = stream, uri, config, base
        self._reader: VideoReader | None = None
        self._pictures: Iterator[tuple[Any, int]] = iter(())
        self._waiting: Frame | None = None
        self._index = 0
        self._loop_ns = 0  # what earlier rounds of the loop took
        self._last_ns = -1
        self._info = CameraInfo(config.shown_uri, "file", 0, 0, 0.0, "", TimestampSource.FILE)

    def open(self) -> None:
        """Open the file at its start.

        Raises:
            BadInputError: not there, not a video, or without that track.
        """
        self.close()
        self._start()
        assert self._reader is not None  # by _start; for the type checker
        self._waiting = None
        self._index, self._loop_ns, self._last_ns = 0, 0, -1
        reader = self._reader
        self._info = CameraInfo(
            identity=self._config.shown_uri,
            model=f"file {reader.format_name.split()[0]}",
            width=reader.width,
            height=reader.height,
            fps=float(reader.rate or 0),
            pixel_format=reader.format_name,
            ts_source=TimestampSource.FILE,
        )

    def _start(self) -> None:
        path = Path(self._uri.target).expanduser()
        if path.is_dir():
            raise BadInputError(f"{self._uri.target} is a folder; one of pictures is images:{self._uri.target}")
        if not path.is_file():
            raise BadInputError(f"{self._uri.target} is not there, expected a video file; check the path after file:")
        cut = replace(self._uri.cut, rotate=0, mirror=False)  # which the factory does for every kind
        given = MediaInput(path, int(self._uri.options.get("track", "0")), cut)
        self._reader = VideoReader(given, self._stream, 0, self._config.accept_colour, self._config.options)
        self._pictures = self._reader.stamped()

    def read(self, timeout_s: float) -> Frame:
        """The next picture of the file, in real-time mode at its time."""
        clock = self._base.clock
        deadline_ns = clock.now_ns() + round(timeout_s * 1e9)
        if self._waiting is None:
            self._waiting = self._next_frame()
        frame = self._waiting
        if self._uri.flag("realtime"):
            wait_ns = frame.timestamp_ns - clock.now_ns()
            room_ns = deadline_ns - clock.now_ns()
            if wait_ns > room_ns:
                clock.sleep_ns(room_ns)
                raise CameraTimeout(f"{self._config.shown_uri}: the next picture is not due yet")
            clock.sleep_ns(wait_ns)
        self._waiting = None
        return frame

    def _next_frame(self) -> Frame:
        flags = FrameFlag.NONE
        start_ns = self._base.start_ns()
        for skipped in range(_SKIP_MOST + 1):
            video, time_ns = self._next_picture()
            time_ns = max(time_ns + self._loop_ns, self._last_ns + 1)
            self._last_ns = time_ns
            self._index += 1
            late_ns = self._base.clock.now_ns() - start_ns - time_ns
            if not self._uri.flag("realtime") or late_ns <= _LATE_NS or skipped == _SKIP_MOST:
                break
            flags = FrameFlag.GAP_BEFORE
        assert self._reader is not None  # by _next_picture; for the type checker
        pixels = self._reader.pixels(video)
        return Frame(self._stream, pixels, self._index - 1, start_ns + time_ns, TimestampSource.FILE, flags)

    def _next_picture(self) -> tuple[Any, int]:
        if self._reader is None:
            raise CameraLost(f"{self._config.shown_uri} is not open; open it before reading")
        for decoded in self._pictures:
            return decoded
        if not self._uri.flag("loop") or self._last_ns < 0:
            raise EndOfStream(f"{self._config.shown_uri} has ended after {self._index} frames")
        period_ns = round(1e9 / (self._info.fps or 30.0))
        self._loop_ns = max(self._last_ns + period_ns, self._loop_ns + round((self._reader.end_s or 0.0) * 1e9))
        self._reader.close()
        self._start()
        return next(self._pictures)

    def close(self) -> None:
        """Close the file."""
        self._waiting = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def info(self) -> CameraInfo:
        """As the file says."""
        reader = self._reader
        if reader is None:
            return self._info
        return replace(self._info, notes=(*reader.notes, *([reader.damage] if reader.damage else [])))


class _Pump:
    """The helper thread of a live source: opens, decodes, keeps the newest frames. All library calls happen in it.

    The only thread in a camera. It is there because FFmpeg's time limits do not cover every call (the look-up of a
    host name, for one); whoever reads waits here, with a limit, instead of in the library. It ends after `stop` as
    soon as the library returns, which its own limits ensure in all cases but that one; it is a daemon for that case.
    """

    def __init__(self, stream: Stream, uri: CameraUri, config: CameraConfig, clock: Clock) -> None:
        self._stream, self._uri, self._config, self._clock = stream, uri, config, clock
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._error: Exception | None = None
        self._stopping = False
        self.info: CameraInfo | None = None
        self._thread = threading.Thread(target=self._run, name=f"{stream} receive", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def get(self, timeout_s: float, *, keep: bool = False) -> Frame:
        """The oldest waiting frame; `keep` leaves it there for the next call."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._frames or self._error is not None, timeout_s):
                raise CameraTimeout(f"{self._config.shown_uri} sent no picture within {timeout_s * 1e3:.0f} ms")
            if self._frames:
                return self._frames[0] if keep else self._frames.popleft()
            assert self._error is not None  # by wait_for; for the type checker
            raise self._error

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._frames.clear()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        error: Exception
        try:
            source = _AvSource(self._uri, self._config, self._clock)
            try:
                self._receive(source)
            finally:
                source.close()
            error = CameraLost(f"{self._config.shown_uri} ended the stream; it is reopened")
        except Exception as raised:  # handed to the reader, which raises it
            error = raised
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _receive(self, source: _AvSource) -> None:
        sender = SenderClock()
        converter = FrameConverter(self._stream, source.shown, self._config.accept_colour)
        index, last_ns = -1, None
        steps: deque[int] = deque(maxlen=15)
        size: tuple[int, int] | None = None
        for decoded in source.pictures():
            if self._stopping:
                return
            flags = FrameFlag.NONE
            step = 1
            if decoded.time_ns is None:
                stamp_ns, ts_source = decoded.arrival_ns, TimestampSource.ARRIVAL
            else:
                stamp_ns, ts_source = sender.to_monotonic(decoded.time_ns, decoded.arrival_ns), TimestampSource.SENDER
                if last_ns is not None and decoded.time_ns > last_ns:
                    steps.append(decoded.time_ns - last_ns)
                    step = max(1, round(steps[-1] / median(steps))) if len(steps) > 5 else 1
                last_ns = decoded.time_ns
            index += step
            if step > 1:
                flags = FrameFlag.GAP_BEFORE
            try:
                pixels = converter.pixels(decoded.video)
            except BadInputError as error:  # an unknown palette: the camera may be set to another
                raise CameraLost(str(error)) from None
            if size is not None and pixels.shape[:2] != size:
                height, width = pixels.shape[:2]
                change = f"from {size[1]}x{size[0]} to {width}x{height}"
                raise CameraLost(f"{source.shown} changed its picture {change}; it is reopened")
            size = (pixels.shape[0], pixels.shape[1])
            frame = Frame(self._stream, pixels, index, stamp_ns, ts_source, flags)
            info = self.info if self.info is not None else source.describe(self._uri, ts_source)
            if len(info.notes) != len(converter.notes):
                info = replace(info, notes=tuple(converter.notes))
            with self._changed:
                self.info = info
                while len(self._frames) >= _QUEUE_FRAMES:
                    self._frames.popleft()  # the reader sees the index jump
                self._frames.append(frame)
                self._changed.notify_all()


class AvLiveCamera:
    """An RTSP, RTSPS, dshow or avfoundation source: never blocks longer than asked, whatever the far side does.

    Used by one thread; owns one helper thread (see `_Pump`). Time stamps are the sender's (RTP) times on our clock.
    """

    def __init__(self, stream: Stream, uri: CameraUri, config: CameraConfig, clock: Clock) -> None:
        self._stream, self._uri, self._config, self._clock = stream, uri, config, clock
        self._pump: _Pump | None = None
        self._leaving: _Pump | None = None  # closed, but its library call has not returned yet
        self._info = CameraInfo(config.shown_uri, uri.kind, 0, 0, config.fps or 0.0, "", TimestampSource.SENDER)

    def open(self) -> None:
        """Connect and wait for the first picture, at most `open_timeout_s`."""
        self.close()
        if self._leaving is not None and self._leaving.alive:
            raise CameraLost(
                f"{self._config.shown_uri}: the last connection has not let go yet (a host name that does not"
                " resolve?); it is tried again"
            )
        self._leaving = None
        self._pump = _Pump(self._stream, self._uri, self._config, self._clock)
        try:
            self._pump.get(self._config.open_timeout_s, keep=True)
        except CameraTimeout:
            self.close()
            raise CameraLost(
                f"{self._config.shown_uri} gave no picture within {self._config.open_timeout_s:g} s, though something"
                " may have answered. Is the address right, and does another program take the stream?"
            ) from None
        except BaseException:
            self.close()
            raise
        if self._pump.info is not None:
            self._info = self._pump.info

    def read(self, timeout_s: float) -> Frame:
        """The next picture that has been received."""
        if self._pump is None:
            raise CameraLost(f"{self._config.shown_uri} is not open; open it before reading")
        return self._pump.get(timeout_s)

    def close(self) -> None:
        """Disconnect; returns at once even if the library does not."""
        if self._pump is not None:
            self._pump.stop()
            if self._pump.alive:
                self._leaving = self._pump
            self._pump = None

    @property
    def info(self) -> CameraInfo:
        """As the stream says, from its first picture on."""
        if self._pump is not None and self._pump.info is not None:
            self._info = self._pump.info
        return self._info


def rtsp_url_with_credentials(url: str, config: CameraConfig) -> str:
    """The URL with the user name and password that the configuration points to.

    Raises:
        ConfigError: the variable or file is not there or does not hold `user:password`.
    """
    if config.credentials_env is not None:
        origin = f"environment variable {config.credentials_env}"
        secret = os.environ.get(config.credentials_env)
    elif config.credentials_file is not None:
        origin = f"credentials_file {config.credentials_file}"
        try:
            path = Path(config.credentials_file).expanduser()
            secret = read_bounded(path, _MOST_SECRET_BYTES, "login").decode("utf-8-sig").strip()
        except (OSError, BadInputError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(f"{origin} cannot be read ({reason}); it must hold user:password") from None
    else:
        return str.__str__(url)
    if not secret or ":" not in secret:
        raise ConfigError(f"{origin} is not set or not of the form user:password, needed for {redact_address(url)}")
    user, _, password = secret.partition(":")
    parts = urlsplit(str.__str__(url))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))


def _open_arguments(uri: CameraUri, config: CameraConfig) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg opens, by which demuxer (None: it finds out), and with which options."""
    options: dict[str, str] = {}
    size = f"{config.width}x{config.height}" if config.width is not None else None
    if uri.kind in ("rtsp", "rtsps"):
        options = {
            "rtsp_transport": uri.options.get("transport", "tcp"),
            "fflags": "nobuffer",
            "flags": "low_delay",
            "analyzeduration": "500000",  # us
            "probesize": "500000",  # bytes
            "max_delay": "100000",  # us that a UDP packet out of order is waited for
            "timeout": str(round(config.open_timeout_s * 1e6)),  # us, of the socket
        }
        return rtsp_url_with_credentials(uri.target, config), None, options | config.options
    if uri.kind not in av.formats_available:
        raise ConfigError(
            f"{uri.kind}: cameras need the {uri.kind} input of FFmpeg, which this system's build does not have"
            f" ({'Windows' if uri.kind == 'dshow' else 'macOS'} only); on Linux use v4l2:"
        )
    if size is not None:
        options["video_size"] = size
    if config.fps is not None:
        options["framerate"] = f"{config.fps:g}"
    name = f"video={uri.target}" if uri.kind == "dshow" else f"{uri.target}:none"
    return name, uri.kind, options | config.options
