"""Rewrites the network for GPUs, where the narrow presets cost a launch an operator more than its arithmetic.

What several small operators do one after another, few larger ones do at once: a FAB makes its three kernels by one
convolution and one matrix, and applies them as one depthwise convolution of 7x7; the local refinement runs its nine
shifts in one kernel and the detail path blends a band in one, both written in Triton. The plain form is the reference,
and the fallback where there is no Triton.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.fdam import CarriedKernels, DynamicKernelGenerator, FeatureAlignmentBlock
from fusion_core.rfvif.inference import for_inference
from fusion_core.rfvif.kernels import blend, refine_features
from fusion_core.rfvif.mgfrm import LocalFeatureRefinement
from fusion_core.rfvif.network import Rfvif

__all__ = ["WideAlignmentBlock", "WideRefinement", "for_gpu"]

_SIDES = (3, 5, 7)
_WIDEST = 7


class WideAlignmentBlock(nn.Module):
    """A `FeatureAlignmentBlock` whose kernels are made and applied together. Its normalisation is folded already."""

    def __init__(self, block: FeatureAlignmentBlock) -> None:
        super().__init__()
        generator = block.generator
        assert isinstance(generator, DynamicKernelGenerator)
        self.plain = block
        self.joint = generator.joint
        self.channels = channels = generator.channels
        branches = [branch for branch in generator.branches if isinstance(branch, nn.Conv2d)]
        self.branches = nn.Conv2d(channels, 3 * channels, 3, padding=1)
        self.kernels = nn.Linear(3 * channels, 3 * channels * _WIDEST**2)
        self.fuse = nn.Conv2d(3 * channels, channels, 1)
        self.attention = block.attention
        with torch.no_grad():
            self.branches.weight.copy_(torch.cat([branch.weight for branch in branches]))
            self.branches.bias.copy_(torch.cat([_bias(branch) for branch in branches]))  # type: ignore[union-attr]
            self.kernels.weight.zero_()
            self.kernels.bias.zero_()
            # (channel, size, y, x, all pooled channels): each smaller kernel in the middle of zeros.
            weight = self.kernels.weight.view(channels, 3, _WIDEST, _WIDEST, 3 * channels)
            bias = self.kernels.bias.view(channels, 3, _WIDEST, _WIDEST)
            for index, (side, layer) in enumerate(zip(_SIDES, generator.kernels, strict=True)):
                assert isinstance(layer, nn.Linear)
                inside = slice((_WIDEST - side) // 2, (_WIDEST + side) // 2)
                pooled = slice(index * channels, (index + 1) * channels)
                weight[:, index, inside, inside, pooled] = layer.weight.view(channels, side, side, channels)
                bias[:, index, inside, inside] = layer.bias.view(channels, side, side)
            # The depthwise result has its sizes side by side within a channel, the plain one channels within a size.
            old = block.fuse.weight.view(channels, 3, channels)
            self.fuse.weight.copy_(old.transpose(1, 2).reshape(channels, 3 * channels, 1, 1))
            self.fuse.bias.copy_(_bias(block.fuse))  # type: ignore[union-attr]

    @property
    def generator(self) -> nn.Module | None:
        """Of the plain block, which runs where kernels are carried over."""
        return self.plain.generator

    def forward(self, visible: Tensor, infrared: Tensor, carried: CarriedKernels | None = None) -> Tensor:
        if carried is not None:
            return self.plain(visible, infrared, carried)  # type: ignore[no-any-return]
        batch, channels, height, width = infrared.shape
        joint = F.relu(self.joint(torch.cat((visible, infrared), dim=1)))
        # Pooled in float32: a sum over 10^5 positions overflows FP16.
        pooled = F.relu(self.branches(joint)).mean(dim=(-2, -1), dtype=torch.float32).to(joint.dtype)
        kernels = self.kernels(pooled).view(batch * channels * 3, 1, _WIDEST, _WIDEST)
        folded = infrared.reshape(1, batch * channels, height, width)
        paths = F.conv2d(folded, kernels, padding=_WIDEST // 2, groups=batch * channels)
        x = F.relu(self.fuse(paths.view(batch, 3 * channels, height, width)))
        weights = self.attention(x.mean(dim=(-2, -1), dtype=torch.float32).to(x.dtype))
        return x * weights.view(batch, channels, 1, 1)  # type: ignore[no-any-return]


class WideRefinement(nn.Module):
    """A `LocalFeatureRefinement` by both pictures, with its shifts in one operator."""

    laplace: Tensor

    def __init__(self, block: LocalFeatureRefinement) -> None:
        super().__init__()
        assert block.visible_features is not None and block.infrared_features is not None
        self.visible_features, self.infrared_features, self.fuse = (
            block.visible_features,
            block.infrared_features,
            block.fuse,
        )
        kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        self.register_buffer("laplace", kernel.expand(2, 1, 3, 3).clone(), persistent=False)

    def forward(self, fused: Tensor, visible_image: Tensor, infrared_image: Tensor) -> Tensor:
        images = F.pad(torch.cat((visible_image, infrared_image), dim=1), (1, 1, 1, 1), mode="replicate")
        edges = F.conv2d(images, self.laplace, groups=2)
        guide = self.visible_features(torch.cat((visible_image, edges[:, :1]), dim=1))
        other = self.infrared_features(edges[:, 1:])
        return self.fuse(refine_features(fused, guide, other))  # type: ignore[no-any-return]


def for_gpu(network: Rfvif) -> Rfvif:
    """A rewritten copy, in evaluation mode; equal to `network` up to rounding. The original stays as it is."""
    made = for_inference(network)
    parameter = next(made.parameters())
    for fdam in made.fdams or ():
        blocks = fdam.blocks
        assert isinstance(blocks, nn.ModuleList)
        for index, block in enumerate(blocks):
            if isinstance(block, FeatureAlignmentBlock) and block.generator is not None:
                blocks[index] = WideAlignmentBlock(block).to(parameter.device, parameter.dtype)
    for index, refinement in enumerate(made.refinements):
        assert isinstance(refinement, LocalFeatureRefinement)
        if refinement.visible_features is not None and refinement.infrared_features is not None:
            made.refinements[index] = WideRefinement(refinement).to(parameter.device, parameter.dtype)
    made.blend = blend
    return made.eval()


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
