"""From footage of a simulated rig to a model tuned to it, against what is really there.

    python benchmarks/finetune_simulated_rig.py film DIR           # sessions as recordings: DIR/train, DIR/held-out
    python benchmarks/finetune_simulated_rig.py residual DIR SET   # builds the set SET; residual of its pairs
    python benchmarks/finetune_simulated_rig.py --camera lepton residual DIR SET --mapped    # behind the rig's map
    lumitherm train --from tiny --data SET --name rig
    python benchmarks/finetune_simulated_rig.py compare tiny rig   # on sessions that are in no set
    python benchmarks/finetune_simulated_rig.py calibrate lepton   # what the rig's map brings, on sessions it never saw

The thermal camera is unlike those of the public training pairs: 160x120 pixels beside a visible picture of 640x480,
24 counts a kelvin, noise of 0.1 K, a fixed pattern, and blur. `residual` is `lumitherm dataset build` with
its own estimate of each pair's displacement held against the simulation's. `compare` fuses what the rig would give
live (parallax and 0.2 deg of roll are left by the calibration) with a known displacement on top, and measures the
displacement estimate and the fused picture against the scene as a thermal camera without noise, standing at the
visible camera's place, would see it.

`calibrate` takes one of three rigs with strong parallax (`RIGS`). Forty pictures spread over its ten sessions of a
minute give a map as `lumitherm calibrate refine` does, and everything is measured without it and with it.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from app.dataset.builder import BuildSettings, PairRecord, build_dataset
from app.dataset.report import write_dataset_report
from app.dataset.sources import RecordingSource
from app.media.pictures import write_picture
from app.pipeline.thermal_grid import ThermalGrid
from app.recording.config import RecordingConfig
from app.recording.writing.recorder import Recorder
from calibration.rig import Calibration, plain_scaling, save_calibration
from calibration.targetless import Refinement, align_from_nothing
from fusion_core.checkpoint import LoadedCheckpoint, load_checkpoint
from fusion_core.colour import luminance
from fusion_core.engines.torch_engine import TorchEngine
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.measures.displacement import displacement_field
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
RIGS = {
    "lepton": CAMERA | {"baseline_m": 0.2, "residual_rotation_deg": 0.2},
    "double-height": {
        "thermal_height": 192, "thermal_width": 256, "thermal_gain": 64.0, "thermal_noise_counts": 5.0,
        "fixed_pattern_counts": 5.0, "thermal_blur_px": 0.9, "baseline_m": -0.16, "residual_rotation_deg": -0.4,
        "residual_shift_px": (3.0, -2.0),
    },
    "boson": {
        "thermal_height": 512, "thermal_width": 640, "thermal_gain": 100.0, "thermal_noise_counts": 8.0,
        "fixed_pattern_counts": 6.0, "thermal_blur_px": 0.9, "baseline_m": 0.25, "residual_rotation_deg": 0.3,
        "residual_shift_px": (-2.0, 3.0),
    },
}  # fmt: skip
MAP_FRAMES, MAP_INTERVAL_S = 4, 14.3  # of each session; no multiple of the six seconds in which the rig sweeps
BODY_C, MOST_BODY_C = 26.0, 38.0  # apparent temperature of people, in a scene of some 20 degrees
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
    values = MOUNTING | CAMERA | SESSIONS[part][seed] | {"seed": seed}
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


def residual(folder: Path, output: Path, *, mapped: bool) -> None:
    """Build the set, and hold what was undone in each kept pair against the truth. mapped: behind the footage's map."""
    calibration: Path | None = None
    given: Calibration | None = None
    if mapped:
        given, calibration = _footage_map().calibration, folder / "rig.yaml"
        save_calibration(given, calibration)
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
        there = truth.displacement_px if given is None else _left_by(given, truth.displacement_px)
        there = there[window]
        off = np.linalg.norm(field_px - there, axis=-1)[seen]
        after.append(off)
        before.append(np.linalg.norm(there, axis=-1)[seen])
        measured = {"median": record.residual_median_px, "p95": record.residual_p95_px, "corr": record.correlation}
        truth_px = {"true median": float(np.median(off)), "true p95": float(np.percentile(off, 95))}
        of_pairs.append({**measured, **truth_px, "size": float(height * width)})

    summary = build_dataset(
        sources, output, BuildSettings(), calibration=calibration, validation_sessions=held, on_field=keep
    )
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


