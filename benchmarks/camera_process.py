"""What a camera in a process of its own costs and saves: latency, processor time, recovery, effect on the other one.

    python -m benchmarks.camera_process [--seconds 20]

Two RTSP cameras of GStreamer's server. First both here, then both apart: grab-to-reader latency and processor time a
frame, as ratios of one run. Then the visible camera's process is killed, stopped, made to leak and to flood.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.rtsp_server import RtspServer, missing_reason  # noqa: E402

from app.capture.cameras.child_camera import ChildCamera  # noqa: E402
from app.capture.cameras.factory import create_cameras  # noqa: E402
from app.capture.capture_thread import CaptureState, CaptureThread  # noqa: E402
from app.capture.config import CameraConfig  # noqa: E402
from fusion_core.frames import Frame, Stream  # noqa: E402


class Watch:
    """One capture thread; what came when, and which states it went through."""

    def __init__(self, camera: object, stream: Stream, config: CameraConfig) -> None:
        self.camera = camera
        self.arrivals: list[tuple[float, float]] = []  # monotonic s, latency ms
        self.states: list[tuple[float, CaptureState, str]] = []
        self.thread = CaptureThread(camera, stream, config, self._take, on_state=self._note)  # type: ignore[arg-type]

    def _take(self, frame: Frame) -> None:
        now_ns = time.monotonic_ns()
        self.arrivals.append((now_ns / 1e9, (now_ns - frame.timestamp_ns) / 1e6))

    def _note(self, _: Stream, state: CaptureState, reason: str) -> None:
        self.states.append((time.monotonic(), state, reason))

    def wait(self, count: int, limit_s: float = 90.0) -> None:
        end_s = time.monotonic() + limit_s
        while len(self.arrivals) < count and time.monotonic() < end_s:
            time.sleep(0.02)


def processor_s() -> float:
    """Of this process and its children that have ended or run."""
    total = 0.0
    me = os.getpid()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == me and b"rtsp_server" not in path.with_name("cmdline").read_bytes():
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    own = resource.getrusage(resource.RUSAGE_SELF)
    return total + own.ru_utime + own.ru_stime


def pair(server: RtspServer, apart: bool) -> list[Watch]:
    configs = [
        CameraConfig.model_validate({"uri": server.url(name), "own_process": apart, "reopen": {"first_backoff_s": 0.2}})
        for name in ("visible", "thermal")
    ]
    made = create_cameras(configs[0], configs[1])
    watches = [Watch(made.visible, Stream.VISIBLE, configs[0]), Watch(made.thermal, Stream.THERMAL, configs[1])]
    for watch in watches:
        watch.thread.start()
    return watches


def measure(server: RtspServer, apart: bool, seconds: float) -> tuple[float, float, float]:
    """(latency p50 ms, p95 ms, processor ms a frame)."""
    watches = pair(server, apart)
    for watch in watches:
        watch.wait(20)
    counts, before_s = [len(watch.arrivals) for watch in watches], processor_s()
    time.sleep(seconds)
    spent_s = processor_s() - before_s
    new = [latency for watch, count in zip(watches, counts, strict=True) for _, latency in watch.arrivals[count:]]
    for watch in watches:
        watch.thread.stop(10)
    ordered = sorted(new)
    return median(ordered), ordered[int(0.95 * len(ordered))], 1e3 * spent_s / len(new)


def strike(server: RtspServer, name: str, seconds: float) -> str:
    """Do something to the visible camera's process; a row of the table."""
    visible, thermal = pair(server, True)
    visible.wait(40)
    thermal.wait(40)
    camera = visible.camera
    end_s = time.monotonic() + 20
    while camera._spare is None and time.monotonic() < end_s:  # type: ignore[attr-defined]
        time.sleep(0.05)  # as on a rig that has run for a while
    time.sleep(2.0)
    assert isinstance(camera, ChildCamera) and camera.pid is not None
    before, at_s = len(visible.states), time.monotonic()
    if name in ("killed", "stopped"):
        os.kill(camera.pid, signal.SIGKILL if name == "killed" else signal.SIGSTOP)
    else:
        child = camera._child
        assert child is not None
        if name == "leaking":
            child._limit_bytes = 1  # what it holds is too much from now on
        else:
            child._pending.extend([b"F"] * 20)
    end_s = at_s + seconds
    while time.monotonic() < end_s:
        time.sleep(0.05)
    lost = [(s, reason) for s, state, reason in visible.states[before:] if state is CaptureState.LOST]
    back = next((s for s, state, _ in visible.states[before:] if state is CaptureState.STREAMING), None)
    other = [b - a for (a, _), (b, _) in zip(thermal.arrivals, thermal.arrivals[1:], strict=False) if b > at_s]
    for watch in (visible, thermal):
        watch.thread.stop(10)
    noticed = f"{lost[0][0] - at_s:.2f}" if lost else "-"
    returned = f"{back - at_s:.2f}" if back is not None else "-"
    return f"| {name} | {noticed} | {returned} | {len(lost)} | {1e3 * max(other):.0f} |"


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    reason = missing_reason()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    with RtspServer(fps=25, width=640, height=480) as server:
        here, apart = measure(server, False, seconds), measure(server, True, seconds)
        print("| two RTSP cameras, 640x480, 25 frames/s | here | apart | ratio |\n|---|---|---|---|")
        for what, one, other in zip(
            ("latency p50, ms", "latency p95, ms", "processor ms a frame"), here, apart, strict=True
        ):
            print(f"| {what} | {one:.1f} | {other:.1f} | {other / one:.2f} |")
        print("\n| visible's process is | noticed, s | back, s | times lost | the other's longest gap, ms |")
        print("|---|---|---|---|---|")
        for name in ("killed", "stopped", "leaking", "flooding"):
            print(strike(server, name, seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
