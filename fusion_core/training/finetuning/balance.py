"""Fits the targets of the fused picture to the thermal edges that the start draws.

The targets for luminance and gradients take, place by place, the stronger source. A thermal camera with larger pixels
and more blur gives weaker edges than the pictures that the weights were trained on. It loses more places, and the
losses then ask for less heat and more of the visible picture: the loss falls and thermal edges fade, with or without
the perception term. So infrared detail counts more in both targets, by one factor: the luminance then holds as large a
share of the thermal edges as the start's fused pictures do. For a camera like those of the training pairs the factor
is 1 (found for both shipped presets on public pairs), and nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fusion_core.rfvif import Rfvif, warp
from fusion_core.training.config import LossConfig
from fusion_core.training.dataset import TrainingPair
from fusion_core.training.losses import gradient_target, gradients, intensity_target

__all__ = ["balanced_loss"]

_PAIRS = 8
_MOST = 3.0  # a factor beyond this would draw noise
_ROUNDS = 4  # of the search: the share is nearly linear in the factor
_MAX_SIDE_PX = 512

Pictures = tuple[Tensor, Tensor, Tensor]  # visible, infrared where it belongs, fused; (1, 1, H, W) each


def balanced_loss(network: Rfvif, loss: LossConfig, pairs: Sequence[TrainingPair]) -> LossConfig:
    """The losses, with infrared detail strong enough to keep the start's thermal edges; never weaker than given.

    Args:
        network: the start, float32, on the CPU, in evaluation mode.
        pairs: to train on; up to 8 of them are fused.
    """
    usable = [pair for pair in pairs if pair.registration.reliable]
    if not usable:
        return loss
    chosen = sorted({int(v) for v in np.linspace(0, len(usable) - 1, min(_PAIRS, len(usable)))})
    seen = [_fused(network, usable[i], own=loss.fusion_target == "own") for i in chosen]
    wanted = float(np.mean([thermal_share(fused, visible, infrared) for visible, infrared, fused in seen]))

    def of_pyramid(visible: Tensor, infrared: Tensor, factor: float) -> Tensor:
        boost = factor * loss.intensity_infrared_boost
        return gradients(intensity_target("pyramid", visible, infrared, boost))

    def of_gradient(visible: Tensor, infrared: Tensor, factor: float) -> Tensor:
        return gradient_target(visible, infrared, loss.gradient_infrared_gain, factor * loss.gradient_infrared_boost)

    if loss.intensity > 0 and loss.intensity_target == "pyramid":
        factor = _factor(seen, of_pyramid, wanted)
    elif loss.gradient > 0:
        factor = _factor(seen, of_gradient, wanted)
    else:
        return loss
    return loss.model_copy(
        update={
            "intensity_infrared_boost": round(factor * loss.intensity_infrared_boost, 3),
            "gradient_infrared_boost": round(factor * loss.gradient_infrared_boost, 3),
        }
    )


def thermal_share(of: Tensor, visible: Tensor, infrared: Tensor) -> float:
    """Least-squares share of the infrared gradients in a picture (B, 1, H, W), or in gradients (B, 2, H, W)."""
    target = gradients(of) if of.shape[1] == 1 else of
    columns = torch.stack((gradients(visible).flatten(), gradients(infrared).flatten()), dim=1).double()
    normal = columns.t() @ columns
    normal += 1e-9 * torch.eye(2, dtype=torch.float64) * normal.trace().clamp_min(1e-9)
    return float(torch.linalg.solve(normal, columns.t() @ target.flatten().double())[1])


def _factor(seen: Sequence[Pictures], target: Callable[[Tensor, Tensor, float], Tensor], wanted: float) -> float:
    """The factor, at least 1, with which the target's mean thermal share is `wanted`."""
    factor = 1.0
    for _ in range(_ROUNDS):
        shares = [thermal_share(target(visible, infrared, factor), visible, infrared) for visible, infrared, _ in seen]
        share = float(np.mean(shares))
        if share >= 0.99 * wanted or share <= 0:
            break
        factor = min(factor * wanted / share, _MOST)
    return factor


@torch.inference_mode()
def _fused(network: Rfvif, pair: TrainingPair, *, own: bool) -> Pictures:
    height, width = (min(side, _MAX_SIDE_PX) // 8 * 8 for side in pair.visible.shape)
    top, left = (pair.visible.shape[0] - height) // 2, (pair.visible.shape[1] - width) // 2
    window = (slice(top, top + height), slice(left, left + width))
    visible, infrared = (
        torch.from_numpy(np.ascontiguousarray(picture[window])).float()[None, None] / 255.0
        for picture in (pair.visible, pair.registration.apply(pair.infrared))
    )
    output = network.forward_training(visible, infrared)
    if own and output.displacement:  # what the losses will compare the fused picture with, too
        infrared = warp(infrared, output.displacement[-1], cubic=True).clamp(0.0, 1.0)
    return visible, infrared, output.fused.clamp(0.0, 1.0)
