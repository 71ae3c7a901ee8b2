"""Records what the window shows, figures included, beside the recording of the pictures."""

from __future__ import annotations

import queue
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.errors import LumithermError
from fusion_core.files import make_folder

__all__ = ["ViewRecorder"]

_WAITING = 8  # views; more are left out and counted
_JOIN_S = 10.0


class ViewRecorder:
    """Writes views as they were on screen into one file. Thread: `view recorder`, from the constructor to `close`.

    The file has the size of the first view; later ones are brought to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error = ""
        self.left_out = 0
        self._queue: queue.Queue[tuple[int, npt.NDArray[np.uint8]]] = queue.Queue(_WAITING)
        self._began_ns = time.monotonic_ns()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view recorder")
        self._thread.start()

    def offer(self, bgra: npt.NDArray[np.uint8]) -> None:
        """Take a view, (H, W, 4) uint8 BGRA, which must not change any more; never waits."""
        if self._closing.is_set():
            return
        try:
            self._queue.put_nowait(((time.monotonic_ns() - self._began_ns) // 1_000_000, bgra))
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """Write what is queued and end the file."""
        self._closing.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            self._write()
        except LumithermError as error:
            self.error = str(error)

    def _write(self) -> None:
        from app.media.writer import VideoFormat, VideoWriter

        writer: VideoWriter | None = None
        size = (0, 0)
        last_ms = -1
        try:
            while not (self._closing.is_set() and self._queue.empty()):
                try:
                    item = self._queue.get(timeout=0.1)
                except queue.Empty:
                    continue
                ms, bgra = item
                picture = np.asarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB), dtype=np.uint8)
                if writer is None:
                    make_folder(self.path.parent)
                    size = (picture.shape[1], picture.shape[0])
                    fast = VideoFormat(preset="ultrafast", crf=20)
                    writer = VideoWriter(self.path, size[1], size[0], Fraction(1, 1000), video_format=fast)
                elif (picture.shape[1], picture.shape[0]) != size:
                    picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
                if ms > last_ms:
                    writer.write(picture, ms, 0)
                    last_ms = ms
        finally:
            if writer is not None:
                writer.close()
