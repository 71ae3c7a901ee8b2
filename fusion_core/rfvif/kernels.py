"""Operators of the network that a GPU runs as one Triton kernel; elsewhere in plain torch, which is the reference."""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_core.rfvif.working_grid import blend_bands

__all__ = ["blend", "has_triton", "refine_features", "refine_features_plain"]

_EPSILON = 1e-6
_REACH = 1


def has_triton() -> bool:
    """Whether kernels can be compiled here."""
    return importlib.util.find_spec("triton") is not None


def refine_features_plain(fused: Tensor, guide: Tensor, other: Tensor) -> Tensor:
    """Eq. (9)-(12) of the local refinement: what is like `guide` is enhanced, what is like `other` damped.

    Args:
        fused, guide, other: (B, C, h, w), one dtype; similarities are computed in float32.

    Returns:
        (B, 3C, h, w): fused, enhanced, damped.
    """
    f, g, o = fused.float(), guide.float(), other.float()
    norm, guide_norm, other_norm = (torch.rsqrt(x.pow(2).sum(dim=1, keepdim=True) + _EPSILON) for x in (f, g, o))
    height, width = fused.shape[-2:]
    padded, padded_norm = (F.pad(x, (_REACH,) * 4, mode="replicate") for x in (f, norm))
    total, weights = torch.zeros_like(f), torch.zeros_like(norm)
    for y in range(2 * _REACH + 1):
        for x in range(2 * _REACH + 1):
            window = padded[:, :, y : y + height, x : x + width]
            similarity = (window * g).sum(dim=1, keepdim=True) * padded_norm[:, :, y : y + height, x : x + width]
            weight = torch.exp(similarity * guide_norm)  # Eq. (10)
            total, weights = total + window * weight, weights + weight
    similarity = (o * f).sum(dim=1, keepdim=True) * other_norm * norm
    return torch.cat((fused, (total / weights).to(fused.dtype), (f * (2.0 - similarity)).to(fused.dtype)), dim=1)


@torch.library.custom_op("lumitherm::refine_features", mutates_args=())
def refine_features(fused: Tensor, guide: Tensor, other: Tensor) -> Tensor:
    """As `refine_features_plain`; on CUDA by one kernel where Triton is there."""
    if fused.is_cuda and has_triton():
        from fusion_core.rfvif.triton_kernels import refine

        return refine(fused, guide, other)
    return refine_features_plain(fused, guide, other)


@refine_features.register_fake
def _(fused: Tensor, guide: Tensor, other: Tensor) -> Tensor:
    batch, channels, height, width = fused.shape
    return fused.new_empty(batch, 3 * channels, height, width)


@torch.library.custom_op("lumitherm::blend", mutates_args=())
def blend(visible: Tensor, infrared: Tensor, visible_gate: Tensor, thermal_gate: Tensor) -> Tensor:
    """As `fusion_core.rfvif.working_grid.blend_bands`; on CUDA by one kernel where Triton is there."""
    if visible.is_cuda and has_triton():
        from fusion_core.rfvif.triton_kernels import blend as kernel

        return kernel(visible, infrared, visible_gate, thermal_gate)
    return blend_bands(visible, infrared, visible_gate, thermal_gate)


@blend.register_fake
def _(visible: Tensor, infrared: Tensor, visible_gate: Tensor, thermal_gate: Tensor) -> Tensor:
    return torch.empty_like(visible)
