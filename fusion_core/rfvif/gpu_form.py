"""Rewrites the network for GPUs, where the narrow presets cost a launch an operator more than its arithmetic.

What several small operators do one after another, few larger ones do at once: both pictures go through their branches
side by side, in convolutions whose kernels are zero between the two; a FAB makes its three kernels by one convolution
and one matrix, and applies them as one depthwise convolution of 7x7; a convolution, its bias and its ReLU are one
operator; the warp, the local refinement, channel attention and each band of the detail path are one each, written in
Triton. The plain forms are the reference, and the fallback where there is no Triton.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.cmfem import CrossModulation
from fusion_core.rfvif.config import FRAME_PX
from fusion_core.rfvif.correlation import Alignment
from fusion_core.rfvif.fdam import (
    CarriedKernels,
    ComplementaryMaskFusion,
    DynamicKernelGenerator,
    FeatureAlignmentBlock,
    FeatureDynamicAlignment,
)
from fusion_core.rfvif.inference import MergedMsrb, for_inference
from fusion_core.rfvif.kernels import attend, conv_relu, draw_band, refine_features, warp_cubic
from fusion_core.rfvif.mgfrm import LocalFeatureRefinement
from fusion_core.rfvif.network import Rfvif, RfvifOutput
from fusion_core.rfvif.pffm import PyramidFeatureFusion, ResidualBlock
from fusion_core.rfvif.working_grid import LEVELS, reduce

__all__ = ["GpuRfvif", "WideAlignmentBlock", "WideRefinement", "for_gpu"]

_SIDES = (3, 5, 7)
_WIDEST = 7


class ConvRelu(nn.Module):
    """A convolution and the ReLU after it, in one operator."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None and conv.groups == 1
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return conv_relu(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation)  # type: ignore[no-any-return]


class PairBlock(nn.Module):
    """The light MSRBs of both pictures, whose channels lie side by side."""

    def __init__(self, visible: MergedMsrb, infrared: MergedMsrb) -> None:
        super().__init__()
        lifts = visible.lift, infrared.lift
        both = isinstance(lifts[0], nn.Conv2d) and isinstance(lifts[1], nn.Conv2d)
        self.lift = _side_by_side(*lifts) if both else nn.Identity()  # type: ignore[arg-type]
        self.paths = ConvRelu(_side_by_side(visible.paths, infrared.paths))
        self.fuse = _side_by_side(visible.fuse, infrared.fuse)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        return x + self.fuse(self.paths(x))  # type: ignore[no-any-return]


class PairModulation(nn.Module):
    """A `CrossModulation` with shared stride-2 convolutions; both pictures' channels lie side by side."""

    def __init__(self, block: CrossModulation) -> None:
        super().__init__()
        self.down = _side_by_side(block.down_visible, block.down_infrared)
        self.joint = block.joint
        channels = block.down_visible.out_channels
        self.parameters_of_both = _side_by_side(block.parameters_visible, block.parameters_infrared)
        # From (scale, offset) of one picture and of the other to both scales and both offsets.
        order = torch.arange(4 * channels).view(2, 2, channels).transpose(0, 1).flatten()
        with torch.no_grad():
            for values in self.parameters_of_both.parameters():
                values.copy_(values[order].clone())

    def forward(self, x: Tensor) -> Tensor:
        down = self.down(x)
        gamma, beta = torch.sigmoid(self.parameters_of_both(self.joint(down))).chunk(2, dim=1)
        return torch.addcmul(beta, down, gamma)


