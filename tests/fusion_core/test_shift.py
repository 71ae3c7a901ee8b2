"""The whole-frame displacement on pairs that are displaced by a known amount."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_core.colour import luminance
from fusion_core.errors import BadInputError
from fusion_core.shift import correlation_surface, estimate_shift, translate

VIFB = Path(__file__).parents[2] / ".." / "shared" / "data" / "pairs" / "vifb"
WELL_ALIGNED = ("carShadow", "carWhite", "fight", "manCar", "manWalking", "peopleshadow", "running", "walking")


def street(seed: int, height: int = 480, width: int = 640) -> tuple[np.ndarray, np.ndarray]:
    """A visible and a thermal picture of the same boxes: outlines shared, brightness not; each with its own texture."""
    rng = np.random.default_rng(seed)
    visible = np.full((height, width), 110, np.float32)
    thermal = np.full((height, width), 70, np.float32)
    for _ in range(60):
        x, y = (int(v) for v in rng.integers(0, (width, height)))
        w, h = (int(v) for v in rng.integers(8, 80, 2))
        visible[y : y + h, x : x + w] = rng.integers(20, 240)
        if rng.random() < 0.7:  # not all that is seen differs in temperature
            thermal[y : y + h, x : x + w] = rng.integers(20, 240)
    visible += 25 * cv2.GaussianBlur(rng.normal(size=visible.shape).astype(np.float32), (0, 0), 1.5)
    thermal = cv2.GaussianBlur(thermal, (0, 0), 1.2)
    visible += rng.normal(scale=4, size=visible.shape).astype(np.float32)
    thermal += rng.normal(scale=3, size=visible.shape).astype(np.float32)
    return tuple(np.clip(x, 0, 255).astype(np.uint8) for x in (visible, thermal))  # type: ignore[return-value]


@pytest.mark.parametrize("shift", [(0, 0), (3, -3), (0.5, 8.5), (-13, 13), (12.25, -5.75)])
@pytest.mark.parametrize("seed", [1, 2])
def test_finds_a_known_displacement_to_half_a_pixel(shift: tuple[float, float], seed: int) -> None:
    visible, thermal = street(seed)
    estimate = estimate_shift(visible, translate(thermal, *shift))
    assert estimate.reliable
    assert (estimate.dx_px, estimate.dy_px) == pytest.approx(shift, abs=0.5)


def test_undoing_the_estimate_leaves_none() -> None:
    visible, thermal = street(3)
    first = estimate_shift(visible, translate(thermal, 7.5, -4))
    again = estimate_shift(visible, translate(translate(thermal, 7.5, -4), -first.dx_px, -first.dy_px))
    assert (again.dx_px, again.dy_px) == pytest.approx((0, 0), abs=0.25)


@pytest.mark.parametrize("size", [(120, 160), (51, 67)])
def test_works_on_small_pictures(size: tuple[int, int]) -> None:
    visible, thermal = street(4)
    scale = {"dsize": size[::-1], "interpolation": cv2.INTER_AREA}
    small = cv2.resize(visible, **scale), translate(cv2.resize(thermal, **scale), 3, -2)
    estimate = estimate_shift(*small)
    assert (estimate.dx_px, estimate.dy_px) == pytest.approx((3, -2), abs=0.75)


@pytest.mark.parametrize("seed", range(4))
def test_says_so_when_nothing_is_common(seed: int) -> None:
    visible, thermal = street(10 + seed)[0], street(20 + seed)[1]
    assert not estimate_shift(visible, thermal).reliable


def test_says_so_for_pictures_without_outlines() -> None:
    visible, flat = street(5)[0], np.full((480, 640), 80, np.uint8)
    for pair in ((visible, flat), (flat, visible), (flat, flat)):
        estimate = estimate_shift(*pair)
        assert not estimate.reliable
        assert np.isfinite([estimate.dx_px, estimate.dy_px, estimate.confidence]).all()


def test_says_so_when_the_displacement_is_beyond_the_search() -> None:
    visible, thermal = street(6)
    assert not estimate_shift(visible, translate(thermal, 30, 0), max_shift_px=16).reliable


def test_surfaces_of_frames_can_be_summed() -> None:
    surfaces = []
    for seed in range(4):
        visible, thermal = street(30 + seed, 120, 160)
        surfaces.append(correlation_surface(visible, translate(thermal, -4, 6), 10))
    total = np.mean(surfaces, axis=0)
    assert total.shape == (21, 21)
    assert np.unravel_index(total.argmax(), total.shape) == (10 + 6, 10 - 4)


@pytest.mark.skipif(not VIFB.is_dir(), reason="the VIFB pairs are not beside this checkout (../shared/data)")
@pytest.mark.parametrize("stem", WELL_ALIGNED)
def test_real_pairs_follow_a_simulated_displacement(stem: str) -> None:
    visible = luminance(cv2.imread(str(VIFB / "vi" / f"{stem}.jpg"))[..., ::-1].copy())
    thermal = cv2.imread(str(next((VIFB / "ir").glob(f"{stem}.*"))), cv2.IMREAD_GRAYSCALE)
    own = estimate_shift(visible, thermal)
    assert own.reliable
    assert max(abs(own.dx_px), abs(own.dy_px)) < 2.0
    for shift in ((5, 5), (-13, 11), (8.5, -2.5)):
        estimate = estimate_shift(visible, translate(thermal, *shift))
        assert (estimate.dx_px - own.dx_px, estimate.dy_px - own.dy_px) == pytest.approx(shift, abs=0.25)


def test_translate_moves_content_right_and_down_and_mirrors_the_border() -> None:
    picture = np.arange(20, dtype=np.uint16).reshape(4, 5)
    moved = translate(picture, 2, 1)
    assert np.array_equal(moved[1:, 2:], picture[:-1, :-2])
    assert moved.dtype == np.uint16
    assert moved[1].tolist() == [2, 1, 0, 1, 2]
    assert np.array_equal(translate(picture, -1, 0)[:, :4], picture[:, 1:])
    assert np.array_equal(translate(picture, 0, 0), picture)


def test_translate_by_a_fraction_is_between_the_pixels() -> None:
    ramp = np.tile(np.arange(40, dtype=np.float32), (8, 1))
    assert translate(ramp, 0.25, 0)[4, 20] == pytest.approx(19.75, abs=0.06)  # the bicubic kernel is not exact on ramps


def test_refuses_what_it_cannot_compare() -> None:
    plane = np.zeros((40, 40), np.uint8)
    colour = np.dstack([plane] * 3)
    for pair in ((plane, plane[:30]), (plane.astype(float), plane), (plane[:8], plane[:8]), (colour, plane)):
        with pytest.raises(BadInputError):
            estimate_shift(*pair)
    with pytest.raises(BadInputError, match="max_shift_px"):
        estimate_shift(plane, plane, 0)
