"""Refining without a board: what is known is found, and what does not hold is not believed."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from calibration.rig import apply_homography, plain_scaling
from calibration.targetless import measure_residual, refine_alignment
from fusion_core.errors import BadInputError

SIZE = (192, 256)


def pictures(count: int, move: np.ndarray, *, related: bool = True) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ellipses of unrelated brightness in both pictures, thermal moved by a map; `related` False: other places."""
    rng = np.random.default_rng(1)
    height, width = SIZE
    pairs = []
    for _ in range(count):
        visible, thermal = (
            np.full((2 * height, 2 * width), 110, np.uint8),
            np.full((2 * height, 2 * width), 90, np.uint8),
        )
        for _ in range(90):
            centre = (int(rng.integers(0, 2 * width)), int(rng.integers(0, 2 * height)))
            axes = (int(rng.integers(5, 28)), int(rng.integers(5, 28)))
            cv2.ellipse(visible, centre, axes, 0, 0, 360, int(rng.integers(20, 235)), -1)
            if not related:
                centre = (int(rng.integers(0, 2 * width)), int(rng.integers(0, 2 * height)))
            cv2.ellipse(thermal, centre, axes, 0, 0, 360, int(rng.integers(20, 235)), -1)
        inner = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])  # so that the border is scene as well
        thermal = cv2.warpPerspective(thermal, move @ inner, (width, height))
        visible = visible[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
        pairs.append((np.repeat(visible[..., None], 3, axis=2), thermal))
    return pairs


def test_a_turned_and_scaled_rig_is_found_and_holds_on_pictures_kept_back() -> None:
    angle, scale = np.radians(1.0), 1.02
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    move = np.array([[c, -s, 4.0], [s, c, -6.0], [0, 0, 1.0]])
    told: list[str] = []
    found = refine_alignment(
        plain_scaling(SIZE, SIZE), pictures(8, move), "affine", search_px=14, progress=lambda name, _: told.append(name)
    )
    y, x = np.mgrid[10:182:9j, 10:246:12j]
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    before, left = (
        np.linalg.norm(apply_homography(C @ move, points) - points, axis=1)
        for C in (np.eye(3), found.calibration.correction_visible)
    )
    assert np.median(before) > 4 and np.median(left) < 0.6 and left.max() < 1.6
    assert told == ["before", "after round 1"] and found.problem == ""
    assert found.held_out_px is not None and found.held_out_px[1] < 1.0 < found.held_out_px[0]
    assert found.spread_px < 1.0
    assert "disagree" in replace(found, spread_px=6.0).problem
    assert "not made of" in replace(found, held_out_px=(2.0, 2.0)).problem


def test_where_little_of_the_picture_tells_a_simpler_map_is_taken_or_the_reason_said() -> None:
    shifted = np.array([[1.0, 0, 5.0], [0, 1.0, -3.0], [0, 0, 1.0]])
    pairs = []
    for visible, thermal in pictures(8, shifted):
        dark = np.full_like(visible, 100), np.full_like(thermal, 100)
        dark[0][:, :110], dark[1][:, :110] = visible[:, :110], thermal[:, :110]  # structure on the left only
        pairs.append(dark)
    found = refine_alignment(plain_scaling(SIZE, SIZE), pairs, "homography", search_px=10)
    assert found.gained and "inf" not in found.problem
    if not found.problem:
        left = apply_homography(found.calibration.correction_visible @ shifted, np.array([[40.0, 90.0]]))
        assert np.linalg.norm(left - [40.0, 90.0]) < 1.5
    unchecked = replace(found, spread_px=float("inf"))
    assert "too little is known" in unchecked.problem and "left" in unchecked.where


@pytest.mark.slow  # some ten seconds of processor time
def test_a_map_that_holds_in_part_of_the_picture_is_taken_there_and_fades_into_the_simpler_one() -> None:
    c, s = 1.05 * np.cos(np.radians(2)), 1.05 * np.sin(np.radians(2))
    move, width = np.array([[c, -s, 4.0], [s, c, -6.0], [0, 0, 1.0]]), 90
    pairs = []
    for visible, thermal in pictures(8, move):
        dark = np.full_like(visible, 100), np.full_like(thermal, 100)
        dark[0][:, :width], dark[1][:, :width] = visible[:, :width], thermal[:, :width]  # structure on the left only
        pairs.append(dark)
    found = refine_alignment(plain_scaling(SIZE, SIZE), pairs, "affine", search_px=14)
    region = found.calibration.region
    assert region is not None and found.problem == "" and "left" in found.region and "%" in found.region
    y, x = np.mgrid[20:170:6j, 10 : width - 12 : 6j]
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    with_it, without = (
        np.median(np.linalg.norm(c.visible_from_thermal(apply_homography(move, points)) - points, axis=1))
        for c in (found.calibration, replace(found.calibration, region=None))
    )
    assert with_it < 2.0 < 3.0 < without
    far = np.array([[240.0, 90.0]])
    simple = replace(found.calibration, region=None).thermal_from_visible(far)
    assert found.calibration.thermal_from_visible(far) == pytest.approx(simple)


def test_a_map_for_one_of_two_distances_is_not_taken_everywhere() -> None:
    near, cut = np.array([[1, 0, -11.0], [0, 1, 0], [0, 0, 1]]), 170
    both = zip(pictures(6, near), pictures(6, np.eye(3)), strict=True)
    pairs = [(visible, np.hstack([left[:, :cut], right[:, cut:]])) for (visible, left), (_, right) in both]
    found = refine_alignment(plain_scaling(SIZE, SIZE), pairs, "shift", search_px=14)
    far = np.array([[235.0, 60.0], [235.0, 130.0]])
    if not found.problem:  # taken where it holds
        assert found.region and found.model == "none"
        moved = np.linalg.norm(found.calibration.visible_from_thermal(far) - far, axis=1)
        assert moved.max() < 2.0
    shifted = plain_scaling(SIZE, SIZE).with_correction(np.linalg.inv(near))
    everywhere = replace(found, calibration=shifted, model="shift", after=measure_residual(shifted, pairs[:3], 14))
    share, before_px, after_px = everywhere.worsened
    assert 0.15 < share < 0.5 and before_px < 1.5 and 10 < after_px < 12
    assert "one distance only" in replace(everywhere, spread_px=0.1).problem


def test_where_one_camera_shows_nothing_nothing_is_told() -> None:
    rng = np.random.default_rng(5)
    pairs = []
    for visible, thermal in pictures(4, np.array([[1, 0, 5.0], [0, 1, -3.0], [0, 0, 1]])):
        capped = visible.copy()
        capped[:, 128:] = np.clip(12 + rng.normal(0, 1.5, capped[:, 128:].shape), 0, 255)  # a cap before half a lens
        pairs.append((capped, thermal))
    field = measure_residual(plain_scaling(SIZE, SIZE), pairs, 10)
    known = field.told.confidence > 0.15
    assert known[:, :3].mean() > 0.6 and known[:, 5:].mean() < 0.3 < 0.6 < (field.confidence > 0.15)[:, 5:].mean()
    found = refine_alignment(plain_scaling(SIZE, SIZE), pairs, "shift", search_px=10)
    assert found.where.endswith("left") and found.problem == ""


def test_what_is_right_already_is_left_alone() -> None:
    found = refine_alignment(plain_scaling(SIZE, SIZE), pictures(4, np.eye(3)), "affine", search_px=8)
    assert "become" in found.problem


def test_pictures_of_different_scenes_are_refused() -> None:
    with pytest.raises(BadInputError, match="tell where thermal belongs"):
        refine_alignment(plain_scaling(SIZE, SIZE), pictures(4, np.eye(3), related=False), "affine", search_px=8)
    with pytest.raises(BadInputError, match="no pair"):
        refine_alignment(plain_scaling(SIZE, SIZE), [])
