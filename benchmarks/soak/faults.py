"""Faults on demand, for soak tests and drills: pulled cables, silent cameras, shutters, full disks, stopped processes.

Nothing here is active unless somebody makes it so: pass `FaultyCameras` to `LiveFusion` as its camera factory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from app.capture.cameras.camera import Camera, CameraInfo, Clock, MonotonicClock
from app.capture.cameras.factory import CameraPair, create_cameras
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import CameraLost, CameraTimeout, EngineError, UsageError
from fusion_core.frames import Frame, Stream

__all__ = ["FaultyCamera", "FaultyCameras", "FaultyEngine", "full_disk", "pause_process"]

_SLICE_NS: Final = 20_000_000
_LARGEST_BALLAST: Final = 1 << 30


class FaultyCamera:
    """A camera that can be unplugged, made silent, or frozen as by its shutter, from any thread.

    Args:
        camera: does the work while there is no fault.
    """

    def __init__(self, camera: Camera, stream: Stream, clock: Clock | None = None) -> None:
        self._camera, self._stream = camera, stream
        self._clock: Clock = clock if clock is not None else MonotonicClock()
        self._unplugged = threading.Event()
        self._stalled = threading.Event()
        self._frozen = threading.Event()
        self._last: Frame | None = None

    def unplug(self) -> None:
        """Pull the cable: reads and opens fail."""
        self._unplugged.set()

    def stall(self) -> None:
        """Deliver nothing, without an error."""
        self._stalled.set()

    def freeze(self) -> None:
        """Close the shutter: repeat the last picture with new stamps."""
        self._frozen.set()

    def mend(self) -> None:
        """End every fault."""
        for fault in (self._unplugged, self._stalled, self._frozen):
            fault.clear()

    def open(self) -> None:
        """See Camera.open."""
        self._refuse_if_unplugged()
        self._camera.open()

    def read(self, timeout_s: float) -> Frame:
        """See Camera.read."""
        self._refuse_if_unplugged()
        if self._stalled.is_set():
            self._stay_silent(timeout_s)
        frame = self._camera.read(timeout_s)
        self._refuse_if_unplugged()
        if self._frozen.is_set() and self._last is not None:
            return replace(frame, pixels=self._last.pixels)
        self._last = frame
        return frame

    def close(self) -> None:
        """See Camera.close."""
        self._camera.close()

    @property
    def info(self) -> CameraInfo:
        """Of the camera behind."""
        return self._camera.info

    def _stay_silent(self, timeout_s: float) -> None:
        end_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        while self._stalled.is_set():
            left_ns = end_ns - self._clock.now_ns()
            if left_ns <= 0:
                raise CameraTimeout(f"the {self._stream.value} camera is silent (injected fault)")
            self._refuse_if_unplugged()
            self._clock.sleep_ns(min(left_ns, _SLICE_NS))

    def _refuse_if_unplugged(self) -> None:
        if self._unplugged.is_set():
            raise CameraLost(f"the {self._stream.value} camera is unplugged (injected fault)")


class FaultyCameras:
    """A camera factory for `LiveFusion` whose cameras obey `FaultyCamera`'s calls.

    Args:
        factory: makes the cameras behind.
    """

    def __init__(self, factory: Callable[..., CameraPair] = create_cameras) -> None:
        self._factory = factory
        self._cameras: dict[Stream, FaultyCamera] = {}

    def __call__(self, *args: Any, clock: Clock | None = None, **named: Any) -> CameraPair:
        """As the factory behind."""
        pair = self._factory(*args, clock=clock, **named)
        self._cameras = {
            Stream.VISIBLE: FaultyCamera(pair.visible, Stream.VISIBLE, clock),
            Stream.THERMAL: FaultyCamera(pair.thermal, Stream.THERMAL, clock),
        }
        return replace(pair, visible=self._cameras[Stream.VISIBLE], thermal=self._cameras[Stream.THERMAL])

    def camera(self, stream: Stream) -> FaultyCamera:
        """The one of this stream. Raises UsageError before the pipeline has made them."""
        if stream not in self._cameras:
            raise UsageError("the pipeline has made no cameras yet; wait for its first picture")
        return self._cameras[stream]


class FaultyEngine:
    """An engine that fails while `broken` is set.

    Args:
        engine: does the work otherwise.
    """

    def __init__(self, engine: FusionEngine, broken: threading.Event) -> None:
        self._engine, self._broken = engine, broken

    @property
    def name(self) -> str:
        """Of the engine behind."""
        return self._engine.name

    def warm_up(self, height: int, width: int) -> None:
        """See FusionEngine.warm_up."""
        self._refuse_if_broken()
        self._engine.warm_up(height, width)

    def fuse(self, visible: Any, thermal: Any) -> Any:
        """See FusionEngine.fuse."""
        self._refuse_if_broken()
        return self._engine.fuse(visible, thermal)

    def reset(self) -> None:
        """See FusionEngine.reset."""
        self._engine.reset()

    def close(self) -> None:
        """See FusionEngine.close."""
        self._engine.close()

    def _refuse_if_broken(self) -> None:
        if self._broken.is_set():
            raise EngineError(f"{self._engine.name} is broken (injected fault)")


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """Fill the file system of `folder` to the last byte for as long as the context lasts.

    Raises:
        UsageError: it is larger than 1 GiB: that would hurt somebody. Mount a small tmpfs there.
    """
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if free > _LARGEST_BALLAST:
        raise UsageError(
            f"{folder} has {free >> 20} MiB free, only a file system with less than {_LARGEST_BALLAST >> 20} is filled;"
            " mount a small tmpfs there"
        )
    ballast = folder / ".ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            block = bytes(1 << 16)
            while block:
                try:
                    file.write(block)
                except OSError:
                    block = block[: len(block) // 2]  # down to the last bytes
        yield ballast
    finally:
        ballast.unlink(missing_ok=True)


def pause_process(seconds: float) -> subprocess.Popen[bytes]:
    """SIGSTOP this whole process for so long (POSIX), from a shell of its own; returns at once. Wait for the result."""
    script = 'kill -STOP "$1"; sleep "$2"; kill -CONT "$1"'
    return subprocess.Popen(["/bin/sh", "-c", script, "sh", str(os.getpid()), f"{seconds:g}"])
