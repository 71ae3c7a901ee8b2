"""Fits a homography to hand-picked (or otherwise matched) points, leaves out outliers, and tells each residual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from calibration.rig import CameraSide, PlaneCalibration, apply_homography
from fusion_core.errors import BadInputError

__all__ = ["PointSolution", "solve_points"]

Model = Literal["auto", "similarity", "affine", "homography"]
_NEEDED = {"similarity": 2, "affine": 3, "homography": 4}


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
    model: str

    @property
    def rms_px(self) -> float:
        """rms of the points that were used."""
        return float(np.sqrt(np.mean(self.residual_px[self.inlier] ** 2)))

    def calibration(
        self, visible: CameraSide, thermal: CameraSide, working_distance_m: float = 0.0
    ) -> PlaneCalibration:
        """Make a calibration that can be saved."""
        return PlaneCalibration(visible, thermal, self.H_visible_thermal, self.rms_px, working_distance_m)


def solve_points(
    visible_px: np.ndarray, thermal_px: np.ndarray, *, model: Model = "auto", threshold_px: float = 4.0
) -> PointSolution:
    """Fit thermal to visible from point pairs.

    Args:
        visible_px, thermal_px: (N, 2), N >= 2 (similarity), 3 (affine), 4 (homography). "auto" takes a similarity
            below 4 points, an affine map below 8, and a homography from there on.
        threshold_px: points further off than this are outliers, where there are points to spare.

    Raises:
        BadInputError: too few points, or points that do not determine the map (all on one line).
    """
    target = np.asarray(visible_px, np.float64).reshape(-1, 2)
    source = np.asarray(thermal_px, np.float64).reshape(-1, 2)
    if len(target) != len(source):
        raise BadInputError(f"{len(target)} visible but {len(source)} thermal points; they must come in pairs")
    chosen = (
        model if model != "auto" else "similarity" if len(target) < 4 else "affine" if len(target) < 8 else "homography"
    )
    needed = _NEEDED[chosen]
    if len(target) < needed:
        raise BadInputError(f"{len(target)} point pairs, a {chosen} map needs at least {needed}")
    spread = np.linalg.svd(source - source.mean(axis=0), compute_uv=False)
    if chosen != "similarity" and spread[-1] < 1e-3 * max(float(spread[0]), 1e-9):
        raise BadInputError(f"the points do not determine a {chosen} map: they lie on one line or on top of each other")
    inlier = np.ones(len(target), bool)
    if len(target) >= needed + 2:
        inlier = _ransac(source, target, chosen, threshold_px)
    H = _fit(source[inlier], target[inlier], chosen)
    residual = np.linalg.norm(apply_homography(H, source) - target, axis=1)
    left_out = np.full(len(target), np.nan)
    for index in np.flatnonzero(inlier):
        others = inlier.copy()
        others[index] = False
        if others.sum() < needed:
            continue
        try:
            H_others = _fit(source[others], target[others], chosen)
        except BadInputError:
            continue  # the point is indispensable; its left-out residual stays NaN
        left_out[index] = np.linalg.norm(apply_homography(H_others, source[index : index + 1]) - target[index])
    left_out[~inlier] = residual[~inlier]
    return PointSolution(H, residual, left_out, inlier, chosen)


def _ransac(source: np.ndarray, target: np.ndarray, model: str, threshold_px: float) -> np.ndarray:
    a, b = source.astype(np.float32), target.astype(np.float32)
    cv2.setRNGSeed(7)
    if model == "homography":
        _, mask = cv2.findHomography(a, b, cv2.RANSAC, threshold_px, maxIters=5000, confidence=0.999)
    elif model == "affine":
        _, mask = cv2.estimateAffine2D(a, b, method=cv2.RANSAC, ransacReprojThreshold=threshold_px, maxIters=5000)
    else:
        _, mask = cv2.estimateAffinePartial2D(
            a, b, method=cv2.RANSAC, ransacReprojThreshold=threshold_px, maxIters=5000
        )
    inlier = np.asarray(mask).reshape(-1).astype(bool) if mask is not None else np.zeros(len(source), bool)
    if inlier.sum() < max(_NEEDED[model] + 1, len(source) // 2):
        raise BadInputError(
            f"only {inlier.sum()} of {len(source)} point pairs agree to {threshold_px} px. "
            "Check the picks, pick points at one distance, or allow more."
        )
    return inlier


def _fit(source: np.ndarray, target: np.ndarray, model: str) -> np.ndarray:
    """Least squares in visible pixels. Both point sets are centred and scaled first."""
    T_source, a = _normalised(source)
    T_target, b = _normalised(target)
    ones, zeros = np.ones(len(a)), np.zeros(len(a))
    x, y = a.T
    if model == "similarity":
        rows = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
        p, rank = _solve(rows, b.T.reshape(-1))
        H = np.array([[p[0], -p[1], p[2]], [p[1], p[0], p[3]], [0, 0, 1]])
    elif model == "affine":
        p, rank = _solve(np.stack([x, y, ones], 1), b)
        H = np.vstack([p.T, [0, 0, 1]])
        rank += 3
    else:
        found, _ = cv2.findHomography(a, b, 0)
        if found is None or abs(np.linalg.det(found)) < 1e-8:
            raise BadInputError("the points do not determine a homography: three or more lie on one line")
        H, rank = np.asarray(found), 8
    if rank < {"similarity": 4, "affine": 6, "homography": 8}[model]:
        raise BadInputError(f"the points do not determine a {model} map: they lie on one line or on top of each other")
    H = np.linalg.inv(T_target) @ H @ T_source
    return np.asarray(H / H[2, 2])


def _solve(rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, int]:
    solution, _, rank, _ = np.linalg.lstsq(rows, values, rcond=1e-9)
    return solution, int(rank)


def _normalised(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = points.mean(axis=0)
    scale = float(np.sqrt(np.mean(np.sum((points - centre) ** 2, axis=1)))) or 1.0
    T = np.array([[1 / scale, 0, -centre[0] / scale], [0, 1 / scale, -centre[1] / scale], [0, 0, 1]])
    return T, (points - centre) / scale
