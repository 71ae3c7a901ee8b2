"""How exactly the time offset of two cameras is found: from a carried board, and from an ordinary scene.

    python benchmarks/time_offset.py board [--seeds 3]   # rendered pictures, board found in each, as in a capture
    python benchmarks/time_offset.py scene [--seeds 3]   # the simulated rig's people and traffic, 20 s

`board`: the board is carried from pose to pose and held there, by hand as it were; thermal SNR 10, blur 1.5 px; the two
cameras do not expose together; the rig is known as well as a calibration knows it (0.05 degrees, 1 mm off).
`motion` beside it is what the scene's method says of the same pictures: a near board is no measure for it, and it must
say so.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

from app.capture.offset_estimator import OffsetEstimator
from calibration.board import Board, parse_board
from calibration.detect import BoardNotFoundError, Detection, detect_board, match_orders
from calibration.render import BoardPose, RenderOptions, random_poses, render_pair, synthetic_rig
from calibration.rig import RigCalibration
from calibration.time_offset import BoardMovement, estimate_time_offset
from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, Stream, TimestampSource
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

SECONDS = 25.0
MAX_SKEW_S = 0.04
RIGS = {
    "narrow": ("acircles:4x11:30mm", {"baseline_m": 0.06}),
    "wide": ("acircles:4x11:70mm", {"baseline_m": 0.3, "thermal_size": (256, 320)}),
}
CLEAN = RenderOptions(thermal_snr=1e6, visible_noise=0.0)


def carried(rig: RigCalibration, board: Board, seed: int) -> PchipInterpolator:
    """Rotation vector and position of a board that is carried from pose to pose, and held at most of them."""
    rng = np.random.default_rng(seed)
    times, places, now_s = [], [], 0.0
    for pose in random_poses(rig, board, 40, seed):
        turn, _ = cv2.Rodrigues(pose.R_visible_board)
        for _ in range(1 + (rng.uniform() < 0.6)):
            times.append(now_s)
            places.append(np.concatenate([turn.ravel(), pose.t_visible_board_m]))
            now_s += rng.uniform(0.8, 1.8)
    if now_s < SECONDS:
        raise SystemExit(f"seed {seed}: too few poses fit into both pictures")
    return PchipInterpolator(times, np.array(places))


def film(rig: RigCalibration, board: Board, seed: int, early_ms: float, fps: float) -> Iterator[Frame]:
    """Both cameras' pictures; visible stamps are `early_ms` early."""
    path, rng = carried(rig, board, seed), np.random.default_rng(seed + 100)
    for number in range(round(SECONDS * fps)):
        for stream in Stream:
            real_s = max(0.0, number / fps + rng.normal(0, 0.002) + (0.3 / fps if stream is Stream.THERMAL else 0.0))
            R, _ = cv2.Rodrigues(path(real_s)[:3])
            view = render_pair(rig, BoardPose(R, path(real_s)[3:]), board, seed=seed, options=CLEAN)
            if stream is Stream.VISIBLE:
                noisy = view.visible + rng.normal(0, RenderOptions().visible_noise, view.visible.shape)
                pixels = np.clip(noisy, 0, 255).astype(np.uint8)
            else:
                noise = RenderOptions().thermal_contrast_counts / RenderOptions().thermal_snr
                pixels = (view.thermal + rng.normal(0, noise, view.thermal.shape)).clip(0, 65535).astype(np.uint16)
            stamp_s = 10.0 + real_s - (early_ms / 1e3 if stream is Stream.VISIBLE else 0.0)
            yield Frame(stream, pixels, number, round(stamp_s * 1e9), TimestampSource.SIMULATED)


def found_in(frame: Frame, board: Board) -> Detection | None:
    polarity = "normal" if frame.stream is Stream.VISIBLE else "unknown"
    try:
        return detect_board(frame.pixels, board, polarity=polarity, max_rungs=4)
    except BoardNotFoundError:
        return None


