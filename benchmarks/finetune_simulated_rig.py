"""From footage of a simulated rig to a model tuned to it, against what is really there.

    python benchmarks/finetune_simulated_rig.py film DIR           # sessions as recordings: DIR/train, DIR/held-out
    python benchmarks/finetune_simulated_rig.py residual DIR SET   # builds the set SET; residual of its pairs
    lumitherm train --from tiny --data SET --name rig
    python benchmarks/finetune_simulated_rig.py compare tiny rig   # on sessions that are in no set

The thermal camera is unlike those of the public training pairs: 160x120 pixels beside a visible picture of 640x480,
24 counts a kelvin, noise of 0.1 K, a fixed pattern, and blur. `residual` is `lumitherm dataset build` with
its own estimate of each pair's displacement held against the simulation's. `compare` fuses what the rig would give
live (parallax and 0.2 deg of roll are left by the calibration) with a known displacement on top, and measures the
displacement estimate and the fused picture against the scene as a thermal camera without noise, standing at the
visible camera's place, would see it.
"""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from app.dataset.builder import BuildSettings, PairRecord, build_dataset
from app.dataset.report import write_dataset_report
from app.dataset.sources import RecordingSource
from app.media.pictures import write_picture
from app.recording.config import RecordingConfig
from app.recording.writing.recorder import Recorder
from fusion_core.checkpoint import load_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.measures.ghost import gradient_shares
from fusion_core.measures.metrics import MetricReference
from fusion_core.model_store import resolve_weights
from fusion_core.shift import translate
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import to_grid
from fusion_core.training.random_displacement import move_by
from fusion_core.training.registration import gradient_plane

CAMERA = {
    "thermal_height": 120, "thermal_width": 160, "thermal_gain": 24.0, "thermal_noise_counts": 2.5,
    "fixed_pattern_counts": 2.0, "thermal_blur_px": 0.8,
}  # fmt: skip
CAMERAS = {
    "quarter": CAMERA,
    "half": CAMERA | {"thermal_height": 240, "thermal_width": 320, "thermal_blur_px": 1.0},
    "fine": CAMERA | {"thermal_height": 480, "thermal_width": 640, "thermal_blur_px": 0.7,
                      "thermal_noise_counts": 4.0, "fixed_pattern_counts": 3.0},
}  # fmt: skip
MOUNTING = {"residual_rotation_deg": 0.2, "pan_deg_per_s": 6.0}
FRAMES, INTERVAL_S = 14, 1.2
SESSIONS = {
    "train": {101: {}, 102: {"scene": "yard"}, 103: {"night": 0.5}, 104: {"scene": "yard", "night": 0.4},
              105: {}, 106: {"scene": "yard"}, 107: {"night": 0.3}, 108: {"scene": "yard"},
              109: {}, 110: {"scene": "yard", "night": 0.6}},
    "held-out": {201: {}, 202: {"scene": "yard"}, 203: {"night": 0.4}},
    "unseen": {301: {}, 302: {"scene": "yard"}, 303: {"night": 0.4}, 304: {"scene": "yard", "night": 0.3}},
}  # fmt: skip
OTHER_SESSIONS = {
    "train": {611: {}, 612: {"scene": "yard"}, 613: {"night": 0.5}, 614: {"scene": "yard", "night": 0.6}},
    "held-out": {615: {}, 616: {"scene": "yard"}},
}  # fmt: skip
STRUCTURE = 0.5
SHIFTS_PX = (0.0, 3.0, 5.0, 8.0)
SIGNS = ((1, 1), (-1, 1), (1, -1), (-1, -1))


def rig_of(part: str, seed: int) -> SimulatedRig:
    """The rig of one session: same cameras, another place and day."""
    values = CAMERA | MOUNTING | SESSIONS[part][seed] | {"seed": seed}
    return SimulatedRig(SimulatedRigConfig.model_validate(values))


