"""Known displacements of a thermal picture: what an evaluation puts between the two cameras.

Two kinds. Uniform: the whole picture moves by the same amount along both axes, as a rig does that was knocked.
Field: the displacement varies smoothly over the picture and has zero mean, as parallax does; no single shift undoes it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.errors import BadInputError
from fusion_core.shift import translate

__all__ = ["Displacement", "DisplacementKind", "displace", "displacement_field", "field", "uniform"]

# Control points along height and width. With 4 x 5 the field turns round about once over the picture.
_FIELD_GRID = (4, 5)


class DisplacementKind(StrEnum):
    """How a displacement is spread over the picture."""

    UNIFORM = "uniform"
    FIELD = "field"


@dataclass(frozen=True, slots=True, order=True)
class Displacement:
    """UNIFORM: content moves by size_px right and size_px down. FIELD: size_px is the largest length of a vector."""

    kind: DisplacementKind
    size_px: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.size_px <= 64.0:
            raise BadInputError(f"displacement is {self.size_px} px, must be 0 to 64")

    @property
    def label(self) -> str:
        """For tables, e.g. "3 px", "3.5 px", "field 5 px"."""
        size = f"{self.size_px:g} px"
        return f"field {size}" if self.kind is DisplacementKind.FIELD else size


def uniform(size_px: float) -> Displacement:
    """The whole picture moved by (size_px, size_px)."""
    return Displacement(DisplacementKind.UNIFORM, float(size_px))


def field(peak_px: float) -> Displacement:
    """A smooth field of zero mean with vectors of up to peak_px."""
    return Displacement(DisplacementKind.FIELD, float(peak_px))


def displacement_field(height: int, width: int, peak_px: float, stem: str, seed: int = 0) -> npt.NDArray[np.float32]:
    """A smooth random field: Gaussian vectors on 4 x 5 control points, bicubic between them.

    The mean over the picture is zero along each axis and the longest vector has the length peak_px. The same stem,
    seed and size give the same field; another peak scales it.

    Returns:
        (H, W, 2) float32, (dx, dy) in pixels.
    """
    rng = np.random.default_rng([zlib.crc32(stem.encode()), seed])
    coarse = rng.normal(size=(*_FIELD_GRID, 2)).astype(np.float32)
    vectors = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    vectors -= vectors.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    longest = float(np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=-1).max()))
    vectors *= np.float32(peak_px / longest) if longest > 0.0 else np.float32(0.0)
    return vectors


def displace(thermal: np.ndarray, displacement: Displacement, stem: str, seed: int = 0) -> np.ndarray:
    """The thermal picture as a misaligned camera would give it; the border is mirrored.

    Content that belongs at q is found at p = q + d, with d the displacement at p. Whole pixels are moved exactly,
    all else by bicubic interpolation.

    Args:
        thermal: (H, W) uint8.
        stem, seed: choose the field; without effect on uniform displacements.

    Returns:
        (H, W) uint8, a new array.
    """
    if displacement.kind is DisplacementKind.UNIFORM:
        return translate(thermal, displacement.size_px, displacement.size_px)
    height, width = thermal.shape
    vectors = displacement_field(height, width, displacement.size_px, stem, seed)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.asarray(
        cv2.remap(
            thermal,
            columns - vectors[..., 0],
            rows - vectors[..., 1],
            interpolation=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )
