"""How long a snapshot bundle takes while the rig runs and records, and whether it costs a frame.

    python benchmarks/snapshot.py [--times 20] [--set simulation.height=1080 --set simulation.width=1920 ...]

Two bundles a second on the simulated rig, average engine, recording all tracks. Printed are median and 95 % of the time
from the request to the finished folder, the same with nothing else running (the baseline), and the frames lost, of all
causes, while bundles were written and in as long a time without any. The target is 300 ms and no frame lost.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from app.configuration.config import load_config
from app.pipeline.live_fusion import LiveFusion

_EVERY_S = 0.5
_SETTLE_S = 4.0
_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "simulated.yaml"


def bundles(live: LiveFusion, folder: Path, times: int, every_s: float) -> list[float]:
    """Take so many; how long each took, ms."""
    took: list[float] = []
    for _ in range(times):
        began_s = time.perf_counter()
        live.snapshot(folder)
        took.append((time.perf_counter() - began_s) * 1e3)
        time.sleep(max(0.0, every_s - (time.perf_counter() - began_s)))
    return took


def lost(live: LiveFusion) -> int:
    """Frames lost so far, of all causes."""
    return live.stats.snapshot().total_drops


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    wanted = parser.parse_args()
    import cv2

    cv2.setNumThreads(1)  # as the command does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = ["engine.name=average", f"recording.directory={folder}", "recording.autostart=true"]
        live = LiveFusion(load_config(_CONFIG, [*settings, *wanted.settings], {}))
        live.start()
        try:
            end_s = time.monotonic() + 60.0
            while live.latest.peek() is None and time.monotonic() < end_s:
                time.sleep(0.02)
            time.sleep(_SETTLE_S)
            before, frames_before = lost(live), live.stats.snapshot().frames["fused"]
            took = bundles(live, folder / "running", wanted.times, _EVERY_S)
            during, fused = lost(live) - before, live.stats.snapshot().frames["fused"] - frames_before
            before = lost(live)
            time.sleep(wanted.times * _EVERY_S)
            without = lost(live) - before
            newest = live.latest.peek()
        finally:
            live.stop(15.0)
        alone = bundles(live, folder / "alone", wanted.times, 0.0)
        size = sum(path.stat().st_size for path in next((folder / "running").glob("snapshot-*")).iterdir())
    height, width = newest.pixels.shape[:2] if newest is not None else (0, 0)
    for what, values in (("while it runs", took), ("alone", alone)):
        print(
            f"{width}x{height}, {what}: median {statistics.median(values):.0f} ms,"
            f" 95 % {float(np.percentile(values, 95)):.0f} ms, worst {max(values):.0f} ms"
        )
    ratio = statistics.median(took) / statistics.median(alone)
    print(f"ratio of the medians {ratio:.2f}; {size / 1e6:.1f} MB a bundle")
    print(f"frames lost: {during} of {fused} while bundles were written, {without} in as long a time without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
