"""Thermal AGC: 16-bit counts to the 8-bit picture that the engines and the screen take.

The same code runs live and in training. What shapes the picture is the AGC's *contract*: a checkpoint stores it
(`Agc.contract`), and `contract_differences` says how a live AGC departs from it.

The default, plateau equalization with damping, follows the vocabulary of FLIR's camera cores (plateau value, maximum
gain, midpoint, tail rejection, region of interest, temporal filter) but states every setting independently of frame
size, frame rate and the camera's count scale.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusion_core.errors import BadInputError, ConfigError
from fusion_core.files import picture_size, read_bounded
from fusion_core.thermal import agc_modes as modes

__all__ = ["Agc", "AgcConfig", "AgcMode", "Polarity", "contract_differences", "contract_of"]

_CONTRACT_VERSION = 1
_NOMINAL_FRAME_S = 1.0 / 30.0  # assumed when the caller gives no frame interval
_MAX_SAMPLES = 50_000  # pixels that enter the histogram: a 640x512 frame gives every third row and column


class AgcMode(StrEnum):
    """How counts become levels."""

    LINEAR = "linear"  # coldest to hottest of the sampled pixels, straight
    PERCENTILE = "percentile"  # straight, tails left out
    PLATEAU = "plateau"  # equalization with clipped bins
    CLAHE = "clahe"  # plateau, then local equalization in tiles
    MANUAL = "manual"  # straight between two fixed counts


class Polarity(StrEnum):
    """Which end of the scale is bright. Engines expect white-hot."""

    WHITE_HOT = "white_hot"
    BLACK_HOT = "black_hot"


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rectangle = tuple[Fraction, Fraction, Fraction, Fraction]


class AgcConfig(BaseModel):
    """Settings of the thermal AGC. Rectangles are (top, left, height, width) as fractions of the frame."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    mode: AgcMode = Field(
        default=AgcMode.PLATEAU,
        description="linear, percentile, plateau, clahe or manual; plateau keeps the background steady when something "
        "hot enters",
    )
    tail_low_percent: float = Field(
        default=0.1, ge=0.0, le=20.0, description="% of the coldest pixels ignored (dead pixels); not linear, manual"
    )
    tail_high_percent: float = Field(
        default=0.1, ge=0.0, le=20.0, description="% of the hottest pixels ignored (hot pixels); below 1 advised"
    )
    max_gain: float = Field(
        default=2.0, gt=0.0, le=255.0, description="levels a count at most: keeps an empty scene from showing noise"
    )
    midpoint: float = Field(
        default=127.0, ge=0.0, le=255.0, description="level of the picture's mean where max_gain leaves range unused"
    )
    plateau: float = Field(
        default=8.0, ge=1.0, le=1000.0, description="bin height limit, times the mean bin; 1 nearly linear, 1000 full"
    )
    linear_share: Fraction = Field(
        default=0.2, description="share of the range mapped straight, so that hot things keep their order of size"
    )
    clahe_clip: float = Field(default=2.0, gt=0.0, le=40.0, description="contrast limit of clahe, times the mean bin")
    clahe_tiles: int = Field(default=8, ge=1, le=32, description="clahe tiles along each side")
    manual_low: int | None = Field(
        default=None, ge=0, le=65535, description="counts shown as level 0 (mode manual only)"
    )
    manual_high: int | None = Field(
        default=None, ge=0, le=65535, description="counts shown as level 255 (mode manual only)"
    )
    damping_s: float = Field(
        default=0.2, ge=0.0, le=60.0, description="s, time constant of the mapping; 0 = follow every frame at once"
    )
    max_rate_levels_s: float = Field(
        default=60.0, gt=0.0, description="levels/s at most that damping moves any brightness: 2 a frame at 30 fps"
    )
    immediate_change: float | None = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="share of pixels that must change brightness for an undamped jump (new scene); null = never",
    )
    roi: Rectangle = Field(
        default=(0.0, 0.0, 1.0, 1.0), description="region that decides about the mapping: top, left, height, width"
    )
    exclude: tuple[Rectangle, ...] = Field(
        default=(), description="regions that do not count (sky, own vehicle): top, left, height, width"
    )
    exclude_mask: Path | None = Field(
        default=None, description="8-bit picture of the thermal frame; non-zero pixels do not count"
    )
    polarity: Polarity = Field(default=Polarity.WHITE_HOT, description="white_hot or black_hot; engines want white_hot")
    detail: Fraction = Field(
        default=0.0, description="strength of detail enhancement: share of max_gain given to fine structure; 0 = off"
    )
    detail_radius_px: int = Field(default=3, ge=1, le=15, description="px, structure up to this size is detail")
    detail_noise_floor: float | None = Field(
        default=None, ge=0.0, description="counts, detail below is noise; null = twice the measured noise"
    )
    detail_limit_levels: float = Field(
        default=32.0, gt=0.0, le=255.0, description="levels that detail may add or take: bounds the halo of hot edges"
    )
    apply_to_8bit: bool = Field(
        default=False, description="false: 8-bit cameras have their own AGC and are passed through as they are"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, rectangle in (("roi", self.roi), *((f"exclude[{i}]", r) for i, r in enumerate(self.exclude))):
            top, left, height, width = rectangle
            if height <= 0.0 or width <= 0.0 or top + height > 1.0 + 1e-9 or left + width > 1.0 + 1e-9:
                raise ValueError(
                    f"{name} is {list(rectangle)}, wanted top, left, height, width as fractions with height and width "
                    "above 0 and inside the frame"
                )
        if self.mode is AgcMode.MANUAL:
            if self.manual_low is None or self.manual_high is None:
                raise ValueError("mode manual needs manual_low and manual_high (counts)")
            if self.manual_low >= self.manual_high:
                raise ValueError(f"manual_low is {self.manual_low}, must be below manual_high, {self.manual_high}")
        return self


_MOST_MASK_PIXELS = 1 << 24


class Agc:
    """The AGC of one thermal stream. Keeps the damped mapping between frames; one owner thread calls it.

    The output is a function of the configuration and the frames (and intervals) since the last `reset` alone.

    Raises:
        ConfigError: the exclude mask cannot be read.
    """

    def __init__(self, config: AgcConfig | None = None) -> None:
        self.config = config if config is not None else AgcConfig()
        self._mask: npt.NDArray[np.uint8] | None = None
        if self.config.exclude_mask is not None:
            self._mask = _read_mask(Path(self.config.exclude_mask))
        self._equalizer = cv2.createCLAHE(self.config.clahe_clip, (self.config.clahe_tiles, self.config.clahe_tiles))
        self._index: npt.NDArray[np.intp] | None = None
        self._index_shape: tuple[int, int] = (0, 0)
        self.reset()

    def reset(self) -> None:
        """Forget earlier frames (new source, shutter event): the next frame sets the mapping at once."""
        self._table: modes.Floats | None = None
        self._reference: modes.Doubles | None = None
        self._limits = (0.0, 255.0)
        self._noise: float | None = None
        self._detail_table: tuple[float, npt.NDArray[np.int16]] | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Counts at the lower and upper end of the mapped span, low <= high, damped like the picture.

        (0, 255) before the first frame and for 8-bit frames that pass through.
        """
        return self._limits

    def contract(self) -> dict[str, Any]:
        """The settings that decide how the picture looks, as plain JSON values; a checkpoint stores them."""
        return contract_of(self.config)

    def apply(self, counts: npt.NDArray[np.integer], dt_s: float | None = None) -> npt.NDArray[np.uint8]:
        """Map one frame.

        Args:
            counts: (H, W) uint16, or uint8 (returned as a copy unless `apply_to_8bit`; black-hot still inverts).
            dt_s: time since the frame before, for the damping; None = 1/30 s. Values <= 0 do not move the mapping.

        Returns:
            (H, W) uint8, a new array.

        Raises:
            BadInputError: wrong dtype or shape, an empty frame, or a dt_s that is no number.
        """
        _check_frame(counts)
        config = self.config
        if counts.dtype == np.uint8 and not config.apply_to_8bit:
            self._limits = (0.0, 255.0)
            passed = counts.astype(np.uint8)  # a copy
            return np.subtract(255, passed) if config.polarity is Polarity.BLACK_HOT else passed
        index = self._advance(counts, dt_s)
        assert self._table is not None  # set by _update; for the type checker
        black_hot = config.polarity is Polarity.BLACK_HOT
        if config.mode is not AgcMode.CLAHE and config.detail == 0.0:
            return modes.apply_table(counts, self._table, black_hot=black_hot)
        levels = modes.apply_table(counts, self._table, black_hot=False)
        if config.mode is AgcMode.CLAHE:
            levels = modes.clahe(levels, self._equalizer)
        if config.detail > 0.0:
            levels = self._with_detail(counts, levels, index)
        return np.subtract(255, levels) if black_hot else levels

    def level_table(self, counts: npt.NDArray[np.integer], dt_s: float | None = None) -> npt.NDArray[np.uint8] | None:
        """As `apply`, for a device that looks the levels up by itself.

        Returns:
            (65536,) uint8, the level of each count. None, and nothing is changed, where this AGC is more than a table:
            for 8-bit frames, mode clahe, and with detail.

        Raises:
            BadInputError: as `apply`.
        """
        _check_frame(counts)
        config = self.config
        if counts.dtype != np.uint16 or config.mode is AgcMode.CLAHE or config.detail > 0.0:
            return None
        self._advance(counts, dt_s)
        assert self._table is not None  # set by _update; for the type checker
        return modes.rounded_table(self._table, black_hot=config.polarity is Polarity.BLACK_HOT)

    def _advance(self, counts: npt.NDArray[np.integer], dt_s: float | None) -> npt.NDArray[np.intp]:
        """Move the mapping by this frame; the sampled pixels."""
        interval_s = _NOMINAL_FRAME_S if dt_s is None else float(dt_s)
        if not math.isfinite(interval_s):
            raise BadInputError(f"dt_s is {dt_s}, wanted a finite number of seconds")
        size = 256 if counts.dtype == np.uint8 else 65536
        if self._table is not None and self._table.size != size:
            self.reset()
        index = self._sample(counts.shape[0], counts.shape[1])
        self._update(np.take(counts.ravel(), index), size, max(0.0, interval_s))
        return index

    def _update(self, sample: npt.NDArray[np.integer], size: int, interval_s: float) -> None:
        config = self.config
        if config.mode is AgcMode.MANUAL:
            if self._table is None:
                low, high = float(config.manual_low or 0), float(config.manual_high or 0)
                self._table = modes.span_table(size, low, high, max_gain=None, mean_count=low, midpoint=config.midpoint)
                self._limits = (low, high)
            return
        hist = modes.histogram(sample, size)
        share = modes.cumulative_share(hist)
        target, limits = _target(config, sample, hist, share)
        weight = 1.0 if config.damping_s == 0.0 else -math.expm1(-interval_s / config.damping_s)
        if self._table is None or self._reference is None or config.damping_s == 0.0:
            self._table, self._reference, self._limits = target, share, limits
            return
        if config.immediate_change is not None:
            changed = modes.changed_fraction(self._reference, share, self._table)
            if changed >= config.immediate_change:
                self._table, self._reference, self._limits = target, share, limits
                return
        self._table = modes.damp_table(self._table, target, weight, config.max_rate_levels_s * interval_s)
        self._reference = self._reference + weight * (share - self._reference)
        self._limits = (
            self._limits[0] + weight * (limits[0] - self._limits[0]),
            self._limits[1] + weight * (limits[1] - self._limits[1]),
        )

    def _with_detail(
        self, counts: npt.NDArray[np.integer], levels: npt.NDArray[np.uint8], index: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.uint8]:
        config = self.config
        detail = modes.detail_counts(counts, config.detail_radius_px)
        floor = config.detail_noise_floor
        if floor is None:
            noise = modes.noise_sigma_counts(detail, index)
            # An eighth of each new reading: the floor must not flicker with the noise it measures.
            self._noise = noise if self._noise is None else self._noise + 0.125 * (noise - self._noise)
            floor = round(16.0 * self._noise) / 8.0  # twice the noise, in steps, so that the table is kept for a while
        if self._detail_table is None or self._detail_table[0] != floor:
            gain = config.detail * config.max_gain
            self._detail_table = (floor, modes.detail_table(floor, gain, config.detail_limit_levels))
        return modes.add_detail(levels, detail, self._detail_table[1])

    def _sample(self, height: int, width: int) -> npt.NDArray[np.intp]:
        if self._index is None or self._index_shape != (height, width):
            excluded = np.zeros((height, width), dtype=bool)
            if self._mask is not None:
                excluded |= cv2.resize(self._mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0
            for top, left, tall, wide in self.config.exclude:
                rows = slice(round(top * height), round((top + tall) * height))
                excluded[rows, round(left * width) : round((left + wide) * width)] = True
            self._index = modes.sample_index(height, width, self.config.roi, excluded, _MAX_SAMPLES)
            self._index_shape = (height, width)
        return self._index


def _check_frame(counts: npt.NDArray[np.integer]) -> None:
    if not isinstance(counts, np.ndarray) or counts.dtype not in (np.uint16, np.uint8) or counts.ndim != 2:
        got = f"{counts.shape} {counts.dtype}" if isinstance(counts, np.ndarray) else type(counts).__name__
        raise BadInputError(f"the AGC got {got}, wanted a thermal frame (H, W) of uint16 or uint8")
    if counts.size == 0:
        raise BadInputError(f"the AGC got an empty frame {counts.shape}, wanted at least one pixel")


def _target(
    config: AgcConfig, sample: npt.NDArray[np.integer], hist: npt.NDArray[np.int64], share: modes.Doubles
) -> tuple[modes.Floats, tuple[float, float]]:
    """The undamped table for one frame, and the span it maps."""
    if config.mode is AgcMode.LINEAR:
        low, high = modes.percentile_span(share, 0.0, 0.0)
    else:
        low, high = modes.percentile_span(share, config.tail_low_percent, config.tail_high_percent)
    if config.mode in (AgcMode.LINEAR, AgcMode.PERCENTILE):
        table = modes.span_table(
            hist.size,
            low,
            high,
            max_gain=config.max_gain,
            mean_count=float(np.mean(sample)),
            midpoint=config.midpoint,
        )
    else:
        table = modes.plateau_table(
            hist,
            low,
            high,
            plateau=config.plateau,
            linear_share=config.linear_share,
            max_gain=config.max_gain,
            midpoint=config.midpoint,
        )
    return table, (float(low), float(high))


_COMMON_FIELDS = ("mode", "polarity", "apply_to_8bit")
_FIELDS_BY_MODE: dict[AgcMode, tuple[str, ...]] = {
    AgcMode.LINEAR: ("max_gain", "midpoint"),
    AgcMode.PERCENTILE: ("tail_low_percent", "tail_high_percent", "max_gain", "midpoint"),
    AgcMode.PLATEAU: ("tail_low_percent", "tail_high_percent", "max_gain", "midpoint", "plateau", "linear_share"),
    AgcMode.CLAHE: (
        "tail_low_percent",
        "tail_high_percent",
        "max_gain",
        "midpoint",
        "plateau",
        "linear_share",
        "clahe_clip",
        "clahe_tiles",
    ),
    AgcMode.MANUAL: ("manual_low", "manual_high"),
}
_DETAIL_FIELDS = ("detail_radius_px", "detail_noise_floor", "detail_limit_levels")


def contract_of(config: AgcConfig) -> dict[str, Any]:
    """The settings that decide how a still picture looks, as plain JSON values.

    Where the mapping looks (region, mask) and how fast it moves (damping) are the rig's business and not part of it.
    """
    names = [*_COMMON_FIELDS, *_FIELDS_BY_MODE[config.mode], "detail"]
    if config.detail > 0.0:
        names += [name for name in (*_DETAIL_FIELDS, "max_gain") if name not in names]
    values = config.model_dump(mode="json")
    return {"version": _CONTRACT_VERSION, **{name: values[name] for name in names}}


def contract_differences(live: dict[str, Any], trained: dict[str, Any]) -> list[str]:
    """Tell where the live AGC departs from the one that the weights were trained with; empty when they agree.

    Each line names the setting and both values, fit for a warning on screen. With different modes only the mode is
    named: the other settings then mean different things.
    """
    for key in ("version", "mode"):
        if live.get(key) != trained.get(key):
            return [f"{key}: live {_shown(live, key)}, trained with {_shown(trained, key)}"]
    keys = [*live, *(key for key in trained if key not in live)]
    return [
        f"{key}: live {_shown(live, key)}, trained with {_shown(trained, key)}"
        for key in keys
        if not _same(live.get(key), trained.get(key))
    ]


def _shown(contract: dict[str, Any], key: str) -> str:
    return str(contract[key]) if key in contract else "not stated"


def _same(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return a == b


def _read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """The mask as (H, W) uint8. Raises ConfigError, before decoding where its header tells of more than is read."""
    try:
        data = read_bounded(path, _MOST_MASK_PIXELS, "picture")
    except (OSError, BadInputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"agc.exclude_mask {path} cannot be read: {reason}; wanted an 8-bit PNG") from error
    size = picture_size(data)
    if size is not None and size[0] * size[1] > _MOST_MASK_PIXELS:
        pixels = size[0] * size[1]
        raise ConfigError(f"agc.exclude_mask {path} has {pixels} pixels, at most {_MOST_MASK_PIXELS} are read")
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if size is not None else None
    if mask is None:
        raise ConfigError(f"agc.exclude_mask {path} cannot be read as a picture; wanted an 8-bit PNG")
    return np.asarray(mask, dtype=np.uint8)
