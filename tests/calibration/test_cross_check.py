"""The cross-check by another program: what it is given agrees with our solution, and its absence is said."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest

from calibration.board import parse_board
from calibration.cross_check import board_observations, inputs_of, load_mrcal, solve_by_mrcal
from calibration.extrinsics import PairView
from calibration.render import project, random_poses, synthetic_rig, thermal_pose
from fusion_core.errors import BadInputError

RIG = synthetic_rig(thermal_size=(240, 320))
BOARD = parse_board("checkerboard:10x7:40mm")


def pairs(count: int) -> list[PairView]:
    points, found = BOARD.object_points(), []
    for number, pose in enumerate(random_poses(RIG, BOARD, count, 3)):
        ids = np.delete(np.arange(len(points)), number)  # one point is hidden in each view
        visible_px = project(RIG.visible, pose, points[ids])
        thermal_px = project(RIG.thermal, thermal_pose(RIG, pose), points[ids])
        found.append(PairView(f"{number}", ids, visible_px, thermal_px))
    return found


def test_what_is_given_agrees_with_our_solution() -> None:
    views = pairs(4)
    inputs = inputs_of(views, BOARD, RIG)
    seen = board_observations(views, BOARD)
    height, width = 6, 9
    assert seen.shape == (8, height, width, 3) and (seen[..., 2] < 0).sum() == 8
    y, x = np.mgrid[0:height, 0:width] * inputs["calibration_object_spacing"]
    board_m = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3)  # as mrcal lays a board out
    for row, (frame, camera, moved) in zip(seen, inputs["indices_frame_camintrinsics_camextrinsics"], strict=True):
        pose = inputs["frames_rt_toref"][frame]
        rvec, t = pose[:3], pose[3:]
        if moved >= 0:
            other = inputs["extrinsics_rt_fromref"][moved]
            rvec, t = cv2.composeRT(rvec, t, other[:3], other[3:])[:2]
        fx, fy, cx, cy, *bend = inputs["intrinsics"][camera]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        at = np.asarray(cv2.projectPoints(board_m, rvec, t, K, np.array(bend))[0]).reshape(height, width, 2)
        good = row[..., 2] > 0
        assert np.abs(at[good] - row[..., :2][good]).max() < 0.1


def test_boards_without_a_rectangle_and_a_missing_program_are_refused() -> None:
    with pytest.raises(BadInputError, match="rectangle"):
        board_observations([], parse_board("acircles:4x11:28mm"))
    if importlib.util.find_spec("mrcal") is None:
        with pytest.raises(BadInputError, match="mrcal is not installed"):
            load_mrcal()
    else:
        found, rms_px = solve_by_mrcal(pairs(8), BOARD, RIG)
        assert rms_px < 0.1 and found.baseline_m == pytest.approx(RIG.baseline_m, rel=0.02)
