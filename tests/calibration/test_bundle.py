"""The joint fit: exact without noise, as exact with noise as it says, not misled by gross errors."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from calibration.board import parse_board
from calibration.bundle import BundleResult, Sighting, solve_bundle
from calibration.detect import Detection
from calibration.extrinsics import rotation_angle_deg
from calibration.render import project, random_poses, synthetic_rig, thermal_pose
from calibration.rig import RigCalibration
from fusion_core.errors import BadInputError

BOARD = parse_board("acircles:4x11:30mm")
POINTS = BOARD.object_points()
TRUTH = synthetic_rig((480, 640), (256, 320))


def sightings(count: int, noise_px: float, seed: int = 0, truth: RigCalibration = TRUTH) -> list[Sighting]:
    rng = np.random.default_rng(seed)
    result = []
    for index, pose in enumerate(random_poses(truth, BOARD, count, seed=3)):
        found = [
            Detection(
                project(camera, at, POINTS) + rng.normal(0, noise_px, (len(POINTS), 2)),
                np.arange(len(POINTS)), "truth", "normal", (camera.height, camera.width),
            )
            for camera, at in ((truth.visible, pose), (truth.thermal, thermal_pose(truth, pose)))
        ]  # fmt: skip
        result.append(Sighting.of(f"{index:02d}", found[0], found[1]))
    return result


def roughly(truth: RigCalibration = TRUTH) -> RigCalibration:
    """A start that is some per cent and some degrees off, without distortion."""
    cameras = [
        replace(
            camera, fx_px=1.03 * camera.fx_px, fy_px=1.03 * camera.fy_px, cx_px=camera.width / 2,
            cy_px=camera.height / 2, distortion=(0.0,) * 5,
        )
        for camera in (truth.visible, truth.thermal)
    ]  # fmt: skip
    R = cv2.Rodrigues(np.radians([2.0, 1.0, -2.0]))[0] @ truth.R_visible_thermal
    t = truth.t_visible_thermal_m + np.array([0.01, 0.01, -0.01])
    return replace(truth, visible=cameras[0], thermal=cameras[1], R_visible_thermal=R, t_visible_thermal_m=t)


def turned_deg(result: BundleResult) -> float:
    return rotation_angle_deg(result.rig.R_visible_thermal, TRUTH.R_visible_thermal)


def test_points_without_noise_give_the_rig_itself() -> None:
    result = solve_bundle(sightings(10, 0.0), POINTS, roughly(), noise_px=(0.005, 0.005))
    assert turned_deg(result) < 0.002
    assert np.abs(result.rig.t_visible_thermal_m - TRUTH.t_visible_thermal_m).max() < 5e-5
    for found, true in ((result.rig.visible, TRUTH.visible), (result.rig.thermal, TRUTH.thermal)):
        assert np.allclose(found.matrix, true.matrix, atol=0.05)
        assert np.allclose(found.distortion, true.distortion, atol=2e-3)
    assert max(value for pair in result.view_rms_px.values() for value in pair) < 0.01


def test_it_is_as_exact_as_it_says() -> None:
    """Over fifteen draws of the noise, errors over predicted sigma; the normal law's own spread for so few is 0.2."""
    rotations, lens = [], []
    for seed in range(15):
        result = solve_bundle(sightings(12, 0.1, seed), POINTS, TRUTH)
        assert result.noise_px == pytest.approx((0.1, 0.1), rel=0.15)
        rotations.append(turned_deg(result) / result.rotation_sigma_deg)
        off = result.rig.thermal.matrix - TRUTH.thermal.matrix
        lens.append(off[[0, 0, 1], [0, 2, 2]] / result.lens_sigma_px("thermal")[[0, 2, 3]])
    assert 0.5 < np.sqrt(np.mean(np.square(rotations))) < 1.5
    assert 0.6 < np.sqrt(np.mean(np.square(lens))) < 1.4


def test_gross_errors_hardly_count() -> None:
    views = sightings(12, 0.05, 1)
    clean = solve_bundle(views, POINTS, TRUTH)
    px = views[4].thermal_px.copy()
    px[[3, 17, 30]] += [[9.0, 0.0], [0.0, -7.0], [5.0, 5.0]]
    views[4] = replace(views[4], thermal_px=px)
    spoilt = solve_bundle(views, POINTS, TRUTH)
    apart = rotation_angle_deg(spoilt.rig.R_visible_thermal, clean.rig.R_visible_thermal)
    assert apart < 0.5 * clean.rotation_sigma_deg
    assert spoilt.view_rms_px["04"][1] > 5 * clean.view_rms_px["04"][1], "and the view stands out"


def test_a_board_that_one_camera_sees_serves_its_lens() -> None:
    views = sightings(16, 0.1, 2)
    none = np.empty(0, np.int64), np.empty((0, 2))
    alone = [replace(view, visible_ids=none[0], visible_px=none[1]) for view in views[8:]]
    few = solve_bundle(views[:8], POINTS, TRUTH, noise_px=(0.1, 0.1))
    more = solve_bundle([*views[:8], *alone], POINTS, TRUTH, noise_px=(0.1, 0.1))
    assert (more.lens_sigma_px("thermal") < 0.9 * few.lens_sigma_px("thermal")).all()
    assert more.rotation_sigma_deg < few.rotation_sigma_deg
    with pytest.raises(BadInputError, match="seen no board"):
        solve_bundle(alone, POINTS, TRUTH)


def test_boards_all_alike_are_known_to_tell_little() -> None:
    tilted = solve_bundle(sightings(8, 0.1), POINTS, TRUTH, noise_px=(0.1, 0.1))
    one = sightings(8, 0.1)[:1]
    alike = solve_bundle([replace(one[0], name=str(i)) for i in range(8)], POINTS, TRUTH, noise_px=(0.1, 0.1))
    assert alike.rotation_sigma_deg > 3 * tilted.rotation_sigma_deg
