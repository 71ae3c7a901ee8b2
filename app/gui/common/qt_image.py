"""Pictures into Qt. Called on the GUI thread; each QImage owns its bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PyQt6.QtGui import QImage

__all__ = ["bgra_image", "image_pixels", "rgb_image"]


def bgra_image(pixels: npt.NDArray[np.uint8], device_pixel_ratio: float = 1.0) -> QImage:
    """(H, W, 4) uint8 BGRA, opaque, as an image that can be drawn without conversion."""
    image = _copied(pixels, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(device_pixel_ratio)
    return image


def rgb_image(pixels: npt.NDArray[np.uint8]) -> QImage:
    """(H, W, 3) uint8 RGB as an image."""
    return _copied(pixels, QImage.Format.Format_RGB888)


def image_pixels(image: QImage) -> npt.NDArray[np.uint8]:
    """The bytes of a 32-bit image as (H, W, 4) uint8 BGRA, a copy."""
    bits: Any = image.constBits()
    bits.setsize(image.sizeInBytes())
    rows = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return np.array(rows[:, : image.width()])


def _copied(pixels: npt.NDArray[np.uint8], image_format: QImage.Format) -> QImage:
    rows = np.ascontiguousarray(pixels)
    height, width = rows.shape[:2]
    view = QImage(rows.data, width, height, rows.strides[0], image_format)  # type: ignore[call-overload]
    return QImage(view.copy())
