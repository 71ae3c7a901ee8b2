"""The eight fusion metrics CE, MI, Qabf, QCB, QCV, SSIM, EN, SD, number for number as the benchmark VIFB has them.

Source: the public MATLAB code of VIFB (Zhang, Ye, Xiao, CVPRW 2020, repository xingchenzhang/VIFB, commit 22b2ea9).
Where that code departs from the paper a metric is named after, this module follows the code, so that numbers are
comparable with the published ones. All arithmetic is float64.

| key  | name                    | better | unit                                             |
| ---- | ----------------------- | ------ | ------------------------------------------------ |
| ce   | cross entropy           | lower  | bits; mean over both sources, can be negative    |
| mi   | mutual information      | higher | nats; sum over both sources                      |
| qabf | Xydeas-Petrovic         | higher | about 0..0.98                                    |
| qcb  | Chen-Blum               | higher | 0..1                                             |
| qcv  | Chen-Varshney           | lower  | >= 0, hundreds to thousands                      |
| ssim | structural similarity   | higher | sum over both sources, at most 2                 |
| en   | entropy                 | higher | bits, 0..8                                       |
| sd   | standard deviation      | higher | grey levels, 0..127.5                            |

A fused picture with three channels is measured channel by channel (never turned to grey) and the three values are
averaged. Quotients 0/0 give NaN, as in the original: a metric that is not defined for a picture says so.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from fusion_core.errors import BadInputError

__all__ = ["METRIC_KEYS", "MetricReference", "evaluate"]

METRIC_KEYS = ("ce", "mi", "qabf", "qcb", "qcv", "ssim", "en", "sd")

_LEVELS = 256
_BLOCK_PX = 16  # QCV's blocks
_SSIM_WINDOW_PX = 11
_SSIM_SIGMA_PX = 1.5
_SSIM_C1 = (0.01 * 255.0) ** 2
_SSIM_C2 = (0.03 * 255.0) ** 2

Plane = npt.NDArray[np.float64]


def evaluate(fused: np.ndarray, visible: np.ndarray, thermal: np.ndarray) -> dict[str, float]:
    """Measure one fused picture against its two sources.

    Args:
        fused, visible, thermal: (H, W) or (H, W, 3) RGB (or (H, W, 1)), uint8, all of one size.

    Returns:
        The eight values by the keys of METRIC_KEYS, in that order; NaN where a metric is not defined.

    Raises:
        BadInputError (a ValueError): another shape or dtype, or sizes that differ.
    """
    return MetricReference(visible, thermal).evaluate(fused)


class MetricReference:
    """The two sources, with what depends on them alone kept, for measuring several fused pictures of one pair."""

    def __init__(self, visible: np.ndarray, thermal: np.ndarray) -> None:
        """Sources as in `evaluate`. Raises BadInputError for another shape or dtype, or sizes that differ."""
        self._visible = _channels("visible", visible)
        self._thermal = _channels("thermal", thermal)
        self._size = visible.shape[:2]
        if thermal.shape[:2] != self._size:
            raise _size_error("thermal", thermal.shape[:2], self._size)

    @cached_property
    def _grey(self) -> tuple[_Measured, _Measured]:
        return _Measured(_grey(self._visible)), _Measured(_grey(self._thermal))

    @cached_property
    def _colour(self) -> list[tuple[_Measured, _Measured]]:
        return list(zip(_measured(self._visible), _measured(self._thermal), strict=True))

    def evaluate(self, fused: np.ndarray) -> dict[str, float]:
        """The eight metrics of one fused picture; see `evaluate`."""
        planes = _channels("fused", fused)
        if fused.shape[:2] != self._size:
            raise _size_error("fused", fused.shape[:2], self._size)
        if len(planes) == 1:
            return _evaluate_planes(*self._grey, _Measured(planes[0]))
        results: list[dict[str, float]] = []
        seen: dict[tuple[int, int, int], dict[str, float]] = {}  # equal channels are computed once
        for (visible, thermal), channel in zip(self._colour, _measured(planes), strict=True):
            key = (id(visible), id(thermal), id(channel))
            if key not in seen:
                seen[key] = _evaluate_planes(visible, thermal, channel)
            results.append(seen[key])
        return {key: sum(result[key] for result in results) / len(results) for key in METRIC_KEYS}


def _size_error(what: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> BadInputError:
    return BadInputError(
        f"{what} picture is {got[0]}x{got[1]} (height x width), visible is {wanted[0]}x{wanted[1]}; "
        "the three must have one size, resize before measuring"
    )


def _channels(what: str, picture: np.ndarray) -> list[npt.NDArray[np.uint8]]:
    """The picture's planes: one, or three."""
    if (
        picture.dtype != np.uint8
        or picture.ndim not in (2, 3)
        or (picture.ndim == 3 and picture.shape[2] not in (1, 3))
    ):
        raise BadInputError(f"{what} picture is {picture.dtype} {picture.shape}, must be uint8 (H, W) or (H, W, 3)")
    if picture.size == 0:
        raise BadInputError(f"{what} picture has no pixels, shape {picture.shape}")
    if picture.ndim == 2:
        return [np.ascontiguousarray(picture)]
    return [np.ascontiguousarray(picture[..., k]) for k in range(picture.shape[2])]


