"""Fits a homography to hand-picked (or otherwise matched) points, leaves out outliers, and tells each residual."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibration.rig import CameraSide, PlaneCalibration, apply_homography
from fusion_core.errors import BadInputError

__all__ = ["PointSolution", "solve_points"]

_Map = Literal["similarity", "affine", "homography"]
Model = Literal["auto", "similarity", "affine", "homography"]
_STEPS: tuple[_Map, ...] = ("homography", "affine", "similarity")
_NEEDED = {"similarity": 2, "affine": 3, "homography": 4}
_CARRIED = {"similarity": 2, "affine": 5, "homography": 8}  # with points to spare: their errors show
_FAR = 0.015  # of the picture's width: further off when left out, a pick is warned of
_LOOSEST = 0.02  # of the width: further off, a pick is taken for a mistake whatever the others' spread
_FINEST = 0.002  # of the width: 1 sigma that picks are allowed whatever their spread
_USUAL = 0.005  # of the width: 1 sigma that picks have before they show their own,
_PRIOR = 4.0  # worth so many points
_SIMPLER = 1.25  # a finer map must foretell left-out points better than a simpler one by this
_MOST_VOTES = 300


@dataclass(frozen=True, slots=True, eq=False)
class PointSolution:
    """H_visible_thermal (3, 3); residual_px (N,) visible pixels of every point, outliers too; inlier (N,) bool.

    left_out_px (N,): each point's residual in a fit without it, as a new point would see; NaN where that cannot be
    told.
    """

    H_visible_thermal: np.ndarray
    residual_px: np.ndarray
    left_out_px: np.ndarray
    inlier: np.ndarray
    model: _Map
    far_px: float

    @property
    def far(self) -> np.ndarray:
        """(N,) bool: points further than `far_px` off when left out: a wrong pick, or one that no other checks."""
        return np.asarray(np.nan_to_num(self.left_out_px, nan=0.0) > self.far_px)

    @property
    def rms_px(self) -> float:
        """rms of the points that were used; infinite without any."""
        return float(np.sqrt(np.mean(self.residual_px[self.inlier] ** 2))) if self.inlier.any() else float("inf")

    def calibration(
        self, visible: CameraSide, thermal: CameraSide, working_distance_m: float = 0.0
    ) -> PlaneCalibration:
        """Make a calibration that can be saved."""
        return PlaneCalibration(visible, thermal, self.H_visible_thermal, self.rms_px, working_distance_m)


def solve_points(
    visible_px: np.ndarray, thermal_px: np.ndarray, *, model: Model = "auto", width_px: float = 640.0
) -> PointSolution:
    """Fit thermal to visible from point pairs, each weighed by how well it agrees with the others.

    How far picks may lie off is judged by their own spread, within limits that go with the picture's width: a lens
    and parallax move them by more pixels in a larger picture. A map that the points left over do not carry is stepped
    down: a homography to an affine map to a similarity.

    Args:
        visible_px, thermal_px: (N, 2), N >= 2 (similarity), 3 (affine), 4 (homography). "auto" takes a similarity;
            from 5 points that agree an affine map, from 8 a homography, where it foretells points that are left out
            clearly better.
        width_px: of the visible picture.

    Raises:
        BadInputError: too few points, points that do not determine the map (all on one line), or that do not agree.
    """
    target = np.asarray(visible_px, np.float64).reshape(-1, 2)
    source = np.asarray(thermal_px, np.float64).reshape(-1, 2)
    if len(target) != len(source):
        raise BadInputError(f"{len(target)} visible but {len(source)} thermal points; they must come in pairs")
    carried: list[_Map] = [kind for kind in _STEPS if len(target) >= _CARRIED[kind]] or ["similarity"]
    kinds: list[_Map] = carried if model == "auto" else list(_STEPS[_STEPS.index(model) :])
    needed = _NEEDED[kinds[0]]
    if len(target) < needed:
        raise BadInputError(f"{len(target)} point pairs, a {kinds[0]} map needs at least {needed}")
    spread = np.linalg.svd(source - source.mean(axis=0), compute_uv=False)
    if kinds[0] != "similarity" and spread[-1] < 1e-3 * max(float(spread[0]), 1e-9):
        raise BadInputError(
            f"the points do not determine a {kinds[0]} map: they lie on one line or on top of each other"
        )
    solved: PointSolution | None = None
    for kind in kinds:
        found = _solve_as(source, target, kind, width_px)
        used = int(found.inlier.sum())
        rough = used < len(target) or _FINEST * width_px < _left_out_rms(found) < np.inf
        if rough and used < _CARRIED[kind] and kind != "similarity":
            continue  # what is left does not carry this map
        if solved is None or _foretells(found, solved):
            solved = found
        if model != "auto":
            break
    assert solved is not None  # a similarity is always taken
    used = int(solved.inlier.sum())
    if used < len(target) and used < max(_NEEDED[solved.model] + 1, len(target) // 2):
        raise BadInputError(
            f"only {used} of {len(target)} point pairs agree to {_LOOSEST * width_px:.0f} visible px. "
            "Check the picks, or pick points at one distance."
        )
    return solved


def _left_out_rms(solution: PointSolution) -> float:
    """Error at a new point, px; infinite where it cannot be told."""
    left_out = solution.left_out_px[solution.inlier]
    return float(np.sqrt(np.mean(left_out**2))) if np.isfinite(left_out).all() else float("inf")


def _foretells(simpler: PointSolution, finer: PointSolution) -> bool:
    """Whether the simpler map foretells left-out points nearly as well, by the points that one of the two uses."""
    of = simpler.inlier | finer.inlier
    simple, fine = (
        np.mean(np.minimum(np.nan_to_num(map_.left_out_px[of], nan=np.inf), map_.far_px) ** 2)
        for map_ in (simpler, finer)
    )
    return bool(simple < _SIMPLER**2 * fine)


def _solve_as(source: np.ndarray, target: np.ndarray, kind: _Map, width_px: float) -> PointSolution:
    """Weights and map in turns, from the map of a few points that most of the others agree with."""
    weight = np.ones(len(target))
    limit_px = _LOOSEST * width_px
    if len(target) >= _NEEDED[kind] + 2:
        weight = _voted(source, target, kind, limit_px)
        for _ in range(10):
            if (weight > 0).sum() < _NEEDED[kind] + 1:
                break
            off = _off(_fit(source, target, kind, weight), source, target)
            kept = weight > 0
            spare = max(1.0, kept.sum() - _NEEDED[kind])
            sigma = 1.4826 * float(np.median(off[kept])) * np.sqrt(kept.sum() / spare)
            sigma = float(np.sqrt((spare * sigma**2 + _PRIOR * (_USUAL * width_px) ** 2) / (spare + _PRIOR)))
            limit_px = 3 * float(np.clip(sigma, _FINEST * width_px, _LOOSEST / 3 * width_px))
            weight = np.clip(1 - (off / limit_px) ** 2, 0.0, 1.0) ** 2  # Tukey's
    inlier = weight > 0
    if inlier.sum() < _NEEDED[kind]:
        inlier, weight = np.zeros(len(target), bool), np.ones(len(target))
    H = _fit(source, target, kind, weight)
    residual = _off(H, source, target)
    left_out = np.where(inlier, np.nan, residual)
    for index in np.flatnonzero(inlier):
        others = weight.copy()
        others[index] = 0.0
        if (others > 0).sum() < _NEEDED[kind]:
            continue
        try:
            left_out[index] = _off(_fit(source, target, kind, others), source, target)[index]
        except BadInputError:
            continue  # the point is indispensable; its left-out residual stays NaN
    return PointSolution(H, residual, left_out, inlier, kind, _FAR * width_px)


def _off(H: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(apply_homography(H, source) - target, axis=1))


def _voted(source: np.ndarray, target: np.ndarray, kind: _Map, limit_px: float) -> np.ndarray:
    """(N,) 1 for the points that agree with the best map through as few as determine one, else 0."""
    rng = np.random.default_rng(7)
    every = itertools.combinations(range(len(source)), _NEEDED[kind])
    few = list(itertools.islice(every, _MOST_VOTES + 1))
    if len(few) > _MOST_VOTES:
        few = [tuple(rng.choice(len(source), _NEEDED[kind], replace=False)) for _ in range(_MOST_VOTES)]
    best, cost = np.ones(len(source)), np.inf
    for chosen in few:
        weight = np.zeros(len(source))
        weight[list(chosen)] = 1.0
        try:
            off = _off(_fit(source, target, kind, weight), source, target)
        except BadInputError:
            continue
        total = float(np.minimum(off, limit_px).sum())
        if total < cost:
            best, cost = (off < limit_px).astype(float), total
    return best


def _fit(source: np.ndarray, target: np.ndarray, model: str, weight: np.ndarray) -> np.ndarray:
    """Weighted least squares in visible pixels. Both point sets are centred and scaled first; weight (N,) >= 0."""
    root = np.sqrt(weight[weight > 0])[:, None]
    source, target = source[weight > 0], target[weight > 0]
    T_source, a = _normalised(source)
    T_target, b = _normalised(target)
    ones, zeros = np.ones(len(a)), np.zeros(len(a))
    x, y = a.T
    if model == "similarity":
        rows = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
        p, rank = _solve(rows * np.tile(root, (2, 1)), b.T.reshape(-1) * np.tile(root[:, 0], 2))
        H = np.array([[p[0], -p[1], p[2]], [p[1], p[0], p[3]], [0, 0, 1]])
    elif model == "affine":
        p, rank = _solve(np.stack([x, y, ones], 1) * root, b * root)
        H = np.vstack([p.T, [0, 0, 1]])
        rank += 3
    else:
        H, rank = _fit_homography(a, b, root)
    if rank < {"similarity": 4, "affine": 6, "homography": 8}[model]:
        raise BadInputError(f"the points do not determine a {model} map: they lie on one line or on top of each other")
    H = np.linalg.inv(T_target) @ H @ T_source
    return np.asarray(H / H[2, 2])


def _fit_homography(a: np.ndarray, b: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, int]:
    """Direct linear transform, its errors brought to pixels by the denominators of the round before."""
    ones, zeros = np.ones((len(a), 1)), np.zeros((len(a), 3))
    full = np.hstack([a, ones])
    depth = ones
    for _ in range(4):
        rows = np.vstack([np.hstack([full, zeros, -b[:, :1] * full]), np.hstack([zeros, full, -b[:, 1:] * full])])
        _, values, directions = np.linalg.svd(rows * np.tile(root / depth, (2, 1)))
        if len(a) >= 4 and values[min(len(values), 8) - 1] < 1e-7 * values[0]:
            raise BadInputError("the points do not determine a homography: three or more lie on one line")
        H = directions[-1].reshape(3, 3)
        depth = np.maximum(np.abs(full @ H[2])[:, None], 1e-6)
    if abs(np.linalg.det(H / np.linalg.norm(H))) < 1e-8:
        raise BadInputError("the points do not determine a homography: three or more lie on one line")
    return H, 8


def _solve(rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, int]:
    solution, _, rank, _ = np.linalg.lstsq(rows, values, rcond=1e-9)
    return solution, int(rank)


def _normalised(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = points.mean(axis=0)
    scale = float(np.sqrt(np.mean(np.sum((points - centre) ** 2, axis=1)))) or 1.0
    T = np.array([[1 / scale, 0, -centre[0] / scale], [0, 1 / scale, -centre[1] / scale], [0, 0, 1]])
    return T, (points - centre) / scale
