"""How the window holds up: the GUI thread away, closing while it records, an operator's round by keyboard and mouse."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import process
from app.gui.application import Session
from app.pipeline.state.stats import RecordingState
from app.recording.reader import RecordingReader
from app.recording.self_check import check_recording
from app.rig.setup_assistant import simulated_config
from benchmarks.soak.heartbeat import Heartbeat
from benchmarks.soak.simulated_board import FaultyRig
from benchmarks.soak.window_operator import missing_programs

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 90_000
SMALL = {"height": 240, "width": 320, "thermal_height": 120, "thermal_width": 160}


class Bench:
    """A window on a small simulated rig."""

    def __init__(self, application: QApplication, folder: Path, qtbot: QtBot) -> None:
        self.folder, self.qtbot = folder, qtbot
        self.session = Session(application, folder / "window.json", folder, FaultyRig().make_pipeline)
        self.window, self.control = self.session.window, self.session.controller.live
        self.ended: list[bool] = []
        self.window.closed.connect(lambda: self.ended.append(True))
        self.window.show()
        qtbot.waitExposed(self.window)

    def until(self, condition: Callable[[], Any]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=PATIENCE_MS)

    def start(self) -> None:
        recording = {"directory": str(self.folder / "rec"), "reserve_mb": 1}
        self.session.controller.open_config(
            simulated_config(engine={"name": "average"}, recording=recording, simulation=SMALL)
        )
        self.until(lambda: self.control.frame is not None)

    @property
    def recorded(self) -> int:
        snapshot = self.control.snapshot_of_stats
        return snapshot.frames["recorded"] if snapshot is not None else 0


@pytest.fixture
def bench(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Bench]:
    before = {thread.ident for thread in threading.enumerate()}
    bench = Bench(qapp, tmp_path, qtbot)
    yield bench
    if not bench.ended:
        bench.session.controller.end()
        bench.until(lambda: bench.ended)
    assert bench.session.close()
    bench.window.deleteLater()
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    assert [thread.name for thread in threading.enumerate() if thread.ident not in before] == []


def test_the_heartbeat_sees_who_keeps_the_thread(qtbot: QtBot) -> None:
    heart = Heartbeat(stacks=True)
    heart.start()
    qtbot.waitUntil(lambda: heart.beats > 3)
    time.sleep(0.08)  # the GUI thread stands still
    qtbot.waitUntil(lambda: any(gap.gap_ms > 75 for gap in heart.gaps))
    still = max(heart.gaps, key=lambda gap: gap.gap_ms)
    assert still.held_ms > still.work_ms
    assert "test_the_heartbeat_sees_who_keeps_the_thread" in still.stacks
    end_s = time.thread_time() + 0.15
    while time.thread_time() < end_s:  # it works
        pass
    qtbot.waitUntil(lambda: any(gap.work_ms > 140 for gap in heart.gaps))
    figures = heart.figures
    assert figures.over_50 >= 2 and figures.worst_ms >= figures.p99_ms >= figures.p50_ms > 0
    assert figures.own_worst_ms > 140
    assert heart.take_worst_ms() > 75 and heart.take_worst_ms() == 0.0
    time.sleep(0.2)
    heart.forget()
    worst_ms = max(gap.gap_ms for gap in heart.gaps)
    qtbot.waitUntil(lambda: heart.beats > figures.beats)
    assert max(gap.gap_ms for gap in heart.gaps) == worst_ms
    heart.stop()


def test_the_collector_leaves_libraries_alone(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    qtbot.waitUntil(lambda: process._holders == 0, timeout=PATIENCE_MS)  # what a window before may have left to import
    monkeypatch.setattr(process, "_known", 0)
    frozen = gc.get_freeze_count()
    try:
        with pytest.raises(ValueError, match="no such"), process.held_collector():
            assert not gc.isenabled()
            raise ValueError("no such engine")
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        assert not process.freeze_imports()  # nothing was imported since
        monkeypatch.setattr(process, "_MANY", 10**9)  # whatever another thread imports
        made: list[weakref.ref[threading.Thread]] = []
        with process.held_collector():
            with process.held_collector():
                assert not gc.isenabled()
            assert not gc.isenabled()  # another one still imports
            thread = threading.Thread()
            thread.__dict__["myself"] = thread
            made.append(weakref.ref(thread))
            del thread
            assert made[0]() is not None
        assert gc.isenabled() and made[0]() is None  # looked through here, not by whoever makes the next object
    finally:
        gc.unfreeze()


def test_a_blocked_window_costs_no_memory_and_shows_the_newest_picture_next(bench: Bench) -> None:
    bench.start()
    control = bench.control
    bench.until(lambda: control.snapshot_of_stats and control.snapshot_of_stats.frames["shown"] > 30)
    process = psutil.Process()
    pipeline = control._pipeline
    assert pipeline is not None
    overwritten = pipeline.latest.overwritten
    before_mb = process.memory_info().rss / 1e6
    peak_mb = [before_mb]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peak_mb.append(process.memory_info().rss / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    held = control.frame
    time.sleep(3.0)  # the GUI thread does nothing, as when a driver hangs
    over.set()
    watcher.join()
    assert max(peak_mb) - before_mb <= 20.0
    missed = pipeline.latest.overwritten - overwritten
    assert missed >= 15  # the pipeline went on
    newest = pipeline.latest.peek()
    control.pull_frame()
    assert control.frame is not held
    assert newest is not None and control.frame is not None
    assert control.frame.fused_ns >= newest.fused_ns  # one step, none of those that were missed


def test_closing_while_recording_leaves_a_whole_file_and_no_thread(bench: Bench) -> None:
    bench.start()
    bench.session.controller.recording.set_recording(True)
    bench.until(lambda: bench.recorded > 20)
    snapshot = bench.control.snapshot_of_stats
    assert snapshot is not None and snapshot.recording is RecordingState.RECORDING
    bench.window.close()
    bench.window.close()  # the first asks
    bench.until(lambda: bench.ended)
    recorded = 0
    for path in (bench.folder / "rec").glob("*.mkv"):  # more than one if a camera was late at the start
        found = check_recording(path)
        assert found.problems == () and found.complete, path
        assert found.decoded == sum(found.frames.values())
        with RecordingReader(path) as reader:
            assert reader.info.closed_in_order
        recorded += max(found.frames.values())
    assert recorded >= 20


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="drives the window through X")
@pytest.mark.skipif(bool(missing_programs()), reason=f"needs {' and '.join(missing_programs())}")
def test_an_operator_by_keyboard_and_mouse(tmp_path: Path) -> None:
    """Views, wipe, zoom, recording, freeze, snapshot, lost cameras, an engine, playback, closing while recording."""
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "QT_QPA_PLATFORM")}
    command = [sys.executable, "-m", "benchmarks.soak.window", "--short", "--out", str(tmp_path), "--block", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["problems"] == [] and figures["threads_left"] == []
    assert len(figures["recordings"]) == 2 and all(text.endswith("sound") for text in figures["recordings"])
    assert figures["frames"]["shown"] > 0 and figures["block_growth_mb"] <= 20.0
    assert {"samples.csv", "report.md", "window.png", "gaps.txt"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM that a program could answer")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_command_ends_its_recording(tmp_path: Path, number: signal.Signals) -> None:
    """`lumitherm gui` with a recording from the start; Ctrl+C, or the system that shuts down."""
    config = tmp_path / "rig.yaml"
    recordings = {"directory": str(tmp_path / "rec"), "autostart": True, "reserve_mb": 1}
    sources = {"rig": "bench", "visible": {"uri": "sim:visible"}, "thermal": {"uri": "sim:thermal"}}
    values = sources | {"engine": {"name": "average"}, "recording": recordings, "simulation": SMALL}
    config.write_text(json.dumps(values))
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen", "XDG_CONFIG_HOME": str(tmp_path / "settings")}
    command = [sys.executable, "-m", "app", "gui", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as child:
        try:
            end_s = time.monotonic() + PATIENCE_MS / 1e3
            while sum(path.stat().st_size for path in (tmp_path / "rec").glob("*.mkv")) < 50_000:
                assert child.poll() is None and time.monotonic() < end_s
                time.sleep(0.1)
            child.send_signal(number)
            _, errors = child.communicate(timeout=PATIENCE_MS / 1e3)
        finally:
            child.kill()
    assert child.returncode == 0, errors
    for path in (tmp_path / "rec").glob("*.mkv"):
        found = check_recording(path)
        assert found.problems == () and found.complete, path
        with RecordingReader(path) as reader:
            assert reader.info.closed_in_order
    assert list((tmp_path / "settings").rglob("window.json"))
