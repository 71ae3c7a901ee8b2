"""The alignment budget against scenes whose motion, skew and shift are known."""

from __future__ import annotations

import math
import threading

import cv2
import numpy as np
import pytest

from app.configuration.config import BudgetConfig
from app.pipeline.alignment_budget import AlignmentBudget, MotionMeter, ShiftMeter, assess, parallax_px
from app.pipeline.state.stats import BudgetLevel
from fusion_core.errors import BadInputError
from fusion_core.shift import translate

FRAME_NS = 33_333_333


def blobs(seed: int, height: int = 480, width: int = 900) -> np.ndarray:
    """A picture with many outlines, (height, width) uint8."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 90, np.uint8)
    for _ in range(90):
        corner = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        size = (int(rng.integers(15, 90)), int(rng.integers(15, 90)))
        value = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            cv2.rectangle(picture, corner, (corner[0] + size[0], corner[1] + size[1]), value, -1)
        else:
            cv2.ellipse(picture, corner, size, 0, 0, 360, value, -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.0)


def thermal_like(visible: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same outlines with another relation of brightness, blurred and noisy."""
    rng = np.random.default_rng(seed)
    other = np.asarray(rng.permutation(256), np.uint8)
    smooth = cv2.GaussianBlur(other.astype(np.float32).reshape(1, -1), (0, 0), 12.0).ravel()
    mapped = smooth[visible] + rng.normal(0.0, 1.0, visible.shape)
    return np.clip(cv2.GaussianBlur(mapped.astype(np.float32), (0, 0), 1.2), 0, 255).astype(np.uint8)


def rgb(luma: np.ndarray) -> np.ndarray:
    return np.repeat(luma[:, :, None], 3, axis=2)


def configured(**values: float) -> BudgetConfig:
    return BudgetConfig.model_validate(
        {"baseline_m": 0.05, "focal_px": 686.0, "reference_distance_m": 8.6, "near_limit_m": 4.3, **values}
    )


def test_parallax_matches_the_formula() -> None:
    assert parallax_px(686.0, 0.05, 4.2875, 8.575) == pytest.approx(4.0)
    assert parallax_px(686.0, 0.05, 5.0, 5.0) == 0.0
    assert parallax_px(686.0, 0.05, 1e9, 4.2875) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("parts", "level", "total"),
    [
        ((2.0, 1.0, 1.0), BudgetLevel.GREEN, 4.0),
        ((4.0, 1.0, 1.0), BudgetLevel.GREEN, 6.0),
        ((4.0, 2.0, 1.0), BudgetLevel.AMBER, 7.0),
        ((4.0, 3.0, 1.0), BudgetLevel.AMBER, 8.0),
        ((4.0, 3.0, 1.1), BudgetLevel.RED, 8.1),
        ((2.0, None, 1.0), BudgetLevel.UNKNOWN, 3.0),
        ((None, None, None), BudgetLevel.UNKNOWN, 0.0),
        ((9.0, None, None), BudgetLevel.RED, 9.0),
    ],
)
def test_levels(parts: tuple, level: BudgetLevel, total: float) -> None:
    reading = assess(8.0, *parts)
    assert reading.level is level
    assert reading.total_px == pytest.approx(total)


@pytest.mark.parametrize("step_px", [0.0, 2.0, 6.0, 12.0])
def test_motion_of_a_pan_is_measured(step_px: float) -> None:
    scene = blobs(1)
    meter = MotionMeter()
    frames = 20
    for number in range(frames):
        left = round(number * step_px)
        meter.observe(rgb(scene[:, left : left + 640]), number * FRAME_NS)
    assert meter.speed_px_s(frames * FRAME_NS) == pytest.approx(step_px * 30.0, abs=8.0)


def test_motion_of_an_empty_picture_cannot_be_told() -> None:
    meter = MotionMeter()
    for number in range(30):
        meter.observe(np.full((480, 640, 3), 30, np.uint8), number * FRAME_NS)
    assert meter.speed_px_s(29 * FRAME_NS) is None


def test_motion_is_forgotten_and_gaps_do_not_count() -> None:
    scene = blobs(2)
    meter = MotionMeter()
    meter.observe(rgb(scene[:, :640]), 0)
    meter.observe(rgb(scene[:, 20:660]), 1_000_000_000)  # a second later: tells nothing
    assert meter.speed_px_s(1_000_000_000) is None
    meter.observe(rgb(scene[:, 28:668]), 1_000_000_000 + 2 * FRAME_NS)
    assert meter.speed_px_s(1_000_000_000 + 2 * FRAME_NS) == pytest.approx(120.0, abs=8.0)
    assert meter.speed_px_s(4_000_000_000) is None


def test_motion_ignores_time_that_stands_still_and_other_sizes() -> None:
    scene = blobs(3)
    meter = MotionMeter()
    for picture, time_ns in ((scene[:, :640], 0), (scene[:, 9:649], 0), (scene[:240, :320], FRAME_NS)):
        meter.observe(rgb(picture), time_ns)
    assert meter.speed_px_s(FRAME_NS) is None


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (-7.0, 5.0), (11.0, 4.0)])
def test_residual_shift_is_found(shift: tuple[float, float]) -> None:
    visible = blobs(4)[:, :640]
    meter = ShiftMeter()
    for second in range(5):
        moved = translate(thermal_like(visible, seed=second), *shift)
        meter.measure(rgb(visible), moved, second * 1_000_000_000)
    found = meter.shift_px(5_000_000_000)
    assert found is not None
    assert math.dist(found, shift) <= 0.5