def film(folder: Path) -> None:
    """Record the sessions with raw tracks, without waiting for the clock."""
    for part in ("train", "held-out"):
        for seed in SESSIONS[part]:
            rig = rig_of(part, seed)
            recorder = Recorder(RecordingConfig(directory=folder / part, prefix=f"s{seed}", reserve_mb=1))
            recorder.start()
            for index in range(FRAMES):
                time_s = index * INTERVAL_S
                stamp_ns = 1_000_000_000 + round(time_s * 1e9)
                visible = rig.visible(time_s)
                pair = FramePair(
                    Frame(Stream.VISIBLE, visible, index, stamp_ns, TimestampSource.SIMULATED),
                    Frame(Stream.THERMAL, rig.thermal(time_s), index, stamp_ns, TimestampSource.SIMULATED),
                )
                while recorder.status.queue_depth >= 8:
                    threading.Event().wait(0.005)
                for picture in (pair.visible, pair.thermal):
                    recorder.offer(picture)
                recorder.offer(FusedFrame(visible.copy(), pair, 1.0, "none", fused_ns=stamp_ns))
            summary = recorder.stop(60.0)
            recorder.close()
            print(f"{part}: {', '.join(segment.path.name for segment in summary.segments)}", flush=True)


def residual(folder: Path, output: Path) -> None:
    """Build the set, and hold what was undone in each kept pair against the truth."""
    sources, seeds, held = [], {}, []
    for part in ("train", "held-out"):
        for path in sorted((folder / part).glob("*.mkv")):
            source = RecordingSource(path)
            sources.append(source)
            seeds[source.session] = (part, int(source.session[1:4]))
            held += [source.session] if part == "held-out" else []
    rigs: dict[str, SimulatedRig] = {}
    before: list[np.ndarray] = []
    after: list[np.ndarray] = []
    of_pairs: list[dict[str, float]] = []

    def keep(record: PairRecord, field_px: np.ndarray) -> None:
        if record.session not in rigs:
            rigs.clear()
            rigs[record.session] = rig_of(*seeds[record.session])
        rig, time_s = rigs[record.session], record.index * INTERVAL_S
        top, left, height, width = record.crop
        window = (slice(top, top + height), slice(left, left + width))
        truth = rig.truth(time_s)
        thermal = to_grid(Agc().apply(truth.thermal_aligned), *truth.visible_clean.shape[:2])
        planes = [gradient_plane(picture)[window] for picture in (luminance(truth.visible_clean), thermal)]
        seen = (planes[0] > STRUCTURE) & (planes[1] > STRUCTURE)
        there = truth.displacement_px[window]
        off = np.linalg.norm(field_px - there, axis=-1)[seen]
        after.append(off)
        before.append(np.linalg.norm(there, axis=-1)[seen])
        measured = {"median": record.residual_median_px, "p95": record.residual_p95_px, "corr": record.correlation}
        truth_px = {"true median": float(np.median(off)), "true p95": float(np.percentile(off, 95))}
        of_pairs.append({**measured, **truth_px, "size": float(height * width)})

    summary = build_dataset(sources, output, BuildSettings(), validation_sessions=held, on_field=keep)
    write_dataset_report(summary, output / "report.html")
    print(f"{summary.count('training')} pairs to train on, {summary.count('validation')} held out, "
          f"{len(summary.rejected)} rejected")  # fmt: skip
    for name, values in (("before", np.concatenate(before)), ("after", np.concatenate(after))):
        print(f"{name}: median {np.median(values):.2f} px, 95 % {np.percentile(values, 95):.2f} px")
    medians, tails = (np.array([pair[key] for pair in of_pairs]) for key in ("true median", "true p95"))
    expected = np.mean([record.expected_p95_px for record in summary.kept])
    measured = np.median([record.residual_median_px for record in summary.kept])
    print(f"measured: median {measured:.2f} px; expected at 95 %: {expected:.2f} px")
    print(f"of single pairs: largest median {medians.max():.2f} px; 95 % above 1.5 px in {np.mean(tails > 1.5):.0%}")
    (output / "truth.json").write_text(json.dumps(of_pairs, indent=1))


