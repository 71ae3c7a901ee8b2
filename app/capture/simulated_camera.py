"""A camera that renders: one of the two views of the simulated rig, at its frame rate, with faults on demand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from app.capture.camera import CameraInfo, TimeBase, to_stream_pixels
from fusion_core.errors import CameraLost, CameraTimeout
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from app.capture.config import CameraConfig

__all__ = ["SimulatedCamera", "SimulatedFaults"]

_DEFAULT_FPS = 30.0
_SLICE_NS = 50_000_000  # a wait looks for faults this often


class SimulatedFaults:
    """Faults of one simulated camera, set from any thread: unplugged (lost until replugged) and stalled (silent)."""

    def __init__(self) -> None:
        self._unplugged = threading.Event()
        self._stalled = threading.Event()

    def unplug(self) -> None:
        """Pull the cable: reads and opens fail until `replug`."""
        self._unplugged.set()

    def replug(self) -> None:
        """Put the cable back."""
        self._unplugged.clear()

    def stall(self) -> None:
        """Deliver nothing, without an error, until `resume`."""
        self._stalled.set()

    def resume(self) -> None:
        """Deliver again."""
        self._stalled.clear()

    @property
    def unplugged(self) -> bool:
        """Whether the cable is out."""
        return self._unplugged.is_set()

    @property
    def stalled(self) -> bool:
        """Whether the camera is silent."""
        return self._stalled.is_set()


class SimulatedCamera:
    """One stream of a rendered scene. Frame n is exposed at stream time n / fps and read then, like a real camera's.

    A reader that is late by more than a period finds frames missing (the index jumps), as with a driver's buffers.

    Args:
        stream: visible or thermal.
        config: `fps` (30 if null); `sim:...?realtime=0` renders as fast as it is read.
        render: the picture at stream time t (s): (H, W, 3) uint8 RGB, or (H, W) uint16 or uint8.
        base: stream time zero, shared by both cameras of a rig.
        faults: to unplug or stall it.
    """

    def __init__(
        self,
        stream: Stream,
        config: CameraConfig,
        render: Callable[[float], np.ndarray],
        base: TimeBase,
        faults: SimulatedFaults | None = None,
        *,
        realtime: bool = True,
    ) -> None:
        self.faults = faults if faults is not None else SimulatedFaults()
        self._stream = stream
        self._config = config
        self._render = render
        self._base = base
        self._realtime = realtime
        self._fps = config.fps if config.fps is not None else _DEFAULT_FPS
        self._size = (0, 0)
        self._next: int | None = None  # the frame that is read next; None while closed

    def open(self) -> None:
        """Start at the next frame of the running rig."""
        self._refuse_if_unplugged()
        start_ns = self._base.start_ns()
        height, width = self._render(0.0).shape[:2]
        self._size = (height, width)
        elapsed_ns = self._base.clock.now_ns() - start_ns
        self._next = max(0, round(elapsed_ns * self._fps / 1e9)) if self._realtime else 0

    def read(self, timeout_s: float) -> Frame:
        """The next frame, at its time."""
        if self._next is None:
            raise CameraLost(f"simulated {self._stream} camera is not open; open it before reading")
        clock, start_ns = self._base.clock, self._base.start_ns()
        flags = FrameFlag.NONE
        if self._realtime:
            deadline_ns = clock.now_ns() + round(timeout_s * 1e9)
            current = int((clock.now_ns() - start_ns) * self._fps / 1e9)
            if current > self._next + 1:
                self._next = current
                flags = FrameFlag.GAP_BEFORE
            self._wait_until(start_ns + self._offset_ns(self._next), deadline_ns)
        self._refuse_if_unplugged()
        index = self._next
        time_ns = self._offset_ns(index)
        self._next = index + 1
        pixels = to_stream_pixels(self._render(time_ns / 1e9), self._stream, self.info.identity, True)
        return Frame(self._stream, pixels, index, start_ns + time_ns, TimestampSource.SIMULATED, flags)

    def close(self) -> None:
        """Stop."""
        self._next = None

    @property
    def info(self) -> CameraInfo:
        """As the rig renders it."""
        return CameraInfo(
            identity=f"sim:{self._stream}",
            model="simulated rig",
            width=self._size[1],
            height=self._size[0],
            fps=self._fps,
            pixel_format="RGB24" if self._stream is Stream.VISIBLE else "Y16",
            ts_source=TimestampSource.SIMULATED,
        )

    def _offset_ns(self, index: int) -> int:
        return round(index * 1e9 / self._fps)

    def _wait_until(self, due_ns: int, deadline_ns: int) -> None:
        clock = self._base.clock
        while True:
            self._refuse_if_unplugged()
            now_ns = clock.now_ns()
            if now_ns >= due_ns and not self.faults.stalled:
                return
            if now_ns >= deadline_ns:
                raise CameraTimeout(f"simulated {self._stream} camera gave no frame in time; it is stalled or slow")
            until_ns = deadline_ns if self.faults.stalled else min(due_ns, deadline_ns)
            clock.sleep_ns(min(until_ns - now_ns, _SLICE_NS))

    def _refuse_if_unplugged(self) -> None:
        if self.faults.unplugged:
            self._next = None
            raise CameraLost(f"simulated {self._stream} camera is unplugged; it is reopened when it is back")
