"""Losses that ask of the fused picture what it is judged by: edges at full strength, levels that fit the light.

All take (B, 1, H, W) float32 pictures in [0, 1], the infrared one aligned, and give a scalar.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["edge_share_loss", "gradients", "level_loss", "level_target", "qabf"]

_CELL_PX = 16
"""Levels are asked for as means over cells of so many pixels: finer structure belongs to the edges."""


def gradients(picture: Tensor) -> Tensor:
    """Sobel derivatives, (B, 1, H, W) -> (B, 2, H, W), per pixel; borders replicate."""
    x = picture.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    kernel = torch.stack((x, x.t()))[:, None]  # (2, 1, 3, 3)
    return F.conv2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), kernel)


def qabf(fused: Tensor, visible: Tensor, infrared: Tensor) -> Tensor:
    """The edge preservation of Xydeas and Petrovic (2000), differentiable: 0..0.98, higher is better.

    As `fusion_core.measures.metrics` computes it, but for the smooth ratio of strengths.
    """
    strength, direction = _strength(fused)
    preserved = weights = fused.new_zeros(())
    for source in (visible, infrared):
        source_strength, source_direction = _strength(source)
        ratio = torch.minimum(strength, source_strength) / torch.maximum(strength, source_strength)
        cosine = (direction * source_direction).sum(1, keepdim=True) / (strength * source_strength)
        angle = 1.0 - torch.acos(cosine.abs().clamp(0.0, 1.0 - 1e-5)) * (2.0 / math.pi)
        kept = 0.9994 / (1.0 + torch.exp(-15.0 * (ratio - 0.5)))
        kept = kept * 0.9879 / (1.0 + torch.exp(-22.0 * (angle - 0.8)))
        preserved = preserved + (kept * source_strength).sum()
        weights = weights + source_strength.sum()
    return preserved / weights


def _strength(picture: Tensor) -> tuple[Tensor, Tensor]:
    direction = gradients(picture) * (8.0 * 255.0)
    return (direction.square().sum(1, keepdim=True) + 1e-4).sqrt(), direction


def edge_share_loss(fused: Tensor, visible: Tensor, infrared: Tensor, wanted: tuple[float, float]) -> Tensor:
    """How far the shares of both pictures' edges are from those wanted (visible, infrared), summed.

    The shares are those of `fusion_core.measures.ghost`: least squares of the fused gradients on both sources', over
    each picture of the batch. Every other loss is least with edges drawn a little faintly.
    """
    of_visible, of_infrared, of_fused = (gradients(each).flatten(1) for each in (visible, infrared, fused))
    vv, tt = of_visible.square().sum(1) + 1e-8, of_infrared.square().sum(1) + 1e-8
    vt = (of_visible * of_infrared).sum(1)
    fv, ft = (of_fused * of_visible).sum(1), (of_fused * of_infrared).sum(1)
    determinant = vv * tt - vt * vt + 1e-3 * vv * tt
    share_visible = (fv * tt - ft * vt) / determinant
    share_infrared = (ft * vv - fv * vt) / determinant
    off_visible, off_infrared = (wanted[0] - share_visible).abs(), (wanted[1] - share_infrared).abs()
    return off_visible.clamp_max(1.0).mean() + off_infrared.clamp_max(1.0).mean()


def level_target(visible: Tensor, infrared: Tensor, least_share: float = 0.12) -> Tensor:
    """The level wanted of each cell of 16 px, (B, 1, H / 16, W / 16).

    Visible's where it is well exposed and thermal shows nothing special; towards thermal's where visible is dark; where
    something is hotter than the rest of the picture, towards the brighter of both. least_share: of thermal, anywhere.
    """
    of_visible, of_infrared = F.avg_pool2d(visible, _CELL_PX), F.avg_pool2d(infrared, _CELL_PX)
    light = F.avg_pool2d(F.pad(of_visible, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    dark = 1.0 - _ramp(light, 0.08, 0.30)
    mean = infrared.mean(dim=(-2, -1), keepdim=True)
    spread = infrared.std(dim=(-2, -1), keepdim=True).clamp_min(0.04)
    hot = _ramp((of_infrared - mean) / spread, 1.0, 2.5)
    share = torch.maximum(0.55 * dark, 0.65 * hot).clamp_min(least_share)
    wanted = torch.where(hot > 0.02, torch.maximum(of_infrared, of_visible), of_infrared)
    return of_visible + share * (wanted - of_visible)


def level_loss(fused: Tensor, visible: Tensor, infrared: Tensor, least_share: float = 0.12) -> Tensor:
    """Mean absolute difference of the cells' means from `level_target`."""
    return (F.avg_pool2d(fused, _CELL_PX) - level_target(visible, infrared, least_share)).abs().mean()


def _ramp(value: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between."""
    position = ((value - low) / (high - low)).clamp(0.0, 1.0)
    return position * position * (3.0 - 2.0 * position)
