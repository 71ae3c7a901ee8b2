"""What every camera is: the `Camera` protocol, its description, the clock it stamps with, and the picture checks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from fusion_core.errors import CameraLost
from fusion_core.frames import Frame, Stream, TimestampSource
from fusion_core.thermal.painted import Unpainter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Camera", "CameraInfo", "Clock", "MonotonicClock", "TimeBase", "to_stream_pixels"]


class Clock(Protocol):
    """The only source of time in capture. Nothing here reads the wall clock, so a step of it changes nothing."""

    def now_ns(self) -> int:
        """Monotonic time."""
        ...

    def sleep_ns(self, duration_ns: int) -> None:
        """Let `duration_ns` pass; returns at once if it is not positive."""
        ...


class MonotonicClock:
    """The host's CLOCK_MONOTONIC, the clock that V4L2 stamps with."""

    def now_ns(self) -> int:
        """Monotonic time."""
        return time.monotonic_ns()

    def sleep_ns(self, duration_ns: int) -> None:
        """Block the calling thread for `duration_ns`."""
        if duration_ns > 0:
            time.sleep(duration_ns / 1e9)


class TimeBase:
    """The monotonic time of stream time zero, shared by sources that belong together (two files, the simulated rig).

    The first source that asks fixes it. Not locked: a race between the two first callers is settled by `setdefault`.
    """

    def __init__(self, clock: Clock, start_ns: int | None = None) -> None:
        self.clock = clock
        self._start: dict[str, int] = {} if start_ns is None else {"start_ns": start_ns}

    def start_ns(self) -> int:
        """Monotonic time of stream time zero."""
        return self._start.setdefault("start_ns", self.clock.now_ns())

    @property
    def started(self) -> bool:
        """Whether stream time zero is fixed."""
        return bool(self._start)


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """What an open camera says about itself.

    identity: a URI that finds this very device again, without secrets.
    fps: nominal; 0 when the source does not say.
    pixel_format: as the device delivers it (YUYV, Y16, h264 yuv420p, ...).
    notes: what was done to the pictures so far and a user should know, one line each.
    """

    identity: str
    model: str
    width: int
    height: int
    fps: float
    pixel_format: str
    ts_source: TimestampSource
    notes: tuple[str, ...] = ()


@runtime_checkable
class Camera(Protocol):
    """A source of frames of one stream. One thread at a time uses it; it starts none.

    `AvCamera` is the exception for network sources: it owns a helper thread, because no time limit of the library
    covers every call (name look-up, for one), and `read` has to return by its time-out.
    """

    def open(self) -> None:
        """Connect and start. A camera may be opened again after `close`.

        Raises:
            CameraLost: not there, busy, refused, or silent for the configured open time-out.
            ConfigError: the device cannot do what the configuration asks.
        """
        ...

    def read(self, timeout_s: float) -> Frame:
        """The next frame, in order, as soon as it is there; never blocks longer than about `timeout_s`.

        Raises:
            CameraTimeout: nothing came in time; the camera may come back.
            CameraLost: gone, broken or not open: close and open again.
            EndOfStream: a file has ended.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called at any time, any number of times.

        A camera that failed or fell silent may keep something ready for being opened again: a second call ends that.
        """
        ...

    @property
    def info(self) -> CameraInfo:
        """What the open camera delivers; before `open` the size is 0 where the device alone knows it."""
        ...


def to_stream_pixels(
    pixels: np.ndarray, stream: Stream, name: Callable[[], str] | str, unpainter: Unpainter | None = None
) -> np.ndarray:
    """Bring a picture into its stream's form and refuse one that cannot belong to it.

    Args:
        pixels: (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB.
        stream: visible wants (H, W, 3) uint8; thermal wants (H, W) uint16 or uint8.
        name: of the camera, for the message.
        unpainter: of this camera, thermal only: what becomes of a picture in colour. None refuses it.

    Raises:
        CameraLost: a 16-bit picture offered as visible, or one in colour as thermal: the cameras are probably swapped.
    """
    if stream is Stream.VISIBLE:
        if pixels.dtype != np.uint8:
            raise CameraLost(
                f"visible camera {_text(name)} delivers {pixels.dtype} counts, expected 8-bit colour. Are the"
                " visible and the thermal uri swapped?"
            )
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim == 2:
        return pixels
    grey = (unpainter or Unpainter()).grey(pixels)
    if grey is None:
        raise CameraLost(
            f"thermal camera {_text(name)} delivers a picture in colour, expected grey or 16-bit counts. Are the"
            " visible and the thermal uri swapped? If the camera paints a palette, set it to white-hot, or set"
            " accept_colour: true"
        )
    return grey


def _text(name: Callable[[], str] | str) -> str:
    return name if isinstance(name, str) else name()
