"""Works through the window as an operator would: what is pressed and dragged, and what has to follow from it.

Thread `operator`. It reads the controllers' plain attributes, and asks the GUI thread for places on the screen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PyQt6.QtCore import QPoint, QPointF, Qt
from PyQt6.QtWidgets import QAbstractButton, QComboBox, QListWidget, QScrollArea, QWidget

from app.gui.common.pipeline_protocol import ControllerState
from app.gui.widgets.sections import Section
from app.pipeline.state.stats import RecordingState
from app.view.settings import ViewMode
from benchmarks.soak.window_operator import GuiCalls, Operator
from benchmarks.soak.window_report import Report, Step
from fusion_core.errors import RunError
from fusion_core.frames import Stream

if TYPE_CHECKING:
    from app.gui.application import Session
    from app.gui.picture.video_view import VideoView
    from benchmarks.soak.heartbeat import Heartbeat
    from benchmarks.soak.simulated_board import FaultyRig
    from benchmarks.soak.window import PipelineBook, Plan

__all__ = ["OperatorRun"]

_PATIENCE_S = 40.0
_MOST_TIMES = 200_000  # of painting, ms


class OperatorRun:
    """One run of the operator, from `start` until the window has closed. Made on the GUI thread."""

    def __init__(
        self,
        plan: Plan,
        session: Session,
        rig: FaultyRig,
        book: PipelineBook,
        heart: Heartbeat,
        rss_mb: Callable[[], float],
        report: Report,
    ) -> None:
        self._plan, self._session, self._rig, self._book = plan, session, rig, book
        self._heart, self._rss_mb, self._report = heart, rss_mb, report
        self._window, self._control = session.window, session.controller.live
        self._calls = GuiCalls()
        self._xid = int(self._window.winId())
        self._hands: Operator | None = None
        self._painted_ms: list[float] = []
        self._fresh_from_ns: int | None = None  # waiting for a picture fused after this
        self._stale = 0  # pictures painted meanwhile
        self._fresh: tuple[float, float] | None = None  # when it came, and how long after it was fused, ms
        self._wait_for_picture: float | None = None
        self._asked_to_close_s: float | None = None
        self._began_s = time.perf_counter()
        self._thread = threading.Thread(target=self._run, name="operator")
        self._window.live.stage.video.presented.connect(self._presented)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ended(self, closed_s: float) -> None:
        """The window has closed at this time (perf_counter)."""
        self._thread.join(_PATIENCE_S)
        report = self._report
        if self._asked_to_close_s is not None:
            report.close_s = closed_s - self._asked_to_close_s
        report.presented = len(self._painted_ms)
        report.paint_p95_ms = float(np.percentile(self._painted_ms, 95)) if self._painted_ms else 0.0
        self._check_recordings()

    def _presented(self, ms: float) -> None:
        """GUI thread."""
        now_s = time.perf_counter()
        if len(self._painted_ms) < _MOST_TIMES:
            self._painted_ms.append(ms)
        if self._wait_for_picture is not None:
            self._report.first_picture_s.append(now_s - self._wait_for_picture)
            self._wait_for_picture = None
        frame = self._control.frame
        if frame is None or self._fresh_from_ns is None:
            return
        if frame.fused_ns >= self._fresh_from_ns:
            self._fresh = now_s, (time.monotonic_ns() - frame.fused_ns) / 1e6
            self._fresh_from_ns = None
        else:
            self._stale += 1

    # ------------------------------------------------------------------ the run

    def _run(self) -> None:
        try:
            self._hands = Operator()
            try:
                self._work()
            finally:
                self._hands.close()
        except Exception as error:  # the run ends and says so
            self._report.problems.append(f"the operator gave up: {type(error).__name__}: {error}")
            self._calls.ask(self._session.controller.end)

    def _work(self) -> None:
        plan, end_s = self._plan, time.perf_counter() + 60.0 * self._plan.minutes
        config = plan.write_config()
        time.sleep(1.0)
        self._do("start the rig", lambda: self._open(config))
        number = 0
        while True:
            self._live(number)
            if number == 0 and plan.block_s > 0:
                self._do(f"block the GUI thread for {plan.block_s:g} s", self._block)
            self._look_for(40.0)
            self._report.round_mb.append(self._rss_mb())
            self._do("stop recording", self._stop_recording)
            if number == 0 or time.perf_counter() < end_s:
                self._playback(config)
            number += 1
            if time.perf_counter() >= end_s:
                break
        self._do("record", self._record)
        time.sleep(max(1.0, 4.0 * plan.pace))
        self._note("close the window while it records", 0.0)
        self._asked_to_close_s = time.perf_counter()
        self._keys("ctrl+q")
        if self._calls.ask(lambda: self._session.controller.recording.recording):
            self._until(lambda: self._session.controller.question is not None, "the question")
            self._click(self._end_button)

    def _end_button(self) -> QWidget:
        """What ends the recording, in the question whether to."""
        question = self._session.controller.question
        buttons = question.buttons() if question is not None else []
        return next(button for button in buttons if button is not question.defaultButton())  # type: ignore[union-attr]

    def _live(self, number: int) -> None:
        self._do("every view", self._views)
        self._do("drag the wipe", self._drag_live_wipe)
        self._do("show what is thermal", self._thermal_share)
        self._do("zoom and pan", self._zoom)
        self._do("record", self._record)
        self._do("freeze", self._freeze)
        self._do("snapshot", self._snapshot)
        self._do("unplug thermal", lambda: self._unplug(Stream.THERMAL))
        self._do("unplug visible", lambda: self._unplug(Stream.VISIBLE))
        engine, model = self._plan.engines[number % len(self._plan.engines)]
        self._do(f"engine {engine} {model}".strip(), lambda: self._engine(engine, model))
        self._do("event and help", self._help)

    # ------------------------------------------------------------------ steps

    def _open(self, config: Path) -> None:
        self._wait_for_picture = time.perf_counter()
        self._calls.ask(lambda: self._session.controller.open_path(config))
        self._until(lambda: self._control.frame is not None, "the first picture")
        self._focus()

    def _views(self) -> None:
        for number, mode in enumerate(ViewMode, start=1):
            self._keys(str(number))
            self._until(lambda mode=mode: self._control.view.mode is mode, f"view {mode}")  # type: ignore[misc]
            self._look_for(2.0)
        self._keys("1")

    def _drag_live_wipe(self) -> None:
        self._keys("8")
        self._until(lambda: self._control.view.mode is ViewMode.WIPE, "the wipe")
        self._drag_wipe(self._window.live.stage.video, lambda: self._control.view.wipe_at)

    def _drag_wipe(self, video: VideoView, wipe_at: Callable[[], float]) -> None:
        start = wipe_at()
        goal = 0.25 if start > 0.4 else 0.75
        places = [self._place(video, start + (goal - start) * part / 20, 0.4) for part in range(21)]
        self._the_hands.drag(places)
        self._until(lambda: abs(wipe_at() - goal) < 0.03, "the divider to follow")

    def _thermal_share(self) -> None:
        self._keys("1")
        self._the_hands.hold("t", 0.6)
        self._until(lambda: not self._control.view.thermal_share, "the key to be let go")

    def _zoom(self) -> None:
        video = self._window.live.stage.video
        at = self._place(video, 0.4, 0.5)
        for _ in range(5):
            self._the_hands.click(*at, button=4)
        self._until(lambda: video.viewport.zoom > 1.2, "the zoom")
        self._the_hands.drag([self._place(video, 0.4 + part / 50, 0.5) for part in range(10)])
        self._keys("0")
        self._until(lambda: video.viewport.zoom == 1.0, "fit")

    def _record(self) -> None:
        self._keys("r")
        self._until(lambda: self._recording() is RecordingState.RECORDING, "the recording")

    def _stop_recording(self) -> None:
        self._keys("r")
        self._until(
            lambda: self._recording() is not RecordingState.RECORDING and len(self._recent("recordings")) > 0,
            "the end of the recording",
        )

    def _freeze(self) -> None:
        pipeline = self._book.newest
        before = pipeline.latest.overwritten if pipeline is not None else 0
        self._keys("f")
        self._until(lambda: self._control.frozen, "the picture to freeze")
        held = self._control.frame
        self._look_for(6.0)
        if self._control.frame is not held:
            raise RunError("the frozen picture changed")
        self._keys("f")
        self._until(lambda: not self._control.frozen and self._control.frame is not held, "the picture to go on")
        if pipeline is not None:
            self._report.unseen_frozen += pipeline.latest.overwritten - before

    def _snapshot(self) -> None:
        """Three bundles. The bundle's folder appears when everything is in it."""
        folder = self._plan.out / "recordings" / "snapshots"
        for _ in range(3):
            before = len(list(folder.glob("snapshot-*"))) if folder.exists() else 0
            lost = self._lost()
            asked_s = time.perf_counter()
            self._keys("s")
            self._until(
                lambda before=before: folder.exists() and len(list(folder.glob("snapshot-*"))) > before,  # type: ignore[misc]
                "the snapshot",
                step_s=0.002,
            )
            self._report.snapshot_ms.append((time.perf_counter() - asked_s) * 1e3)
            self._report.snapshot_lost += self._lost() - lost
            self._look_for(1.0)
        if not all((path / "snapshot.json").exists() for path in folder.glob("snapshot-*")):
            raise RunError("a snapshot is not whole")

    def _lost(self) -> int:
        pipeline = self._book.newest
        return pipeline.stats.snapshot().total_drops if pipeline is not None else 0

    def _unplug(self, stream: Stream) -> None:
        faults = self._rig.faults[stream]
        banners = self._window.live.stage.banners

        def named() -> bool:
            return any(stream.value in text for text in self._calls.ask(banners.texts))

        faults.unplug()
        try:
            self._until(named, f"the banner about the {stream.value} camera")
            self._look_for(4.0)
            if self._control.state is not ControllerState.RUNNING:
                raise RunError(f"the rig is {self._control.state} without its {stream.value} camera")
        finally:
            faults.replug()
        self._until(lambda: not named(), f"the {stream.value} camera to be back")

    def _engine(self, engine: str, model: str) -> None:
        self._show_box("Engine")
        self._choose("Engine", engine)
        if model:
            self._choose("Model", model)
        before, asked = self._control.snapshot_of_stats, [False]
        self._click(lambda: self._button("Build and use"))
        self._focus()

        def running() -> bool:
            """Whether it is what was asked for, by its name: auto is never one, but stands for a network."""
            snapshot, pipeline = self._control.snapshot_of_stats, self._book.newest
            if snapshot is None or pipeline is None:
                return False
            building = pipeline.engine.build_s is not None
            asked[0] |= building or before is None or snapshot.engine != before.engine
            wanted = f":{model}" in snapshot.engine if engine == "auto" else snapshot.engine.startswith(engine)
            return asked[0] and not building and wanted and not snapshot.fallback_reason

        self._until(running, f"{engine} to fuse", 120.0)

    def _help(self) -> None:
        self._keys("e", "F1")
        self._until(lambda: self._calls.ask(self._window.help.isVisible), "the help")
        self._keys("Escape")
        self._until(lambda: not self._calls.ask(self._window.help.isVisible), "the help to go")
        self._focus()

    def _block(self) -> None:
        """Keep the GUI thread from working, as a bad driver or a swapping system would."""
        pipeline, seconds = self._book.newest, self._plan.block_s
        before = pipeline.latest.overwritten if pipeline is not None else 0
        rss: list[float] = [self._rss_mb()]
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.1):
                rss.append(self._rss_mb())

        def block() -> float:
            time.sleep(seconds)
            self._fresh_from_ns, self._stale = time.monotonic_ns() - 300_000_000, 0
            self._heart.forget()
            return time.perf_counter()

        watcher = threading.Thread(target=watch, name="memory watcher")
        watcher.start()
        try:
            awake_s = self._calls.ask(block, seconds + 60.0)
        finally:
            over.set()
            watcher.join()
        self._until(lambda: self._fresh is not None, "a new picture after the GUI thread was blocked")
        report, shown = self._report, self._fresh
        report.block_s, report.block_growth_mb = seconds, max(rss) - rss[0]
        if shown is not None:
            report.block_first_ms, report.block_age_ms = (shown[0] - awake_s) * 1e3, shown[1]
            report.block_stale = self._stale
        if pipeline is not None:
            report.unseen_frozen += pipeline.latest.overwritten - before

    def _playback(self, config: Path) -> None:
        playback, page = self._session.controller.playback, self._window.player
        self._do("play back", self._play)
        self._do("step and scrub", lambda: self._keys("period", "period", "comma"))
        self._keys("8")
        self._do(
            "drag the wipe of a recording", lambda: self._drag_wipe(page.stage.video, lambda: playback.view.wipe_at)
        )
        self._look_for(4.0)
        self._keys("1", "ctrl+Home")
        self._do("back to the rig", lambda: self._start_again(config))

    def _play(self) -> None:
        playback = self._session.controller.playback
        self._keys("ctrl+Home")
        self._until(lambda: self._control.state is ControllerState.IDLE, "the rig to stop")
        self._click_first(lambda: self._window.start_page.recordings.list)
        self._until(lambda: playback.is_open, "the recording to open")
        self._focus()
        at = playback.index
        self._keys("space")
        self._until(lambda: playback.index > at + 5, "the recording to play")
        self._look_for(8.0)
        if playback.playing:
            self._keys("space")
        self._until(lambda: not playback.playing, "the recording to stop")

    def _start_again(self, config: Path) -> None:
        self._until(lambda: len(self._recent("configs")) > 0, "the recent configurations")
        self._wait_for_picture = time.perf_counter()
        self._click_first(lambda: self._window.start_page.configs.list)
        self._until(lambda: self._control.frame is not None, "the first picture")
        self._focus()

    # ------------------------------------------------------------------ hands and eyes

    @property
    def _the_hands(self) -> Operator:
        if self._hands is None:
            raise RunError("the operator has not begun")
        return self._hands

    def _keys(self, *names: str) -> None:
        self._the_hands.key(*names)

    def _focus(self) -> None:
        self._the_hands.focus(self._xid)
        self._calls.ask(self._focus_picture)
        self._until(lambda: self._calls.ask(self._window.isActiveWindow), "the keyboard")

    def _focus_picture(self) -> None:
        page = self._window.player if self._window.player.isVisible() else self._window.live
        page.stage.video.setFocus()

    def _place(self, widget: QWidget, x: float, y: float) -> tuple[float, float]:
        """Where on the screen a part (0..1) of a widget is."""

        def ask() -> tuple[float, float]:
            point = widget.mapToGlobal(QPointF(x * widget.width(), y * widget.height()))
            return point.x(), point.y()

        return self._calls.ask(ask)

    def _click(self, find: Callable[[], QWidget]) -> None:
        """Click on a widget of the side panel, scrolled into view before."""

        def ask() -> tuple[float, float]:
            widget = find()
            parent = widget.parentWidget()
            while parent is not None and not isinstance(parent, QScrollArea):
                parent = parent.parentWidget()
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(widget)
            at = widget.mapToGlobal(QPoint(widget.width() // 2, widget.height() // 2))
            return float(at.x()), float(at.y())

        self._calls.ask(ask)
        time.sleep(0.15)  # the layout settles
        self._the_hands.click(*self._calls.ask(ask))

    def _click_first(self, find: Callable[[], QListWidget]) -> None:
        """Click on the first line of a list."""

        def ask() -> tuple[float, float]:
            at = find().mapToGlobal(QPoint(40, 12))
            return float(at.x()), float(at.y())

        def filled() -> bool:
            first = find().item(0)
            return find().isVisible() and first is not None and bool(first.flags() & Qt.ItemFlag.ItemIsEnabled)

        self._until(lambda: self._calls.ask(filled), "the list")
        time.sleep(0.3)  # the page settles
        self._the_hands.click(*self._calls.ask(ask))

    def _box(self, name: str) -> QComboBox:
        for box in self._window.live.panel.findChildren(QComboBox):
            if box.accessibleName() == name:
                return box
        raise RunError(f"the panel has no choice named {name!r}")

    def _button(self, text: str) -> QAbstractButton:
        for button in self._window.live.panel.findChildren(QAbstractButton):
            if text in (button.text(), button.accessibleName()):
                return button
        raise RunError(f"the panel has no button {text!r}")

    def _show_box(self, name: str) -> None:
        """Unfold the section that holds a choice."""
        if self._calls.ask(lambda: self._box(name).isVisible()):
            return
        self._click(lambda: self._heading(self._box(name)))
        self._until(lambda: self._calls.ask(lambda: self._box(name).isVisible()), f"the section with {name}")

    @staticmethod
    def _heading(widget: QWidget) -> QWidget:
        """The button that folds the section which a widget is in."""
        parent = widget.parentWidget()
        while parent is not None and not isinstance(parent, Section):
            parent = parent.parentWidget()
        for button in parent.findChildren(QAbstractButton) if parent is not None else ():
            if button.property("section"):
                return button
        raise RunError(f"{widget.accessibleName()} is in no section")

    def _choose(self, name: str, text: str) -> None:
        """Open the list, go to the line by keyboard, take it."""
        line = self._calls.ask(lambda: self._box(name).findText(text, Qt.MatchFlag.MatchStartsWith))
        if line < 0:
            raise RunError(f"{name} has no line {text!r}")
        self._click(lambda: self._box(name))
        self._until(lambda: self._calls.ask(lambda: self._is_open(name)), f"the list of {name}")
        self._keys("Home", *["Down"] * line, "Return")
        self._until(lambda: self._calls.ask(lambda: self._box(name).currentIndex()) == line, f"{name} {text}")

    def _is_open(self, name: str) -> bool:
        lines = self._box(name).view()
        return lines is not None and lines.isVisible()

    def _recording(self) -> RecordingState | None:
        snapshot = self._control.snapshot_of_stats
        return snapshot.recording if snapshot is not None else None

    def _recent(self, kind: str) -> list[Path]:
        return list(self._session.settings.recent(kind))

    def _look_for(self, seconds: float) -> None:
        time.sleep(seconds * self._plan.pace)

    def _until(
        self, condition: Callable[[], object], what: str, limit_s: float = _PATIENCE_S, step_s: float = 0.02
    ) -> None:
        end_s = time.perf_counter() + limit_s
        while not condition():
            if time.perf_counter() > end_s:
                raise RunError(f"waited {limit_s:g} s for {what}")
            time.sleep(step_s)

    def _do(self, name: str, step: Callable[[], None]) -> None:
        began_s = time.perf_counter()
        try:
            step()
        except RunError as error:
            self._report.problems.append(f"{name}: {error}")
        self._note(name, time.perf_counter() - began_s)

    def _note(self, name: str, seconds: float) -> None:
        self._report.steps.append(Step(time.perf_counter() - self._began_s, name, seconds))
        print(f"{time.perf_counter() - self._began_s:7.1f} s  {name} ({seconds:.1f} s)", flush=True)

    def _check_recordings(self) -> None:
        from app.recording.segments import list_recordings
        from app.recording.self_check import check_recording

        for path in list_recordings(self._plan.out / "recordings"):
            found = check_recording(path, time.monotonic() + 60.0)
            self._report.problems += found.problems
            self._report.recordings.append(f"{path.name}: {'; '.join(found.problems) or 'sound'}")
