"""Runs the whole window on the simulated rig, driven by keyboard and mouse, and reports memory, frames and gaps.

    python -m benchmarks.soak.window --minutes 10 --engine auto --use auto:tiny --out window_soak

An operator of its own records, looks at every view, drags the wipe, freezes, takes snapshots, pulls the cable of a
camera, changes the engine, plays recordings back, and in the end closes the window while it records. It
looks at each picture shown: one that a single camera has made must say so. It types and
points through xdotool on a private X server (Xvfb), or with --display on the one that DISPLAY names. Written to OUT:
report.md, figures.json, samples.csv, window.png, gaps.txt, and the recordings.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import yaml

from app.process import bound_heap
from benchmarks.soak.window_operator import missing_programs, private_display
from benchmarks.soak.window_report import Report, Sample, conclude, write_out
from fusion_core.errors import LumithermError, RunError

if TYPE_CHECKING:
    from app.configuration.config import AppConfig
    from app.gui.application import Session
    from app.pipeline.live_fusion import LiveFusion
    from benchmarks.soak.heartbeat import Heartbeat
    from benchmarks.soak.simulated_board import FaultyRig

__all__ = ["PipelineBook", "Plan", "run_window"]

_SMALL = {
    "height": 96,
    "width": 128,
    "thermal_height": 48,
    "thermal_width": 64,
    "visible_fps": 15.0,
    "thermal_fps": 15.0,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run. pace: scales how long things are looked at. engines: (engine, model) in turn, by their names."""

    out: Path
    minutes: float = 10.0
    pace: float = 1.0
    engine: str = "average"
    engines: tuple[tuple[str, str], ...] = (("pyramid", ""), ("openvino", "tiny"), ("average", ""))
    block_s: float = 30.0
    small: bool = False
    stacks: bool = False
    simulation: dict[str, float] = field(default_factory=dict)

    def write_config(self) -> Path:
        """The rig's configuration, as a file that the window opens."""
        path = self.out / "window-soak.yaml"
        values = {
            "rig": "window-soak",
            "visible": {"uri": "sim:visible"},
            "thermal": {"uri": "sim:thermal"},
            "engine": {"name": self.engine},
            "budget": {"baseline_m": 0.06, "focal_px": 554.0, "reference_distance_m": 15.0, "near_limit_m": 4.0},
            "recording": {"directory": str(self.out / "recordings"), "reserve_mb": 16},
            "simulation": (_SMALL if self.small else {"jitter_ms": 1.0}) | self.simulation,
        }
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path


class PipelineBook:
    """Makes the window's pipelines and adds up what became of their frames. Any thread."""

    def __init__(self, rig: FaultyRig) -> None:
        self._rig = rig
        self._lock = threading.Lock()
        self._newest: LiveFusion | None = None
        self.frames: dict[str, int] = {}
        self.drops: dict[str, int] = {}
        self.latency_ms: list[tuple[float, float]] = []
        self.unseen = 0
        self.pipelines = 0

    def make(self, config: AppConfig) -> LiveFusion:
        """For the window: a pipeline that is not started."""
        self.close()
        pipeline = self._rig.make_pipeline(config)
        with self._lock:
            self._newest = pipeline
            self.pipelines += 1
        return pipeline

    @property
    def newest(self) -> LiveFusion | None:
        """The pipeline made last, None after `close`."""
        return self._newest

    def close(self) -> None:
        """Add up the newest pipeline and let it go."""
        with self._lock:
            pipeline, self._newest = self._newest, None
        if pipeline is None:
            return
        snapshot = pipeline.stats.snapshot()
        for total, part in ((self.frames, snapshot.frames), (self.drops, snapshot.drops)):
            for name, count in part.items():
                total[name] = total.get(name, 0) + count
        shown = snapshot.latency_total_ms["grab_to_shown"]
        if shown.p50 is not None and shown.p95 is not None:
            self.latency_ms.append((shown.p50, shown.p95))
        self.unseen += pipeline.latest.overwritten


class _Sampler:
    """One line a second while the window lives. Thread `sampler`."""

    def __init__(self, book: PipelineBook, heart: Heartbeat) -> None:
        self.samples: list[Sample] = []
        self._book, self._heart = book, heart
        self._process = psutil.Process()
        self._began_s = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")
        self._thread.start()

    @property
    def rss_mb(self) -> float:
        """Resident memory now."""
        return float(self._process.memory_info().rss) / 1e6

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(1.0):
            pipeline = self._book.newest
            snapshot = pipeline.stats.snapshot() if pipeline is not None else None
            latency = snapshot.latency_ms["grab_to_shown"].p95 if snapshot is not None else None
            self.samples.append(
                Sample(
                    t_s=time.monotonic() - self._began_s,
                    rss_mb=self.rss_mb,
                    threads=self._process.num_threads(),
                    files=self._process.num_fds() if hasattr(self._process, "num_fds") else 0,
                    fused_fps=snapshot.fps["fused"] if snapshot is not None else 0.0,
                    shown_fps=snapshot.fps["shown"] if snapshot is not None else 0.0,
                    latency_ms=latency,
                    worst_gap_ms=self._heart.take_worst_ms(),
                    engine=snapshot.engine if snapshot is not None else "",
                    recording=snapshot.recording.value if snapshot is not None else "off",
                )
            )


