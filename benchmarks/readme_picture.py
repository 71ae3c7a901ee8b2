"""Makes docs/images/fused.jpg from the simulated rig: visible, thermal, pyramid without alignment, the network.

python benchmarks/readme_picture.py docs/images/fused.jpg --preset small
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from fusion_core import load_fuser
from fusion_core.engines.pyramid_engine import LaplacianPyramidEngine
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--time-s", type=float, default=2.6)
    parser.add_argument("--night", type=float, default=0.85)
    arguments = parser.parse_args()
    rig = SimulatedRig(SimulatedRigConfig(night=arguments.night, residual_shift_px=(6.0, -4.0)))
    visible = rig.visible(arguments.time_s)
    thermal = Agc().apply(rig.thermal(arguments.time_s))
    fused = load_fuser(arguments.preset)(visible, thermal)
    pyramid = LaplacianPyramidEngine().fuse(visible, thermal)
    heat = cv2.cvtColor(thermal, cv2.COLOR_GRAY2RGB)
    top, bottom = np.hstack((visible, heat)), np.hstack((pyramid, fused))
    picture = cv2.cvtColor(np.vstack((top, bottom)), cv2.COLOR_RGB2BGR)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.output), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
