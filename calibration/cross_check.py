"""Solves a rig a second time by mrcal, where that is installed, so that two programs can be held against each other.

mrcal fits the same views by its own bundle adjustment, lens model (OPENCV4) and outlier test, and lets the board bend.
It begins from our solution. It knows boards whose points form a rectangular grid.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from calibration.board import Board, Checkerboard, SymmetricCircles
from calibration.extrinsics import PairView, board_pose
from calibration.rig import CameraIntrinsics, RigCalibration
from fusion_core.errors import BadInputError

__all__ = ["board_observations", "inputs_of", "load_mrcal", "solve_by_mrcal"]

_LENS = "LENSMODEL_OPENCV4"
_LEFT_OUT = -1.0  # mrcal's weight of a point that is not to count
_LEAST_PAIRS = 3


def load_mrcal() -> ModuleType:
    """The library.

    Raises:
        BadInputError: it is not installed.
    """
    if importlib.util.find_spec("mrcal") is None:
        raise BadInputError(
            "mrcal is not installed here; its own pages tell how (mrcal.secretsauce.net), or check without"
        )
    return importlib.import_module("mrcal")


def board_observations(pairs: Sequence[PairView], board: Board) -> np.ndarray:
    """(2 N, rows, columns, 3) x, y and weight of every board point, visible and thermal of each pair in turn.

    Raises:
        BadInputError: the board's points form no rectangular grid.
    """
    rows, columns = _grid(board)
    seen = np.zeros((2 * len(pairs), rows * columns, 3))
    seen[..., 2] = _LEFT_OUT
    for number, pair in enumerate(pairs):
        for camera, points_px in enumerate((pair.visible_px, pair.thermal_px)):
            seen[2 * number + camera, pair.ids, :2] = points_px
            seen[2 * number + camera, pair.ids, 2] = 1.0
    return seen.reshape(2 * len(pairs), rows, columns, 3)


def solve_by_mrcal(pairs: Sequence[PairView], board: Board, rig: RigCalibration) -> tuple[RigCalibration, float]:
    """The rig as mrcal solves it from these pairs, beginning from `rig`; and its rms reprojection error, px.

    Raises:
        BadInputError: mrcal is not installed, the board is of another kind, or fewer than 3 pairs.
    """
    mrcal = load_mrcal()
    if len(pairs) < _LEAST_PAIRS:
        raise BadInputError(
            f"only {len(pairs)} pairs show the board to both cameras, at least {_LEAST_PAIRS} are needed"
        )
    inputs = inputs_of(pairs, board, rig)
    stats = mrcal.optimize(**inputs)  # changes the arrays in place
    rvec, t = np.split(inputs["extrinsics_rt_fromref"][0], 2)
    turned = np.asarray(cv2.Rodrigues(rvec)[0]).T
    lenses = inputs["intrinsics"]
    found = replace(
        rig,
        visible=_camera(rig.visible, lenses[0]),
        thermal=_camera(rig.thermal, lenses[1]),
        R_visible_thermal=turned,
        t_visible_thermal_m=-turned @ t,
        correction_visible=np.eye(3),
    )
    return found, float(stats["rms_reproj_error__pixels"])


def inputs_of(pairs: Sequence[PairView], board: Board, rig: RigCalibration) -> dict[str, Any]:
    """What `mrcal.optimize` is given: our solution to begin with, all points, and what may change.

    The reference is the visible camera; the board's origin is its first point.

    Raises:
        BadInputError: the board's points form no rectangular grid.
    """
    points = board.object_points() - board.object_points()[0]
    R = rig.R_visible_thermal.T
    numbers = np.arange(2 * len(pairs), dtype=np.int32)
    poses = [board_pose(rig.visible, points[pair.ids], pair.visible_px) for pair in pairs]
    return {
        "intrinsics": np.array([_lens(rig.visible), _lens(rig.thermal)]),
        "extrinsics_rt_fromref": np.concatenate([_turn(R), -R @ rig.t_visible_thermal_m])[None],
        "frames_rt_toref": np.array([np.concatenate([_turn(R_board), t]) for R_board, t in poses]),
        "points": None,
        "observations_board": board_observations(pairs, board),
        "indices_frame_camintrinsics_camextrinsics": np.stack([numbers // 2, numbers % 2, numbers % 2 - 1], axis=1),
        "observations_point": None,
        "indices_point_camintrinsics_camextrinsics": None,
        "lensmodel": _LENS,
        "calobject_warp": np.zeros(2),
        "imagersizes": np.array([[c.width, c.height] for c in (rig.visible, rig.thermal)], np.int32),
        "calibration_object_spacing": board.spacing_m,
        "do_optimize_intrinsics_core": True,
        "do_optimize_intrinsics_distortions": True,
        "do_optimize_extrinsics": True,
        "do_optimize_frames": True,
        "do_optimize_calobject_warp": True,
        "do_apply_regularization": True,
        "do_apply_outlier_rejection": True,
        "verbose": False,
    }  # fmt: skip


def _grid(board: Board) -> tuple[int, int]:
    """(rows, columns) of the board's points, which are numbered row by row."""
    points = board.object_points()
    columns = int(np.isclose(points[:, 1], points[0, 1]).sum())
    rows = len(points) // columns
    if not isinstance(board, Checkerboard | SymmetricCircles) or rows * columns != len(points):
        raise BadInputError(
            f"mrcal solves boards whose points form a rectangle (checkerboard, circles), not {board.describe()}"
        )
    return rows, columns


def _turn(R: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.Rodrigues(R)[0], np.float64).reshape(3)


def _lens(camera: CameraIntrinsics) -> np.ndarray:
    return np.array([camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px, *camera.distortion[:4]])


def _camera(template: CameraIntrinsics, lens: np.ndarray) -> CameraIntrinsics:
    fx, fy, cx, cy, *bend = (float(value) for value in lens)
    return replace(template, fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy, distortion=(*bend, 0.0))
