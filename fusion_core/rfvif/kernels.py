"""Operators of the network that a GPU runs as one kernel; elsewhere in plain torch, which is the reference.

Most are written in Triton. Features may lie channels first or last; what an operator makes lies as what it was given.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import structlog
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_core.rfvif.correlation import CELL_PX, warp
from fusion_core.rfvif.working_grid import blend_bands, enlarge

__all__ = [
    "attend",
    "attend_plain",
    "conv_relu",
    "draw_band",
    "draw_band_plain",
    "has_triton",
    "refine_features",
    "refine_features_plain",
    "warp_cubic",
    "warp_cubic_plain",
]

_EPSILON = 1e-6
_REACH = 1
_log = structlog.get_logger("engine")


class _Process:
    """What holds for the whole process once it has happened."""

    no_joint_relu = False


def has_triton() -> bool:
    """Whether kernels can be compiled here."""
    return importlib.util.find_spec("triton") is not None


def empty_as(x: Tensor, channels: int) -> Tensor:
    """(B, channels, h, w), not initialised, that lies in memory as `x` (B, C, h, w) does."""
    last = x.stride(1) == 1 and x.shape[1] > 1
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(x.shape[0], channels, *x.shape[2:], dtype=x.dtype, device=x.device, memory_format=layout)


# ------------------------------------------------------------------ local refinement


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
    return empty_as(fused, 3 * fused.shape[1])


# ------------------------------------------------------------------ channel attention


def attend_plain(
    x: Tensor, means: Tensor, squeeze: Tensor, squeeze_bias: Tensor, excite: Tensor, excite_bias: Tensor
) -> Tensor:
    """Channel attention: x times the sigmoid of a perceptron over the channels' means.

    Args:
        x: (B, C, h, w). means: (B, C) float32.
        squeeze, squeeze_bias: (S, C) and (S,). excite, excite_bias: (C, S) and (C,).

    Returns:
        As `x`.
    """
    hidden = F.relu(F.linear(means.to(x.dtype), squeeze, squeeze_bias))
    weights = torch.sigmoid(F.linear(hidden, excite, excite_bias))
    return x * weights.view(*x.shape[:2], 1, 1)


@torch.library.custom_op("lumitherm::attend", mutates_args=())
def attend(
    x: Tensor, means: Tensor, squeeze: Tensor, squeeze_bias: Tensor, excite: Tensor, excite_bias: Tensor
) -> Tensor:
    """As `attend_plain`; on CUDA by one kernel where Triton is there."""
    if x.is_cuda and has_triton():
        from fusion_core.rfvif.triton_kernels import attend as kernel

        return kernel(x, means, squeeze, squeeze_bias, excite, excite_bias)
    return attend_plain(x, means, squeeze, squeeze_bias, excite, excite_bias)


@attend.register_fake
def _(x: Tensor, means: Tensor, squeeze: Tensor, squeeze_bias: Tensor, excite: Tensor, excite_bias: Tensor) -> Tensor:
    return empty_as(x, x.shape[1])


# ------------------------------------------------------------------ warp


def warp_cubic_plain(image: Tensor, displacement: Tensor, inset_px: float) -> Tensor:
    """The infrared picture where the field says, cut to [0, 1].

    Args:
        image: (B, 1, H, W) float32. displacement: (B, 2, h, w) float32 px, of a picture that begins with this one.
        inset_px: see `fusion_core.rfvif.correlation.warp`.

    Returns:
        As `image`.
    """
    height, width = image.shape[-2:]
    field = F.interpolate(displacement, scale_factor=float(CELL_PX), mode="bilinear", align_corners=False)
    return warp(image, field[:, :, :height, :width], cubic=True, inset_px=inset_px).clamp(0.0, 1.0)


@torch.library.custom_op("lumitherm::warp_cubic", mutates_args=())
def warp_cubic(image: Tensor, displacement: Tensor, inset_px: float) -> Tensor:
    """As `warp_cubic_plain`; on CUDA by one kernel where Triton is there."""
    if image.is_cuda and has_triton():
        from fusion_core.rfvif.triton_kernels import warp_cubic as kernel

        return kernel(image, displacement, inset_px)
    return warp_cubic_plain(image, displacement, inset_px)


@warp_cubic.register_fake
def _(image: Tensor, displacement: Tensor, inset_px: float) -> Tensor:
    return torch.empty(image.shape, dtype=image.dtype, device=image.device)


# ------------------------------------------------------------------ detail path


def draw_band_plain(pictures: Tensor, small: Tensor, gates: Tensor, coarse: Tensor) -> Tensor:
    """One band of the detail path of `fusion_core.rfvif.working_grid`, added to what is below it.

    Args:
        pictures: both, visible first, (B, 2, H, W) float32.
        small: both reduced by a whole factor, (B, 2, h, w).
        gates: theirs, (B, 2, H, W) or (B, 2, h, w).
        coarse: what is fused so far, (B, 1, h, w).

    Returns:
        (B, 1, H, W).
    """
    factor = pictures.shape[-1] // small.shape[-1]
    bands = pictures - enlarge(small, factor)
    if gates.shape != pictures.shape:
        gates = enlarge(gates, factor)
    return enlarge(coarse, factor) + blend_bands(bands[:, :1], bands[:, 1:], gates[:, :1], gates[:, 1:])


@torch.library.custom_op("lumitherm::draw_band", mutates_args=())
def draw_band(pictures: Tensor, small: Tensor, gates: Tensor, coarse: Tensor) -> Tensor:
    """As `draw_band_plain`; on CUDA by one kernel where Triton is there."""
    if pictures.is_cuda and has_triton():
        from fusion_core.rfvif.triton_kernels import draw_band as kernel

        return kernel(pictures, small, gates, coarse)
    return draw_band_plain(pictures, small, gates, coarse)


@draw_band.register_fake
def _(pictures: Tensor, small: Tensor, gates: Tensor, coarse: Tensor) -> Tensor:
    return pictures.new_empty(pictures.shape[0], 1, *pictures.shape[2:])


# ------------------------------------------------------------------ convolutions


@torch.library.custom_op("lumitherm::conv_relu", mutates_args=())
def conv_relu(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """relu(conv2d(...)); on CUDA by one call of cuDNN, which PyTorch otherwise gives the bias and the ReLU apart."""
    if x.is_cuda and not _Process.no_joint_relu and torch.backends.cudnn.is_available():  # type: ignore[no-untyped-call]
        try:
            return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, dilation, 1)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # which shapes and types cuDNN does it for differs between its versions
            _Process.no_joint_relu = True
            _log.warning("cuDNN joins no ReLU to a convolution here: each is launched apart", reason=str(error)[:300])
    return F.relu_(F.conv2d(x, weight, bias, stride, padding, dilation))


@conv_relu.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    return F.conv2d(x, weight, bias, stride, padding, dilation)
