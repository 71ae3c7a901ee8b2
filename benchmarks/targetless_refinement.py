"""Targetless refinement on real footage, against a known error where the footage is registered.

    python benchmarks/targetless_refinement.py [--videos DIR] [--pictures DIR]

Clips that are registered: thermal is moved by a known affine or projective map, `refine_alignment` is run with each
model, and what is left is measured against that map over the inner nine tenths of the picture (what the clip itself
is off by counts against it). One that is not registered: by the measure itself. Clips paired with another's thermal
have nothing in common, and must be refused. --pictures: fused before and after, side by side.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np

from app.commands.calibrate.sources import open_pairs
from calibration.align import ThermalAligner
from calibration.rig import apply_homography, plain_scaling
from calibration.targetless import Model, refine_alignment
from fusion_core.engines.pyramid_engine import LaplacianPyramidEngine
from fusion_core.errors import BadInputError

VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "video"
MODELS: tuple[Model, ...] = ("shift", "affine", "homography")
Pair = tuple[np.ndarray, np.ndarray]


def read_clip(visible: Path, thermal: Path, every: int, most: int) -> list[Pair]:
    """Every n-th pair of a clip, at most so many."""
    stream = open_pairs(visible, thermal, every)
    return [(pair.visible, pair.thermal) for pair in itertools.islice(stream.pairs, most)]


def known_errors(height: int, width: int) -> dict[str, np.ndarray]:
    """Maps that thermal is moved by: some ten pixels at the corners."""
    centre = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
    angle, scale = np.radians(0.8), 1.012
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turned = np.array([[c, -s, 7.0], [s, c, -5.0], [0, 0, 1.0]])
    tilted = np.array([[1.0, 0, 6.0], [0, 1, 4.0], [3e-5, -2e-5, 1.0]])
    return {name: centre @ M @ np.linalg.inv(centre) for name, M in (("affine", turned), ("projective", tilted))}


def left_px(correction: np.ndarray, moved_by: np.ndarray, height: int, width: int) -> np.ndarray:
    """Displacement that is left, px, over the inner nine tenths of the picture."""
    y, x = np.mgrid[0.05:0.95:19j, 0.05:0.95:25j]
    points = np.stack([x.ravel() * width, y.ravel() * height], axis=-1)
    return np.asarray(np.linalg.norm(apply_homography(correction @ moved_by, points) - points, axis=1))


def against_truth(name: str, pairs: list[Pair], out: Path | None) -> None:
    """Known maps by each model."""
    height, width = pairs[0][0].shape[:2]
    for kind, M in known_errors(height, width).items():
        moved = [(v, cv2.warpPerspective(t, M, (width, height), borderMode=cv2.BORDER_REFLECT)) for v, t in pairs]
        before = left_px(np.eye(3), M, height, width)
        cells = [f"{np.median(before):.1f} / {np.percentile(before, 95):.1f}"]
        for model in MODELS:
            try:
                found = refine_alignment(plain_scaling((height, width), (height, width)), moved, model)
            except BadInputError as error:
                cells.append(f"refused ({str(error)[:40]}...)")
                continue
            after = left_px(found.calibration.correction_visible, M, height, width)
            note = " refused" if found.problem else ""
            cells.append(f"{np.median(after):.2f} / {np.percentile(after, 95):.2f}{note}")
            if out is not None and model == "affine" and kind == "affine":
                before_after(out / f"{name}_{kind}.png", moved, found.calibration.correction_visible)
        print(f"| {name} | {kind} | {' | '.join(cells)} |", flush=True)


def by_measure(name: str, pairs: list[Pair], out: Path | None) -> None:
    """What the estimate says, where there is no truth."""
    size = (pairs[0][0].shape[0], pairs[0][0].shape[1])
    thermal_size = (pairs[0][1].shape[0], pairs[0][1].shape[1])
    for model in MODELS:
        try:
            found = refine_alignment(plain_scaling(size, thermal_size), pairs, model)
        except BadInputError as error:
            print(f"{name}, {model}: refused: {error}", flush=True)
            continue
        kept = found.held_out_px
        held = "none kept back" if kept is None else f"kept back {kept[0]:.1f} -> {kept[1]:.1f}"
        verdict = f"refused: {found.problem}" if found.problem else "holds"
        x, y = found.after.median_px
        print(
            f"{name}, {model}: {found.before.magnitude_px:.1f} -> {found.after.magnitude_px:.1f} px "
            f"(x {x:+.1f}, y {y:+.1f}), parts agree to {found.spread_px:.1f} px, {held}: {verdict}",
            flush=True,
        )
        if out is not None and not found.problem:
            before_after(out / f"{name}_{model}.png", pairs, found.calibration.correction_visible)


def before_after(path: Path, pairs: list[Pair], correction: np.ndarray) -> None:
    """The middle pair fused before and after, side by side."""
    visible, thermal = pairs[len(pairs) // 2]
    plain = plain_scaling((visible.shape[0], visible.shape[1]), (thermal.shape[0], thermal.shape[1]))
    engine = LaplacianPyramidEngine()
    halves = []
    for calibration in (plain, plain.with_correction(correction)):
        aligner = ThermalAligner(calibration)
        fused = engine.fuse(visible, aligner.to_visible(thermal))
        halves.append(np.where(aligner.mask[..., None], fused, visible))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.hstack(halves)[..., ::-1])


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=VIDEOS)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    names = sorted(path.name.removesuffix("_vi.mp4") for path in options.videos.glob("*_vi.mp4"))
    clips = {}
    for name in names:
        every = 3 if name.startswith("vtuav") else 1
        files = (options.videos / f"{name}_vi.mp4", options.videos / f"{name}_ir.mp4")
        clips[name] = read_clip(*files, every, 40)
    registered = [name for name in names if name.startswith("m3svd")]
    print("| clip | thermal moved by | before, median / 95 % px | shift | affine | homography |")
    print("|---|---|---|---|---|---|")
    for name in registered:
        against_truth(name, clips[name], options.pictures)
    print("\nas they are:")
    for name in names:
        by_measure(name, clips[name], options.pictures if name not in registered else None)
    print("\nvisible of one, thermal of another:")
    for first, second in zip(registered, registered[1:] + registered[:1], strict=True):
        mixed = [(v, t) for (v, _), (_, t) in zip(clips[first], clips[second], strict=False)]
        by_measure(f"{first} with {second}", mixed, None)


if __name__ == "__main__":
    main()
