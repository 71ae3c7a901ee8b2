"""Features that look alike in both spectra, to correlate: fixed gradients, and what is learned on top of them.

Gradients alone meet what one spectrum has and the other has not: shadows and print are visible only, warm walls thermal
only. So a small network sees each picture's gradients and light, weighs the gradients place by place, adds to them, and
adds planes of its own. Each picture has its own weights.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.padding import pad_to_multiple

__all__ = ["CELL_PX", "LearnedFeatures", "gradient_features", "reduced"]

CELL_PX = 8  # the displacement grid: one vector per 8x8 pixels
_VISIBLE_FLOOR = (2.0 / 255.0) ** 2  # gradients below two grey levels are noise
_WIDTH_4, _WIDTH_8 = 16, 24  # feature maps of each picture at 1/4 and 1/8 of the resolution
_OWN_4, _OWN_8 = 6, 8  # planes there beside the three of the gradients
_LIGHT_CELL = 4  # pixels of the quarter resolution over which light is compared
_LIGHT_FLOOR = 1e-3  # variance of light below which there is nothing to compare


def reduced(picture: Tensor, factor: int) -> Tensor:
    """Averaged over squares of `factor`, float32."""
    picture = picture.float()
    return F.avg_pool2d(picture, factor) if factor > 1 else picture


def _local_mean(planes: Tensor, cell: int) -> Tensor:
    """Averaged over cells and their neighbours, at one value a cell."""
    means = F.avg_pool2d(pad_to_multiple(planes, cell, mirror=False), cell)
    return F.avg_pool2d(means, 3, stride=1, padding=1, count_include_pad=False)


def _grown(planes: Tensor, factor: int, height: int, width: int) -> Tensor:
    grown = F.interpolate(planes, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return grown[:, :, :height, :width]


def gradient_features(image: Tensor, cell: int) -> Tensor:
    """Three planes that look alike in both spectra: locally normalised gradient magnitude, times 1, cos 2a and sin 2a.

    Twice the angle, so that a contrast that flips between the spectra gives the same value.

    Args:
        image: (B, 1, h, w) float32 in [0, 1].
        cell: side in pixels of the cells over which the local gradient energy is averaged.

    Returns:
        (B, 3, h, w) float32.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    # Sobel, separable by slices: smooth across, difference along.
    rows = padded[:, :, :-2] + 2.0 * padded[:, :, 1:-1] + padded[:, :, 2:]
    columns = padded[:, :, :, :-2] + 2.0 * padded[:, :, :, 1:-1] + padded[:, :, :, 2:]
    gx = (rows[:, :, :, 2:] - rows[:, :, :, :-2]) * 0.125
    gy = (columns[:, :, 2:] - columns[:, :, :-2]) * 0.125
    gxx, gyy = gx * gx, gy * gy
    energy = gxx + gyy
    local = _grown(_local_mean(energy, cell), cell, *image.shape[-2:])
    picture = energy.mean(dim=(-2, -1), keepdim=True)
    norm = torch.rsqrt(local + 0.05 * picture + _VISIBLE_FLOOR * 0.25)
    # Not smaller: ONNX's optimizer takes an addend near 1e-8 for zero, and a flat spot then divides by it.
    magnitude = torch.sqrt(energy + 1e-7)
    scale = norm / magnitude
    return torch.cat((magnitude * norm, (gxx - gyy) * scale, 2.0 * gx * gy * scale), dim=1)


def _light(image: Tensor) -> Tensor:
    """Luminance less its local mean, over its local spread: (B, 1, h, w)."""
    moments = _local_mean(torch.cat((image, image * image), dim=1), _LIGHT_CELL)
    mean = moments[:, :1]
    spread = torch.rsqrt((moments[:, 1:] - mean * mean).clamp(min=0.0) + _LIGHT_FLOOR)
    local = _grown(torch.cat((mean, spread), dim=1), _LIGHT_CELL, *image.shape[-2:])
    return (image - local[:, :1]) * local[:, 1:]


