"""Refines an alignment from ordinary scenes: sums correlation over pictures, fits a correction, and tests it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import cv2
import numpy as np

from calibration.align import ThermalAligner
from calibration.coarse_search import CoarseFit, find_similarity, pick_evenly, thermal_grid_points
from calibration.residual_field import (
    CorrelationVolume,
    ResidualField,
    ResidualFieldEstimator,
    fit_lens,
    fit_update,
)
from calibration.rig import Calibration, PlaneCalibration, Region, check_cameras, plain_scaling
from fusion_core.errors import BadInputError

__all__ = ["FitVerdict", "Refinement", "align_from_nothing", "judge_fit", "measure_residual", "refine_alignment"]

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]
Model = Literal["shift", "affine", "homography", "lens"]
_STEPS: Final[tuple[Model, ...]] = ("lens", "homography", "affine", "shift")
_BLOCKS: Final = 6  # parts that the pictures are cut into, in order; every other part is kept back for the judgement
_LEAST_HELD_OUT: Final = 3  # pictures, below which none are kept back
_MOST_SPREAD_PX: Final = 4.0  # half of what the network absorbs
_PARTS: Final = (3, 4)  # of the picture, down and across, each left out once for the spread
_SURE: Final = 0.15  # confidence from which on a place counts
_GAIN_PX: Final = 0.1  # less is within the estimate's own noise, and no reason to move anything
_FAR_PX: Final = 12.0  # what the estimate of the running pictures still finds
_FAR_SHARE: Final = 0.015  # of the picture's width: within this a coarse fit says nothing
_COARSE_PAIRS: Final = 4  # more add little and cost a second each
_ROUNDS_FROM_AFAR: Final = 4
_SEARCH_SHARE: Final = 0.03  # of the picture's width: how far off a coarse fit may leave a place
_REGION_AGREE_PX: Final = 2.0  # a place that is left further off is no part of a region
_REGION_SHARE: Final = (0.08, 0.7)  # of the picture: less is not worth it, more is a map for all of it
_REGION_STEEPNESS: Final = 0.7
_REGION_LIKE: Final = 0.8  # of the known places of a region agree
_FAR_TOLD: Final = 0.1  # of the places that thermal covers tell, where a pair belongs that is far off
_LEAST_SHARE: Final = 0.15  # of them must tell for a residual to say that a pair fits
_WORSE_PX: Final = 4.0  # half of what the network absorbs: by as much a place lies further off than before
_WORSE_SHARE: Final = 0.15  # of the places known before and after, from which on a correction is for another distance


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """A corrected calibration, and what is left.

    before, after: over all pictures. held_out_px: residual (before, after) on one half of the pictures of a
    correction made from the other half; None with too few pictures. spread_px: how far the correction moves, 95 % over
    the picture, when parts of the picture are left out (jackknife, 1 sigma).
    model: what was changed, perhaps less than was asked for; "none": only a region of it. start: what was found first,
    where nothing was known.
    """

    calibration: Calibration
    before: ResidualField
    after: ResidualField
    held_out_px: tuple[float, float] | None
    spread_px: float
    model: Model | Literal["similarity", "none"] = "affine"
    start: CoarseFit | None = None

    @property
    def gained(self) -> bool:
        """Whether it leaves less than there was: on pictures kept back, where there are any, else on all."""
        first, second = self.held_out_px or (self.before.magnitude_px, self.after.magnitude_px)
        return bool(second <= first - _GAIN_PX)

    @property
    def where(self) -> str:
        """Where in the picture thermal can be told at all, in words."""
        known = self.before.told.confidence * (self.before.told.confidence > _SURE)
        share = float((known > 0).mean())
        if share == 0:
            return "nowhere in the picture"
        rows, columns = (np.linspace(-1, 1, cells) for cells in known.shape)
        y = float((known.sum(axis=1) * rows).sum() / known.sum())
        x = float((known.sum(axis=0) * columns).sum() / known.sum())
        words = _side(x, y)
        return f"{share:.0%} of the picture, " + (f"most of it {words}" if words else "all over it")

    @property
    def worsened(self) -> tuple[float, float, float]:
        """The share of the places known before and after that it puts further off, by more than half of what the
        network absorbs; and the medians of how far these are off before and after, visible pixels."""
        first, second = self.before.told, self.after.told
        (rows, columns), grid = second.confidence.shape, first.confidence.shape
        y, x = (np.arange(n) * m // n for n, m in zip(grid, (rows, columns), strict=True))  # their cells may differ
        there = np.ix_(y, x)
        known = (first.confidence > _SURE) & (second.confidence[there] > _SURE)
        off = [np.linalg.norm(d_px, axis=-1)[known] for d_px in (first.d_px, second.d_px[there])]
        worse = off[1] > off[0] + _WORSE_PX
        if not worse.any():
            return 0.0, 0.0, 0.0
        return float(worse.mean()), float(np.median(off[0][worse])), float(np.median(off[1][worse]))

    @property
    def region(self) -> str:
        """Where a finer map was taken than everywhere else, in words; "" if nowhere."""
        region = self.calibration.region
        if region is None:
            return ""
        height, width = self.after.size
        words = _side(2 * region.centre_px[0] / width - 1, 2 * region.centre_px[1] / height - 1) or "in the middle"
        return f"{region.share((height, width)):.0%} of the picture, {words}"

    @property
    def problem(self) -> str:
        """Say why the correction cannot be trusted; "" if it can."""
        before, after = self.before.magnitude_px, self.after.magnitude_px
        if self.model == "similarity":
            return ""  # it stood out from all others
        gain_px = _GAIN_PX if self.start is None else -_GAIN_PX  # what was found from nothing may be right already
        told = _told(self.before, self.calibration)
        if self.start is None and told < _LEAST_SHARE:
            return f"only {told:.0%} of the places that thermal covers tell where it belongs (known: {self.where})"
        if np.isinf(self.spread_px):
            return f"without one part of the picture too little is known to check it (known: {self.where})"
        if not self.spread_px <= _MOST_SPREAD_PX:
            return f"parts of the picture disagree about it by {self.spread_px:.1f} visible px"
        worse, first, second = self.worsened
        if worse > _WORSE_SHARE:
            return (
                f"it is for one distance only: {worse:.0%} of the known places lie {first:.1f} visible px off without "
                f"it and {second:.1f} px with it (median)"
            )
        if self.held_out_px is not None and not self.held_out_px[1] <= self.held_out_px[0] - gain_px:
            first, second = self.held_out_px
            return f"on pictures that it was not made of, {first:.1f} visible px become {second:.1f}"
        if not after <= before - gain_px:
            return f"{before:.1f} visible px become {after:.1f}"
        return ""


def _side(x: float, y: float) -> str:
    """Where a place lies in a picture from -1 to 1, in words; "" near the middle."""
    return " ".join(name for name, at in (("top", -y), ("bottom", y), ("left", -x), ("right", x)) if at > 0.25)


@dataclass(frozen=True, slots=True, eq=False)
class FitVerdict:
    """Whether thermal lies on visible.

    off_px: how far off it lies, median, visible pixels; NaN: the scene does not tell.
    found: where it belongs, if it is too far off for the running estimate.
    """

    off_px: float
    found: CoarseFit | None = None

    @property
    def far(self) -> bool:
        """Whether it is further off than the running estimate reaches: everything is drawn twice."""
        return self.found is not None


def judge_fit(calibration: Calibration, pairs: Pairs, searched: Callable[[float], None] | None = None) -> FitVerdict:
    """Say whether thermal lies on visible under a calibration, or far off. 1 to 6 s of processor time.

    Args:
        pairs: one or more; at most four are looked at.
        searched: told the share of the search that is done, 0..1; may raise to end it.

    Raises:
        BadInputError: the calibration is for pictures of other sizes, or they are too small.
    """
    return _judged(calibration, pairs, _FAR_PX * 2, searched)[0]


def _judged(
    calibration: Calibration | None, pairs: Pairs, search_px: float, searched: Callable[[float], None] | None
) -> tuple[FitVerdict, CoarseFit]:
    """Whether a calibration fits (None: plain scaling), and what the whole range says."""
    some = pick_evenly(pairs, _COARSE_PAIRS)
    coarse = find_similarity(some, progress=searched)
    done = partial(searched, 1.0) if searched is not None else None
    rig = calibration or plain_scaling(*coarse.sizes)
    off_px = coarse.off_px(rig)
    if coarse.sure and off_px > _far_px(coarse):
        there = measure_residual(coarse.calibration, some, max(2 * _FAR_PX, _SEARCH_SHARE * coarse.sizes[0][1]), done)
        if _told(there, coarse.calibration) >= _FAR_TOLD:
            return FitVerdict(off_px, coarse), coarse
        return FitVerdict(float("nan")), coarse
    field = measure_residual(rig, some, search_px, done)
    return FitVerdict(field.magnitude_px if _told(field, rig) >= _LEAST_SHARE else float("nan")), coarse


def _told(field: ResidualField, calibration: Calibration) -> float:
    """The share of the places that thermal covers which tell where it belongs."""
    at = calibration.thermal_from_visible(field.centres_px.reshape(-1, 2)).reshape(*field.confidence.shape, 2)
    last = np.array([calibration.thermal.width, calibration.thermal.height]) - 1
    covered = ((at >= 0) & (at <= last)).all(axis=-1)
    return float((field.confidence[covered] > _SURE).mean()) if covered.any() else 0.0


def _far_px(coarse: CoarseFit) -> float:
    return max(_FAR_PX, _FAR_SHARE * coarse.sizes[0][1])


def align_from_nothing(
    pairs: Pairs,
    model: Model = "lens",
    *,
    near: Model = "affine",
    rounds: int = 2,
    search_px: float = 24.0,
    progress: Callable[[str, ResidualField], None] | None = None,
    searched: Callable[[float], None] | None = None,
) -> Refinement:
    """Align pictures of a rig of which nothing is known: `coarse_search` over the whole range, then `refine_alignment`.

    Args:
        model, near: what may change in the end where thermal lies far off, and where plain scaling is near.
        rounds, search_px: at least; more where thermal lies far off.
        progress: see `refine_alignment`. searched: told the share of the search that is done, 0..1. Either may raise.

    Raises:
        BadInputError: no pictures, or they do not tell where thermal belongs.
    """
    verdict, coarse = _judged(None, pairs, search_px, searched)
    upside_down = np.isnan(verdict.off_px)
    if upside_down:
        pairs = [(visible, thermal[::-1, ::-1]) for visible, thermal in pairs]
        verdict, coarse = _judged(None, pairs, search_px, searched)
    if np.isnan(verdict.off_px):
        raise BadInputError(
            "too few places in the pictures tell where thermal belongs. Take more pictures, of a scene with structure "
            "in both; see that both are of one moment, and that none is mirrored or turned by a quarter."
        )
    plain = plain_scaling(*coarse.sizes)
    if verdict.far:
        return _from_afar(coarse, pairs, model, rounds, search_px, progress, upside_down)
    if not upside_down:
        return refine_alignment(plain, pairs, near, rounds=rounds, search_px=search_px, progress=progress)
    straight = replace(coarse, H_visible_thermal=plain.H_visible_thermal, scale=1.0, turn_deg=0.0)
    return _from_afar(straight, pairs, near, rounds, search_px, progress, upside_down)


def _from_afar(
    start: CoarseFit,
    pairs: Pairs,
    model: Model,
    rounds: int,
    search_px: float,
    progress: Callable[[str, ResidualField], None] | None,
    upside_down: bool,
) -> Refinement:
    """Refine what was found first, or take it as it is. upside_down: the thermal pictures are turned by half."""
    search_px = max(search_px, _SEARCH_SHARE * start.sizes[0][1])
    found: Refinement | None = None
    with suppress(BadInputError):
        found = refine_alignment(
            start.calibration,
            pairs,
            model,
            rounds=max(rounds, _ROUNDS_FROM_AFAR),
            search_px=search_px,
            progress=progress,
            start=start,
        )
    if found is None or found.problem:
        field = measure_residual(start.calibration, pairs, search_px)
        found = Refinement(start.calibration, field, field, None, 0.0, "similarity", start)
    if not upside_down:
        return found
    assert isinstance(found.calibration, PlaneCalibration)  # made of one
    turned = replace(found.calibration, H_visible_thermal=found.calibration.H_visible_thermal @ start.half_turn)
    return replace(found, calibration=turned, start=start.upside_down)


def measure_residual(
    calibration: Calibration, pairs: Pairs, radius_px: float, looked: Callable[[], None] | None = None
) -> ResidualField:
    """How far thermal lies from visible under a calibration, summed over pictures.

    Args:
        pairs: (H, W, 3) uint8 RGB and (Ht, Wt) uint8 or uint16, at least one.
        radius_px: largest displacement that is searched.
        looked: called before each pair; may raise to end it.

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
    seen = float(aligner.mask.mean())  # a small field is cut into smaller cells, so that there are as many
    estimator = ResidualFieldEstimator(
        aligner.size, radius_px=radius_px, cell_px=float(np.clip(32 * seen**0.5, 16, 32))
    )
    total: CorrelationVolume | None = None
    for visible, thermal in pairs:
        if looked is not None:
            looked()
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
    start: CoarseFit | None = None,
) -> Refinement:
    """Correct a calibration by what the pictures show, and judge it on pictures that were kept back.

    Args:
        model: what may change; where that does not hold, the next simpler map that does is taken, and with it a
            finer one in the part of the picture where that holds (`Region`). The first round fits a homography
            affinely: far off, it would bend to noise. "lens": a homography and the thermal lens; of a board
            calibration, which knows its lenses, a homography.
        rounds: repeats on the corrected pictures.
        search_px: largest displacement that the first round searches.
        progress: told "before" and "after round N" with what was measured.
        start: the coarse fit that the calibration is.

    Raises:
        BadInputError: no pictures, or too few places in them tell where thermal belongs.
    """
    if not pairs:
        raise BadInputError("there is no pair of pictures to refine the alignment by")
    if rounds < 1:
        raise BadInputError(f"{rounds} rounds of refinement, must be at least 1")
    tried: list[Refinement] = []
    if model == "lens" and not isinstance(calibration, PlaneCalibration):
        model = "homography"
    footage = _Footage.of(calibration, pairs, search_px)
    if progress is not None:
        progress("before", footage.before)
    for kind in _STEPS[_STEPS.index(model) :]:
        try:
            tried.append(_refined(footage, kind, rounds, None if tried else progress, start))
        except BadInputError:
            if kind == "shift" and not tried:
                raise
            continue
        if not tried[-1].problem:
            break
    lower = tried[-1] if not tried[-1].problem else None
    for finer in tried[: -1 if lower else None]:
        unsure = not finer.spread_px <= _MOST_SPREAD_PX or finer.worsened[0] > _WORSE_SHARE
        if finer.model != "lens" and finer.gained and unsure:
            found = _in_a_region(footage, finer, lower, rounds)
            if found is not None and not found.problem:
                return found
    return lower or tried[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Footage:
    """Pictures, and how far thermal lies off in them under the calibration that is to be corrected.

    kept_back, others: parts of them that judge and that a correction to be judged is made of; None: too few.
    """

    calibration: Calibration
    pairs: Pairs
    search_px: float
    before: ResidualField
    kept_back: _Footage | None = None
    others: _Footage | None = None

    @classmethod
    def of(cls, calibration: Calibration, pairs: Pairs, search_px: float) -> _Footage:
        """Measure all of them, and both parts."""
        whole, *parts = (
            cls(calibration, some, search_px, measure_residual(calibration, some, search_px))
            for some in (pairs, *_parted(pairs))
        )
        return replace(whole, kept_back=parts[0], others=parts[1]) if parts else whole

    def after(self, calibration: Calibration) -> ResidualField:
        """What another calibration leaves, searched as far: a place that is put farther off must not get lost."""
        return measure_residual(calibration, self.pairs, self.search_px)


def _in_a_region(footage: _Footage, finer: Refinement, lower: Refinement | None, rounds: int) -> Refinement | None:
    """Take a map that does not hold all over the picture in the part where it does; None: there is none.

    finer, lower: of all pictures; without a lower map everything outside the part stays as it was.
    """
    calibration, kept_back, others = footage.calibration, footage.kept_back, footage.others
    if calibration.region is not None or kept_back is None or others is None:
        return None
    kinds: tuple[Model | None, Model] = (lower.model if lower else None, finer.model)  # type: ignore[assignment]

    def made(everywhere: Calibration, inside: Calibration, region: Region) -> Calibration:
        finest = np.linalg.inv(everywhere.correction_visible) @ inside.correction_visible
        return replace(everywhere, region=replace(region, map=finest / finest[2, 2]))

    region = _ellipse(finer.after, kinds[1])
    if region is None:
        return None
    spread_px = _spread_px(finer.calibration, finer.after, kinds[1], region)
    if spread_px > _MOST_SPREAD_PX:
        return None
    found = made(lower.calibration if lower else calibration, finer.calibration, region)
    start = finer.start is not None
    of_others = [_corrected(others, kind, rounds, None, start)[0] if kind else calibration for kind in kinds]
    checked = made(of_others[0], of_others[1], region)
    if any(c.region is None or c.region.steepness > _REGION_STEEPNESS for c in (found, checked)):
        return None
    plain = kept_back.after(of_others[0]) if kinds[0] else kept_back.before
    second = kept_back.after(checked)
    inside = region.weight(second.centres_px.reshape(-1, 2)).reshape(second.confidence.shape) >= 1
    left = [replace(field, confidence=field.confidence * inside).magnitude_px for field in (plain, second)]
    if not left[1] <= left[0] - _GAIN_PX:
        return None
    return Refinement(
        found,
        finer.before,
        footage.after(found),
        (kept_back.before.magnitude_px, second.magnitude_px),
        lower.spread_px if lower else spread_px,
        lower.model if lower else "none",
        finer.start,
    )


def _ellipse(field: ResidualField, kind: Model) -> Region | None:
    """The part of the picture where a correction leaves little, from what is left under it; its map not yet set."""
    known = field.told.confidence > _SURE
    held = known & (np.linalg.norm(field.d_px, axis=-1) <= _REGION_AGREE_PX)
    if held.sum() < 12:
        return None
    weight, at = field.confidence[held].astype(np.float64), field.centres_px[held]
    centre = np.average(at, axis=0, weights=weight)
    half = np.maximum(2.0 * np.sqrt(np.average((at - centre) ** 2, axis=0, weights=weight)), 16.0)  # an even ellipse's
    region = Region(np.eye(3), (float(centre[0]), float(centre[1])), (float(half[0]), float(half[1])), kind)
    inside = region.weight(field.centres_px.reshape(-1, 2)).reshape(known.shape) >= 1
    if held[inside].sum() < _REGION_LIKE * known[inside].sum():
        return None
    return region if _REGION_SHARE[0] <= region.share(field.size) <= _REGION_SHARE[1] else None


def _parted(pairs: Pairs) -> list[Pairs]:
    """The pictures that are kept back for the judgement, and the others; nothing where they are too few."""
    back = [index * _BLOCKS // len(pairs) % 2 == 1 for index in range(len(pairs))]
    if sum(back) < _LEAST_HELD_OUT:
        return []
    return [[p for p, kept in zip(pairs, back, strict=True) if kept is wanted] for wanted in (True, False)]


def _refined(
    footage: _Footage,
    model: Model,
    rounds: int,
    progress: Callable[[str, ResidualField], None] | None,
    start: CoarseFit | None,
) -> Refinement:
    corrected, spread_px = _corrected(footage, model, rounds, progress, start is not None)
    held_out: tuple[float, float] | None = None
    if footage.kept_back is not None and footage.others is not None:
        of_others = _corrected(footage.others, model, rounds, None, start is not None)[0]
        held_out = footage.kept_back.before.magnitude_px, footage.kept_back.after(of_others).magnitude_px
    return Refinement(corrected, footage.before, footage.after(corrected), held_out, spread_px, model, start)


def _corrected(
    footage: _Footage,
    model: Model,
    rounds: int,
    progress: Callable[[str, ResidualField], None] | None,
    from_afar: bool,
) -> tuple[Calibration, float]:
    """Returns the corrected calibration, and the largest spread of the rounds (or the last)."""
    calibration, field, spread_px = footage.calibration, footage.before, 0.0
    for number in range(rounds):
        if number:
            field = measure_residual(calibration, footage.pairs, min(footage.search_px, 10.0))
            if progress is not None:
                progress(f"after round {number}", field)
        kind: Model = "affine" if model == "homography" and number == 0 else model
        now_px = _spread_px(calibration, field, kind)
        # From afar the first rounds rest on little, and the later ones mend them: the last one counts.
        spread_px = now_px if from_afar else max(spread_px, now_px)
        calibration = _updated(calibration, field, kind)
    return calibration, spread_px


def _updated(calibration: Calibration, field: ResidualField, model: Model) -> Calibration:
    if model == "lens":
        assert isinstance(calibration, PlaneCalibration)  # by `refine_alignment`
        return fit_lens(field, calibration)
    C = fit_update(field, model) @ calibration.correction_visible
    return calibration.with_correction(C / C[2, 2])


def _spread_px(calibration: Calibration, field: ResidualField, model: Model, region: Region | None = None) -> float:
    """Jackknife over parts of the picture: 1 sigma of where the correction puts things, 95 % over the common field.

    region: parts of it, and over it, only.
    """
    height, width = field.size
    points = thermal_grid_points((calibration.thermal.height, calibration.thermal.width))
    places = calibration.visible_from_thermal(points)
    points = points[((places >= 0) & (places <= [width - 1, height - 1])).all(axis=1)]
    if region is not None:
        points = points[region.weight(calibration.visible_from_thermal(points)) >= 1]
    rows, columns = (
        np.arange(cells) * parts // cells for cells, parts in zip(field.confidence.shape, _PARTS, strict=True)
    )
    part = rows[:, None] * _PARTS[1] + columns[None]
    if region is not None:
        part = (field.centres_px > region.centre_px) @ np.array([1, 2])
        inside = region.weight(field.centres_px.reshape(-1, 2)).reshape(field.confidence.shape) >= 1
        agrees = np.linalg.norm(field.d_px, axis=-1) <= _REGION_AGREE_PX  # else it is for another distance
        field = replace(field, confidence=field.confidence * (inside | agrees))
    moved = []
    for number in range(int(part.max()) + 1):
        left_out = np.where(part == number, np.float32(0), field.confidence)
        if np.array_equal(left_out, field.confidence):
            continue
        try:
            without = _updated(calibration, replace(field, confidence=left_out), model)
        except BadInputError:  # this part holds nearly everything that is known
            return float("inf")
        moved.append(without.visible_from_thermal(points))
    if len(moved) < 2 or not len(points):
        return float("inf")
    off = np.array(moved) - np.mean(moved, axis=0)
    sigma = np.sqrt((len(moved) - 1) / len(moved) * (off**2).sum(axis=(0, 2)))
    return float(np.percentile(sigma, 95))
