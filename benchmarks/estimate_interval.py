"""What it costs and gains to estimate the displacement on every n-th picture of a video, smoothed or not.

    python benchmarks/estimate_interval.py quality [--preset tiny] [--frames 60]
    python benchmarks/estimate_interval.py kernels [--preset tiny] [--frames 60]
    python benchmarks/estimate_interval.py time [--preset tiny] [--frames 120]

quality: the simulated rig, 640x480, calibration off by (4, -3) px, standing and panning at 10 deg/s; the shares of the
gradients that the fused picture draws (against the true place of the thermal picture), the error of the field, and
flicker. kernels: the same and the processor time of the fusion, for dynamic kernels that are computed on every n-th
picture. time: median and 95 % of the pictures of a video on two threads, the estimate on every 5th, run in line, beside
the fusion at the same priority, and beside it at a lower one. Give the process priority over others (nice -n -20).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

import fusion_core.engines.running_displacement as displacement
from fusion_core.benchmark.candidates import pictures
from fusion_core.checkpoint import load_checkpoint
from fusion_core.colour import luminance, replace_luminance
from fusion_core.engines.cache import EngineCache
from fusion_core.engines.openvino_engine import OpenVinoEngine
from fusion_core.engines.running_displacement import RunningDisplacement
from fusion_core.engines.video_options import VideoOptions
from fusion_core.measures.flicker import FlickerMeter
from fusion_core.measures.ghost import gradient_shares
from fusion_core.model_store import resolve_weights
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import to_grid

SIZE = (480, 640)
KERNEL_SETTINGS = ((1, 1.0), (2, 0.5), (5, 0.5), (5, 1.0), (10, 0.5), (30, 0.5))
SETTINGS = ((1, 1.0), (2, 0.5), (5, 0.5), (5, 1.0), (10, 0.5), (30, 0.5))
PERIOD_S = 1 / 30


class Picture(NamedTuple):
    """One moment of the rig: inputs, truth, and what the network estimates from it."""

    visible: np.ndarray
    y: np.ndarray
    thermal: np.ndarray
    aligned: np.ndarray
    true_px: np.ndarray
    estimate: tuple[np.ndarray, np.ndarray]


def engine(preset: str, every: int, **options: Any) -> OpenVinoEngine:
    """Ready at SIZE. options: further ones of VideoOptions."""
    video = VideoOptions(align_every=every, **options)
    made = OpenVinoEngine(load_checkpoint(resolve_weights(preset)), video=video, cache=EngineCache())
    made.warm_up(*SIZE)
    return made


def moments(rig: SimulatedRig, compiled: Any, frames: int) -> Iterator[Picture]:
    """So many pictures at 30 a second."""
    agc = Agc()
    ys, xs = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    for index in range(frames):
        t_s = 2.0 + index * PERIOD_S
        visible = rig.visible(t_s)
        thermal = to_grid(agc.apply(rig.thermal(t_s), PERIOD_S), *SIZE)
        true_px = rig.truth(t_s).displacement_px
        place = (xs + true_px[..., 0], ys + true_px[..., 1])
        aligned = np.asarray(cv2.remap(thermal, *place, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        y = luminance(visible)
        yield Picture(visible, y, thermal, aligned, true_px, compiled.estimate(y, thermal))


def quality(preset: str, frames: int) -> None:
    """Print a line a setting."""
    compiled = engine(preset, 1)._compile(*SIZE)
    for name, pan in (("standing", 0.0), ("panning 10 deg/s", 10.0)):
        rig = SimulatedRig(SimulatedRigConfig(residual_shift_px=(4.0, -3.0), pan_deg_per_s=pan))
        video = list(moments(rig, compiled, frames))
        for every, smoothing in SETTINGS:
            print(
                f"{name}, every {every}, smoothing {smoothing}: {_fused(compiled, video, every, smoothing)}", flush=True
            )


def _fused(compiled: Any, video: list[Picture], every: int, smoothing: float) -> str:
    estimates = {picture.y.tobytes(): picture.estimate for picture in video}

    def known(y: np.ndarray, thermal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return estimates[y.tobytes()]  # estimated once for all settings

    running = RunningDisplacement(known, every, smoothing=smoothing)
    line, _ = _measured(compiled, video, running)
    running.close()
    return line


def _measured(compiled: Any, video: list[Picture], running: RunningDisplacement) -> tuple[str, list[float]]:
    """-> quality in words, and the processor time of the fusion part on each picture, ms."""
    meter, shares, errors = FlickerMeter(), [], []
    times_ms: list[float] = []
    for index, picture in enumerate(video):
        field = running.at(picture.y, picture.thermal)
        moved = np.asarray(cv2.remap(picture.thermal, *field.maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        inputs = [picture.y[None, None], moved[None, None], field.log_confidence[None]]
        began_s = time.process_time()
        out = compiled._fuse.infer(inputs) if compiled._kernels is None else compiled._kernels.infer(inputs)
        times_ms.append((time.process_time() - began_s) * 1e3)
        fused = np.array(out[0][0, 0])
        meter.add(replace_luminance(picture.visible, fused, old_y=picture.y), picture.visible, picture.thermal)
        if index >= len(video) // 3 and index % 3 == 0:  # the field has settled
            found = gradient_shares(fused, picture.y, picture.aligned, picture.thermal)
            shares.append((found.g_visible, found.g_thermal, found.g_ghost))
            full = [cv2.resize(plane, SIZE[::-1], interpolation=cv2.INTER_LINEAR) for plane in field.displacement_px]
            errors.append(float(np.median(np.abs(np.stack(full, -1) - picture.true_px).sum(-1))))
    g_visible, g_thermal, g_ghost = np.mean(shares, axis=0)
    flicker = meter.result()
    return (
        f"gVI {g_visible:.3f} gIR {g_thermal:.3f} gGhost {g_ghost:.3f}, field off by {np.mean(errors):.2f} px, "
        f"unexplained change {flicker.unexplained_levels:.3f} levels, background {flicker.background_sigma_levels:.4f}"
    ), times_ms


def kernels(preset: str, frames: int) -> None:
    """Print a line a setting; the displacement is estimated on every 5th picture, smoothed, in all."""
    usual = VideoOptions()
    estimator = engine(preset, 1)._compile(*SIZE)
    for name, pan in (("standing", 0.0), ("panning 10 deg/s", 10.0)):
        rig = SimulatedRig(SimulatedRigConfig(residual_shift_px=(4.0, -3.0), pan_deg_per_s=pan))
        video = list(moments(rig, estimator, frames))
        estimates = {picture.y.tobytes(): picture.estimate for picture in video}

        def known(
            y: np.ndarray, thermal: np.ndarray, estimates: dict[bytes, tuple[np.ndarray, np.ndarray]] = estimates
        ) -> tuple[np.ndarray, np.ndarray]:
            return estimates[y.tobytes()]

        for every, smoothing in KERNEL_SETTINGS:
            made = engine(preset, 1, kernels_every=every, kernels_smoothing=smoothing)
            compiled = made._compile(*SIZE)
            running = RunningDisplacement(known, usual.align_every, smoothing=usual.align_smoothing)
            line, times_ms = _measured(compiled, video, running)
            running.close()
            made.close()
            print(
                f"{name}, kernels every {every}, smoothing {smoothing}: {line}; fusion part {np.mean(times_ms):.1f} ms "
                f"of processor a picture",
                flush=True,
            )


class _InLine:
    """A pool that works at once, in the caller's thread."""

    def submit(self, work: Any, *arguments: Any) -> Any:
        from concurrent.futures import Future

        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done

    def shutdown(self, wait: bool = True) -> None:
        """Nothing to end."""


