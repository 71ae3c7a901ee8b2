"""Losses on pictures, on cases with a known answer and against the measures they stand for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_core.measures.ghost import gradient_shares
from fusion_core.measures.metrics import evaluate
from fusion_core.training.picture_losses import edge_share_loss, level_loss, level_target, qabf


def _pixels(seed: int, sigma: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).random((96, 96), np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), sigma), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels)[None, None] / 255.0


def test_qabf_follows_the_measure() -> None:
    visible, infrared = _pixels(1), _pixels(2, 4.0)
    candidates = [visible, infrared, cv2.addWeighted(visible, 0.5, infrared, 0.5, 0), cv2.max(visible, infrared)]
    ours = [float(qabf(_tensor(fused), _tensor(visible), _tensor(infrared))) for fused in candidates]
    measured = [evaluate(fused, visible, infrared)["qabf"] for fused in candidates]
    assert np.argsort(ours).tolist() == np.argsort(measured).tolist()
    assert np.abs(np.subtract(ours, measured)).max() < 0.1


def test_edge_shares_are_those_of_the_measure() -> None:
    visible, infrared = _pixels(3), _pixels(4)
    fused = cv2.addWeighted(visible, 0.8, infrared, 0.4, 0)
    shares = gradient_shares(fused, visible, infrared)
    wanted = (shares.g_visible, shares.g_thermal)
    pictures = _tensor(fused), _tensor(visible), _tensor(infrared)
    assert float(edge_share_loss(*pictures, wanted)) < 0.05
    assert float(edge_share_loss(*pictures, (wanted[0] + 0.2, wanted[1]))) == pytest.approx(0.2, abs=0.05)


def test_levels_stay_by_day_follow_thermal_at_night_and_show_what_is_hot() -> None:
    day, night = torch.full((1, 1, 64, 64), 0.6), torch.full((1, 1, 64, 64), 0.05)
    thermal = torch.full((1, 1, 64, 64), 0.35)
    thermal[..., :16, :16] = 0.95
    by_day, by_night = level_target(day, thermal), level_target(night, thermal)
    assert float((by_day[..., 1:, 1:] - 0.6).abs().max()) < 15 / 255 * 0.6
    assert float(by_night[..., 1:, 1:].mean()) > 0.15
    assert float(by_day[..., 0, 0] - by_day[..., 1:, 1:].mean()) > 0.15
    assert float(level_loss(day, day, day)) == pytest.approx(0.0, abs=1e-6)
    nearer_thermal = level_target(day, thermal, least_share=0.4)[..., 1:, 1:]
    assert float(nearer_thermal.mean()) == pytest.approx(0.6 + 0.4 * (0.35 - 0.6), abs=1e-3)
    assert float(level_loss(nearer_thermal.mean().expand_as(day), day, thermal, least_share=0.4)) < 0.05


@pytest.mark.parametrize("loss", ["qabf", "edge_share"])
def test_a_picture_can_follow_the_gradient(loss: str) -> None:
    visible, infrared = _tensor(_pixels(5)), _tensor(_pixels(6))
    fused = ((visible + infrared) / 2).requires_grad_()

    def value() -> Tensor:
        return (
            -qabf(fused, visible, infrared) if loss == "qabf" else edge_share_loss(fused, visible, infrared, (0.9, 0.9))
        )

    optimizer = torch.optim.Adam([fused], 0.01)
    before = value().item()
    for _ in range(20):
        optimizer.zero_grad()
        value().backward()
        optimizer.step()
    assert torch.isfinite(fused).all()
    assert value().item() < before - 0.02
