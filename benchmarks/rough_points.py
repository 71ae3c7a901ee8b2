"""Maps of roughly picked points against plain least squares: noise, gross errors, points nearly on a line.

    python benchmarks/rough_points.py [--seeds 200]

Five pairs of picture sizes in turn; true maps of a rig (scale, turn up to 4 degrees, aspect within 3 %, some tilt);
picks with 2 to 8 px of noise at 1280 px across (1 sigma a coordinate), gross errors of 40 to 200 px. What is compared
is the median error over the inner eighty per cent of the thermal picture (of points near a line: along it), in visible
pixels at 1280 across. Four minutes of processor time.
"""

from __future__ import annotations

import argparse

import numpy as np

from calibration.homography import solve_points
from calibration.rig import apply_homography
from fusion_core.errors import BadInputError

SIZES = (
    ((1280, 720), (640, 512)), ((640, 480), (160, 120)), ((1920, 1080), (160, 120)), ((640, 480), (640, 480)),
    ((720, 1280), (320, 256)),
)  # fmt: skip
COUNTS = (4, 5, 6, 7, 8, 10, 12)


def true_map(rng: np.random.Generator, visible: tuple[int, int], thermal: tuple[int, int]) -> np.ndarray:
    """(3, 3) from thermal to visible pixels; sizes are (width, height)."""
    scale, turn = rng.uniform(0.5, 1.1) * visible[0] / thermal[0], np.radians(rng.uniform(-4, 4))
    A = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * [1, rng.uniform(0.97, 1.03)]
    H, tilt, middle = np.eye(3), np.eye(3), np.eye(3)
    H[:2, :2] = A
    H[:2, 2] = np.array(visible) / 2 + rng.uniform(-0.05, 0.05, 2) * visible[0] - A @ (np.array(thermal) / 2)
    tilt[2, :2] = rng.uniform(-0.06, 0.06, 2) / visible[0]
    middle[:2, 2] = -np.array(visible) / 2
    return np.asarray(np.linalg.inv(middle) @ tilt @ middle @ H)


def least_squares(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """The affine map (3, 3) of all points."""
    one = np.column_stack([thermal, np.ones(len(thermal))])
    return np.vstack([np.linalg.lstsq(one, visible, rcond=None)[0].T, [0, 0, 1]])


def row(count: int, wrong: int, line: bool, seeds: int) -> str:
    """One line of the table."""
    ours, plain, refused, named, models = [], [], 0, 0, dict.fromkeys(("similarity", "affine", "homography"), 0)
    for seed in range(seeds):
        rng = np.random.default_rng([seed, count, wrong, line])
        size, small = SIZES[seed % len(SIZES)]
        H, unit = true_map(rng, size, small), size[0] / 1280
        along = rng.uniform(0.08, 0.92, count)
        share = rng.uniform(0.08, 0.92, (count, 2))
        if line:
            share = np.column_stack([along, 0.4 + 0.2 * along + rng.uniform(-0.03, 0.03, count)])
        thermal = share * small
        visible = apply_homography(H, thermal) + rng.normal(0, rng.uniform(2, 8) * unit, (count, 2))
        turn = rng.uniform(0, 2 * np.pi, wrong)
        visible[:wrong] += rng.uniform(40, 200, (wrong, 1)) * unit * np.column_stack([np.cos(turn), np.sin(turn)])
        y, x = np.mgrid[0.1:0.9:7j, 0.1:0.9:7j]
        places = np.column_stack([x.ravel(), 0.4 + 0.2 * x.ravel() if line else y.ravel()]) * small
        try:
            found = solve_points(visible, thermal, width_px=size[0])
        except BadInputError:
            refused += 1
            continue
        models[found.model] += 1
        named += int((found.far | ~found.inlier)[:wrong].sum())
        for errors, of in ((ours, found.H_visible_thermal), (plain, least_squares(visible, thermal))):
            off = apply_homography(of, places) - apply_homography(H, places)
            errors.append(float(np.median(np.linalg.norm(off, axis=1))) / unit)
    told = f"{named} of {wrong * (seeds - refused)}" if wrong else "-"
    cells = [f"{np.median(e):.1f} / {np.percentile(e, 95):.1f} / {max(e):.0f}" for e in (ours, plain)]
    kinds = ", ".join(f"{n} {kind}" for kind, n in models.items() if n)
    lie = "line" if line else "spread"
    return f"| {count} | {wrong} | {lie} | {cells[0]} | {cells[1]} | {told} | {refused} | {kinds} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    seeds = parser.parse_args().seeds
    print(
        "| points | wrong | lie | ours: median / 95 % / worst px | least squares | wrong ones named | refused | maps |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for line in (False, True):
        for wrong in (0, 1, 2):
            for count in COUNTS:
                if wrong < count - 2:
                    print(row(count, wrong, line, seeds), flush=True)


if __name__ == "__main__":
    main()