def _measured(planes: list[npt.NDArray[np.uint8]]) -> list[_Measured]:
    """Three measured planes; planes of equal content share one object."""
    if len(planes) == 1:
        return [_Measured(planes[0])] * 3
    distinct: list[_Measured] = []
    result = []
    for plane in planes:
        match = next((known for known in distinct if np.array_equal(known.levels, plane)), None)
        if match is None:
            match = _Measured(plane)
            distinct.append(match)
        result.append(match)
    return result


def _grey(planes: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """MATLAB's rgb2gray, rounded; a single plane stays as it is."""
    if len(planes) == 1:
        return planes[0]
    red, green, blue = planes
    grey = 0.298936021293775 * red + 0.587043074451121 * green + 0.114020904255103 * blue
    return _round(grey).astype(np.uint8)


def _round(values: Plane) -> Plane:
    """Round values >= 0, halves away from zero (numpy rounds them to even). Works in place."""
    values += 0.5
    return np.asarray(np.floor(values, out=values))


class _Measured:
    """One plane and everything a metric needs that depends on it alone, computed when first asked for."""

    def __init__(self, levels: npt.NDArray[np.uint8]) -> None:
        self.levels = levels
        self.values: Plane = levels.astype(np.float64)

    @cached_property
    def histogram(self) -> Plane:
        return np.bincount(self.levels.ravel(), minlength=_LEVELS) / self.levels.size

    @cached_property
    def ssim_mean(self) -> Plane:
        return _ssim_window(self.values)

    @cached_property
    def ssim_variance(self) -> Plane:
        return _ssim_window(self.values * self.values) - self.ssim_mean**2

    @cached_property
    def gradient(self) -> tuple[Plane, Plane]:
        """Sobel strength on the 0..255 scale and angle in (-pi/2, pi/2]."""
        sx, sy = _sobel(self.values)
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.arctan(sy / sx)
        angle[sx == 0] = np.pi / 2
        return _strength(sx, sy), angle

    @cached_property
    def stretched(self) -> Plane:
        """Levels stretched to 0..255 (QCB, QCV); a zero plane stays, another constant plane gives NaN."""
        low, high = float(self.levels.min()), float(self.levels.max())
        if high == 0.0:
            return self.values
        if low == high:
            return np.full_like(self.values, np.nan)
        return _round((self.values - low) / (high - low) * 255.0)

    @cached_property
    def spectrum(self) -> npt.NDArray[np.complex128]:
        return np.asarray(scipy.fft.rfft2(self.stretched))

    @cached_property
    def block_saliency(self) -> Plane:
        """QCV step 2: sum over each 16x16 block of the Sobel strength to the fifth power."""
        sx, sy = _sobel(self.stretched)
        squared = sx * sx
        squared += sy * sy
        return _block_sums(squared * squared * np.sqrt(squared))

    @cached_property
    def contrast(self) -> Plane:
        """QCB steps 2 to 4: the masked local contrast C'."""
        filtered = scipy.fft.irfft2(self.spectrum * _qcb_sensitivity(*self.levels.shape), s=self.levels.shape)
        narrow, wide = (_zero_padded_gaussian(filtered, sigma_px) for sigma_px in (2.0, 4.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            contrast = narrow
            contrast /= wide
            contrast -= 1.0
            np.abs(contrast, out=contrast)
            squared = contrast * contrast
            contrast *= squared
            squared += 0.0001
            contrast /= squared
        return contrast


def _evaluate_planes(visible: _Measured, thermal: _Measured, fused: _Measured) -> dict[str, float]:
    return {
        "ce": (_cross_entropy(visible, fused) + _cross_entropy(thermal, fused)) / 2.0,
        "mi": _mutual_information(visible, fused) + _mutual_information(thermal, fused),
        "qabf": _qabf(visible, thermal, fused),
        "qcb": _qcb(visible, thermal, fused),
        "qcv": _qcv(visible, thermal, fused),
        "ssim": _ssim(visible, fused) + _ssim(thermal, fused),
        "en": _entropy_bits(fused.histogram),
        "sd": float(np.sqrt(np.mean((fused.values - fused.values.mean()) ** 2))),
    }


# ---------------------------------------------------------------- histograms: EN, CE, MI


def _entropy_bits(histogram: Plane) -> float:
    p = histogram[histogram > 0]
    return abs(float(-np.sum(p * np.log2(p))))  # abs: -0.0 of a constant plane


def _cross_entropy(source: _Measured, fused: _Measured) -> float:
    """Over the levels that both have; levels of the source that the fused picture lacks are dropped, not punished."""
    both = (source.histogram > 0) & (fused.histogram > 0)
    p, q = source.histogram[both], fused.histogram[both]
    return float(np.sum(p * np.log2(p / q)))


def _mutual_information(source: _Measured, fused: _Measured) -> float:
    index = source.levels.astype(np.uint16)
    index <<= 8
    index |= fused.levels
    joint = np.bincount(index.ravel(), minlength=_LEVELS * _LEVELS) / index.size
    return _entropy_nats(source.histogram) + _entropy_nats(fused.histogram) - _entropy_nats(joint)


def _entropy_nats(histogram: Plane) -> float:
    p = histogram[histogram > 0]
    return float(-np.sum(p * np.log(p)))


# ---------------------------------------------------------------- SSIM


@lru_cache(maxsize=8)
def _gaussian_taps(count: int, sigma_px: float) -> Plane:
    offsets = np.arange(count) - (count - 1) / 2
    taps: Plane = np.exp(-(offsets**2) / (2.0 * sigma_px**2))
    return taps


def _ssim_window(values: Plane) -> Plane:
    """Gaussian-weighted mean at the positions where the 11x11 window lies fully inside; empty if there is none."""
    taps = _gaussian_taps(_SSIM_WINDOW_PX, _SSIM_SIGMA_PX)
    taps = taps / taps.sum()
    margin = _SSIM_WINDOW_PX // 2
    blurred = cv2.sepFilter2D(values, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred[margin : values.shape[0] - margin, margin : values.shape[1] - margin])


def _ssim(source: _Measured, fused: _Measured) -> float:
    if min(source.levels.shape) < _SSIM_WINDOW_PX:
        return float("nan")
    mean_product = source.ssim_mean * fused.ssim_mean
    covariance = _ssim_window(source.values * fused.values) - mean_product
    numerator = (2.0 * mean_product + _SSIM_C1) * (2.0 * covariance + _SSIM_C2)
    denominator = source.ssim_mean**2 + fused.ssim_mean**2 + _SSIM_C1
    denominator *= source.ssim_variance + fused.ssim_variance + _SSIM_C2
    numerator /= denominator
    return float(np.mean(numerator))


# ---------------------------------------------------------------- Qabf


def _sobel(values: Plane) -> tuple[Plane, Plane]:
    """Horizontal and vertical Sobel derivative with zero padding, not normalised."""
    sx = cv2.Sobel(values, cv2.CV_64F, 1, 0, ksize=3, borderType=cv2.BORDER_CONSTANT)
    sy = cv2.Sobel(values, cv2.CV_64F, 0, 1, ksize=3, borderType=cv2.BORDER_CONSTANT)
    np.negative(sy, out=sy)
    return np.asarray(sx, np.float64), np.asarray(sy, np.float64)


def _strength(sx: Plane, sy: Plane) -> Plane:
    squared = sx * sx
    squared += sy * sy
    return np.asarray(np.sqrt(squared, out=squared))


def _edge_preservation(source: tuple[Plane, Plane], fused: tuple[Plane, Plane]) -> Plane:
    """Q_XF, how well the strength and angle of the source's edges are kept."""
    (g_source, a_source), (g_fused, a_fused) = source, fused
    with np.errstate(divide="ignore", invalid="ignore"):
        g = np.minimum(g_source, g_fused) / np.maximum(g_source, g_fused)
    # The original gives equal gradients not the ratio 1 but the gradient itself, taken of pictures times 255.
    np.copyto(g, g_fused * 255.0, where=g_source == g_fused)
    alpha = a_source - a_fused
    np.abs(alpha, out=alpha)
    alpha *= -2.0 / np.pi
    alpha += 1.0 - 0.8
    alpha *= -22.0
    g -= 0.5
    g *= -15.0
    quality = np.exp(g, out=g)
    quality += 1.0
    angle_term = np.exp(alpha, out=alpha)
    angle_term += 1.0
    quality *= angle_term
    return np.asarray(np.divide(0.9994 * 0.9879, quality, out=quality))


def _qabf(visible: _Measured, thermal: _Measured, fused: _Measured) -> float:
    kept = total = 0.0
    for source in (visible, thermal):
        strength = source.gradient[0]
        quality = _edge_preservation(source.gradient, fused.gradient)
        kept += float(np.vdot(quality, strength))
        total += float(strength.sum())
    return kept / total if total > 0 else float("nan")


# ---------------------------------------------------------------- QCB and QCV


def _radial_frequency(height: int, width: int, divisor: float) -> Plane:
    """sqrt((W/d u)^2 + (H/d v)^2) on the half plane of a real FFT, u and v the centred grid 2 (j - floor(n/2)) / n.

    W u = 2 j with j the signed frequency index; its sign does not matter, so the real FFT's half plane is enough.
    """
    rows = np.minimum(np.arange(height), height - np.arange(height))
    columns = np.arange(width // 2 + 1)
    return np.asarray(np.hypot(2.0 * rows[:, None] / divisor, 2.0 * columns[None, :] / divisor))


@lru_cache(maxsize=4)
def _qcb_sensitivity(height: int, width: int) -> Plane:
    r = _radial_frequency(height, width, 30.0)
    sensitivity: Plane = np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    return sensitivity


@lru_cache(maxsize=4)
def _qcv_sensitivity(height: int, width: int) -> Plane:
    """Mannos and Sakrison's contrast sensitivity."""
    r = _radial_frequency(height, width, 8.0)
    sensitivity: Plane = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    return sensitivity


def _zero_padded_gaussian(values: Plane, sigma_px: float) -> Plane:
    """31x31 taps, not renormalised: exp(-(x^2 + y^2) / (2 s^2)) / (2 pi s^2), zero padding."""
    taps = _gaussian_taps(31, sigma_px) / (np.sqrt(2.0 * np.pi) * sigma_px)
    return np.asarray(cv2.sepFilter2D(values, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_CONSTANT))


def _qcb(visible: _Measured, thermal: _Measured, fused: _Measured) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        weighted, total = np.zeros_like(fused.contrast), np.zeros_like(fused.contrast)
        for source in (visible, thermal):
            quality = np.minimum(source.contrast, fused.contrast)
            quality /= np.maximum(source.contrast, fused.contrast)
            saliency = source.contrast * source.contrast
            quality *= saliency
            weighted += quality
            total += saliency
        return float(np.mean(weighted / total))


def _block_sums(values: Plane) -> Plane:
    """Sums over 16x16 blocks from the top left; incomplete blocks are filled up with zeros."""
    height, width = values.shape
    rows = np.add.reduceat(values, np.arange(0, height, _BLOCK_PX), axis=0)
    return np.asarray(np.add.reduceat(rows, np.arange(0, width, _BLOCK_PX), axis=1))


def _qcv(visible: _Measured, thermal: _Measured, fused: _Measured) -> float:
    shape = fused.levels.shape
    sensitivity = _qcv_sensitivity(*shape)
    weighted = total = 0.0
    for source in (visible, thermal):
        filtered = scipy.fft.irfft2((source.spectrum - fused.spectrum) * sensitivity, s=shape, overwrite_x=True)
        filtered *= filtered
        difference = _block_sums(filtered) / _BLOCK_PX**2
        weighted += float(np.vdot(source.block_saliency, difference))
        total += float(source.block_saliency.sum())
    if np.isnan(total):
        return float("nan")
    return weighted / total if total > 0 else float("nan")