def test_residual_shift_of_large_pictures_is_in_their_pixels() -> None:
    visible = cv2.resize(blobs(5)[:, :640], (1280, 960), interpolation=cv2.INTER_CUBIC)
    meter = ShiftMeter()
    for second in range(4):
        meter.measure(rgb(visible), translate(thermal_like(visible, seed=second), 8.0, -6.0), second)
    assert meter.shift_px(4) == pytest.approx((8.0, -6.0), abs=1.0)


def test_shift_of_unrelated_pictures_cannot_be_told() -> None:
    meter = ShiftMeter()
    for second in range(6):
        meter.measure(rgb(blobs(second)[:, :640]), blobs(100 + second)[:, :640].copy(), second)
    assert meter.shift_px(6) is None


def test_shift_needs_several_measurements_and_forgets() -> None:
    visible = blobs(6)[:, :640]
    meter = ShiftMeter()
    for second in range(2):
        meter.measure(visible.copy(), thermal_like(visible), second)
    assert meter.shift_px(2) is None
    meter.measure(visible.copy(), thermal_like(visible), 2)
    assert meter.shift_px(2) is not None
    assert meter.shift_px(40_000_000_000) is None
    meter.reset()
    assert meter.shift_px(2) is None


def test_different_sizes_are_refused() -> None:
    with pytest.raises(BadInputError, match="visible grid"):
        ShiftMeter().measure(np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32), np.uint8), 0)


def feed(budget: AlignmentBudget, step_px: int, skew_ms: float, shift: tuple[float, float], frames: int = 150) -> None:
    """A rig that pans to and fro by `step_px` a frame."""
    scene = blobs(7)
    for number in range(frames):
        position = (number * step_px) % 480
        left = position if position <= 240 else 480 - position
        visible = scene[:, left : left + 640]
        time_ns = number * FRAME_NS
        budget.observe(rgb(visible), round(skew_ms * 1e6), time_ns)
        if budget.shift_due(time_ns):
            budget.measure_shift(rgb(visible), translate(thermal_like(visible), *shift), time_ns)


def test_a_calm_good_rig_is_green() -> None:
    budget = AlignmentBudget(configured())
    feed(budget, 0, 10.0, (1.0, 0.0))
    reading = budget.reading()
    assert reading.level is BudgetLevel.GREEN
    assert reading.parallax_px == pytest.approx(3.99, abs=0.01)
    assert reading.skew_px == pytest.approx(0.0, abs=0.1)
    assert reading.residual_px == pytest.approx(1.0, abs=0.5)
    assert (reading.shift_dx_px, reading.shift_dy_px) == pytest.approx((1.0, 0.0), abs=0.5)
    assert reading.notes == ()


def test_a_shifted_rig_is_red() -> None:
    budget = AlignmentBudget(configured())
    feed(budget, 0, 10.0, (5.0, -4.0))
    reading = budget.reading()
    assert reading.level is BudgetLevel.RED
    assert reading.residual_px == pytest.approx(math.hypot(5, 4), abs=0.6)


def test_panning_with_skew_is_red_and_no_shift_is_measured_meanwhile() -> None:
    budget = AlignmentBudget(configured())
    feed(budget, 12, 33.0, (0.0, 0.0))
    reading = budget.reading()
    assert reading.motion_px_s == pytest.approx(360.0, abs=20.0)
    assert reading.skew_px == pytest.approx(360 * 0.033, abs=1.0)
    assert reading.level is BudgetLevel.RED
    assert "shift: not while the picture moves" in reading.notes


def test_without_geometry_it_cannot_tell_and_says_what_is_missing() -> None:
    budget = AlignmentBudget(BudgetConfig())
    feed(budget, 0, 5.0, (0.0, 0.0))
    reading = budget.reading()
    assert reading.level is BudgetLevel.UNKNOWN
    assert reading.parallax_px is None
    assert "budget.baseline_m" in reading.notes[0]
    calibrated = AlignmentBudget(BudgetConfig(), baseline_m=-0.05, focal_px=686.0)
    assert calibrated.reading().parallax_px == pytest.approx(686 * 0.05 * (1 / 2.5 - 1 / 5.0))


def test_before_the_first_pair_and_in_a_degraded_mode_it_cannot_tell() -> None:
    budget = AlignmentBudget(configured())
    assert budget.reading().level is BudgetLevel.UNKNOWN
    feed(budget, 0, 5.0, (0.0, 0.0), frames=60)
    budget.observe(None, None, 60 * FRAME_NS)
    reading = budget.reading()
    assert reading.skew_px is None
    assert "skew: no pairs" in reading.notes


def test_a_changed_correction_starts_the_measurement_afresh() -> None:
    budget = AlignmentBudget(configured())
    feed(budget, 0, 5.0, (2.0, 0.0), frames=120)
    assert budget.reading().residual_px is not None
    budget.reset_shift()
    assert budget.reading().residual_px is None


def test_two_threads_may_share_it() -> None:
    budget = AlignmentBudget(configured())
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(200):
                budget.reading()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    feed(budget, 2, 5.0, (0.0, 0.0), frames=60)
    thread.join(30.0)
    assert errors == []