def measure_board(seeds: int, rigs: list[str], rates: list[float]) -> None:
    """A line for each film: truth, what the board says, what motion says."""
    rng = np.random.default_rng(1)
    print("| rig | pictures/s | truth ms | from the board: off, 1 sigma ms | sightings | from motion: off, sure |")
    print("|---|---|---|---|---|---|")
    for name, fps, seed in itertools.product(rigs, rates, range(1, seeds + 1)):
        text, settings = RIGS[name]
        rig, board = synthetic_rig(**settings), parse_board(text)  # type: ignore[arg-type]
        early_ms = float(rng.uniform(-120, 120))
        frames = list(film(rig, board, seed, early_ms, fps))
        motion, movement = OffsetEstimator(), BoardMovement()
        for frame in frames:
            motion.add(frame)
        visible = [frame for frame in frames if frame.stream is Stream.VISIBLE]
        stamps_ns = np.array([frame.timestamp_ns for frame in visible])
        for frame in frames:
            if frame.stream is Stream.VISIBLE:
                continue
            nearest = visible[int(np.argmin(np.abs(stamps_ns - frame.timestamp_ns)))]
            if abs(nearest.timestamp_ns - frame.timestamp_ns) > max(MAX_SKEW_S, 0.5 / fps) * 1e9:
                continue
            pair = found_in(nearest, board), found_in(frame, board)
            if pair[0] is None or pair[1] is None:
                continue
            seen = match_orders(pair[0], pair[1], 0.0)
            movement.add(nearest.timestamp_ns, seen[0], frame.timestamp_ns, seen[1])
        turn, _ = cv2.Rodrigues(rng.normal(0, np.radians(0.05 / np.sqrt(3)), 3))
        known = replace(
            rig,
            R_visible_thermal=turn @ rig.R_visible_thermal,
            t_visible_thermal_m=rig.t_visible_thermal_m + rng.normal(0, 0.001 / np.sqrt(3), 3),
        )
        offset, by_motion = estimate_time_offset(known, board, movement), motion.estimate()
        off = f"{offset.visible_minus_thermal_ms + early_ms:+.2f}, {offset.sigma_ms:.2f}" if offset.sure else "not sure"
        print(
            f"| {name} | {fps:g} | {-early_ms:+.1f} | {off} | {offset.sightings} | "
            f"{by_motion.offset_ms - early_ms:+.1f}, {'yes' if by_motion.sure else 'no'} |",
            flush=True,
        )


def measure_scene(seeds: int) -> None:
    """A line for each scene: truth against what motion says after 20 s."""
    rng = np.random.default_rng(5)
    print("| scene | baseline m | thermal/s | truth ms | from motion: off, 1 sigma ms | sure |")
    print("|---|---|---|---|---|---|")
    for scene, baseline_m, fps, seed in itertools.product(("street", "yard"), (0.1, 0.3), (30, 9), range(1, seeds + 1)):
        early_ms = float(rng.uniform(-120, 120))
        settings = {
            "height": 240, "width": 320, "thermal_height": 128, "thermal_width": 160, "scene": scene,
            "baseline_m": baseline_m, "thermal_fps": fps, "time_skew_ms": early_ms, "seed": seed,
        }  # fmt: skip
        rig, motion = SimulatedRig(SimulatedRigConfig.model_validate(settings)), OffsetEstimator()
        for stream, rate, render, time_s in (
            (Stream.VISIBLE, 30, rig.visible, rig.visible_time_s),
            (Stream.THERMAL, fps, rig.thermal, rig.thermal_time_s),
        ):
            for number in range(20 * rate):
                stamp_s = time_s(number)
                motion.add(
                    Frame(stream, render(stamp_s), number, round(stamp_s * 1e9), TimestampSource.SIMULATED)
                )  # fmt: skip
        try:
            found = motion.estimate()
        except BadInputError as error:
            print(error)
            continue
        print(
            f"| {scene} | {baseline_m:g} | {fps} | {early_ms:+.1f} | {found.offset_ms - early_ms:+.1f}, "
            f"{found.sigma_ms:.1f} | {'yes' if found.sure else 'no'} |",
            flush=True,
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("board", "scene"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rigs", nargs="+", choices=tuple(RIGS), default=list(RIGS), help="for `board`")
    parser.add_argument("--rates", nargs="+", type=float, default=[5.0, 9.0], help="for `board`, pictures a second")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.what == "board":
        measure_board(args.seeds, args.rigs, args.rates)
    else:
        measure_scene(args.seeds)


if __name__ == "__main__":
    main()
