"""A folder of numbered pictures as a camera."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from app.capture.cameras.camera import CameraInfo, TimeBase
from app.media.geometry import cut_half
from fusion_core.errors import BadInputError, CameraLost, CameraTimeout, EndOfStream
from fusion_core.frames import Frame, Stream, TimestampSource
from fusion_core.picture_file import PICTURE_SUFFIXES, PictureReader, is_picture

if TYPE_CHECKING:
    from app.capture.cameras.uri import CameraUri
    from app.capture.config import CameraConfig

__all__ = ["ImageSequenceCamera"]

_DEFAULT_FPS: Final = 30.0
_KNOWN: Final = ", ".join(sorted(PICTURE_SUFFIXES))


class ImageSequenceCamera:
    """The pictures of a folder, by the numbers in their names, `fps` a second (30 if null).

    16-bit pictures are thermal counts. `realtime=1` and `loop=1` as with files. Read by one thread, has none.
    """

    def __init__(self, stream: Stream, uri: CameraUri, config: CameraConfig, base: TimeBase) -> None:
        self._stream, self._uri, self._config, self._base = stream, uri, config, base
        self._fps = config.fps if config.fps is not None else _DEFAULT_FPS
        self._paths: list[Path] = []
        self._reader = PictureReader(stream, config.accept_colour)
        self._next = 0
        self._info = CameraInfo(config.shown_uri, "images", 0, 0, self._fps, "", TimestampSource.FILE)

    def open(self) -> None:
        """List the folder and look at the first picture.

        Raises:
            BadInputError: no such folder, or no picture in it.
        """
        folder = Path(self._uri.target).expanduser()
        if not folder.is_dir():
            raise BadInputError(f"{folder} is not a folder, expected one with pictures after images:")
        self._paths = sorted((p for p in folder.iterdir() if is_picture(p) and p.is_file()), key=_by_number)
        if not self._paths:
            raise BadInputError(f"{folder} holds no pictures ({_KNOWN}), expected at least one")
        first = self._read(self._paths[0])
        self._next = 0
        self._base.start_ns()
        self._info = CameraInfo(
            identity=self._config.shown_uri,
            model="images",
            width=first.shape[1],
            height=first.shape[0],
            fps=self._fps,
            pixel_format=f"{self._paths[0].suffix[1:].lower()} {first.dtype}",
            ts_source=TimestampSource.FILE,
        )

    def read(self, timeout_s: float) -> Frame:
        """The next picture, in real-time mode at its time."""
        if not self._paths:
            raise CameraLost(f"{self._config.shown_uri} is not open; open it before reading")
        if self._next >= len(self._paths) and not self._uri.flag("loop"):
            raise EndOfStream(f"{self._config.shown_uri} has ended after {len(self._paths)} pictures")
        time_ns = self._base.start_ns() + round(self._next * 1e9 / self._fps)
        if self._uri.flag("realtime"):
            wait_ns = time_ns - self._base.clock.now_ns()
            if wait_ns > timeout_s * 1e9:
                self._base.clock.sleep_ns(round(timeout_s * 1e9))
                raise CameraTimeout(f"{self._config.shown_uri}: the next picture is not due yet")
            self._base.clock.sleep_ns(wait_ns)
        pixels = self._read(self._paths[self._next % len(self._paths)])
        frame = Frame(
            self._stream,
            pixels,
            self._next,
            time_ns,
            TimestampSource.FILE,
        )
        self._next += 1
        return frame

    def _read(self, path: Path) -> np.ndarray:
        pixels = self._reader.read(path)
        return pixels if self._uri.half is None else np.ascontiguousarray(cut_half(pixels, self._uri.half))

    def close(self) -> None:
        """Forget the list."""
        self._paths = []

    @property
    def info(self) -> CameraInfo:
        """As the first picture says."""
        return replace(self._info, notes=tuple(self._reader.notes))


def _by_number(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name
