"""The classical engines on pictures whose fusion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusion_core.colour import luminance
from fusion_core.engines.pyramid_engine import (
    AverageEngine,
    EdgeOverlayEngine,
    LaplacianPyramidEngine,
    NccPyramidEngine,
    OverlayBase,
    fuse_pyramid,
)
from fusion_core.errors import EngineError
from fusion_core.measures.ghost import gradient_shares
from fusion_core.shift import translate


def plane(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    """Boxes of random brightness, a little blurred."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 100, np.uint8)
    for _ in range(40):
        x, y = (int(v) for v in rng.integers(0, (width, height)))
        w, h = (int(v) for v in rng.integers(6, 50, 2))
        picture[y : y + h, x : x + w] = rng.integers(30, 220)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def test_the_average_rounds_halves_up() -> None:
    visible, thermal = np.full((2, 2, 3), 10, np.uint8), np.array([[10, 11], [12, 13]], np.uint8)
    assert AverageEngine().fuse(visible, thermal)[..., 0].tolist() == [[10, 11], [11, 12]]


@pytest.mark.parametrize("size", [(240, 320), (61, 83), (7, 5), (2, 1), (1, 1)])
def test_a_picture_fused_with_itself_comes_back_exactly(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    assert np.array_equal(fuse_pyramid(picture, picture), picture)


def test_the_pyramid_keeps_the_details_of_both() -> None:
    visible, thermal = plane(1), plane(2)
    pyramid = gradient_shares(fuse_pyramid(visible, thermal), visible, thermal)
    assert min(pyramid.g_visible, pyramid.g_thermal) > 0.6  # an average has 0.5 and 0.5
    assert pyramid.g_visible + pyramid.g_thermal > 1.3


def test_detail_of_one_on_a_flat_other_is_drawn_at_full_strength() -> None:
    visible = plane(3)
    fused = fuse_pyramid(visible, np.full_like(visible, 100))
    assert gradient_shares(fused, visible, plane(4)).g_visible > 0.95


def test_the_pyramid_clips_and_does_not_wrap_round() -> None:
    visible, thermal = np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)
    visible[:, ::2] = 255
    fused = fuse_pyramid(visible, thermal)
    assert fused[:, 10].min() > fused[:, 11].max()


def test_the_colour_of_the_visible_picture_stays() -> None:
    visible = np.dstack([plane(5) // 2 + 60, plane(5) // 2 + 40, plane(5) // 2 + 20])
    fused = LaplacianPyramidEngine().fuse(visible, plane(6) // 2 + 50)
    before, after = (cv2.cvtColor(x, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(int) for x in (visible, fused))
    unclipped = ((fused > 0) & (fused < 255)).all(axis=-1)
    assert unclipped.mean() > 0.95
    old, new = luminance(visible), luminance(fused)
    assert np.abs(before - after)[unclipped & (new >= old)].max() <= 1
    darker = unclipped & (new < old)  # where chroma fades with the luminance
    assert darker.any() and (np.abs(after[darker] - 128) <= np.abs(before[darker] - 128) + 1).all()


def test_correlation_takes_the_ghost_out() -> None:
    visible = plane(7)
    thermal = cv2.addWeighted(255 - visible, 0.7, plane(8), 0.3, 0)  # common outlines, other brightness
    given = translate(thermal, 8, -5)
    rgb = np.dstack([visible] * 3)
    plain = gradient_shares(LaplacianPyramidEngine().fuse(rgb, given), visible, thermal, given, central=True)
    engine = NccPyramidEngine()
    aligned = gradient_shares(engine.fuse(rgb, given), visible, thermal, given, central=True)
    assert plain.g_ghost > 0.3
    assert abs(aligned.g_ghost) < 0.05
    assert engine.last_estimate is not None
    assert (engine.last_estimate.dx_px, engine.last_estimate.dy_px) == pytest.approx((8, -5), abs=0.5)


def test_the_last_reliable_displacement_is_kept_until_reset() -> None:
    visible, thermal = plane(9), translate(plane(9), 6, 6)
    rgb, engine = np.dstack([visible] * 3), NccPyramidEngine()
    engine.fuse(rgb, thermal)
    unrelated = plane(10)
    kept = engine.fuse(rgb, unrelated)
    assert engine.last_estimate is not None
    assert not engine.last_estimate.reliable
    assert np.array_equal(luminance(kept), fuse_pyramid(visible, translate(unrelated, -6, -6)))
    engine.reset()
    assert engine.last_estimate is None


def test_outlines_on_thermal_are_grey_and_leave_flat_places_alone() -> None:
    visible = np.full((64, 64, 3), 60, np.uint8)
    visible[:, 32:] = (250, 180, 40)
    thermal = np.full((64, 64), 120, np.uint8)
    fused = EdgeOverlayEngine().fuse(visible, thermal)
    assert np.array_equal(fused[..., 0], fused[..., 2])
    assert (fused[:, :16] == 120).all()
    assert fused[32, 33, 0] > 130
    assert fused[32, 30, 0] < 110
    assert (EdgeOverlayEngine(strength=0.0).fuse(visible, thermal) == 120).all()


def test_heat_on_visible_tints_the_hot_and_keeps_the_cold() -> None:
    visible = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    thermal = np.full((32, 32), 100, np.uint8)
    thermal[8:16] = 240
    fused = EdgeOverlayEngine(OverlayBase.VISIBLE).fuse(visible, thermal)
    assert np.array_equal(fused[20:], visible[20:])
    red, green, blue = fused[8:16].reshape(-1, 3).mean(axis=0)
    assert red > green > blue


def test_no_engine_warms_up_for_no_pixels() -> None:
    with pytest.raises(EngineError, match="0x640"):
        AverageEngine().warm_up(0, 640)
