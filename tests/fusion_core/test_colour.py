"""New luminance under the old chroma."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusion_core.colour import check_pair, luminance, replace_luminance
from fusion_core.errors import BadInputError


def test_luminance_is_bt601_full_range() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [7, 7, 7]]], np.uint8)
    assert luminance(rgb).tolist() == [[76, 150, 29, 255, 7]]


def test_a_plane_is_its_own_luminance() -> None:
    plane = np.zeros((4, 5), np.uint8)
    assert luminance(plane) is plane


def test_takes_the_luminance_keeping_chroma_where_brighter_and_hue_where_darker() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(96, 160, (40, 50, 3), dtype=np.uint8)
    old = luminance(rgb)
    y = np.clip(old.astype(int) + rng.integers(-90, 90, (40, 50)), 0, 255).astype(np.uint8)
    result = replace_luminance(rgb, y)
    assert np.abs(luminance(result).astype(int) - y).max() <= 1
    before, after = (cv2.cvtColor(x, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(int) for x in (rgb, result))
    assert np.abs(before - after)[y >= old].max() <= 1
    darker = y < old
    assert np.abs(result[darker] - rgb[darker] * (y[darker] / old[darker])[:, None]).max() <= 1.01


def test_a_darkened_sky_is_grey_blue_and_not_violet() -> None:
    sky = np.array([[[200, 215, 250]]], np.uint8)
    red, green, blue = replace_luminance(sky, np.array([[40]], np.uint8))[0, 0].tolist()
    assert red < green < blue < 52


def test_the_same_luminance_changes_nothing_and_the_input_is_not_touched() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    rgb.flags.writeable = False
    result = replace_luminance(rgb, luminance(rgb))
    assert np.array_equal(result, rgb)
    assert not np.shares_memory(result, rgb)


def test_clips_instead_of_wrapping_round() -> None:
    rgb = np.array([[[250, 10, 10], [250, 10, 10]]], np.uint8)
    assert replace_luminance(rgb, np.array([[255, 0]], np.uint8)).tolist() == [[[255, 188 - 5, 188 - 5], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("visible", "thermal", "word"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), "visible"),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), "float32"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16), "AGC"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), "visible grid"),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4), np.uint8), "no pixels"),
    ],
)
def test_refuses_what_is_not_a_pair(visible: np.ndarray, thermal: np.ndarray, word: str) -> None:
    with pytest.raises(BadInputError, match=word):
        check_pair(visible, thermal)