class WideAlignmentBlock(nn.Module):
    """A `FeatureAlignmentBlock` whose kernels are made and applied together. Its normalisation is folded already."""

    def __init__(self, block: FeatureAlignmentBlock) -> None:
        super().__init__()
        generator = block.generator
        assert isinstance(generator, DynamicKernelGenerator)
        self.plain = block
        self.channels = channels = generator.channels
        branches = [branch for branch in generator.branches if isinstance(branch, nn.Conv2d)]
        wide = nn.Conv2d(channels, 3 * channels, 3, padding=1)
        self.kernels = nn.Linear(3 * channels, 3 * channels * _WIDEST**2)
        fuse = nn.Conv2d(3 * channels, channels, 1)
        with torch.no_grad():
            wide.weight.copy_(torch.cat([branch.weight for branch in branches]))
            _bias(wide).copy_(torch.cat([_bias(branch) for branch in branches]))
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
            fuse.weight.copy_(old.transpose(1, 2).reshape(channels, 3 * channels, 1, 1))
            _bias(fuse).copy_(_bias(block.fuse))
        self.joint, self.branches, self.fuse = ConvRelu(generator.joint), ConvRelu(wide), ConvRelu(fuse)
        self.attention = block.attention

    @property
    def generator(self) -> nn.Module | None:
        """Of the plain block, which runs where kernels are carried over."""
        return self.plain.generator

    def forward(
        self,
        visible: Tensor,
        infrared: Tensor,
        carried: CarriedKernels | None = None,
        *,
        joined: Tensor | None = None,
    ) -> Tensor:
        """joined: both side by side, where they lie so already."""
        if carried is not None:
            return self.plain(visible, infrared, carried)  # type: ignore[no-any-return]
        batch, channels, height, width = infrared.shape
        joint = self.joint(torch.cat((visible, infrared), dim=1) if joined is None else joined)
        # Pooled in float32: a sum over 10^5 positions overflows FP16.
        pooled = self.branches(joint).mean(dim=(-2, -1), dtype=torch.float32).to(joint.dtype)
        kernels = self.kernels(pooled).view(batch * channels * 3, 1, _WIDEST, _WIDEST)
        folded = infrared.reshape(1, batch * channels, height, width)
        paths = F.conv2d(folded, kernels, padding=_WIDEST // 2, groups=batch * channels)
        x = self.fuse(paths.view(batch, 3 * channels, height, width))
        squeeze, _, excite, _ = self.attention
        assert isinstance(squeeze, nn.Linear) and isinstance(excite, nn.Linear)
        means = x.mean(dim=(-2, -1), dtype=torch.float32)
        perceptron = squeeze.weight, squeeze.bias, excite.weight, excite.bias
        return attend(x, means, *perceptron)  # type: ignore[no-any-return]


class WideDynamicAlignment(FeatureDynamicAlignment):
    """A `FeatureDynamicAlignment` of `WideAlignmentBlock`."""

    def __init__(self, module: FeatureDynamicAlignment) -> None:
        nn.Module.__init__(self)
        self.blocks = nn.ModuleList(
            WideAlignmentBlock(block)
            if isinstance(block, FeatureAlignmentBlock) and block.generator is not None
            else block
            for block in module.blocks
        )
        self.features, self.picture = module.features, module.picture

    def of_pair(self, pair: Tensor, carried: CarriedKernels | None) -> Tensor:
        """Both pictures' features, (B, 2C, h, w) -> the infrared's aligned, (B, C, h, w)."""
        visible, infrared = pair.chunk(2, dim=1)
        outputs = []
        joined: Tensor | None = pair
        for block in self.blocks:
            if isinstance(block, WideAlignmentBlock):
                infrared = block(visible, infrared, carried, joined=joined)
            else:
                infrared = block(visible, infrared, carried)
            joined = None
            outputs.append(infrared)
        return self.features(torch.cat(outputs, dim=1))  # type: ignore[no-any-return]


class WideRefinement(nn.Module):
    """A `LocalFeatureRefinement` by both pictures, with their features side by side and its shifts in one operator."""

    edges: Tensor

    def __init__(self, block: LocalFeatureRefinement) -> None:
        super().__init__()
        assert block.visible_features is not None and block.infrared_features is not None
        pairs = zip(block.visible_features, block.infrared_features, strict=True)
        self.features = nn.Sequential(
            *(_side_by_side(a, b) if isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d) else a for a, b in pairs)
        )
        self.fuse = block.fuse
        kernel = torch.zeros(3, 2, 3, 3)  # of both pictures: the visible one, its edges, the infrared one's
        kernel[0, 0, 1, 1] = 1.0
        kernel[1, 0] = kernel[2, 1] = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        self.register_buffer("edges", kernel, persistent=False)

    def forward(self, fused: Tensor, images: Tensor) -> Tensor:
        """fused (B, C, h, w); images (B, 2, h, w)."""
        guides = self.features(F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), self.edges))
        guide, other = guides.chunk(2, dim=1)
        return self.fuse(refine_features(fused, guide, other))  # type: ignore[no-any-return]


