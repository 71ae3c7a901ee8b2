"""The classical engines: no weights, no torch, a few milliseconds a frame. Baselines to beat, and a fallback.

All fuse luminance and put the visible picture's chroma back (`fusion_core.colour`). One owner thread an engine.
"""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.colour import check_pair, luminance, replace_luminance
from fusion_core.errors import EngineError
from fusion_core.shift import ShiftEstimate, estimate_shift, translate

__all__ = [
    "AverageEngine",
    "EdgeOverlayEngine",
    "LaplacianPyramidEngine",
    "NccPyramidEngine",
    "OverlayBase",
    "fuse_pyramid",
]

_DETAIL_LEVELS = 4
_FIXED_POINT_BITS = 6


class _ClassicalEngine:
    """What the engines here share: they keep nothing, need no warm-up, and run at any size."""

    _name = ""

    @property
    def name(self) -> str:
        return self._name

    def warm_up(self, height: int, width: int) -> None:
        """One run at this size. Raises EngineError for a size without pixels."""
        if height < 1 or width < 1:
            raise EngineError(f"{self.name} engine cannot run at {height}x{width} (height x width), needs 1x1 or more")
        self.fuse(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8))
        self.reset()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`."""
        check_pair(visible, thermal)
        y = luminance(visible)
        return replace_luminance(visible, self._fuse_luminance(y, thermal), old_y=y)

    def _fuse_luminance(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def reset(self) -> None:
        """Nothing is carried over between frames."""

    def close(self) -> None:
        """Nothing is held."""


class AverageEngine(_ClassicalEngine):
    """The mean of both pictures."""

    _name = "average"

    def _fuse_luminance(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        # OpenCV rounds halves to even, which would thin out the odd levels: 0.25 sends all halves up.
        return np.asarray(cv2.addWeighted(visible, 0.5, thermal, 0.5, 0.25))


class LaplacianPyramidEngine(_ClassicalEngine):
    """Laplacian pyramid: the stronger detail at each place and scale, the mean of what remains."""

    _name = "pyramid"

    def _fuse_luminance(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        return fuse_pyramid(visible, thermal)


class NccPyramidEngine(_ClassicalEngine):
    """The Laplacian pyramid behind an estimate of the whole frame's displacement.

    Each frame is estimated for itself. Where the estimate is not reliable, the last reliable one is used, and before
    the first the estimate itself: a guess is right more often than no displacement at all on a rig that is known to
    be off. `last_estimate` tells what was found in the newest frame.
    """

    _name = "ncc-pyramid"

    def __init__(self) -> None:
        self._reliable: ShiftEstimate | None = None
        self.last_estimate: ShiftEstimate | None = None

    def _fuse_luminance(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        if min(thermal.shape) < 16:  # too small to hold outlines
            return fuse_pyramid(visible, thermal)
        estimate = self.last_estimate = estimate_shift(visible, thermal)
        if estimate.reliable:
            self._reliable = estimate
        used = self._reliable if self._reliable is not None else estimate
        # Whole pixels: interpolation would blur the thermal picture, and the details are chosen by their strength.
        return fuse_pyramid(visible, translate(thermal, -round(used.dx_px), -round(used.dy_px)))

    def reset(self) -> None:
        """Forget the last reliable estimate."""
        self._reliable = self.last_estimate = None


class OverlayBase(StrEnum):
    """Which picture the other one's detail is laid over."""

    THERMAL = "thermal"  # visible outlines on the thermal picture, as in handheld thermal cameras
    VISIBLE = "visible"  # what is hot, tinted, on the visible picture


class EdgeOverlayEngine(_ClassicalEngine):
    """Fast overlays for looking at heat with some context: see OverlayBase."""

    _name = "edges"

    def __init__(self, base: OverlayBase = OverlayBase.THERMAL, strength: float = 1.0) -> None:
        """strength: 0 lays over nothing, 1 is the usual, more exaggerates."""
        self._base = OverlayBase(base)
        self._strength = strength

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `fusion_core.engines.engine.FusionEngine.fuse`. Over the thermal picture the result is grey."""
        check_pair(visible, thermal)
        if self._base is OverlayBase.VISIBLE:
            return self._tint_hot(visible, thermal)
        y = luminance(visible)
        around = cv2.GaussianBlur(y, (0, 0), _OUTLINE_SIGMA_PX)
        outlines = cv2.subtract(y, around, dtype=cv2.CV_16S)
        drawn = cv2.addWeighted(thermal, 1.0, outlines, self._strength, 0.0, dtype=cv2.CV_8U)
        return np.asarray(cv2.merge((drawn, drawn, drawn)))

    def _tint_hot(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """Blend towards a warm colour by the level above _HOT_FROM; fixed limits, so that nothing flickers."""
        weight = cv2.cvtColor(cv2.LUT(thermal, _hot_table(self._strength)), cv2.COLOR_GRAY2RGB)
        tint = cv2.LUT(cv2.cvtColor(thermal, cv2.COLOR_GRAY2RGB), _TINT_TABLE)
        kept = cv2.multiply(visible, cv2.bitwise_not(weight), scale=1.0 / 255.0)
        return np.asarray(cv2.add(kept, cv2.multiply(tint, weight, scale=1.0 / 255.0)))


_OUTLINE_SIGMA_PX = 3.0
_HOT_FROM, _HOT_FULL = 144, 232  # thermal levels where the tint sets in and where it is at full strength
_HOT_OPACITY = 0.85
_LEVELS = np.arange(256)
# Dark red over orange to pale yellow, by thermal level; (1, 256, 3).
_TINT_TABLE = np.stack(
    [
        np.interp(_LEVELS, (128, 176, 224, 255), stops)
        for stops in ((96, 224, 255, 255), (0, 64, 176, 248), (0, 0, 16, 200))
    ],
    axis=-1,
)[None].astype(np.uint8)


def _hot_table(strength: float) -> npt.NDArray[np.uint8]:
    opacity = np.clip((_LEVELS - _HOT_FROM) / (_HOT_FULL - _HOT_FROM), 0.0, 1.0) * _HOT_OPACITY * strength
    return np.asarray(np.clip(opacity, 0.0, 1.0) * 255.0 + 0.5, np.uint8)


def fuse_pyramid(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """Fuse two planes by their Laplacian pyramids (Burt and Adelson 1983).

    Each detail coefficient comes from the plane where it is larger in magnitude (of equal ones the visible's); the
    coarsest level is the mean of both. Where the planes are equal the result is exactly that.

    Args:
        visible, thermal: (H, W) uint8.

    Returns:
        (H, W) uint8.
    """
    # Fixed point, so that rounding does not decide which detail is the stronger one; 255 * 2^6 fits into 16 bits.
    visible = np.left_shift(visible, _FIXED_POINT_BITS, dtype=np.int16)
    thermal = np.left_shift(thermal, _FIXED_POINT_BITS, dtype=np.int16)
    details: list[np.ndarray] = []
    while len(details) < _DETAIL_LEVELS and min(visible.shape) > 1:
        visible, visible_detail = _split(visible)
        thermal, thermal_detail = _split(thermal)
        details.append(_stronger(visible_detail, thermal_detail))
    fused = cv2.addWeighted(visible, 0.5, thermal, 0.5, 0.0)
    for detail in reversed(details):
        cv2.add(detail, cv2.pyrUp(fused, dstsize=detail.shape[::-1]), dst=detail)
        fused = detail
    positive = cv2.threshold(fused, 0.0, 0.0, cv2.THRESH_TOZERO)[1]
    return np.asarray(cv2.convertScaleAbs(positive, alpha=0.5**_FIXED_POINT_BITS))  # clips at 255


def _split(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One pyramid step: the plane at half size, and the detail that lacks; both int16."""
    half = cv2.pyrDown(plane)
    return half, cv2.subtract(plane, cv2.pyrUp(half, dstsize=plane.shape[::-1]))


def _stronger(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """Per coefficient the one of larger magnitude. Works in `visible`."""
    mask = cv2.compare(np.abs(thermal), np.abs(visible), cv2.CMP_GT)
    return np.asarray(cv2.copyTo(thermal, mask, visible))