def compare(models: list[str], frames: int, pictures: Path | None) -> None:
    """Models on sessions that are in no set."""
    loaded = {name: load_checkpoint(resolve_weights(name)) for name in models}
    values: dict[tuple[str, float], list[dict[str, float]]] = {}
    for part, seed in (("unseen", seed) for seed in SESSIONS["unseen"]):
        rig = rig_of(part, seed)
        for number in range(frames):
            time_s = 1.0 + 3.0 * number
            visible, truth = rig.visible(time_s), rig.truth(time_s)
            size = visible.shape[:2]
            given = to_grid(Agc().apply(rig.thermal(time_s)), *size)
            aligned = to_grid(Agc().apply(truth.thermal_aligned), *size)
            planes = [gradient_plane(picture) for picture in (luminance(truth.visible_clean), aligned)]
            seen = (planes[0] > STRUCTURE) & (planes[1] > STRUCTURE)
            for shift_px in SHIFTS_PX:
                sign = np.array(SIGNS[number % 4]) * shift_px
                moved = translate(given, float(sign[0]), float(sign[1]))
                there = truth.displacement_px + sign.astype(np.float32)
                misplaced = move_by(aligned, there)  # without the noise, which would count as edges of the given one
                fused = []
                for name, checkpoint in loaded.items():
                    one, picture = _measure(checkpoint, visible, moved, (aligned, misplaced), there, seen)
                    values.setdefault((name, shift_px), []).append(one)
                    fused.append(picture)
                if pictures is not None and shift_px == 5.0 and number == 0:
                    pictures.mkdir(parents=True, exist_ok=True)
                    columns = [visible, np.repeat(moved[..., None], 3, axis=2), *fused]
                    write_picture(pictures / f"unseen-{seed}.png", np.concatenate(columns, axis=1))
    keys = list(next(iter(values.values()))[0])
    print("| displaced | model | " + " | ".join(keys) + " |\n|---|---|" + "---|" * len(keys))
    for shift_px in SHIFTS_PX:
        for name in loaded:
            rows = values[name, shift_px]
            means = [float(np.nanmean([row[key] for row in rows])) for key in keys]
            print(f"| {shift_px:g} px | {name} | " + " | ".join(f"{value:.3f}" for value in means) + " |")
    first, *others = loaded
    for name in others:
        pairs = [
            (a["error px"], b["error px"])
            for s in SHIFTS_PX
            for a, b in zip(values[first, s], values[name, s], strict=True)
        ]
        lower = sum(b < a for a, b in pairs)
        print(f"{name}: lower error than {first} in {lower} of {len(pairs)} pictures")
    print(json.dumps({"frames": frames * len(SESSIONS["unseen"]), "shifts_px": SHIFTS_PX}))


def _measure(checkpoint, visible, moved, clean, there, seen) -> tuple[dict[str, float], np.ndarray]:  # type: ignore[no-untyped-def]
    """Error of the estimate where both cameras see structure, and the fused picture's edges against the truth.

    clean: thermal without noise, where it belongs and where the camera showed it.
    """
    y = luminance(visible)
    fused = TorchEngine(checkpoint).fuse(visible, moved)
    tensors = [torch.from_numpy(np.ascontiguousarray(p)).float()[None, None] / 255.0 for p in (y, moved)]
    with torch.inference_mode():
        coarse = checkpoint.network.estimate(*tensors).displacements[-1]
        field = F.interpolate(coarse, size=y.shape, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    inside = np.zeros_like(seen)
    inside[16:-16, 16:-16] = True
    off = np.linalg.norm(field - there, axis=-1)[seen & inside]
    fused_y = luminance(fused)
    shares = gradient_shares(fused_y, y, *clean, central=True)
    reference = MetricReference(y, clean[0]).evaluate(fused_y)
    return {
        "error px": float(off.mean()), "median px": float(np.median(off)), "95 % px": float(np.percentile(off, 95)),
        "edges visible": shares.g_visible, "edges thermal": shares.g_thermal, "ghost": shares.g_ghost,
        "Qabf": reference["qabf"], "SSIM": reference["ssim"],
    }, fused  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", choices=CAMERAS, default="quarter", help="film, residual: thermal pixels")
    parser.add_argument("--sessions", choices=("usual", "other"), default="usual", help="film, residual: which places")
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("film").add_argument("folder", type=Path)
    building = commands.add_parser("residual")
    building.add_argument("folder", type=Path)
    building.add_argument("output", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("models", nargs="+")
    comparing.add_argument("--frames", type=int, default=4, help="of each session")
    comparing.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    CAMERA.update(CAMERAS[args.camera])
    if args.sessions == "other":
        SESSIONS.update(OTHER_SESSIONS)
    if args.command == "film":
        film(args.folder)
    elif args.command == "residual":
        residual(args.folder, args.output)
    else:
        compare(args.models, args.frames, args.pictures)


if __name__ == "__main__":
    main()
