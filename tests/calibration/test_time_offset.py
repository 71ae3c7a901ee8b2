"""The time offset that a moving board tells: points of a known rig, seen late and with noise, no pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from calibration.board import parse_board
from calibration.detect import Detection
from calibration.render import BoardPose, project, random_poses, synthetic_rig, thermal_pose
from calibration.rig import load_calibration, save_calibration
from calibration.time_offset import BoardMovement, estimate_time_offset, timed
from fusion_core.errors import BadInputError

BOARD = parse_board("acircles:4x11:30mm")


def carried(
    offset_ms: float, rate_hz: float = 6.0, seed: int = 1, noise_px: float = 0.1, seconds: float = 25.0
) -> BoardMovement:
    """A board carried from pose to pose and held there; visible stamps are `offset_ms` later than thermal ones."""
    rig, rng = synthetic_rig(baseline_m=0.2), np.random.default_rng(seed)
    times, places, now_s = [], [], 0.0
    for pose in random_poses(rig, BOARD, 30, seed):
        turn, _ = cv2.Rodrigues(pose.R_visible_board)
        for _ in range(2):  # arrives, and is held
            times.append(now_s)
            places.append(np.concatenate([turn.ravel(), pose.t_visible_board_m]))
            now_s += rng.uniform(0.8, 1.8)
    path = PchipInterpolator(times, np.array(places))

    def seen(at_s: float, thermal: bool) -> Detection:
        value = path(max(at_s, 0.0))
        R, _ = cv2.Rodrigues(value[:3])
        pose = BoardPose(R, value[3:])
        camera = rig.thermal if thermal else rig.visible
        points = project(camera, thermal_pose(rig, pose) if thermal else pose, BOARD.object_points())
        points = points + rng.normal(0, noise_px, points.shape)
        return Detection(points, np.arange(len(points)), "", "normal", (camera.height, camera.width))

    movement = BoardMovement()
    for number in range(round(seconds * rate_hz)):
        visible_s, thermal_s = number / rate_hz, number / rate_hz + rng.uniform(-0.015, 0.015)
        movement.add(
            round((visible_s + offset_ms / 1e3) * 1e9), seen(visible_s, False),
            round(thermal_s * 1e9), seen(thermal_s, True),
        )  # fmt: skip
    return movement


@pytest.mark.parametrize(("offset_ms", "seed"), [(0.0, 1), (33.0, 2), (-120.0, 3), (215.0, 4), (-4.0, 5)])
def test_it_is_found_to_well_within_5_ms_in_spite_of_parallax(offset_ms: float, seed: int) -> None:
    found = estimate_time_offset(synthetic_rig(baseline_m=0.2), BOARD, carried(offset_ms, seed=seed))
    assert found.sure, found.why_not
    assert found.visible_minus_thermal_ms == pytest.approx(offset_ms, abs=2.0)
    assert abs(found.visible_minus_thermal_ms - offset_ms) < max(5 * found.sigma_ms, 0.5)
    assert found.sigma_ms < 2.0


def test_what_was_added_to_the_stamps_is_not_the_cameras(tmp_path: Path) -> None:
    movement = carried(33.0)  # thermal stamps were moved by 20 ms, visible ones by 5
    movement.added_ms = 15.0
    rig, found = timed(synthetic_rig(baseline_m=0.2), BOARD, movement)
    assert found is not None
    assert found.visible_minus_thermal_ms == pytest.approx(48.0, abs=2.0)
    assert rig.visible_minus_thermal_ms == pytest.approx(found.visible_minus_thermal_ms, abs=0.01)
    save_calibration(rig, tmp_path / "rig.yaml")
    assert load_calibration(tmp_path / "rig.yaml").visible_minus_thermal_ms == rig.visible_minus_thermal_ms
    assert f"{found.visible_minus_thermal_ms:.1f} ms after" in found.words()


def test_it_says_what_is_missing() -> None:
    rig = synthetic_rig(baseline_m=0.2)
    assert timed(rig, BOARD, BoardMovement()) == (rig, None)
    few = estimate_time_offset(rig, BOARD, carried(0.0, seconds=2.0))
    assert not few.sure
    assert "carry it slowly" in few.why_not
    assert few.words().startswith("time offset not measured")
    still = BoardMovement()
    sighting, rng = next(iter(carried(0.0, seconds=1.0))), np.random.default_rng(0)
    for step in range(60):
        both = [
            Detection(points + rng.normal(0, 0.1, points.shape), sighting.visible_ids, "", "normal", (480, 640))
            for points in (sighting.visible_px, sighting.thermal_px)
        ]
        still.add(step * 100_000_000, both[0], step * 100_000_000, both[1])
    found = estimate_time_offset(rig, BOARD, still)
    assert not found.sure
    beyond = estimate_time_offset(rig, BOARD, carried(420.0))
    assert not beyond.sure


def test_a_movement_is_kept_in_a_file(tmp_path: Path) -> None:
    movement, file = carried(10.0, seconds=8.0), tmp_path / "movement.npz"
    movement.added_ms = 3.0
    movement.save(file)
    again = BoardMovement.load(file)
    assert again.added_ms == 3.0
    assert len(again) == len(movement)
    for one, other in zip(movement, again, strict=True):
        assert (one.visible_ns, one.thermal_ns) == (other.visible_ns, other.thermal_ns)
        np.testing.assert_array_equal(one.thermal_ids, other.thermal_ids)
        np.testing.assert_array_equal(one.visible_px, other.visible_px)
    assert len(BoardMovement.load(tmp_path / "none.npz")) == 0
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(BadInputError, match="delete it"):
        BoardMovement.load(file)
    with pytest.raises(BadInputError, match="cannot be written"):
        movement.save(tmp_path / "no folder" / "movement.npz")
