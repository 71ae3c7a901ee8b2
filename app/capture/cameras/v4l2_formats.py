"""V4L2 picture formats: bytes to pixels, the choice of a mode, what errors mean. Nothing here opens a device."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fusion_core.errors import CameraLost, CaptureError, ConfigError
from fusion_core.frames import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.capture.config import CameraConfig

__all__ = ["BYTES_PER_PIXEL", "V4l2Mode", "bytes_to_pixels", "choose_mode", "explain_os_error", "lighter_mode"]

BYTES_PER_PIXEL: Final = {"YUYV": 2.0, "MJPG": 0.5, "NV12": 1.5, "GREY": 1.0, "Y16": 2.0}
"""On the cable; MJPG is an upper estimate, as drivers reserve for it."""
_PREFERRED: Final = {Stream.VISIBLE: ("MJPG", "YUYV", "NV12"), Stream.THERMAL: ("Y16", "GREY", "YUYV", "MJPG", "NV12")}
_DEFAULT_FPS: Final = 25.0
_MOST_PIXELS: Final = 1920 * 1080


@dataclass(frozen=True, slots=True, order=True)
class V4l2Mode:
    """A picture format, size and rate that a device offers. fps is 0 where the driver does not say."""

    pixel_format: str
    width: int
    height: int
    fps: float

    def __str__(self) -> str:
        rate = f" at {self.fps:g} fps" if self.fps else ""
        return f"{self.pixel_format} {self.width}x{self.height}{rate}"

    @property
    def mbyte_per_s(self) -> float:
        """What it takes on the cable."""
        return self.width * self.height * BYTES_PER_PIXEL.get(self.pixel_format, 2.0) * (self.fps or 30.0) / 1e6


def bytes_to_pixels(
    data: bytes | memoryview, pixel_format: str, width: int, height: int, bytes_per_line: int, *, packed: bool = False
) -> np.ndarray | None:
    """Decode one V4L2 picture.

    Args:
        data: the buffer's used part.
        bytes_per_line: with padding; 0 for formats without lines (MJPG) or where the driver does not say.
        packed: leave YUYV as (H, W, 2) uint8.

    Returns:
        (H, W, 3) uint8 RGB, (H, W) uint8 (GREY) or (H, W) uint16 (Y16); None if the buffer is short or damaged, as
        after a loss on the cable: the caller skips it.

    Raises:
        ConfigError: another format.
    """
    if pixel_format == "MJPG":
        rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if len(data) > 2 else None
        return rgb if rgb is not None and rgb.shape[:2] == (height, width) else None
    if pixel_format not in BYTES_PER_PIXEL:
        known = ", ".join(BYTES_PER_PIXEL)
        raise ConfigError(f"pixel format {pixel_format} is not one of {known}; set pixel_format to one that is offered")
    sample = {"YUYV": 2, "Y16": 2}.get(pixel_format, 1)
    line = max(bytes_per_line, width * sample)
    rows = height * 3 // 2 if pixel_format == "NV12" else height
    needed = line * (rows - 1) + width * sample  # the last line may come without its padding
    if len(data) < needed:
        return None
    flat = np.frombuffer(data, np.uint8)
    if flat.size < line * rows:
        flat = np.concatenate([flat, np.zeros(line * rows - flat.size, np.uint8)])
    picture = np.ascontiguousarray(flat[: line * rows].reshape(rows, line)[:, : width * sample])
    if pixel_format == "Y16":
        return picture.view("<u2")
    if pixel_format == "YUYV":
        yuyv = picture.reshape(height, width, 2)
        return yuyv if packed else cv2.cvtColor(yuyv, cv2.COLOR_YUV2RGB_YUYV)
    return cv2.cvtColor(picture, cv2.COLOR_YUV2RGB_NV12) if pixel_format == "NV12" else picture


def choose_mode(offered: Sequence[V4l2Mode], config: CameraConfig, stream: Stream) -> V4l2Mode:
    """The mode that the configuration asks for, or a good one of the right kind.

    Raises:
        ConfigError: the device does not offer it, or cannot be this stream's camera.
    """
    kinds = sorted({mode.pixel_format for mode in offered})
    usable = [mode for mode in offered if mode.pixel_format in _PREFERRED[stream]]
    if config.pixel_format is not None:
        usable = [mode for mode in offered if mode.pixel_format == config.pixel_format]
    if stream is Stream.VISIBLE and config.pixel_format in (None, "Y16"):
        usable = [mode for mode in usable if mode.pixel_format != "Y16"]
        if not usable and "Y16" in kinds:
            raise ConfigError(
                f"{config.shown_uri} offers {', '.join(kinds)} only, so it is a thermal camera; the visible stream"
                " needs colour. Are the visible and the thermal uri swapped?"
            )
    if config.width is not None:
        usable = [mode for mode in usable if (mode.width, mode.height) == (config.width, config.height)]
    if config.fps is not None:
        wanted = config.fps
        usable = [mode for mode in usable if not mode.fps or abs(mode.fps - wanted) < 0.5]
    if not usable:
        asked = ", ".join(
            part
            for part in (
                config.pixel_format,
                f"{config.width}x{config.height}" if config.width is not None else None,
                f"{config.fps:g} fps" if config.fps is not None else None,
            )
            if part
        )
        listing = "; ".join(str(mode) for mode in sorted(offered)[:24]) or "nothing"
        raise ConfigError(f"{config.shown_uri} has no {stream} mode {asked}; it offers {listing}")

    def merit(mode: V4l2Mode) -> tuple[bool, bool, int, int, float]:
        order = _PREFERRED[stream]
        rank = order.index(mode.pixel_format) if mode.pixel_format in order else len(order)
        pixels = mode.width * mode.height
        return (
            not mode.fps or mode.fps >= _DEFAULT_FPS - 0.5,
            pixels <= _MOST_PIXELS,
            -rank,
            pixels,
            -abs(mode.fps - 30),
        )

    if stream is Stream.THERMAL:  # counts matter more than rate: a 9 Hz core has nothing faster
        return max(usable, key=lambda mode: (merit(mode)[2], mode.width * mode.height, mode.fps))
    return max(usable, key=merit)


def lighter_mode(mode: V4l2Mode, offered: Sequence[V4l2Mode]) -> V4l2Mode | None:
    """The best offered mode that takes at most half the cable of `mode`: compressed rather than smaller or slower."""
    fitting = [other for other in offered if other.mbyte_per_s <= mode.mbyte_per_s / 2 and other.pixel_format != "Y16"]
    return max(fitting, key=lambda other: (other.width * other.height, other.fps), default=None)


def explain_os_error(
    error: OSError, node: str, shown: str, mode: V4l2Mode | None = None, offered: Sequence[V4l2Mode] = ()
) -> CaptureError:
    """What a failed V4L2 call means and what to do about it."""
    if error.errno == errno.ENOSPC:
        lighter = lighter_mode(mode, offered) if mode is not None else None
        advice = f" {lighter} takes half or less." if lighter is not None else ""
        return CameraLost(
            f"{shown}: USB bandwidth: {mode} does not fit on this controller together with what runs on it already (the"
            f" disk is not full).{advice} Or plug one camera into a port of another controller"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return CameraLost(
            f"{shown}: no permission for {node}; add yourself to the video group (sudo usermod -aG video $USER) and"
            " log in again"
        )
    if error.errno == errno.EBUSY:
        return CameraLost(f"{shown}: {node} is in use by another program (fuser -v {node} names it); close that one")
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.ENOENT):
        return CameraLost(f"{shown}: {node} is gone, was it unplugged? It is reopened when it is back")
    return CameraLost(f"{shown}: {node} failed ({error.strerror or error}), expected a picture; it is reopened")
