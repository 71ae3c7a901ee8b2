"""A rig with unequal lenses and no board is found over the whole range; and what does not fit is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.coarse_search import find_similarity
from calibration.rig import PlaneCalibration, bent, load_calibration, plain_scaling, save_calibration, straightened
from calibration.targetless import Refinement, align_from_nothing, judge_fit
from fusion_core.errors import BadInputError
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

LENS = -0.12  # a barrel that bends the corners by a tenth
Pairs = list[tuple[np.ndarray, np.ndarray]]


def config(**changes: object) -> SimulatedRigConfig:
    values = {
        "height": 360, "thermal_height": 192, "thermal_width": 256, "hfov_visible_deg": 70.0,
        "hfov_thermal_deg": 52.0, "baseline_m": 0.08, "residual_rotation_deg": 2.0,
    }  # fmt: skip
    return SimulatedRigConfig.model_validate(values | changes)


def filmed(rig: SimulatedRig, lens: float, count: int = 6) -> Pairs:
    """Pairs of a rig whose thermal lens bends the picture."""
    pairs = []
    for index in range(count):
        counts = rig.thermal(index * 1.7)
        height, width = counts.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        at = straightened(np.stack([x.ravel(), y.ravel()], axis=-1), lens, (height, width)).astype(np.float32)
        x, y = at.reshape(height, width, 2).transpose(2, 0, 1)
        counts = cv2.remap(counts, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        pairs.append((rig.visible(index * 1.7), np.asarray(counts)))
    return pairs


def off_px(rig: SimulatedRig, calibration: PlaneCalibration, lens: float) -> np.ndarray:
    """How far things on the ground and before it are off in truth, where both cameras see them, visible pixels."""
    truth, size = rig.truth(0.0), rig.geometry.thermal_shape
    height, width = truth.depth_m.shape
    y, x = (plane.ravel() for plane in np.mgrid[8 : height - 8 : 12, 8 : width - 8 : 12])
    visible = np.stack([x, y], axis=-1).astype(np.float64)
    on_grid = np.column_stack([visible + truth.displacement_px[y, x], np.ones(len(x))])
    thermal = (on_grid @ np.linalg.inv(rig.geometry.grid_from_thermal).T)[:, :2]
    thermal = bent(thermal, lens, size)
    seen = ((thermal >= 0) & (thermal <= [size[1] - 1, size[0] - 1])).all(axis=1) & (truth.depth_m[y, x] < 500)
    return np.asarray(np.linalg.norm(calibration.visible_from_thermal(thermal[seen]) - visible[seen], axis=1))


@pytest.fixture(scope="module")
def unequal() -> tuple[SimulatedRig, Pairs]:
    rig = SimulatedRig(config())
    return rig, filmed(rig, LENS)


@pytest.fixture(scope="module")
def found(unequal: tuple[SimulatedRig, Pairs]) -> Refinement:
    return align_from_nothing(unequal[1])


def test_unequal_lenses_are_found_with_the_bend_of_the_thermal_one(
    unequal: tuple[SimulatedRig, Pairs], found: Refinement
) -> None:
    rig, _ = unequal
    plain = plain_scaling(rig.geometry.visible_shape, rig.geometry.thermal_shape)
    before = off_px(rig, plain, LENS)
    assert np.median(before) > 30
    assert found.start is not None and found.start.sure and not found.problem
    assert found.start.scale == pytest.approx(0.70, abs=0.05) and abs(found.start.turn_deg) == pytest.approx(2, abs=1)
    assert found.model == "lens" and isinstance(found.calibration, PlaneCalibration)
    assert found.calibration.thermal_lens == pytest.approx(LENS, abs=0.05)
    left = off_px(rig, found.calibration, LENS)
    assert np.median(left) < 1.5 and np.percentile(left, 95) < 4 and left.max() < 8
    coarse = off_px(rig, found.start.calibration, LENS)
    assert np.percentile(left, 95) < 0.5 * np.percentile(coarse, 95)


def test_what_does_not_fit_is_said_with_its_pixels(unequal: tuple[SimulatedRig, Pairs], found: Refinement) -> None:
    rig, pairs = unequal
    plain = plain_scaling(rig.geometry.visible_shape, rig.geometry.thermal_shape)
    verdict = judge_fit(plain, pairs[:1])
    assert verdict.far and verdict.found is not None
    assert verdict.off_px == pytest.approx(float(np.median(off_px(rig, plain, LENS))), rel=0.3)
    assert "times as wide" in verdict.found.words()
    assert not judge_fit(found.calibration, pairs[:2]).far


def test_an_equal_rig_fits_and_pictures_of_other_places_tell_nothing(unequal: tuple[SimulatedRig, Pairs]) -> None:
    equal = SimulatedRig(config(hfov_thermal_deg=None, residual_rotation_deg=0.0, residual_shift_px=(2.0, 1.0)))
    pairs = filmed(equal, 0.0, 2)
    plain = plain_scaling(equal.geometry.visible_shape, equal.geometry.thermal_shape)
    verdict = judge_fit(plain, pairs)
    assert not verdict.far and verdict.off_px < 6
    yard = SimulatedRig(config(scene="yard", seed=5))
    strangers = [
        (visible, thermal) for (visible, _), (_, thermal) in zip(unequal[1][:2], filmed(yard, 0.0, 2), strict=True)
    ]
    assert not find_similarity(strangers).sure
    assert not judge_fit(plain, strangers).far
    with pytest.raises(BadInputError, match="tell where thermal belongs"):
        align_from_nothing(strangers)
    with pytest.raises(BadInputError, match="no pair"):
        find_similarity([])
    with pytest.raises(BadInputError, match="sizes"):
        find_similarity([pairs[0], (pairs[0][0][:200], pairs[0][1])])
    with pytest.raises(BadInputError, match="too small"):
        find_similarity([(pairs[0][0][:20, :20], pairs[0][1])])


@pytest.mark.slow  # some fifteen seconds of processor time
def test_a_much_wider_thermal_camera_that_hangs_upside_down_is_found() -> None:
    rig = SimulatedRig(config(hfov_visible_deg=36.0, hfov_thermal_deg=70.0))
    found = align_from_nothing([(visible, heat[::-1, ::-1]) for visible, heat in filmed(rig, 0.0, 4)])
    assert found.start is not None and found.start.sure and not found.problem
    assert found.start.scale == pytest.approx(2.15, abs=0.1) and found.start.turn_deg == pytest.approx(180, abs=4)
    assert isinstance(found.calibration, PlaneCalibration)
    straight = found.calibration.H_visible_thermal @ found.start.half_turn
    left = off_px(rig, replace(found.calibration, H_visible_thermal=straight), 0.0)
    assert np.median(left) < 4 and np.percentile(left, 95) < 8  # a thermal pixel is five visible ones


def test_the_lens_is_kept_in_the_file_and_undone(tmp_path: Path) -> None:
    calibration = PlaneCalibration(
        *(
            side
            for side in (plain_scaling((360, 640), (192, 256)).visible, plain_scaling((360, 640), (192, 256)).thermal)
        ),
        np.array([[1.8, 0.05, 70], [-0.05, 1.8, 10], [0, 0, 1.0]]),
        0.0,
        thermal_lens=LENS,
    )
    save_calibration(calibration, tmp_path / "rig.yaml")
    read = load_calibration(tmp_path / "rig.yaml")
    assert isinstance(read, PlaneCalibration) and read.thermal_lens == LENS
    points = np.random.default_rng(1).uniform([0, 0], [255, 191], (50, 2))
    there = read.visible_from_thermal(points)
    assert np.abs(read.thermal_from_visible(there) - points).max() < 1e-9
    corner, middle = np.array([[0.0, 0.0]]), np.array([[127.5, 95.5]])
    assert np.linalg.norm(straightened(corner, LENS, (192, 256)) - middle) > np.linalg.norm(corner - middle)
    save_calibration(plain_scaling((360, 640), (192, 256)), tmp_path / "plain.yaml")
    assert "thermal_lens" not in (tmp_path / "plain.yaml").read_text()
