"""The detail path of `fusion_core.rfvif.working_grid` in OpenCV's integers, for engines on the CPU.

Equal to the reference up to rounding: at most 2 levels, by test. Reduced pictures keep fractions of a level, and gates
16 bits: where both bands are strong and nearly alike, half a level decides between them, which is tens of levels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.rfvif.working_grid import DETAIL_PX, LEVELS, RAMP, WEAKER, reduction_factor

__all__ = ["LargePicture", "WorkingGrid", "levels_of"]

_BITS = 5  # of fractions of a level in 16 bits
_LEVEL = 2.0**_BITS
_GATE = 4096  # a gate of 1

Plane = npt.NDArray[np.int16]
"""Levels times 2^_BITS."""


def levels_of(plane: Plane) -> npt.NDArray[np.uint8]:
    """Rounded to whole levels."""
    return np.asarray(cv2.convertScaleAbs(plane, alpha=1.0 / _LEVEL), np.uint8)


class LargePicture:
    """Fuses pictures above `DETAIL_PX` at a whole fraction of their size, see there. Smaller ones pass as they are."""

    def __init__(self, height: int, width: int, most_px: int = DETAIL_PX) -> None:
        self.factor = reduction_factor(height, width, most_px)
        self._size = height, width
        self._padded = -(-height // self.factor) * self.factor, -(-width // self.factor) * self.factor
        self.small = self._padded[0] // self.factor, self._padded[1] // self.factor
        """Height and width at which it is fused."""

    def reduce(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W) -> `small`, area means; the picture itself where it is not large."""
        if self.factor == 1:
            return picture
        below, right = self._padded[0] - self._size[0], self._padded[1] - self._size[1]
        if below or right:
            picture = np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)
        return np.asarray(cv2.resize(picture, self.small[::-1], interpolation=cv2.INTER_AREA), np.uint8)

    def enlarge(
        self, visible: npt.NDArray[np.uint8], small_visible: npt.NDArray[np.uint8], small_fused: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]:
        """The fused luminance at full size: what fusing changed, added to the visible picture. (H, W) uint8."""
        if self.factor == 1:
            return small_fused
        change = cv2.subtract(small_fused, small_visible, dtype=cv2.CV_16S)
        change = np.asarray(cv2.resize(change, self._padded[::-1], interpolation=cv2.INTER_LINEAR))
        return np.asarray(cv2.add(visible, change[: self._size[0], : self._size[1]], dtype=cv2.CV_8U), np.uint8)


