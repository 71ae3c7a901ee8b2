"""How exact a calibration from rendered boards is, against how exact it says that it is.

    python benchmarks/calibration_accuracy.py guided --seeds 6                 # what the guided capture ends with
    python benchmarks/calibration_accuracy.py found --views 12                 # share found, single pictures
    python benchmarks/calibration_accuracy.py single --seeds 5                 # single pictures: 20 and 44 views
    python benchmarks/calibration_accuracy.py single --rigs wide --boards acircles --cache DIR

Two rigs with known truth: `narrow`, two 640x480 cameras with different, distorted lenses, 6 cm apart, exact at 3 m; and
`wide`, that of `calibrate_simulated_rig.py`, 30 cm apart, thermal 320x256, exact at 12 m. Thermal has SNR 10, blur
1.5 px, inverted polarity and uneven heat. Each line: mean and worst over the seeds. The homography is what the pictures
see: thermal points carried over at the working distance, over the common field, in visible pixels. `sigma` is what the
fit's normal equations predict (Cramer-Rao), `2 sigma` the largest over the picture that the report shows and judges.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from calibrate_simulated_rig import true_rig
from guided_operator import capture, numbered_alike, varied_rig

from calibration.board import Board, parse_board
from calibration.detect import Detection
from calibration.extrinsics import rotation_angle_deg
from calibration.render import SyntheticView, random_poses, render_pair, synthetic_rig
from calibration.rig import RigCalibration
from calibration.shared_field import common_field
from calibration.solve import Solution, solve_views
from calibration.views import BoardView, PairDetector
from fusion_core.errors import BadInputError

BOARDS = {
    "narrow": {
        "checkerboard": "checkerboard:10x7:30mm",
        "circles": "circles:8x6:40mm",
        "acircles": "acircles:4x11:30mm",
        "charuco": "charuco:8x6:40mm:30mm",
        "aruco": "aruco:4x3:60mm:15mm:DICT_4X4_50",
    },
    "wide": {
        "checkerboard": "checkerboard:10x7:90mm",
        "circles": "circles:8x6:110mm",
        "acircles": "acircles:4x11:70mm",
        "charuco": "charuco:8x6:120mm:90mm",
        "aruco": "aruco:4x3:180mm:45mm:DICT_4X4_50",
    },
}
DISTANCES = {"narrow": (1.25, 2.6), "wide": (1.3, 3.6)}  # of those at which the board fills the visible picture's width
EMPTY = np.zeros((48, 64), np.uint8)


def detected(view: SyntheticView, board: Board, detector: PairDetector) -> tuple[Detection | None, Detection | None]:
    """Both cameras' boards, numbered alike."""
    seen = detector.look(view.name, view.visible, view.thermal)
    visible, thermal = seen.found_visible, seen.found_thermal
    if visible is not None and visible.ambiguous:  # a person holds the board upright
        numbered = [visible.reordered(order) for order in visible.orders]
        off = [float(np.abs(one.points_px - view.visible_points_px[one.ids]).max()) for one in numbered]
        order = visible.orders[int(np.argmin(off))]
        visible = numbered[int(np.argmin(off))]
        if thermal is not None:  # it was numbered as the visible one is
            thermal = thermal.reordered(order)
    return visible, thermal


