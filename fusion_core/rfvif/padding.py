"""Padding to a multiple by gathering, so that one exported program serves every height and width."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pad_to_multiple"]


def pad_to_multiple(image: Tensor, multiple: int, *, mirror: bool) -> Tensor:
    """Continue (B, C, H, W) to the right and below until both sides are multiples of `multiple`.

    mirror: reflect without repeating the border (as F.pad's "reflect", H and W > multiple); else repeat the border.
    A tensor that needs no padding comes back itself. Reflect padding by an amount that is only known at run time
    cannot be exported; a gather can.
    """
    for dim in (-2, -1):
        size = image.shape[dim]
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            size = int(size)  # traces are made for one size
        if _always(size % multiple == 0):
            continue
        padded = (size + multiple - 1) // multiple * multiple
        index = torch.arange(padded, device=image.device)
        last = size - 1
        index = torch.minimum(index, 2 * last - index) if mirror else index.clamp(max=last)
        image = image.index_select(dim, index)
    return image


def _always(condition: bool | torch.SymBool) -> bool:
    """Whether it holds for every size that an exported program may be given."""
    if isinstance(condition, bool):
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # half a second

    return statically_known_true(condition)