def timing(preset: str, frames: int) -> None:
    """Print a line a way of running the estimate; the ways take turns."""
    visible, counts = pictures(*SIZE)
    thermal = to_grid(Agc().apply(counts), *SIZE)
    ways: dict[str, tuple[int, OpenVinoEngine]] = {}
    for name, niceness in (("in line", 0), ("beside", 0), ("beside, nice 5", 5), ("beside, nice 10", 10)):
        made = engine(preset, 5)
        running = made._compile(*SIZE).running
        assert running is not None  # every shipped preset estimates
        if name == "in line":
            running._pool = _InLine()  # type: ignore[assignment]
        ways[name] = niceness, made
    times_ms: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2):
        for name, (niceness, made) in ways.items():
            displacement._NICENESS = niceness
            made.reset()
            for index in range(10 + frames // 2):
                began_s = time.perf_counter()
                made.fuse(visible, thermal)
                if index >= 10:
                    times_ms[name].append((time.perf_counter() - began_s) * 1e3)
    for name, taken in times_ms.items():
        median, p95 = np.percentile(taken, (50, 95))
        print(f"{name:>16}: median {median:.1f} ms, p95 {p95:.1f}, mean {np.mean(taken):.1f}")
        ways[name][1].close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "kernels", "time"])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--frames", type=int)
    arguments = parser.parse_args()
    if arguments.what == "quality":
        quality(arguments.preset, arguments.frames or 60)
    elif arguments.what == "kernels":
        kernels(arguments.preset, arguments.frames or 60)
    else:
        timing(arguments.preset, arguments.frames or 120)


if __name__ == "__main__":
    main()
