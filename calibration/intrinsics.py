"""Solves one camera's lens from several board views; drops bad views and names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import Detection
from calibration.rig import CameraIntrinsics
from fusion_core.errors import BadInputError

__all__ = ["IntrinsicsResult", "solve_intrinsics"]

MIN_VIEWS = 4
FULL_MODEL_VIEWS = 8
_MAX_ROUNDS = 4  # of dropping views


@dataclass(frozen=True, slots=True, eq=False)
class IntrinsicsResult:
    """camera, its overall rms, rms of each kept view, rejected views with the reason, 1 sigma of (fx, fy, cx, cy)."""

    camera: CameraIntrinsics
    rms_px: float
    view_rms_px: dict[str, float]
    rejected: dict[str, str]
    sigma_px: tuple[float, float, float, float]


def solve_intrinsics(detections: Mapping[str, Detection], board: Board, *, identity: str = "") -> IntrinsicsResult:
    """Solve focal length, centre and distortion; drop views that fit far worse than the rest, one round at a time.

    Args:
        detections: found boards by view name, all of one picture size.

    Raises:
        BadInputError: fewer than 4 usable views, or the solution is impossible (all boards parallel, say).
    """
    sizes = {detection.size for detection in detections.values()}
    if len(sizes) > 1:
        raise BadInputError(
            f"views of {len(sizes)} different sizes {sorted(sizes)}; one camera setting makes one calibration"
        )
    names = [name for name, detection in detections.items() if len(detection.ids) >= 6]
    rejected = {name: "fewer than 6 points of the board found" for name in detections if name not in names}
    for done in range(_MAX_ROUNDS + 1):
        if len(names) < MIN_VIEWS:
            raise BadInputError(
                f"{identity or 'the camera'}: only {len(names)} views with a usable board, at least "
                f"{MIN_VIEWS} are needed "
                f"(12 for a good calibration). Rejected: {rejected or 'none'}. Capture more, tilted in "
                "different directions."
            )
        size = next(iter(sizes))
        camera, rms, per_view, sigma = _calibrate([detections[name] for name in names], board, size, identity)
        limit = max(2.5 * float(np.median(per_view)), float(np.median(per_view)) + 0.25)
        bad = [index for index, value in enumerate(per_view) if value > limit]
        if not bad or done == _MAX_ROUNDS:
            break
        worst = max(bad, key=lambda index: per_view[index]) if len(bad) > 0.3 * len(names) else None
        for index in sorted(bad if worst is None else [worst], reverse=True):
            rejected[names[index]] = (
                f"reprojection error {per_view[index]:.2f} px of that picture, the others' {np.median(per_view):.2f}"
                " (blurred, moved, or a wrong detection)"
            )
            del names[index]
    return IntrinsicsResult(camera, rms, dict(zip(names, per_view, strict=True)), rejected, sigma)


def _calibrate(
    views: list[Detection], board: Board, size: tuple[int, int], identity: str
) -> tuple[CameraIntrinsics, float, list[float], tuple[float, float, float, float]]:
    points = board.object_points()
    objects = [points[view.ids].astype(np.float32) for view in views]
    images = [view.points_px.astype(np.float32).reshape(-1, 1, 2) for view in views]
    flags = cv2.CALIB_FIX_K3
    if len(views) < FULL_MODEL_VIEWS:
        flags |= cv2.CALIB_ZERO_TANGENT_DIST  # too few views to tell a decentred lens from a moved centre
    start = None
    if points[:, 2].any():  # a bent board: OpenCV wants a start, which a flat one gives
        flat = [(at * [1, 1, 0]).astype(np.float32) for at in objects]
        start = np.asarray(cv2.initCameraMatrix2D(flat, images, (size[1], size[0])))
        flags |= cv2.CALIB_USE_INTRINSIC_GUESS
    try:
        rms, K, distortion, _, _, deviations, _, per_view = cv2.calibrateCameraExtended(
            objects,
            images,
            (size[1], size[0]),
            start,
            None,
            flags=flags,  # type: ignore[call-overload]
        )
    except cv2.error as error:
        raise BadInputError(f"the views do not determine the camera ({error}). Tilt the board more.") from error
    height, width = size
    if not (np.all(np.isfinite(K)) and 0.2 * width < K[0, 0] < 50 * width and abs(K[0, 2] - width / 2) < width):
        raise BadInputError(
            f"impossible focal length {K[0, 0]:.0f} px for its picture, {width} px wide: the views are too alike. "
            "Tilt the board 20 to 40 degrees in different directions."
        )
    k = np.asarray(distortion).reshape(-1)[:5]
    camera = CameraIntrinsics(
        identity=identity,
        height=height,
        width=width,
        fx_px=float(K[0, 0]),
        fy_px=float(K[1, 1]),
        cx_px=float(K[0, 2]),
        cy_px=float(K[1, 2]),
        distortion=(float(k[0]), float(k[1]), float(k[2]), float(k[3]), float(k[4])),
    )
    sigma = np.asarray(deviations).reshape(-1)[:4]
    return (
        camera,
        float(rms),
        [float(value) for value in np.asarray(per_view).reshape(-1)],
        (float(sigma[0]), float(sigma[1]), float(sigma[2]), float(sigma[3])),
    )
