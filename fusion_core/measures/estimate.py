"""How good a displacement estimate is: what it follows, where it lies, how calm it is, and what a rig's truth says.

Everything is measured on the field that an engine would warp the thermal picture with (the maps of `Estimate`), in
pixels of the picture, as the length of the difference vector:

- following: the thermal picture of a pair is moved by a known amount; by how much does the estimate differ from that of
  the unmoved pair, carried along? What the pair itself is off by falls out.
- peaks: distance from the local peaks of an independent block correlation, where those are clear.
- affine: distance from the one affine map that fits the field best. On a rig without parallax all of it is error.
- simulated rig, on video: distance from the truth, and how much the field moves while the rig stands.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fusion_core.colour import luminance
from fusion_core.cross_spectral import OutlineForm, box_mean, outlines, second_peak, surface_peak
from fusion_core.engines.running_displacement import Estimate, Estimator, RunningDisplacement
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import BadInputError
from fusion_core.measures.displacement import Displacement, DisplacementKind, displace, displacement_field
from fusion_core.measures.evaluation import EvaluationPair
from fusion_core.shift import estimate_shift
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc

__all__ = [
    "RIGS",
    "RIG_FRAMES",
    "LocalPeaks",
    "PairErrors",
    "RigErrors",
    "RigMoment",
    "affine_deviation",
    "field_of",
    "following_error",
    "local_peaks",
    "pair_errors",
    "peak_distance",
    "rig_errors",
    "rig_moments",
]

Floats = npt.NDArray[np.float32]

BORDER_PX = 16  # what was moved in from outside is mirrored, and nobody can follow it
EDGE_PX = 8

_BLOCK_PX, _EVERY_PX, _SEARCH_PX = 96, 24, 8
_PEAK, _LEAD, _APART_PX = 0.15, 0.04, 4
_OUTLINES = OutlineForm(
    smoothing_px=1.0, kernel="sobel", local_mean=box_mean(31), level_floor_share=0.1, level_floor=1e-3
)

_PERIOD_S = 1 / 30
_SETTLED = 20  # frames before a rig's errors count

RIG_FRAMES = 60
"""Of each rig's video: two seconds."""

RIGS: dict[str, SimulatedRigConfig] = {
    "street, standing": SimulatedRigConfig(seed=401, residual_shift_px=(4.0, -3.0)),
    "yard at dusk, panning": SimulatedRigConfig(
        seed=402, scene="yard", night=0.4, pan_deg_per_s=10.0, residual_shift_px=(-3.0, 2.0), residual_rotation_deg=0.3
    ),
    "street, coarse thermal": SimulatedRigConfig(
        seed=403, thermal_height=240, thermal_width=320, thermal_blur_px=1.0, thermal_gain=24.0,
        thermal_noise_counts=2.5, pan_deg_per_s=6.0, residual_shift_px=(2.0, 3.0),
    ),
}  # fmt: skip
"""Rigs to measure an estimate on. Their seeds serve nothing else."""


def field_of(estimate: Estimate) -> Floats:
    """What the maps of an estimate do: (2, H, W) float32, (dx, dy), thermal content of visible p lies at p + d(p)."""
    xs, ys = cv2.convertMaps(*estimate.maps, cv2.CV_32FC1)
    height, width = xs.shape
    return np.stack((xs - np.arange(width, dtype=np.float32), ys - np.arange(height, dtype=np.float32)[:, None]))


def _still(estimator: Estimator, visible: np.ndarray, thermal: np.ndarray) -> Floats:
    return field_of(RunningDisplacement(estimator, 1).at(visible, thermal))


def _inner(plane: np.ndarray) -> np.ndarray:
    """Without the border, every fourth pixel each way."""
    return plane[..., BORDER_PX : -BORDER_PX + 1 : 4, BORDER_PX : -BORDER_PX + 1 : 4]


def following_error(
    estimator: Estimator, pair: EvaluationPair, displacements: Sequence[Displacement], *, seed: int = 0
) -> tuple[Floats, list[Floats]]:
    """Estimate a pair as it is, and moved by each displacement.

    Returns:
        The field of the pair as it is, (2, H, W), and for each displacement the errors inside the border, (N,) px.
    """
    visible, height, width = luminance(pair.visible), *pair.thermal.shape
    before = _still(estimator, visible, pair.thermal)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    errors = []
    for displacement in displacements:
        moved = displace(pair.thermal, displacement, pair.stem, seed)
        if displacement.kind is DisplacementKind.UNIFORM:
            known = np.full((2, height, width), displacement.size_px, np.float32)
        else:
            given = displacement_field(height, width, displacement.size_px, pair.stem, seed).transpose(2, 0, 1)
            known = given
            for _ in range(6):  # content of q is found at p = q + d(p)
                known = _sample(given, xs + known[0], ys + known[1])
        expected = before + _sample(known, xs + before[0], ys + before[1])
        difference = _still(estimator, visible, moved) - expected
        errors.append(_inner(np.hypot(difference[0], difference[1])).ravel())
    return before, errors


