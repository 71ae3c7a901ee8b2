"""The border of the thermal field in fused pictures: the slope across it, against the slopes of the scene beside it.

    python benchmarks/thermal_border.py [--pictures DIR] [--engines pyramid,openvino]

The wide simulated rig under its true calibration, whose thermal camera sees 69 % of the visible picture. What an engine
is given outside: nothing, the visible luminance, or that at thermal's level and faded out (`FieldFiller`, as used).
Slopes in levels a pixel, means of their size: across the border within 1.2 px of it, and 6 to 12 px to both sides.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from calibrate_simulated_rig import RIG, true_rig

from app.pipeline.thermal_grid import AlignedField
from calibration.align import ThermalAligner
from fusion_core.colour import luminance
from fusion_core.engines.engine import create_engine
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc, AgcConfig


def slopes(fused: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """(at the border, beside it) of (H, W, 3) uint8: mean slope across the border's direction."""
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (seen, ~seen))
    distance = np.where(seen, inside - 0.5, 0.5 - outside).astype(np.float32)
    grey = luminance(fused).astype(np.float32)
    across = sum(
        cv2.Sobel(grey, cv2.CV_32F, *axis, scale=0.125) * cv2.Sobel(distance, cv2.CV_32F, *axis, scale=0.125)
        for axis in ((1, 0), (0, 1))
    )
    size = np.abs(np.asarray(across))
    away = np.abs(distance)
    return float(size[away < 1.2].mean()), float(size[(away > 6) & (away < 12)].mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--engines", default="pyramid,openvino")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    field = AlignedField(ThermalAligner(true_rig()))
    seen = field.seen
    engines = {name: create_engine(name, "tiny", None) for name in options.engines.split(",")}
    print(f"thermal sees {seen.mean():.0%} of the picture")
    print("| scene | engine | nothing outside | visible outside | at thermal's level, faded | beside |")
    print("|---|---|---|---|---|---|")
    for scene, changes in (("day", {}), ("night", {"night": 1.0})):
        rig = SimulatedRig(SimulatedRigConfig.model_validate({**RIG, "seed": 7, **changes}))
        for name, engine in engines.items():
            engine.warm_up(*seen.shape)
            found: dict[str, list[tuple[float, float]]] = {}
            for at_s in (3.0, 9.0, 15.0):
                visible = rig.visible(at_s)
                levels = field.to_visible(Agc(AgcConfig(max_gain=2.0)).apply(rig.thermal(at_s)))
                plain = np.where(seen, levels, luminance(visible))
                for what, thermal in (("none", levels), ("plain", plain), ("faded", field.filled(levels, visible))):
                    engine.reset()
                    fused = engine.fuse(visible, thermal)
                    found.setdefault(what, []).append(slopes(fused, seen))
                    if options.pictures is not None:
                        options.pictures.mkdir(parents=True, exist_ok=True)
                        file = options.pictures / f"{scene}_{at_s:g}_{name}_{what}.png"
                        cv2.imwrite(str(file), np.ascontiguousarray(fused[..., ::-1]))
            cells = [f"{np.mean([at for at, _ in found[what]]):.1f}" for what in ("none", "plain", "faded")]
            beside = np.mean([by for _, by in found["faded"]])
            print(f"| {scene} | {name} | {' | '.join(cells)} | {beside:.1f} |", flush=True)


if __name__ == "__main__":
    main()
