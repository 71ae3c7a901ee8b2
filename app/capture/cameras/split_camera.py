"""One device that carries both pictures side by side or one above the other, as two cameras."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from app.capture.cameras.camera import Camera, CameraInfo, to_stream_pixels
from app.media.geometry import cut_half
from fusion_core.errors import CameraLost, CameraTimeout, ConfigError
from fusion_core.frames import Frame, Stream
from fusion_core.thermal.painted import Unpainter

if TYPE_CHECKING:
    from app.capture.cameras.uri import CameraUri
    from app.capture.config import CameraConfig

__all__ = ["SplitCamera", "SplitSource"]

_QUEUE_FRAMES: Final = 4


class SplitSource:
    """The shared device. Whoever reads first reads for both; each half waits in its own short queue.

    Used by the threads of both `SplitCamera`s; the device itself only by the one that holds the lock.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._device = threading.Lock()
        self._queues: dict[Stream, deque[Frame]] = {}
        self._healthy = False

    def join(self, stream: Stream) -> None:
        """Take part; opens the device if nobody has, or if it is broken."""
        with self._device:
            if not self._healthy:
                self.camera.close()
                self.camera.open()
                self._healthy = True
                for queue in self._queues.values():
                    queue.clear()
            self._queues[stream] = deque(maxlen=_QUEUE_FRAMES)

    def leave(self, stream: Stream) -> None:
        """Take part no more; the last one closes the device."""
        with self._device:
            self._queues.pop(stream, None)
            if not self._queues:
                self._healthy = False
                self.camera.close()

    def read(self, stream: Stream, timeout_s: float) -> Frame:
        """The next whole picture for this half."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            remaining_s = max(0.0, deadline_s - time.monotonic())
            if not self._device.acquire(timeout=remaining_s + 0.01):
                raise CameraTimeout(f"{self.camera.info.identity} gave no picture within {timeout_s * 1e3:.0f} ms")
            try:
                queue = self._queues.get(stream)
                if queue is None:
                    raise CameraLost(f"{self.camera.info.identity} is not open for {stream}; open it before reading")
                if queue:
                    return queue.popleft()
                if not self._healthy:
                    raise CameraLost(f"{self.camera.info.identity} was lost; it is reopened")
                try:
                    frame = self.camera.read(remaining_s)
                except CameraTimeout:
                    raise
                except Exception:
                    self._healthy = False
                    raise
                for other in self._queues.values():
                    other.append(frame)
            finally:
                self._device.release()


class SplitCamera:
    """One half of a `SplitSource` as a camera. One thread reads it; it starts none.

    The source gives RGB, grey or counts; or, if it is packed, YUYV bytes as (H, W, 2) uint8. Of those the thermal half
    is 16-bit little-endian counts with `counts=1` (as two-picture USB cores send them), brightness otherwise.
    """

    def __init__(self, stream: Stream, uri: CameraUri, config: CameraConfig, source: SplitSource) -> None:
        if uri.half is None:
            raise ConfigError(f"{config.shown_uri} names no half, expected #half=left, right, top or bottom")
        self._stream, self._uri, self._config, self._source = stream, uri, config, source
        self._half = uri.half
        self._unpainter = Unpainter(config.accept_colour)
        self._info: CameraInfo | None = None

    def open(self) -> None:
        """Open the shared device, unless the other half has."""
        self._source.join(self._stream)

    def read(self, timeout_s: float) -> Frame:
        """This half of the next picture; both halves carry one time stamp."""
        whole = self._source.read(self._stream, timeout_s)
        part = self._convert(cut_half(whole.pixels, self._half))
        self._info = replace(
            self._source.camera.info, identity=self._config.shown_uri, width=part.shape[1], height=part.shape[0]
        )
        return replace(whole, stream=self._stream, pixels=part)

    def _convert(self, part: np.ndarray) -> np.ndarray:
        if part.ndim == 3 and part.shape[2] == 2:
            if self._uri.flag("counts"):
                counts = np.ascontiguousarray(part).view("<u2")[..., 0]
                return to_stream_pixels(counts, self._stream, self._config.shown_uri)
            if self._stream is Stream.THERMAL:
                return np.ascontiguousarray(part[..., 0])
            return cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_YUV2RGB_YUYV)
        pixels = to_stream_pixels(part, self._stream, self._config.shown_uri, self._unpainter)
        return np.ascontiguousarray(pixels)

    def close(self) -> None:
        """Leave the device to the other half; the last one closes it."""
        self._source.leave(self._stream)

    @property
    def info(self) -> CameraInfo:
        """Of this half."""
        if self._info is not None:
            return replace(self._info, notes=self._unpainter.notes(self._config.shown_uri))
        whole = self._source.camera.info
        sides = self._half in ("left", "right")
        width, height = (whole.width // 2, whole.height) if sides else (whole.width, whole.height // 2)
        return replace(whole, identity=self._config.shown_uri, width=width, height=height)
