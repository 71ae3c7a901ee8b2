"""What fusing does to the light of a picture, and how far heat stands out: in numbers, and as a sheet to look at.

    python benchmarks/levels_and_heat.py --weights tiny --weights small --engine pyramid --pairs DIR --sheet sheet.png

Cells of 16 px. Daylight: where visible is well exposed (levels 64 to 224) and thermal is within one standard deviation
of its mean; the mean change of level there (want at most 15). Heat: cells more than two deviations hotter; by how many
levels they stand out from the rest, in the fused picture and in visible. Noise, on the simulated rig alone: deviation
from the fused noiseless visible picture where visible is dark, in levels, and that of the visible picture itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from fusion_core import load_fuser
from fusion_core.colour import luminance
from fusion_core.engines.engine import create_engine
from fusion_core.pair_folder import find_pairs, read_thermal, read_visible
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc

CELL_PX = 16
HOURS = (0.0, 0.7, 1.0)  # day, dusk, night of the simulated rig
Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cells(picture: np.ndarray) -> np.ndarray:
    """Means over whole cells, float."""
    height, width = (side // CELL_PX * CELL_PX for side in picture.shape)
    size = width // CELL_PX, height // CELL_PX
    return np.asarray(cv2.resize(picture[:height, :width].astype(np.float32), size, interpolation=cv2.INTER_AREA))


def measure(fused: np.ndarray, visible: np.ndarray, thermal: np.ndarray) -> tuple[float, float, float]:
    """Change of daylight levels, contrast of heat in the fused and in the visible picture; NaN where there is none."""
    f, v, t = (cells(luminance(each)) for each in (fused, visible, thermal))
    heat = (t - t.mean()) / max(float(t.std()), 8.0)
    plain = (v >= 64) & (v <= 224) & (np.abs(heat) < 1)
    hot = heat > 2
    change = float(np.abs(f - v)[plain].mean()) if plain.any() else np.nan
    if not hot.any():
        return change, np.nan, np.nan
    return change, *(float(each[hot].mean() - each[~hot].mean()) for each in (f, v))


def noise(fuse: Fuse, rig: SimulatedRig, visible: np.ndarray, thermal: np.ndarray) -> tuple[float, float]:
    """Deviation of the fused and of the visible picture from their noiseless ones where visible is dark."""
    clean = rig.truth(2.6).visible_clean
    dark = luminance(clean) < 48
    if dark.mean() < 0.05:
        return np.nan, np.nan
    of_fused = luminance(fuse(visible, thermal)).astype(float) - luminance(fuse(clean, thermal))
    of_visible = luminance(visible).astype(float) - luminance(clean)
    return float(of_fused[dark].std()), float(of_visible[dark].std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", action="append", default=[])
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--pairs", type=Path, help="folder of pairs; every n-th is taken so that --count remain")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--sheet", type=Path)
    wanted = parser.parse_args()
    methods: dict[str, Fuse] = {Path(name).stem: load_fuser(name, engine="torch") for name in wanted.weights}
    methods |= {name: create_engine(name).fuse for name in wanted.engine}
    rigs = [SimulatedRig(SimulatedRigConfig(night=hour, thermal_height=240, thermal_width=320)) for hour in HOURS]
    simulated = [(rig.visible(2.6), Agc().apply(rig.thermal(2.6))) for rig in rigs]
    simulated = [(v, np.asarray(cv2.resize(t, v.shape[1::-1], interpolation=cv2.INTER_LINEAR))) for v, t in simulated]
    real = []
    if wanted.pairs is not None:
        found = sorted(find_pairs(wanted.pairs), key=lambda pair: pair.stem)
        found = found[:: max(1, len(found) // wanted.count)][: wanted.count]
        real = [(read_visible(pair.visible), read_thermal(pair.thermal)) for pair in found]

    table = Table("method", "daylight change", "heat, fused", "heat, visible", "noise, fused", "noise, visible")
    rows: list[list[np.ndarray]] = [[v, cv2.cvtColor(t, cv2.COLOR_GRAY2RGB)] for v, t in real + simulated]
    for name, fuse in methods.items():
        fused = [fuse(visible, thermal) for visible, thermal in real + simulated]
        figures = [measure(each, *pair) for each, pair in zip(fused, real + simulated, strict=True)]
        figures = np.nanmean(np.array(figures), axis=0).tolist()
        figures += np.nanmean(
            [noise(fuse, rig, *pair) for rig, pair in zip(rigs, simulated, strict=True)], axis=0
        ).tolist()
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
        for row, picture in zip(rows, fused, strict=True):
            row.append(picture)
    Console().print(table)
    if wanted.sheet is not None:
        tiles = [
            np.hstack([cv2.resize(each, (400, 300), interpolation=cv2.INTER_AREA) for each in row]) for row in rows
        ]
        cv2.imwrite(str(wanted.sheet), cv2.cvtColor(np.vstack(tiles), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
