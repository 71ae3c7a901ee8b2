"""Measures how far thermal still lies from visible, and where: a field on a coarse grid, with a confidence.

Both pictures become three planes that a reversed contrast leaves alike: the gradient magnitude, normalised by its
neighbourhood, and its products with the cosine and the sine of twice the orientation. Their correlation over all small
displacements is summed over cells of the picture and over frames; sums over more cells give larger windows. Estimation
goes coarse to fine: the whole frame, then windows of about 193, 97 and 65 pixels, each guided by the one before.

Sign: thermal(x) matches visible(x + d). The field is in visible pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from calibration.rig import PlaneCalibration, apply_homography, straightened
from fusion_core.cross_spectral import OutlineForm, box_mean, correlation_volume, oriented_outlines, parabola_peak
from fusion_core.errors import BadInputError

__all__ = ["CorrelationVolume", "ResidualField", "ResidualFieldEstimator", "fit_lens", "fit_update"]

WINDOWS_PX = (193.0, 97.0, 65.0)
PRIOR_SIGMA_PX = (6.0, 4.0, 2.5)
MIN_PEAK = 0.04
MIN_CONTENT = 0.02  # of the frame's mean energy a window must hold
MIN_OWN = 1.5  # deviations that a place's own window correlates above its mean over displacements: few of noise do

_SURE = 0.15  # confidence above which a place tells where thermal belongs
_LENSES = np.arange(-0.5, 0.13, 0.04)  # of the division model: a wide barrel to a slight pincushion
_AGREE_PX = 3.0  # places that are further off count little when a lens is chosen

_OUTLINES = OutlineForm(
    smoothing_px=0.8,
    kernel="sobel",
    local_mean=box_mean(31, cv2.BORDER_REFLECT),
    level="rms",
    level_floor=1e-3,
    level_floor_share=0.15,
    ceiling=2.5,
)


@dataclass(frozen=True, slots=True, eq=False)
class ResidualField:
    """d (gh, gw, 2) pixels (x, y) at `centres_px` (gh, gw, 2); confidence (gh, gw) 0..1; the whole-frame estimate.

    global_px: displacement of the best whole-frame shift; global_confidence 0..1. size: (height, width) it is for.
    own (gh, gw) bool: the place's own window agrees; elsewhere d_px is what the surroundings say.
    """

    d_px: np.ndarray
    centres_px: np.ndarray
    confidence: np.ndarray
    global_px: tuple[float, float]
    global_confidence: float
    frames: int
    size: tuple[int, int]
    own: np.ndarray

    @property
    def told(self) -> ResidualField:
        """Without the places that only their surroundings speak for, as where a camera shows nothing."""
        return replace(self, confidence=self.confidence * self.own)

    @property
    def magnitude_px(self) -> float:
        """Confidence-weighted median length of the field; NaN when nothing is known."""
        return weighted_median(np.linalg.norm(self.d_px, axis=-1).reshape(-1), self.confidence.reshape(-1))

    @property
    def p95_px(self) -> float:
        """Confidence-weighted 95th percentile of the length; NaN when nothing is known."""
        length, weight = np.linalg.norm(self.d_px, axis=-1).reshape(-1), self.confidence.reshape(-1)
        return weighted_median(length, weight, 0.95)

    @property
    def median_px(self) -> tuple[float, float]:
        """Confidence-weighted median of x and y; NaN when nothing is known."""
        weight = self.confidence.reshape(-1)
        return (
            weighted_median(self.d_px[..., 0].reshape(-1), weight),
            weighted_median(self.d_px[..., 1].reshape(-1), weight),
        )


@dataclass(slots=True, eq=False)
class CorrelationVolume:
    """Sums over frames: products and energies per displacement and cell. Volumes of one estimator add and subtract."""

    product: np.ndarray  # (D, gh, gw) float32
    energy_visible: np.ndarray  # (D, gh, gw)
    energy_thermal: np.ndarray  # (gh, gw)
    frames: int

    def __iadd__(self, other: CorrelationVolume) -> CorrelationVolume:
        self.product += other.product
        self.energy_visible += other.energy_visible
        self.energy_thermal += other.energy_thermal
        self.frames += other.frames
        return self

    def copy(self) -> CorrelationVolume:
        """An independent copy."""
        return CorrelationVolume(
            self.product.copy(), self.energy_visible.copy(), self.energy_thermal.copy(), self.frames
        )


class ResidualFieldEstimator:
    """Makes correlation volumes of frames of one size, and fields of summed volumes. Holds no frames itself.

    Args:
        size: (height, width) of the visible grid.
        radius_px: largest displacement that is searched.
        cell_px: width of a grid cell.
        centre_px: displacement to search around (from a first rough estimate), whole pixels.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        radius_px: float = 14.0,
        cell_px: float = 32.0,
        centre_px: tuple[float, float] = (0.0, 0.0),
        working_width: int = 320,
    ) -> None:
        height, width = size
        if min(size) < 64:
            raise BadInputError(f"pictures of {width}x{height} are too small to compare, at least 64 pixels a side")
        self.size = (height, width)
        self._scale = max(1.0, width / working_width)
        self._work = (max(32, round(height / self._scale)), max(32, round(width / self._scale)))
        self._scale_y, self._scale_x = height / self._work[0], width / self._work[1]
        self._radius = max(2, int(np.ceil(radius_px / self._scale)))
        self._grid = (max(2, round(height / cell_px)), max(2, round(width / cell_px)))
        self._centre = (round(centre_px[0] / self._scale_x), round(centre_px[1] / self._scale_y))
        r = self._radius
        self._steps = [(dx, dy) for dy in range(-r, r + 1) for dx in range(-r, r + 1)]

    def volume(
        self, visible_luma: np.ndarray, thermal: np.ndarray, mask: np.ndarray | None = None
    ) -> CorrelationVolume:
        """Correlation volume of one pair.

        Args:
            visible_luma, thermal: (H, W) uint8 (or uint16, float), thermal on the visible grid.
            mask: (H, W) bool, where the thermal camera sees; outside it nothing counts.

        Raises:
            BadInputError: another size than the estimator's.
        """
        for name, image in (("visible", visible_luma), ("thermal", thermal)):
            if image.shape != self.size:
                raise BadInputError(f"{name} picture is {image.shape}, this estimator was made for {self.size}")
        height, width = self._work
        v = _outlines(cv2.resize(visible_luma, (width, height), interpolation=cv2.INTER_AREA))
        t = _outlines(cv2.resize(thermal, (width, height), interpolation=cv2.INTER_AREA))
        if mask is not None:
            small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            inner = cv2.erode(small, np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
            t = [plane * inner for plane in t]
        r, (cx, cy) = self._radius, self._centre
        pad_x, pad_y = r + abs(cx), r + abs(cy)
        padded = [np.pad(plane, ((pad_y, pad_y), (pad_x, pad_x))) for plane in v]
        energy = np.square(padded[0]) * np.float32(
            2.0
        )  # cos^2 + sin^2 = 1: the three planes hold twice the magnitude's energy
        product, energy_visible = correlation_volume(
            t,
            padded,
            energy,
            [(cx + dx, cy + dy) for dx, dy in self._steps],
            self._cells,
            inside=(t[0] > 0).astype(np.float32),
        )
        return CorrelationVolume(product, energy_visible, self._cells(t[0] ** 2 * 2.0), 1)

    def _cells(self, plane: np.ndarray) -> np.ndarray:
        """Mean of a plane over every cell of the grid."""
        gh, gw = self._grid
        return np.asarray(cv2.resize(plane, (gw, gh), interpolation=cv2.INTER_AREA))

    def estimate(self, total: CorrelationVolume) -> ResidualField:
        """Find the displacement field of a (summed) volume."""
        gh, gw = self._grid
        side = 2 * self._radius + 1
        steps = np.array(self._steps, np.float32) * [self._scale_x, self._scale_y]  # (D, 2) px
        whole = total.product.sum((1, 2)) / np.sqrt(
            np.maximum(total.energy_visible.sum((1, 2)) * total.energy_thermal.sum(), 1e-12)
        )
        global_px, global_confidence = _global_peak(whole.reshape(side, side), self._radius)
        d_global = np.array([global_px[0] * self._scale_x, global_px[1] * self._scale_y])
        field = np.broadcast_to(d_global, (gh, gw, 2)).astype(np.float32)
        confidence = np.full((gh, gw), global_confidence, np.float32)
        mean_energy = float(total.energy_thermal.mean()) or 1.0
        cell_px = self.size[1] / gw
        for window_px, sigma_px in zip(WINDOWS_PX, PRIOR_SIGMA_PX, strict=True):
            cells = max(1, round(window_px / cell_px))
            local, sure, score = self._local(total, cells, steps, field, sigma_px, mean_energy, side)
            keep = np.clip(sure, 0, 1)[..., None]
            field = (1 - keep) * field + keep * local
            field = _smooth(field, np.maximum(sure, 0.02))
            confidence = np.maximum(0.6 * confidence, sure)
        there = np.take_along_axis(score, ((steps[:, None, None] - field) ** 2).sum(-1).argmin(0)[None], 0)[0]
        offset = np.array([self._centre[0] * self._scale_x, self._centre[1] * self._scale_y])
        y, x = np.mgrid[0:gh, 0:gw].astype(np.float64)
        centres = np.stack([(x + 0.5) * self.size[1] / gw - 0.5, (y + 0.5) * self.size[0] / gh - 0.5], axis=-1)
        return ResidualField(
            (field + offset).astype(np.float32),
            centres,
            np.clip(confidence, 0, 1).astype(np.float32) * (total.energy_thermal > MIN_CONTENT * mean_energy),
            (float(d_global[0] + offset[0]), float(d_global[1] + offset[1])),
            global_confidence,
            total.frames,
            self.size,
            there > score.mean(0) + MIN_OWN * score.std(0),
        )

    def _local(
        self,
        total: CorrelationVolume,
        cells: int,
        steps: np.ndarray,
        prior: np.ndarray,
        sigma_px: float,
        mean_energy: float,
        side: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(gh, gw, 2) displacement, (gh, gw) confidence and (D, gh, gw) correlation of `cells` x `cells` cells."""
        gh, gw = self._grid
        n = _box(total.product, cells)
        e = _box(total.energy_visible, cells)
        t = _box(total.energy_thermal[None], cells)[0]
        score = n / np.sqrt(np.maximum(e * t, 1e-12))  # (D, gh, gw)
        pull = ((steps[:, None, None, :] - prior[None]) ** 2).sum(-1) / (2 * sigma_px**2)
        spread = max(0.012, 0.05 / np.sqrt(cells))
        logit = score / spread - pull
        best = logit.argmax(0)
        by, bx = np.divmod(best, side)
        rows, columns = np.indices((gh, gw))
        cube = score.reshape(side, side, gh, gw)
        sub_x = _parabola(cube, by, bx, rows, columns, axis=1)
        sub_y = _parabola(cube, by, bx, rows, columns, axis=0)
        local = np.stack(
            [
                (bx - self._radius + sub_x) * self._scale_x,
                (by - self._radius + sub_y) * self._scale_y,
            ],
            axis=-1,
        )
        peak = np.take_along_axis(score, best[None], 0)[0]
        far = (np.abs(np.arange(side)[:, None, None, None] - by) > 2) | (
            np.abs(np.arange(side)[None, :, None, None] - bx) > 2
        )
        second = np.where(far, cube, -1).max((0, 1))
        noise = score.std(0) + 1e-6
        margin = (peak - second) / noise
        sure = np.clip((margin - 0.3) / 2.5, 0, 1) * np.clip((peak - MIN_PEAK) / 0.12, 0, 1)
        border = (bx == 0) | (by == 0) | (bx == side - 1) | (by == side - 1)
        sure = np.where(border | (t < MIN_CONTENT * mean_energy), 0.0, sure)
        return local.astype(np.float32), sure.astype(np.float32), score


def fit_update(field: ResidualField, model: Literal["shift", "affine", "homography"] = "affine") -> np.ndarray:
    """Fit the (3, 3) correction in visible pixels that removes the field best: p_visible = C @ p_aligned.

    Robust: cells that disagree (near objects, wrong peaks) lose their weight.

    Raises:
        BadInputError: too few confident cells for the model.
    """
    good, to_unit = _known(field, model)
    source = apply_homography(to_unit, field.centres_px[good])
    target = apply_homography(to_unit, field.centres_px[good] + field.d_px[good])
    C = _robust_fit(source, target, field.confidence[good].astype(np.float64), model, 2 / field.size[1])
    C = np.linalg.inv(to_unit) @ C @ to_unit
    return np.asarray(C / C[2, 2])


def fit_lens(field: ResidualField, calibration: PlaneCalibration) -> PlaneCalibration:
    """Fit homography and thermal lens anew, so that the field measured under `calibration` is removed best.

    The lens is the one that the most places agree with; for each, the homography is fitted as `fit_update` does.

    Raises:
        BadInputError: too few confident cells.
    """
    good, to_unit = _known(field, "lens")
    weight = field.confidence[good].astype(np.float64)
    thermal = calibration.thermal_from_visible(field.centres_px[good])
    target = apply_homography(to_unit, field.centres_px[good] + field.d_px[good])
    size, unit = (calibration.thermal.height, calibration.thermal.width), 2 / field.size[1]
    so_far = to_unit @ calibration.correction_visible @ calibration.H_visible_thermal

    def fitted(lens: float) -> tuple[float, np.ndarray]:
        source = apply_homography(so_far, straightened(thermal, lens, size))
        C = _robust_fit(source, target, weight, "homography", unit)
        off = np.linalg.norm(apply_homography(C, source) - target, axis=1) / (_AGREE_PX * unit)
        return float((weight * off**2 / (1 + off**2)).sum()), C

    coarse = min(_LENSES, key=lambda lens: fitted(float(lens))[0])
    step = float(_LENSES[1] - _LENSES[0])
    fine = np.linspace(coarse - step, coarse + step, 9)
    lens = float(min(fine, key=lambda lens: fitted(float(lens))[0]))
    H = np.linalg.inv(to_unit) @ fitted(lens)[1] @ so_far
    plain = replace(calibration, correction_visible=np.eye(3), region=None)
    return replace(plain, H_visible_thermal=H / H[2, 2], thermal_lens=lens)


def _known(field: ResidualField, model: str) -> tuple[np.ndarray, np.ndarray]:
    """(gh, gw) bool, the places that tell; and (3, 3) from pixels to about -1..1. Raises BadInputError: too few."""
    good = field.confidence > _SURE
    needed = {"shift": 4, "affine": 12, "homography": 20, "lens": 30}[model]
    if good.sum() < needed:
        raise BadInputError(
            f"only {int(good.sum())} of {good.size} places in the picture tell where thermal belongs, a "
            f"correction of kind {model} "
            f"needs {needed}. Use more frames, a scene with more structure in both pictures, or a simpler correction."
        )
    height, width = field.size
    return good, np.array([[2 / width, 0, -1], [0, 2 / width, -height / width], [0, 0, 1]])


def _robust_fit(source: np.ndarray, target: np.ndarray, sure: np.ndarray, model: str, pixel: float) -> np.ndarray:
    """(3, 3) from source to target (N, 2); places that disagree lose their weight. pixel: in the unit of both."""
    weight, C = sure, np.eye(3)
    for _ in range(12):
        C = _weighted_fit(source, target, weight, model)
        off = np.linalg.norm(apply_homography(C, source) - target, axis=1)
        scale = max(1.4826 * weighted_median(off, sure), 0.4 * pixel)
        weight = sure / (1 + (off / (1.5 * scale)) ** 2) ** 2  # Geman-McClure
    return C


def weighted_median(values: np.ndarray, weights: np.ndarray, share: float = 0.5) -> float:
    """Median of values with weights, or another share of them; NaN if all weights are 0."""
    total = float(weights.sum())
    if total <= 0:
        return float("nan")
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), share * total)])


def _weighted_fit(source: np.ndarray, target: np.ndarray, weight: np.ndarray, model: str) -> np.ndarray:
    w = weight[:, None]
    if model == "shift":
        d = (w * (target - source)).sum(0) / max(float(weight.sum()), 1e-9)
        return np.array([[1, 0, d[0]], [0, 1, d[1]], [0, 0, 1.0]])
    root = np.sqrt(w)
    ones = np.ones((len(source), 1))
    if model == "affine":
        # a mild pull towards "no change of shape": cells on one line must not tilt the rest of the picture
        rows = np.vstack([np.hstack([source, ones]) * root, np.array([[0.3, 0, 0], [0, 0.3, 0]])])
        values = np.vstack([(target - source) * root, np.zeros((2, 2))])
        P = _solved(rows, values)
        return np.asarray(np.eye(3) + np.vstack([P.T, [0, 0, 0]]))
    x, y = source.T
    X, Y = target.T
    zero = np.zeros_like(x)
    one = np.ones_like(x)
    rows = np.concatenate(
        [
            np.stack([x, y, one, zero, zero, zero, -x * X, -y * X], 1) * root,
            np.stack([zero, zero, zero, x, y, one, -x * Y, -y * Y], 1) * root,
        ]
    )
    values = np.concatenate([(X - x) * root[:, 0], (Y - y) * root[:, 0]])
    pull = np.diag([0.3, 0.3, 0.0, 0.3, 0.3, 0.0, 1.0, 1.0])
    p = _solved(np.vstack([rows, pull]), np.concatenate([values, np.zeros(8)]))
    return np.array([[1 + p[0], p[1], p[2]], [p[3], 1 + p[4], p[5]], [p[6], p[7], 1]])


def _solved(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least squares by the normal equations: the pull keeps them regular, and no library starts threads for them."""
    return np.asarray(np.linalg.solve(rows.T @ rows, rows.T @ values))


def _outlines(image: np.ndarray) -> list[np.ndarray]:
    """Outlines above the mean of their surroundings; and all outlines times cos and sin of twice their angle."""
    normal, cos2, sin2 = oriented_outlines(image, _OUTLINES)
    return [np.maximum(normal - _OUTLINES.local_mean(normal), 0.0), cos2, sin2]


def _global_peak(score: np.ndarray, radius: int) -> tuple[tuple[float, float], float]:
    """((x, y) in working pixels, confidence) of the whole-frame correlation."""
    y, x = np.unravel_index(int(score.argmax()), score.shape)
    peak = float(score[y, x])
    far = np.ones_like(score, bool)
    far[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = False
    margin = (peak - float(score[far].max())) / (float(score.std()) + 1e-6) if far.any() else 0.0
    confidence = float(np.clip((margin - 0.2) / 1.5, 0, 1) * np.clip((peak - MIN_PEAK) / 0.06, 0, 1))
    if x in (0, score.shape[1] - 1) or y in (0, score.shape[0] - 1):
        return (float(x - radius), float(y - radius)), 0.2 * confidence
    sub_x = float(parabola_peak(score[y, x - 1], score[y, x], score[y, x + 1]))
    sub_y = float(parabola_peak(score[y - 1, x], score[y, x], score[y + 1, x]))
    return (x - radius + sub_x, y - radius + sub_y), confidence


def _parabola(
    cube: np.ndarray, by: np.ndarray, bx: np.ndarray, rows: np.ndarray, columns: np.ndarray, axis: int
) -> np.ndarray:
    """Sub-step offset of the peak along one axis, -0.5 .. 0.5."""
    side = cube.shape[0]
    inner_y, inner_x = np.clip(by, 1, side - 2), np.clip(bx, 1, side - 2)
    step = (1, 0) if axis == 0 else (0, 1)
    a = cube[inner_y - step[0], inner_x - step[1], rows, columns]
    b = cube[inner_y, inner_x, rows, columns]
    c = cube[inner_y + step[0], inner_x + step[1], rows, columns]
    return np.asarray(np.where((inner_y == by) & (inner_x == bx), parabola_peak(a, b, c), 0.0))


def _box(stack: np.ndarray, cells: int) -> np.ndarray:
    """Sums of (D, gh, gw) over windows of about cells x cells grid cells; soft edges."""
    moved = np.ascontiguousarray(stack.transpose(1, 2, 0))
    gh, gw, depth = moved.shape
    kernel = np.ones(cells, np.float64) if cells % 2 else np.concatenate([[0.5], np.ones(cells - 1), [0.5]])
    for axis, length in ((0, gh), (1, gw)):
        index = np.arange(length)
        band = np.zeros((length, length), np.float32)
        half = len(kernel) // 2
        for offset, value in enumerate(kernel):
            j = index + offset - half
            ok = (j >= 0) & (j < length)
            band[index[ok], j[ok]] = value
        if axis == 0:
            moved = (band @ moved.reshape(gh, gw * depth)).reshape(gh, gw, depth)
        else:
            moved = np.matmul(band, moved)  # (gh, gw, D), row by row
    return np.ascontiguousarray(moved.transpose(2, 0, 1))


def _smooth(field: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Confidence-weighted Gaussian smoothing over neighbouring cells."""
    blurred = [
        cv2.GaussianBlur((field[..., axis] * weight).astype(np.float32), (0, 0), 0.9, borderType=cv2.BORDER_REPLICATE)
        for axis in (0, 1)
    ]
    total = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), 0.9, borderType=cv2.BORDER_REPLICATE)
    return np.stack(blurred, axis=-1) / np.maximum(total, 1e-6)[..., None]