def _sample(planes: Floats, xs: np.ndarray, ys: np.ndarray) -> Floats:
    sampled = [cv2.remap(plane, xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in planes]
    return np.asarray(sampled, np.float32)


@dataclass(frozen=True, eq=False)
class LocalPeaks:
    """Where blocks of both pictures correlate clearly. x_px, y_px: their centres; displacement_px (2, N)."""

    x_px: Floats
    y_px: Floats
    displacement_px: Floats


def local_peaks(visible: np.ndarray, thermal: np.ndarray) -> LocalPeaks:
    """Correlate blocks of 96 px every 24 px within 8 px of where the whole picture correlates best.

    Only clear peaks are kept: above 0.15, and 0.04 above the second outside of 4 px.

    Args:
        visible, thermal: (H, W) uint8.
    """
    whole = estimate_shift(visible, thermal)
    base = (round(whole.dx_px), round(whole.dy_px)) if whole.reliable else (0, 0)
    fixed, moving = outlines(visible, _OUTLINES), outlines(thermal, _OUTLINES)
    height, width = visible.shape
    found: list[tuple[float, float, float, float]] = []
    for top in range(0, height - _BLOCK_PX + 1, _EVERY_PX):
        for left in range(0, width - _BLOCK_PX + 1, _EVERY_PX):
            x0, y0 = left + base[0] - _SEARCH_PX, top + base[1] - _SEARCH_PX
            side = _BLOCK_PX + 2 * _SEARCH_PX
            if min(x0, y0) < 0 or x0 + side > width or y0 + side > height:
                continue
            block = fixed[top : top + _BLOCK_PX, left : left + _BLOCK_PX]
            likeness = cv2.matchTemplate(moving[y0 : y0 + side, x0 : x0 + side], block, cv2.TM_CCOEFF_NORMED)
            surface = np.asarray(likeness, np.float32)
            row, column = (int(place) for place in np.unravel_index(int(np.argmax(surface)), surface.shape))
            peak = surface[row, column]
            inside = 0 < row < 2 * _SEARCH_PX and 0 < column < 2 * _SEARCH_PX
            if not inside or peak < _PEAK or peak - second_peak(surface, row, column, _APART_PX) < _LEAD:
                continue
            x, y = surface_peak(surface, row, column)
            centre = (left + (_BLOCK_PX - 1) / 2, top + (_BLOCK_PX - 1) / 2)
            found.append((*centre, base[0] - _SEARCH_PX + x, base[1] - _SEARCH_PX + y))
    columns = np.asarray(found, np.float32).reshape(-1, 4).T
    return LocalPeaks(columns[0], columns[1], columns[2:])


def peak_distance(field_px: Floats, peaks: LocalPeaks) -> Floats:
    """How far the field, (2, H, W), averaged over each block, lies from its peak: (N,) px."""
    blocks = [cv2.blur(plane, (_BLOCK_PX, _BLOCK_PX)) for plane in field_px]
    if not len(peaks.x_px):
        return np.empty(0, np.float32)
    at = _sample(np.stack(blocks), peaks.x_px[None], peaks.y_px[None])[:, 0]
    return np.asarray(np.hypot(*(at - peaks.displacement_px)), np.float32)


def affine_deviation(field_px: Floats) -> Floats:
    """Distances of the field, (2, H, W), from the affine map with the least sum of them: (N,) px, inside the border."""
    values = _inner(field_px).reshape(2, -1).astype(np.float64)
    height, width = field_px.shape[1:]
    ys, xs = (_inner(plane).ravel() for plane in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])
    terms = np.stack((np.ones_like(xs), xs, ys))
    distances = np.ones(values.shape[1])
    for _ in range(30):  # reweighted least squares
        weighted = terms / np.maximum(distances, 0.02)
        solution = np.linalg.solve(weighted @ terms.T, weighted @ values.T)
        distances = np.hypot(*(values - solution.T @ terms))
    return distances.astype(np.float32)


