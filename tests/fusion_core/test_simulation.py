"""The simulated rig: its frames follow from configuration and time alone, and its truth is true."""

from __future__ import annotations

import math
import weakref
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pydantic
import pytest

from fusion_core.errors import ConfigError
from fusion_core.simulation.rig import MAX_PAN_DEG, RigTruth, SimulatedRig, SimulatedRigConfig, rig_geometry

SMALL = {"height": 192, "width": 256, "thermal_height": 192, "thermal_width": 256}
QUIET = {"visible_noise": 0.0, "thermal_noise_counts": 0.0, "fixed_pattern_counts": 0.0}


@pytest.fixture(scope="module")
def rig() -> SimulatedRig:
    return SimulatedRig(SimulatedRigConfig(**SMALL))


@pytest.fixture(scope="module")
def night() -> SimulatedRig:
    return SimulatedRig(SimulatedRigConfig(**SMALL, night=1.0))


def left_over_px(rig: SimulatedRig, truth: RigTruth, thermal: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Least-squares (x, y) shift that remains, within a range of depth, after undoing the true displacement."""
    config = rig.config
    h, w = config.height, config.width
    y, x = np.indices((h, w), np.float32)
    picture = cv2.resize(thermal.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR)
    there = x + truth.displacement_px[..., 0], y + truth.displacement_px[..., 1]
    undone = cv2.remap(picture, *there, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan)
    aligned = truth.thermal_aligned.astype(np.float64)
    # away from jumps of depth, where one camera sees what is hidden from the other
    focal = rig.geometry.K_visible[0, 0]
    reach = math.ceil(2.5 * config.thermal_blur_px * w / config.thermal_width + 2 + focal * abs(config.baseline_m) / 10)
    inverse = 1 / truth.depth_m
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    use = cv2.dilate(inverse, window) - cv2.erode(inverse, window) < 0.012
    use &= np.isfinite(undone) & (truth.depth_m >= near_m) & (truth.depth_m < far_m)
    assert use.sum() > 300
    down, across = np.gradient(aligned)
    terms = np.stack([across[use], down[use], np.ones(int(use.sum()))], axis=1)
    return np.linalg.lstsq(terms, (undone - aligned)[use], rcond=None)[0][:2]


def test_frames_have_the_promised_form(rig: SimulatedRig) -> None:
    visible, thermal = rig.visible(0.5), rig.thermal(0.5)
    assert visible.shape == (192, 256, 3)
    assert visible.dtype == np.uint8
    assert thermal.shape == (192, 256)
    assert thermal.dtype == np.uint16
    assert 22000 < thermal.min() < thermal.max() < 27500
    assert visible.std() > 30  # a picture, not a grey wall
    truth = rig.truth(0.5)
    assert truth.displacement_px.shape == (192, 256, 2)
    assert truth.displacement_px.dtype == truth.depth_m.dtype == truth.temperature_c.dtype == np.float32
    assert truth.thermal_aligned.dtype == np.uint16
    assert truth.visible_clean.dtype == np.uint8
    for low, high in ((5, 9), (14, 20), (20, 23), (900, 1001)):  # near pavement, far pavement, houses, sky
        assert np.mean((truth.depth_m >= low) & (truth.depth_m <= high)) > 0.01


def test_same_seed_same_frames_in_any_order_and_from_two_threads(rig: SimulatedRig) -> None:
    times = [0.0, 0.4, 1.1, 2.0]
    first = [(rig.visible(t), rig.thermal(t)) for t in times]
    other = SimulatedRig(SimulatedRigConfig(**SMALL))
    with ThreadPoolExecutor(2) as pool:
        thermal = list(pool.map(other.thermal, reversed(times)))[::-1]
        visible = list(pool.map(other.visible, reversed(times)))[::-1]
    for (a, b), c, d in zip(first, visible, thermal, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    changed = SimulatedRig(SimulatedRigConfig(**SMALL, seed=8))
    assert np.mean(changed.visible(0.4) != first[1][0]) > 0.5


def test_warming_up_changes_no_frame_and_a_rig_frees_its_memory(rig: SimulatedRig) -> None:
    warm = SimulatedRig(SimulatedRigConfig(**SMALL))
    warm.warm_up()
    np.testing.assert_array_equal(warm.visible(0.8), rig.visible(0.8))
    np.testing.assert_array_equal(warm.thermal(0.8), rig.thermal(0.8))
    np.testing.assert_array_equal(warm.truth(0.8).thermal_aligned, rig.truth(0.8).thermal_aligned)
    gone = weakref.ref(warm)
    del warm
    assert gone() is None  # at once: hundreds of megabytes must not wait for the garbage collector


def test_frames_belong_to_the_caller(rig: SimulatedRig) -> None:
    before = rig.visible(0.2), rig.thermal(0.2)
    rig.visible(0.2)[:] = 0
    rig.thermal(0.2)[:] = 0
    rig.truth(0.2).temperature_c[:] = 0
    np.testing.assert_array_equal(rig.visible(0.2), before[0])
    np.testing.assert_array_equal(rig.thermal(0.2), before[1])


def test_things_move_and_noise_is_of_the_size_asked_for(rig: SimulatedRig) -> None:
    truth, later = rig.truth(0.5), rig.truth(0.9)
    moved = np.abs(later.visible_clean.astype(int) - truth.visible_clean).max(axis=2) > 20
    assert 0.02 < moved.mean() < 0.6
    noise = rig.visible(0.5).astype(float) - truth.visible_clean
    middle = (truth.visible_clean > 30) & (truth.visible_clean < 225)
    assert noise[middle].std() == pytest.approx(rig.config.visible_noise, rel=0.15)
    same = SimulatedRig(SimulatedRigConfig(**SMALL, fixed_pattern_counts=0.0, baseline_m=0.0))
    thermal_noise = same.thermal(0.5).astype(float) - same.truth(0.5).thermal_aligned
    assert thermal_noise.std() == pytest.approx(same.config.thermal_noise_counts, rel=0.15)


MIDDLE = {"height": 288, "width": 384, "thermal_height": 288, "thermal_width": 384}
ALL_RESIDUALS = {
    "baseline_m": 0.2,
    "residual_shift_px": (3.5, -2.25),
    "residual_rotation_deg": 1.5,
    "residual_scale": 1.02,
}
CASES = {
    "default": MIDDLE,
    "all residuals": {**MIDDLE, **ALL_RESIDUALS},
    "wide picture and a small sensor": {"height": 360, "width": 640, "thermal_height": 180, "thermal_width": 240},
    "another thermal lens": {**MIDDLE, "thermal_height": 307, "hfov_thermal_deg": 52.0},
    "panning": {**MIDDLE, "pan_deg_per_s": 5.0},
    "yard": {**MIDDLE, "baseline_m": 0.1, "scene": "yard"},
}


@pytest.mark.parametrize("name", CASES)
def test_displacement_brings_thermal_onto_the_truth(name: str) -> None:
    rig = SimulatedRig(SimulatedRigConfig(**QUIET, **CASES[name]))
    truth, thermal = rig.truth(1.3), rig.thermal(1.3)
    depths = ((13, 20), (24, 28), (900, 1001)) if name == "yard" else ((13, 20), (20, 22), (30, 60), (900, 1001))
    for near, far in depths:
        left = left_over_px(rig, truth, thermal, near, far)
        assert np.abs(left).max() < 0.25, f"{near}-{far} m: {left}"


def test_displacement_is_the_projection_of_the_pin_hole_cameras() -> None:
    rig = SimulatedRig(
        SimulatedRigConfig(
            **{**SMALL, "thermal_height": 120, "thermal_width": 160},
            baseline_m=0.15,
            residual_shift_px=(2.0, 3.0),
            residual_rotation_deg=-2.0,
            residual_scale=0.97,
        )
    )
    truth, g = rig.truth(0.0), rig.geometry
    for y, x in ((20, 30), (100, 120), (180, 250)):
        point = np.linalg.inv(g.K_visible) @ [x, y, 1] * truth.depth_m[y, x]
        seen = g.K_thermal @ g.R_visible_thermal.T @ (point - g.t_visible_thermal_m)
        at = (seen[:2] / seen[2] + 0.5) * [256 / 160, 192 / 120] - 0.5
        np.testing.assert_allclose(truth.displacement_px[y, x], at - [x, y], atol=2e-3)


def test_parallax_vanishes_at_the_aligned_distance() -> None:
    geometry = rig_geometry(SimulatedRigConfig(**SMALL, aligned_distance_m=10.0))
    focal = geometry.K_visible[0, 0]
    for depth in (5.0, 10.0, 40.0):
        shift = geometry.displacement_px(np.full((192, 256), 1 / depth, np.float32))
        np.testing.assert_allclose(shift[..., 0], focal * 0.06 * (1 / 10 - 1 / depth), atol=1e-3)
        np.testing.assert_allclose(shift[..., 1], 0, atol=1e-3)
    shifted = rig_geometry(SimulatedRigConfig(**SMALL, baseline_m=0.0, residual_shift_px=(4.0, -1.5)))
    shift = shifted.displacement_px(np.full((192, 256), 0.1, np.float32))
    np.testing.assert_allclose(shift, np.broadcast_to((4.0, -1.5), (192, 256, 2)), atol=1e-3)


def test_shutter_freezes_the_picture_and_leaves_a_joint_jump() -> None:
    config = SimulatedRigConfig(**SMALL, ffc_period_s=2.0, ffc_duration_s=0.4, ffc_jump_counts=80.0)
    rig = SimulatedRig(config)
    assert not rig.ffc_active(0.1)
    assert [rig.ffc_active(t) for t in (1.99, 2.0, 2.39, 2.41)] == [False, True, True, False]
    frozen = [rig.thermal(t) for t in (59 / 30, 60 / 30, 65 / 30, 71 / 30)]
    for frame in frozen[1:]:
        np.testing.assert_array_equal(frame, frozen[0])
    after = rig.thermal(73 / 30)
    background = rig.truth(73 / 30).depth_m > 20.5
    jump = np.median(after[background].astype(int) - frozen[0][background])
    assert 0.25 * 80 < abs(jump) <= 85
    calm = np.median(rig.thermal(80 / 30)[background].astype(int) - after[background])
    assert abs(calm) <= 1


def test_drift_grows_and_the_shutter_takes_it_back() -> None:
    drifting = SimulatedRig(SimulatedRigConfig(**SMALL, thermal_drift_counts_per_s=20.0))
    level = [float(np.median(drifting.thermal(t))) for t in (0.0, 5.0, 10.0)]
    np.testing.assert_allclose(np.diff(level), 100, atol=3)
    corrected = SimulatedRig(
        SimulatedRigConfig(**SMALL, thermal_drift_counts_per_s=20.0, ffc_period_s=5.0, ffc_jump_counts=0.0)
    )
    assert np.median(corrected.thermal(5.5)) == pytest.approx(level[0], abs=3)
    assert np.median(corrected.thermal(9.5)) == pytest.approx(level[0] + 80, abs=3)


def test_skewed_thermal_shows_an_earlier_scene() -> None:
    plain = SimulatedRig(SimulatedRigConfig(**SMALL, **QUIET))
    skewed = SimulatedRig(SimulatedRigConfig(**SMALL, **QUIET, time_skew_ms=120.0))
    np.testing.assert_array_equal(skewed.thermal(1.12), plain.thermal(1.0))
    assert np.any(skewed.thermal(1.0) != plain.thermal(1.0))
    np.testing.assert_array_equal(skewed.visible(1.0), plain.visible(1.0))


def test_frame_times_keep_rate_and_order() -> None:
    steady = SimulatedRig(SimulatedRigConfig(**SMALL, thermal_fps=9.0))
    assert steady.visible_time_s(30) == pytest.approx(1.0)
    assert steady.thermal_time_s(9) == pytest.approx(1.0)
    shaky = SimulatedRig(SimulatedRigConfig(**SMALL, jitter_ms=5.0))
    times = np.array([shaky.visible_time_s(k) for k in range(300)])
    off = (times - np.arange(300) / 30) * 1000
    assert 2 < off.std() < 4
    assert np.abs(off).max() <= 5
    assert (np.diff(times) > 0).all()
    wild = SimulatedRig(SimulatedRigConfig(**SMALL, jitter_ms=50.0, visible_fps=120.0))
    assert (np.diff([wild.visible_time_s(k) for k in range(300)]) > 0).all()


def test_pan_sweeps_to_and_fro_at_the_speed_asked_for() -> None:
    rig = SimulatedRig(SimulatedRigConfig(**SMALL, **QUIET, pan_deg_per_s=3.0, baseline_m=0.0))
    focal = rig.geometry.K_visible[0, 0]
    top = slice(0, 60)
    a, b = (cv2.cvtColor(rig.truth(t).visible_clean, cv2.COLOR_RGB2GRAY)[top].astype(np.float32) for t in (1.0, 1.5))
    window = cv2.createHanningWindow((a.shape[1], a.shape[0]), cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(a, b, window)
    # the sweep is even in the tangent: 9 degrees in 3 s
    assert dx == pytest.approx(-focal * math.tan(math.radians(MAX_PAN_DEG)) * 0.5 / 3, abs=0.5)
    assert dy == pytest.approx(0, abs=0.3)
    again = rig.visible(4 * MAX_PAN_DEG / 3.0)
    np.testing.assert_array_equal(rig.visible(0.0)[:50], again[:50])  # above all that moves


def test_night_darkens_the_visible_picture_only(rig: SimulatedRig, night: SimulatedRig) -> None:
    day = rig
    np.testing.assert_array_equal(day.thermal(0.7), night.thermal(0.7))
    assert night.visible(0.7).mean() < 0.5 * day.visible(0.7).mean()
    assert night.visible(0.7).max() > 220  # lamps

    def unrest(one: SimulatedRig) -> float:
        clean = one.truth(0.7).visible_clean
        return float((one.visible(0.7).astype(float) - clean)[clean > 25].std())

    assert unrest(night) > 2.5 * unrest(day)


def test_people_are_warm_and_print_is_not_in_thermal(rig: SimulatedRig, night: SimulatedRig) -> None:
    truth = night.truth(1.0)
    walkers = (np.abs(truth.depth_m - 8.2) < 0.05) | (np.abs(truth.depth_m - 7.7) < 0.05)
    assert walkers.sum() > 200
    around = cv2.dilate(walkers.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~walkers
    assert truth.temperature_c[walkers].mean() > truth.temperature_c[around].mean() + 4
    by_day = rig.truth(1.0)
    crossing = (by_day.depth_m > 12.4) & (by_day.depth_m < 12.6)
    crossing[:, :90] = crossing[:, 170:] = False
    assert by_day.visible_clean[crossing].std() > 20
    assert by_day.temperature_c[crossing].std() < 2


EXTREMES = {
    "smallest": {"height": 32, "width": 32, "thermal_height": 24, "thermal_width": 32},
    "tele": {**SMALL, "hfov_visible_deg": 10.0, "hfov_thermal_deg": 12.0},
    "wide": {**SMALL, "hfov_visible_deg": 100.0, "pan_deg_per_s": 20.0},
    "thermal on the left, tall": {
        "height": 300,
        "width": 100,
        "thermal_height": 80,
        "thermal_width": 60,
        "baseline_m": -0.8,
    },
    "late thermal": {**SMALL, "time_skew_ms": 1000.0, "ffc_period_s": 3.0, "night": 0.5, "scene": "yard"},
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_rigs_see_the_scene_everywhere(name: str) -> None:
    rig = SimulatedRig(SimulatedRigConfig(**EXTREMES[name]))
    for t in (0.0, 3.1, 86_400.0 * 20):
        assert rig.thermal(t)[-1].min() > 23300  # nowhere unpainted: that would be 0 degrees, 23200 counts
        truth = rig.truth(t)
        assert rig.visible(t).shape == truth.visible_clean.shape
        assert np.isfinite(truth.displacement_px).all()
        assert truth.depth_m.min() > 0.9
        assert truth.depth_m[-1].max() < 100  # nor in the visible camera's view: that would be at 1000 m


def test_bad_configurations_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="extra"):
        SimulatedRigConfig(sead=3)
    with pytest.raises(pydantic.ValidationError, match="ffc_duration_s is 3"):
        SimulatedRigConfig(ffc_period_s=2.0, ffc_duration_s=3.0)
    with pytest.raises(pydantic.ValidationError, match="night"):
        SimulatedRigConfig(night=1.5)
    with pytest.raises(ConfigError, match="residual_shift_px"):
        SimulatedRig(SimulatedRigConfig(**SMALL, residual_shift_px=(100.0, 0.0)))


def test_every_setting_says_its_unit_and_reason() -> None:
    for name, field in SimulatedRigConfig.model_fields.items():
        assert field.description, name
        assert len(field.description) > 20, name
