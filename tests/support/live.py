"""Cameras and configurations for the tests of the live pipeline: small pictures in real time, no scene to render."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.capture.cameras.camera import CameraInfo
from app.capture.cameras.factory import CameraPair
from app.configuration.config import AppConfig
from fusion_core.errors import CameraLost, CameraTimeout, EndOfStream
from fusion_core.frames import Frame, Stream, TimestampSource

HEIGHT, WIDTH = 96, 128
_RAMP = (np.arange(WIDTH)[None, :] + np.arange(HEIGHT)[:, None]).astype(np.uint16)
_NOISE = np.random.default_rng(3).integers(0, 64, (HEIGHT, 2 * WIDTH), dtype=np.uint16)


def picture(stream: Stream, index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture that differs for each index: visible (height, width, 3) uint8, thermal (height, width) uint16."""
    shift = index % WIDTH
    if stream is Stream.THERMAL:
        whole = 20000 + 8 * _RAMP + _NOISE[:, shift : shift + WIDTH]
    else:
        grey = ((_RAMP + 3 * index) % 200).astype(np.uint8)
        whole = np.stack([grey, 255 - grey, np.roll(grey, 7, axis=1)], axis=-1)
    return np.ascontiguousarray(whole[:height, :width])


class PatternCamera:
    """A live camera in real time, or with `paced=False` a file read as fast as it goes.

    frames: how many until its end, None = for ever. A file's visible frames are 3 ms later than its thermal ones.
    """

    def __init__(
        self,
        stream: Stream,
        fps: float = 30.0,
        frames: int | None = None,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        paced: bool = True,
    ) -> None:
        self.paced = paced
        self.stream, self.fps, self.frames, self.size = stream, fps, frames, size
        self.opened = self.closed = 0
        self.error: Exception | None = None  # raised by the next read, once
        self.absent = False
        self._index = -1
        self._next_s: float | None = None

    def open(self) -> None:
        if self.absent:
            raise CameraLost(f"{self.stream} is not there")
        self.opened += 1
        self._next_s = time.monotonic()

    def read(self, timeout_s: float) -> Frame:
        if self._next_s is None:
            raise CameraLost("not open")
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self.frames is not None and self._index + 1 >= self.frames:
            raise EndOfStream("that was all")
        if not self.paced:
            self._index += 1
            late_ns = 3_000_000 if self.stream is Stream.VISIBLE else 0
            stamp_ns = 10**12 + round(self._index * 1e9 / self.fps) + late_ns
            pixels = picture(self.stream, self._index, *self.size)
            return Frame(self.stream, pixels, self._index, stamp_ns, TimestampSource.FILE)
        wait_s = self._next_s - time.monotonic()
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            raise CameraTimeout("nothing yet")
        if wait_s > 0:
            time.sleep(wait_s)
        self._next_s = max(self._next_s + 1 / self.fps, time.monotonic() - 1 / self.fps)
        self._index += 1
        pixels = picture(self.stream, self._index, *self.size)
        return Frame(self.stream, pixels, self._index, time.monotonic_ns(), TimestampSource.ARRIVAL)

    def close(self) -> None:
        self.closed += 1
        self._next_s = None

    @property
    def info(self) -> CameraInfo:
        height, width = self.size
        return CameraInfo("test:camera", "pattern", width, height, self.fps, "raw", TimestampSource.ARRIVAL)


def camera_factory(visible: PatternCamera | None = None, thermal: PatternCamera | None = None) -> Callable[..., Any]:
    """A camera factory of these cameras; new ones at 30 fps where none is given."""
    pair = CameraPair(
        visible if visible is not None else PatternCamera(Stream.VISIBLE),
        thermal if thermal is not None else PatternCamera(Stream.THERMAL),
        lossless=visible is not None and not visible.paced,
        rig=None,
    )
    return lambda *args, **named: pair


def settings(folder: Path, **changes: Any) -> AppConfig:
    """A configuration that records into `folder`; `changes` are whole sections."""
    reopen = {"first_backoff_s": 0.1, "max_backoff_s": 0.2, "min_stall_ms": 200.0, "grace_ms": 200.0}
    values: dict[str, Any] = {
        "rig": "test",
        "visible": {"uri": "sim:visible", "reopen": reopen},
        "thermal": {"uri": "sim:thermal", "reopen": reopen},
        "engine": {"name": "average", "fallback": "pyramid"},
        "recording": {"directory": folder, "reserve_mb": 1, "reserve_s": 0},
    }
    for name, section in changes.items():
        values[name] = {**values[name], **section} if isinstance(values.get(name), dict) else section
    return AppConfig.model_validate(values)


def wait_until(condition: Callable[[], object], limit_s: float = 300.0) -> float:
    """Seconds until a condition holds; fails after a time that no sound machine needs, however busy it is."""
    start_s = time.monotonic()
    while not condition():
        if time.monotonic() - start_s >= limit_s:
            raise AssertionError("waited in vain")
        time.sleep(0.005)
    return time.monotonic() - start_s
