"""What alignment costs a thermal frame, and the drift monitor a second. Run alone, at real-time priority, on one core.

chrt -r 1 python benchmarks/calibration_cost.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from app.pipeline.thermal_grid import AlignedField, ThermalGrid
from calibration.align import ThermalAligner
from calibration.drift import DriftMonitor
from calibration.render import synthetic_rig


def timed(name: str, call: Callable[[], object], count: int, baseline_ms: float | None = None) -> float:
    """Print and return the median, ms."""
    for _ in range(max(3, count // 10)):
        call()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    median, p95 = np.percentile(times, (50, 95))
    ratio = f"{median / baseline_ms:.2f}" if baseline_ms else "1"
    print(f"| {name} | {median:.2f} | {p95:.2f} | {ratio} |", flush=True)
    return float(median)


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    levels = cv2.GaussianBlur(rng.integers(0, 255, (480, 640), dtype=np.uint8), (0, 0), 2)
    counts = levels.astype(np.uint16) * 40
    small = cv2.resize(levels, (320, 256))
    print("| one core | median ms | 95 % ms | of the resize |\n|---|---|---|---|")
    resize = timed("cv2.resize 320x256 to 640x480, 8 bit (baseline)", lambda: cv2.resize(small, (640, 480)), 500)
    aligner = ThermalAligner(synthetic_rig())
    timed("ThermalAligner 640x480 to 640x480, 8 bit", lambda: aligner.to_visible(levels), 500, resize)
    timed("ThermalAligner 640x480 to 640x480, 16 bit", lambda: aligner.to_visible(counts), 500, resize)
    other = ThermalAligner(synthetic_rig((480, 640), (256, 320)))
    timed("ThermalAligner 320x256 to 640x480, 8 bit", lambda: other.to_visible(small), 500, resize)
    filled = AlignedField(other)
    visible_rgb = np.repeat(levels[..., None], 3, axis=2)
    aligned = filled.to_visible(small)
    share = f"thermal sees {filled.seen.mean():.0%} of it"
    timed(f"filling the rest for the engine, {share}", lambda: filled.filled(aligned, visible_rgb), 500, resize)
    timed("its maps, once a calibration or correction", lambda: ThermalAligner(synthetic_rig()), 30, resize)
    step = np.array([[1, 0, 0.4], [0, 1, 0], [0, 0, 1.0]])
    timed("a step of the self-alignment", lambda: ThermalGrid(None).corrected(step, (480, 640), (480, 640)), 30, resize)
    for height, width in ((480, 640), (720, 1280)):
        visible = cv2.resize(levels, (width, height))
        monitor = DriftMonitor((height, width))
        clock = iter(range(10**6))

        def compare(monitor: DriftMonitor = monitor, visible: np.ndarray = visible, clock: object = clock) -> object:
            return monitor.update(visible, visible, next(clock) * 1_000_000_000)  # type: ignore[call-overload]

        timed(f"drift monitor, a comparison a second, {width}x{height}", compare, 40, resize)


if __name__ == "__main__":
    main()
