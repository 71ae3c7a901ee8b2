"""RFVIF, the registration-free visible and infrared fusion network, put together (Fig. 2).

Li et al., "Feature dynamic alignment and refinement for infrared-visible image fusion: translation robust fusion".
Equations are cited where they are computed: cmfem.py (2)-(5), fdam.py (6)-(8), mgfrm.py (9)-(12), pffm.py (13)-(15).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.cmfem import CrossModulation, Msrb
from fusion_core.rfvif.config import FRAME_PX, RfvifConfig
from fusion_core.rfvif.correlation import Alignment, CorrelationAlignment, warp
from fusion_core.rfvif.fdam import CarriedKernels, ComplementaryMaskFusion, FeatureDynamicAlignment
from fusion_core.rfvif.mgfrm import LevelMixing, LocalFeatureRefinement
from fusion_core.rfvif.padding import pad_to_multiple
from fusion_core.rfvif.pffm import PyramidFeatureFusion, Reconstruction
from fusion_core.rfvif.working_grid import (
    DETAIL_PX,
    MAPS,
    WorkingMaps,
    detail_path,
    enlarge,
    reduce,
    reduction_factor,
)

__all__ = ["Rfvif", "RfvifOutput"]

_TRAINING_FACTOR = 3  # of the working grid for 640x480


class RfvifOutput(NamedTuple):
    """What training needs beside the picture."""

    fused: Tensor  # (B, 1, H, W), not clamped
    aligned_infrared: tuple[Tensor, ...]  # Eq. (7): (B, 1, h_l, w_l), each level half the size of the one before
    displacement: tuple[Tensor, ...]  # coarse to fine, (B, 2, h, w), full-resolution pixels; empty without an estimate
    log_confidence: Tensor | None  # (B, 1, h, w)


class Rfvif(nn.Module):
    """The whole network. Luminance in, luminance out; colour is the caller's."""

    def __init__(self, config: RfvifConfig) -> None:
        super().__init__()
        self.config = config
        c, light = config.channels, config.light
        inputs = config.space_to_depth**2
        self.alignment = (
            CorrelationAlignment(
                config.stages, config.look_priors, config.look_gain, learned_features=config.learned_features
            )
            if config.alignment in ("uniform", "field")
            else None
        )

        def branch(level: int) -> nn.Sequential:
            count = 3 if level == 0 else 2  # Section 3.2: three MSRBs, then two, then two
            first = Msrb(inputs if level == 0 else c, c, light)
            return nn.Sequential(first, *(Msrb(c, c, light) for _ in range(count - 1)))

        self.visible_branches = nn.ModuleList(branch(level) for level in range(3))  # D_1
        self.infrared_branches = nn.ModuleList(branch(level) for level in range(3))  # D_2
        self.modulations = nn.ModuleList(CrossModulation(c, config.cross_modulation, light) for _ in range(3))
        self.fdams = (
            nn.ModuleList(FeatureDynamicAlignment(c, config.fab_count, config.dynamic_kernels) for _ in range(3))
            if config.fdam
            else None
        )
        extra = 1 if self.alignment is not None else 0
        self.masks = nn.ModuleList(ComplementaryMaskFusion(c, config.complementary_mask, extra) for _ in range(3))
        self.mixing = LevelMixing(c)
        self.refinements = nn.ModuleList(
            LocalFeatureRefinement(c, config.refine_visible, config.refine_infrared) for _ in range(3)
        )
        self.pyramid = PyramidFeatureFusion(c, config.pyramid_fusion)
        detail = 2 * inputs if config.detail_path else 0
        maps = MAPS if config.working_px else 1
        self.reconstruction = Reconstruction(c, config.residual_blocks, config.space_to_depth, detail, maps)

    def alignment_parameters(self) -> Iterator[nn.Parameter]:
        """What estimates the displacement; empty for the paper's own form, whose kernels belong to the fusion."""
        if self.alignment is not None:
            yield from self.alignment.parameters()

    def fusion_parameters(self) -> Iterator[nn.Parameter]:
        """Everything else."""
        for name, parameter in self.named_parameters():
            if not name.startswith("alignment."):
                yield parameter

    def estimate(self, visible_y: Tensor, infrared: Tensor) -> Alignment:
        """The displacement field alone, of (B, 1, H, W) in [0, 1] with H and W multiples of 8."""
        if self.alignment is None:
            raise ValueError(f"a network with alignment {self.config.alignment!r} estimates no displacement")
        return self._as_configured(self.alignment(visible_y, infrared))

    def refine(self, visible_y: Tensor, infrared: Tensor, displacement: Tensor) -> Alignment:
        """As `estimate`, looking around a displacement (B, 2, H/8, W/8) that is right to a pixel or two."""
        if self.alignment is None:
            raise ValueError(f"a network with alignment {self.config.alignment!r} estimates no displacement")
        return self._as_configured(self.alignment.refine(visible_y, infrared, displacement))

    def _as_configured(self, found: Alignment) -> Alignment:
        if self.config.alignment != "uniform":
            return found
        weights = torch.exp(found.log_confidence)
        total = weights.sum(dim=(-2, -1), keepdim=True)
        uniform = tuple(
            ((d * weights).sum(dim=(-2, -1), keepdim=True) / total).expand_as(d) for d in found.displacements
        )
        return Alignment(uniform, found.log_confidence)

    def forward(
        self, visible_y: Tensor, infrared: Tensor, factor: int | None = None, *, outer: int | None = None
    ) -> Tensor:
        """Fuse.

        Args:
            visible_y: (B, 1, H, W) visible luminance in [0, 1], H and W >= 32, any size.
            infrared: (B, 1, H, W) infrared in [0, 1], on the visible grid up to about 8 px.
            factor: pixels to one of the working grid, along each side; None: `reduction` of this size.
            outer: fused at 1 / outer of the size, 1 if it has been reduced already; None: as `DETAIL_PX` asks.

        Returns:
            (B, 1, H, W) in [0, 1], in the dtype of `visible_y`. A network in half precision keeps most of its exactness
            with pictures in float32: warp and detail path run in that.
        """
        return self.forward_training(visible_y, infrared, factor, outer=outer).fused.clamp(0.0, 1.0).to(visible_y.dtype)

    def forward_training(
        self, visible_y: Tensor, infrared: Tensor, factor: int | None = None, *, outer: int | None = None
    ) -> RfvifOutput:
        """As `forward`, not clamped, with the intermediate pictures that the losses see.

        In training the factor of crops is that of the whole pictures that are fused later.
        """
        height, width = visible_y.shape[-2:]
        if outer is None:
            outer = reduction_factor(height, width, DETAIL_PX) if self.config.working_px else 1
        if outer > 1:
            return self._forward_large(visible_y, infrared, factor, outer)
        if factor is None:
            in_training = self.training and self.config.working_px > 0
            factor = _TRAINING_FACTOR if in_training else self.reduction(height, width)
        visible, moved = self.pad(visible_y, factor), self.pad(infrared, factor)
        alignment = self.estimate(visible, moved) if self.alignment is not None else None
        out = self.fuse_aligned(visible, moved, alignment, factor, size=(height, width))
        return RfvifOutput(out.fused[:, :, :height, :width], *out[1:])

    def _forward_large(self, visible_y: Tensor, infrared: Tensor, factor: int | None, outer: int) -> RfvifOutput:
        """As `forward_training` at 1 / outer of the size; above that the visible picture's detail is added as it is."""
        height, width = visible_y.shape[-2:]
        visible = pad_to_multiple(visible_y, outer, mirror=True)
        small = reduce(visible, outer)
        # Once, also where rounding the sides up leaves it a little above `DETAIL_PX`.
        small_infrared = reduce(pad_to_multiple(infrared, outer, mirror=True), outer)
        out = self.forward_training(small, small_infrared, factor, outer=1)
        fused = visible + enlarge(out.fused - small, outer)
        moved = tuple(each * outer for each in out.displacement)
        return RfvifOutput(fused[:, :, :height, :width], out.aligned_infrared, moved, out.log_confidence)

    def reduction(self, height: int, width: int) -> int:
        """Pixels of a picture of this size to one of its working grid, along each side; 1 without a working grid."""
        return reduction_factor(height, width, self.config.working_px)

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
        """The network after the displacement estimate; sizes as `pad` makes them for this `reduction`.

        Args:
            carried: see `fuse_warped`.
            size: (height, width) before `pad`. What that adds is not drawn into the picture: the infrared one is warped
                without, and padded anew, as engines do it that warp by themselves. None: there is no padding.
        """
        if alignment is None:
            return self.fuse_warped(visible, moved, None, carried, factor=factor)
        field = alignment.displacements[-1]
        if size is not None and size != tuple(moved.shape[-2:]):
            full = F.interpolate(field.float(), size=moved.shape[-2:], mode="bilinear", align_corners=False)
            field, moved = full[:, :, : size[0], : size[1]], moved[:, :, : size[0], : size[1]]
        infrared = warp(moved, field, cubic=True, inset_px=FRAME_PX).clamp(0.0, 1.0)
        infrared = self.pad(infrared, factor)
        out = self.fuse_warped(visible, infrared, alignment.log_confidence, carried, factor=factor)
        return RfvifOutput(out.fused, out.aligned_infrared, alignment.displacements, alignment.log_confidence)

    @property
    def kernel_values(self) -> int:
        """How many numbers all dynamic kernels are, for `CarriedKernels`; 0 where there are none."""
        blocks = self.fdams if self.fdams is not None else ()
        return sum(fdam.kernel_values for fdam in blocks if isinstance(fdam, FeatureDynamicAlignment))

    def fuse_warped(
        self,
        visible: Tensor,
        infrared: Tensor,
        log_confidence: Tensor | None,
        carried: CarriedKernels | None = None,
        *,
        factor: int = 1,
    ) -> RfvifOutput:
        """The network after the warp, detail path included, at full size.

        Args:
            visible, infrared: (B, 1, H, W), padded by `pad`; infrared already warped.
            log_confidence: (B, 1, H/8, W/8) of the estimate, None for networks without one.
            carried: dynamic kernels of an earlier picture, for B = 1; None: all are computed.
            factor: `reduction` of the picture before it was padded.
        """
        dtype = next(self.parameters()).dtype
        if not self.config.working_px:
            fused, pictures = self.fuse_reduced(visible.to(dtype), infrared.to(dtype), log_confidence, carried)
            return RfvifOutput(fused, pictures, (), log_confidence)
        # In float32: where both bands are nearly alike, an error of the two decides between them many times over.
        visible, infrared = visible.float(), infrared.float()
        reduced = reduce(visible, factor).to(dtype), reduce(infrared, factor).to(dtype)
        channels, pictures = self.fuse_reduced(*reduced, log_confidence, carried)
        fused = detail_path(visible, infrared, WorkingMaps.of(channels.float()), factor)
        return RfvifOutput(fused, pictures, (), log_confidence)

    def fuse_reduced(
        self,
        visible: Tensor,
        infrared: Tensor,
        log_confidence: Tensor | None,
        carried: CarriedKernels | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The network itself, on the working grid where it has one. Apart, so that engines do the rest as they can.

        Args:
            visible, infrared: (B, 1, h, w), multiples of `config.multiple`; infrared already warped.
            log_confidence: of any grid over the same picture.

        Returns:
            (B, 3, h, w), the channels of `WorkingMaps`; without a working grid (B, 1, h, w), the fused picture. And the
            pictures of Eq. (7), in training.
        """
        config = self.config
        confidence = torch.sigmoid(log_confidence).to(visible.dtype) if log_confidence is not None else None
        f_visible, f_infrared = visible, infrared
        image_visible, image_infrared = visible, infrared
        if config.space_to_depth > 1:
            f_visible = F.pixel_unshuffle(f_visible, config.space_to_depth)
            f_infrared = F.pixel_unshuffle(f_infrared, config.space_to_depth)
            image_visible = F.avg_pool2d(image_visible, config.space_to_depth)
            image_infrared = F.avg_pool2d(image_infrared, config.space_to_depth)

        full_size = (f_visible, f_infrared)

        aligned_pictures, fused_levels, images = [], [], []
        for level in range(3):
            f_visible = self.visible_branches[level](f_visible)  # Eq. (1)
            f_infrared = self.infrared_branches[level](f_infrared)
            f_visible, f_infrared = self.modulations[level](f_visible, f_infrared)
            image_visible, image_infrared = F.avg_pool2d(image_visible, 2), F.avg_pool2d(image_infrared, 2)
            images.append((image_visible, image_infrared))
            aligned = f_infrared
            if self.fdams is not None:
                fdam = self.fdams[level]
                assert isinstance(fdam, FeatureDynamicAlignment)
                aligned, joined = fdam(f_visible, f_infrared, carried)
                if self.training:
                    aligned_pictures.append(fdam.picture(joined))  # for Eq. (7)
            seen = None
            if confidence is not None:
                seen = F.interpolate(confidence, size=aligned.shape[-2:], mode="bilinear", align_corners=False)
            fused_levels.append(self.masks[level](f_visible, aligned, seen))

        detail = torch.cat(full_size, dim=1) if config.detail_path else None
        mixed = self.mixing(fused_levels)
        refined = [refinement(x, *image) for refinement, x, image in zip(self.refinements, mixed, images, strict=True)]
        fused = self.reconstruction(self.pyramid(*refined), detail)
        if config.detail_path and not config.working_px:
            fused = fused + visible
        return fused, tuple(aligned_pictures)

    def pad(self, image: Tensor, factor: int = 1) -> Tensor:
        """Reflect to the right and below, so that the sides of the working grid are multiples of `config.multiple`."""
        return pad_to_multiple(image, self.config.multiple * factor, mirror=True)