class WorkingGrid:
    """Brings pictures of one size onto the working grid, and the network's maps back to full size.

    Holds buffers for one picture at a time: one owner thread.
    """

    def __init__(self, height: int, width: int, working_px: int, multiple: int) -> None:
        """Set up for pictures of (height, width).

        Args:
            working_px: the most pixels of the working grid, 0 for no limit.
            multiple: what the sides of the working grid are multiples of, by mirroring the pictures beyond the border.
        """
        self.factor = reduction_factor(height, width, working_px)
        step = self.factor * multiple
        self._size = height, width
        self._padded = -(-height // step) * step, -(-width // step) * step
        self._reduced = self._padded[0] // self.factor, self._padded[1] // self.factor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the working grid, in cells."""
        return self._reduced

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of what the working grid covers, in pixels of the picture."""
        return self._padded

    def reduce(self, picture: npt.NDArray[np.uint8]) -> Plane:
        """(H, W) -> (h, w), area means; `levels_of` rounds them."""
        plane = np.left_shift(picture, _BITS, dtype=np.int16)
        below, right = self._padded[0] - self._size[0], self._padded[1] - self._size[1]
        if below or right:
            plane = np.asarray(cv2.copyMakeBorder(plane, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.int16)
        if self.factor == 1:
            return plane
        return np.asarray(cv2.resize(plane, self._reduced[::-1], interpolation=cv2.INTER_AREA), np.int16)

    def fuse(
        self,
        visible: npt.NDArray[np.uint8],
        thermal: npt.NDArray[np.uint8],
        reduced: tuple[Plane, Plane],
        channels: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.uint8]:
        """The fused luminance.

        Args:
            visible, thermal: (H, W), thermal aligned.
            reduced: both as `reduce` gives them.
            channels: (3, h, w) of `WorkingMaps`, before the gates' sigmoid.

        Returns:
            (H, W) uint8.
        """
        gates = _gates(channels[1:])
        delta = np.rint(channels[0] * np.float32(255.0 * _LEVEL)).astype(np.int16)
        fused: np.ndarray = np.asarray(cv2.add(_fuse_levels(*reduced, gates, LEVELS), delta))
        if self.factor > 1:
            bands = self._band(visible, reduced[0]), self._band(thermal, reduced[1])
            fused = np.asarray(cv2.add(self._enlarge(fused), _blend(*bands, self._enlarge(gates))))
        else:
            fused = fused[: self._size[0], : self._size[1]]
        return levels_of(np.maximum(fused, 0))

    def _band(self, picture: npt.NDArray[np.uint8], base: Plane) -> Plane:
        """What the working grid cannot hold of the picture: (H, W)."""
        return _subtract(np.left_shift(picture, _BITS, dtype=np.int16), self._enlarge(base))

    def _enlarge(self, small: np.ndarray) -> np.ndarray:
        """Bilinear between the cells' centres, cut to the picture."""
        full = cv2.resize(small, self._padded[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(full)[: self._size[0], : self._size[1]]


def _fuse_levels(visible: Plane, thermal: Plane, gates: Plane, levels: int) -> Plane:
    """The pyramid from this level down, (h, w)."""
    if levels == 0:
        return visible
    half, size = (visible.shape[1] // 2, visible.shape[0] // 2), visible.shape[::-1]
    small_visible = np.asarray(cv2.resize(visible, half, interpolation=cv2.INTER_AREA), np.int16)
    small_thermal = np.asarray(cv2.resize(thermal, half, interpolation=cv2.INTER_AREA), np.int16)
    small_gates = np.asarray(cv2.resize(gates, half, interpolation=cv2.INTER_AREA), np.int16)
    coarse = _fuse_levels(small_visible, small_thermal, small_gates, levels - 1)
    coarse, small_visible, small_thermal = (
        np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_LINEAR), np.int16)
        for each in (coarse, small_visible, small_thermal)
    )
    band = _blend(_subtract(visible, small_visible), _subtract(thermal, small_thermal), gates)
    return np.asarray(cv2.add(coarse, band), np.int16)


def _blend(visible: Plane, thermal: Plane, gates: np.ndarray) -> Plane:
    """One band of both pictures, (h, w); gates (h, w, 2).

    The reference's rule, written so that a share of the weaker band costs no operation, and that bands of 8-bit
    pictures stay within 16 bits: (1 + WEAKER) v + u (t - v), and u runs from WEAKER to 1.
    """
    of_visible, of_thermal = (
        cv2.multiply(band, gate, scale=1.0 / _GATE, dtype=cv2.CV_16S)
        for band, gate in zip((visible, thermal), cv2.split(gates), strict=True)
    )
    lead = np.maximum(np.abs(of_thermal) - np.abs(of_visible), 0)
    weight = cv2.convertScaleAbs(lead, alpha=(1.0 - WEAKER) / (RAMP * _LEVEL), beta=255.0 * WEAKER)
    step = cv2.multiply(cv2.subtract(of_thermal, of_visible), weight, scale=1.0 / 255.0, dtype=cv2.CV_16S)
    return np.asarray(cv2.addWeighted(of_visible, 1.0 + WEAKER, step, 1.0, 0.0), np.int16)


def _subtract(first: Plane, second: np.ndarray) -> Plane:
    return np.asarray(cv2.subtract(first, second), np.int16)


def _gates(logits: npt.NDArray[np.float32]) -> Plane:
    """(2, h, w) -> (h, w, 2), gates of 0..2 times _GATE."""
    gates = np.rint((2.0 * _GATE) / (1.0 + np.exp(-logits))).astype(np.int16)
    return np.asarray(cv2.merge([*gates]), np.int16)
