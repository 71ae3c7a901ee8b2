"""Feature dynamic alignment module (Section 3.3): dynamic kernels, alignment blocks, complementary mask fusion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.cmfem import conv3x3, three_convs

__all__ = [
    "CarriedKernels",
    "ComplementaryMaskFusion",
    "DynamicKernelGenerator",
    "FeatureAlignmentBlock",
    "FeatureDynamicAlignment",
]

_TAPS = 3 * 3 + 5 * 5 + 7 * 7


class DynamicKernelGenerator(nn.Module):
    """DKG, Eq. (6) and Fig. 4: both feature maps -> one depthwise kernel per channel of sizes 3, 5 and 7."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.joint = conv3x3(2 * channels, channels)
        self.branches = nn.ModuleList(conv3x3(channels, channels) for _ in range(3))
        self.kernels = nn.ModuleList(nn.Linear(channels, channels * (2 * k + 1) ** 2) for k in (1, 2, 3))
        for k, layer in zip((1, 2, 3), self.kernels, strict=True):
            # Start from "leave it where it is": the kernel's centre is 1.
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.02)
            with torch.no_grad():
                layer.bias.zero_().view(channels, -1)[:, 2 * k * (k + 1)] = 1.0

    def forward(self, visible: Tensor, infrared: Tensor) -> list[Tensor]:
        """(B, C, h, w) twice -> [(B, C, 3, 3), (B, C, 5, 5), (B, C, 7, 7)]."""
        joint = F.relu(self.joint(torch.cat((visible, infrared), dim=1)))
        kernels = []
        for k, branch, layer in zip((1, 2, 3), self.branches, self.kernels, strict=True):
            # Pooled in float32: a sum over 10^5 positions overflows FP16.
            pooled = F.relu(branch(joint)).float().mean(dim=(-2, -1)).to(joint.dtype)
            kernels.append(layer(pooled).view(-1, self.channels, 2 * k + 1, 2 * k + 1))
        return kernels


class CarriedKernels:
    """Holds the kernels of all blocks, in the order in which the blocks run, from an earlier picture of a video.

    Serves one pass of the network, of one picture.
    """

    def __init__(self, carried: Tensor, weight: Tensor | None) -> None:
        """Start before the first block.

        Args:
            carried: (N,), N as `FeatureDynamicAlignment.kernel_values` says for all levels together.
            weight: (1,) share of new kernels in the result; None: the generators do not run at all.
        """
        self._carried, self._weight = carried, weight
        self._used: list[Tensor] = []
        self._position = 0

    @property
    def used(self) -> Tensor:
        """The kernels that the blocks used, (N,), for the next picture."""
        return torch.cat(self._used)

    def next(self, generator: DynamicKernelGenerator, visible: Tensor, infrared: Tensor) -> list[Tensor]:
        """As `generator` itself: [(1, C, 3, 3), (1, C, 5, 5), (1, C, 7, 7)] for the block that is next."""
        count = generator.channels * _TAPS
        flat = self._carried[self._position : self._position + count]
        self._position += count
        if self._weight is not None:
            fresh = torch.cat([kernel.flatten() for kernel in generator(visible, infrared)])
            flat = flat + self._weight * (fresh - flat)
        self._used.append(flat)
        sides = (3, 5, 7)
        parts = torch.split(flat, [generator.channels * side**2 for side in sides])
        return [part.view(1, generator.channels, side, side) for part, side in zip(parts, sides, strict=True)]


class FeatureAlignmentBlock(nn.Module):
    """FAB, Fig. 2(d): three depthwise convolutions with dynamic kernels, concat, 1x1, BN, ReLU, channel attention.

    Without `dynamic` (Table 3, "w/o DKG") the kernels are learned and fixed.
    """

    def __init__(self, channels: int, dynamic: bool) -> None:
        super().__init__()
        self.generator = DynamicKernelGenerator(channels) if dynamic else None
        if not dynamic:
            self.fixed = nn.ModuleList(
                nn.Conv2d(channels, channels, 2 * k + 1, padding=k, groups=channels) for k in (1, 2, 3)
            )
        self.fuse = nn.Conv2d(3 * channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        squeezed = max(4, channels // 4)
        self.attention = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(inplace=True), nn.Linear(squeezed, channels), nn.Sigmoid()
        )

    def forward(self, visible: Tensor, infrared: Tensor, carried: CarriedKernels | None = None) -> Tensor:
        batch, channels, height, width = infrared.shape
        if self.generator is not None:
            folded = infrared.reshape(1, batch * channels, height, width)
            paths = []
            if carried is None:
                kernels = self.generator(visible, infrared)
            else:
                kernels = carried.next(self.generator, visible, infrared)
            for kernel in kernels:
                side = kernel.shape[-1]
                weight = kernel.reshape(batch * channels, 1, side, side)
                path = F.conv2d(folded, weight, padding=side // 2, groups=batch * channels)
                paths.append(path.view(batch, channels, height, width))
        else:
            paths = [conv(infrared) for conv in self.fixed]
        x = F.relu(self.norm(self.fuse(torch.cat(paths, dim=1))))
        weights = self.attention(x.float().mean(dim=(-2, -1)).to(x.dtype))
        return x * weights.view(batch, channels, 1, 1)  # type: ignore[no-any-return]


class FeatureDynamicAlignment(nn.Module):
    """FDAM: FABs one after another; their outputs together give the aligned features and the aligned picture."""

    def __init__(self, channels: int, blocks: int, dynamic: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FeatureAlignmentBlock(channels, dynamic) for _ in range(blocks))
        self.features = nn.Conv2d(blocks * channels, channels, 1)
        self.picture = nn.Conv2d(blocks * channels, 1, 1)

    @property
    def kernel_values(self) -> int:
        """The count of numbers in the dynamic kernels of these blocks; 0 where kernels are fixed."""
        generators = [block.generator for block in self.blocks]
        return sum(g.channels * _TAPS for g in generators if isinstance(g, DynamicKernelGenerator))

    def forward(
        self, visible: Tensor, infrared: Tensor, carried: CarriedKernels | None = None
    ) -> tuple[Tensor, Tensor]:
        """-> aligned features (B, C, h, w), and the concatenated block outputs from which `picture` maps Eq. (7)."""
        outputs = []
        for block in self.blocks:
            infrared = block(visible, infrared, carried)
            outputs.append(infrared)
        joined = torch.cat(outputs, dim=1)
        return self.features(joined), joined


class ComplementaryMaskFusion(nn.Module):
    """CMF, Eq. (8). Without `mask` (Table 3, "w/o CMF"): concatenation and a 1x1 convolution.

    extra: further channels that the mask sees (the confidence of the alignment, where there is one).
    """

    def __init__(self, channels: int, mask: bool, extra: int) -> None:
        super().__init__()
        self.mask = three_convs(2 * channels + extra, channels, channels) if mask else None
        if not mask:
            self.join = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, visible: Tensor, infrared: Tensor, confidence: Tensor | None) -> Tensor:
        if self.mask is None:
            return self.join(torch.cat((visible, infrared), dim=1))  # type: ignore[no-any-return]
        seen = (visible, infrared) if confidence is None else (visible, infrared, confidence)
        attention = torch.sigmoid(self.mask(torch.cat(seen, dim=1)))
        return infrared * attention + visible * (1.0 - attention)  # Eq. (8)
