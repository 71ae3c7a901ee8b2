"""The targets of the fused picture for a thermal camera whose edges are weaker than those of the training pairs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fusion_core.training.config import LossConfig
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.finetuning.balance import balanced_loss, thermal_share
from fusion_core.training.losses import gradient_target, gradients, intensity_target
from fusion_core.training.registration import PairRegistration

LOSS = LossConfig.model_validate({"intensity": 4.0, "gradient": 14.0, "gradient_infrared_gain": 1.0})


pytestmark = pytest.mark.usefixtures("one_torch_thread")


class _Sum:
    """A start that draws so much of both cameras' edges, whatever they are."""

    def __init__(self, share: float) -> None:
        self._share = share

    def forward_training(self, visible: torch.Tensor, infrared: torch.Tensor) -> Any:
        fused = 0.4 + self._share * (visible + infrared - 0.5)
        return SimpleNamespace(fused=fused, displacement=())


def _pairs(contrast: float, *, known: bool = True) -> list[TrainingPair]:
    """Boxes at different places in the two pictures; the thermal ones of so much of the visible ones' contrast."""
    pairs = []
    for number in range(3):
        rng = np.random.default_rng(number)
        pictures = np.full((2, 96, 128), 64.0, np.float32)
        for picture, strength in zip(pictures, (60.0, 60.0 * contrast), strict=True):
            for _ in range(25):
                y, x = rng.integers(0, 90), rng.integers(0, 120)
                picture[y : y + rng.integers(6, 30), x : x + rng.integers(6, 30)] = 64 + strength * rng.uniform(-1, 1)
        visible, infrared = (np.uint8(np.clip(cv2.GaussianBlur(p, (0, 0), 1.0), 0, 255)) for p in pictures)
        pairs.append(TrainingPair(str(number), visible, infrared, PairRegistration(reliable=known)))
    return pairs


def _shares(pairs: list[TrainingPair], loss: LossConfig) -> tuple[float, float]:
    """Thermal shares of the two targets, means over the pairs."""
    of_pyramid, of_gradient = [], []
    for pair in pairs:
        visible, infrared = (torch.from_numpy(p).float()[None, None] / 255.0 for p in (pair.visible, pair.infrared))
        pyramid = gradients(intensity_target("pyramid", visible, infrared, loss.intensity_infrared_boost))
        stronger = gradient_target(visible, infrared, loss.gradient_infrared_gain, loss.gradient_infrared_boost)
        of_pyramid.append(thermal_share(pyramid, visible, infrared))
        of_gradient.append(thermal_share(stronger, visible, infrared))
    return float(np.mean(of_pyramid)), float(np.mean(of_gradient))


def test_share_is_that_of_the_thermal_edges() -> None:
    pair = _pairs(0.5)[0]
    visible, infrared = (torch.from_numpy(p).float()[None, None] / 255.0 for p in (pair.visible, pair.infrared))
    assert thermal_share(0.3 * visible + 0.6 * infrared, visible, infrared) == pytest.approx(0.6, abs=1e-3)


def test_targets_of_a_weak_camera_are_brought_to_what_the_start_draws() -> None:
    start: Any = _Sum(0.95)
    pairs = _pairs(0.25)
    before = _shares(pairs, LOSS)
    assert max(before) < 0.85, "the camera is weak enough for the targets to ask for less than the start draws"
    after = balanced_loss(start, LOSS, pairs)
    assert after.intensity_infrared_boost > 1.1
    assert after.gradient_infrared_boost == after.intensity_infrared_boost, "their ratio is part of the recipe"
    assert _shares(pairs, after)[0] == pytest.approx(0.95, abs=0.02)
    gradient_alone = LOSS.model_copy(update={"intensity": 0.0})
    assert _shares(pairs, balanced_loss(start, gradient_alone, pairs))[1] == pytest.approx(0.95, abs=0.02)


def test_targets_of_a_strong_camera_stay_as_they_are() -> None:
    start: Any = _Sum(0.5)
    assert balanced_loss(start, LOSS, _pairs(1.5)) == LOSS
    assert balanced_loss(start, LOSS, _pairs(0.25, known=False)) == LOSS, "of such pairs nothing is known"
    given = LOSS.model_copy(update={"intensity_target": "mean", "gradient": 0.0})
    assert balanced_loss(start, given, _pairs(0.25)) == given
