"""Turns pictures into Qt's images. GUI thread; each QImage owns its bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PyQt6.QtGui import QImage

from fusion_core.frames import Frame

__all__ = ["bgra_image", "image_pixels", "preview_image", "rgb_image"]


def bgra_image(pixels: npt.NDArray[np.uint8], device_pixel_ratio: float = 1.0) -> QImage:
    """Turn (H, W, 4) uint8 BGRA, opaque, into an image that is drawn without conversion."""
    image = _copied(pixels, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(device_pixel_ratio)
    return image


def rgb_image(pixels: npt.NDArray[np.uint8]) -> QImage:
    """Turn (H, W, 3) uint8 RGB into an image."""
    return _copied(pixels, QImage.Format.Format_RGB888)


def preview_image(frame: Frame) -> QImage:
    """Turn every second pixel of a frame into an image; counts are stretched over their middle 98 %."""
    small = frame.pixels[::2, ::2]
    if small.dtype != np.uint8:
        low, high = np.percentile(small[::4, ::4], (1, 99))
        small = np.clip((small - low) * (255.0 / max(1.0, high - low)), 0, 255)
    levels = small.astype(np.uint8)
    return rgb_image(levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2))


def image_pixels(image: QImage) -> npt.NDArray[np.uint8]:
    """Copy the bytes of a 32-bit image: (H, W, 4) uint8 BGRA."""
    bits: Any = image.constBits()
    bits.setsize(image.sizeInBytes())
    rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return np.array(rows[:, : image.width()])


def _copied(pixels: npt.NDArray[np.uint8], image_format: QImage.Format) -> QImage:
    rows = np.ascontiguousarray(pixels)
    height, width = rows.shape[:2]
    view = QImage(rows.data, width, height, rows.strides[0], image_format)  # type: ignore[call-overload]
    return QImage(view.copy())
