"""A folder of numbered pictures as a camera."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2

from app.capture.cameras.camera import CameraInfo, TimeBase, to_stream_pixels
from fusion_core.errors import BadInputError, CameraLost, CameraTimeout, EndOfStream
from fusion_core.frames import Frame, Stream, TimestampSource

if TYPE_CHECKING:
    from app.capture.cameras.uri import CameraUri
    from app.capture.config import CameraConfig

__all__ = ["ImageSequenceCamera"]

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".webp"})
_DEFAULT_FPS: Final = 30.0


class ImageSequenceCamera:
    """The pictures of a folder, by the numbers in their names, `fps` a second (30 if null).

    16-bit pictures are thermal counts. `realtime=1` and `loop=1` as with files. Read by one thread, has none.
    """

    def __init__(self, stream: Stream, uri: CameraUri, config: CameraConfig, base: TimeBase) -> None:
        self._stream, self._uri, self._config, self._base = stream, uri, config, base
        self._fps = config.fps if config.fps is not None else _DEFAULT_FPS
        self._paths: list[Path] = []
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
        self._paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES), key=_by_number)
        if not self._paths:
            raise BadInputError(f"{folder} holds no pictures ({', '.join(sorted(_SUFFIXES))}), expected at least one")
        first = _read(self._paths[0])
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
        pixels = _read(self._paths[self._next % len(self._paths)])
        frame = Frame(
            self._stream,
            to_stream_pixels(pixels, self._stream, self._config.shown_uri, self._config.accept_colour),
            self._next,
            time_ns,
            TimestampSource.FILE,
        )
        self._next += 1
        return frame

    def close(self) -> None:
        """Forget the list."""
        self._paths = []

    @property
    def info(self) -> CameraInfo:
        """As the first picture says."""
        return self._info


def _by_number(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.stem)], path.name


def _read(path: Path) -> cv2.typing.MatLike:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise BadInputError(f"{path} cannot be read as a picture, expected PNG, JPEG, TIFF, BMP, PGM or WebP")
    if picture.ndim == 3:
        return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGB if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return picture
