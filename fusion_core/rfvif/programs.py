"""The network in programs that engines convert one by one, each a function of tensors of one size.

Estimate and fusion are apart, because on video the estimate runs on some frames only. Pictures are (1, 1, H, W) in
[0, 1], not padded; a displacement is (1, 2, h, w) and its log-confidence (1, 1, h, w), on the grid of `field_size`. All
of them are float32, whatever the network is in: it casts what its own features need.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion_core.rfvif.correlation import CELL_PX, Alignment
from fusion_core.rfvif.fdam import CarriedKernels
from fusion_core.rfvif.network import Rfvif

__all__ = ["Estimate", "Fuse", "FuseAndRenew", "FuseWithKernels", "Refine", "field_size", "programs_of"]


def field_size(network: Rfvif, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the displacement field for pictures of this size, as `Rfvif.pad` pads them."""
    step = network.config.multiple * network.reduction(height, width)
    return -(-height // step) * step // CELL_PX, -(-width // step) * step // CELL_PX


class _Program(nn.Module):
    def __init__(self, network: Rfvif, height: int, width: int) -> None:
        super().__init__()
        self.network, self.factor = network, network.reduction(height, width)

    def padded(self, picture: Tensor) -> Tensor:
        return self.network.pad(picture, self.factor)


class Estimate(_Program):
    """visible, infrared -> displacement, log-confidence."""

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network.estimate(self.padded(visible), self.padded(infrared))
        return found.displacements[-1].float(), found.log_confidence.float()


class Refine(_Program):
    """visible, infrared, displacement that is right to a pixel or two -> displacement, log-confidence."""

    def forward(self, visible: Tensor, infrared: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network.refine(self.padded(visible), self.padded(infrared), displacement)
        return found.displacements[-1].float(), found.log_confidence.float()


class Fuse(_Program):
    """visible, infrared, displacement, log-confidence -> fused (1, 1, H, W) in [0, 1]."""

    def forward(self, visible: Tensor, infrared: Tensor, displacement: Tensor, log_confidence: Tensor) -> Tensor:
        return self.fuse(visible, infrared, displacement, log_confidence, None)

    def fuse(
        self,
        visible: Tensor,
        infrared: Tensor,
        displacement: Tensor,
        log_confidence: Tensor,
        carried: CarriedKernels | None,
    ) -> Tensor:
        """With these dynamic kernels; None: with the picture's own."""
        height, width = visible.shape[-2:]
        found = Alignment((displacement,), log_confidence)
        pictures = self.padded(visible), self.padded(infrared)
        out = self.network.fuse_aligned(*pictures, found, self.factor, carried, size=(height, width))
        return out.fused[:, :, :height, :width].clamp(0.0, 1.0)


class FuseAndRenew(Fuse):
    """As `Fuse`, with kernels (N,) of the picture before, which it moves by weight (1,) and gives back, (N,)."""

    def forward(  # type: ignore[override]
        self,
        visible: Tensor,
        infrared: Tensor,
        displacement: Tensor,
        log_confidence: Tensor,
        kernels: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        carried = CarriedKernels(kernels, weight)
        fused = self.fuse(visible, infrared, displacement, log_confidence, carried)
        return fused, carried.used


class FuseWithKernels(Fuse):
    """As `Fuse`, with kernels (N,) that are given."""

    def forward(  # type: ignore[override]
        self, visible: Tensor, infrared: Tensor, displacement: Tensor, log_confidence: Tensor, kernels: Tensor
    ) -> Tensor:
        return self.fuse(visible, infrared, displacement, log_confidence, CarriedKernels(kernels, None))


class _Whole(_Program):
    """For networks that estimate no displacement: visible, infrared -> fused."""

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.network(visible, infrared, outer=1)  # type: ignore[no-any-return]


def programs_of(
    network: Rfvif, height: int, width: int, *, refines: bool, carries_kernels: bool
) -> Mapping[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """The programs for pictures of this size, each with examples of its inputs.

    Args:
        network: for inference, on its device and in its dtype.
        refines: whether the estimate also looks around an earlier one.
        carries_kernels: whether the fusion carries dynamic kernels over.

    Returns:
        "whole" for a network without an estimate, else "estimate", "refine", and "fuse" or "fuse-renew" and
        "fuse-kernels".
    """
    parameter = next(network.parameters())
    device, dtype = parameter.device, parameter.dtype

    def picture() -> Tensor:
        return torch.zeros(1, 1, height, width, device=device)

    if network.alignment is None:
        return {"whole": (_Whole(network, height, width), (picture(), picture()))}
    rows, columns = field_size(network, height, width)

    def field() -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 2, rows, columns, device=device), torch.zeros(1, 1, rows, columns, device=device)

    made: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {}
    made["estimate"] = Estimate(network, height, width), (picture(), picture())
    if refines:
        made["refine"] = Refine(network, height, width), (picture(), picture(), field()[0])
    if carries_kernels and network.kernel_values:
        kernels = torch.zeros(network.kernel_values, device=device, dtype=dtype)
        weight = torch.ones(1, device=device, dtype=dtype)
        inputs = (picture(), picture(), *field())
        made["fuse-renew"] = FuseAndRenew(network, height, width), (*inputs, kernels, weight)
        made["fuse-kernels"] = FuseWithKernels(network, height, width), (*inputs, kernels.clone())
    else:
        made["fuse"] = Fuse(network, height, width), (picture(), picture(), *field())
    return made
