"""Cross-modulation feature extraction module (Section 3.2): MSRBs and cross-modulation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CrossModulation", "Msrb", "conv3x3", "three_convs"]


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the size (halves it with stride 2)."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def three_convs(inputs: int, channels: int, outputs: int) -> nn.Sequential:
    """Three 3x3 convolutions with ReLU between."""
    return nn.Sequential(
        conv3x3(inputs, channels),
        nn.ReLU(inplace=True),
        conv3x3(channels, channels),
        nn.ReLU(inplace=True),
        conv3x3(channels, outputs),
    )


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second half of the channels. By slices: `chunk` becomes a sequence in ONNX, which few read."""
    half = x.shape[1] // 2
    return x[:, :half], x[:, half:]


class Msrb(nn.Module):
    """Multi-scale residual block (Fig. 2(b)): 3x3 and 5x5 paths, crossed once, fused by 1x1, residual.

    light: one 3x3 and one 5x5 path of half the width each, fused by 1x1, residual.
    """

    def __init__(self, inputs: int, channels: int, light: bool) -> None:
        super().__init__()
        self.lift = nn.Conv2d(inputs, channels, 1) if inputs != channels else nn.Identity()
        width = channels // 2 if light else channels
        self.conv3 = conv3x3(channels, width)
        self.conv5 = nn.Conv2d(channels, width, 5, padding=2)
        self.cross = not light
        if self.cross:
            self.cross3 = conv3x3(2 * width, 2 * width)
            self.cross5 = nn.Conv2d(2 * width, 2 * width, 5, padding=2)
        self.fuse = nn.Conv2d(4 * width if self.cross else 2 * width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        # ReLU before the concatenation, not after: the same values, and compilers join it to the convolution.
        y = torch.cat((F.relu(self.conv3(x)), F.relu(self.conv5(x))), dim=1)
        if self.cross:
            y = torch.cat((F.relu(self.cross3(y)), F.relu(self.cross5(y))), dim=1)
        return x + self.fuse(y)  # type: ignore[no-any-return]


class CrossModulation(nn.Module):
    """Eq. (2)-(5): both modalities together yield scale and offset for each.

    Without `modulate` (Table 3, "w/o CM") only the stride-2 convolution of Eq. (5) is left.
    """

    def __init__(self, channels: int, modulate: bool, shared_down: bool) -> None:
        """shared_down: Eq. (2) and (5) use one stride-2 convolution per modality instead of two (light presets)."""
        super().__init__()
        self.down_visible = conv3x3(channels, channels, stride=2)
        self.down_infrared = conv3x3(channels, channels, stride=2)
        self.modulate = modulate
        self.shared_down = shared_down
        if modulate:
            if not shared_down:
                self.joint_visible = conv3x3(channels, channels, stride=2)
                self.joint_infrared = conv3x3(channels, channels, stride=2)
            self.joint = three_convs(2 * channels, channels, 2 * channels)
            self.parameters_visible = conv3x3(channels, 2 * channels)  # gamma and beta side by side
            self.parameters_infrared = conv3x3(channels, 2 * channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) twice -> (B, C, h/2, w/2) twice."""
        down_visible, down_infrared = self.down_visible(visible), self.down_infrared(infrared)
        if not self.modulate:
            return down_visible, down_infrared
        if self.shared_down:
            joint = torch.cat((down_visible, down_infrared), dim=1)
        else:
            joint = torch.cat((self.joint_visible(visible), self.joint_infrared(infrared)), dim=1)  # Eq. (2)
        for_visible, for_infrared = _halves(self.joint(joint))  # Eq. (3)
        gamma, beta = _halves(torch.sigmoid(self.parameters_visible(for_visible)))  # Eq. (4)
        modulated_visible = down_visible * gamma + beta  # Eq. (5)
        gamma, beta = _halves(torch.sigmoid(self.parameters_infrared(for_infrared)))
        return modulated_visible, down_infrared * gamma + beta
