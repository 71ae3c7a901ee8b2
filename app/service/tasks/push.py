"""Publishes pictures to a media server that exists already: RTSP, RTSPS, or WHIP. Never waits for anybody but itself.

The thread takes the newest picture whenever it has sent the former one: a slow or dead server costs pictures on
this stream (counted), and nothing else. FFmpeg speaks to the server in another process (push_child), because it
holds the interpreter's lock while it connects, and cannot be interrupted; a process that hangs is ended.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import av
import av.error
import numpy as np
import structlog
from av.video.codeccontext import VideoCodecContext

from app.capture.synchronizer import output_time_ns
from app.configuration.service import PushConfig, check_push_url
from app.pipeline.state.latest_slot import LatestSlot
from app.service.state.health import ServiceWorker
from app.service.state.metrics import PushFigures
from app.service.state.preview import picture_of
from app.service.state.secrets import read_secret
from app.service.tasks.push_child import HEADER, make_identity
from fusion_core.errors import ConfigError, RunError
from fusion_core.files import open_plain
from fusion_core.frames import FusedFrame
from fusion_core.redaction import Address, redact

__all__ = ["PushThread", "resolve_url"]

_CLOCK: Final = 90_000
_PROBE_S: Final = 2.0
_NAMES_S: Final = 60.0  # for the system to look a name up
_KEY_S: Final = 30.0
_START_S: Final = 10.0  # for the child to load, on a busy machine
_PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_SOFTWARE: Final = {
    "preset": "ultrafast",
    "profile": "baseline",
    "tune": "zerolatency",
    "bf": "0",
    "x264-params": "scenecut=0:open-gop=0",
}
_NVENC: Final = {
    "preset": "p3",
    "profile": "baseline",
    "tune": "ull",
    "rc": "cbr",
    "zerolatency": "1",
    "delay": "0",
    "bf": "0",
}


def resolve_url(config: PushConfig) -> Address:
    """The address to publish to.

    Raises:
        ConfigError: its file cannot be read, or holds no such address. The message does not hold it.
    """
    if config.url_file is None:
        return config.url or Address()
    url = read_secret(config.url_file, f"service.push {config.name}.url_file")
    try:
        return check_push_url(Address(url))
    except ValueError as error:
        raise ConfigError(f"service.push {config.name}.url_file: {error}") from None


class PushThread(ServiceWorker):
    """One stream. Thread: `push NAME`, which owns encoder and child process.

    Raises:
        ConfigError: see resolve_url; or tls_ca_file cannot be used.
    """

    def __init__(
        self, config: PushConfig, latest: LatestSlot[FusedFrame], on_failure: Callable[[BaseException], None]
    ) -> None:
        super().__init__(f"push {config.name}", self._work, on_failure)
        self._config, self._latest = config, latest
        self._url = resolve_url(config)
        self._parts = urlsplit(self._url.plain)
        self._token = (
            read_secret(config.token_file, f"service.push {config.name}.token_file")
            if config.token_file is not None
            else None
        )
        self._tls = _tls_context(config) if self._parts.scheme in ("rtsps", "https") else None
        self._connected = False
        self._frames = self._drops = self._reconnects = 0
        self._latency_ms: float | None = None
        self._ever = False
        self._seen = 0
        self._software_only = config.encoder == "software"
        self._log: Any = structlog.get_logger("push")
        self._told = ""

    @property
    def figures(self) -> PushFigures:
        """Counters at this moment."""
        return PushFigures(self._connected, self._frames, self._drops, self._reconnects, self._latency_ms)

    # ------------------------------------------------------------------ the thread

    def _work(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                self._session()
            except (av.error.FFmpegError, OSError, RunError) as error:
                if not stopping.is_set():
                    self._note(error)
            finally:
                self._connected = False
                self.heartbeat.beat()
            self._pause(stopping, self._config.retry_s)

    def _pause(self, stopping: threading.Event, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not stopping.wait(min(0.5, left_s)):
            self.heartbeat.beat()

    def _note(self, error: Exception) -> None:
        reason = redact(str(error).replace(self._url.plain, "the server"))
        if self._token:
            reason = reason.replace(self._token, "***")
        if reason != self._told:  # a reason that repeats itself is told once
            self._told = reason
            self._log.warning("pushing is interrupted", push=self._config.name, server=str(self._url), reason=reason)

    def _session(self) -> None:
        """Connect and push until something fails or the picture changes its size."""
        first = self._next_frame()
        if first is None:
            return
        pixels = picture_of(first, self._config.picture.value)
        assert pixels is not None  # by _next_frame
        self._probe()
        height, width = pixels.shape[0] & ~1, pixels.shape[1] & ~1
        encoder = self._make_encoder(height, width)
        with self._open(height, width) as child:
            self._connected = not self.stopping
            self._reconnects += 1 if self._ever else 0
            self._ever, self._told = True, ""
            self._log.info("pushing", push=self._config.name, server=str(self._url), encoder=encoder.name)
            self._stream(child, encoder, height, width)

    def _stream(self, child: subprocess.Popen[bytes], encoder: VideoCodecContext, height: int, width: int) -> None:
        began_ns, last_pts, next_s = 0, -1, 0.0
        period_s = 1.0 / self._config.max_fps
        while not self.stopping:
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
            for packet in encoder.encode(picture):
                data = bytes(packet)
                head = HEADER.pack(len(data), packet.pts or 0, packet.is_keyframe)
                self._send(child, head + data, b"A", self._config.stall_s)
            self._frames += 1
            self._latency_ms = max(0.0, (time.monotonic_ns() - time_ns) / 1e6)
            self._drops += max(0, self._latest.sequence - before - 1)

    def _next_frame(self) -> FusedFrame | None:
        self.heartbeat.beat()
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
        """Is anybody there, and who? FFmpeg would wait for a long time for a host that is off.

        With TLS the certificate is checked here, for a message that says what is wrong with it; FFmpeg checks that of
        its own connection for rtsps, but its WHIP does not.
        """
        assert self._parts.hostname is not None  # by check_push_url
        port = self._parts.port or _PORTS[self._parts.scheme]
        self.heartbeat.allow(_NAMES_S)
        with socket.create_connection((self._parts.hostname, port), _PROBE_S) as plain:
            if self._tls is not None:
                self._tls.wrap_socket(plain, server_hostname=self._parts.hostname).close()
        self.heartbeat.beat()

    @contextmanager
    def _open(self, height: int, width: int) -> Iterator[subprocess.Popen[bytes]]:
        """The child process, once the server has accepted the stream."""
        with ExitStack() as after:
            if self._is_whip:
                folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="lumitherm-push-")))
                options = self._whip_options(folder)
            else:
                options = self._rtsp_options()
            child = self._start_child(options, height, width)
            after.callback(_end_child, child)
            yield child

    @property
    def _is_whip(self) -> bool:
        return self._parts.scheme in ("http", "https")

    def _rtsp_options(self) -> dict[str, str]:
        options = {"rtsp_transport": "tcp"}
        if self._parts.scheme == "rtsps":
            options |= {"tls_verify": "1", "ca_file": str(self._config.tls_ca_file or _system_authorities())}
        return options

    def _whip_options(self, folder: Path) -> dict[str, str]:
        """Make a key for this connection, in a folder that goes with it."""
        options = {"handshake_timeout": "5000", **({"authorization": self._token} if self._token else {})}
        self.heartbeat.allow(_KEY_S)
        try:
            identity = make_identity(folder)
        except subprocess.SubprocessError as error:
            raise RunError(f"no key could be made for WHIP: {error}") from error
        if identity is None:
            self._log.warning("openssl is not installed: FFmpeg's own certificate is used, which servers may refuse")
            return options
        return {**options, "cert_file": str(identity[0]), "key_file": str(identity[1])}

    def _start_child(self, options: dict[str, str], height: int, width: int) -> subprocess.Popen[bytes]:
        setup = {
            "url": self._url.plain,
            "format": "whip" if self._is_whip else "rtsp",
            "options": options,
            "fps": max(1, round(self._config.max_fps)),
            "height": height,
            "width": width,
        }
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.service.tasks.push_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        try:
            self._send(child, json.dumps(setup).encode() + b"\n", b"R", _START_S + self._config.stall_s)
        except BaseException:
            _end_child(child)
            raise
        return child

    def _send(self, child: subprocess.Popen[bytes], data: bytes, answer: bytes, limit_s: float) -> None:
        """Hand data to the child and wait for its answer. Raises RunError when it ends, or takes longer than that."""
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        rest, deadline_s = memoryview(data), time.monotonic() + limit_s
        while not self.stopping:
            self.heartbeat.beat()
            readable, writable, _ = select.select([child.stdout], [child.stdin] if rest else [], [], 0.1)
            if readable:
                if os.read(child.stdout.fileno(), 1) == answer:
                    return
                reason = child.stderr.read(500).decode("utf-8", "replace").strip()
                raise RunError(reason or "the connection has ended")
            if writable:
                rest = rest[os.write(child.stdin.fileno(), rest) :]
            if time.monotonic() > deadline_s:
                raise RunError(f"the server took nothing for {limit_s:g} s")
        raise RunError("the push was told to stop")

    def _make_encoder(self, height: int, width: int) -> VideoCodecContext:
        choices = [] if self._software_only else [("h264_nvenc", _NVENC)]
        if self._config.encoder != "nvenc":
            choices.append(("libx264", _SOFTWARE))
        for name, options in choices:
            if self._config.encoder == "auto" and name == "h264_nvenc" and not _works(name, options):
                self._software_only = True  # asked once a run
                continue
            encoder = VideoCodecContext.create(name, "w")
            if not isinstance(encoder, VideoCodecContext):
                break
            encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuv420p"
            encoder.bit_rate = self._config.bitrate_kbps * 1000
            encoder.gop_size = max(1, round(self._config.key_interval_s * self._config.max_fps))
            encoder.time_base = Fraction(1, _CLOCK)
            encoder.framerate = Fraction(round(self._config.max_fps))
            encoder.thread_count = 1
            encoder.options = dict(options)
            return encoder
        raise RunError(f"push {self._config.name}: no encoder works; wanted service.push.encoder: auto or software")


def _end_child(child: subprocess.Popen[bytes]) -> None:
    child.kill()  # the server sees the connection close; a farewell might hang
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _tls_context(config: PushConfig) -> ssl.SSLContext:
    try:
        if config.tls_ca_file is not None:
            open_plain(config.tls_ca_file).close()  # a pipe would be waited for
        return ssl.create_default_context(cafile=config.tls_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"service.push {config.name}.tls_ca_file: {config.tls_ca_file} cannot be used ({error}); wanted a PEM file"
            " with certificates"
        ) from error


def _system_authorities() -> str:
    """The file of the authorities that this computer trusts; empty where it keeps none in one file."""
    return ssl.get_default_verify_paths().cafile or ""


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