@dataclass(frozen=True, eq=False)
class RigMoment:
    """One moment of a simulated rig: (H, W) uint8 twice, the true field (2, H, W), and where depth jumps nearby."""

    visible: np.ndarray
    thermal: np.ndarray
    true_px: Floats
    near_edge: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RigErrors:
    """On the video of one rig. off_px: errors of all pixels; edge_px: of those within 8 px of a depth edge.

    noise_px: standard deviation over time of the error, each place for itself, (N,): how much the estimate moves
    while the rig stands; None where it does not stand. estimate_ms: processor time a frame.
    """

    off_px: Floats
    edge_px: Floats
    noise_px: Floats | None
    estimate_ms: float


def rig_moments(config: SimulatedRigConfig, frames: int) -> Iterator[RigMoment]:
    """So many frames at 30 a second."""
    rig, agc = SimulatedRig(config), Agc()
    for index in range(frames):
        t_s = 2.0 + index * _PERIOD_S
        visible, truth = luminance(rig.visible(t_s)), rig.truth(t_s).displacement_px.transpose(2, 0, 1)
        counts = agc.apply(rig.thermal(t_s), _PERIOD_S)
        thermal = np.asarray(cv2.resize(counts, visible.shape[::-1], interpolation=cv2.INTER_LINEAR))
        across = np.ascontiguousarray(truth[0])
        kernel = np.ones((3, 3), np.uint8)
        jump = cv2.dilate(across, kernel) - cv2.erode(across, kernel) > 0.5
        reach = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
        yield RigMoment(visible, thermal, np.asarray(truth), cv2.dilate(jump.astype(np.uint8), reach) > 0)


def rig_errors(estimator: Estimator, moments: Sequence[RigMoment], *, standing: bool) -> RigErrors:
    """Run the estimate over a rig's video as an engine would.

    Args:
        standing: the rig does not pan; else what moves over time is not told apart from what should move.

    Raises:
        ValueError: the video ends before the estimate has settled (20 frames).
    """
    if len(moments) <= _SETTLED:
        raise ValueError(f"{len(moments)} frames, must be more than {_SETTLED}")
    video = VideoOptions()
    every, smoothing = video.align_every, video.align_smoothing
    began_s = time.process_time()
    running = RunningDisplacement(estimator, every, smoothing=smoothing)
    for moment in moments:
        running.at(moment.visible, moment.thermal)
    running.close()
    estimate_ms = 1e3 * (time.process_time() - began_s) / len(moments)
    running = RunningDisplacement(estimator, every, smoothing=smoothing)
    off, edge, over_time = [], [], []
    try:
        for index, moment in enumerate(moments):
            estimate = running.at(moment.visible, moment.thermal)
            if index < _SETTLED:
                continue
            difference = field_of(estimate) - moment.true_px
            length = np.hypot(difference[0], difference[1])
            off.append(_inner(length).ravel())
            edge.append(_inner(length)[_inner(moment.near_edge)])
            over_time.append(_inner(difference)[:, ::2, ::2])
    finally:
        running.close()
    deviation = np.asarray(over_time).std(axis=0)
    noise = np.hypot(deviation[0], deviation[1]).ravel() if standing else None
    return RigErrors(np.concatenate(off), np.concatenate(edge), noise, estimate_ms)


@dataclass(frozen=True, eq=False)
class PairErrors:
    """Of one estimate over the pairs of a folder, all pixels of all pairs together.

    following_px: by displacement. peaks_px: distances from clear local peaks. affine_px: from each pair's affine map.
    """

    following_px: dict[Displacement, Floats]
    peaks_px: Floats
    affine_px: Floats


def pair_errors(
    estimator: Estimator, pairs: Iterable[EvaluationPair], displacements: Sequence[Displacement], *, seed: int = 0
) -> PairErrors:
    """Measure an estimate on pairs; those without clear peaks count for the rest only.

    Raises:
        BadInputError: no pairs, or one under 112x112 px.
    """
    following: dict[Displacement, list[Floats]] = {displacement: [] for displacement in displacements}
    peaks, affine = [], []
    for pair in pairs:
        if min(pair.thermal.shape) < _BLOCK_PX + 2 * _SEARCH_PX:
            raise BadInputError(f"pair {pair.stem} is {pair.thermal.shape} (height, width), must be 112x112 or more")
        field_px, errors = following_error(estimator, pair, displacements, seed=seed)
        for displacement, error in zip(displacements, errors, strict=True):
            following[displacement].append(error)
        peaks.append(peak_distance(field_px, local_peaks(luminance(pair.visible), pair.thermal)))
        affine.append(affine_deviation(field_px))
    if not affine:
        raise BadInputError("no pairs to evaluate, want at least one")
    joined = {displacement: np.concatenate(errors) for displacement, errors in following.items()}
    return PairErrors(joined, np.concatenate(peaks), np.concatenate(affine))
