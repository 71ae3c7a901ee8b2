"""What runs the fusion: one protocol over all engines, and the factory that picks one.

An engine takes the visible picture and the thermal picture already on the visible grid and after AGC, and gives
the fused picture. It has one owner thread; it copies nothing that it need not.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["FusionEngine"]


@runtime_checkable
class FusionEngine(Protocol):
    """One fusion engine. Not thread-safe: one owner thread calls it."""

    @property
    def name(self) -> str:
        """Short name for HUD, log and sidecar, e.g. "openvino-bf16:tiny" or "pyramid"."""

    def warm_up(self, height: int, width: int) -> None:
        """Do everything slow (compile, allocate, first run) for this size, so that `fuse` is at speed.

        Raises EngineError when the engine cannot run at this size.
        """

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """Fuse one pair.

        Args:
            visible: (H, W, 3) uint8 RGB.
            thermal: (H, W) uint8, on the visible grid, after AGC (bright = hot).

        Returns:
            (H, W, 3) uint8 RGB, a new array that the caller owns.

        Raises:
            BadInputError: shape or dtype is wrong. EngineError: the engine failed.
        """

    def reset(self) -> None:
        """Forget everything carried over from earlier frames (scene cut, new source)."""

    def close(self) -> None:
        """Free what the engine holds. Safe to call twice."""
