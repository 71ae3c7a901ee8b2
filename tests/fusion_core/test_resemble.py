"""Generic pairs that are made to look like those of a coarse thermal camera."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_core.training.dataset import TrainingPair
from fusion_core.training.finetuning.resemble import noise_levels, resembling, thermal_pitch_of


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    boxes = np.full((240, 320), 90, np.float32)
    for _ in range(40):
        y, x = rng.integers(0, 220), rng.integers(0, 300)
        boxes[y : y + rng.integers(10, 80), x : x + rng.integers(10, 80)] = rng.uniform(30, 220)
    return cv2.GaussianBlur(boxes, (0, 0), 1.0)


def coarse(seed: int, sigma: float, pitch: int = 4) -> np.ndarray:
    small = cv2.resize(picture(seed), (320 // pitch, 240 // pitch), interpolation=cv2.INTER_AREA)
    small += np.random.default_rng(seed).normal(0, sigma, small.shape).astype(np.float32)
    return cv2.resize(np.clip(small, 0, 255).astype(np.uint8), (320, 240), interpolation=cv2.INTER_LINEAR)


def pair(stem: str, infrared: np.ndarray) -> TrainingPair:
    return TrainingPair(stem, np.zeros(infrared.shape, np.uint8), infrared)


def test_noise_is_measured_apart_from_edges() -> None:
    assert noise_levels(picture(1).astype(np.uint8), 4.0) < 1.0
    weak, strong = (noise_levels(coarse(1, sigma), 4.0) for sigma in (4.0, 8.0))
    assert 1.0 < weak < 4.0 and strong == pytest.approx(2 * weak, rel=0.2)


def test_a_sharp_picture_gets_the_pixels_and_the_noise_of_ones_own() -> None:
    own = [pair(f"own_{seed}", coarse(seed, 4.0)) for seed in range(3)]
    sharp = pair("generic_1", picture(7).astype(np.uint8))
    (made,) = resembling([sharp], own, 4.0)
    assert made.infrared.shape == sharp.infrared.shape and made.infrared.dtype == np.uint8
    assert made.visible is sharp.visible and made.registration is sharp.registration
    wanted = float(np.median([noise_levels(p.infrared, 4.0) for p in own]))
    assert noise_levels(made.infrared, 4.0) == pytest.approx(wanted, rel=0.2)

    def fine(p: np.ndarray) -> float:
        return float(np.abs(p.astype(np.float32) - cv2.GaussianBlur(p.astype(np.float32), (0, 0), 1.5)).max())

    assert fine(made.infrared) < 0.7 * fine(sharp.infrared), "edges are as soft as the pixels are large"
    means = made.infrared.mean(), sharp.infrared.mean()
    assert means[0] == pytest.approx(means[1], abs=1.0)
    np.testing.assert_array_equal(resembling([sharp], own, 4.0)[0].infrared, made.infrared)
    assert resembling([sharp], own, 1.0) == [sharp]


def test_pitch_is_read_from_the_set(tmp_path: Path) -> None:
    assert thermal_pitch_of(tmp_path) == 1.0
    (tmp_path / "dataset.json").write_text(json.dumps({"thermal_pitch_px": 4.0}))
    assert thermal_pitch_of(tmp_path) == 4.0
    (tmp_path / "dataset.json").write_text("{}")
    assert thermal_pitch_of(tmp_path) == 1.0
