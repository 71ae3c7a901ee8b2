"""Aligns rendered rigs with unequal lenses without a board, and measures what is left against truth.

    python benchmarks/unequal_lenses.py

Eight pairs of each rig, 1.3 s apart; with and without a barrel in the thermal lens. The error is that of every place on
the ground or before it that both cameras see, parallax included. A few minutes.
"""

from __future__ import annotations

import cv2
import numpy as np

from calibration.rig import Calibration, bent, plain_scaling, straightened
from calibration.targetless import align_from_nothing
from fusion_core.errors import BadInputError
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

BARREL = -0.15
RIGS: dict[str, dict[str, object]] = {
    "1280x720 of 66 degrees, 640x512 of 44, turned by 1.5": {
        "width": 1280, "height": 720, "thermal_width": 640, "thermal_height": 512, "hfov_visible_deg": 66,
        "hfov_thermal_deg": 44, "baseline_m": 0.1, "residual_rotation_deg": 1.5,
    },
    "640x480 of 70 degrees, 160x120 of 50, turned by -2, noisy": {
        "thermal_width": 160, "thermal_height": 120, "hfov_visible_deg": 70, "hfov_thermal_deg": 50,
        "baseline_m": 0.05, "residual_rotation_deg": -2, "thermal_noise_counts": 8,
    },
    "640x480 of 75 degrees, 256x192 of 38": {
        "thermal_width": 256, "thermal_height": 192, "hfov_visible_deg": 75, "hfov_thermal_deg": 38,
        "baseline_m": 0.04, "scene": "yard",
    },
    "640x480 of 50 degrees, 320x256 of 70, 40 px aside": {
        "thermal_width": 320, "thermal_height": 256, "hfov_visible_deg": 50, "hfov_thermal_deg": 70,
        "baseline_m": 0.1, "scene": "yard", "residual_shift_px": (40, -30),
    },
    "equal lenses, 3 px off": {"thermal_width": 320, "thermal_height": 240, "residual_shift_px": (3, 2)},
}  # fmt: skip


def main() -> None:
    """Print the table."""
    print("| rig | barrel | plain scaling | found | left |\n|---|---|---|---|---|")
    for name, changes in RIGS.items():
        for lens in (0.0, BARREL):
            rig = SimulatedRig(SimulatedRigConfig.model_validate(changes))
            pairs = [(rig.visible(t), barrelled(rig.thermal(t), lens)) for t in np.arange(8) * 1.3]
            before = off_px(rig, plain_scaling(rig.geometry.visible_shape, rig.geometry.thermal_shape), lens)
            try:
                found = align_from_nothing(pairs)
            except BadInputError as error:
                print(f"| {name} | {'yes' if lens else 'no'} | {figures(before)} | nothing: {error} | |", flush=True)
                continue
            left = figures(off_px(rig, found.calibration, lens))
            print(f"| {name} | {'yes' if lens else 'no'} | {figures(before)} | {found.model} | {left} |", flush=True)


def barrelled(thermal: np.ndarray, lens: float) -> np.ndarray:
    """The picture that a lens which bends makes in place of this one."""
    height, width = thermal.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    at = straightened(np.stack([x.ravel(), y.ravel()], axis=-1), lens, (height, width)).astype(np.float32)
    x, y = at.reshape(height, width, 2).transpose(2, 0, 1)
    return np.asarray(cv2.remap(thermal, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def off_px(rig: SimulatedRig, calibration: Calibration, lens: float) -> np.ndarray:
    """How far places below the sky that both cameras see are off in truth, visible pixels."""
    truth, size = rig.truth(0.0), rig.geometry.thermal_shape
    height, width = truth.depth_m.shape
    y, x = (plane.ravel() for plane in np.mgrid[4 : height - 4 : 12, 4 : width - 4 : 12])
    visible = np.stack([x, y], axis=-1).astype(np.float64)
    on_grid = np.column_stack([visible + truth.displacement_px[y, x], np.ones(len(x))])
    thermal = bent((on_grid @ np.linalg.inv(rig.geometry.grid_from_thermal).T)[:, :2], lens, size)
    seen = ((thermal >= 0) & (thermal <= [size[1] - 1, size[0] - 1])).all(axis=1) & (truth.depth_m[y, x] < 900)
    return np.asarray(np.linalg.norm(calibration.visible_from_thermal(thermal[seen]) - visible[seen], axis=1))


def figures(off: np.ndarray) -> str:
    """Median / 95 % / largest."""
    return f"{np.median(off):.1f} / {np.percentile(off, 95):.1f} / {off.max():.1f}"


if __name__ == "__main__":
    main()
