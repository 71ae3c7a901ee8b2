"""A camera that renders: one of the two views of the simulated rig, at its frame rate, with faults on demand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from app.capture.cameras.camera import CameraInfo, TimeBase
from fusion_core.errors import CameraLost, CameraTimeout
from fusion_core.frames import Frame, FrameFlag, Stream, TimestampSource

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Rig", "SimulatedCamera", "SimulatedFaults"]

_SLICE_NS: Final = 50_000_000  # a wait looks for faults this often


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


class Rig(Protocol):
    """What a simulated camera needs; `fusion_core.simulation.rig.SimulatedRig` has it."""

    def visible(self, t_s: float) -> np.ndarray:
        """(H, W, 3) uint8 RGB, the visible frame stamped `t_s`."""
        ...

    def thermal(self, t_s: float) -> np.ndarray:
        """(H, W) uint16, the thermal frame stamped `t_s`."""
        ...

    def visible_time_s(self, index: int) -> float:
        """Stamp of visible frame `index`."""
        ...

    def thermal_time_s(self, index: int) -> float:
        """Stamp of thermal frame `index`."""
        ...


class SimulatedCamera:
    """One camera of the simulated rig. A frame can be read once its time has come, as with a real camera.

    A reader that is late by more than a period finds frames missing (the index jumps), as with a driver's buffers.
    One thread reads it; it starts none.

    Args:
        stream: visible or thermal.
        rig: the rig, shared by both cameras.
        fps: the rig's rate for this stream.
        base: stream time zero, shared by both cameras of a rig.
        faults: to unplug or stall it.
        realtime: False renders as fast as it is read.
    """

    def __init__(
        self,
        stream: Stream,
        rig: Rig,
        fps: float,
        base: TimeBase,
        faults: SimulatedFaults | None = None,
        *,
        realtime: bool = True,
    ) -> None:
        self.faults = faults if faults is not None else SimulatedFaults()
        self._stream = stream
        visible = stream is Stream.VISIBLE
        self._render = rig.visible if visible else rig.thermal
        self._time_s = rig.visible_time_s if visible else rig.thermal_time_s
        self._fps = fps
        self._base = base
        self._realtime = realtime
        self._size = (0, 0)
        self._next: int | None = None  # the frame that is read next; None while closed

    def open(self) -> None:
        """Start at the next frame of the running rig."""
        self._refuse_if_unplugged()
        height, width = self._render(0.0).shape[:2]
        self._size = (height, width)
        self._next = self._index_at(self._base.clock.now_ns()) + 1 if self._realtime and self._base.started else 0
        self._base.start_ns()

    def read(self, timeout_s: float) -> Frame:
        """The next frame, at its time."""
        if self._next is None:
            raise CameraLost(f"simulated {self._stream} camera is not open; open it before reading")
        flags = FrameFlag.NONE
        if self._realtime:
            now_ns = self._base.clock.now_ns()
            current = self._index_at(now_ns)
            if current > self._next + 1:
                self._next = current
                flags = FrameFlag.GAP_BEFORE
            self._wait_until(self._stamp_ns(self._next), now_ns + round(timeout_s * 1e9))
        self._refuse_if_unplugged()
        index = self._next
        self._next = index + 1
        pixels = self._render(self._time_s(index))
        return Frame(self._stream, pixels, index, self._stamp_ns(index), TimestampSource.SIMULATED, flags)

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

    def _stamp_ns(self, index: int) -> int:
        return self._base.start_ns() + round(self._time_s(index) * 1e9)

    def _index_at(self, time_ns: int) -> int:
        return max(0, int((time_ns - self._base.start_ns()) * self._fps / 1e9))

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
