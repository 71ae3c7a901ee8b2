"""What it costs and gains to estimate the displacement on every n-th picture of a video, smoothed or not.

    python benchmarks/estimate_interval.py quality [--preset tiny] [--frames 60]
    python benchmarks/estimate_interval.py time [--preset tiny] [--frames 120]

quality: the simulated rig, 640x480, calibration off by (4, -3) px, standing and panning at 10 deg/s; the shares of the
gradients that the fused picture draws (against the true place of the thermal picture), the error of the field, and
flicker. time: median and 95 % of the pictures of a video on two threads, the estimate on every 5th, run in line, beside
the fusion at the same priority, and beside it at a lower one. Give the process priority over others (nice -n -20).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

import fusion_core.running_displacement as displacement
from fusion_core.agc import Agc
from fusion_core.benchmark_setup import pictures, to_grid
from fusion_core.checkpoint import load_checkpoint, resolve_weights
from fusion_core.colour import luminance, replace_luminance
from fusion_core.engine_cache import EngineCache
from fusion_core.flicker import FlickerMeter
from fusion_core.ghost import gradient_shares
from fusion_core.openvino_engine import OpenVinoEngine
from fusion_core.running_displacement import RunningDisplacement
from fusion_core.simulation import SimulatedRig, SimulatedRigConfig

SIZE = (480, 640)
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


def engine(preset: str, every: int) -> OpenVinoEngine:
    """Ready at SIZE."""
    made = OpenVinoEngine(load_checkpoint(resolve_weights(preset)), align_every=every, cache=EngineCache())
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
    meter, shares, errors = FlickerMeter(), [], []
    for index, picture in enumerate(video):
        field = running.at(picture.y, picture.thermal)
        moved = np.asarray(cv2.remap(picture.thermal, *field.maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        fused = compiled._fuse.infer([picture.y[None, None], moved[None, None], field.log_confidence[None]])[0][0, 0]
        meter.add(replace_luminance(picture.visible, fused, old_y=picture.y), picture.visible, picture.thermal)
        if index >= len(video) // 3 and index % 3 == 0:  # the field has settled
            found = gradient_shares(fused, picture.y, picture.aligned, picture.thermal)
            shares.append((found.g_visible, found.g_thermal, found.g_ghost))
            full = [cv2.resize(plane, SIZE[::-1], interpolation=cv2.INTER_LINEAR) for plane in field.displacement_px]
            errors.append(float(np.median(np.abs(np.stack(full, -1) - picture.true_px).sum(-1))))
    running.close()
    g_visible, g_thermal, g_ghost = np.mean(shares, axis=0)
    flicker = meter.result()
    return (
        f"gVI {g_visible:.3f} gIR {g_thermal:.3f} gGhost {g_ghost:.3f}, field off by {np.mean(errors):.2f} px, "
        f"unexplained change {flicker.unexplained_levels:.3f} levels, background {flicker.background_sigma_levels:.4f}"
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
    parser.add_argument("what", choices=["quality", "time"])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--frames", type=int)
    arguments = parser.parse_args()
    if arguments.what == "quality":
        quality(arguments.preset, arguments.frames or 60)
    else:
        timing(arguments.preset, arguments.frames or 120)


if __name__ == "__main__":
    main()