def run_window(plan: Plan) -> Report:
    """The whole run on the display that is there. Call it once a process: it makes the application object.

    Raises:
        RunError: a program is missing, or the window does not come up.
    """
    missing = [name for name in missing_programs() if name == "xdotool"]
    if missing:
        raise RunError("xdotool is missing; `sudo apt-get install xdotool`, or drive the window by hand")
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # as `lumitherm gui` has it
    began_s = time.perf_counter()
    from app.gui.application import Session, load_pipeline
    from app.gui.common.qt_application import make_application
    from benchmarks.soak.heartbeat import Heartbeat
    from benchmarks.soak.simulated_board import FaultyRig
    from benchmarks.soak.window_steps import OperatorRun
    from benchmarks.soak.window_trust import TrustWatch, memory_growth_mb

    import_s = time.perf_counter() - began_s
    from app.gui.common.tasks import Lane

    application = make_application(["lumitherm"])
    application.setQuitOnLastWindowClosed(False)
    rig = FaultyRig()
    book = PipelineBook(rig)
    session = Session(application, plan.out / "window.json", plan.out, book.make)
    session.controller.set_expert(True)  # every view, panel and figure
    heart = Heartbeat(stacks=plan.stacks)
    sampler = _Sampler(book, heart)
    report = Report(import_s=import_s)
    watch = TrustWatch(session)
    run = OperatorRun(plan, session, rig, book, heart, lambda: sampler.rss_mb, report)
    session.window.closed.connect(application.quit)
    session.window.resize(1320, 820)
    session.window.show()
    session.tasks.run(load_pipeline, lane=Lane.CONTROL)  # as `application.run` does
    heart.start()
    run.start()
    application.exec()
    closed_s = time.perf_counter()
    run.ended(closed_s)
    heart.stop()
    sampler.stop()
    report.single_shown, report.unmarked = watch.single, watch.unmarked
    report.problems += watch.unmarked[:5]
    report.problems += [f"{name} is not among the recent ones" for name in watch.not_in_recent(plan.out / "recordings")]
    report.growth_after_5_min_mb = memory_growth_mb(sampler.samples)
    report.threads_left = _threads_left(session)
    book.close()
    conclude(report, book.frames, book.drops, book.latency_ms, book.unseen, heart, sampler.samples)
    return report


def _threads_left(session: Session) -> list[str]:
    """Close the session; the threads of ours, which all have names, that are still there a moment later."""
    ended = session.close()
    limit_s = time.monotonic() + 5.0
    while _own_threads() and time.monotonic() < limit_s:
        time.sleep(0.02)
    return _own_threads() if ended else [*_own_threads(), "tasks"]


def _own_threads() -> list[str]:
    threads = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return [thread.name for thread in threads if not thread.name.startswith("ThreadPoolExecutor-")]


def main(arguments: list[str] | None = None) -> int:
    """See the module; returns 0 when everything went as it should, 1 if not, 2 for bad usage."""
    bound_heap()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("window_soak"))
    parser.add_argument("--engine", default="average", help="that the rig starts with")
    parser.add_argument(
        "--use", action="append", metavar="ENGINE[:MODEL]", help="engines to change to, one a round; may be given again"
    )
    parser.add_argument("--block", type=float, default=30.0, help="how long to block the GUI thread once, s")
    parser.add_argument("--short", action="store_true", help="one quick round on a small rig")
    parser.add_argument("--stacks", action="store_true", help="write what all threads do in gaps above 20 ms")
    parser.add_argument("--display", action="store_true", help="use DISPLAY instead of a private X server")
    wanted = parser.parse_args(arguments)
    wanted.out.mkdir(parents=True, exist_ok=True)
    out = wanted.out.resolve()
    plan = Plan(out, wanted.minutes, engine=wanted.engine, block_s=wanted.block, stacks=wanted.stacks)
    if wanted.short:
        plan = replace(
            plan, minutes=0.0, pace=0.1, engines=(("pyramid", ""),), block_s=min(3.0, wanted.block), small=True
        )
    if wanted.use:
        plan = replace(plan, engines=tuple((name, model) for name, _, model in (u.partition(":") for u in wanted.use)))
    try:
        with contextlib.ExitStack() as stack:
            if not wanted.display:
                if missing_programs():
                    raise RunError(f"{' and '.join(missing_programs())} missing; `sudo apt-get install xvfb xdotool`")
                stack.enter_context(private_display(1600, 1000))
            report = run_window(plan)
    except LumithermError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_out(report, plan.out)
    print((plan.out / "report.md").read_text(encoding="utf-8"))
    return 1 if report.problems or report.threads_left else 0


if __name__ == "__main__":
    sys.exit(main())