class LearnedFeatures(nn.Module):
    """Planes to correlate at 1/2, 1/4 and 1/8 of the resolution. A layer serves both pictures, each by its group."""

    def __init__(self) -> None:
        super().__init__()

        def layer(of: int, to: int, side: int = 1, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
            return nn.Conv2d(2 * of, 2 * to, side, stride, dilation * (side // 2), dilation, groups=2)

        self.first = layer(7, _WIDTH_4, 3)
        self.down, self.edges = layer(_WIDTH_4, _WIDTH_8, 3, stride=2), layer(3, _WIDTH_8)
        self.around = nn.ModuleList(layer(_WIDTH_8, _WIDTH_8, 3, dilation=wide) for wide in (2, 4))
        self.up, self.mix = layer(_WIDTH_8, _WIDTH_4), layer(_WIDTH_4, _WIDTH_4, 3)
        # A weight for the gradients; at 1/4 and 1/8 also what is added to the three of them, and own planes.
        self.out8, self.out4 = layer(_WIDTH_8, 4 + _OWN_8), layer(_WIDTH_4, 4 + _OWN_4)
        self.out2 = layer(_WIDTH_4, 1)
        for out in (self.out8, self.out4, self.out2):  # begins as the gradients themselves
            assert out.bias is not None
            nn.init.zeros_(out.bias)
            nn.init.zeros_(out.weight)
            for group in out.weight.detach().chunk(2):
                nn.init.normal_(group[4:], std=0.1)

    def forward(
        self, visible_y: Tensor, infrared: Tensor, wanted: Collection[int] = (8, 4, 2)
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Of the visible and the infrared picture, (B, 1, H, W) in [0, 1], H and W multiples of 8.

        wanted: 1/resolution of the planes that are asked for; a look of the finest stage takes no others.

        Returns:
            By 1/resolution, for each picture (B, C, H / factor, W / factor) float32.
        """
        batch, dtype = visible_y.shape[0], self.first.weight.dtype
        pictures = torch.cat((visible_y, infrared), dim=1).flatten(0, 1).unsqueeze(1)  # one after the other
        half = reduced(pictures, 2)
        quarter = reduced(half, 2)
        smaller = {2: half, 4: quarter, 8: reduced(quarter, 2)}
        edges = {factor: gradient_features(each, max(2 * CELL_PX // factor, 4)) for factor, each in smaller.items()}

        def side_by_side(planes: Tensor) -> Tensor:
            return planes.to(dtype).view(batch, -1, *planes.shape[-2:])

        def apart(maps: Tensor) -> Tensor:
            return maps.float().view(2 * batch, -1, *maps.shape[-2:])

        seen = torch.cat((edges[4], _light(quarter), _halved(edges[2])), dim=1)
        fine = F.relu(self.first(side_by_side(seen)))
        coarse = F.relu(self.down(fine) + self.edges(side_by_side(edges[8])))
        for layer in self.around:
            coarse = coarse + F.relu(layer(coarse))
        fine = F.relu(_twice(self.up(coarse)) + self.mix(fine))
        planes = {}
        if 8 in wanted:
            planes[8] = _weighed(edges[8], apart(self.out8(coarse)))
        if 4 in wanted:
            planes[4] = _weighed(edges[4], apart(self.out4(fine)))
        if 2 in wanted:
            planes[2] = edges[2] * torch.exp(_twice(apart(self.out2(fine))).clamp(-4.0, 2.0))
        both = {factor: each.view(batch, 2, -1, *each.shape[-2:]) for factor, each in planes.items()}
        return {factor: (each[:, 0], each[:, 1]) for factor, each in both.items()}


def _weighed(edges: Tensor, out: Tensor) -> Tensor:
    return torch.cat((edges * torch.exp(out[:, :1].clamp(-4.0, 2.0)) + out[:, 1:4], out[:, 4:]), dim=1)


def _twice(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)


def _halved(planes: Tensor) -> Tensor:
    """Averaged over squares of 2. Plane by plane: OpenVINO turns the layout of several around, which costs more."""
    one_by_one = planes.flatten(0, 1).unsqueeze(1)
    return F.avg_pool2d(one_by_one, 2).view(planes.shape[0], -1, planes.shape[-2] // 2, planes.shape[-1] // 2)
