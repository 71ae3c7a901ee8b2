"""Where the time of a live picture goes, from its time stamp to the screen: the simulated rig, recording included.

    python benchmarks/live_latency.py [--seconds 30] [--no-record] [--set KEY=VALUE] [--json FILE]

Runs the pipeline of configs/simulated.yaml and takes the time at each hand-over, of every picture after the engine is
up:

    pairing wait    time stamp (mid-exposure, thermal) to the pair leaving the synchronizer: rendering of the frame by
                    the simulation, the other camera's frame, and the fusion thread being ready for the pair
    AGC, warp       counts to 8 bit; thermal onto the visible grid
    luminance, displacement, remap, network, colour
                    the steps inside the engine; displacement is what the frame waits for its field
    hand-over       the rest of the fusion thread's work: statistics, slot, recorder's queue
    present         slot to the consumer that shows it (here: a thread that waits for the newest picture and does not
                    draw; `benchmarks/present.py` has what drawing costs)

Prints the median, 95 % and share of each, and the rates. Nothing is measured that the application does not do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from app.configuration.config import load_config
from app.pipeline import fusion_thread
from app.pipeline.live_fusion import LiveFusion
from app.pipeline.state.stats import Stage
from fusion_core.engines import openvino_engine

STAGES = (
    "pairing wait",
    "AGC",
    "warp",
    "luminance",
    "displacement",
    "remap",
    "network",
    "colour",
    "hand-over",
    "present",
)


class Clockwork:
    """Times of the fusion thread's picture under way; finished ones are kept. Filled by wrapped functions."""

    def __init__(self) -> None:
        self.pictures: list[dict[str, float]] = []
        self.shown: list[float] = []
        self._now: dict[str, float] = {}
        self._thread: int | None = None

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Replace a function by one that adds its time to a stage while the fusion thread runs it."""
        plain = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return plain(*args, **kwargs)
            began_ns = time.perf_counter_ns()
            try:
                return plain(*args, **kwargs)
            finally:
                self._now[stage] = self._now.get(stage, 0.0) + (time.perf_counter_ns() - began_ns) / 1e6

        setattr(owner, name, timed)

    def process(self, plain: Callable[..., None]) -> Callable[..., None]:
        """The fusion thread's work on one pair, as a picture of its own."""

        def timed(thread: Any, pair: Any) -> None:
            self._thread, self._now = threading.get_ident(), {}
            began_ns = time.monotonic_ns()
            plain(thread, pair)
            ended_ns = time.monotonic_ns()
            now = self._now
            now["pairing wait"] = (began_ns - pair.timestamp_ns) / 1e6
            now["hand-over"] = (ended_ns - began_ns) / 1e6 - sum(now.get(s, 0.0) for s in STAGES[1:8])
            now["total"] = (ended_ns - pair.timestamp_ns) / 1e6
            self.pictures.append(now)

        return timed


