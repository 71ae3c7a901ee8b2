"""Traces the network into a torch.export program, for the engines that compile it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fusion_core.rfvif.network import Rfvif

__all__ = ["DYNAMIC_MULTIPLE_PX", "export_network"]

DYNAMIC_MULTIPLE_PX = 64
"""A program of dynamic size takes heights and widths that are multiples of this (at least two of them): the window
pyramid of the correlation then divides exactly, and nothing in the program depends on the size's value."""

_MAX_UNITS = 128


class _FixedFactor(nn.Module):
    """The network with the working grid of one size, whatever the size of the pictures."""

    def __init__(self, network: Rfvif, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, visible_y: Tensor, infrared: Tensor) -> Tensor:
        return self.network(visible_y, infrared, self.factor)  # type: ignore[no-any-return]


def export_network(network: Rfvif, height: int, width: int, *, dynamic: bool = False) -> ExportedProgram:
    """Trace the network in evaluation mode.

    Args:
        height, width: the size to trace. Static: any size from 32x32, and the program runs at this size alone.
            Dynamic: multiples of DYNAMIC_MULTIPLE_PX, at least 128; the caller pads (reflect) and crops. The working
            grid's factor stays that of the traced size.

    Raises:
        ValueError: a dynamic program is asked for at a size that is no multiple.
    """
    network = network.eval()
    parameter = next(network.parameters())
    example = torch.rand(1, 1, height, width, device=parameter.device).to(parameter.dtype)
    shapes: tuple[dict[int, Any], ...] | None = None
    module: nn.Module = network
    if dynamic:
        if height % DYNAMIC_MULTIPLE_PX or width % DYNAMIC_MULTIPLE_PX or min(height, width) < 2 * DYNAMIC_MULTIPLE_PX:
            raise ValueError(
                f"a dynamic program is traced at multiples of {DYNAMIC_MULTIPLE_PX} px from "
                f"{2 * DYNAMIC_MULTIPLE_PX} px, got {height}x{width} (height x width)"
            )
        dims = {
            2: DYNAMIC_MULTIPLE_PX * Dim("height_units", min=2, max=_MAX_UNITS),
            3: DYNAMIC_MULTIPLE_PX * Dim("width_units", min=2, max=_MAX_UNITS),
        }
        shapes = (dims, dims)
        module = _FixedFactor(network, network.reduction(height, width))
    with torch.no_grad():
        return torch.export.export(module, (example, example.flip(-1)), dynamic_shapes=shapes)
