"""The offset between the cameras, found from the simulated rig's moving scene to 5 ms."""

from __future__ import annotations

import numpy as np
import pytest

from app.capture.offset_estimator import _GRID, MotionCurve, OffsetEstimator, estimate_offset
from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, Stream, TimestampSource


def watch(skew_ms: float, thermal_fps: float, scene: str, seed: int) -> OffsetEstimator:
    from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

    settings = {"height": 96, "width": 128, "thermal_height": 72, "thermal_width": 96, "time_skew_ms": skew_ms}
    settings |= {"thermal_fps": thermal_fps, "scene": scene, "seed": seed}
    rig = SimulatedRig(SimulatedRigConfig.model_validate(settings))
    estimator = OffsetEstimator()
    sides = (
        (Stream.VISIBLE, 30.0, rig.visible, rig.visible_time_s),
        (Stream.THERMAL, thermal_fps, rig.thermal, rig.thermal_time_s),
    )
    for stream, fps, render, time_s in sides:
        for i in range(round(20 * fps)):
            stamp_s = time_s(i)
            pixels = render(stamp_s)
            estimator.add(Frame(stream, pixels, i, round(stamp_s * 1e9), TimestampSource.SIMULATED))
    return estimator


@pytest.mark.parametrize("skew_ms, thermal_fps, scene, seed", [(137, 30, "street", 3), (-200, 9, "yard", 4)])
def test_offset_of_the_simulated_rig_is_found_to_5_ms(skew_ms, thermal_fps, scene, seed):
    estimate = watch(skew_ms, thermal_fps, scene, seed).estimate()
    print(estimate)
    assert estimate.sure, estimate.why_not
    assert estimate.offset_ms == pytest.approx(skew_ms, abs=5)


def test_something_near_that_both_see_at_different_places_is_no_measure_of_time():
    """Each tile of thermal sees what another tile of the visible picture saw 0.1 s before or after."""
    visible, thermal = curves(0.03, (30, 30), tiles=_GRID[0] * _GRID[1])
    step = np.where(np.arange(visible.energy.shape[1]) // 24 % 2 == 0, 3, -3)
    energy = np.stack([np.roll(thermal.energy[:, tile], step[tile]) for tile in range(step.size)], axis=1)
    estimate = estimate_offset(visible, MotionCurve(thermal.times_ns, energy))
    assert not estimate.sure
    assert "near" in estimate.why_not or "several offsets" in estimate.why_not
    straight = estimate_offset(visible, thermal)
    assert straight.sure
    assert straight.sigma_ms < 1.0
    assert straight.offset_ms == pytest.approx(30, abs=2)


def curves(
    offset_s: float, fps: tuple[float, float], seed: int = 1, tiles: int = 192
) -> tuple[MotionCurve, MotionCurve]:
    """Tiles of irregular motion, seen by both; visible stamps are `offset_s` early."""
    random = np.random.default_rng(seed)
    grid = np.arange(-1, 22, 0.01)
    motion = np.abs(
        np.stack([np.convolve(random.normal(size=grid.size), np.ones(15) / 15, "same") for _ in range(tiles)], 1)
    )
    out = []
    for rate, shift in zip(fps, (offset_s, 0.0), strict=True):
        times = np.arange(0, 20, 1 / rate)
        energy = np.stack([np.interp(times + shift, grid, motion[:, tile]) for tile in range(tiles)], axis=1)
        out.append(MotionCurve((times * 1e9).astype(np.int64), energy))
    return out[0], out[1]


@pytest.mark.parametrize("offset_ms", [-200, -35, 0, 4, 110, 200])
@pytest.mark.parametrize("fps", [(30, 30), (25, 50), (60, 8.7)])
def test_known_offsets_of_made_motion(offset_ms, fps):
    estimate = estimate_offset(*curves(offset_ms / 1e3, fps))
    assert estimate.sure, estimate
    assert estimate.offset_ms == pytest.approx(offset_ms, abs=5)


def test_what_cannot_be_told_is_said():
    visible, thermal = curves(0.0, (30, 30))
    still = MotionCurve(visible.times_ns, np.zeros_like(visible.energy))
    assert not estimate_offset(still, thermal).sure
    unrelated, _ = curves(0.0, (30, 30), seed=9)
    assert not estimate_offset(unrelated, thermal).sure
    short = MotionCurve(visible.times_ns[:60], visible.energy[:60])
    with pytest.raises(BadInputError, match="in common"):
        estimate_offset(short, thermal)
    with pytest.raises(BadInputError, match="ten frames"):
        OffsetEstimator().estimate()
