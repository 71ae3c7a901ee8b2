"""What is compared across the spectra: outlines, their correlation, its peak; in arrays and in tensors."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fusion_core.cross_spectral import (
    OutlineForm,
    box_mean,
    correlation_volume,
    gaussian_mean,
    oriented_outlines,
    outlines,
    parabola_peak,
    surface_peak,
)
from fusion_core.rfvif.features import gradient_features

RMS = OutlineForm(smoothing_px=0.0, kernel="sobel", local_mean=box_mean(25), level="rms", level_floor_share=0.2)
DEVIATION = OutlineForm(
    smoothing_px=1.0, kernel="scharr", local_mean=gaussian_mean(8.0), root=True, variance_floor=0.05
)


def boxes(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.full((120, 160), 110, np.float32)
    for _ in range(40):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 6, 6), (150, 110, 40, 40)))
        picture[y : y + h, x : x + w] = rng.integers(20, 240)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2)).astype(np.uint8)


@pytest.mark.parametrize("form", [RMS, DEVIATION], ids=["rms", "deviation"])
def test_a_reversed_contrast_changes_nothing(form: OutlineForm) -> None:
    picture = boxes()
    for plane, reversed_ in zip(oriented_outlines(picture, form), oriented_outlines(255 - picture, form), strict=True):
        np.testing.assert_allclose(plane, reversed_, atol=0.02)  # the root of what rounding leaves
    assert np.array_equal(outlines(picture, form), oriented_outlines(picture, form)[0])


def test_a_flat_picture_has_no_outlines() -> None:
    for plane in oriented_outlines(np.full((40, 50), 90, np.uint8), DEVIATION):
        assert np.abs(plane).max() < 0.02


def test_arrays_and_tensors_see_the_same_outlines() -> None:
    """The surroundings differ (a square, and cells with a blend between them); directions and strengths must not."""
    picture = boxes()
    strength, cos2, sin2 = oriented_outlines(picture, RMS)
    tensor = torch.from_numpy(picture.astype(np.float32) / 255.0)[None, None]
    features = gradient_features(tensor, 8)[0].numpy()
    inner = (slice(12, -12), slice(12, -12))
    strong = strength[inner] > 0.5
    assert strong.mean() > 0.1
    angle, angle_of_features = np.arctan2(sin2, cos2), np.arctan2(features[2], features[1])
    turned = np.angle(np.exp(1j * (angle - angle_of_features)))[inner][strong]
    assert np.abs(turned).max() < 1e-2
    for plane, feature in zip((strength, cos2, sin2), features, strict=True):
        assert np.corrcoef(plane[inner].ravel(), feature[inner].ravel())[0, 1] > 0.95


def test_the_volume_is_highest_at_the_step_between_two_pictures() -> None:
    picture = boxes()
    fixed = oriented_outlines(picture[8:-8, 8:-8], RMS)
    moving = [np.pad(plane, 4) for plane in oriented_outlines(picture[10:-6, 5:-11], RMS)]
    energy = sum(np.square(plane) for plane in moving)
    steps = [(dx, dy) for dy in range(-4, 5) for dx in range(-4, 5)]
    products, energies = correlation_volume(
        fixed,
        moving,
        np.asarray(energy, np.float32),
        steps,
        lambda plane: cv2.resize(plane, (3, 2), interpolation=cv2.INTER_AREA),
    )
    assert products.shape == energies.shape == (81, 2, 3)
    assert steps[int(products.sum((1, 2)).argmax())] == (3, -2)


def test_peaks_between_the_steps() -> None:
    x = np.arange(7.0)
    for top in (2.6, 3.0, 3.4):
        values = 5.0 - (x - top) ** 2
        assert 3 + float(parabola_peak(values[2], values[3], values[4])) == pytest.approx(top)
    assert float(parabola_peak(np.float64(1.0), np.float64(0.0), np.float64(1.0))) == 0.0  # a valley
    columns, rows = np.meshgrid(x, x)
    dx, dy = columns - 3.3, rows - 2.8
    surface = (5.0 - dx**2 - 0.5 * dy**2 + 0.4 * dx * dy).astype(np.float32)
    assert surface_peak(surface, 3, 3) == pytest.approx((3.3, 2.8), abs=1e-4)
    assert surface_peak(surface, 0, 3) == (3.0, 0.0)
    assert surface_peak(-surface, 3, 3) == (3.0, 3.0)
