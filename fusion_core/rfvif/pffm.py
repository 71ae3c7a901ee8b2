"""Pyramid feature fusion module (Section 3.5) and the reconstruction after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.cmfem import conv3x3

__all__ = ["PyramidFeatureFusion", "Reconstruction", "ResidualBlock"]


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class PyramidFeatureFusion(nn.Module):
    """PFFM, Eq. (13)-(15). Without `gated` (Table 3, "w/o PFFM"): deconvolutions, concatenation and a 1x1."""

    def __init__(self, channels: int, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        if gated:
            self.mask12 = conv3x3(2 * channels, channels)
            self.mask23 = nn.Sequential(
                conv3x3(2 * channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels)
            )
            self.join = nn.Sequential(
                conv3x3(2 * channels, channels), nn.ReLU(inplace=True), conv3x3(channels, channels)
            )
        else:
            self.up2 = nn.ConvTranspose2d(channels, channels, 2, stride=2)
            self.up3 = nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 2, stride=2),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(channels, channels, 2, stride=2),
            )
            self.join = nn.Sequential(nn.Conv2d(3 * channels, channels, 1))

    def forward(self, level1: Tensor, level2: Tensor, level3: Tensor) -> Tensor:
        """Three levels, each half the size of the one before -> features at the size of level 1."""
        if not self.gated:
            joined = torch.cat((level1, self.up2(level2), self.up3(level3)), dim=1)
            return self.join(joined)  # type: ignore[no-any-return]
        up2, up3 = _up(level2), _up(level3)
        mask12 = torch.sigmoid(self.mask12(torch.cat((up2, level1), dim=1)))
        fused12 = level1 * mask12 + up2 * (1.0 - mask12)  # Eq. (13)
        mask23 = torch.sigmoid(self.mask23(torch.cat((up3, level2), dim=1)))
        fused23 = level2 * mask23 + up3 * (1.0 - mask23)  # Eq. (14)
        return self.join(torch.cat((_up(fused23), fused12), dim=1))  # type: ignore[no-any-return]  # Eq. (15)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))  # type: ignore[no-any-return]


class Reconstruction(nn.Module):
    """Residual blocks, nearest x2, three 3x3 convolutions, and with space-to-depth the way back to pixels.

    detail: channels of the full-resolution pictures that join before the last three convolutions (0: none).
    maps: pictures that come out.
    """

    def __init__(self, channels: int, blocks: int, space_to_depth: int, detail: int, maps: int = 1) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        half = max(8, channels // 2) if detail else max(4, channels // 2)
        self.convs = nn.Sequential(
            conv3x3(channels + detail, channels),
            nn.ReLU(inplace=True),
            conv3x3(channels, half),
            nn.ReLU(inplace=True),
            conv3x3(half, maps * space_to_depth**2),
        )
        self.space_to_depth = space_to_depth
        if detail:  # start as the visible picture
            last = self.convs[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, detail: Tensor | None) -> Tensor:
        """(B, C, h, w), detail (B, D, 2h, 2w) -> (B, maps, 2h, 2w) times the space-to-depth factor."""
        x = _up(self.blocks(x))
        if detail is not None:
            x = torch.cat((x, detail), dim=1)
        x = self.convs(x)
        return F.pixel_shuffle(x, self.space_to_depth) if self.space_to_depth > 1 else x
