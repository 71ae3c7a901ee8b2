"""Processor time a picture on one thread, in rounds, so that a processor that slows down slows all rows alike.

    python benchmarks/processor_time.py [--rounds 5] [--vectors avx2]

Rows: a Laplacian pyramid in float32 (NumPy and OpenCV), `aligned-pyramid`, and what `load_fuser` gives for `tiny` and
`small`: for pictures by themselves, and as a video of a panning rig, where the displacement is estimated every few
pictures. Then both in float32, with the estimate and without. Visible pictures of 640x480 and 1920x1080, thermal ones
of 640x512. Times are those of all threads of the process together; the ratio is to the first row.
--vectors avx2: in float32, as a processor without AVX-512 would do it, as far as the libraries can be told so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

SIZES = ((480, 640), (1080, 1920))
WARM_UP = 12
LEVELS = 4
_NEVER_AGAIN = 10_000  # pictures between two estimates
Pair = tuple[np.ndarray, np.ndarray]


def float_pyramid(visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
    """Laplacian pyramid in float32, the stronger detail at each place, the mean of what remains, the visible chroma."""
    from fusion_core.colour import luminance, replace_luminance

    y = luminance(visible)
    one: np.ndarray = y.astype(np.float32)
    other: np.ndarray = thermal.astype(np.float32)
    details = []
    for _ in range(LEVELS):
        sides, smaller = (one, other), (cv2.pyrDown(one), cv2.pyrDown(other))
        a, b = (
            side - cv2.pyrUp(low, dstsize=(side.shape[1], side.shape[0]))
            for side, low in zip(sides, smaller, strict=True)
        )
        details.append(np.where(np.abs(a) >= np.abs(b), a, b))
        one, other = (np.asarray(each) for each in smaller)
    fused: np.ndarray = (one + other) / 2
    for detail in reversed(details):
        fused = np.asarray(cv2.pyrUp(fused, dstsize=(detail.shape[1], detail.shape[0]))) + detail
    return np.asarray(replace_luminance(visible, np.clip(np.rint(fused), 0, 255).astype(np.uint8), old_y=y))


def moments(height: int, width: int) -> list[Pair]:
    """Pictures of the simulated rig as it pans: visible RGB and thermal levels on its grid."""
    from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
    from fusion_core.thermal.agc import Agc
    from fusion_core.thermal.field_of_view import to_grid

    rig = SimulatedRig(
        SimulatedRigConfig.model_validate(
            {"height": 480, "width": 640, "thermal_height": 512, "thermal_width": 640, "pan_deg_per_s": 10.0}
        )
    )
    agc, found = Agc(), []
    for number in range(10):
        visible = np.asarray(cv2.resize(rig.visible(number / 30), (width, height)), np.uint8)
        found.append((visible, np.ascontiguousarray(to_grid(agc.apply(rig.thermal(number / 30)), height, width))))
    return found


def candidates(*, narrow: bool) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """What is measured, by name. narrow: float32 alone, since bfloat16 needs wider vectors."""
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.engines.openvino_engine import OpenVinoEngine
    from fusion_core.engines.video_options import VideoOptions
    from fusion_core.fuser import load_fuser
    from fusion_core.model_store import resolve_weights

    rows: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"Laplacian pyramid, float32": float_pyramid}
    rows["aligned-pyramid, video"] = load_fuser("tiny", engine="aligned-pyramid", threads=1, video=True)
    forms = {"pictures": 1, "video": VideoOptions().align_every, "estimate apart": _NEVER_AGAIN}
    for preset in ("tiny", "small"):
        if not narrow:
            for video in (False, True):
                fuser = load_fuser(preset, threads=1, video=video)
                rows[f"{fuser.name}, {'video' if video else 'pictures'}"] = fuser
        checkpoint = load_checkpoint(resolve_weights(preset))
        for form, every in forms.items():
            video_options = VideoOptions(align_every=every)
            engine = OpenVinoEngine(checkpoint, threads=1, precision="f32", label=preset, video=video_options)
            rows.setdefault(f"{engine.name}, {form}", engine.fuse)
    return rows


def main() -> None:
    """Measure in rounds and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vectors", choices=("all", "avx2"), default="all")
    arguments = parser.parse_args()
    if arguments.vectors == "avx2":  # before the libraries load
        os.environ["ONEDNN_MAX_CPU_ISA"] = os.environ["DNNL_MAX_CPU_ISA"] = "AVX2"
        os.environ["ATEN_CPU_CAPABILITY"] = "avx2"
    cv2.setNumThreads(1)
    from fusion_core.benchmark.candidates import capability

    print(f"{capability()}, vectors: {arguments.vectors}, one thread, ms of processor time a picture, median of rounds")
    for height, width in SIZES:
        pairs = moments(height, width)
        rows = candidates(narrow=arguments.vectors == "avx2")
        times: dict[str, list[float]] = {name: [] for name in rows}
        for run in rows.values():
            for number in range(WARM_UP):
                run(*pairs[number % len(pairs)])
        for _ in range(arguments.rounds):
            for name, run in rows.items():
                began = time.process_time()
                for pair in pairs * 2:
                    run(*pair)
                times[name].append((time.process_time() - began) * 1e3 / (2 * len(pairs)))
        first = statistics.median(next(iter(times.values())))
        print(f"\n{width}x{height}")
        for name, found in times.items():
            middle = statistics.median(found)
            print(f"  {name:44s} {middle:7.1f}   {min(found):7.1f} at least   {middle / first:5.1f} times")


if __name__ == "__main__":
    main()
