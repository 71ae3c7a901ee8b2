"""Runs the live pipeline for a long time with a fault every so often, and reports whether it mended itself.

    python -m benchmarks.soak.pipeline --minutes 120 --interval 60 --out soak_out

writes OUT/soak.jsonl (one line a second), OUT/faults.csv, OUT/soak.png and OUT/report.md. The faults, in turn: visible
unplugged, thermal stalled, a shutter correction, a long one, a full disk, an engine that fails, both cameras unplugged,
the whole process stopped (SIGSTOP). With --disk the recordings go there; a small file system (below 1 GiB) lets the
disk fault happen, and as root a tmpfs is mounted for it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.capture.cameras.factory import create_cameras
from app.configuration.config import AppConfig, load_config
from app.pipeline.live_fusion import LiveFusion, PipelineState
from app.process import bound_heap
from app.recording.segments import list_recordings
from app.recording.self_check import check_recording
from benchmarks.soak.faults import FaultyCameras, FaultyEngine, full_disk, pause_process
from fusion_core.engines.engine import FusionEngine, create_engine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.frames import FrameFlag, FusedFrame, Stream

__all__ = ["Fault", "Report", "Soak", "small_disk"]

DISK_MB = 256
_DISK_NAME = "lumitherm-soak-"  # and the number of the process
_MOUNTS = Path("/proc/self/mounts")
_DISTURBED = FrameFlag.HELD | FrameFlag.FFC | FrameFlag.VISIBLE_ONLY | FrameFlag.THERMAL_ONLY | FrameFlag.STALE


@dataclass
class Fault:
    """One fault as it went. Times in s since the start; recovery_s from its end to the first sound picture."""

    name: str
    began_s: float
    ended_s: float = 0.0
    recovery_s: float | None = None
    frames_to_normal: int | None = None  # sound pictures until the latency was normal again
    detail: str = ""


@dataclass
class Report:
    """What came out. growth_mb: resident memory at the end against that after the warm-up, medians."""

    faults: list[Fault] = field(default_factory=list)
    growth_mb: float = 0.0
    latency_p95_ms: float = 0.0
    seconds: float = 0.0
    fused: int = 0
    files: int = 0
    file_problems: list[str] = field(default_factory=list)
    failure: str | None = None


class Watcher:
    """Looks at every fused frame in a thread of its own, as a screen would."""

    def __init__(self, live: LiveFusion) -> None:
        self._live = live
        self._over = threading.Event()
        self.frames: list[tuple[float, float, bool]] = []  # time s, latency ms, sound
        self._thread = threading.Thread(target=self._run, name="soak watcher")
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        sequence = 0
        while not self._over.is_set():
            newer = self._live.latest.wait_newer(sequence, 0.2)
            if newer is not None:
                sequence, frame = newer
                self.frames.append((time.monotonic(), latency_ms(frame), is_sound(frame)))


def latency_ms(frame: FusedFrame) -> float:
    return (frame.fused_ns - frame.pair.timestamp_ns) / 1e6


def is_sound(frame: FusedFrame) -> bool:
    return not frame.pair.flags & _DISTURBED


class Soak:
    """One run. `hold_s` scales how long the faults last: 1 is the real thing."""

    def __init__(
        self, config: AppConfig, out: Path, interval_s: float, hold_s: float, cameras: Callable[..., Any]
    ) -> None:
        self.out, self.interval_s, self.hold = out, interval_s, hold_s
        self.cameras = FaultyCameras(cameras)
        self.engine_broken = threading.Event()
        self.folder = config.recording.directory
        self.live = LiveFusion(config, camera_factory=self.cameras, engine_factory=self._engine)
        self.began_s = time.monotonic()
        self.report = Report()
        self.samples: list[dict[str, Any]] = []

    def _engine(
        self, name: str, preset: str, weights: Path | None, threads: int | None, *, video: VideoOptions
    ) -> FusionEngine:
        return FaultyEngine(create_engine(name, preset, weights, threads, video=video), self.engine_broken)

    # ------------------------------------------------------------------ the faults

    @contextlib.contextmanager
    def unplugged(self, *streams: Stream) -> Iterator[None]:
        for stream in streams:
            self.cameras.camera(stream).unplug()
        self.sleep(5.0)
        yield
        self.mend()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        self.cameras.camera(Stream.THERMAL).stall()
        self.sleep(5.0)
        yield
        self.mend()

    @contextlib.contextmanager
    def shutter(self, seconds: float) -> Iterator[None]:
        self.cameras.camera(Stream.THERMAL).freeze()
        time.sleep(seconds)
        yield
        self.mend()

    @contextlib.contextmanager
    def disk_full(self) -> Iterator[None]:
        with full_disk(self.folder):
            self.sleep(10.0)
        yield

    @contextlib.contextmanager
    def engine_failure(self) -> Iterator[None]:
        self.engine_broken.set()
        self.sleep(2.0)
        yield
        self.engine_broken.clear()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        pause_process(5.0 * self.hold).wait()
        yield

    def faults(self) -> list[tuple[str, Callable[[], contextlib.AbstractContextManager[None]]]]:
        both = (Stream.VISIBLE, Stream.THERMAL)
        every: list[tuple[str, Callable[[], contextlib.AbstractContextManager[None]]]] = [
            ("visible unplugged", lambda: self.unplugged(Stream.VISIBLE)),
            ("thermal stalled", self.stalled),
            ("shutter 0.5 s", lambda: self.shutter(0.5)),
            ("shutter 3 s", lambda: self.shutter(3.0 * self.hold)),
            ("engine fails", self.engine_failure),
            ("both unplugged", lambda: self.unplugged(*both)),
            ("process stopped", self.stopped),
        ]
        if shutil.disk_usage(self.folder).total < 1 << 30:
            every.insert(4, ("disk full", self.disk_full))
        return every

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds * self.hold)

    def mend(self) -> None:
        for stream in Stream:
            self.cameras.camera(stream).mend()

    # ------------------------------------------------------------------ the run

    def run(self, seconds: float) -> Report:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.live.start()
        watcher = Watcher(self.live)
        try:
            self._until(lambda: self.live.state is PipelineState.RUNNING, 120.0)
            self.live.recording.start("soak")
            self._sample_for(min(self.interval_s, 0.25 * seconds), watcher)
            end_s = time.monotonic() + seconds - (time.monotonic() - self.began_s)
            number = 0
            while time.monotonic() + 0.5 * self.interval_s < end_s and self.live.failure is None:
                faults = self.faults()
                self._fault(*faults[number % len(faults)], watcher)
                number += 1
            self._sample_for(max(1.0, end_s - time.monotonic()), watcher)
        finally:
            self.report.seconds = time.monotonic() - self.began_s
            self.report.fused = self.live.stats.snapshot().frames["fused"]
            self.live.stop(30.0)
            watcher.stop()
        self._conclude(watcher)
        return self.report

    def _fault(self, name: str, make: Callable[[], contextlib.AbstractContextManager[None]], watcher: Watcher) -> None:
        normal_ms = self._normal_ms(watcher)
        fault = Fault(name, time.monotonic() - self.began_s)
        with make():
            fault.detail = self.live.state.value
        mended_s = time.monotonic()
        fault.ended_s = mended_s - self.began_s
        self._sample_for(self.interval_s, watcher)
        sound = [entry for entry in watcher.frames if entry[0] >= mended_s and entry[2]]
        if sound:
            fault.recovery_s = sound[0][0] - mended_s
            fault.frames_to_normal = next((n for n, entry in enumerate(sound) if entry[1] <= normal_ms), None)
        self.report.faults.append(fault)
        del watcher.frames[:-2000]
        print(f"{name}: back after {fault.recovery_s} s, {fault.frames_to_normal} frames to normal", file=sys.stderr)

    @staticmethod
    def _normal_ms(watcher: Watcher) -> float:
        """A latency that is nothing unusual: the 95th percentile of the sound frames so far plus one frame period."""
        latencies = sorted(latency for _, latency, sound in watcher.frames[-600:] if sound)
        return (latencies[int(0.95 * (len(latencies) - 1))] if latencies else 1e9) + 33.4

    def _sample_for(self, seconds: float, watcher: Watcher) -> None:
        process = psutil.Process()
        end_s = time.monotonic() + seconds
        with (self.out / "soak.jsonl").open("a", encoding="utf-8") as file:
            while time.monotonic() < end_s and self.live.failure is None:
                time.sleep(min(1.0, max(0.05, end_s - time.monotonic())))
                snapshot = self.live.stats.snapshot()
                sample = {
                    "t_s": round(time.monotonic() - self.began_s, 2),
                    "rss_mb": round(process.memory_info().rss / 1e6, 2),
                    "threads": process.num_threads(),
                    "fds": process.num_fds() if hasattr(process, "num_fds") else 0,
                    "fused_fps": round(snapshot.fps["fused"], 2),
                    "latency_ms": watcher.frames[-1][1] if watcher.frames else None,
                    "state": self.live.state.value,
                    "engine": snapshot.engine,
                    "recording": snapshot.recording.value,
                    "drops": dict(snapshot.drops),
                }
                self.samples.append(
                    {key: sample[key] for key in ("t_s", "rss_mb", "threads", "fds", "fused_fps", "latency_ms")}
                )
                file.write(json.dumps(sample) + "\n")
        # Files on a small disk: keep the last two
        for old in list_recordings(self.folder)[:-2]:
            if shutil.disk_usage(self.folder).free < DISK_MB * 5e5:
                for path in self.folder.glob(f"{old.stem}.*"):
                    path.unlink()

    @staticmethod
    def _until(condition: Callable[[], bool], limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        while not condition() and time.monotonic() < end_s:
            time.sleep(0.05)

    def _conclude(self, watcher: Watcher) -> None:
        report = self.report
        report.failure = None if self.live.failure is None else str(self.live.failure)
        third = max(1, len(self.samples) // 6)
        rss = [sample["rss_mb"] for sample in self.samples]
        if len(rss) > 2 * third:
            report.growth_mb = statistics.median(rss[-third:]) - statistics.median(rss[third : 2 * third])
        total = self.live.stats.snapshot().latency_total_ms["grab_to_fused"]
        report.latency_p95_ms = total.p95 or 0.0
        for path in list_recordings(self.folder):
            report.files += 1
            report.file_problems += check_recording(path, time.monotonic() + 20.0).problems
        write_out(report, self.samples, self.out)


def write_out(report: Report, samples: list[dict[str, Any]], out: Path) -> None:
    """faults.csv, soak.png and report.md."""
    with (out / "faults.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["fault", "began_s", "ended_s", "recovery_s", "frames_to_normal", "state"])
        for f in report.faults:
            writer.writerow([f.name, f.began_s, f.ended_s, f.recovery_s, f.frames_to_normal, f.detail])
    lines = [
        f"{report.seconds:.0f} s, {report.fused} pictures fused, {len(report.faults)} faults, latency p95"
        f" {report.latency_p95_ms:.0f} ms over all, resident memory {report.growth_mb:+.1f} MB after warm-up,"
        f" {report.files} recordings with {len(report.file_problems)} problems, failure: {report.failure or 'none'}",
        "",
        "| fault | times | state meanwhile | s until a sound picture: median, worst | pictures until normal, worst |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(fault.name for fault in report.faults):
        same = [fault for fault in report.faults if fault.name == name]
        times = [fault.recovery_s for fault in same if fault.recovery_s is not None]
        frames = [fault.frames_to_normal for fault in same if fault.frames_to_normal is not None]
        shown = f"{statistics.median(times):.2f}, {max(times):.2f}" if len(times) == len(same) else "never"
        worst = str(max(frames)) if len(frames) == len(same) else "never"
        lines.append(f"| {name} | {len(same)} | {same[-1].detail} | {shown} | {worst} |")
    lines += ["", *report.file_problems]
    (out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 1, sharex=True, figsize=(10, 7), layout="constrained")
    times = [sample["t_s"] for sample in samples]
    for axis, key, label in zip(
        axes, ("rss_mb", "fused_fps", "latency_ms"), ("resident MB", "fused/s", "latency, ms"), strict=True
    ):
        axis.plot(times, [sample[key] for sample in samples], linewidth=0.8)
        axis.set_ylabel(label)
        for fault in report.faults:
            axis.axvspan(
                fault.began_s, max(fault.ended_s, fault.began_s + 0.2), alpha=0.2, color="tab:red", linewidth=0
            )
    axes[-1].set_xlabel("s; red: a fault")
    figure.savefig(out / "soak.png", dpi=120)
    plt.close(figure)


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int = DISK_MB) -> Iterator[bool]:
    """A tmpfs on `folder`, where that is allowed; whether it is there.

    Its name holds the process's number: what a killed process has left mounted is let go of first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mounted = False
    if os.name == "posix" and os.geteuid() == 0:
        _let_go_of_left_disks()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", f"{_DISK_NAME}{os.getpid()}", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def _let_go_of_left_disks() -> None:
    for line in _MOUNTS.read_text(encoding="utf-8").splitlines() if _MOUNTS.is_file() else ():
        name, place, kind = line.split()[:3]
        number = name.removeprefix(_DISK_NAME)
        if kind == "tmpfs" and number != name and number.isdigit() and not Path("/proc", number).is_dir():
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place)  # a space is \040 there
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def main() -> int:
    bound_heap()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/simulated.yaml"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--interval", type=float, default=60.0, help="s from the end of a fault to the next")
    parser.add_argument("--hold", type=float, default=1.0, help="length of the faults, 1 = 5 s of unplugging")
    parser.add_argument("--out", type=Path, default=Path("soak_out"))
    parser.add_argument("--disk", type=Path, default=None, help="folder for the recordings; default OUT/recordings")
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    folder = wanted.disk if wanted.disk is not None else wanted.out / "recordings"
    with small_disk(folder) as mounted:
        if not mounted:
            print("no small disk could be mounted: the full disk is left out", file=sys.stderr)
        changes = [
            *wanted.overrides,
            f"recording.directory={folder}",
            "recording.autostart=false",
            "recording.reserve_mb=8",
            "recording.reserve_s=0",
            "recording.disk_policy=ring",
            "recording.split_mb=24",
        ]
        config = load_config(wanted.config, changes)
        soak = Soak(config, wanted.out, wanted.interval, wanted.hold, create_cameras)
        report = soak.run(60.0 * wanted.minutes)
    print((wanted.out / "report.md").read_text())
    return 1 if report.failure or report.file_problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
