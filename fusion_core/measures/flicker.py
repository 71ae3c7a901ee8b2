"""The flicker measure: change over time in a fused video that neither source accounts for.

A fused picture must change where a source changes, and may change by as much as both together; anything beyond comes
from the fusion itself: a picture stretched to its own minimum and maximum, a choice between the sources that flips, an
alignment that jumps. So between two frames, with d the change of the mean level of an 8x8 cell,

    lower <= d fused <= upper,   upper = max(d visible, 0) + max(d thermal, 0),   lower = min(..., 0) + min(..., 0),

with upper and lower taken over the cell and its eight neighbours, since fusing may spread a change by a few
pixels. What lies outside is unexplained. Cells rather than pixels, so that sensor noise averages out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.colour import luminance
from fusion_core.errors import BadInputError

__all__ = ["FlickerMeter", "FlickerResult", "measure_flicker"]

_CELL_PX = 8
_STATIC_LEVELS = 1.5  # a cell whose mean changes by less in both sources belongs to the background of this step

Cells = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FlickerResult:
    """All levels on the 0..255 scale; NaN where nothing could be measured.

    unexplained_levels: root mean square of the unexplained change from frame to frame, over all cells and steps.
    unexplained_share: that against the root mean square of all change in the fused video, 0..1.
    background_sigma_levels: standard deviation of the level of the background (cells that are static in both sources)
        from frame to frame. Levels that drift slowly are no flicker and hardly count.
    worst_step: index of the frame at which the unexplained change was largest, -1 without one.
    static_share: mean share of cells that were background, 0..1.
    frames: how many frames were seen.
    """

    unexplained_levels: float
    unexplained_share: float
    background_sigma_levels: float
    worst_step: int
    static_share: float
    frames: int


class FlickerMeter:
    """Takes the frames of one video as they come; keeps one frame of cells, so any length will do. One owner thread."""

    def __init__(self) -> None:
        self._last: tuple[Cells, Cells, Cells] | None = None
        self._size: tuple[int, ...] = ()
        self._frames = 0
        self._steps = 0
        self._unexplained = self._changed = 0.0  # sums over steps of the mean squares
        self._worst, self._worst_step = 0.0, -1
        self._background: list[float] = []
        self._static = 0.0

    def add(self, fused: np.ndarray, visible: np.ndarray, thermal: np.ndarray) -> None:
        """Take one more frame.

        Args:
            fused, visible: (H, W, 3) RGB or (H, W), uint8. thermal: (H, W) uint8, on the visible grid and after the
                AGC, as it was fused: otherwise the AGC's own changes count as the fusion's.

        Raises:
            BadInputError: shapes that differ among the three or from the frames before, or a side under 8 px.
        """
        planes = tuple(luminance(picture) for picture in (fused, visible, thermal))
        size = planes[0].shape
        if any(plane.shape != size for plane in planes) or min(size) < _CELL_PX or (self._size and size != self._size):
            shapes = ", ".join(str(plane.shape) for plane in planes)
            before = f", the frames before were {self._size}" if self._size else ""
            raise BadInputError(
                f"fused, visible and thermal are {shapes} (height, width){before}; "
                f"all must have one size of at least {_CELL_PX}x{_CELL_PX}"
            )
        self._size = size
        cells = (_cells(planes[0]), _cells(planes[1]), _cells(planes[2]))
        if self._last is not None:
            self._step(*(now - before for now, before in zip(cells, self._last, strict=True)))
        self._last = cells
        self._frames += 1

    def _step(self, fused: Cells, visible: Cells, thermal: Cells) -> None:
        neighbours = np.ones((3, 3), np.uint8)
        upper = cv2.dilate(np.maximum(visible, 0) + np.maximum(thermal, 0), neighbours)
        lower = cv2.erode(np.minimum(visible, 0) + np.minimum(thermal, 0), neighbours)
        unexplained = float(np.mean((fused - np.clip(fused, lower, upper)) ** 2))
        self._unexplained += unexplained
        self._changed += float(np.mean(fused**2))
        self._steps += 1
        if unexplained > self._worst:
            self._worst, self._worst_step = unexplained, self._frames
        static = (np.abs(visible) < _STATIC_LEVELS) & (np.abs(thermal) < _STATIC_LEVELS)
        self._static += float(static.mean())
        if static.any():
            changes = [float(change[static].mean()) for change in (visible, thermal)]
            change = float(fused[static].mean())
            explained = min(max(change, sum(min(c, 0.0) for c in changes)), sum(max(c, 0.0) for c in changes))
            self._background.append(change - explained)

    def result(self) -> FlickerResult:
        """What was measured so far."""
        nan = float("nan")
        if not self._steps:
            return FlickerResult(nan, nan, nan, -1, nan, self._frames)
        # The difference of two independent levels has twice their variance.
        sigma = float(np.sqrt(np.mean(np.square(self._background)) / 2.0)) if self._background else nan
        return FlickerResult(
            unexplained_levels=float(np.sqrt(self._unexplained / self._steps)),
            unexplained_share=float(np.sqrt(self._unexplained / self._changed)) if self._changed > 0.0 else 0.0,
            background_sigma_levels=sigma,
            worst_step=self._worst_step,
            static_share=self._static / self._steps,
            frames=self._frames,
        )


def measure_flicker(frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> FlickerResult:
    """Measure a whole video, given as (fused, visible, thermal) frame by frame; see FlickerMeter.add."""
    meter = FlickerMeter()
    for fused, visible, thermal in frames:
        meter.add(fused, visible, thermal)
    return meter.result()


def _cells(plane: np.ndarray) -> Cells:
    """Mean levels of the 8x8 cells that lie fully inside, float32."""
    rows, columns = plane.shape[0] // _CELL_PX, plane.shape[1] // _CELL_PX
    inside = plane[: rows * _CELL_PX, : columns * _CELL_PX].astype(np.float32)
    return np.asarray(cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
