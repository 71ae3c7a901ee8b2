"""Tells from both cameras' views whether the board is bent, and how: else each lens bends to it.

A bend shifts a point along the line of sight's slant, so it differs from view to view, as no lens does. It counts only
where each camera, alone, finds it, and both find the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from calibration.board import Board, bend_terms
from calibration.detect import Detection
from calibration.extrinsics import board_pose
from calibration.intrinsics import IntrinsicsResult, solve_intrinsics
from calibration.rig import CameraIntrinsics

__all__ = ["find_bend", "lenses_and_board"]

MIN_F = 30.0  # of the three terms: chance gives 1
MAX_LEFT = 0.92  # of the residual's rms, with the bend: a bend that explains less does no harm
MAX_APART = 0.35  # of the bend: by how much the cameras may differ about it (rms over the board)
_LENS = slice(6, 15)  # of OpenCV's derivatives: focal lengths, centre, five of distortion
_TINY_M = 1e-5


def lenses_and_board(
    found: tuple[Mapping[str, Detection], Mapping[str, Detection]],
    board: Board,
    identities: tuple[str, str] = ("", ""),
) -> tuple[IntrinsicsResult, IntrinsicsResult, Board]:
    """Both lenses, each from its camera's boards alone, and the board, bent where both cameras see the same bend.

    Args:
        found: of the visible and the thermal camera, the boards by view name.

    Raises:
        BadInputError: too few boards.
    """

    def alone(of_board: Board) -> tuple[IntrinsicsResult, IntrinsicsResult]:
        visible, thermal = (
            solve_intrinsics(dict(seen), of_board, identity=identity)
            for seen, identity in zip(found, identities, strict=True)
        )
        return visible, thermal

    solved = alone(board)
    bend_m = find_bend(solved, found, board)
    if bend_m is None:
        return *solved, board
    bent = board.bent(bend_m)
    return *alone(bent), bent


def find_bend(
    lenses: Sequence[IntrinsicsResult], found: Sequence[Mapping[str, Detection]], board: Board
) -> tuple[float, float, float] | None:
    """Metres of each of `bend_terms`, from the lenses fitted to a flat board; None: not bent, or it cannot be told.

    Args:
        found: per camera, the boards by view name.
    """
    terms = bend_terms(board.flat_points())
    terms = terms - terms.mean(axis=0)
    bends, weights = [], []
    for lens, detections in zip(lenses, found, strict=True):
        seen = _one_camera(lens.camera, [detections[name] for name in lens.view_rms_px], board)
        if seen is None:
            return None
        bends.append(seen[0])
        weights.append(seen[1])
    bend = np.linalg.solve(
        np.sum(weights, axis=0), np.sum([w @ b for w, b in zip(weights, bends, strict=True)], axis=0)
    )
    apart = max(float(np.std(terms @ (other - bend))) for other in bends)
    if apart > MAX_APART * float(np.std(terms @ bend)):
        return None
    return float(bend[0]), float(bend[1]), float(bend[2])


def _one_camera(
    camera: CameraIntrinsics, detections: Sequence[Detection], board: Board
) -> tuple[np.ndarray, np.ndarray] | None:
    """The bend (3,) and its inverse covariance (3, 3), m; None where it is not significant.

    One Gauss-Newton step of the bend and the lens together; each view's pose is eliminated.
    """
    points, terms = board.flat_points(), bend_terms(board.flat_points())
    normal, right, squares, values = np.zeros((12, 12)), np.zeros(12), 0.0, 0
    for detection in detections:
        at = points[detection.ids]
        R, t = board_pose(camera, at, detection.points_px)
        rvec, lens = cv2.Rodrigues(R)[0], np.asarray(camera.distortion)
        projected, jacobian = cv2.projectPoints(at, rvec, t, camera.matrix, lens)
        deeper = cv2.projectPoints(at + np.array([0, 0, _TINY_M]), rvec, t, camera.matrix, lens)[0]
        by_depth = ((deeper - projected) / _TINY_M).reshape(-1, 2, 1)
        by_bend = (by_depth * terms[detection.ids][:, None, :]).reshape(-1, 3)
        off = (detection.points_px - projected.reshape(-1, 2)).reshape(-1)
        free = np.hstack([jacobian[:, _LENS], by_bend])
        pose = np.linalg.qr(jacobian[:, :6])[0]
        free, off = free - pose @ (pose.T @ free), off - pose @ (pose.T @ off)
        normal += free.T @ free
        right += free.T @ off
        squares += float(off @ off)
        values += len(off) - 6
    if values <= 24:
        return None
    size = np.sqrt(np.diag(normal))
    if not (size > 0).all():
        return None
    scaled, aim = normal / np.outer(size, size), right / size
    flat = squares - float(aim[:9] @ np.linalg.lstsq(scaled[:9, :9], aim[:9], rcond=1e-10)[0])
    covariance = np.linalg.pinv(scaled, rcond=1e-10)
    solution = covariance @ aim
    bent = squares - float(aim @ solution)
    noise = bent / (values - 12)
    if not (noise > 0 and (flat - bent) / 3 > MIN_F * noise and bent < MAX_LEFT**2 * flat):
        return None
    sigma = covariance[9:, 9:] * noise / np.outer(size[9:], size[9:])
    return solution[9:] / size[9:], np.linalg.inv(sigma)
