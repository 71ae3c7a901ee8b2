"""Pictures larger than an engine should take at once: overlapping tiles of one size, blended without seams."""

from __future__ import annotations

import numpy as np

from fusion_core.colour import check_pair
from fusion_core.engines.engine import FusionEngine
from fusion_core.errors import UsageError

__all__ = ["TiledEngine", "tile_starts"]


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side, so that they cover it and overlap by at least `overlap`."""
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    return [round(i * (size - tile) / (count - 1)) for i in range(count)]


class TiledEngine:
    """Runs another engine tile by tile. Every tile has one size, so one compiled network serves all of them.

    Where tiles overlap their results are blended with weights that rise linearly from the border of each, so that no
    seam shows. Beside the picture it holds the memory of one tile. No frame depends on another.
    """

    def __init__(self, engine: FusionEngine, tile: tuple[int, int] = (720, 1280), overlap_px: int = 64) -> None:
        """tile: (height, width). The engine belongs to this object; its frames must not depend on each other.

        Raises:
            UsageError: the overlap does not fit the tile.
        """
        if not 0 < overlap_px <= min(tile) // 2:
            raise UsageError(f"overlap is {overlap_px} px, must be 1 to half of the tile's {tile[0]}x{tile[1]}")
        self._engine, self._tile, self._overlap_px = engine, tile, overlap_px

    @property
    def name(self) -> str:
        return f"tiled-{self._engine.name}"

    def warm_up(self, height: int, width: int) -> None:
        """See `FusionEngine.warm_up`."""
        self._engine.warm_up(min(height, self._tile[0]), min(width, self._tile[1]))

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `FusionEngine.fuse`."""
        check_pair(visible, thermal)
        height, width = thermal.shape
        tile_height, tile_width = min(height, self._tile[0]), min(width, self._tile[1])
        tops = tile_starts(height, tile_height, self._overlap_px)
        lefts = tile_starts(width, tile_width, self._overlap_px)
        if len(tops) == len(lefts) == 1:
            return self._engine.fuse(visible, thermal)
        out = np.empty_like(visible, order="C")
        rows = _shares(tops, tile_height, height)
        columns = _shares(lefts, tile_width, width)
        # Band by band: the sums in float32 are as tall as one tile, never as the picture.
        band = np.zeros((tile_height, width, 3), np.float32)
        done = 0
        for row, top in enumerate(tops):
            for column, left in enumerate(lefts):
                window = np.s_[top : top + tile_height, left : left + tile_width]
                self._engine.reset()
                fused = self._engine.fuse(visible[window], thermal[window])
                weight = rows[row][:, None, None] * columns[column][None, :, None]
                band[:, left : left + tile_width] += fused * weight
            end = tops[row + 1] if row + 1 < len(tops) else height
            finished = end - top
            np.rint(band[:finished], out=band[:finished])
            out[top:end] = np.clip(band[:finished], 0, 255).astype(np.uint8)
            band[: tile_height - finished] = band[finished:].copy()
            band[tile_height - finished :] = 0
            done = end
        assert done == height
        return out

    def reset(self) -> None:
        self._engine.reset()

    def close(self) -> None:
        self._engine.close()


def _shares(starts: list[int], tile: int, size: int) -> list[np.ndarray]:
    """The share of each row of each tile in the result; over all tiles the shares of a row add up to 1."""
    sums = np.zeros(size, np.float64)
    ramps = []
    ramp = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1)).astype(np.float64)
    for start in starts:
        ramps.append(ramp)
        sums[start : start + tile] += ramp
    return [(ramp / sums[start : start + tile]).astype(np.float32) for start, ramp in zip(starts, ramps, strict=True)]