def run(seconds: float, record: bool, overrides: list[str]) -> dict[str, Any]:
    """Measure for so long after the engine is up."""
    cv2.setNumThreads(1)
    clockwork = Clockwork()
    clockwork.wrap(fusion_thread.Agc, "apply", "AGC")
    clockwork.wrap(fusion_thread.ThermalGrid, "to_visible", "warp")
    clockwork.wrap(openvino_engine, "luminance", "luminance")
    clockwork.wrap(openvino_engine.RunningDisplacement, "at", "displacement")
    clockwork.wrap(openvino_engine.cv2, "remap", "remap")
    clockwork.wrap(openvino_engine, "replace_luminance", "colour")
    clockwork.wrap(openvino_engine._Compiled, "run", "run")
    thread = fusion_thread.FusionThread
    thread._process = clockwork.process(thread._process)  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory(prefix="lumitherm-latency-") as folder:
        changes = [f"recording.directory={folder}", f"recording.autostart={'true' if record else 'false'}", *overrides]
        live = LiveFusion(load_config(Path(__file__).parent.parent / "configs" / "simulated.yaml", changes, os.environ))
        stop = threading.Event()

        def present() -> None:
            sequence = 0
            while not stop.is_set():
                newer = live.latest.wait_newer(sequence, 0.2)
                if newer is not None:
                    sequence, frame = newer
                    live.note_shown(frame)
                    clockwork.shown.append((time.monotonic_ns() - frame.fused_ns) / 1e6)

        viewer = threading.Thread(target=present, name="present")
        live.start()
        viewer.start()
        try:
            while live.failure is None and not live.stats.snapshot().engine.startswith("openvino"):
                time.sleep(0.1)
            time.sleep(3.0)
            clockwork.pictures.clear()
            clockwork.shown.clear()
            before = {stage: live.stats.frames_so_far(stage) for stage in Stage}
            threads_before = _thread_seconds()
            began_s, cpu_s = time.monotonic(), time.process_time()
            time.sleep(seconds)
            spent_s = time.monotonic() - began_s
            busy = _busy(threads_before, _thread_seconds(), spent_s)
            rates = {stage.value: (live.stats.frames_so_far(stage) - before[stage]) / spent_s for stage in Stage}
            cores = (time.process_time() - cpu_s) / spent_s
        finally:
            stop.set()
            live.stop(20.0)
            viewer.join(5.0)
        if live.failure is not None:
            raise live.failure
        recording = live.recording.summary
        return {
            "engine": live.stats.snapshot().engine,
            "pictures": len(clockwork.pictures),
            "fps": {name: round(rate, 1) for name, rate in rates.items()},
            "cores": round(cores, 2),
            "cores_by_thread": busy,
            "refused_by_recorder": sum(recording.refused.values()) if recording is not None else None,
            "stages": _stages(clockwork),
        }


def _thread_seconds() -> dict[tuple[int, str], float]:
    """Processor time of each thread so far, s, by number and name; the libraries' own as the system calls them."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            name = names.get(int(task.name)) or f"library ({(task / 'comm').read_text().strip()})"
        except OSError:
            continue  # it ended just now
        found[int(task.name), name] = (int(fields[11]) + int(fields[12])) / ticks
    return found


def _busy(
    before: dict[tuple[int, str], float], after: dict[tuple[int, str], float], spent_s: float
) -> dict[str, float]:
    """Cores that threads of each name kept busy, largest first."""
    total: dict[str, float] = {}
    for key, seconds in after.items():
        total[key[1]] = total.get(key[1], 0.0) + seconds - before.get(key, 0.0)
    shares = {name: round(seconds / spent_s, 3) for name, seconds in total.items()}
    return dict(sorted(((n, v) for n, v in shares.items() if v >= 0.005), key=lambda entry: -entry[1]))


def _stages(clockwork: Clockwork) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    pictures = [picture for picture in list(clockwork.pictures) if "run" in picture]  # both cameras were there
    for picture in pictures:
        inside = sum(picture.get(stage, 0.0) for stage in ("displacement", "remap"))
        picture["network"] = picture.pop("run", 0.0) - inside
        picture["hand-over"] -= picture["network"]
    total = float(np.mean([picture["total"] for picture in pictures])) + float(np.mean(clockwork.shown))
    for stage in (*STAGES, "stamp to fused"):
        if stage == "present":
            values = clockwork.shown
        else:
            values = [picture.get("total" if stage == "stamp to fused" else stage, 0.0) for picture in pictures]
        rows[stage] = {
            "median_ms": round(float(np.median(values)), 2),
            "p95_ms": round(float(np.percentile(values, 95)), 2),
            "share": round(float(np.mean(values)) / total, 3),
        }
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--no-record", dest="record", action="store_false")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = run(arguments.seconds, arguments.record, arguments.overrides)
    print(f"{found['engine']}, {found['pictures']} pictures, {found['cores']} cores busy, fps {found['fps']}")
    print(f"{'stage':>16} {'median':>8} {'p95':>8} {'share':>7}  ms")
    for stage, row in found["stages"].items():
        print(f"{stage:>16} {row['median_ms']:8.2f} {row['p95_ms']:8.2f} {100 * row['share']:6.1f} %")
    print("cores busy: " + ", ".join(f"{name} {cores:.2f}" for name, cores in found["cores_by_thread"].items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