def board_views(
    name: str, rig: RigCalibration, board: Board, spec: str, count: int, seed: int, cache: Path | None
) -> list[tuple[BoardView, np.ndarray, np.ndarray]]:
    """Views without their pictures, and the true points of both cameras."""
    views = []
    detector = PairDetector(board)
    for index, pose in enumerate(random_poses(rig, board, count, seed, distances=DISTANCES[name])):
        file = cache / f"{name}-{spec.replace(':', '_')}-{seed}-{index:03d}.npz" if cache is not None else None
        if file is not None and file.is_file():
            data = np.load(file)
            sizes = [(c.height, c.width) for c in (rig.visible, rig.thermal)]
            found = [
                Detection(data[f"px{k}"], data[f"ids{k}"], "cached", "unknown", sizes[k])
                if len(data[f"ids{k}"])
                else None
                for k in (0, 1)
            ]
            truth = data["truth0"], data["truth1"]
        else:
            view = render_pair(rig, pose, board, seed=1000 * seed + index)
            found = list(detected(view, board, detector))
            truth = view.visible_points_px, view.thermal_points_px
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                none = np.empty((0, 2)), np.empty(0, int)
                (a, i), (b, j) = ((f.points_px, f.ids) if f is not None else none for f in found)
                np.savez(file, px0=a, ids0=i, px1=b, ids1=j, truth0=truth[0], truth1=truth[1])
        why = ["" if f is not None else "not found" for f in found]
        views.append((BoardView(f"{index:03d}", EMPTY, EMPTY, found[0], found[1], why[0], why[1]), *truth))
    return views


def homography_px(found: RigCalibration, truth: RigCalibration) -> np.ndarray:
    """(N,) visible pixels: where the found rig puts thermal points at Z0, against where they belong; all over the
    common field, its border pixels included."""
    thermal = common_field(truth, 33)
    distance_m = truth.working_distance_m
    off = found.visible_from_thermal(thermal, distance_m) - truth.visible_from_thermal(thermal, distance_m)
    return np.asarray(np.linalg.norm(off, axis=1))


