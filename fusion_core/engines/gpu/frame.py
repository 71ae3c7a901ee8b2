"""What a GPU frame does around the network: pixels in, pixels out, nothing of it on the host in between."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_core.rfvif.padding import pad_to_multiple
from fusion_core.rfvif.working_grid import enlarge, reduce
from fusion_core.thermal.field_of_view import FieldMatrices

__all__ = ["GpuField", "GpuFrame", "Prepared", "gpu_luminance"]

_SCALE = 1.0 / 255.0

# 0.299, 0.587, 0.114 in 15-bit fixed point, as cv2.cvtColor has them: the luminance is equal bit by bit.
_RED, _GREEN, _BLUE, _SHIFT = 9798, 19235, 3735, 15


def gpu_luminance(rgb: Tensor) -> Tensor:
    """Y of (H, W, 3) uint8 RGB -> (H, W) int32 in 0..255; equal to `fusion_core.colour.luminance`."""
    red, green, blue = rgb.to(torch.int32).unbind(dim=-1)
    return (red * _RED + green * _GREEN + blue * _BLUE + (1 << (_SHIFT - 1))) >> _SHIFT


class GpuField(NamedTuple):
    """`fusion_core.thermal.field_of_view.FieldMatrices` on a device, float32; seen: (H, W) bool."""

    down_y: Tensor
    down_x: Tensor
    gain: Tensor
    up_y: Tensor
    up_x: Tensor
    seen: Tensor

    @classmethod
    def on(cls, device: torch.device, matrices: FieldMatrices) -> GpuField:
        """Move to the device."""
        parts = (matrices.down_y, matrices.down_x, matrices.gain, matrices.up_y, matrices.up_x, matrices.seen)
        return cls(*(torch.from_numpy(np.array(part)).to(device) for part in parts))

    def take(self, matrices: FieldMatrices) -> None:
        """Become this one, of the same size, in the same memory."""
        for mine, other in zip(self, GpuField.on(self.seen.device, matrices), strict=True):
            mine.copy_(other)

    def fill(self, levels: Tensor, luminance: Tensor) -> Tensor:
        """As `FieldFiller.fill`, to one level: (H, W) float32 levels and int32 luminance -> (H, W) float32."""
        difference = torch.where(self.seen, levels - luminance, 0.0)
        cells = self.down_y @ difference @ self.down_x.T  # (h, w)
        offset = self.up_y @ (cells * self.gain) @ self.up_x.T  # (H, W)
        return torch.where(self.seen, levels, (luminance + offset).round().clamp(0, 255))


class Prepared(NamedTuple):
    """What a frame's pictures become before the network. h, w: the size at which it is fused."""

    luminance: Tensor  # (H, W) uint8
    levels: Tensor  # (H, W) uint8, thermal on the visible grid, 0 where it does not see
    visible: Tensor  # (1, 1, h, w) float32 in [0, 1]
    thermal: Tensor  # (1, 1, h, w) float32 in [0, 1], filled


class GpuFrame:
    """The arithmetic around the network: before it thermal counts -> AGC table -> visible grid, after it the colour.

    Runs on any device, so that its numbers are tested on a CPU against the engines there.
    """

    def __init__(self, size: tuple[int, int], outer: int) -> None:
        """size: (height, width) of the visible pictures; outer: they are fused at 1 / outer of it."""
        self.size, self.outer = size, outer
        self.small = -(-size[0] // outer), -(-size[1] // outer)
        """Height and width at which they are fused."""

    def prepare(
        self,
        visible: Tensor,
        thermal: Tensor,
        table: Tensor | None,
        grid: Tensor | None,
        field: GpuField | None = None,
    ) -> Prepared:
        """Everything before the network.

        Args:
            visible: (H, W, 3) uint8 RGB.
            thermal: (Ht, Wt) uint8 levels, or with a table int16 holding the bits of uint16 counts.
            table: (65536,) uint8, the level of each count (the AGC's); None: thermal holds levels already.
            grid: (1, H, W, 2) float32 in [-1, 1], align_corners=False: where each visible pixel lies in the thermal
                picture (`calibration.align.ThermalAligner.sampling_grid`); outside is 0. None: the same grid.
            field: what the thermal camera sees, to fill the rest; None: thermal is filled already, or sees all.

        Returns:
            New tensors, or views of what was given.
        """
        # Few operators know uint16 on CUDA; as int16 with its sign taken off, counts are plain indices.
        levels = thermal if table is None else table[thermal.to(torch.int32) & 0xFFFF]
        y = gpu_luminance(visible)
        moved = levels.float()
        if grid is not None:
            moved = F.grid_sample(moved[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            moved = moved[0, 0].round_()
        shown = levels if grid is None else moved.to(torch.uint8)
        if field is not None:
            moved = field.fill(moved, y)
        return Prepared(y.to(torch.uint8), shown, self._small(y.float()), self._small(moved))

    def _small(self, picture: Tensor) -> Tensor:
        """(H, W) float32 levels -> (1, 1, h, w) in [0, 1]."""
        small = pad_to_multiple(picture[None, None], self.outer, mirror=True)
        if self.outer > 1:
            small = reduce(small, self.outer)
        return small * _SCALE

    def colour(self, visible: Tensor, prepared: Prepared, fused: Tensor) -> Tensor:
        """The new luminance under the old chroma.

        Args:
            visible: (H, W, 3) uint8 RGB. prepared: of it. fused: (1, 1, h, w) in [0, 1].

        Returns:
            (H, W, 3) uint8 RGB.
        """
        old_y = prepared.luminance.to(torch.int32)
        if self.outer == 1:
            new_y = (fused[0, 0].float() * 255.0).round().to(torch.int32)
        else:  # as `Rfvif._forward_large`: the visible picture's detail stays as it is
            change = enlarge(fused.float() - prepared.visible, self.outer)
            change = change[0, 0, : self.size[0], : self.size[1]] * 255.0
            new_y = (old_y + change).round().clamp(0, 255).to(torch.int32)
        # As `fusion_core.colour.replace_luminance`: brighter by adding, darker by scaling.
        brighter = (new_y - old_y).clamp(min=0).unsqueeze(-1)
        share = (torch.minimum(new_y, old_y) * 255.0 / old_y.clamp(min=1)).round().unsqueeze(-1)
        return ((visible.float() * share * _SCALE).round() + brighter).clamp(0, 255).to(torch.uint8)
