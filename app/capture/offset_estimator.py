"""Finds the constant time offset between the two cameras from what moves: both see motion begin, grow and end.

Each stream gives curves of motion energy (how much each tile of the picture changes from frame to frame); the offset is
the shift at which the curves of both agree best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from scipy.ndimage import uniform_filter1d

from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, FrameFlag, Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MotionCurve", "OffsetEstimate", "OffsetEstimator", "estimate_offset", "frame_energy"]

_GRID: Final = (12, 16)  # (rows, columns) of tiles whose changes are followed one by one
_STEP_S: Final = 0.005
_LEAST_S: Final = 5.0
_TREND_S: Final = 0.6  # slower changes of a tile's motion tell nothing exact about time
_TILE_CORRELATION: Final = 0.4
_LEAST_TILES: Final = 4
_BLOCK: Final = (3, 4)  # tiles whose votes are left out at a time, to see how much hangs on them
_SURE_SIGMA_MS: Final = 5.0


@dataclass(frozen=True, slots=True)
class MotionCurve:
    """Motion of one stream. times_ns: (N,) int64, the middle between two frames; energy: (N, tiles) float64, >= 0."""

    times_ns: NDArray[np.int64]
    energy: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OffsetEstimate:
    """offset_ms: add it to the visible stamps (or take it from the thermal ones) and the two streams agree.

    correlation: of the two motion curves there, 1 = identical. sigma_ms: how exactly it is known (1 sigma), from how
    much it changes when parts of the picture are left out. sure: whether the figure can be trusted; `why_not` says
    what was missing (nothing moved, motion of one period, the peak at the end of the range, the places disagree).
    """

    offset_ms: float
    correlation: float
    sure: bool
    why_not: str = ""
    sigma_ms: float = np.inf


def frame_energy(previous: np.ndarray, current: np.ndarray) -> NDArray[np.float64]:
    """How much each tile of the picture changed between two frames of one camera: (tiles,) float64.

    Pictures are (H, W) or (H, W, 3) of any depth. They are made small and grey first, so that noise averages out; a
    change of the whole picture's level (exposure, drift) is taken off.
    """
    small = [_small(picture) for picture in (previous, current)]
    change = small[1] - small[0]
    change -= np.median(change)
    tiles = cv2.resize(np.abs(change), (_GRID[1], _GRID[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(tiles, np.float64).ravel()


def _small(picture: np.ndarray) -> NDArray[np.float32]:
    grey = picture.mean(axis=2, dtype=np.float32) if picture.ndim == 3 else picture.astype(np.float32)
    size = (_GRID[1] * 8, _GRID[0] * 8)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def estimate_offset(visible: MotionCurve, thermal: MotionCurve, max_offset_ms: float = 250.0) -> OffsetEstimate:
    """The shift of the visible stamps at which the motion of both streams, tile by tile, agrees best.

    Raises:
        BadInputError: fewer than ten frames of a stream, or less than five seconds in common.
    """
    if min(visible.times_ns.size, thermal.times_ns.size) < 10:
        raise BadInputError("the offset needs at least ten frames of each camera, better 20 s of a moving scene")
    reach_s = max_offset_ms / 1e3
    zero_ns = max(int(visible.times_ns[0]), int(thermal.times_ns[0]))
    span_s = (min(int(visible.times_ns[-1]), int(thermal.times_ns[-1])) - zero_ns) / 1e9
    if span_s < _LEAST_S:
        raise BadInputError(f"the two streams have {span_s:.1f} s in common, at least {_LEAST_S:g} s are needed")
    grid_s = np.arange(0.0, span_s, _STEP_S)
    periods_s = [float(np.median(np.diff(curve.times_ns))) / 1e9 for curve in (visible, thermal)]
    seen, warm = (_resample(curve, zero_ns, grid_s, max(periods_s)) for curve in (visible, thermal))
    power = np.sqrt((seen**2).sum(axis=0) * (warm**2).sum(axis=0))
    reach = round(reach_s / _STEP_S)
    size = 1 << (grid_s.size + reach - 1).bit_length()
    spectrum = np.fft.rfft(warm, size, axis=0) * np.conj(np.fft.rfft(seen, size, axis=0))
    lags = np.arange(-reach, reach + 1)
    by_tile = np.fft.irfft(spectrum, size, axis=0)[lags] / np.maximum(power, 1e-12)  # (lags, tiles), -1..1
    # Every tile that agrees between both pictures has one vote: weighted by motion, one large near figure, whose
    # visible legs and warm face cross a tile at different times, would pull the result by 10 ms.
    voting = (by_tile.max(axis=0) > _TILE_CORRELATION) & (power > 0)
    if int(voting.sum()) < _LEAST_TILES:
        return OffsetEstimate(0.0, 0.0, False, "too little moved in both pictures; let something warm cross them")
    curve = by_tile[:, voting].mean(axis=1)  # [k]: visible moved later by lags[k] steps against thermal
    peak = int(np.argmax(curve))
    correlation = float(curve[peak])
    if peak in (0, lags.size - 1):
        return OffsetEstimate(float(lags[peak] * _STEP_S * 1e3), correlation, False, "the offset is out of range")
    offset_ms = _peak_ms(curve, max(periods_s))
    sigma_ms = _sigma_ms(by_tile, voting, max(periods_s))
    why_not = ""
    if correlation < 0.25:
        why_not = "the places do not agree on one offset; let something warm cross both pictures several times"
    elif sigma_ms > _SURE_SIGMA_MS:
        why_not = (
            f"the places agree to {sigma_ms:.0f} ms only: what moves is so near that the cameras see it at different"
            " places; let it move farther away, or capture a calibration board, which measures the offset as well"
        )
    else:
        away = np.abs(lags - lags[peak]) * _STEP_S > max(0.12, 1.5 * max(periods_s))
        if away.any() and float(curve[away].max()) > 0.9 * correlation:
            why_not = "the motion repeats itself, several offsets fit; move irregularly"
    return OffsetEstimate(offset_ms, correlation, not why_not, why_not, sigma_ms)


def _peak_ms(curve: NDArray[np.float64], slowest_s: float) -> float:
    """Where a curve of correlation over lags (2 reach + 1,) is highest, by a parabola, ms."""
    reach, peak = curve.size // 2, int(np.argmax(curve))
    width = max(2, round(0.25 * slowest_s / _STEP_S))
    near = slice(max(0, peak - width), min(curve.size, peak + width + 1))
    a, b, _ = np.polyfit(np.arange(-reach, reach + 1)[near] * _STEP_S * 1e3, curve[near], 2)
    return float(-b / (2 * a)) if a < 0 else float((peak - reach) * _STEP_S * 1e3)


def _sigma_ms(by_tile: NDArray[np.float64], voting: NDArray[np.bool_], slowest_s: float) -> float:
    """Jackknife over blocks of neighbouring tiles: what is near moves at other places in the other picture, and its
    tiles, each sure of itself, vote for different offsets."""
    tiles = np.flatnonzero(voting)
    row, column = np.divmod(tiles, _GRID[1])
    block = row // _BLOCK[0] * _GRID[1] + column // _BLOCK[1]
    rests = [tiles[block != number] for number in np.unique(block)]
    found = [_peak_ms(by_tile[:, rest].mean(axis=1), slowest_s) for rest in rests if rest.size >= _LEAST_TILES]
    if len(found) < 2:
        return np.inf
    return float(np.sqrt((len(found) - 1) * np.var(found)))


def _resample(curve: MotionCurve, zero_ns: int, grid_s: NDArray[np.float64], slowest_s: float) -> NDArray[np.float64]:
    """Motion on a common fine grid, (time, tiles), smoothed to the slower stream's rate, without its slow trend."""
    times_s = (curve.times_ns - zero_ns) / 1e9
    energy = curve.energy
    fine = np.stack([np.interp(grid_s, times_s, energy[:, tile]) for tile in range(energy.shape[1])], axis=1)
    smooth, trend = fine, fine
    for _ in range(3):  # three running means are nearly a Gaussian, at a cost that does not grow with their length
        smooth = uniform_filter1d(smooth, max(1, round(slowest_s / _STEP_S)), axis=0, mode="nearest")
        trend = uniform_filter1d(trend, round(_TREND_S / _STEP_S), axis=0, mode="nearest")
    return np.asarray(smooth - trend, np.float64)


