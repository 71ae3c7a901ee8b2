"""Counts boards found by kind: as they are filmed, spoilt and hostile; and in real views where those are at hand.

    python benchmarks/boards_found.py filmed --views 8       # large, touching, barrel, saturated, weak
    python benchmarks/boards_found.py hostile --views 8      # half hidden, two boards, moved, ...
    python benchmarks/boards_found.py real                   # ../shared, where it is

Each picture is rendered with known truth. `right` lies within a tenth of the board's step everywhere, under a numbering
that the picture allows; `wrong` is any other answer; the rest was refused. It runs on older states of the detector too:
`PYTHONPATH=OLD python benchmarks/boards_found.py filmed`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from calibration.board import ArucoGrid, Board, parse_board
from calibration.detect import Detection, detect_board, to_grey
from calibration.render import RenderOptions, random_poses, render_pair, synthetic_rig
from calibration.rig import RigCalibration
from calibration.views import detect_views
from fusion_core.errors import BadInputError
from fusion_core.pair_folder import read_thermal, read_visible

SHARED = Path(__file__).resolve().parents[2] / "shared"
BOARDS = {
    "checkerboard": "checkerboard:10x7:30mm",
    "charuco": "charuco:8x6:40mm:30mm",
    "circles": "circles:6x4:100mm:60mm",
    "acircles": "acircles:4x11:30mm",
    "aruco": "aruco:4x3:60mm:15mm",
}
RIGHT = 0.1  # of the step between points
Picture = tuple[np.ndarray, np.ndarray]  # the picture, and the (N, 2) px that its board's points have


def filmed(kind: str, name: str, seed: int) -> dict[str, Picture] | None:
    """Both cameras' pictures of a board as it is filmed; None where it lies partly outside.

    kind: plain; large: fills the picture; touching: discs of 0.9 of their distance, blurred and clipped; barrel: wide
    lenses that bend; saturated: clipped at both ends; weak: black and white differ by 4 counts of 8 bit, SNR 6.
    """
    rig, options, distances, spec = synthetic_rig(), RenderOptions(), (1.25, 2.4), BOARDS[name]
    if kind == "large":
        rig, distances = synthetic_rig((1080, 1440), (1024, 1280), thermal_hfov_deg=62.0), (1.15, 1.5)
    elif kind == "touching":
        options = RenderOptions(thermal_blur_px=3.0, thermal_gradient=0.15, visible_blur_px=3.0)
        spec, distances = "circles:6x4:100mm:90mm", (1.8, 3.0)
    elif kind == "barrel":
        rig, distances = barrelled(rig), (1.25, 1.7)
    elif kind == "saturated":
        options = RenderOptions(thermal_gradient=0.5)
    elif kind == "weak":
        options = RenderOptions(thermal_snr=6, thermal_contrast_counts=24)
    board = parse_board(spec)
    poses = random_poses(rig, board, 1, seed=seed, distances=distances)
    if not poses:
        return None
    view = render_pair(rig, poses[0], board, seed=seed, options=options)
    pictures = {
        "visible": (view.visible, view.visible_points_px),
        "thermal": (view.thermal, view.thermal_points_px),
    }
    if any(at.min() < 8 or (at > np.array(shot.shape[1::-1]) - 9).any() for shot, at in pictures.values()):
        return None
    thermal, visible = view.thermal.astype(np.float32), view.visible.astype(np.float32)
    if kind == "touching":
        thermal, visible = (thermal - 9030.0) / 60 * 255, (visible - 110) * 4
    elif kind == "saturated":
        thermal, visible = (thermal - 9030.0) / 80 * 255, (visible - 90) * 4
    elif kind == "weak":
        thermal, visible = (thermal - thermal.mean()) / 6 + 120, visible * 0.12 + 100
    else:
        return pictures
    return {
        "visible": (clipped(visible), view.visible_points_px),
        "thermal": (clipped(thermal), view.thermal_points_px),
    }


def barrelled(rig: RigCalibration) -> RigCalibration:
    """Both cameras with wide lenses that bend."""
    visible, thermal = (
        replace(c, fx_px=c.fx_px * 0.55, fy_px=c.fy_px * 0.55, distortion=(-0.28, 0.07, 0.0, 0.0, -0.006))
        for c in (rig.visible, rig.thermal)
    )
    return replace(rig, visible=visible, thermal=thermal)


def clipped(picture: np.ndarray) -> np.ndarray:
    """As 8 bit."""
    return np.clip(picture, 0, 255).astype(np.uint8)


def spoil(kind: str, picture: np.ndarray, at: np.ndarray, other: Picture, seed: int) -> Picture:
    """The hostile form of a picture of a board, and where its points are then."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    values = picture.astype(np.float32)
    last = np.array([width - 1.0, height - 1.0])
    low, high = (float(value) for value in np.percentile(values, (2, 98)))
    if kind == "upside down":
        return np.ascontiguousarray(picture[::-1, ::-1]), last - at
    if kind == "a quarter turn":
        return np.ascontiguousarray(np.rot90(picture)), np.stack([at[:, 1], last[0] - at[:, 0]], axis=-1)
    if kind == "half hidden":  # a hand or a post in front
        middle = at.mean(axis=0)
        away = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:height, :width]
        hidden = (x - middle[0]) * np.cos(away) + (y - middle[1]) * np.sin(away) > 0
        values[hidden] = low + 0.6 * (high - low)
    elif kind in ("moved 5 px", "moved 10 px"):
        length = int(kind.split()[1])
        kernel = np.zeros((length, length), np.float32)
        turn = rng.uniform(0, np.pi)
        ends = [tuple(np.rint(length // 2 + s * (length // 2) * np.array([np.cos(turn), np.sin(turn)])).astype(int))
                for s in (-1, 1)]  # fmt: skip
        cv2.line(kernel, [int(v) for v in ends[0]], [int(v) for v in ends[1]], 1.0)
        values = cv2.filter2D(values, -1, kernel / kernel.sum())
    elif kind == "rolling shutter":  # the camera swings: rows lie aside by up to 6 % of the height
        slope = float(rng.choice([-1, 1])) * 0.06
        A = np.array([[1, slope, -slope * height / 2], [0, 1, 0]])
        moved = cv2.warpAffine(values, A, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return moved.astype(picture.dtype), at @ A[:, :2].T + A[:, 2]
    elif kind == "vignetting":
        y, x = np.mgrid[:height, :width]
        fall = 1 - 0.85 * ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
        fall = fall[..., None] if values.ndim == 3 else fall
        values = values * fall if picture.dtype == np.uint8 else values - (1 - fall) * 4 * (high - low)
    elif kind == "reflection":  # a glare that clips, and the board's own ghost in a pane
        ghost = np.roll(values, (int(0.06 * height), int(0.07 * width)), (0, 1))
        values = 0.75 * values + 0.25 * ghost
        spot = np.zeros((height, width), np.float32)
        centre = at[int(rng.integers(len(at)))]
        glare = ([float(v) for v in centre], (0.10 * width, 0.05 * width), float(rng.uniform(0, 180)))
        cv2.ellipse(spot, glare, 1.0, -1)
        spot = cv2.GaussianBlur(spot, (0, 0), 0.012 * width) * 0.8 * (high - low)
        values += spot[..., None] if values.ndim == 3 else spot
        values = np.minimum(values, high)
    elif kind == "two boards":  # the second, smaller one in a corner
        second, size = other[0].astype(np.float32), 0.45
        small = cv2.resize(second, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
        corners = [(y, x) for y in (0, height - small.shape[0]) for x in (0, width - small.shape[1])]
        half = np.array(small.shape[1::-1]) / 2
        room = [np.abs(at - (np.array([x, y]) + half)).sum(axis=1).min() for y, x in corners]
        y, x = corners[int(np.argmax(room))]
        values[y : y + small.shape[0], x : x + small.shape[1]] = small
        return clipped_as(values, picture), np.stack([at, (other[1] + 0.5) * size - 0.5 + [x, y]])
    return clipped_as(values, picture), at


def clipped_as(values: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Back to the picture's type, within its range."""
    return np.clip(values, 0, np.iinfo(picture.dtype).max).astype(picture.dtype)


def verdict(picture: np.ndarray, board: Board, truth: np.ndarray) -> str:
    """right, wrong, or refused. truth: (N, 2), or (M, N, 2) where any of M boards may be found."""
    try:
        found: Detection = detect_board(picture, board)
    except BadInputError:
        return "refused"
    for at in truth.reshape(-1, *truth.shape[-2:]):
        step = np.median([np.sort(np.linalg.norm(at - p, axis=1))[1] for p in at])
        numbered = [found.reordered(order) for order in found.orders] or [found]
        off = min(float(np.linalg.norm(one.points_px - at[one.ids], axis=1).max()) for one in numbered)
        if off < RIGHT * step:
            return "right"
    return "wrong"


FILMED = ("plain", "large", "touching", "barrel", "saturated", "weak")
HOSTILE = ("upside down", "a quarter turn", "half hidden", "moved 5 px", "moved 10 px", "rolling shutter", "vignetting",
           "reflection", "two boards")  # fmt: skip


def count(title: str, name: str, make: Callable[[int], dict[str, Picture] | None], board: Board, views: int) -> None:
    """Print a row of the table."""
    tally = {camera: {"right": 0, "wrong": 0, "refused": 0} for camera in ("visible", "thermal")}
    seed, done, began = 300, 0, time.process_time()
    while done < views and seed < 300 + 8 * views:
        shots = make(seed)
        seed += 1
        if shots is None:
            continue
        done += 1
        for camera, (picture, truth) in shots.items():
            answer = verdict(picture, board, truth)
            tally[camera][answer] += 1
    cells = " | ".join(
        f"{t['right']} of {done}" + (f", {t['wrong']} wrong" if t["wrong"] else "") for t in tally.values()
    )
    print(f"| {name} | {title} | {cells} | {time.process_time() - began:.0f} |", flush=True)


def hostile(kind: str, name: str, seed: int) -> dict[str, Picture] | None:
    """Both cameras' pictures of a board, spoilt."""
    shots = filmed("plain", name, seed)
    others = filmed("plain", name, seed + 5000) if kind == "two boards" else shots
    if shots is None or others is None:
        return None
    return {camera: spoil(kind, *shots[camera], others[camera], seed) for camera in shots}


def real() -> None:
    """Count what is found in the shared views, pair by pair: a camera may be told by the other where to look."""
    grid = ArucoGrid(columns=3, rows=4, marker_m=0.06, gap_m=0.023, dictionary="DICT_ARUCO_ORIGINAL",
                     ids=tuple(range(1, 13)))  # fmt: skip
    sets: list[tuple[str, str, str, Board]] = [
        ("chessboard_4cam", "rgb_a", "thermal_a16", parse_board(BOARDS["checkerboard"])),
        ("chessboard_4cam", "rgb_b", "thermal_b16", parse_board(BOARDS["checkerboard"])),
        ("aruco_grid", "vi", "ir", grid),
    ]
    for folder, visible, thermal, board in sets:
        place = SHARED / "data/calibration" / folder
        names = sorted(file.name for file in (place / visible).glob("*.png") if (place / thermal / file.name).exists())
        if not names:
            print(f"left out: {folder}/{visible} is not here")
            continue
        read = read_visible if thermal == "ir" else read_thermal  # coloured by a palette: its brightness
        pairs = ((n, read_visible(place / visible / n), to_grey(read(place / thermal / n))) for n in names)
        views = detect_views(pairs, board)
        shares = [
            f"{sum(found is not None for found in side)} of {len(views)}"
            for side in ([v.found_visible for v in views], [v.found_thermal for v in views])
        ]
        print(f"| {folder} | {visible} {shares[0]} | {thermal} {shares[1]} |", flush=True)
    for pattern, spec in (("*circles4x3*", "circles:4x3:100mm:65mm"), ("*circles6x4*", "circles:6x4:100mm:90mm")):
        files = sorted((SHARED / "field_calibration").glob(pattern))
        if not files:
            print(f"left out: field_calibration/{pattern} is not here")
        for file in files:
            board = parse_board(spec)
            print(f"| {file.name} | {points_found(file, board)} of {len(board.object_points())} discs |", flush=True)


def points_found(file: Path, board: Board) -> int:
    """How many of the board's points are found in that picture."""
    picture = read_thermal(file) if file.name.startswith("thermal") else read_visible(file)
    try:
        return len(detect_board(picture, board).ids)
    except BadInputError:
        return 0


def main() -> None:
    """Read the command line, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["filmed", "hostile", "real"])
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--boards", nargs="+", default=list(BOARDS), choices=list(BOARDS))
    parser.add_argument("--kinds", nargs="+", default=None)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.mode == "real":
        real()
        return
    print("| board | kind | visible | thermal | s |\n|---|---|---|---|---|")
    for name in args.boards:
        for kind in args.kinds or (FILMED if args.mode == "filmed" else HOSTILE):
            if kind == "touching" and name != "circles":
                continue
            spec = "circles:6x4:100mm:90mm" if kind == "touching" else BOARDS[name]
            make = filmed if args.mode == "filmed" else hostile
            count(kind, name, lambda seed, m=make, k=kind, n=name: m(k, n, seed), parse_board(spec), args.views)


if __name__ == "__main__":
    main()