def _footage_map() -> Refinement:
    """What `calibrate refine` finds in pictures spread over the sessions to train on."""
    pairs = []
    for seed in SESSIONS["train"]:
        rig = rig_of("train", seed)
        times_s = [1.0 + MAP_INTERVAL_S * number for number in range(MAP_FRAMES)]
        pairs += [(rig.visible(time_s), rig.thermal(time_s)) for time_s in times_s]
    return align_from_nothing(pairs, "lens", near="affine", search_px=24.0)


def calibrate(name: str, weights: str, frames: int, pictures: Path | None) -> None:
    """A map of the rig's footage, by the command's own code; estimate and fused picture with it and without."""
    CAMERA.clear()
    CAMERA.update(RIGS[name])
    checkpoint = load_checkpoint(resolve_weights(weights))
    start_s = time.process_time()
    found = _footage_map()
    taken_s = time.process_time() - start_s
    made = found.calibration
    plain = plain_scaling((made.visible.height, made.visible.width), (made.thermal.height, made.thermal.width))
    print(
        f"{name}: map of kind {found.model} in {taken_s:.0f} s of processor time; kept back "
        f"{found.held_out_px}; problem: {found.problem or 'none'}",
        flush=True,
    )
    # As with --accept: it counts that pictures kept back gain, though parts of the picture disagree about parallax.
    maps = {"plain scaling": plain, "map of the footage": found.calibration if found.gained else plain}
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in SESSIONS["unseen"]:
        rig = rig_of("unseen", seed)
        for number in range(frames):
            time_s = 2.0 + 2.3 * number
            for label, calibration in maps.items():
                shown = []
                for added_px in (0.0, 5.0):
                    one, picture = _with_map(checkpoint, rig, time_s, calibration, added_px, f"{seed}-{number}")
                    rows.setdefault((label, f"field {added_px:g} px"), []).append(one)
                    shown.append(picture)
                if pictures is not None:
                    pictures.mkdir(parents=True, exist_ok=True)
                    sheet = np.concatenate([rig.visible(time_s), *shown], axis=1)
                    write_picture(pictures / f"{name}-{seed}-{number}-{label.split()[0]}.png", sheet)
    keys = list(next(iter(rows.values()))[0])
    print("| added | thermal by | " + " | ".join(keys) + " |\n|---|---|" + "---|" * len(keys))
    for label, added in sorted(rows, key=lambda each: each[1]):
        means = [float(np.nanmean([row[key] for row in rows[label, added]])) for key in keys]
        print(f"| {added} | {label} | " + " | ".join(f"{value:.3f}" for value in means) + " |")
    print(json.dumps({"pictures": frames * len(SESSIONS["unseen"]), "processor_s": round(taken_s, 1)}))


