"""The pure functions beneath the thermal AGC: histograms, tables from counts to levels, damping, detail.

A table (`lut`) is a float32 array with one output level (0..255) for each possible count: 65536 entries for 16-bit
frames, 256 for 8-bit ones. Every table built here is finite and never falls (brighter never means colder); white-hot
or black-hot is the last step. Nothing here keeps state.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "TOP_LEVEL",
    "add_detail",
    "apply_table",
    "changed_fraction",
    "clahe",
    "cumulative_share",
    "damp_table",
    "detail_counts",
    "detail_table",
    "histogram",
    "noise_sigma_counts",
    "percentile_span",
    "plateau_table",
    "sample_index",
    "span_table",
]

TOP_LEVEL = 255.0
_PLATEAU_BINS = 512  # over the scene's span; finer bins only follow the noise
_CHANGE_BINS = 32  # brightness classes in which two histograms are compared
_OPENCV_TAKES_16_BIT = int(cv2.__version__.split(".")[0]) >= 5  # cv2.LUT; older ones take 8-bit pictures only

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


def sample_index(
    height: int,
    width: int,
    roi: tuple[float, float, float, float],
    excluded: npt.NDArray[np.bool_] | None,
    max_samples: int,
) -> npt.NDArray[np.intp]:
    """Flat indices of the pixels whose counts decide about the mapping.

    A regular grid, thinned so that at most about `max_samples` remain; always at least one pixel: where the region
    of interest and the excluded area leave nothing, the whole frame is used.

    Args:
        roi: top, left, height, width as fractions of the frame.
        excluded: (height, width), True = pixel does not count; None = all count.
    """
    use = np.zeros((height, width), dtype=bool)
    top, left = round(roi[0] * height), round(roi[1] * width)
    bottom = max(top + 1, round((roi[0] + roi[2]) * height))
    right = max(left + 1, round((roi[1] + roi[3]) * width))
    use[top:bottom, left:right] = True
    if excluded is not None:
        use &= ~excluded
    if not use.any():
        use[:] = True
    step = max(1, int(np.ceil(np.sqrt(np.count_nonzero(use) / max_samples))))
    grid = np.zeros_like(use)
    grid[::step, ::step] = True
    thinned = use & grid
    return np.flatnonzero(thinned if thinned.any() else use)


def histogram(counts: npt.NDArray[np.integer], size: int) -> npt.NDArray[np.int64]:
    """Count the pixels of each count: (size,) int64. `counts` must not be empty."""
    return np.bincount(counts.ravel(), minlength=size)


def cumulative_share(hist: npt.NDArray[np.integer]) -> Doubles:
    """Share of the pixels at or below each count: (size,) float64, rising to 1."""
    total = np.cumsum(hist)
    return np.asarray(total / total[-1], dtype=np.float64)


def percentile_span(share: Doubles, tail_low_percent: float, tail_high_percent: float) -> tuple[int, int]:
    """Lowest and highest count that matter, the tails left out: low <= high, both counts that really occur."""
    low = int(np.searchsorted(share, tail_low_percent / 100.0, side="right"))
    high = int(np.searchsorted(share, 1.0 - tail_high_percent / 100.0 - 1e-12, side="left"))
    low = min(low, share.size - 1)
    return min(low, high), max(low, min(high, share.size - 1))


def span_table(
    size: int, low: float, high: float, *, max_gain: float | None, mean_count: float, midpoint: float
) -> Floats:
    """The straight line from `low` to `high`.

    Args:
        max_gain: at most this many levels a count (None: no limit). Where it bites, the table does not use the full
            range; `mean_count` then lands on `midpoint`, as far as the range allows.
    """
    gain = TOP_LEVEL / max(high - low, 1e-9)
    if max_gain is not None:
        gain = min(gain, max_gain)
    knots = np.array([low, high], dtype=np.float64)[: 2 if high > low else 1]
    return _place(size, knots, (knots - low) * gain, max_gain, mean_count, midpoint)


def plateau_table(
    hist: npt.NDArray[np.integer],
    low: int,
    high: int,
    *,
    plateau: float,
    linear_share: float,
    max_gain: float,
    midpoint: float,
) -> Floats:
    """Plateau equalization: histogram equalization whose bins are clipped, mixed with a straight line.

    Args:
        hist: (size,) pixels at each count.
        low, high: the span that is mapped; outside it the table is flat.
        plateau: a bin counts at most this many times the mean bin; 1 is nearly linear, large is plain equalization.
        linear_share: 0..1, share of the range that is given to the straight line.
        max_gain: most levels a count; where it bites, the picture's mean goes to `midpoint`.
    """
    span = high - low
    inside = hist[low : high + 1]
    total = float(inside.sum())
    mean_count = float(np.dot(inside, np.arange(low, high + 1)) / total)
    if span == 0:
        return _place(hist.size, np.array([float(low)]), np.array([0.0]), max_gain, mean_count, midpoint)
    bins = min(_PLATEAU_BINS, span)
    # Edges at whole counts, so that no pixel is split; the first pixel level opens the range at 0.
    edges = np.unique(np.rint(np.linspace(0, span, bins + 1)).astype(np.int64))
    cumulative = np.cumsum(inside, dtype=np.float64)
    widths = np.diff(edges).astype(np.float64)
    # Half of a count's pixels lie below it: the level of a count is its mid-rank.
    rank = cumulative - 0.5 * inside
    mass = np.maximum(np.diff(rank[edges]), 0.0)
    clipped = np.minimum(mass, plateau * total * widths / span)
    clipped_sum = float(clipped.sum())
    share = widths / span
    if clipped_sum > 0.0:
        share = linear_share * share + (1.0 - linear_share) * clipped / clipped_sum
    steps = np.minimum(TOP_LEVEL * share, max_gain * widths)
    levels = np.concatenate(([0.0], np.cumsum(steps)))
    return _place(hist.size, edges.astype(np.float64) + low, levels, max_gain, mean_count, midpoint)


def _place(
    size: int, knots: Doubles, levels: Doubles, max_gain: float | None, mean_count: float, midpoint: float
) -> Floats:
    """The table through (knots, levels).

    Where the gain limit left part of the range unused, the levels are shifted until `mean_count` is near `midpoint`,
    and the table goes on to both ends of the range at the greatest gain: what enters colder or hotter than anything
    before is seen in its first frame.
    """
    spare = max(0.0, TOP_LEVEL - float(levels[-1]))
    levels = levels + min(max(midpoint - float(np.interp(mean_count, knots, levels)), 0.0), spare)
    if max_gain is not None and spare > 0.0:
        below, above = float(levels[0]) / max_gain, (TOP_LEVEL - float(levels[-1])) / max_gain
        knots = np.concatenate(([knots[0] - below - 1e-6], knots, [knots[-1] + above + 1e-6]))
        levels = np.concatenate(([0.0], levels, [TOP_LEVEL]))
    first, last = max(0, math.floor(knots[0])), min(size - 1, math.ceil(knots[-1]))
    table = np.empty(size, dtype=np.float32)
    table[:first] = levels[0]
    table[last + 1 :] = levels[-1]
    table[first : last + 1] = np.interp(np.arange(first, last + 1), knots, levels)
    return np.clip(table, 0.0, TOP_LEVEL, out=table)


def damp_table(current: Floats, target: Floats, share: float, max_step_levels: float) -> Floats:
    """Move from `current` towards `target`: `share` of the way, at most `max_step_levels` anywhere.

    Rising tables stay rising: the result is, at each count, the median of three rising tables.
    """
    step = (target - current) * np.float32(share)
    np.clip(step, -max_step_levels, max_step_levels, out=step)
    return current + step


def changed_fraction(reference_share: Doubles, now_share: Doubles, table: Floats) -> float:
    """Which fraction of the pixels moved to another brightness class (0..1), as the present table shows them.

    The total variation distance of the two histograms over 32 classes of the output.
    """
    level_edges = np.linspace(0.0, TOP_LEVEL, _CHANGE_BINS + 1)[1:-1]
    first_above = np.searchsorted(table, level_edges.astype(np.float32), side="right")
    below = np.maximum(first_above - 1, 0)
    some = first_above > 0
    reference = np.diff(np.concatenate(([0.0], reference_share[below] * some, [1.0])))
    now = np.diff(np.concatenate(([0.0], now_share[below] * some, [1.0])))
    return float(0.5 * np.abs(reference - now).sum())


def rounded_table(table: Floats, *, black_hot: bool) -> Bytes:
    """The level of each count, uint8."""
    rounded = np.rint(table).astype(np.uint8)
    return np.subtract(255, rounded) if black_hot else rounded


def apply_table(counts: npt.NDArray[np.integer], table: Floats, *, black_hot: bool) -> Bytes:
    """(H, W) counts through the table, rounded: (H, W) uint8."""
    rounded = rounded_table(table, black_hot=black_hot)
    if _OPENCV_TAKES_16_BIT and counts.dtype == np.uint16:
        return np.asarray(cv2.LUT(counts, rounded.reshape(1, -1)), dtype=np.uint8)  # less than half the time of take
    return np.take(rounded, counts)


def clahe(levels: Bytes, equalizer: cv2.CLAHE) -> Bytes:
    """Contrast-limited adaptive equalization of an 8-bit picture: (H, W) uint8, a new array.

    Frames too small for two pixels a tile come back as they are. `equalizer` keeps buffers: one owner thread.
    """
    height, width = levels.shape
    tiles_x, tiles_y = equalizer.getTilesGridSize()
    if height < 2 * tiles_y or width < 2 * tiles_x:
        return levels
    return np.asarray(equalizer.apply(levels), dtype=np.uint8)


def detail_counts(counts: npt.NDArray[np.integer], radius_px: int) -> npt.NDArray[np.int16]:
    """The detail layer: counts minus their local mean over (2 radius + 1)^2 pixels, (H, W) int16, saturated."""
    side = 2 * radius_px + 1
    mean = cv2.blur(counts, (side, side), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.subtract(counts, mean, dtype=cv2.CV_16S), dtype=np.int16)


def noise_sigma_counts(detail: npt.NDArray[np.int16], index: npt.NDArray[np.intp]) -> float:
    """Robust standard deviation of the detail layer (counts): 1.4826 x median absolute value of sampled pixels.

    The median is interpolated within a count, so that noise of less than a count is told apart from none.
    """
    thinned = index[:: max(1, index.size // 10_000)]
    share = cumulative_share(np.bincount(np.abs(detail.ravel()[thinned].astype(np.int32))))
    at = int(np.searchsorted(share, 0.5))
    below = float(share[at - 1]) if at else 0.0
    start, width = (at - 0.5, 1.0) if at else (0.0, 0.5)  # |0| stands for 0 to a half
    if at == 0 and share[0] == 1.0:
        return 0.0
    return 1.4826 * (start + width * (0.5 - below) / (float(share[at]) - below))


def detail_table(floor_counts: float, gain: float, limit_levels: float) -> npt.NDArray[np.int16]:
    """Levels to add for each detail count: entry 32768 + d for d counts, (65536,) int16.

    Nothing up to `floor_counts`; beyond it `gain` levels a count, at most `limit_levels`.
    """
    detail = np.arange(-32768, 32768, dtype=np.float32)
    beyond = np.sign(detail) * np.maximum(np.abs(detail) - np.float32(floor_counts), 0.0)
    return np.rint(np.clip(beyond * np.float32(gain), -limit_levels, limit_levels)).astype(np.int16)


def add_detail(levels: Bytes, detail: npt.NDArray[np.int16], table: npt.NDArray[np.int16]) -> Bytes:
    """The picture with its detail lifted, saturated to 0..255: (H, W) uint8, a new array."""
    wrapped = np.roll(table, -32768)  # so that the bits of a negative count find its entry
    bits = detail.view(np.uint16)
    if _OPENCV_TAKES_16_BIT:
        lifted = cv2.LUT(bits, wrapped.reshape(1, -1))
    else:
        lifted = np.take(wrapped, bits)
    return np.asarray(cv2.add(levels, lifted, dtype=cv2.CV_8U), dtype=np.uint8)
