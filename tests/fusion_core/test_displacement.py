"""Known displacements put what belongs at q to q + d."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fusion_core.errors import BadInputError
from fusion_core.measures.displacement import (
    Displacement,
    DisplacementKind,
    displace,
    displacement_field,
    field,
    uniform,
)
from fusion_core.shift import translate


def smooth(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return np.clip(128 + 600 * cv2.GaussianBlur(noise, (0, 0), 5), 0, 255).astype(np.uint8)


def test_uniform_moves_whole_pixels_exactly() -> None:
    picture = smooth(0)
    moved = displace(picture, uniform(5), "any")
    assert np.array_equal(moved[5:, 5:], picture[:-5, :-5])
    assert np.array_equal(displace(picture, uniform(0), "any"), picture)


def test_uniform_of_half_a_pixel_lies_between() -> None:
    picture = smooth(1)
    moved = displace(picture, uniform(3.5), "any").astype(int)
    between = (moved[20:-20, 20:-20] - picture[16:-24, 16:-24].astype(int)) * (
        moved[20:-20, 20:-20] - picture[17:-23, 17:-23].astype(int)
    )
    assert np.mean(between <= 4) > 0.95


@pytest.mark.parametrize("size", [(480, 640), (61, 83)])
def test_a_field_has_the_peak_and_no_mean(size: tuple[int, int]) -> None:
    vectors = displacement_field(*size, 5.0, "walking")
    assert vectors.shape == (*size, 2)
    assert np.linalg.norm(vectors, axis=-1).max() == pytest.approx(5.0, rel=1e-4)
    assert np.abs(vectors.mean(axis=(0, 1))).max() < 1e-3


def test_a_field_is_smooth_and_really_varies() -> None:
    vectors = displacement_field(480, 640, 5.0, "walking")
    assert max(np.abs(np.diff(vectors, axis=axis)).max() for axis in (0, 1)) < 0.2
    assert vectors[112:368, 160:480].std(axis=(0, 1)).min() > 0.5


def test_a_field_depends_on_pair_and_seed_and_scales_with_the_peak() -> None:
    one = displacement_field(60, 80, 3.0, "walking", seed=1)
    assert np.array_equal(one, displacement_field(60, 80, 3.0, "walking", seed=1))
    assert not np.allclose(one, displacement_field(60, 80, 3.0, "walking", seed=2))
    assert not np.allclose(one, displacement_field(60, 80, 3.0, "fight", seed=1))
    assert np.allclose(2 * one, displacement_field(60, 80, 6.0, "walking", seed=1), atol=1e-4)


def test_a_field_moves_content_by_its_vectors() -> None:
    # A ramp shows the displacement in its levels: given(p) = aligned(p - d), slope 1 level a pixel.
    height, width = 120, 160
    ramp = np.tile(np.arange(width, dtype=np.uint8), (height, 1))
    vectors = displacement_field(height, width, 6.0, "fight")
    moved = displace(ramp, field(6.0), "fight").astype(float)
    difference = ramp - moved - vectors[..., 0]
    assert np.abs(difference[12:-12, 12:-12]).max() < 0.75
    assert np.array_equal(displace(ramp, field(0.0), "fight"), ramp)


def test_a_uniform_displacement_is_undone_by_its_opposite() -> None:
    picture = smooth(2)
    there_and_back = translate(displace(picture, uniform(4), "x"), -4, -4)
    assert np.array_equal(there_and_back[4:-4, 4:-4], picture[4:-4, 4:-4])


def test_labels_and_limits() -> None:
    assert uniform(3).label == "3 px"
    assert uniform(3.5).label == "3.5 px"
    assert field(5).label == "field 5 px"
    for bad in (-1.0, 100.0, float("nan")):
        with pytest.raises(BadInputError, match="0 to 64"):
            Displacement(DisplacementKind.UNIFORM, bad)
