"""What presenting one frame costs the GUI thread, for each view: compose, upload, paint. Offscreen.

    python benchmarks/present.py [--frames 200]

Prints p50, p95 and the least of the time on the wall, and the 95 % of the processor time, which other programs on the
machine disturb less; the targets are p95 <= 4 ms at 640x480 and <= 12 ms at 1920x1080.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PyQt6.QtWidgets import QApplication

from app.gui.picture.video_view import VideoView
from app.gui.widgets.status_text import hud_figures
from app.pipeline.state.stats import Stats
from app.view.settings import ViewMode, ViewSettings
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.simulation.rig import SimulatedRig, SimulatedRigConfig

SIZES = ((480, 640, 4.0), (1080, 1920, 12.0))


def a_frame(height: int, width: int) -> FusedFrame:
    """A frame of the simulated rig."""
    import cv2

    rig = SimulatedRig(SimulatedRigConfig.model_validate({"height": 480, "width": 640}))
    visible = np.asarray(cv2.resize(rig.visible(1.0), (width, height)), dtype=np.uint8)
    counts = rig.thermal(1.0)
    levels = np.clip((counts.astype(np.float32) - 22500) / 8, 0, 255).astype(np.uint8)
    grid = np.asarray(cv2.resize(levels, (width, height)), dtype=np.uint8)
    pair = FramePair(
        Frame(Stream.VISIBLE, visible, 0, 0, TimestampSource.SIMULATED),
        Frame(Stream.THERMAL, counts, 0, 0, TimestampSource.SIMULATED),
    )
    fused = np.asarray(cv2.addWeighted(visible, 0.7, np.repeat(grid[..., None], 3, axis=2), 0.3, 0), dtype=np.uint8)
    return FusedFrame(fused, pair, 1.0, "benchmark", thermal_8bit=grid)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    frames = parser.parse_args().frames
    import cv2

    cv2.setNumThreads(1)  # as `lumitherm gui` does
    application = QApplication(["present"])
    stats = Stats()
    print(
        f"{'size':>10} {'view':>14} {'p50':>7} {'p95':>7} {'least':>7} {'work p95':>9}  ms, {frames} frames, one thread"
    )
    for height, width, target in SIZES:
        frame = a_frame(height, width)
        view = VideoView()
        view.resize(width, height)
        view.show()
        while not view.isVisible() or view.visibleRegion().isEmpty():
            application.processEvents()
        for _ in range(20):
            application.processEvents()
        view.set_figures(hud_figures(stats.snapshot()))
        settings = [(mode.value, ViewSettings(mode=mode)) for mode in ViewMode]
        settings.append(("thermal share", ViewSettings(thermal_share=True)))
        for name, setting in settings:
            view.set_settings(setting)
            times: list[float] = []
            work: list[float] = []
            for number in range(frames + 5):
                began, worked = time.perf_counter(), time.thread_time()
                view.set_frame(frame)
                view.repaint()
                if number >= 5:
                    times.append((time.perf_counter() - began) * 1e3)
                    work.append((time.thread_time() - worked) * 1e3)
                application.processEvents()
            p50, p95 = np.percentile(times, (50, 95))
            own = np.percentile(work, 95)
            mark = "" if own <= target else f"  above {target:g} ms"
            print(f"{width}x{height:<5} {name:>14} {p50:7.2f} {p95:7.2f} {min(times):7.2f} {own:9.2f}{mark}")
        view.close()
    application.processEvents()


if __name__ == "__main__":
    main()
