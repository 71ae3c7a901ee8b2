"""Draws known displacements at random, inverts them, and moves the infrared picture by them.

Convention: the infrared content that belongs to the visible pixel p lies at p + d(p), d = (dx, dy) in pixels.
A displaced picture M of a registered one R therefore fulfils M(p + d(p)) = R(p). Sampling needs the field that
lives on M's grid: M(q) = R(q - e(q)) with e(q) = d(q - e(q)).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.training.config import DisplacementConfig

__all__ = ["backward_field", "draw_displacement", "move_by", "smooth_field"]

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]


def smooth_field(rng: np.random.Generator, height: int, width: int, *, peak_px: float, spacing_px: float) -> FloatArray:
    """A random smooth field, (H, W, 2) float32 (dx, dy) in pixels, largest component `peak_px`.

    Control points `spacing_px` apart, cubic in between; `spacing_px` is raised where the slope would come near 1
    (a field with a slope of 1 folds the picture).
    """
    spacing_px = max(spacing_px, 4.0 * peak_px, 8.0)
    rows = max(2, round(height / spacing_px) + 1)
    columns = max(2, round(width / spacing_px) + 1)
    nodes = rng.standard_normal((rows, columns, 2)).astype(np.float32)
    field: FloatArray = np.asarray(cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    return field * np.float32(peak_px / max(float(np.abs(field).max()), 1e-6))


def draw_displacement(rng: np.random.Generator, height: int, width: int, config: DisplacementConfig) -> FloatArray:
    """A random displacement as `config` says, (H, W, 2) float32 (dx, dy) in pixels."""
    if rng.random() < config.zero_probability:
        return np.zeros((height, width, 2), np.float32)
    shift = rng.uniform(-config.max_px, config.max_px, 2)
    if not config.subpixel:
        shift = np.rint(shift)
    field = np.empty((height, width, 2), np.float32)
    field[...] = shift.astype(np.float32)
    if config.varying_probability > 0 and rng.random() < config.varying_probability:
        peak_px = float(rng.uniform(*config.varying_peak_px))
        spacing_px = float(rng.uniform(*config.varying_spacing_px))
        field += smooth_field(rng, height, width, peak_px=peak_px, spacing_px=spacing_px)
    return field


def backward_field(displacement: FloatArray, iterations: int = 6) -> FloatArray:
    """e of M(q) = R(q - e(q)) for a displacement d of M(p + d(p)) = R(p): the fixed point of e(q) = d(q - e(q)).

    Args:
        displacement: (H, W, 2) float32 pixels with a slope below 1.

    Returns:
        (H, W, 2) float32 pixels. Beyond the border d is continued with its border value.
    """
    first = displacement[0, 0]
    if np.all(displacement == first):
        return displacement
    height, width = displacement.shape[:2]
    x = np.arange(width, dtype=np.float32)[None, :]
    y = np.arange(height, dtype=np.float32)[:, None]
    field = displacement
    for _ in range(iterations):
        field = np.asarray(
            cv2.remap(
                displacement, x - field[..., 0], y - field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ),
            np.float32,
        )
    return field


def move_by(picture: UInt8Array, displacement: FloatArray) -> UInt8Array:
    """Move the picture so that content of pixel p is found at p + d(p). Keeps shape and dtype; borders replicate."""
    height, width = picture.shape[:2]
    field = backward_field(displacement)
    x = np.arange(width, dtype=np.float32)[None, :] - field[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] - field[..., 1]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)
