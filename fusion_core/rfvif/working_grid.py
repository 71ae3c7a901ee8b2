"""Fusing on a working grid: the network runs on reduced pictures, and a detail path brings back what lies above them.

A thermal camera has a tenth of the visible camera's pixels, so most of what the network computes at full size is
spent on what only the visible picture has. On the working grid it gives three maps: what to add to the luminance, and
two gates for the bands of a pyramid, which begins at full size. The detail path then is, at each place and scale,

    F = V_base + up(delta) + sum over the bands of (1 - w) (v + WEAKER t) + w (t + WEAKER v),
    v = g_v B_v,  t = g_t B_t,  w = clamp((|t| - |v|) / RAMP, 0, 1),

with B a picture less its enlarged reduction, and V_base the visible picture's coarsest level. Thermal's band takes over
where it is the stronger one, over a ramp: a hard choice would flicker wherever both are alike. Of the weaker band a
share is added: what only one picture shows is not lost beside a stronger edge of the other. The gates g are what
the network knows of the place: noise in the dark, a doubtful alignment, an edge that the other picture draws better.
So edges are those of the pictures, never blurred by a narrow network, which has levels and judgement to learn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "DETAIL_PX",
    "LEVELS",
    "MAPS",
    "RAMP",
    "WEAKER",
    "WorkingMaps",
    "blend_bands",
    "detail_path",
    "enlarge",
    "reduce",
    "reduction_factor",
]

MAPS = 3
"""Channels that the network gives on a working grid."""

DETAIL_PX = 1_400_000
"""Pictures with more pixels are aligned and fused at a whole fraction of their size: no thermal camera has more. What
the visible picture has above that is added as it is."""

LEVELS = 3
"""Bands of the pyramid on the working grid, beside the one between it and full size."""

RAMP = 8.0 / 255.0
"""By so much thermal's band must be the stronger to be drawn in full."""

WEAKER = 0.3
"""The share of the weaker band, which is added to the stronger."""


class WorkingMaps(NamedTuple):
    """What the network gives on the working grid, each (B, 1, h, w)."""

    delta: Tensor  # to add to the visible luminance, in [-1, 1]
    visible_gate: Tensor  # of the visible picture's finest band, 0..2
    thermal_gate: Tensor  # of the thermal picture's finest band, 0..2

    @staticmethod
    def of(channels: Tensor) -> WorkingMaps:
        """From the (B, 3, h, w) that the reconstruction gives; zeros leave the pictures' stronger detail as it is."""
        gates = 2.0 * torch.sigmoid(channels[:, 1:])
        return WorkingMaps(channels[:, :1], gates[:, :1], gates[:, 1:])


def reduction_factor(height: int, width: int, most_px: int) -> int:
    """The smallest whole factor at which a picture has at most `most_px` pixels; 0 stands for no limit.

    >>> reduction_factor(480, 640, 84_000), reduction_factor(1080, 1920, 84_000), reduction_factor(240, 320, 84_000)
    (2, 5, 1)
    """
    factor = 1
    while most_px and (height // factor) * (width // factor) > most_px:
        factor += 1
    return factor


def reduce(picture: Tensor, factor: int) -> Tensor:
    """Area mean of (B, C, H, W) over cells of `factor` pixels, which H and W are multiples of."""
    return F.avg_pool2d(picture, factor) if factor > 1 else picture


def enlarge(small: Tensor, factor: int) -> Tensor:
    """Bilinear between the cells' centres, (B, C, h, w) -> (B, C, h * factor, w * factor)."""
    if factor == 1:
        return small
    return F.interpolate(small, scale_factor=float(factor), mode="bilinear", align_corners=False)


def blend_bands(visible: Tensor, infrared: Tensor, visible_gate: Tensor, thermal_gate: Tensor) -> Tensor:
    """One band of both pictures, (B, 1, h, w) all."""
    of_visible, of_infrared = visible_gate * visible, thermal_gate * infrared
    weight = ((of_infrared.abs() - of_visible.abs()) / RAMP).clamp(0.0, 1.0)
    return of_visible + WEAKER * of_infrared + (1.0 - WEAKER) * weight * (of_infrared - of_visible)


def _fuse_levels(visible: Tensor, infrared: Tensor, maps: WorkingMaps, levels: int) -> Tensor:
    """The pyramid from this level down."""
    if levels == 0:
        return visible
    small = reduce(visible, 2), reduce(infrared, 2)
    band = visible - enlarge(small[0], 2), infrared - enlarge(small[1], 2)
    reduced = WorkingMaps(*(reduce(each, 2) for each in maps))
    coarse = _fuse_levels(*small, reduced, levels - 1)
    return enlarge(coarse, 2) + blend_bands(*band, maps.visible_gate, maps.thermal_gate)


def detail_path(visible: Tensor, infrared: Tensor, maps: WorkingMaps, factor: int) -> Tensor:
    """The fused picture at full size.

    Args:
        visible, infrared: (B, 1, H, W) in [0, 1], infrared aligned; multiples of 8 * factor.
        maps: what the network gave on the working grid, (B, 1, H / factor, W / factor) each.
        factor: of the reduction.

    Returns:
        (B, 1, H, W), not clamped.
    """
    small = reduce(visible, factor), reduce(infrared, factor)
    fused = enlarge(_fuse_levels(*small, maps, LEVELS) + maps.delta, factor)
    if factor == 1:
        return fused
    band = visible - enlarge(small[0], factor), infrared - enlarge(small[1], factor)
    return fused + blend_bands(*band, enlarge(maps.visible_gate, factor), enlarge(maps.thermal_gate, factor))
