"""Colour palettes for showing thermal pictures. For display only: the network never sees a palette."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import cmap
import numpy as np
import numpy.typing as npt

from fusion_core.errors import BadInputError, ConfigError

__all__ = ["PALETTES", "colorize", "palette_table"]

# Name -> the catalogue's name (cmap), or the stops of a palette that it lacks, cold to hot.
PALETTES: Mapping[str, str | tuple[str, ...]] = MappingProxyType(
    {
        "white_hot": ("#000000", "#ffffff"),
        "black_hot": ("#ffffff", "#000000"),
        "iron": ("#00000a", "#1f0a6e", "#7a1a9e", "#c43a6a", "#ee7a20", "#fdc42a", "#fffbe6"),
        "inferno": "bids:inferno",
        "magma": "bids:magma",
        "viridis": "bids:viridis",
        "cividis": "cividis:cividis",
        "turbo": "google:turbo",
        "fire": "colorcet:fire",
        "ember": "cmasher:ember",
        "lajolla": "crameri:lajolla",
        "ice_fire": ("#04102e", "#1d5fa8", "#7fc4de", "#f2f2ec", "#f4a04a", "#c83a1c", "#4a0410"),
        "red_hot": ("#000000", "#d0d0d0", "#ff8000", "#ff0000"),
        "rainbow": ("#000060", "#0060ff", "#00d0a0", "#60e000", "#ffe000", "#ff4000", "#ffe0e0"),
    }
)


@lru_cache(maxsize=64)
def palette_table(name: str) -> npt.NDArray[np.uint8]:
    """The colours of a palette: (256, 3) uint8 RGB, read-only, cold to hot.

    Args:
        name: one of PALETTES, or any name of the cmap catalogue, e.g. "colorcet:cet_l3".

    Raises:
        ConfigError: no such palette.
    """
    source = PALETTES.get(name, name)
    try:
        colormap = cmap.Colormap(source if isinstance(source, str) else list(source))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"there is no palette {name!r}; wanted one of {', '.join(PALETTES)}") from error
    table = np.rint(np.asarray(colormap.lut(256))[:, :3] * 255.0).astype(np.uint8)
    table.flags.writeable = False
    return table


def colorize(levels: npt.NDArray[np.uint8], palette: str) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 through a palette: (H, W, 3) uint8 RGB.

    Raises:
        BadInputError: not an 8-bit single-channel picture. ConfigError: no such palette.
    """
    if levels.dtype != np.uint8 or levels.ndim != 2:
        raise BadInputError(f"got {levels.shape} {levels.dtype}, wanted an 8-bit thermal picture (H, W)")
    return np.take(palette_table(palette), levels, axis=0)
