"""Multi-grained feature refinement module (Section 3.4): level mixing and local feature refinement (LFR)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_core.rfvif.cmfem import three_convs

__all__ = ["LevelMixing", "LocalFeatureRefinement", "laplacian"]

_EPSILON = 1e-6


def laplacian(image: Tensor) -> Tensor:
    """The gradient map: Laplace operator on (B, 1, h, w), border repeated (Section 4.2)."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return (
        padded[:, :, :-2, 1:-1]
        + padded[:, :, 2:, 1:-1]
        + padded[:, :, 1:-1, :-2]
        + padded[:, :, 1:-1, 2:]
        - 4.0 * image
    )


class LevelMixing(nn.Module):
    """F_l^f: the other two levels resized to level l (nearest up, average down), concat, 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(3 * channels, channels, 1) for _ in range(3))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        mixed = []
        for target, conv in enumerate(self.mix):
            resized = []
            for source, x in enumerate(levels):
                if source > target:
                    x = F.interpolate(x, scale_factor=float(2 ** (source - target)), mode="nearest")
                elif source < target:
                    x = F.avg_pool2d(x, 2 ** (target - source))
                resized.append(x)
            mixed.append(conv(torch.cat(resized, dim=1)))
        return mixed


class LocalFeatureRefinement(nn.Module):
    """LFR of one level, Fig. 6: enhance what is like the visible texture, damp what is like the infrared edges."""

    def __init__(self, channels: int, visible: bool, infrared: bool, patch: int = 3) -> None:
        super().__init__()
        self.patch = patch
        self.visible_features = three_convs(2, channels, channels) if visible else None
        self.infrared_features = three_convs(1, channels, channels) if infrared else None
        parts = 1 + int(visible) + int(infrared)
        self.fuse = nn.Conv2d(parts * channels, channels, 1) if parts > 1 else nn.Identity()

    def forward(self, fused: Tensor, visible_image: Tensor, infrared_image: Tensor) -> Tensor:
        """fused (B, C, h, w); images (B, 1, h, w) at the level's size."""
        parts = [fused]
        # Similarities in float32: squared norms of features leave FP16's range.
        # The length of each feature vector; the epsilon keeps Eq. (9) finite where a vector is zero.
        norm = torch.rsqrt(fused.float().pow(2).sum(dim=1, keepdim=True) + _EPSILON)
        if self.visible_features is not None:
            guide = self.visible_features(torch.cat((visible_image, laplacian(visible_image)), dim=1))
            parts.append(self._enhance(fused, norm, guide))
        if self.infrared_features is not None:
            guide = self.infrared_features(laplacian(infrared_image))
            guide_norm = torch.rsqrt(guide.float().pow(2).sum(dim=1, keepdim=True) + _EPSILON)
            similarity = (guide.float() * fused.float()).sum(dim=1, keepdim=True) * guide_norm * norm
            parts.append(fused * (2.0 - similarity).to(fused.dtype))  # Eq. (12): (1 - s) f + f
        if len(parts) == 1:
            return fused
        return self.fuse(torch.cat(parts, dim=1))  # type: ignore[no-any-return]

    def _enhance(self, fused: Tensor, norm: Tensor, guide: Tensor) -> Tensor:
        """Eq. (9)-(11), shift by shift: the k*k-times unfolded tensor is never built."""
        reach = self.patch // 2
        height, width = fused.shape[-2:]
        padded = F.pad(fused, (reach,) * 4, mode="replicate")
        padded_norm = F.pad(norm, (reach,) * 4, mode="replicate")
        guide_norm = torch.rsqrt(guide.float().pow(2).sum(dim=1, keepdim=True) + _EPSILON)
        total: Tensor | None = None
        weight_sum: Tensor | None = None
        for y in range(self.patch):
            for x in range(self.patch):
                window = padded[:, :, y : y + height, x : x + width]
                window_norm = padded_norm[:, :, y : y + height, x : x + width]
                similarity = (window.float() * guide.float()).sum(dim=1, keepdim=True) * window_norm * guide_norm
                weight = torch.exp(similarity)  # Eq. (10); similarities lie in [-1, 1], so no maximum is taken off
                term = window * weight.to(window.dtype)
                total = term if total is None else total + term
                weight_sum = weight if weight_sum is None else weight_sum + weight
        assert total is not None and weight_sum is not None
        return total * (1.0 / weight_sum).to(total.dtype)  # Eq. (11)