def point_errors(views: list[tuple[BoardView, np.ndarray, np.ndarray]], side: int) -> str:
    """Share found, rms of a coordinate, px, and of what all points of a view share."""
    offs, shared, found = [], [], 0
    for view, *truth in views:
        detection = (view.found_visible, view.found_thermal)[side]
        if detection is not None:
            off = detection.points_px - truth[side][detection.ids]
            offs.append(off)
            shared.append(off.mean(axis=0))
            found += 1
    if not offs:
        return f"0/{len(views)}"
    every = np.concatenate(offs)
    return f"{found}/{len(views)}, {np.sqrt((every**2).mean()):.3f} ({np.sqrt((np.array(shared) ** 2).mean()):.3f})"


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["guided", "found", "single"])
    parser.add_argument("--rigs", nargs="+", default=["narrow", "wide"], choices=["narrow", "wide"])
    parser.add_argument("--boards", nargs="+", default=list(BOARDS["narrow"]))
    parser.add_argument("--views", nargs="+", type=int, default=[20, 44], help="single: how many")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--bootstrap", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="single: folder for found points, to solve again without rendering")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.mode != "found":
        print("| rig, board, views | homography px: mean, worst / max, worst | rotation deg: mean, worst | its sigma "
          "| 2 sigma px: mean, worst | held out 95 % thermal px | baseline off, mm | good |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in args.rigs:
        for kind in args.boards:
            if kind in BOARDS[name]:
                {"guided": _guided, "found": _found, "single": _single}[args.mode](name, BOARDS[name][kind], args)


def _true_rig(name: str) -> RigCalibration:
    return true_rig() if name == "wide" else synthetic_rig()


def _found(name: str, spec: str, args: argparse.Namespace) -> None:
    """Share found of single pictures at random poses, a rig of its own for each seed, and how many numbered wrongly."""
    board = parse_board(spec)
    shown = wrong = 0
    found = [0, 0]
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        truth, detector = varied_rig(_true_rig(name), seed), PairDetector(board)
        for index, pose in enumerate(random_poses(truth, board, args.views[0], seed, distances=DISTANCES[name])):
            view = render_pair(truth, pose, board, seed=1000 * seed + index)
            seen = detector.look(view.name, view.visible, view.thermal)
            shown += 1
            found[0] += seen.found_visible is not None
            found[1] += seen.found_thermal is not None
            if seen.found_visible is not None and seen.found_thermal is not None:
                wrong += not numbered_alike(seen, view, board)
    print(
        f"{name}, {spec}: of {shown} pictures visible {found[0]}, thermal {found[1]}; misnumbered {wrong}", flush=True
    )


def _single(name: str, spec: str, args: argparse.Namespace) -> None:
    truth, board = _true_rig(name), parse_board(spec)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    sets = [board_views(name, truth, board, spec, max(args.views), seed, args.cache) for seed in seeds]
    for count in args.views:
        solutions: list[tuple[Solution, RigCalibration]] = []
        failed: list[str] = []
        for views in sets:
            seen = [view for view, *_ in views[:count]]
            try:
                solved = solve_views(seen, board, working_distance_m=truth.working_distance_m, bootstrap=args.bootstrap)
                solutions.append((solved, truth))
            except BadInputError as error:
                failed.append(str(error))
        print(_row(f"{name}, {spec}, {count}", solutions, failed), flush=True)
    every = [view for views in sets for view in views]
    print(f"    found, rms px (shared by a view): visible {point_errors(every, 0)}, thermal {point_errors(every, 1)}",
          flush=True)  # fmt: skip


def _guided(name: str, spec: str, args: argparse.Namespace) -> None:
    """A rig of its own for each seed; the guide decides the end."""
    board = parse_board(spec)
    solutions: list[tuple[Solution, RigCalibration]] = []
    counts: list[int] = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        truth = varied_rig(_true_rig(name), seed)
        captured = capture(truth, board, seed, DISTANCES[name])
        solved = solve_views(
            captured.views, board, working_distance_m=truth.working_distance_m, bootstrap=args.bootstrap
        )
        solutions.append((solved, truth))
        counts.append(len(captured.views))
        off = homography_px(solved.rig, truth)
        turned = rotation_angle_deg(solved.rig.R_visible_thermal, truth.R_visible_thermal)
        reached = solved.reached_aim
        failed = "good" if solved.good else str([gate.name for gate in solved.gates if not gate.passed])
        print(
            f"    seed {seed}: {len(captured.views)} views of {captured.shown} poses, {captured.pictures} pictures; "
            f"rotation {turned:.3f} (2 sigma {reached.rotation_deg:.3f}), homography mean {off.mean():.2f} max "
            f"{off.max():.2f} (2 sigma {reached.homography_px:.2f}); misnumbered {captured.misnumbered}; "
            f"found in thermal {captured.found[1]:.0%}; {failed}{'; ' * bool(captured.lacking)}{captured.lacking}",
            flush=True,
        )
    print(_row(f"{name}, {spec}, {min(counts)} to {max(counts)}", solutions, []), flush=True)


def _row(label: str, pairs: list[tuple[Solution, RigCalibration]], failed: list[str]) -> str:
    if not pairs:
        return f"| {label} | failed: {failed[0]} |"
    solutions = [solution for solution, _ in pairs]
    off = [homography_px(s.rig, truth) for s, truth in pairs]
    means, tops = [float(o.mean()) for o in off], [float(o.max()) for o in off]
    turned = [rotation_angle_deg(s.rig.R_visible_thermal, truth.R_visible_thermal) for s, truth in pairs]
    sigma = [s.bundle.rotation_sigma_deg for s in solutions]
    two = [s.max_two_sigma_px for s in solutions]
    p95 = [s.held_out_p95_px for s in solutions]
    base = [1e3 * abs(s.rig.baseline_m - truth.baseline_m) for s, truth in pairs]
    good = sum(s.good for s in solutions)
    bad = "; ".join(sorted({gate.name for s in solutions for gate in s.gates if not gate.passed}))
    return (
        f"| {label} | {np.mean(means):.2f}, {max(means):.2f} / {np.mean(tops):.2f}, {max(tops):.2f} "
        f"| {np.mean(turned):.3f}, {max(turned):.3f} | {np.mean(sigma):.3f} | {np.mean(two):.2f}, {max(two):.2f} "
        f"| {np.mean(p95):.2f} | {np.mean(base):.1f} | {good} of {len(solutions)}{f' ({bad})' if bad else ''} |"
        + (f" failed {len(failed)}: {failed[0]}" if failed else "")
    )


if __name__ == "__main__":
    main()
