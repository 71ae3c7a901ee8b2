"""Refines an alignment from ordinary scenes: sums correlation over pictures, fits a correction, and tests it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np

from calibration.align import ThermalAligner
from calibration.residual_field import CorrelationVolume, ResidualField, ResidualFieldEstimator, fit_update
from calibration.rig import Calibration, apply_homography, check_cameras
from fusion_core.errors import BadInputError

__all__ = ["Refinement", "measure_residual", "refine_alignment"]

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
Model = Literal["shift", "affine", "homography"]
_STEPS: Final[tuple[Model, ...]] = ("homography", "affine", "shift")
_BLOCKS: Final = 6  # parts that the pictures are cut into, in order; every other part is kept back for the judgement
_LEAST_HELD_OUT: Final = 3  # pictures, below which none are kept back
_MOST_SPREAD_PX: Final = 4.0  # half of what the network absorbs
_PARTS: Final = (3, 4)  # of the picture, down and across, each left out once for the spread
_SURE: Final = 0.15  # confidence from which on a place counts
_GAIN_PX: Final = 0.1  # less is within the estimate's own noise, and no reason to move anything


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """A corrected calibration, and what is left.

    before, after: over all pictures. held_out_px: residual (before, after) on one half of the pictures of a
    correction made from the other half; None with too few pictures. spread_px: how far the correction moves, 95 % over
    the picture, when parts of the picture are left out (jackknife, 1 sigma).
    model: what was changed, perhaps less than was asked for.
    """

    calibration: Calibration
    before: ResidualField
    after: ResidualField
    held_out_px: tuple[float, float] | None
    spread_px: float
    model: Model = "affine"

    @property
    def gained(self) -> bool:
        """Whether it leaves less than there was: on pictures kept back, where there are any, else on all."""
        first, second = self.held_out_px or (self.before.magnitude_px, self.after.magnitude_px)
        return bool(second <= first - _GAIN_PX)

    @property
    def where(self) -> str:
        """Where in the picture thermal can be told at all, in words."""
        known = self.before.confidence * (self.before.confidence > _SURE)
        share = float((known > 0).mean())
        if share == 0:
            return "nowhere in the picture"
        rows, columns = (np.linspace(-1, 1, cells) for cells in known.shape)
        y = float((known.sum(axis=1) * rows).sum() / known.sum())
        x = float((known.sum(axis=0) * columns).sum() / known.sum())
        words = [name for name, at in (("top", -y), ("bottom", y), ("left", -x), ("right", x)) if at > 0.25]
        return f"{share:.0%} of the picture, " + (f"most of it {' '.join(words)}" if words else "all over it")

    @property
    def problem(self) -> str:
        """Say why the correction cannot be trusted; "" if it can."""
        before, after = self.before.magnitude_px, self.after.magnitude_px
        if np.isinf(self.spread_px):
            return f"without one part of the picture too little is known to check it (known: {self.where})"
        if not self.spread_px <= _MOST_SPREAD_PX:
            return f"parts of the picture disagree about it by {self.spread_px:.1f} px"
        if self.held_out_px is not None and not self.held_out_px[1] <= self.held_out_px[0] - _GAIN_PX:
            first, second = self.held_out_px
            return f"on pictures that it was not made of, {first:.1f} px become {second:.1f} px"
        if not after <= before - _GAIN_PX:
            return f"{before:.1f} px become {after:.1f} px"
        return ""


def measure_residual(calibration: Calibration, pairs: Pairs, radius_px: float) -> ResidualField:
    """How far thermal lies from visible under a calibration, summed over pictures.

    Args:
        pairs: (H, W, 3) uint8 RGB and (Ht, Wt) uint8 or uint16, at least one.
        radius_px: largest displacement that is searched.

    Raises:
        BadInputError: the calibration is for pictures of other sizes.
    """
    visible, thermal = pairs[0]
    check_cameras(
        calibration,
        visible_size=(visible.shape[0], visible.shape[1]),
        thermal_size=(thermal.shape[0], thermal.shape[1]),
    )
    aligner = ThermalAligner(calibration)
    estimator = ResidualFieldEstimator(aligner.size, radius_px=radius_px)
    total: CorrelationVolume | None = None
    for visible, thermal in pairs:
        luma = np.asarray(cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY))
        volume = estimator.volume(luma, aligner.to_visible(thermal), aligner.mask)
        if total is None:
            total = volume
        else:
            total += volume
    assert total is not None  # pairs is not empty
    return estimator.estimate(total)


def refine_alignment(
    calibration: Calibration,
    pairs: Pairs,
    model: Model = "affine",
    *,
    rounds: int = 2,
    search_px: float = 24.0,
    progress: Callable[[str, ResidualField], None] | None = None,
) -> Refinement:
    """Correct a calibration by what the pictures show, and judge it on pictures that were kept back.

    Args:
        model: what may change; where that does not hold, the next simpler map that does is taken. The first round
            fits a homography affinely: far off, it would bend to noise.
        rounds: repeats on the corrected pictures.
        search_px: largest displacement that the first round searches.
        progress: told "before" and "after round N" with what was measured.

    Raises:
        BadInputError: no pictures, or too few places in them tell where thermal belongs.
    """
    if not pairs:
        raise BadInputError("there is no pair of pictures to refine the alignment by")
    tried: list[Refinement] = []
    for kind in _STEPS[_STEPS.index(model) :]:
        try:
            tried.append(_refined(calibration, pairs, kind, rounds, search_px, None if tried else progress))
        except BadInputError:
            if kind == "shift" and not tried:
                raise
            continue
        if not tried[-1].problem:
            return tried[-1]
    return tried[0]


def _refined(
    calibration: Calibration,
    pairs: Pairs,
    model: Model,
    rounds: int,
    search_px: float,
    progress: Callable[[str, ResidualField], None] | None,
) -> Refinement:
    radius = min(search_px, 10.0)
    corrected, before, spread_px = _corrected(calibration, pairs, model, rounds, search_px, progress)
    after = measure_residual(corrected, pairs, radius)
    held_out: tuple[float, float] | None = None
    kept_back = [pair for index, pair in enumerate(pairs) if index * _BLOCKS // len(pairs) % 2]
    if len(kept_back) >= _LEAST_HELD_OUT:
        others = [pair for index, pair in enumerate(pairs) if not index * _BLOCKS // len(pairs) % 2]
        of_others = _corrected(calibration, others, model, rounds, search_px, None)[0]
        fields = (measure_residual(c, kept_back, r) for c, r in ((calibration, search_px), (of_others, radius)))
        first, second = (field.magnitude_px for field in fields)
        held_out = (first, second)
    return Refinement(corrected, before, after, held_out, spread_px, model)


def _corrected(
    calibration: Calibration,
    pairs: Pairs,
    model: Model,
    rounds: int,
    search_px: float,
    progress: Callable[[str, ResidualField], None] | None,
) -> tuple[Calibration, ResidualField, float]:
    """Returns the corrected calibration, the residual before, and the largest spread of the rounds."""
    before: ResidualField | None = None
    spread_px = 0.0
    for number in range(rounds):
        field = measure_residual(calibration, pairs, search_px if number == 0 else min(search_px, 10.0))
        if before is None:
            before = field
        if progress is not None:
            progress("before" if number == 0 else f"after round {number}", field)
        kind: Model = "affine" if model == "homography" and number == 0 else model
        update = fit_update(field, kind)
        spread_px = max(spread_px, _spread_px(field, kind))
        C = update @ calibration.correction_visible
        calibration = calibration.with_correction(C / C[2, 2])
    if before is None:
        raise BadInputError(f"{rounds} rounds of refinement, must be at least 1")
    return calibration, before, spread_px


def _spread_px(field: ResidualField, model: Model) -> float:
    """Jackknife over parts of the picture: 1 sigma of where the correction puts things, 95 % over the picture."""
    height, width = field.size
    y, x = np.mgrid[0.05:0.95:7j, 0.05:0.95:9j]
    places = np.stack([x.ravel() * width, y.ravel() * height], axis=-1)
    rows, columns = (
        np.arange(cells) * parts // cells for cells, parts in zip(field.confidence.shape, _PARTS, strict=True)
    )
    part = rows[:, None] * _PARTS[1] + columns[None]
    moved = []
    for number in range(_PARTS[0] * _PARTS[1]):
        left_out = np.where(part == number, np.float32(0), field.confidence)
        if np.array_equal(left_out, field.confidence):
            continue
        try:
            moved.append(apply_homography(fit_update(replace(field, confidence=left_out), model), places))
        except BadInputError:  # this part holds nearly everything that is known
            return float("inf")
    if len(moved) < 2:
        return float("inf")
    off = np.array(moved) - np.mean(moved, axis=0)
    sigma = np.sqrt((len(moved) - 1) / len(moved) * (off**2).sum(axis=(0, 2)))
    return float(np.percentile(sigma, 95))
