"""A wide simulated rig from the board to live fusion, truth against estimate.

    python benchmarks/calibrate_simulated_rig.py film DIR      # films a board: DIR/visible.mkv, DIR/thermal.mkv
    lumitherm calibrate capture DIR/visible.mkv DIR/thermal.mkv -o DIR/views -b BOARD --every 1
    lumitherm calibrate solve DIR/views -o DIR/rig.yaml -b BOARD --distance-m 12
    python benchmarks/calibrate_simulated_rig.py compare DIR/rig.yaml
    lumitherm run -c configs/simulated.yaml --set calibration.file=DIR/rig.yaml ...   # `film` prints the settings

The rig is that of `fusion_core.simulation.rig`: 0.3 m of baseline, a thermal camera of half the resolution and a longer
lens, rolled by a degree and a half. The board is rendered through the same two cameras.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from guided_operator import advised_poses

from app.media.writer import VideoFormat, VideoWriter
from calibration.board import parse_board
from calibration.extrinsics import rotation_angle_deg
from calibration.render import RenderOptions, render_pair
from calibration.rig import CameraIntrinsics, RigCalibration, load_calibration, plain_scaling
from calibration.shared_field import common_field
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig, rig_geometry

BOARD = "acircles:4x11:70mm"
DISTANCE_M = 12.0
RIG = {
    "baseline_m": 0.3,
    "thermal_height": 256,
    "thermal_width": 320,
    "hfov_thermal_deg": 50.0,
    "residual_rotation_deg": 1.5,
    "residual_shift_px": (9.0, -6.0),
}
FPS = 5


def true_rig() -> RigCalibration:
    """The simulated rig as a calibration."""
    geometry = rig_geometry(SimulatedRigConfig.model_validate(RIG))
    cameras = []
    for K, (height, width) in (
        (geometry.K_visible, geometry.visible_shape),
        (geometry.K_thermal, geometry.thermal_shape),
    ):
        camera = CameraIntrinsics("", height, width, "", K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        cameras.append(camera)
    return RigCalibration(
        cameras[0], cameras[1], geometry.R_visible_thermal, geometry.t_visible_thermal_m, 0.0, DISTANCE_M
    )


def film(folder: Path, poses: int, held: int) -> None:
    """The board is held as the capture guide would advise, each pose for `held` pictures: SNR 10, blur 1.5 px."""
    rig, board = true_rig(), parse_board(BOARD)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    options = RenderOptions()
    still = RenderOptions(thermal_snr=1e6, visible_noise=0.0)
    sizes = [(camera.height, camera.width) for camera in (rig.visible, rig.thermal)]
    visible = VideoWriter(folder / "visible.mkv", *sizes[0], Fraction(1, 1000), Fraction(FPS), VideoFormat(crf=10))
    thermal = VideoWriter(
        folder / "thermal.mkv", *sizes[1], Fraction(1, 1000), Fraction(FPS), VideoFormat("ffv1", "gray16le")
    )
    number = 0
    for index, pose in enumerate(advised_poses(rig, board, poses, 2, (1.3, 3.6))):
        view = render_pair(rig, pose, board, seed=index, options=still)
        for _ in range(held):
            at_ms, long_ms = round(1000 * number / FPS), round(1000 / FPS)
            noise = rng.normal(0, options.visible_noise, view.visible.shape)
            visible.write(np.clip(view.visible + noise, 0, 255).astype(np.uint8), at_ms, long_ms)
            noise = rng.normal(0, options.thermal_contrast_counts / options.thermal_snr, view.thermal.shape)
            counts = view.thermal + noise
            thermal.write(np.clip(counts, 0, 65535).astype(np.uint16), at_ms, long_ms)
            number += 1
    visible.close()
    thermal.close()
    settings = " ".join(
        f"--set 'simulation.{key}={list(value) if isinstance(value, tuple) else value}'" for key, value in RIG.items()
    )
    print(f"{number} pictures of {poses} poses of {BOARD} in {folder}\nthe rig live: {settings}")


def compare(file: Path) -> None:
    """Truth against estimate, and what is left on the simulated scene, by its depth."""
    found, truth = load_calibration(file), true_rig()
    if not isinstance(found, RigCalibration):
        raise SystemExit(f"{file} holds one homography; solve it from a board")
    thermal = common_field(truth, 33)
    off = found.visible_from_thermal(thermal, DISTANCE_M) - truth.visible_from_thermal(thermal, DISTANCE_M)
    off = np.linalg.norm(off, axis=1)
    turned = rotation_angle_deg(found.R_visible_thermal, truth.R_visible_thermal)
    print(f"| at {DISTANCE_M:g} m | truth | estimate | off |\n|---|---|---|---|")
    for name, of in (("visible", lambda rig: rig.visible), ("thermal", lambda rig: rig.thermal)):
        print(f"| focal length {name}, px | {of(truth).fx_px:.1f} | {of(found).fx_px:.1f} | "
              f"{of(found).fx_px - of(truth).fx_px:+.1f} |")  # fmt: skip
    print(f"| baseline, m | {truth.baseline_m:.4f} | {found.baseline_m:.4f} | "
          f"{1e3 * (found.baseline_m - truth.baseline_m):+.1f} mm |")  # fmt: skip
    print(f"| rotation, deg | | | {turned:.3f} |")
    print(
        f"| homography, px: mean / p95 / max | | | {off.mean():.2f} / {np.percentile(off, 95):.2f} / {off.max():.2f} |"
    )

    rig = SimulatedRig(SimulatedRigConfig.model_validate(RIG))
    state = rig.truth(3.0)
    y, x = np.mgrid[0:480:4, 0:640:4]
    points = np.stack([x.ravel(), y.ravel()], -1).astype(np.float64)
    depth = state.depth_m[::4, ::4].ravel()
    on_grid = points + state.displacement_px[::4, ::4].reshape(-1, 2)  # in the thermal picture scaled to the grid
    scaling = plain_scaling((480, 640), (truth.thermal.height, truth.thermal.width))
    seen = scaling.thermal_from_visible(on_grid)
    there = (seen >= 0).all(1) & (seen[:, 0] < truth.thermal.width) & (seen[:, 1] < truth.thermal.height)
    print("\n| scene at | scaled only, median / p95 px | with the calibration | with the true rig |\n|---|---|---|---|")
    for low, high in ((4, 8), (8, 16), (16, 60)):
        part = there & (depth >= low) & (depth < high)
        if not part.any():
            continue
        cells = [_left(points[part], on_grid[part])]
        cells += [_left(points[part], rig_.visible_from_thermal(seen[part], DISTANCE_M)) for rig_ in (found, truth)]
        print(f"| {low} to {high} m | {' | '.join(cells)} |")


def _left(points: np.ndarray, found: np.ndarray) -> str:
    off = np.linalg.norm(found - points, axis=1)
    return f"{np.median(off):.2f} / {np.percentile(off, 95):.2f}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    filming = commands.add_parser("film")
    filming.add_argument("folder", type=Path)
    filming.add_argument("--poses", type=int, default=44)
    filming.add_argument("--held", type=int, default=3)
    commands.add_parser("compare").add_argument("file", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.command == "film":
        film(args.folder, args.poses, args.held)
    else:
        compare(args.file)


if __name__ == "__main__":
    main()
