"""Triton kernels; only what runs them imports this: `fusion_core.rfvif.kernels`, which has the plain form of each."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusion_core.rfvif.correlation import CELL_PX
from fusion_core.rfvif.kernels import empty_as
from fusion_core.rfvif.working_grid import RAMP, WEAKER

__all__ = ["attend", "draw_band", "refine", "warp_cubic"]

_BLOCK = 64
_ELEMENTS = 1024
_EPSILON: tl.constexpr = tl.constexpr(1e-6)
_CUBIC: tl.constexpr = tl.constexpr(-0.75)


def _laid_out(x: Tensor) -> tuple[Tensor, int, int, int]:
    """(B, C, h, w) with the steps in memory from picture to picture, channel to channel, pixel to pixel."""
    if x.stride(2) != x.shape[3] * x.stride(3):
        x = x.contiguous()
    return x, x.stride(0), x.stride(1), x.stride(3)


# ------------------------------------------------------------------ local refinement


@triton.jit  # type: ignore[untyped-decorator]
def _refine_kernel(
    fused: Any, fused_picture: Any, fused_channel: Any, fused_pixel: Any,
    guide: Any, guide_picture: Any, guide_channel: Any, guide_pixel: Any,
    other: Any, other_picture: Any, other_channel: Any, other_pixel: Any,
    out: Any, out_picture: Any, out_channel: Any, out_pixel: Any,
    height: Any, width: Any,
    channels: tl.constexpr, padded_channels: tl.constexpr, block: tl.constexpr,
) -> None:  # fmt: skip
    """One program: `block` pixels of one picture, all channels."""
    picture = tl.program_id(1)
    position = tl.program_id(0) * block + tl.arange(0, block)
    valid = position < height * width
    y, x = position // width, position % width
    channel = tl.arange(0, padded_channels)
    inside = (channel < channels)[:, None] & valid[None, :]
    planes = fused + picture * fused_picture + channel[:, None] * fused_channel
    centre = tl.load(planes + position[None, :] * fused_pixel, mask=inside, other=0.0).to(tl.float32)
    guides = guide + picture * guide_picture + channel[:, None] * guide_channel + position[None, :] * guide_pixel
    others = other + picture * other_picture + channel[:, None] * other_channel + position[None, :] * other_pixel
    g = tl.load(guides, mask=inside, other=0.0).to(tl.float32)
    o = tl.load(others, mask=inside, other=0.0).to(tl.float32)
    guide_norm = tl.rsqrt(tl.sum(g * g, axis=0) + _EPSILON)
    total = tl.zeros((padded_channels, block), tl.float32)
    weights = tl.zeros((block,), tl.float32)
    for shift in tl.static_range(9):
        row = tl.minimum(tl.maximum(y + shift // 3 - 1, 0), height - 1)
        column = tl.minimum(tl.maximum(x + shift % 3 - 1, 0), width - 1)
        place = (row * width + column)[None, :] * fused_pixel
        window = tl.load(planes + place, mask=inside, other=0.0).to(tl.float32)
        norm = tl.rsqrt(tl.sum(window * window, axis=0) + _EPSILON)
        weight = tl.exp(tl.sum(window * g, axis=0) * norm * guide_norm)
        total += window * weight[None, :]
        weights += weight
    norms = tl.rsqrt(tl.sum(centre * centre, axis=0) + _EPSILON) * tl.rsqrt(tl.sum(o * o, axis=0) + _EPSILON)
    damped = centre * (2.0 - tl.sum(o * centre, axis=0) * norms)[None, :]
    results = out + picture * out_picture + channel[:, None] * out_channel + position[None, :] * out_pixel
    kind = out.dtype.element_ty
    tl.store(results, centre.to(kind), mask=inside)
    tl.store(results + channels * out_channel, (total / weights[None, :]).to(kind), mask=inside)
    tl.store(results + 2 * channels * out_channel, damped.to(kind), mask=inside)


def refine(fused: Tensor, guide: Tensor, other: Tensor) -> Tensor:
    """See `fusion_core.rfvif.kernels.refine_features_plain`."""
    batch, channels, height, width = fused.shape
    out = empty_as(fused, 3 * channels)
    given = [value for each in (fused, guide, other, out) for value in _laid_out(each)]
    programs = (triton.cdiv(height * width, _BLOCK), batch)
    _refine_kernel[programs](*given, height, width, channels, triton.next_power_of_2(channels), _BLOCK, num_warps=4)
    return out


# ------------------------------------------------------------------ channel attention


@triton.jit  # type: ignore[untyped-decorator]
def _attend_kernel(
    x: Any, x_picture: Any, x_channel: Any, x_pixel: Any,
    out: Any, out_picture: Any, out_channel: Any, out_pixel: Any,
    means: Any, squeeze: Any, squeeze_bias: Any, excite: Any, excite_bias: Any,
    pixels: Any,
    channels: tl.constexpr, padded_channels: tl.constexpr, narrow: tl.constexpr, padded_narrow: tl.constexpr,
    block: tl.constexpr,
) -> None:  # fmt: skip
    """One program: `block` pixels of one picture, all channels. The perceptron is so small that each computes it."""
    picture = tl.program_id(1)
    channel, hidden = tl.arange(0, padded_channels), tl.arange(0, padded_narrow)
    is_channel, is_hidden = channel < channels, hidden < narrow
    mean = tl.load(means + picture * channels + channel, mask=is_channel, other=0.0)
    both = is_hidden[:, None] & is_channel[None, :]
    first = tl.load(squeeze + hidden[:, None] * channels + channel[None, :], mask=both, other=0.0).to(tl.float32)
    state = tl.sum(first * mean[None, :], axis=1)
    state += tl.load(squeeze_bias + hidden, mask=is_hidden, other=0.0).to(tl.float32)
    state = tl.maximum(state, 0.0)
    both = is_channel[:, None] & is_hidden[None, :]
    second = tl.load(excite + channel[:, None] * narrow + hidden[None, :], mask=both, other=0.0).to(tl.float32)
    logits = tl.sum(second * state[None, :], axis=1)
    logits += tl.load(excite_bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    weights = 1.0 / (1.0 + tl.exp(-logits))
    position = tl.program_id(0) * block + tl.arange(0, block)
    inside = is_channel[:, None] & (position < pixels)[None, :]
    values = x + picture * x_picture + channel[:, None] * x_channel + position[None, :] * x_pixel
    results = out + picture * out_picture + channel[:, None] * out_channel + position[None, :] * out_pixel
    scaled = tl.load(values, mask=inside, other=0.0).to(tl.float32) * weights[:, None]
    tl.store(results, scaled.to(out.dtype.element_ty), mask=inside)


def attend(
    x: Tensor, means: Tensor, squeeze: Tensor, squeeze_bias: Tensor, excite: Tensor, excite_bias: Tensor
) -> Tensor:
    """See `fusion_core.rfvif.kernels.attend_plain`."""
    batch, channels, height, width = x.shape
    narrow = squeeze.shape[0]
    out = empty_as(x, channels)
    given = [each.contiguous() for each in (means, squeeze, squeeze_bias, excite, excite_bias)]
    programs = (triton.cdiv(height * width, _BLOCK), batch)
    _attend_kernel[programs](
        *_laid_out(x), *_laid_out(out), *given, height * width, channels, triton.next_power_of_2(channels), narrow,
        triton.next_power_of_2(narrow), _BLOCK, num_warps=4,
    )  # fmt: skip
    return out


# ------------------------------------------------------------------ warp and detail path


@triton.jit  # type: ignore[untyped-decorator]
def _enlarged(plane: Any, y: Any, x: Any, height: Any, width: Any, step: Any, valid: Any) -> Any:
    """Bilinear between the centres of cells of `1 / step` pixels, at pixels (y, x); plane (height, width) of cells."""
    down = tl.maximum((y.to(tl.float32) + 0.5) * step - 0.5, 0.0)
    along = tl.maximum((x.to(tl.float32) + 0.5) * step - 0.5, 0.0)
    top, left = tl.minimum(down.to(tl.int32), height - 1), tl.minimum(along.to(tl.int32), width - 1)
    bottom, right = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
    v, h = down - top.to(tl.float32), along - left.to(tl.float32)
    upper = tl.load(plane + top * width + left, mask=valid, other=0.0) * (1.0 - h)
    upper += tl.load(plane + top * width + right, mask=valid, other=0.0) * h
    lower = tl.load(plane + bottom * width + left, mask=valid, other=0.0) * (1.0 - h)
    lower += tl.load(plane + bottom * width + right, mask=valid, other=0.0) * h
    return upper * (1.0 - v) + lower * v


@triton.jit  # type: ignore[untyped-decorator]
def _cubic(distance: Any) -> Any:
    """The weight of a pixel so far away, 0 to 2."""
    near = ((_CUBIC + 2.0) * distance - (_CUBIC + 3.0)) * distance * distance + 1.0
    far = ((_CUBIC * distance - 5.0 * _CUBIC) * distance + 8.0 * _CUBIC) * distance - 4.0 * _CUBIC
    return tl.where(distance <= 1.0, near, far)


@triton.jit  # type: ignore[untyped-decorator]
def _warp_kernel(
    image: Any, field: Any, out: Any, height: Any, width: Any, rows: Any, columns: Any, step: Any, inset: Any,
    block: tl.constexpr,
) -> None:  # fmt: skip
    picture = tl.program_id(1)
    position = tl.program_id(0) * block + tl.arange(0, block)
    valid = position < height * width
    y, x = position // width, position % width
    plane = field + picture * 2 * rows * columns
    across = x.to(tl.float32) + _enlarged(plane, y, x, rows, columns, step, valid)
    down = y.to(tl.float32) + _enlarged(plane + rows * columns, y, x, rows, columns, step, valid)
    across = tl.minimum(tl.maximum(across, inset), width - 1.0 - inset)
    down = tl.minimum(tl.maximum(down, inset), height - 1.0 - inset)
    left, top = tl.floor(across), tl.floor(down)
    h, v = across - left, down - top
    total = tl.zeros((block,), tl.float32)
    for row in tl.static_range(4):
        at = tl.minimum(tl.maximum(top.to(tl.int32) + row - 1, 0), height - 1)
        line = tl.zeros((block,), tl.float32)
        for column in tl.static_range(4):
            place = tl.minimum(tl.maximum(left.to(tl.int32) + column - 1, 0), width - 1)
            value = tl.load(image + picture * height * width + at * width + place, mask=valid, other=0.0)
            line += value * _cubic(tl.abs(h - (column - 1.0)))
        total += line * _cubic(tl.abs(v - (row - 1.0)))
    total = tl.minimum(tl.maximum(total, 0.0), 1.0)
    tl.store(out + picture * height * width + position, total, mask=valid)


def warp_cubic(image: Tensor, displacement: Tensor, inset_px: float) -> Tensor:
    """See `fusion_core.rfvif.kernels.warp_cubic_plain`."""
    image, displacement = image.contiguous(), displacement.contiguous()
    batch, _, height, width = image.shape
    out = torch.empty_like(image)
    programs = (triton.cdiv(height * width, _ELEMENTS), batch)
    _warp_kernel[programs](
        image, displacement, out, height, width, *displacement.shape[-2:], 1.0 / CELL_PX, inset_px, _ELEMENTS
    )
    return out


@triton.jit  # type: ignore[untyped-decorator]
def _band_kernel(
    pictures: Any, small: Any, gates: Any, coarse: Any, out: Any, height: Any, width: Any, rows: Any, columns: Any,
    step: Any, ramp: Any, weaker: Any, small_gates: tl.constexpr, block: tl.constexpr,
) -> None:  # fmt: skip
    picture = tl.program_id(1)
    position = tl.program_id(0) * block + tl.arange(0, block)
    pixels, cells = height * width, rows * columns
    valid = position < pixels
    y, x = position // width, position % width
    full, less = pictures + picture * 2 * pixels, small + picture * 2 * cells
    v = tl.load(full + position, mask=valid, other=0.0) - _enlarged(less, y, x, rows, columns, step, valid)
    t = tl.load(full + pixels + position, mask=valid, other=0.0)
    t -= _enlarged(less + cells, y, x, rows, columns, step, valid)
    if small_gates:
        v *= _enlarged(gates + picture * 2 * cells, y, x, rows, columns, step, valid)
        t *= _enlarged(gates + picture * 2 * cells + cells, y, x, rows, columns, step, valid)
    else:
        v *= tl.load(gates + picture * 2 * pixels + position, mask=valid, other=0.0)
        t *= tl.load(gates + picture * 2 * pixels + pixels + position, mask=valid, other=0.0)
    weight = tl.minimum(tl.maximum((tl.abs(t) - tl.abs(v)) * ramp, 0.0), 1.0)
    below = _enlarged(coarse + picture * cells, y, x, rows, columns, step, valid)
    tl.store(out + picture * pixels + position, below + v + weaker * t + (1.0 - weaker) * weight * (t - v), mask=valid)


def draw_band(pictures: Tensor, small: Tensor, gates: Tensor, coarse: Tensor) -> Tensor:
    """See `fusion_core.rfvif.kernels.draw_band_plain`."""
    given = [each.contiguous() for each in (pictures, small, gates, coarse)]
    batch, _, height, width = pictures.shape
    rows, columns = small.shape[-2:]
    out = pictures.new_empty(batch, 1, height, width)
    programs = (triton.cdiv(height * width, _ELEMENTS), batch)
    _band_kernel[programs](
        *given, out, height, width, rows, columns, columns / width, 1.0 / RAMP, WEAKER, gates.shape != pictures.shape,
        _ELEMENTS,
    )  # fmt: skip
    return out