class GpuRfvif(Rfvif):
    """The network in this form, for inference alone; `for_gpu` makes it."""

    def __init__(self, network: Rfvif) -> None:
        """Take the modules of a network `for_inference` over; it is not to be used afterwards."""
        nn.Module.__init__(self)
        config = self.config = network.config
        self.alignment, self.visible_branches, self.infrared_branches = (
            network.alignment,
            network.visible_branches,
            network.infrared_branches,
        )
        self.modulations, self.masks, self.mixing = network.modulations, network.masks, network.mixing
        self.fdams = None
        if network.fdams is not None:
            fdams = [each for each in network.fdams if isinstance(each, FeatureDynamicAlignment)]
            self.fdams = nn.ModuleList(map(WideDynamicAlignment, fdams))
        self.refinements = nn.ModuleList(
            WideRefinement(each) if config.refine_visible and config.refine_infrared else each
            for each in network.refinements
            if isinstance(each, LocalFeatureRefinement)
        )
        self.pyramid, self.reconstruction = network.pyramid, network.reconstruction
        _join_relus(self)
        blocks = [
            list(zip(one, other, strict=True))  # type: ignore[call-overload]
            for one, other in zip(network.visible_branches, network.infrared_branches, strict=True)
        ]
        narrow = all(isinstance(each, MergedMsrb) for level in blocks for pair in level for each in pair)
        self.branches: nn.ModuleList | None = None
        if narrow:
            self.branches = nn.ModuleList(nn.Sequential(*(PairBlock(*pair) for pair in level)) for level in blocks)
            self.visible_branches, self.infrared_branches = nn.ModuleList(), nn.ModuleList()
        if config.cross_modulation and config.light:
            self.modulations = nn.ModuleList(
                PairModulation(each) for each in network.modulations if isinstance(each, CrossModulation)
            )

    def pad(self, image: Tensor, factor: int = 1) -> Tensor:
        """As `Rfvif.pad`, in one operator: a program for a GPU is for one size."""
        step = self.config.multiple * factor
        below, right = -image.shape[-2] % step, -image.shape[-1] % step
        return F.pad(image, (0, right, 0, below), mode="reflect") if below or right else image

    def fuse_aligned(
        self,
        visible: Tensor,
        moved: Tensor,
        alignment: Alignment | None,
        factor: int = 1,
        carried: CarriedKernels | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> RfvifOutput:
        """As `Rfvif.fuse_aligned`."""
        if alignment is None:
            return self.fuse_warped(visible, moved, None, carried, factor=factor)
        if size is not None:
            moved = moved[:, :, : size[0], : size[1]]
        infrared = self.pad(warp_cubic(moved.float(), alignment.displacements[-1].float(), FRAME_PX), factor)
        out = self.fuse_warped(visible, infrared, alignment.log_confidence, carried, factor=factor)
        return RfvifOutput(out.fused, (), alignment.displacements, alignment.log_confidence)

    def fuse_warped(
        self,
        visible: Tensor,
        infrared: Tensor,
        log_confidence: Tensor | None,
        carried: CarriedKernels | None = None,
        *,
        factor: int = 1,
    ) -> RfvifOutput:
        """As `Rfvif.fuse_warped`."""
        dtype = next(self.parameters()).dtype
        if not self.config.working_px:
            fused, _ = self.fuse_reduced(visible.to(dtype), infrared.to(dtype), log_confidence, carried)
            return RfvifOutput(fused, (), (), log_confidence)
        pictures = torch.cat((visible, infrared), dim=1).float()
        small = reduce(pictures, factor)
        channels = self._fuse_pair(small.to(dtype), log_confidence, carried)
        channels = channels.to(torch.float32, memory_format=torch.contiguous_format)
        gates = 2.0 * torch.sigmoid(channels[:, 1:])
        fused = _draw_levels(small, gates, LEVELS) + channels[:, :1]
        if factor > 1:
            fused = draw_band(pictures, small, gates, fused)
        return RfvifOutput(fused, (), (), log_confidence)

    def fuse_reduced(
        self,
        visible: Tensor,
        infrared: Tensor,
        log_confidence: Tensor | None,
        carried: CarriedKernels | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `Rfvif.fuse_reduced`."""
        fused = self._fuse_pair(torch.cat((visible, infrared), dim=1), log_confidence, carried)
        if self.config.detail_path and not self.config.working_px:
            fused = fused + visible
        return fused, ()

    def _fuse_pair(self, pair: Tensor, log_confidence: Tensor | None, carried: CarriedKernels | None) -> Tensor:
        """(B, 2, h, w) -> as `fuse_reduced` gives it, without the visible picture added."""
        config = self.config
        confidence = torch.sigmoid(log_confidence).to(pair.dtype) if log_confidence is not None else None
        images, x = pair, pair
        if config.space_to_depth > 1:
            x = F.pixel_unshuffle(pair, config.space_to_depth)
            images = F.avg_pool2d(pair, config.space_to_depth)
        detail = x if config.detail_path else None
        levels, pictures = [], []
        for level in range(3):
            x = self._features(level, x)
            images = F.avg_pool2d(images, 2)
            pictures.append(images)
            visible, aligned = x.chunk(2, dim=1)
            if self.fdams is not None:
                fdam = self.fdams[level]
                assert isinstance(fdam, WideDynamicAlignment)
                aligned = fdam.of_pair(x, carried)
            seen = None
            if confidence is not None:
                seen = F.interpolate(confidence, size=aligned.shape[-2:], mode="bilinear", align_corners=False)
            mask = self.masks[level]
            assert isinstance(mask, ComplementaryMaskFusion)
            levels.append(_masked(mask, visible, aligned, seen))
        refined = []
        for refinement, mixed, images in zip(self.refinements, self.mixing(levels), pictures, strict=True):
            both = (images,) if isinstance(refinement, WideRefinement) else images.chunk(2, dim=1)
            refined.append(refinement(mixed, *both))
        pyramid = self.pyramid
        joined = _gated(pyramid, *refined) if pyramid.gated else pyramid(*refined)
        return self.reconstruction(joined, detail)  # type: ignore[no-any-return]

    def _features(self, level: int, pair: Tensor) -> Tensor:
        """Eq. (1)-(5) of one level, both pictures' features side by side."""
        if self.branches is not None:
            pair = self.branches[level](pair)
        else:
            visible, infrared = pair.chunk(2, dim=1)
            branches = self.visible_branches[level], self.infrared_branches[level]
            pair = torch.cat((branches[0](visible), branches[1](infrared)), dim=1)
        modulation = self.modulations[level]
        if isinstance(modulation, PairModulation):
            return modulation(pair)  # type: ignore[no-any-return]
        return torch.cat(modulation(*pair.chunk(2, dim=1)), dim=1)


def for_gpu(network: Rfvif) -> Rfvif:
    """A rewritten copy, in evaluation mode; equal to `network` up to rounding. The original stays as it is."""
    made = for_inference(network)
    parameter = next(made.parameters())
    return GpuRfvif(made).to(parameter.device, parameter.dtype).eval()


def _draw_levels(pictures: Tensor, gates: Tensor, levels: int) -> Tensor:
    """As `fusion_core.rfvif.working_grid`'s pyramid from this level down, (B, 2, h, w) twice -> (B, 1, h, w)."""
    if levels == 0:
        return pictures[:, :1]
    small = reduce(pictures, 2)
    coarse = _draw_levels(small, reduce(gates, 2) if levels > 1 else gates, levels - 1)
    return draw_band(pictures, small, gates, coarse)  # type: ignore[no-any-return]


def _masked(block: ComplementaryMaskFusion, visible: Tensor, aligned: Tensor, confidence: Tensor | None) -> Tensor:
    """`ComplementaryMaskFusion.forward`."""
    if block.mask is None:
        return block(visible, aligned, confidence)  # type: ignore[no-any-return]
    seen = (visible, aligned) if confidence is None else (visible, aligned, confidence)
    return torch.lerp(visible, aligned, torch.sigmoid(block.mask(torch.cat(seen, dim=1))))  # Eq. (8)


def _gated(block: PyramidFeatureFusion, level1: Tensor, level2: Tensor, level3: Tensor) -> Tensor:
    """`PyramidFeatureFusion.forward`, gated."""
    up2, up3 = (F.interpolate(each, scale_factor=2.0, mode="nearest") for each in (level2, level3))
    mask12 = torch.sigmoid(block.mask12(torch.cat((up2, level1), dim=1)))
    mask23 = torch.sigmoid(block.mask23(torch.cat((up3, level2), dim=1)))
    coarse = F.interpolate(torch.lerp(up3, level2, mask23), scale_factor=2.0, mode="nearest")
    return block.join(torch.cat((coarse, torch.lerp(up2, level1, mask12)), dim=1))  # type: ignore[no-any-return]


class _WideResidual(nn.Module):
    """A `ResidualBlock`."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvRelu(block.conv1), block.conv2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))  # type: ignore[no-any-return]


def _join_relus(network: nn.Module) -> None:
    """Make one module of each convolution and the ReLU after it, in place."""
    for module in list(network.modules()):
        if not isinstance(module, nn.Sequential):
            continue
        for name, child in list(module.named_children()):
            if isinstance(child, ResidualBlock):
                setattr(module, name, _WideResidual(child))
        children = list(module)
        for index, (first, second) in enumerate(itertools.pairwise(children)):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.ReLU):
                module[index], module[index + 1] = ConvRelu(first), nn.Identity()


def _side_by_side(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """One convolution of both inputs' channels that gives both outputs'; zero between the two."""
    settings = (first.kernel_size, first.stride, first.padding, first.dilation)
    assert settings == (second.kernel_size, second.stride, second.padding, second.dilation)
    made = nn.Conv2d(
        first.in_channels + second.in_channels,
        first.out_channels + second.out_channels,
        *settings,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        made.weight.zero_()
        made.weight[: first.out_channels, : first.in_channels] = first.weight
        made.weight[first.out_channels :, first.in_channels :] = second.weight
        _bias(made).copy_(torch.cat((_bias(first), _bias(second))))
    return made


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
