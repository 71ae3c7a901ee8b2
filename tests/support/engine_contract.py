"""What every FusionEngine keeps to. To put an engine under the contract, add a maker to ENGINES."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.pyramid_engine import (
    AverageEngine,
    EdgeOverlayEngine,
    LaplacianPyramidEngine,
    NccPyramidEngine,
    OverlayBase,
)

ENGINES: dict[str, Callable[[], FusionEngine]] = {
    "average": AverageEngine,
    "pyramid": LaplacianPyramidEngine,
    "ncc-pyramid": NccPyramidEngine,
    "aligned-pyramid": lambda: create_engine("aligned-pyramid", threads=1),
    "edges-on-thermal": EdgeOverlayEngine,
    "heat-on-visible": lambda: EdgeOverlayEngine(OverlayBase.VISIBLE),
}

# (height, width): usual, odd, the smallest that the network takes, upright.
SIZES = ((96, 128), (61, 83), (32, 32), (120, 48))


def picture_pair(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A colour picture and a thermal picture with blocks in different places, read-only as published frames are."""
    rng = np.random.default_rng(seed)
    visible = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    thermal = rng.integers(20, 40, (height, width), dtype=np.uint8)
    visible[height // 4 : height // 2, width // 4 : width // 2] = (200, 120, 40)
    thermal[height // 3 : height // 2, width // 2 : (3 * width) // 4] = 230
    visible.flags.writeable = thermal.flags.writeable = False
    return visible, thermal
