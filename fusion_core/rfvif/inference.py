"""Rewrites the network for inference: fewer and wider operators that compute what the trained ones do.

A light MSRB runs a 3x3 and a 5x5 convolution of half the width side by side on the same input. On a processor whose
vectors are wider than that half, one 5x5 convolution of the full width, with the 3x3 kernels in the middle of zeros, is
faster than both. The normalisation of a FAB is a scale and an offset after a 1x1 convolution and joins its weights.

The dynamic kernels of a picture with hard light are large, and what they make of its features left FP16's range on 4 of
32 real pairs. They are made 256 times smaller, and the 1x1 convolution after them larger: a power of two, so exact.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusion_core.rfvif.cmfem import Msrb
from fusion_core.rfvif.fdam import DynamicKernelGenerator, FeatureAlignmentBlock
from fusion_core.rfvif.network import Rfvif

__all__ = ["MergedMsrb", "channels_last", "for_inference"]

_WIDEST_MERGED = 16
"""Channels up to which padding 3x3 kernels to 5x5 pays: a vector of an AVX-512 processor or half a tensor-core tile."""

_KERNEL_SCALE = 256.0


class MergedMsrb(nn.Module):
    """A light MSRB with both paths in one 5x5 convolution."""

    def __init__(self, block: Msrb) -> None:
        super().__init__()
        self.lift = block.lift
        five, three = block.conv5, block.conv3
        self.paths = nn.Conv2d(five.in_channels, three.out_channels + five.out_channels, 5, padding=2)
        assert three.bias is not None and five.bias is not None and self.paths.bias is not None
        with torch.no_grad():
            self.paths.weight.copy_(torch.cat((F.pad(three.weight, (1, 1, 1, 1)), five.weight)))
            self.paths.bias.copy_(torch.cat((three.bias, five.bias)))
        self.fuse = block.fuse

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        return x + self.fuse(F.relu(self.paths(x)))  # type: ignore[no-any-return]


def for_inference(network: Rfvif) -> Rfvif:
    """A rewritten copy, in evaluation mode; equal to `network` up to rounding. The original stays as it is."""
    copied = copy.deepcopy(network).eval()
    parameter = next(copied.parameters())
    for branch in (*copied.visible_branches, *copied.infrared_branches):
        assert isinstance(branch, nn.Sequential)
        for index, block in enumerate(branch):
            if isinstance(block, Msrb) and not block.cross and block.conv5.in_channels <= _WIDEST_MERGED:
                branch[index] = MergedMsrb(block).to(parameter.device, parameter.dtype)
    for module in copied.modules():
        if isinstance(module, FeatureAlignmentBlock) and isinstance(module.norm, nn.BatchNorm2d):
            module.fuse = fuse_conv_bn_eval(module.fuse, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
            if module.generator is not None:
                _scale_kernels(module.generator, module.fuse)
    return copied.eval()


@torch.no_grad()
def _scale_kernels(generator: DynamicKernelGenerator, fuse: nn.Conv2d) -> None:
    """Smaller dynamic kernels, and as much larger weights after them: the same function."""
    fuse.weight.mul_(_KERNEL_SCALE)
    for layer in generator.kernels:
        assert isinstance(layer, nn.Linear)
        layer.weight.div_(_KERNEL_SCALE)
        layer.bias.div_(_KERNEL_SCALE)


def channels_last(network: Rfvif) -> Rfvif:
    """Lay the weights of its convolutions out channels last, in place; returns the network."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
