"""Pixel alignment of thermal pictures that already lie within a few pixels of the visible ones.

A training target must be registered to the pixel (Section 4.1 of the paper), which a calibration alone is not: it is
off by a little everywhere, and near and far things are off by parallax. Two steps:

1. `BaseAlignment`: the part that a session has in common, an affine field, from correlations summed over frames.
2. `align_pixels`: each place of one picture gets its own displacement on top. Gradients of both spectra, normalised
   against their surroundings and with their orientation, are correlated over all small displacements in a window
   around each cell; neighbouring cells are then decided together (semi-global matching over eight directions), so that
   cells without structure follow those that have some. Parallax lies along the baseline: across it, displacements cost.

Sign, as in `fusion_core.training.registration`: the thermal content of visible pixel p lies at p + d(p).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.cross_spectral import OutlineForm, correlation_volume, gaussian_mean, oriented_outlines, parabola_peak
from fusion_core.errors import BadInputError

__all__ = ["BaseAlignment", "PixelAlignment", "Residuals", "align_pixels", "linear_levels", "warp_by"]

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
UIntArray = npt.NDArray[np.unsignedinteger[Any]]  # uint8, or uint16 with 256 a level

_WORKING_WIDTH = 640
_MIN_SIDE_PX = 96
_BASE_CELL_PX = 16
_BASE_WINDOW_PX = 32.0  # sigma
_BASE_SMOOTHNESS = (0.05, 0.2)
_CELL_PX = 8
_WINDOWS = (
    6.0,
    14.0,
)  # sigma, in thermal pixels: the small one for what is near an outline, the large one for the rest
_SMOOTHNESS = (0.2, 0.65)  # cost of one pixel between neighbouring cells, and of any jump at most
_ACROSS_BASELINE = 0.04  # cost of a pixel at right angles to the baseline
_FROM_BASE = 0.0005  # cost of a departure of 1 px from the base, growing with its square
_OUTLINES = OutlineForm(
    smoothing_px=1.0, kernel="scharr", local_mean=gaussian_mean(6.0), root=True, variance_floor=0.05, flat=1e-3
)
_CHECK_WINDOW_PX = 12.0
_CHECK_RADIUS = 4
_MIN_STRUCTURE = 0.5  # of the mean: cells that may judge
_MIN_PEAK, _MIN_LEAD = 0.25, 0.01
_CHANGE_CELLS = 7
_EXPECTED = (1.03, 0.12, 0.3)  # see Residuals
_PRICE_OF_CHANGE = 4


@dataclass(frozen=True, slots=True)
class Residuals:
    """Of a picture, px: median and 95th percentile as measured, and the 95th percentile to be expected of the truth.

    The measurement sees little of the outlines of near things, where two displacements lie side by side and errors are
    largest. Against the simulation's truth the 95th percentile was that of the measured residual and of 0.3 of the
    field's change around, put together, times 1.15 where a thermal pixel is one of the grid, 1.3 at 2 and 1.5 at 4
    (correlation over pairs 0.72, 0.96 and 0.62).
    """

    median_px: float
    p95_px: float
    expected_p95_px: float


@dataclass(frozen=True, slots=True, eq=False)
class PixelAlignment:
    """One pair's displacement and how well it fits.

    field_px: (H, W, 2) float32 (x, y). correlation: mean of the local correlations after alignment, where there is
    structure. residual_px: (gh, gw), length of what is left in each cell, measured again on the aligned picture; NaN
    where there is too little structure in either spectrum to judge. departure_px: (gh, gw), how far the field is from
    the base it started from. change_px: (gh, gw), how much the field changes within 28 px around.
    pitch_px: size of a thermal pixel on this grid.
    """

    field_px: FloatArray
    correlation: float
    residual_px: FloatArray
    departure_px: FloatArray
    change_px: FloatArray
    pitch_px: float = 1.0

    @property
    def judged(self) -> float:
        """Share of the picture that can be judged."""
        return float(np.isfinite(self.residual_px).mean())

    def residuals(self, part: tuple[slice, slice] | None = None) -> Residuals:
        """What is left in a part of the picture (rows, columns in pixels), or in all of it; NaN where nothing in it
        can be judged."""
        left, change = self.residual_px, self.change_px
        if part is not None:
            cells = tuple(
                slice(round(edges.start * count / size), max(1, round(edges.stop * count / size)))
                for edges, count, size in zip(part, left.shape, self.field_px.shape, strict=False)
            )
            left, change = left[cells], change[cells]
        known = np.isfinite(left)
        if not known.any():
            return Residuals(float("nan"), float("nan"), float("nan"))
        factor = _EXPECTED[0] + _EXPECTED[1] * min(max(self.pitch_px, 1.0), 6.0)
        likely = factor * np.hypot(left[known], _EXPECTED[2] * change[known])
        return Residuals(
            float(np.median(left[known])), float(np.percentile(left[known], 95)), float(np.percentile(likely, 95))
        )

    def best_part(
        self,
        *,
        departure_px: float,
        residual_px: float,
        change_px: float,
        max_bad: float,
        min_side: float,
        min_judged: float,
    ) -> tuple[slice, slice] | None:
        """The largest rectangle (rows, columns in pixels, multiples of 8) that is aligned well enough.

        A cell is bad where the field departs from the base by more than `departure_px` (a near thing, whose outline
        the cells cannot follow, or a wrong match) or more than `residual_px` is left. Cells where the field changes by
        more than `change_px` lie about outlines with parallax, where errors are largest: each is worth losing
        four others.

        Args:
            max_bad: largest share of bad cells in the rectangle.
            min_side: smallest side, as a share of the picture's.
            min_judged: smallest share of cells in the rectangle that can be judged.

        Returns:
            None if there is none.
        """
        known = np.isfinite(self.residual_px)
        bad = (self.departure_px > departure_px) | (known & (self.residual_px > residual_px))
        rows, columns = known.shape
        masks = (known, bad, self.change_px > change_px)
        sums = [np.pad(m.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0))) for m in masks]
        steps_y = np.unique(np.linspace(0, rows, 13).astype(int))
        steps_x = np.unique(np.linspace(0, columns, 17).astype(int))
        best: tuple[int, tuple[int, int, int, int]] | None = None
        for top in steps_y:
            for bottom in steps_y[steps_y >= top + min_side * rows]:
                for left in steps_x:
                    for right in steps_x[steps_x >= left + min_side * columns]:
                        area = int((bottom - top) * (right - left))
                        if best is not None and area <= best[0]:
                            continue
                        judged, off, changing = (
                            int(s[bottom, right] - s[top, right] - s[bottom, left] + s[top, left]) for s in sums
                        )
                        worth = area - _PRICE_OF_CHANGE * changing
                        if judged >= area * min_judged and off <= max_bad * area and (best is None or worth > best[0]):
                            best = (worth, (int(top), int(bottom), int(left), int(right)))
        if best is None:
            return None
        top, bottom, left, right = best[1]
        height, width = self.field_px.shape[:2]
        y = [round(edge * height / rows / 8) * 8 for edge in (top, bottom)]
        x = [round(edge * width / columns / 8) * 8 for edge in (left, right)]
        return slice(y[0], min(y[1], height // 8 * 8)), slice(x[0], min(x[1], width // 8 * 8))


class BaseAlignment:
    """The displacement that all pictures of a session have in common: an affine field. Add frames, then ask.

    Args:
        size: (height, width) of the visible grid.
        search_px: largest displacement looked for, each axis.

    Raises:
        BadInputError: the pictures are too small.
    """

    def __init__(self, size: tuple[int, int], *, search_px: float = 12.0) -> None:
        if min(size) < _MIN_SIDE_PX:
            raise BadInputError(
                f"pictures of {size[1]}x{size[0]} are too small to be aligned to the pixel, "
                f"must be {_MIN_SIDE_PX} a side at least"
            )
        self._size = size
        self._scale = max(2.0, 2.0 * size[1] / _WORKING_WIDTH)
        self._radius = max(2, int(np.ceil(search_px / self._scale)))
        self._sum: _Volume | None = None
        self.frames = 0

    def add(self, visible: UInt8Array, thermal: UIntArray) -> None:
        """Take in one pair: (H, W) luminance and thermal on the visible grid, see `linear_levels`."""
        volume = _volume(
            _reduced(visible, self._scale), _reduced(thermal, self._scale), self._radius, self._radius,
            _BASE_WINDOW_PX / 2, _BASE_CELL_PX // 2,
        )  # fmt: skip
        if self._sum is None:
            self._sum = volume
        else:
            self._sum.product += volume.product
            self._sum.visible += volume.visible
            self._sum.thermal += volume.thermal
        self.frames += 1

    def solve(self, *, square: bool = False) -> tuple[FloatArray, bool | None]:
        """(H, W, 2) float32 field, and the direction of the parallax on top of it: True across (x), False down (y),
        None where the frames do not tell. A field of zeros without frames.

        Args:
            square: both cameras' pixels have one shape on this grid, so that a wrong scale is the same both ways. It
                is then taken from the width: down the picture sky, walls and ground follow each other, each with an
                edge where it begins, and a scale found there was wrong by up to 0.6 %.
        """
        height, width = self._size
        if self._sum is None:
            return np.zeros((height, width, 2), np.float32), None
        score, weight = self._sum.score(), self._sum.weight()
        cells = _winner(_match(-score * weight, *_BASE_SMOOTHNESS)) * np.float32(self._scale)
        coefficients, off = _affine(cells, weight)
        if square:
            scale_too_much = coefficients[2, 1] - coefficients[1, 0] * height / width
            coefficients[2, 1] -= scale_too_much
            off[..., 1] += scale_too_much * ((np.arange(len(off), dtype=np.float32) + 0.5) / len(off) - 0.5)[:, None]
        x = ((np.arange(width, dtype=np.float32) + 0.5) / width - 0.5)[None, :, None]
        y = ((np.arange(height, dtype=np.float32) + 0.5) / height - 0.5)[:, None, None]
        field = coefficients[0] + x * coefficients[1] + y * coefficients[2]
        total = float(weight.sum())
        spread = np.sqrt((np.minimum(off**2, 16.0) * weight[..., None]).sum((0, 1)) / max(total, 1e-9))
        across = None if max(spread) < 1.3 * min(spread) else bool(spread[0] > spread[1])
        return field.astype(np.float32), across


def align_pixels(
    visible: UInt8Array,
    thermal: UIntArray,
    base_px: FloatArray,
    *,
    across: bool | None = None,
    parallax_px: float = 6.0,
    pitch_px: float = 1.0,
) -> PixelAlignment:
    """Find each place's displacement around `base_px`.

    Args:
        visible, thermal: (H, W) luminance and thermal on the visible grid, see `linear_levels`.
        base_px: (H, W, 2) field to start from.
        across: True when the baseline is horizontal, so that parallax is too; False vertical; None unknown.
        parallax_px: largest departure from the base along the baseline.
        pitch_px: size of a thermal pixel on this grid, 1 or more. Larger pixels spread the camera's noise: all windows
            grow, the one that judges with the pixel, or what it measures is that noise and not the residual.
    """
    height, width = visible.shape
    check_window_px = _CHECK_WINDOW_PX * max(1.0, pitch_px)
    scale = max(1.0, width / _WORKING_WIDTH)
    v = _reduced(visible, scale)
    reach = max(1, int(np.ceil(parallax_px / scale)))
    reach_x = reach if across is not False else 1
    reach_y = reach if across is not True else 1
    t = _reduced(warp_by(thermal, base_px), scale)
    volumes = (_volume(v, t, reach_x, reach_y, window * max(1.0, pitch_px), _CELL_PX) for window in _WINDOWS)
    cost = np.mean([-volume.score() * volume.weight() for volume in volumes], axis=0)
    for axis, along in ((1, across is not False), (0, across is not True)):
        steps = np.arange(cost.shape[axis], dtype=np.float32) - cost.shape[axis] // 2
        prior = np.float32(_FROM_BASE) * (scale * steps) ** 2 if along else np.float32(_ACROSS_BASELINE) * np.abs(steps)
        cost += prior[None, :, None, None] if axis else prior[:, None, None, None]
    cells = _winner(_match(cost, *_SMOOTHNESS)) * np.float32(scale)
    smooth = cv2.GaussianBlur(cells, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    field = base_px + np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    check = _volume(
        v, _reduced(warp_by(thermal, field), scale), _CHECK_RADIUS, _CHECK_RADIUS, check_window_px, _CELL_PX
    )
    correlation, residual = _judge(check, scale, _MIN_PEAK / ((1.0 + pitch_px) / 2.0) ** 0.5)
    departure = np.linalg.norm(smooth, axis=-1).astype(np.float32)
    around = np.ones((_CHANGE_CELLS, _CHANGE_CELLS), np.uint8)
    rows, columns = departure.shape
    cells_px = cv2.resize(field, (columns, rows), interpolation=cv2.INTER_AREA)
    change = np.linalg.norm(cv2.dilate(cells_px, around) - cv2.erode(cells_px, around), axis=-1).astype(np.float32)
    return PixelAlignment(field, correlation, residual, departure, change, pitch_px)


def linear_levels(counts: UIntArray) -> npt.NDArray[np.uint16]:
    """A thermal picture to align by: counts stretched to 16 bits, 256 a level, without the steps of an AGC.

    An AGC that equalises makes more of the noise of even surfaces, and moves a blurred edge towards the side that it
    stretches. (H, W) to (H, W) uint16; the lowest and highest thousandth are clipped.
    """
    low, high = np.percentile(counts, (0.1, 99.9))
    levels = (counts.astype(np.float32) - np.float32(low)) * np.float32(65280.0 / max(float(high - low), 1.0))
    return np.asarray(np.clip(np.rint(levels), 0, 65280), np.uint16)


def warp_by(picture: UIntArray, field_px: FloatArray) -> UIntArray:
    """The picture sampled at p + d(p): (H, W), same dtype; borders mirrored."""
    height, width = picture.shape
    x = np.arange(width, dtype=np.float32)[None, :] + field_px[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field_px[..., 1]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), picture.dtype)


# ---- correlation


@dataclass(slots=True, eq=False)
class _Volume:
    """Windowed sums per displacement (ny, nx) and cell (gh, gw): products, and the energies of both pictures."""

    product: FloatArray  # (ny, nx, gh, gw)
    thermal: FloatArray  # (ny, nx, gh, gw)
    visible: FloatArray  # (gh, gw)

    def score(self) -> FloatArray:
        """Normalised correlation, (ny, nx, gh, gw)."""
        return np.asarray(self.product / np.sqrt(self.visible * self.thermal + np.float32(1e-3)), np.float32)

    def structure(self) -> FloatArray:
        """(gh, gw) geometric mean of the energies: how much there is to go by in both spectra."""
        ny, nx = self.thermal.shape[:2]
        return np.asarray(np.sqrt(self.visible * self.thermal[ny // 2, nx // 2]), np.float32)

    def weight(self) -> FloatArray:
        """(gh, gw) 0..1: a cell's say against its neighbours'."""
        structure = self.structure()
        return np.asarray(structure / (structure + 0.25 * structure.mean() + 1e-9), np.float32)


def _reduced(picture: UIntArray, scale: float) -> UIntArray:
    if scale <= 1.0:
        return picture
    size = (round(picture.shape[1] / scale), round(picture.shape[0] / scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), picture.dtype)


def _levels(picture: UIntArray) -> FloatArray:
    """In grey levels of 255."""
    return picture.astype(np.float32) * np.float32(1.0 / 256.0 if picture.dtype == np.uint16 else 1.0)


def _volume(
    visible: UIntArray, thermal: UIntArray, reach_x: int, reach_y: int, sigma_px: float, cell_px: int
) -> _Volume:
    height, width = visible.shape
    rows, columns = max(4, height // cell_px), max(4, width // cell_px)

    def local(plane: FloatArray) -> FloatArray:
        small = cv2.resize(plane, (columns * 2, rows * 2), interpolation=cv2.INTER_AREA)
        smooth = cv2.GaussianBlur(small, (0, 0), 2.0 * sigma_px / cell_px, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(cv2.resize(smooth, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)

    v = oriented_outlines(_levels(visible), _OUTLINES)
    pad = max(reach_x, reach_y)
    t = [np.pad(plane, pad, mode="reflect") for plane in oriented_outlines(_levels(thermal), _OUTLINES)]
    energy = t[0] ** 2 + t[1] ** 2 + t[2] ** 2
    steps = [(x, y) for y in range(-reach_y, reach_y + 1) for x in range(-reach_x, reach_x + 1)]
    product, energies = correlation_volume(v, t, energy, steps, local)
    shape = (2 * reach_y + 1, 2 * reach_x + 1, rows, columns)
    return _Volume(product.reshape(shape), energies.reshape(shape), local(v[0] ** 2 + v[1] ** 2 + v[2] ** 2))


# ---- deciding


def _match(cost: FloatArray, step: float, jump: float) -> FloatArray:
    """Semi-global matching: costs (ny, nx, gh, gw), each with those of its neighbours along eight paths added."""
    total = np.zeros_like(cost)
    rows, columns = cost.shape[2:]
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        path = cost.copy()
        if dy == 0:
            for x in range(1, columns) if dx > 0 else range(columns - 2, -1, -1):
                path[..., x] += _carried(path[..., x - dx], step, jump)
        else:
            for y in range(1, rows) if dy > 0 else range(rows - 2, -1, -1):
                before = path[:, :, y - dy, :]
                if dx > 0:
                    before = np.concatenate([before[..., :1], before[..., :-1]], axis=2)
                elif dx < 0:
                    before = np.concatenate([before[..., 1:], before[..., -1:]], axis=2)
                path[:, :, y, :] += _carried(before, step, jump)
        total += path
    return np.asarray(total / np.float32(8), np.float32)


def _carried(before: FloatArray, step: float, jump: float) -> FloatArray:
    """What a path brings along: the least of staying, moving by pixels, and jumping. before: (ny, nx, cells)."""
    least = before.min((0, 1))
    moved = before.copy()
    for axis in (0, 1):
        along = np.moveaxis(moved, axis, 0)  # a view
        for k in range(1, len(along)):
            np.minimum(along[k], along[k - 1] + np.float32(step), out=along[k])
        for k in range(len(along) - 2, -1, -1):
            np.minimum(along[k], along[k + 1] + np.float32(step), out=along[k])
    return np.asarray(np.minimum(moved, least + np.float32(jump)) - least, np.float32)


def _winner(cost: FloatArray) -> FloatArray:
    """(gh, gw, 2) displacement (x, y) of the least cost, with a parabola between the steps."""
    ny, nx, rows, columns = cost.shape
    by, bx = np.divmod(cost.reshape(ny * nx, rows, columns).argmin(0), nx)
    r, c = np.indices((rows, columns))

    def between(count: int, at: npt.NDArray[np.int64], vertical: bool) -> npt.NDArray[np.float64]:
        inner = np.clip(at, 1, count - 2)
        a, b, d = (
            cost[inner + k, bx, r, c] if vertical else cost[by, inner + k, r, c] for k in (-1, 0, 1)
        )  # fmt: skip
        return np.where(inner == at, parabola_peak(-a, -b, -d), 0.0)

    x = bx - nx // 2 + between(nx, bx, vertical=False)
    y = by - ny // 2 + between(ny, by, vertical=True)
    return np.stack([x, y], axis=-1).astype(np.float32)


def _affine(cells: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Robust fit of (3, 2): constant, per width, per height; and what is left in each cell (gh, gw, 2)."""
    rows, columns = weight.shape
    y, x = np.mgrid[0:rows, 0:columns]
    terms = np.stack([np.ones(rows * columns), (x.ravel() + 0.5) / columns - 0.5, (y.ravel() + 0.5) / rows - 0.5], 1)
    target = cells.reshape(-1, 2).astype(np.float64)
    start = weight.ravel().astype(np.float64)
    current = start
    solution = np.zeros((3, 2))
    for _ in range(15):
        root = np.sqrt(current)[:, None]
        solution = np.linalg.lstsq(terms * root, target * root, rcond=None)[0]
        off = np.linalg.norm(target - terms @ solution, axis=1)
        scale = max(1.5 * float(np.median(off)), 0.3)
        current = start / (1.0 + (off / scale) ** 2) ** 2  # Geman-McClure
    left = (target - terms @ solution).reshape(rows, columns, 2)
    return solution.astype(np.float32), left.astype(np.float32)


def _judge(check: _Volume, scale: float, min_peak: float) -> tuple[float, FloatArray]:
    """Mean correlation of the cells that can be judged, and the residual of each in px, NaN where it cannot, from a
    volume made after alignment. Each cell is judged by itself.

    Args:
        min_peak: smallest correlation of a cell that can be judged.
    """
    score = check.score()
    ny, nx, rows, columns = score.shape
    flat = score.reshape(ny * nx, rows, columns)
    best = flat.argmax(0)
    peak = flat.max(0)
    by, bx = np.divmod(best, nx)
    far = (np.abs(np.arange(ny)[:, None, None, None] - by) > 1) | (np.abs(np.arange(nx)[None, :, None, None] - bx) > 1)
    lead = peak - np.where(far, score, -1.0).max((0, 1))
    structure = check.structure()
    clear = (structure > _MIN_STRUCTURE * structure.mean()) & (peak > min_peak) & (lead > _MIN_LEAD)
    if not clear.any():
        return 0.0, np.full((rows, columns), np.nan, np.float32)
    residual = np.linalg.norm(_winner(-score), axis=-1).astype(np.float32) * np.float32(scale)
    return float(score[ny // 2, nx // 2][clear].mean()), np.where(clear, residual, np.float32(np.nan))