class OffsetEstimator:
    """Collects motion from the frames of both cameras, in any interleaving, and estimates from what it has.

    Frames that the shutter spoils (flag FFC) are left out. Not thread-safe: feed it from one thread.
    """

    def __init__(self) -> None:
        self._last: dict[Stream, Frame] = {}
        self._times: dict[Stream, list[int]] = {stream: [] for stream in Stream}
        self._energies: dict[Stream, list[NDArray[np.float64]]] = {stream: [] for stream in Stream}

    def add(self, frame: Frame) -> None:
        """Take the next frame of its stream."""
        last = self._last.get(frame.stream)
        if frame.flags & FrameFlag.FFC:
            self._last.pop(frame.stream, None)
            return
        self._last[frame.stream] = frame
        if last is None or last.pixels.shape != frame.pixels.shape or frame.timestamp_ns <= last.timestamp_ns:
            return
        step_ns = frame.timestamp_ns - last.timestamp_ns
        self._times[frame.stream].append(last.timestamp_ns + step_ns // 2)
        self._energies[frame.stream].append(frame_energy(last.pixels, frame.pixels) * (1e8 / step_ns))

    def estimate(self, max_offset_ms: float = 250.0) -> OffsetEstimate:
        """As `estimate_offset`, from all frames so far."""
        curves = []
        for stream in (Stream.VISIBLE, Stream.THERMAL):
            times = np.asarray(self._times[stream], np.int64)
            energies = self._energies[stream] or [np.zeros(_GRID[0] * _GRID[1])]
            curves.append(MotionCurve(times, np.stack(energies)))
        return estimate_offset(curves[0], curves[1], max_offset_ms)
