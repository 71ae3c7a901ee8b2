"""A rig that lies 8 px off, corrected while it runs: how soon, how smoothly, and what is left against the truth.

    python benchmarks/drift_live.py [--pictures DIR]

The whole pipeline on the wide simulated rig, its true calibration at 16 m with a shift of (6.4, 4.8) px on top,
`self_align: apply`. Each fused picture says how it was aligned, which is compared with the one before and the truth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from calibrate_simulated_rig import RIG, true_rig

from app.pipeline.live_fusion import LiveFusion
from app.rig.setup_assistant import simulated_config
from calibration.rig import save_calibration
from fusion_core.frames import FusedFrame

SHIFT_PX = (6.4, 4.8)
PATIENCE_S = 180.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    truth = replace(true_rig(), working_distance_m=16.0)
    shift = np.array([[1, 0, SHIFT_PX[0]], [0, 1, SHIFT_PX[1]], [0, 0, 1.0]])
    y, x = np.mgrid[60:420:4j, 100:540:4j]
    places = np.stack([x.ravel(), y.ravel()], axis=-1)
    to_visible = truth.visible.fx_px / truth.thermal.fx_px
    wanted = truth.thermal_from_visible(places)
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / "moved.yaml"
        save_calibration(truth.with_correction(shift), moved)
        live = LiveFusion(
            simulated_config(
                engine={"name": "pyramid"},
                simulation={**RIG, "visible_fps": 10.0, "thermal_fps": 10.0},
                calibration={"file": str(moved), "self_align": "apply"},
            )
        )
        live.start()
        try:
            frames = _watch(live)
        finally:
            live.stop(10.0)
    seen = [frame.alignment.thermal_points(places) for frame in frames if frame.alignment is not None]
    steps = [float(np.linalg.norm(b - a, axis=1).max()) * to_visible for a, b in pairwise(seen)]
    print(f"largest step between two of {len(seen)} pictures: {max(steps):.2f} px")
    for name, points in (("before", seen[0]), ("after", seen[-1])):
        off = np.linalg.norm(points - wanted, axis=1) * to_visible
        print(f"{name}: off the truth by {np.median(off):.2f} px (median), {off.max():.2f} px (largest)")
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name, frame in (("before", frames[0]), ("after", frames[-1])):
            cv2.imwrite(str(options.pictures / f"{name}.png"), np.ascontiguousarray(frame.pixels[..., ::-1]))


def _watch(live: LiveFusion) -> list[FusedFrame]:
    """Every fused picture until the correction has settled and some are seen after."""
    frames: list[FusedFrame] = []
    sequence, began_s, told = 0, 0.0, set()
    after = 0
    while after < 30:
        newer = live.latest.wait_newer(sequence, PATIENCE_S)
        if newer is None:
            raise SystemExit("no picture came")
        sequence, frame = newer
        frames.append(frame)
        began_s = began_s or time.monotonic()
        elapsed_s = time.monotonic() - began_s
        drift = live.stats.snapshot().drift
        if drift is not None:
            settled = drift.applied_px > 0 and not drift.moving
            for what, true in (
                (f"{drift.level}: {drift.drift_px or 0:.1f} px", drift.level in ("warn", "alarm")),
                ("it moves", drift.moving),
                (f"settled, corrected by {drift.applied_px:.1f} px at the corners", settled),
            ):
                if true and what.split()[0] not in told:
                    told.add(what.split()[0])
                    print(f"{elapsed_s:5.1f} s  {what}", flush=True)
            after += settled
        if elapsed_s > PATIENCE_S:
            raise SystemExit("it did not settle")
    return frames


if __name__ == "__main__":
    main()
