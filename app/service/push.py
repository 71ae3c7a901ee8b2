"""Publishes pictures to a media server that exists already: RTSP, RTSPS, or WHIP. Never waits for anybody but itself.

The thread takes the newest picture whenever it is done with the one before: a slow or dead server costs pictures on
this stream (counted), and nothing else. A guard cuts a connection whose write hangs, because FFmpeg would wait on.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
import psutil
import structlog
from av.video.stream import VideoStream

from app.capture.synchronizer import output_time_ns
from app.capture.uri import redact
from app.pipeline.latest_slot import LatestSlot
from app.service.config import PushConfig, check_push_url
from app.service.metrics import PushFigures
from app.service.preview import picture_of
from app.service.secrets import read_secret
from fusion_core.errors import ConfigError, RunError
from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from av.container import OutputContainer

__all__ = ["PushThread", "resolve_url"]

_CLOCK: Final = 90_000
_PROBE_S: Final = 2.0
_PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_SOFTWARE: Final = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0", "x264-params": "scenecut=0:open-gop=0"}
_NVENC: Final = {"preset": "p3", "tune": "ull", "rc": "cbr", "zerolatency": "1", "delay": "0", "bf": "0"}


def resolve_url(config: PushConfig) -> str:
    """The address to publish to.

    Raises:
        ConfigError: its file cannot be read, or holds no such address. The message does not hold it.
    """
    if config.url_file is None:
        return config.url or ""
    url = read_secret(config.url_file, f"service.push {config.name}.url_file")
    try:
        return check_push_url(url)
    except ValueError as error:
        raise ConfigError(f"service.push {config.name}.url_file: {error}") from None


class PushThread:
    """One stream. Threads: `push NAME`, which owns encoder and connection, and `push NAME guard`.

    Raises:
        ConfigError: see resolve_url.
    """

    def __init__(
        self, config: PushConfig, latest: LatestSlot[FusedFrame], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._config, self._latest, self._on_failure = config, latest, on_failure
        self._url = resolve_url(config)
        self._parts = urlsplit(self._url)
        self._token = (
            read_secret(config.token_file, f"service.push {config.name}.token_file")
            if config.token_file is not None
            else None
        )
        self._stopping = threading.Event()
        self._busy_since_s: float | None = None
        self._cut = False
        self._connected = False
        self._frames = self._drops = self._reconnects = 0
        self._latency_ms: float | None = None
        self._ever = False
        self._seen = 0
        self._software_only = config.encoder == "software"
        self._log: Any = structlog.get_logger("push")
        self._told = ""
        self._thread = threading.Thread(target=self._run, name=f"push {config.name}", daemon=True)
        self._guard = threading.Thread(target=self._watch, name=f"push {config.name} guard", daemon=True)

    @property
    def figures(self) -> PushFigures:
        """Counters at this moment."""
        return PushFigures(self._connected, self._frames, self._drops, self._reconnects, self._latency_ms)

    def start(self) -> None:
        """Start both threads; returns at once."""
        self._thread.start()
        self._guard.start()

    def stop(self, timeout_s: float = 3.0) -> bool:
        """End it, cutting the connection if it hangs; whether it ended in time."""
        self._stopping.set()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s / 2)
        if self._thread.is_alive():
            self._cut_connection()
            self._thread.join(timeout_s / 2)
        return not self._thread.is_alive()

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._session()
                except (av.error.FFmpegError, OSError, RunError) as error:
                    self._note(error)
                finally:
                    self._connected = False
                self._stopping.wait(self._config.retry_s)
        except BaseException as error:
            self._on_failure(error)

    def _note(self, error: Exception) -> None:
        reason = redact(str(error)).replace(self._url, "the server")
        if self._token:
            reason = reason.replace(self._token, "***")
        if reason != self._told:  # the same reason again and again is told once
            self._told = reason
            self._log.warning("pushing is interrupted", push=self._config.name, server=redact(self._url), reason=reason)

    def _session(self) -> None:
        """Connect and push until something fails or the picture changes its size."""
        first = self._next_frame()
        if first is None:
            return
        pixels = picture_of(first, self._config.picture.value)
        assert pixels is not None  # by _next_frame
        self._probe()
        height, width = pixels.shape[0] & ~1, pixels.shape[1] & ~1
        with self._open(height, width) as (container, stream):
            self._connected = True
            self._reconnects += 1 if self._ever else 0
            self._ever, self._told = True, ""
            self._log.info("pushing", push=self._config.name, server=redact(self._url), encoder=stream.name)
            self._stream(container, stream, height, width)

    def _stream(self, container: OutputContainer, stream: VideoStream, height: int, width: int) -> None:
        began_ns, last_pts, next_s = 0, -1, 0.0
        period_s = 1.0 / self._config.max_fps
        while not self._stopping.is_set():
            frame = self._next_frame()
            if frame is None:
                continue
            now_s = time.monotonic()
            if now_s < next_s - 0.2 * period_s:
                continue  # more pictures than asked for: no loss
            next_s = max(next_s + period_s, now_s)
            pixels = picture_of(frame, self._config.picture.value)
            assert pixels is not None  # by _next_frame
            if (pixels.shape[0] & ~1, pixels.shape[1] & ~1) != (height, width):
                self._log.info("the picture has changed its size", push=self._config.name)
                return
            time_ns = output_time_ns(frame.pair)
            began_ns = began_ns or time_ns
            last_pts = max(last_pts + 1, (time_ns - began_ns) * _CLOCK // 1_000_000_000)
            picture = _video_frame(pixels[:height, :width], last_pts)
            before = self._latest.sequence
            with self._guarded():
                for packet in stream.encode(picture):
                    container.mux(packet)
            if self._cut:
                raise RunError(f"the server took nothing for {self._config.stall_s:g} s")
            self._frames += 1
            self._latency_ms = max(0.0, (time.monotonic_ns() - time_ns) / 1e6)
            self._drops += max(0, self._latest.sequence - before - 1)

    def _next_frame(self) -> FusedFrame | None:
        newer = self._latest.wait_newer(self._seen, 0.2)
        if newer is None:
            return None
        sequence, frame = newer
        if not self._connected and self._ever:
            self._drops += sequence - self._seen  # the server is away
        self._seen = sequence
        return frame if picture_of(frame, self._config.picture.value) is not None else None

    # ------------------------------------------------------------------ the connection

    def _probe(self) -> None:
        """Is anybody there? FFmpeg would wait for a long time for a host that is off."""
        assert self._parts.hostname is not None  # by check_push_url
        port = self._parts.port or _PORTS[self._parts.scheme]
        socket.create_connection((self._parts.hostname, port), _PROBE_S).close()

    @contextmanager
    def _open(self, height: int, width: int) -> Iterator[tuple[OutputContainer, VideoStream]]:
        container = self._make_container()
        try:
            with self._guarded():
                stream = self._make_stream(container, height, width)
                container.start_encoding()
            if self._cut:
                raise RunError(f"the server did not answer for {self._config.stall_s:g} s")
            yield container, stream
        finally:
            try:
                with self._guarded():
                    container.close()
            except (av.error.FFmpegError, OSError) as error:
                self._log.debug("closing a push failed", push=self._config.name, reason=redact(str(error)))

    def _make_container(self) -> OutputContainer:
        if self._parts.scheme in ("http", "https"):
            options = {"handshake_timeout": "5000"}
            if self._token is not None:
                options["authorization"] = self._token
            return av.open(self._url, "w", format="whip", options=options)
        return av.open(self._url, "w", format="rtsp", options={"rtsp_transport": "tcp", "muxdelay": "0"})

    def _make_stream(self, container: OutputContainer, height: int, width: int) -> VideoStream:
        gop = max(1, round(self._config.key_interval_s * self._config.max_fps))
        choices = [] if self._software_only else [("h264_nvenc", _NVENC)]
        if self._config.encoder != "nvenc":
            choices.append(("libx264", _SOFTWARE))
        for name, options in choices:
            if self._config.encoder == "auto" and name == "h264_nvenc" and not _works(name, options):
                self._software_only = True  # asked once a run
                continue
            stream = container.add_stream(name, rate=Fraction(round(self._config.max_fps)), options=dict(options))
            if not isinstance(stream, VideoStream):
                raise RunError(f"push {self._config.name}: {name} is no video encoder")
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.bit_rate = self._config.bitrate_kbps * 1000
            stream.codec_context.gop_size = gop
            stream.codec_context.time_base = Fraction(1, _CLOCK)
            stream.codec_context.thread_count = 1
            return stream
        raise RunError(f"push {self._config.name}: no encoder works; wanted service.push.encoder: auto or software")

    # ------------------------------------------------------------------ the guard

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self._cut = False
        self._busy_since_s = time.monotonic()
        try:
            yield
        finally:
            self._busy_since_s = None

    def _watch(self) -> None:
        while self._thread.is_alive():
            self._thread.join(0.2)
            since_s = self._busy_since_s
            if since_s is not None and time.monotonic() - since_s > self._config.stall_s:
                self._cut_connection()

    def _cut_connection(self) -> None:
        """Shut the TCP connections of this process to the server; PyAV offers no way to interrupt a write."""
        self._cut = True
        port = self._parts.port or _PORTS[self._parts.scheme]
        for connection in psutil.Process().net_connections(kind="tcp"):
            if connection.raddr and connection.raddr.port == port and connection.fd >= 0:
                try:
                    with socket.socket(fileno=os.dup(connection.fd)) as ours:
                        ours.shutdown(socket.SHUT_RDWR)
                except OSError as error:  # it has closed meanwhile
                    self._log.debug("nothing to cut", push=self._config.name, reason=str(error))


def _video_frame(pixels: np.ndarray, pts: int) -> av.VideoFrame:
    """pixels: (H, W, 3) RGB or (H, W) grey, uint8, both sizes even."""
    layout = "rgb24" if pixels.ndim == 3 else "gray"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout).reformat(format="yuv420p")
    frame.pts, frame.time_base = pts, Fraction(1, _CLOCK)
    return frame


def _works(name: str, options: dict[str, str]) -> bool:
    """Whether this encoder encodes a picture here."""
    try:
        context = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"  # type: ignore[attr-defined]
        context.time_base = Fraction(1, _CLOCK)
        context.options = dict(options)
        context.encode(_video_frame(np.zeros((256, 256, 3), np.uint8), 0))  # type: ignore[attr-defined]
    except (av.error.FFmpegError, ValueError, OSError):
        return False
    return True
