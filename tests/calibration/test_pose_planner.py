"""The capture goes on until what is wanted is known, says what is missing, and its advice is worth following."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.assess import Assessment, assess
from calibration.board import parse_board
from calibration.bundle import Sighting, information_of, solve_bundle
from calibration.capture_guide import CaptureGuide
from calibration.detect import Detection
from calibration.held_view import HeldView
from calibration.pose_planner import AIM_HOMOGRAPHY_PX, AIM_ROTATION_DEG, Reached
from calibration.render import BoardPose, project, random_poses, render_pair, synthetic_rig, thermal_pose
from calibration.rig import RigCalibration
from calibration.shared_field import common_field
from calibration.views import BoardView

BOARD = parse_board("acircles:4x11:70mm")
POINTS = BOARD.object_points()
WIDE = synthetic_rig((480, 640), (256, 320), visible_hfov_deg=60, thermal_hfov_deg=50, baseline_m=0.3,
                     working_distance_m=12.0)  # fmt: skip
EMPTY = np.zeros((48, 64), np.uint8)


def view_of(pose: BoardPose, name: str, rng: np.random.Generator, thermal_px: float = 0.04) -> BoardView:
    """A view without pictures."""
    found = [
        Detection(
            project(camera, at, POINTS) + rng.normal(0, noise, (len(POINTS), 2)), np.arange(len(POINTS)), "truth",
            "normal", (camera.height, camera.width),
        )
        for camera, at, noise in ((WIDE.visible, pose, 0.01), (WIDE.thermal, thermal_pose(WIDE, pose), thermal_px))
    ]  # fmt: skip
    return BoardView(name, EMPTY, EMPTY, found[0], found[1])


def views(count: int, seed: int = 0, thermal_px: float = 0.04) -> list[BoardView]:
    rng = np.random.default_rng(seed)
    poses = random_poses(WIDE, BOARD, count, seed, distances=(1.3, 3.6))
    return [view_of(pose, f"{index:02d}", rng, thermal_px) for index, pose in enumerate(poses)]


def assessed(seen: list[BoardView]) -> Assessment:
    found = assess(seen, BOARD, WIDE.working_distance_m)
    assert found is not None
    return found


def test_what_another_view_adds_is_foretold_exactly() -> None:
    seen = views(11)
    sightings = [Sighting.of(view.name, view.found_visible, view.found_thermal) for view in seen]
    before = solve_bundle(sightings[:10], POINTS, WIDE, noise_px=(0.01, 0.04))
    after = solve_bundle(sightings, POINTS, WIDE, noise_px=(0.01, 0.04))
    foretold = np.linalg.inv(before.covariance) + information_of(before, after.poses[10], [POINTS, POINTS])
    sigma = np.sqrt(np.diag(np.linalg.inv(foretold)))
    assert sigma == pytest.approx(np.sqrt(np.diag(after.covariance)), rel=0.03)


def test_advice_brings_the_aim_nearer_than_chance_does() -> None:
    rng, seen = np.random.default_rng(5), views(10)
    start = assessed(seen)
    assert not start.enough and "rotation known to" in start.lacking
    advised, chance = list(seen), [*seen, *views(16, seed=3)[10:]]
    for number in range(6):
        advice = assessed(advised).advice
        assert advice is not None and "Bring the board to the" in advice.text and "m away" in advice.text
        pose = BoardPose(cv2_rotation(advice.pose[:3]), advice.pose[3:])
        advised.append(view_of(pose, f"a{number}", rng))
    got, otherwise = assessed(advised).reached, assessed(chance).reached
    assert got.homography_px < 0.8 * otherwise.homography_px
    assert got.rotation_deg < otherwise.rotation_deg
    assert assessed(advised).covered > start.covered


def cv2_rotation(rvec: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.Rodrigues(rvec)[0])


def test_what_is_reached_holds_for_the_true_error_at_the_border_too() -> None:
    field = common_field(WIDE, 17)
    thermal = field.min(axis=0), field.max(axis=0)
    assert thermal[0].min() < 1.0, "the common field's border is in it"
    inside = 0
    for seed in range(8):
        seen = views(14, seed=40 + seed)
        found = assessed(seen)
        rig = solve(seen)
        off = rig.visible_from_thermal(field, 12.0) - WIDE.visible_from_thermal(field, 12.0)
        inside += bool(np.linalg.norm(off, axis=1).max() <= found.reached.homography_px)
    assert inside >= 7, "2 sigma, and half more"


def solve(seen: list[BoardView]) -> RigCalibration:
    sightings = [Sighting.of(view.name, view.found_visible, view.found_thermal) for view in seen]
    return solve_bundle(sightings, POINTS, WIDE).rig


def test_the_guide_ends_when_the_aim_is_met_or_says_what_is_short() -> None:
    guide = CaptureGuide(BOARD, exactly=False, require_still=False, target=10, working_distance_m=12.0)
    guide.accepted = views(14, thermal_px=0.08)
    guide._assess()
    assert not guide.done and "wanted 0.04" in guide.short and guide.short in guide.guidance()
    guide.accepted = views(20, thermal_px=0.08)
    guide._assess()
    assert guide.done and "as many as are of use" in guide.guidance() and guide.short in guide.guidance()
    exact = CaptureGuide(BOARD, exactly=False, require_still=False, target=20, working_distance_m=12.0)
    exact.accepted = views(24, thermal_px=0.008)
    exact._assess()
    assert exact.done and not exact.short and exact.guidance().startswith("Enough")


def test_aim_in_words() -> None:
    reached = Reached(AIM_ROTATION_DEG * 0.9, AIM_HOMOGRAPHY_PX * 1.1)
    short = reached.short_of()
    assert not reached.met and "0.33 visible px" in short and "(wanted 0.3)" in short and "rotation" not in short
    assert "rotation known to 0.045 degrees (wanted 0.04)" in reached.short_of(0.8)
    assert "short of the aim" in reached.words() and "within the aim" in Reached(0.01, 0.1).words()
    assert not Reached(float("nan"), 0.1).met, "what is not known is not met"


def test_holding_on_is_ended_by_moving_and_by_taking_the_board_away() -> None:
    rig, board = synthetic_rig((360, 480), (360, 480)), parse_board("acircles:4x9:40mm")
    pose = random_poses(rig, board, 1, seed=3)[0]
    still = render_pair(rig, pose, board, seed=0)
    first = BoardView("0", still.visible, still.thermal, *(
        Detection(points, np.arange(len(points)), "truth", "normal", (360, 480))
        for points in (still.visible_points_px, still.thermal_points_px)
    ))  # fmt: skip
    again = render_pair(rig, pose, board, seed=1)
    held = HeldView(first, board)
    assert held.takes(still.visible, again.thermal) and held.count == 2
    nudged = BoardPose(pose.R_visible_board, pose.t_visible_board_m + np.array([0.003, 0.0, 0.0]))
    moved = render_pair(rig, nudged, board, seed=0)
    assert not held.takes(moved.visible, moved.thermal), "a pixel and a half"
    gone = np.random.default_rng(0).normal(9000, 12, still.thermal.shape).astype(np.uint16)
    assert not held.takes(still.visible, gone), "no board in thermal any more"
    assert not held.takes(still.visible[:-1], again.thermal) and held.count == 2
