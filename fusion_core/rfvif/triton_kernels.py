"""Triton kernels; only what runs them imports this: `fusion_core.rfvif.kernels`."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusion_core.rfvif.working_grid import RAMP

__all__ = ["blend", "refine"]

_BLOCK = 64
_ELEMENTS = 1024
_EPSILON: tl.constexpr = tl.constexpr(1e-6)


@triton.jit  # type: ignore[untyped-decorator]
def _refine_kernel(
    fused: Any,
    guide: Any,
    other: Any,
    out: Any,
    height: Any,
    width: Any,
    channels: tl.constexpr,
    padded_channels: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One program: `block` pixels of one picture, all channels. Tensors are (B, C, h, w), contiguous."""
    pixels = height * width
    picture = tl.program_id(1)
    position = tl.program_id(0) * block + tl.arange(0, block)
    valid = position < pixels
    y, x = position // width, position % width
    channel = tl.arange(0, padded_channels)
    inside = (channel < channels)[:, None] & valid[None, :]
    planes = (picture * channels + channel)[:, None] * pixels
    centre = tl.load(fused + planes + position[None, :], mask=inside, other=0.0).to(tl.float32)
    g = tl.load(guide + planes + position[None, :], mask=inside, other=0.0).to(tl.float32)
    o = tl.load(other + planes + position[None, :], mask=inside, other=0.0).to(tl.float32)
    guide_norm = tl.rsqrt(tl.sum(g * g, axis=0) + _EPSILON)
    total = tl.zeros((padded_channels, block), tl.float32)
    weights = tl.zeros((block,), tl.float32)
    for shift in tl.static_range(9):
        row = tl.minimum(tl.maximum(y + shift // 3 - 1, 0), height - 1)
        column = tl.minimum(tl.maximum(x + shift % 3 - 1, 0), width - 1)
        window = tl.load(fused + planes + (row * width + column)[None, :], mask=inside, other=0.0).to(tl.float32)
        norm = tl.rsqrt(tl.sum(window * window, axis=0) + _EPSILON)
        weight = tl.exp(tl.sum(window * g, axis=0) * norm * guide_norm)
        total += window * weight[None, :]
        weights += weight
    norms = tl.rsqrt(tl.sum(centre * centre, axis=0) + _EPSILON) * tl.rsqrt(tl.sum(o * o, axis=0) + _EPSILON)
    damped = centre * (2.0 - tl.sum(o * centre, axis=0) * norms)[None, :]
    results = (picture * 3 * channels + channel)[:, None] * pixels + position[None, :]
    kind = out.dtype.element_ty
    tl.store(out + results, centre.to(kind), mask=inside)
    tl.store(out + results + channels * pixels, (total / weights[None, :]).to(kind), mask=inside)
    tl.store(out + results + 2 * channels * pixels, damped.to(kind), mask=inside)


def refine(fused: Tensor, guide: Tensor, other: Tensor) -> Tensor:
    """See `fusion_core.rfvif.kernels.refine_features_plain`."""
    batch, channels, height, width = fused.shape
    given = [each.contiguous() for each in (fused, guide, other)]
    out = torch.empty(batch, 3 * channels, height, width, dtype=fused.dtype, device=fused.device)
    programs = (triton.cdiv(height * width, _BLOCK), batch)
    _refine_kernel[programs](
        *given, out, height, width, channels, triton.next_power_of_2(channels), _BLOCK, num_warps=4
    )
    return out


@triton.jit  # type: ignore[untyped-decorator]
def _blend_kernel(
    visible: Any,
    infrared: Any,
    visible_gate: Any,
    thermal_gate: Any,
    out: Any,
    count: Any,
    ramp: Any,
    block: tl.constexpr,
) -> None:
    position = tl.program_id(0) * block + tl.arange(0, block)
    valid = position < count
    v = tl.load(visible + position, mask=valid).to(tl.float32) * tl.load(visible_gate + position, mask=valid)
    t = tl.load(infrared + position, mask=valid).to(tl.float32) * tl.load(thermal_gate + position, mask=valid)
    weight = tl.minimum(tl.maximum((tl.abs(t) - tl.abs(v)) * ramp, 0.0), 1.0)
    tl.store(out + position, (v + weight * (t - v)).to(out.dtype.element_ty), mask=valid)


def blend(visible: Tensor, infrared: Tensor, visible_gate: Tensor, thermal_gate: Tensor) -> Tensor:
    """See `fusion_core.rfvif.working_grid.blend_bands`."""
    given = [each.contiguous() for each in (visible, infrared, visible_gate, thermal_gate)]
    out = torch.empty_like(given[0])
    count = out.numel()
    _blend_kernel[(triton.cdiv(count, _ELEMENTS),)](*given, out, count, 1.0 / RAMP, _ELEMENTS)
    return out
