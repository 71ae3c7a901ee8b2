"""Luminance of a colour picture, and a new luminance under the old chroma (YCbCr, full range, BT.601).

Full-range YCbCr is R = Y + 1.402 Cr, G = Y - 0.344 Cb - 0.714 Cr, B = Y + 1.772 Cb. Keeping Cb and Cr and replacing Y
therefore means adding the same difference to R, G and B, which loses nothing to the rounding of Cb and Cr.
"""

from __future__ import annotations

import cv2
import numpy as np

from fusion_core.errors import BadInputError

__all__ = ["STRENGTH_MAX", "check_pair", "luminance", "replace_luminance", "with_strength"]

STRENGTH_MAX = 1.5
"""The most that a fused picture is moved away from the visible one: 1 is as the engine fused it."""


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Y = 0.299 R + 0.587 G + 0.114 B, rounded.

    Args:
        rgb: (H, W, 3) uint8 RGB, or (H, W) uint8, which is returned as it is (no copy).

    Returns:
        (H, W) uint8.
    """
    if rgb.ndim == 2:
        return rgb
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def replace_luminance(rgb: np.ndarray, y: np.ndarray, *, old_y: np.ndarray | None = None) -> np.ndarray:
    """Put the luminance `y` under the colours of `rgb`.

    Where the picture gets brighter the chroma (Cb, Cr) stays as it is: y - old_y is added to all channels; where one
    would leave 255 it is clipped, and the luminance of the result then is below `y`. Where it gets darker all channels
    are scaled by y / old_y, which keeps hue and saturation: chroma left as it is would turn the pale blue of a sky
    that thermal darkens into violet.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        y: (H, W) uint8, the new luminance.
        old_y: (H, W) uint8, `luminance(rgb)` if the caller has it already.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    if old_y is None:
        old_y = luminance(rgb)
    # Saturating uint8 arithmetic: brighter and darker pixels apart. A division by 0 gives 0, and 0 it stays.
    brighter = cv2.cvtColor(cv2.subtract(y, old_y), cv2.COLOR_GRAY2RGB)
    share = cv2.cvtColor(cv2.divide(cv2.min(y, old_y), old_y, scale=255.0), cv2.COLOR_GRAY2RGB)
    cv2.multiply(rgb, share, dst=share, scale=1.0 / 255.0)
    return np.asarray(cv2.add(share, brighter, dst=share))


def with_strength(visible: np.ndarray, fused: np.ndarray, strength: float) -> np.ndarray:
    """Move from the visible picture towards the fused one, and beyond.

    Linear in every channel, so that a user may turn it without a step, and at no cost for the engine.

    Args:
        visible, fused: (H, W, 3) uint8 RGB.
        strength: 0 gives the visible picture, 1 the fused one, up to STRENGTH_MAX exaggerates what thermal adds.

    Returns:
        (H, W, 3) uint8 RGB; `fused` itself at strength 1.
    """
    if strength == 1.0:
        return fused
    return np.asarray(cv2.addWeighted(fused, strength, visible, 1.0 - strength, 0.0))


def check_pair(visible: np.ndarray, thermal: np.ndarray) -> None:
    """Raise BadInputError unless visible is (H, W, 3) uint8 and thermal (H, W) uint8 of the same H and W."""
    if visible.ndim != 3 or visible.shape[2] != 3 or visible.dtype != np.uint8:
        raise BadInputError(f"visible picture is {visible.dtype} {visible.shape}, must be uint8 (H, W, 3) RGB")
    if thermal.ndim != 2 or thermal.dtype != np.uint8:
        raise BadInputError(
            f"thermal picture is {thermal.dtype} {thermal.shape}, must be uint8 (H, W); "
            "bring 16-bit counts to 8 bit first (AGC)"
        )
    if visible.shape[:2] != thermal.shape:
        raise BadInputError(
            f"visible picture is {visible.shape[:2]} and thermal {thermal.shape} (height, width), must be the same; "
            "bring the thermal picture onto the visible grid first"
        )
    if not visible.size:
        raise BadInputError("the pictures have no pixels, must be at least 1x1")