def _with_map(
    checkpoint: LoadedCheckpoint, rig: SimulatedRig, time_s: float, calibration: Calibration, added_px: float, stem: str
) -> tuple[dict[str, float], np.ndarray]:
    """One picture aligned by a calibration, with a smooth field of up to `added_px` on top."""
    visible, truth = rig.visible(time_s), rig.truth(time_s)
    height, width = visible.shape[:2]
    levels = Agc().apply(rig.thermal(time_s))
    there = _left_by(calibration, truth.displacement_px)
    grid = ThermalGrid.of(calibration)
    given = grid.filled(grid.to_visible(levels, height, width), visible)  # as live
    if added_px:
        added = displacement_field(height, width, added_px, stem)
        given = move_by(given, added)
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        places = (x + there[..., 0], y + there[..., 1])
        there = there + np.stack([cv2.remap(p, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                                  for p in (added[..., 0].copy(), added[..., 1].copy())], axis=-1)  # fmt: skip
    aligned = to_grid(Agc().apply(truth.thermal_aligned), height, width)
    planes = [gradient_plane(picture) for picture in (luminance(truth.visible_clean), aligned)]
    seen = (planes[0] > STRUCTURE) & (planes[1] > STRUCTURE)
    shown = grid.mask(height, width)
    seen = seen if shown is None else seen & shown
    jump = cv2.morphologyEx(truth.displacement_px[..., 0], cv2.MORPH_GRADIENT, np.ones((17, 17), np.uint8)) > 2.0
    misplaced = move_by(aligned, cv2.GaussianBlur(there, (0, 0), 2.0))  # a field that jumps moves no picture
    one, fused = _measure(checkpoint, visible, given, (aligned, misplaced), there, seen, jump)
    body = ((truth.temperature_c > BODY_C) & (truth.temperature_c < MOST_BODY_C)).astype(np.uint8)
    near, far = (cv2.dilate(body, np.ones((side, side), np.uint8)) for side in (5, 25))
    around = (far == 1) & (near == 0)
    y_fused = luminance(fused).astype(np.float64)
    people = float(y_fused[body == 1].mean() - y_fused[around].mean()) if body.sum() > 200 else float("nan")
    return one | {"people, levels": people}, fused


def _left_by(calibration: Calibration, displacement_px: np.ndarray) -> np.ndarray:
    """(H, W, 2): where the calibration shows what belongs to p, less p, for a rig that is off by a plain resize so."""
    height, width = displacement_px.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    at = np.stack([x, y], axis=-1)
    plain = plain_scaling((height, width), (calibration.thermal.height, calibration.thermal.width))
    on_thermal = plain.thermal_from_visible((at + displacement_px).reshape(-1, 2))
    return np.asarray(calibration.visible_from_thermal(on_thermal).reshape(at.shape) - at, np.float32)


def _measure(checkpoint, visible, moved, clean, there, seen, jump=None) -> tuple[dict[str, float], np.ndarray]:  # type: ignore[no-untyped-def]
    """Error of the estimate where both cameras see structure, and the fused picture's edges against the truth.

    clean: thermal without noise, where it belongs and where the camera showed it. jump: where the depth jumps nearby.
    """
    y = luminance(visible)
    fused = TorchEngine(checkpoint).fuse(visible, moved)
    tensors = [torch.from_numpy(np.ascontiguousarray(p)).float()[None, None] / 255.0 for p in (y, moved)]
    with torch.inference_mode():
        coarse = checkpoint.network.estimate(*tensors).displacements[-1]
        field = F.interpolate(coarse, size=y.shape, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    inside = np.zeros_like(seen)
    inside[16:-16, 16:-16] = True
    length = np.linalg.norm(field - there, axis=-1)
    off = length[seen & inside]
    at_jumps = {} if jump is None else {"at depth edges px": float(np.median(length[seen & inside & jump]))}
    fused_y = luminance(fused)
    shares = gradient_shares(fused_y, y, *clean, central=True)
    reference = MetricReference(y, clean[0]).evaluate(fused_y)
    return {
        "error px": float(off.mean()), "median px": float(np.median(off)), "90 % px": float(np.percentile(off, 90)),
        "95 % px": float(np.percentile(off, 95)), **at_jumps,
        "edges visible": shares.g_visible, "edges thermal": shares.g_thermal, "ghost": shares.g_ghost,
        "Qabf": reference["qabf"], "SSIM": reference["ssim"],
    }, fused  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", choices=CAMERAS | RIGS, default="quarter", help="film, residual: which")
    parser.add_argument("--sessions", choices=("usual", "other"), default="usual", help="film, residual: which places")
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("film").add_argument("folder", type=Path)
    building = commands.add_parser("residual")
    building.add_argument("folder", type=Path)
    building.add_argument("output", type=Path)
    building.add_argument("--mapped", action="store_true", help="behind the map of `calibrate refine`")
    comparing = commands.add_parser("compare")
    comparing.add_argument("models", nargs="+")
    comparing.add_argument("--frames", type=int, default=4, help="of each session")
    comparing.add_argument("--pictures", type=Path)
    calibrating = commands.add_parser("calibrate")
    calibrating.add_argument("rig", choices=RIGS)
    calibrating.add_argument("--weights", default="tiny")
    calibrating.add_argument("--frames", type=int, default=3, help="of each session")
    calibrating.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "calibrate":
        calibrate(args.rig, args.weights, args.frames, args.pictures)
        return
    CAMERA.update((CAMERAS | RIGS)[args.camera])
    if args.sessions == "other":
        SESSIONS.update(OTHER_SESSIONS)
    if args.command == "film":
        film(args.folder)
    elif args.command == "residual":
        residual(args.folder, args.output, mapped=args.mapped)
    else:
        compare(args.models, args.frames, args.pictures)


if __name__ == "__main__":
    main()
