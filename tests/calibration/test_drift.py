"""Residual field and drift monitor on made-up scenes that share outlines but not brightness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.drift import DriftLevel, DriftMonitor, DriftState, SelfAligner
from calibration.residual_field import CorrelationVolume, ResidualFieldEstimator, fit_update
from calibration.rig import apply_homography
from fusion_core.errors import BadInputError, ConfigError

SIZE = (240, 320)
SECOND_NS = 1_000_000_000


def scene(seed: int = 0, common: int = 45) -> tuple[np.ndarray, np.ndarray]:
    """Visible and thermal with the same outlines and unrelated brightness, each with things that only it sees."""
    rng = np.random.default_rng(seed)
    pair = [np.full(SIZE, 110.0, np.float32), np.full(SIZE, 90.0, np.float32)]
    for index in range(common + 16):
        centre = (int(rng.integers(0, SIZE[1])), int(rng.integers(0, SIZE[0])))
        axes = (int(rng.integers(6, 40)), int(rng.integers(6, 40)))
        angle = float(rng.uniform(0, 180))
        levels = rng.uniform(20, 235, 2)
        for side in (0, 1):
            if index >= common and index % 2 != side:
                continue
            cv2.ellipse(pair[side], centre, axes, angle, 0, 360, float(levels[side]), -1)
    return cv2.GaussianBlur(pair[0], (0, 0), 0.8), cv2.GaussianBlur(pair[1], (0, 0), 1.2)


def noisy(picture: np.ndarray, rng: np.random.Generator, sigma: float = 4.0) -> np.ndarray:
    return np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def warped(picture: np.ndarray, H: np.ndarray) -> np.ndarray:
    """The picture moved by the inverse of H, so that H is the correction that mends it."""
    return cv2.warpPerspective(
        picture, np.linalg.inv(H), SIZE[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def summed(estimator: ResidualFieldEstimator, H: np.ndarray, frames: int = 3, seed: int = 0) -> CorrelationVolume:
    rng = np.random.default_rng(seed + 100)
    visible, thermal = scene(seed)
    thermal = warped(thermal, H)
    total = estimator.volume(noisy(visible, rng), noisy(thermal, rng))
    for _ in range(frames - 1):
        total += estimator.volume(noisy(visible, rng), noisy(thermal, rng))
    return total


@pytest.mark.parametrize("d", [(0.0, 0.0), (3.0, -2.0), (-7.0, 4.5)])
def test_a_uniform_shift_is_measured_below_half_a_pixel(d: tuple[float, float]) -> None:
    estimator = ResidualFieldEstimator(SIZE, radius_px=10)
    field = estimator.estimate(summed(estimator, shift(*d)))
    assert np.allclose(field.global_px, d, atol=0.5)
    assert np.allclose(field.median_px, d, atol=0.5)
    assert (field.confidence > 0.15).mean() > 0.5
    assert np.abs(fit_update(field, "shift")[:2, 2] - d).max() < 0.5


def test_a_field_that_varies_is_mended_by_repeated_affine_corrections() -> None:
    """One correction mends about two thirds of what varies (wide windows flatten it); the next mends the rest."""
    H = np.array([[1.02, 0.015, -3.0], [-0.015, 1.02, 1.0], [0, 0, 1.0]])
    estimator = ResidualFieldEstimator(SIZE, radius_px=12)
    corners = np.array([[40, 40], [280, 40], [280, 200], [40, 200.0]])
    correction = np.eye(3)
    left = []
    for _ in range(4):
        gap = apply_homography(correction, corners) - apply_homography(H, corners)
        left.append(float(np.linalg.norm(gap, axis=1).max()))
        field = estimator.estimate(summed(estimator, np.linalg.inv(correction) @ H, frames=2))
        correction = fit_update(field, "affine") @ correction
    assert left[0] > 4 and left[1] < 0.5 * left[0] and left[3] < 1.0


def test_pictures_that_share_nothing_are_not_believed() -> None:
    estimator = ResidualFieldEstimator(SIZE, radius_px=10)
    rng = np.random.default_rng(5)
    field = estimator.estimate(estimator.volume(noisy(scene(1)[0], rng), noisy(scene(2)[1], rng)))
    assert (field.confidence > 0.15).mean() < 0.15
    flat = estimator.estimate(estimator.volume(np.full(SIZE, 90, np.uint8), np.full(SIZE, 90, np.uint8)))
    assert flat.confidence.max() == 0 and np.isnan(flat.magnitude_px)
    with pytest.raises(BadInputError, match="more structure"):
        fit_update(flat)
    with pytest.raises(BadInputError, match="made for"):
        estimator.volume(np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8))


def volumes(monitor: DriftMonitor, H: np.ndarray, count: int, seed: int = 0) -> list[CorrelationVolume]:
    rng = np.random.default_rng(seed)
    visible, thermal = scene(seed)
    thermal = warped(thermal, H)
    return [monitor._estimator.volume(noisy(visible, rng), noisy(thermal, rng)) for _ in range(count)]


@pytest.mark.parametrize(
    ("px", "level"), [(0.0, DriftLevel.OK), (2.0, DriftLevel.OK), (5.0, DriftLevel.WARN), (9.0, DriftLevel.ALARM)]
)
def test_an_injected_shift_is_found_within_a_minute(px: float, level: DriftLevel) -> None:
    monitor = DriftMonitor(SIZE)
    before, after = volumes(monitor, np.eye(3), 3), volumes(monitor, shift(px, 0), 3)
    for second in range(40):
        state = monitor.push(before[second % 3], second * SECOND_NS)
    assert state.level is DriftLevel.OK and state.update is None
    found: int | None = None
    for second in range(40, 100):
        state = monitor.push(after[second % 3], second * SECOND_NS)
        if found is None and state.level not in (DriftLevel.OK, DriftLevel.UNKNOWN):
            found = second - 40
    assert state.level is level
    assert state.drift_px == pytest.approx(px, abs=1.0)
    assert (found is not None) == (level is not DriftLevel.OK)
    assert found is None or found <= 60
    if state.update is not None:
        middle = np.array([[160.0, 120.0]])
        assert np.abs(apply_homography(state.update, middle) - middle - [px, 0]).max() < 1.0


def test_static_scenes_give_no_false_alarm_in_eight_hours_of_windows() -> None:
    """8 h hold 960 separate half-minute windows: 120 on each of 8 scenes, from rich to poor in common outlines.

    Each window's estimate stands for all the votes at once, so the median over evaluations, which helps, is not used.
    What this leaves out: light and heat that change, and things that move.
    """
    monitor = DriftMonitor(SIZE)
    levels: dict[DriftLevel, int] = {}
    for seed, common in enumerate((45, 45, 25, 25, 12, 12, 5, 5)):
        rng = np.random.default_rng(seed)
        visible, thermal = scene(20 + seed, common)
        pool = [monitor._estimator.volume(noisy(visible, rng, 6), noisy(thermal, rng, 6)) for _ in range(12)]
        for _ in range(120):
            total = pool[0].copy()
            share = rng.multinomial(30, np.full(12, 1 / 12)).astype(np.float32)
            total.product = np.tensordot(share, np.stack([v.product for v in pool]), 1)
            total.energy_visible = np.tensordot(share, np.stack([v.energy_visible for v in pool]), 1)
            total.energy_thermal = np.tensordot(share, np.stack([v.energy_thermal for v in pool]), 1)
            estimated = monitor._estimator.estimate(total)
            monitor.reset()
            for _ in range(9):
                level = monitor._judge(estimated, 0).level
            levels[level] = levels.get(level, 0) + 1
    print(levels)
    assert levels.get(DriftLevel.WARN, 0) + levels.get(DriftLevel.ALARM, 0) == 0
    assert levels[DriftLevel.OK] > 240, "a monitor that never knows anything would pass too"


def test_monitor_looks_once_a_period_and_forgets_on_reset() -> None:
    monitor = DriftMonitor(SIZE, window_s=10, period_s=1)
    visible, thermal = (picture.astype(np.uint8) for picture in scene())
    assert monitor.update(visible, thermal, 0) is not None
    assert monitor.update(visible, thermal, SECOND_NS // 2) is None
    state = monitor.update(visible, thermal, SECOND_NS)
    assert isinstance(state, DriftState) and state.level is DriftLevel.UNKNOWN
    monitor.reset()
    assert monitor.due(3 * SECOND_NS)
    with pytest.raises(ConfigError, match="period_s"):
        DriftMonitor(SIZE, window_s=1, period_s=2)


def state_with(update: np.ndarray, *, trusted: bool = True, level: DriftLevel = DriftLevel.WARN) -> DriftState:
    return DriftState(0, 6.0, 6.0, 0.0, 0.8, level, update, None, trusted)


def test_self_aligner_moves_slowly_and_only_when_told() -> None:
    for mode, target_px in (("off", 0.0), ("propose", 0.0), ("apply", 6.0)):
        aligner = SelfAligner(mode, SIZE, rate_px_s=2.0, agreeing=2)  # type: ignore[arg-type]
        aligner.step(0)
        aligner.offer(state_with(shift(6, 0)))
        assert not aligner.moving, "one proposal alone moves nothing"
        aligner.offer(state_with(shift(6.5, 0)))
        steps = [aligner.step(second * SECOND_NS) for second in (1, 2, 3, 4)]
        moved = [float(step[0, 2]) for step in steps if step is not None]
        assert np.allclose(moved, [2, 4, 6, 6.5] if mode == "apply" else [])
        assert aligner.correction[0, 2] == pytest.approx(6.5 if mode == "apply" else target_px)
        assert aligner.moved_px == pytest.approx(6.5 if mode == "apply" else 0.0)
        assert (aligner.proposal is not None) == (mode == "propose")
        assert not aligner.moving
    late = SelfAligner("propose", SIZE, rate_px_s=2.0, step_px=0.4)
    late.step(0)
    late.offer(state_with(shift(1, 0)))
    late.accept()
    moved = [
        float(step[0, 2]) for at_s in (0.2, 3.0, 3.1, 9.0) if (step := late.step(round(at_s * SECOND_NS))) is not None
    ]
    assert np.allclose(moved, [0.4, 0.8, 1.0]), "a step that comes late is no larger"
    aligner = SelfAligner("propose", SIZE, rate_px_s=100.0)
    aligner.step(0)
    aligner.offer(state_with(shift(6, 0)))
    aligner.accept()
    aligner.step(SECOND_NS)
    aligner.offer(state_with(shift(1, 1)))
    assert np.allclose(aligner.proposal, shift(7, 1))
    aligner.discard()
    aligner.step(2 * SECOND_NS)
    assert np.allclose(aligner.correction, np.eye(3)) and aligner.proposal is None
    aligner.offer(state_with(shift(500, 0)))
    assert aligner.proposal is None
    with pytest.raises(ConfigError, match="off, propose or apply"):
        SelfAligner("always", SIZE)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="agreeing"):
        SelfAligner("apply", SIZE, agreeing=0)


def test_self_aligner_applies_nothing_that_few_places_or_changing_proposals_speak_for() -> None:
    aligner = SelfAligner("apply", SIZE, agreeing=3)
    aligner.step(0)
    for _ in range(10):
        aligner.offer(state_with(shift(6, 0), trusted=False))  # seen in a corner only
    assert not aligner.moving and aligner.proposal is not None, "it is proposed all the same"
    for number in range(12):
        aligner.offer(state_with(shift(6 + 3 * (number % 2), 0)))  # something that moves to and fro
    assert not aligner.moving
    for trusted in (True, True, False, True, True):
        aligner.offer(state_with(shift(6, 0), trusted=trusted))
    assert not aligner.moving, "doubt in between starts the count anew"
    aligner.offer(state_with(shift(6, 0)))
    assert aligner.moving
    settled = SelfAligner("propose", SIZE)
    settled.offer(state_with(shift(6, 0)))
    settled.offer(DriftState(0, 0.4, 0.4, 0.0, 0.8, DriftLevel.OK))
    assert settled.proposal is None, "a rig that is well again needs no correction"


def test_evidence_from_one_side_of_the_picture_is_not_trusted() -> None:
    rng = np.random.default_rng(4)
    visible, thermal = scene(0)
    thermal = warped(thermal, shift(6, 0))
    for width, wanted in ((SIZE[1], True), (SIZE[1] // 3, False)):
        monitor = DriftMonitor(SIZE)
        seen = [np.where(np.arange(SIZE[1])[None, :] < width, picture, 90.0) for picture in (visible, thermal)]
        for second in range(12):
            state = monitor.update(noisy(seen[0], rng), noisy(seen[1], rng), second * SECOND_NS)
        assert state is not None and state.trusted is wanted


def test_parallax_of_the_scene_does_not_hide_a_movement() -> None:
    """Most of what is to be seen lies 2 px to one side from the beginning; then the rig moves 5 px to the other."""
    monitor = DriftMonitor(SIZE)
    before, after = volumes(monitor, shift(2, 0), 3), volumes(monitor, shift(-3, 0), 3)
    for second in range(50):
        state = monitor.push(before[second % 3], second * SECOND_NS)
    assert state.level is DriftLevel.OK and state.moved_px < 0.5
    assert state.residual_px == pytest.approx(2.0, abs=0.5)
    for second in range(50, 110):
        state = monitor.push(after[second % 3], second * SECOND_NS)
    assert state.residual_px == pytest.approx(3.0, abs=0.6)
    assert state.drift_px == state.moved_px == pytest.approx(5.0, abs=0.8)
    assert state.level is DriftLevel.WARN and state.dx_px < -4
    monitor.reset()
    for second in range(110, 125):
        state = monitor.push(after[second % 3], second * SECOND_NS)
    assert np.isnan(state.moved_px), "after a reset the scene is learnt anew"
