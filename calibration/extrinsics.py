"""The two cameras' relation from views that both see: first a vote of all views, then one joint least-squares fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import Detection
from calibration.rig import CameraIntrinsics, RigCalibration
from fusion_core.errors import BadInputError

__all__ = ["PairView", "StereoResult", "board_pose", "rotation_angle_deg", "solve_stereo", "transfer_errors_px"]

MIN_PAIRS = 3
JOINT_FIT_PAIRS = 8  # from here on the pairs also refine the lenses


@dataclass(frozen=True, slots=True, eq=False)
class PairView:
    """The same board, seen by both cameras at the same moment; only points that both have found."""

    name: str
    ids: np.ndarray
    visible_px: np.ndarray
    thermal_px: np.ndarray

    @classmethod
    def common(cls, name: str, visible: Detection, thermal: Detection) -> PairView:
        """Keep what both have found."""
        ids, in_visible, in_thermal = np.intersect1d(visible.ids, thermal.ids, return_indices=True)
        return cls(name, ids, visible.points_px[in_visible], thermal.points_px[in_thermal])


@dataclass(frozen=True, slots=True, eq=False)
class StereoResult:
    """The rig, rms (in each camera's pixels) of each kept pair, and rejected pairs with the reason."""

    rig: RigCalibration
    view_rms_px: dict[str, tuple[float, float]]
    rejected: dict[str, str]


def board_pose(
    camera: CameraIntrinsics, object_points_m: np.ndarray, points_px: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, t) of the board in front of this camera: X_camera = R @ X_board + t.

    Raises BadInputError without a solution.
    """
    found, rvec, t = cv2.solvePnP(
        object_points_m, points_px, camera.matrix, np.asarray(camera.distortion), flags=cv2.SOLVEPNP_IPPE
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
    weight_thermal: float = 1.0,
    reject: bool = True,
) -> StereoResult:
    """Solve R_visible_thermal and t_visible_thermal_m; pairs that contradict the others are dropped and named.

    Args:
        weight_thermal: how much a thermal pixel of error counts against a visible one (noise visible / noise thermal).
        reject: False takes the pairs as they are (resampling).

    Raises:
        BadInputError: fewer than 3 consistent pairs.
    """
    object_points = board.object_points()
    rejected: dict[str, str] = {}
    kept = list(pairs)
    if reject:
        kept = _consistent(kept, object_points, visible, thermal, rejected)
    for _ in range(4):
        if len(kept) < MIN_PAIRS:
            raise BadInputError(
                f"only {len(kept)} pairs in which both cameras see the board and agree, at least "
                f"{MIN_PAIRS} are needed. "
                f"Rejected: {rejected or 'none'}."
            )
        rig = _joint_fit(kept, object_points, visible, thermal, working_distance_m, weight_thermal)
        errors = {pair.name: _pair_rms(rig, pair, object_points[pair.ids]) for pair in kept}
        scale = np.median(np.array(list(errors.values())), axis=0)
        bad = [
            pair.name
            for pair in kept
            if any(errors[pair.name][side] > max(3 * scale[side], scale[side] + 0.35) for side in (0, 1))
        ]
        if not bad or not reject:
            break
        for name in bad:
            rejected[name] = (
                f"visible {errors[name][0]:.2f} px / thermal {errors[name][1]:.2f} px after the joint fit, "
                f"the others have {scale[0]:.2f} / {scale[1]:.2f} px (did the board move between the two pictures?)"
            )
        kept = [pair for pair in kept if pair.name not in bad]
    rms = float(np.sqrt(np.mean([error**2 for pair in kept for error in errors[pair.name]])))
    return StereoResult(replace(rig, rms_px=rms), {pair.name: errors[pair.name] for pair in kept}, rejected)


def transfer_errors_px(rig: RigCalibration, pair: PairView, object_points_m: np.ndarray) -> np.ndarray:
    """(N,) visible pixels.

    Thermal points carried over to the visible picture against where the visible camera saw them.

    The board's pose comes from the thermal picture alone, so this is what the calibration does to things that only
    the thermal camera has located, at the board's own distance.
    """
    R, t = board_pose(rig.thermal, object_points_m, pair.thermal_px)
    X_thermal = object_points_m @ R.T + t
    X_visible = X_thermal @ rig.R_visible_thermal.T + rig.t_visible_thermal_m
    return np.asarray(np.linalg.norm(rig.visible.project(X_visible) - pair.visible_px, axis=1))


def _pair_rms(rig: RigCalibration, pair: PairView, object_points_m: np.ndarray) -> tuple[float, float]:
    """rms in visible and in thermal pixels with the one board pose that suits both cameras best."""
    R, t = board_pose(rig.visible, object_points_m, pair.visible_px)
    start = np.concatenate([cv2.Rodrigues(R)[0].reshape(3), t])

    def residual(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        R_board = cv2.Rodrigues(pose[:3])[0]
        X_visible = object_points_m @ R_board.T + pose[3:]
        X_thermal = (X_visible - rig.t_visible_thermal_m) @ rig.R_visible_thermal
        return rig.visible.project(X_visible) - pair.visible_px, rig.thermal.project(X_thermal) - pair.thermal_px

    pose = start
    for _ in range(4):  # Gauss-Newton with numeric derivatives: six parameters, starts at the solution nearly
        base = np.concatenate([part.reshape(-1) for part in residual(pose)])
        jacobian = np.empty((base.size, 6))
        for index in range(6):
            step = np.zeros(6)
            step[index] = 1e-6
            jacobian[:, index] = (np.concatenate([part.reshape(-1) for part in residual(pose + step)]) - base) / 1e-6
        pose = pose - np.linalg.lstsq(jacobian, base, rcond=None)[0]
    off_visible, off_thermal = residual(pose)
    return (
        float(np.sqrt(np.mean(np.sum(off_visible**2, axis=1)))),
        float(np.sqrt(np.mean(np.sum(off_thermal**2, axis=1)))),
    )


def _consistent(
    pairs: list[PairView],
    object_points: np.ndarray,
    visible: CameraIntrinsics,
    thermal: CameraIntrinsics,
    rejected: dict[str, str],
) -> list[PairView]:
    """Each pair alone says how the cameras are turned; drop those that say something else than the majority."""
    turns: dict[str, np.ndarray] = {}
    usable = []
    for pair in pairs:
        if len(pair.ids) < 6:
            rejected[pair.name] = f"only {len(pair.ids)} points found by both cameras"
            continue
        try:
            R_visible_board, _ = board_pose(visible, object_points[pair.ids], pair.visible_px)
            R_thermal_board, _ = board_pose(thermal, object_points[pair.ids], pair.thermal_px)
        except (BadInputError, cv2.error) as error:
            rejected[pair.name] = f"no board pose: {error}"
            continue
        turns[pair.name] = R_visible_board @ R_thermal_board.T
        usable.append(pair)
    if not usable:
        return []
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
    return kept


def _joint_fit(
    pairs: list[PairView],
    object_points: np.ndarray,
    visible: CameraIntrinsics,
    thermal: CameraIntrinsics,
    working_distance_m: float,
    weight_thermal: float,
) -> RigCalibration:
    """OpenCV's stereo fit. Thermal pixels are scaled by the weight, which weighs their errors (and scales their K)."""
    w = weight_thermal
    scale = np.diag([w, w, 1.0])
    joint = len(pairs) >= JOINT_FIT_PAIRS
    flags = (cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_K3) if joint else cv2.CALIB_FIX_INTRINSIC
    try:
        # thermal is OpenCV's first camera: X_second = R X_first + t
        _, K_t, d_t, K_v, d_v, R, t, *_ = cv2.stereoCalibrate(
            [object_points[pair.ids].astype(np.float32) for pair in pairs],
            [pair.thermal_px.astype(np.float32).reshape(-1, 1, 2) * np.float32(w) for pair in pairs],
            [pair.visible_px.astype(np.float32).reshape(-1, 1, 2) for pair in pairs],
            scale @ thermal.matrix,
            np.asarray(thermal.distortion),
            visible.matrix,
            np.asarray(visible.distortion),
            (visible.width, visible.height),
            flags=flags,
            criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-7),
        )
    except cv2.error as error:
        raise BadInputError(f"the pairs do not determine the rig ({error})") from error
    if joint:
        visible = _with(visible, K_v, d_v)
        thermal = _with(thermal, np.linalg.inv(scale) @ K_t, d_t)
    return RigCalibration(
        visible=visible,
        thermal=thermal,
        R_visible_thermal=np.asarray(R),
        t_visible_thermal_m=np.asarray(t).reshape(3),
        rms_px=0.0,
        working_distance_m=working_distance_m,
    )


def _with(camera: CameraIntrinsics, K: np.ndarray, distortion: np.ndarray) -> CameraIntrinsics:
    k = np.asarray(distortion).reshape(-1)[:5]
    return replace(
        camera,
        fx_px=float(K[0, 0]),
        fy_px=float(K[1, 1]),
        cx_px=float(K[0, 2]),
        cy_px=float(K[1, 2]),
        distortion=(float(k[0]), float(k[1]), float(k[2]), float(k[3]), float(k[4])),
    )


def select(pairs: Mapping[str, PairView], names: list[str]) -> list[PairView]:
    """The named pairs; a name may come more than once (resampling)."""
    return [pairs[name] for name in names]
