"""Solves the relation of the two cameras from views that both see: a vote of all views, then one joint fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.board import Board
from calibration.bundle import BundleResult, Sighting, solve_bundle
from calibration.detect import Detection
from calibration.rig import CameraIntrinsics, RigCalibration
from fusion_core.errors import BadInputError

__all__ = [
    "PairView",
    "StereoResult",
    "board_pose",
    "rotation_angle_deg",
    "rotation_scatter_deg",
    "solve_stereo",
    "transfer_errors_px",
]

MIN_PAIRS = 3


@dataclass(frozen=True, slots=True, eq=False)
class PairView:
    """A board as both cameras saw it at one moment; only points that both have found."""

    name: str
    ids: np.ndarray
    visible_px: np.ndarray
    thermal_px: np.ndarray

    @classmethod
    def common(cls, name: str, visible: Detection, thermal: Detection) -> PairView:
        """Keep the points that both have found."""
        ids, in_visible, in_thermal = np.intersect1d(visible.ids, thermal.ids, return_indices=True)
        return cls(name, ids, visible.points_px[in_visible], thermal.points_px[in_thermal])

    @property
    def sighting(self) -> Sighting:
        """The common points as a sighting."""
        return Sighting(self.name, self.ids, self.visible_px, self.ids, self.thermal_px)


@dataclass(frozen=True, slots=True, eq=False)
class StereoResult:
    """The rig, rms (in each camera's pixels) of each kept pair, rejected pairs with the reason, and the fit.

    sightings: what was fitted, by view name, in the order of `bundle.poses`.
    """

    rig: RigCalibration
    view_rms_px: dict[str, tuple[float, float]]
    rejected: dict[str, str]
    bundle: BundleResult
    sightings: dict[str, Sighting]


def board_pose(
    camera: CameraIntrinsics, object_points_m: np.ndarray, points_px: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, t) of the board in front of this camera: X_camera = R @ X_board + t.

    Raises BadInputError without a solution.
    """
    flat_m = object_points_m * [1.0, 1.0, 0.0]
    found, rvec, t = cv2.solvePnP(
        flat_m, points_px, camera.matrix, np.asarray(camera.distortion), flags=cv2.SOLVEPNP_IPPE
    )
    if not found:
        raise BadInputError("no board pose explains these points")
    rvec, t = cv2.solvePnPRefineLM(object_points_m, points_px, camera.matrix, np.asarray(camera.distortion), rvec, t)
    R, _ = cv2.Rodrigues(rvec)
    return np.asarray(R), np.asarray(t).reshape(3)


def rotation_angle_deg(R_a: np.ndarray, R_b: np.ndarray) -> float:
    """Angle between two rotations, degrees."""
    rvec, _ = cv2.Rodrigues(np.asarray(R_a) @ np.asarray(R_b).T)
    return float(np.degrees(np.linalg.norm(rvec)))


def solve_stereo(
    pairs: list[PairView],
    board: Board,
    visible: CameraIntrinsics,
    thermal: CameraIntrinsics,
    *,
    working_distance_m: float,
    sightings: Mapping[str, Sighting] | None = None,
    hold_lenses: bool = False,
) -> StereoResult:
    """Solve lenses and rig together; pairs that contradict the others are dropped and named.

    Args:
        visible, thermal: each camera's lens as solved alone, where the fit begins.
        sightings: everything that was found, by view name. A view of one camera alone serves its lens. None: the
            pairs' common points.
        hold_lenses: keep the lenses as each camera alone gives them; see `solve_bundle`.

    Raises:
        BadInputError: fewer than 3 consistent pairs.
    """
    object_points = board.object_points()
    rejected: dict[str, str] = {}
    kept, R, t = _consistent(list(pairs), object_points, visible, thermal, rejected)
    start = RigCalibration(visible, thermal, R, t, 0.0, working_distance_m)
    seen = dict(sightings) if sightings is not None else {pair.name: pair.sighting for pair in pairs}
    for name in rejected:
        seen.pop(name, None)
    for last in (False, False, False, True):
        if len(kept) < MIN_PAIRS:
            raise BadInputError(
                f"only {len(kept)} pairs in which both cameras see the board and agree, at least "
                f"{MIN_PAIRS} are needed. "
                f"Rejected: {rejected or 'none'}."
            )
        bundle = solve_bundle(
            list(seen.values()), object_points, start, hold_lenses=(visible, thermal) if hold_lenses else None
        )
        errors = {pair.name: bundle.view_rms_px[pair.name] for pair in kept}
        scale = np.median(np.array(list(errors.values())), axis=0)
        bad = [
            pair.name
            for pair in kept
            if any(errors[pair.name][side] > max(3 * scale[side], scale[side] + 0.35) for side in (0, 1))
        ]
        if not bad or last:
            break
        for name in bad:
            rejected[name] = (
                f"{errors[name][0]:.2f} visible px / {errors[name][1]:.2f} thermal px after the joint fit, "
                f"the others have {scale[0]:.2f} / {scale[1]:.2f} (did the board move between the two pictures?)"
            )
            del seen[name]
        kept = [pair for pair in kept if pair.name not in bad]
        start = bundle.rig
    rms = float(np.sqrt(np.mean([error**2 for pair in kept for error in errors[pair.name]])))
    rig = replace(bundle.rig, rms_px=rms)
    return StereoResult(rig, {pair.name: errors[pair.name] for pair in kept}, rejected, bundle, seen)


def rotation_scatter_deg(
    pairs: list[PairView],
    object_points: np.ndarray,
    cameras: tuple[CameraIntrinsics, CameraIntrinsics],
    noise_px: tuple[float, float],
) -> tuple[float, float]:
    """Tell how far the pairs, each alone, differ about the cameras' turn: (seen, what the noise explains), degrees.

    Args:
        cameras: (visible, thermal), each as fitted alone. noise_px: rms of the points in each, in its pixels.

    Returns:
        Medians over the pairs, of the angle from the pair that the others agree with best, and of its sigma.
    """
    turns, sigmas = [], []
    for pair in pairs:
        points = object_points[pair.ids]
        poses, variance = [], 0.0
        for camera, seen_px, noise in zip(cameras, (pair.visible_px, pair.thermal_px), noise_px, strict=True):
            R, t = board_pose(camera, points, seen_px)
            jacobian = cv2.projectPoints(points, cv2.Rodrigues(R)[0], t, camera.matrix, np.asarray(camera.distortion))[
                1
            ]
            poses.append(R)
            variance += noise**2 * float(np.trace(np.linalg.inv(jacobian[:, :6].T @ jacobian[:, :6])[:3, :3]))
        turns.append(poses[0] @ poses[1].T)
        sigmas.append(np.degrees(np.sqrt(variance)))
    angles = np.array([[rotation_angle_deg(a, b) for b in turns] for a in turns])
    return float(np.min(np.median(angles, axis=1))), float(np.median(sigmas))


def transfer_errors_px(rig: RigCalibration, pair: PairView, object_points_m: np.ndarray) -> np.ndarray:
    """(N,) visible pixels between the thermal points, moved to the visible picture, and where that camera saw them.

    The board's pose comes from the thermal picture alone. So this is the error of the calibration for things that
    only the thermal camera has located, at the distance of the board.
    """
    R, t = board_pose(rig.thermal, object_points_m, pair.thermal_px)
    X_thermal = object_points_m @ R.T + t
    X_visible = X_thermal @ rig.R_visible_thermal.T + rig.t_visible_thermal_m
    return np.asarray(np.linalg.norm(rig.visible.project(X_visible) - pair.visible_px, axis=1))


def _consistent(
    pairs: list[PairView],
    object_points: np.ndarray,
    visible: CameraIntrinsics,
    thermal: CameraIntrinsics,
    rejected: dict[str, str],
) -> tuple[list[PairView], np.ndarray, np.ndarray]:
    """Drop pairs that contradict the majority: each pair alone says how the cameras are turned.

    Also returns R_visible_thermal, t_visible_thermal_m of the pair that the others agree with best.
    """
    turns: dict[str, np.ndarray] = {}
    moves: dict[str, np.ndarray] = {}
    usable = []
    for pair in pairs:
        if len(pair.ids) < 6:
            rejected[pair.name] = f"only {len(pair.ids)} points found by both cameras"
            continue
        try:
            R_visible_board, t_visible = board_pose(visible, object_points[pair.ids], pair.visible_px)
            R_thermal_board, t_thermal = board_pose(thermal, object_points[pair.ids], pair.thermal_px)
        except (BadInputError, cv2.error) as error:
            rejected[pair.name] = f"no board pose: {error}"
            continue
        turns[pair.name] = R_visible_board @ R_thermal_board.T
        moves[pair.name] = t_visible - turns[pair.name] @ t_thermal
        usable.append(pair)
    if not usable:
        return [], np.eye(3), np.zeros(3)
    names = list(turns)
    angles = np.array([[rotation_angle_deg(turns[a], turns[b]) for b in names] for a in names])
    centre = int(np.argmin(np.median(angles, axis=1)))
    off = dict(zip(names, angles[centre], strict=True))
    limit = max(8.0, 4.0 * float(np.median(angles[centre])))
    kept = []
    for pair in usable:
        if off[pair.name] > limit:
            rejected[pair.name] = (
                f"says the cameras are turned {off[pair.name]:.0f} degrees otherwise than the other pairs do "
                "(board numbered the wrong way round, or not the same moment)"
            )
        else:
            kept.append(pair)
    return kept, turns[names[centre]], moves[names[centre]]
