"""The ghost measure on fused pictures whose make-up is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from fusion_core.errors import BadInputError
from fusion_core.measures.ghost import central_window, gradient_shares
from fusion_core.shift import translate


def texture(seed: int, shape: tuple[int, int] = (300, 360)) -> np.ndarray:
    """Independent smooth noise, float64, so that mixtures are exact."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return 128.0 + 400.0 * cv2.GaussianBlur(noise, (0, 0), 2.0)


@pytest.mark.parametrize("central", [False, True])
def test_finds_the_shares_of_a_known_mixture(central: bool) -> None:
    visible, thermal = texture(1), texture(2)
    given = translate(thermal.astype(np.float32), 8, 5).astype(np.float64)
    fused = 0.7 * visible + 0.3 * thermal + 0.2 * given + 15.0
    shares = gradient_shares(fused, visible, thermal, given, central=central)
    assert shares.g_visible == pytest.approx(0.7, abs=1e-6)
    assert shares.g_thermal == pytest.approx(0.3, abs=1e-6)
    assert shares.g_ghost == pytest.approx(0.2, abs=1e-6)
    assert shares.ghost_share == pytest.approx(0.4, abs=1e-6)


def test_an_average_of_misaligned_pictures_is_all_ghost() -> None:
    visible, thermal = texture(3), texture(4)
    given = translate(thermal.astype(np.float32), 6, -4).astype(np.float64)
    shares = gradient_shares((visible + given) / 2, visible, thermal, given)
    assert (shares.g_visible, shares.g_thermal, shares.g_ghost) == pytest.approx((0.5, 0.0, 0.5), abs=1e-6)
    assert shares.ghost_share == pytest.approx(1.0, abs=1e-6)


def test_without_a_displacement_there_is_no_ghost_to_measure() -> None:
    visible, thermal = texture(5), texture(6)
    for given in (None, thermal.copy()):
        shares = gradient_shares(0.5 * visible + 0.25 * thermal, visible, thermal, given)
        assert (shares.g_visible, shares.g_thermal) == pytest.approx((0.5, 0.25), abs=1e-9)
        assert math.isnan(shares.g_ghost)
        assert math.isnan(shares.ghost_share)


def test_the_visible_picture_alone_has_no_thermal_edges() -> None:
    visible, thermal = texture(7), texture(8)
    given = translate(thermal.astype(np.float32), 3, 3).astype(np.float64)
    shares = gradient_shares(visible, visible, thermal, given)
    assert shares.g_visible == pytest.approx(1.0)
    assert shares.g_thermal == pytest.approx(0.0, abs=1e-9)
    assert shares.g_ghost == pytest.approx(0.0, abs=1e-9)


def test_measures_the_luminance_of_colour_pictures() -> None:
    visible = np.clip(texture(9), 0, 255).astype(np.uint8)
    thermal = np.clip(texture(10), 0, 255).astype(np.uint8)
    colour = np.dstack([visible] * 3)
    assert str(gradient_shares(colour, colour, thermal)) == str(gradient_shares(visible, visible, thermal))


def test_a_source_without_gradients_has_no_share() -> None:
    visible, flat = texture(11), np.full((300, 360), 90.0)
    shares = gradient_shares(visible, visible, flat)
    assert shares.g_visible == pytest.approx(1.0)
    assert math.isnan(shares.g_thermal)
    assert math.isnan(gradient_shares(flat, flat, flat).g_visible)


def test_the_central_window_is_central_and_never_larger_than_the_picture() -> None:
    assert central_window(480, 640) == (slice(112, 368), slice(160, 480))
    assert central_window(240, 320) == (slice(0, 240), slice(0, 320))


def test_refuses_sizes_that_differ() -> None:
    with pytest.raises(BadInputError, match="one size"):
        gradient_shares(np.zeros((9, 9)), np.zeros((9, 9)), np.zeros((9, 8)))
    with pytest.raises(BadInputError, match="at least 3x3"):
        gradient_shares(np.zeros((2, 9)), np.zeros((2, 9)), np.zeros((2, 9)))
