"""A pipeline that does what it is told, for controllers and windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PyQt6 import sip
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.configuration.config import AppConfig
from app.gui.application import Session
from app.gui.common.pipeline_protocol import ControllerState
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineProblem
from app.pipeline.state.stats import Stage, Stats
from app.rig.setup_assistant import simulated_config
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource


class FakePipeline:
    """Notes the calls; frames are put into `latest` by the test."""

    def __init__(self, config: AppConfig, fail: Exception | None = None) -> None:
        self.config, self.fail = config, fail
        self.latest: LatestSlot[FusedFrame] = LatestSlot()
        self.stats = Stats()
        self.errors: tuple[PipelineProblem, ...] = ()
        self.calls: list[tuple[Any, ...]] = []
        self.problems = SimpleNamespace(recent=lambda: self.errors)
        self.cameras = SimpleNamespace(devices=lambda: ("usb visible", "usb thermal"), offset_between_ms=0.0)
        counts, edges = np.ones(256, np.int64), np.arange(257.0)
        histogram = SimpleNamespace(counts=counts, edges=edges, limits=(10.0, 20.0))
        self.fusion = SimpleNamespace(set_agc=self._note("set_agc"), agc_histogram=lambda: histogram, strength=1.0)
        self.engine = SimpleNamespace(
            request=lambda name, preset, weights: self.calls.append(("set_engine", str(name), str(preset), weights)),
            build_s=None,
            build_progress=None,
        )
        self.alignment = SimpleNamespace(
            use=self._note("set_calibration"),
            accept=self._note("accept_correction"),
            discard=self._note("discard_correction"),
        )
        self.recording = SimpleNamespace(
            start=self._note("start_recording", arguments=False),
            stop=self._note("stop_recording", SimpleNamespace(segments=(), seconds=1.0, bytes=1), arguments=False),
            mark=self._note("mark_event"),
        )

    def start(self) -> None:
        self.calls.append(("start",))
        if self.fail is not None:
            raise self.fail

    def stop(self, timeout_s: float = 5.0) -> None:
        self.calls.append(("stop",))

    def note_shown(self, frame: FusedFrame) -> None:
        self.stats.frame(Stage.SHOWN)

    def snapshot(self, folder: Path) -> Path:
        self.calls.append(("snapshot", folder))
        return folder / "x"

    def _note(self, what: str, answer: Any = None, arguments: bool = True) -> Callable[..., Any]:
        """Something to call that is noted in `calls`, without its arguments if so wished."""

        def called(*given: Any) -> Any:
            self.calls.append((what, *given) if arguments else (what,))
            return answer

        return called


def a_frame(height: int = 48, width: int = 64, value: int = 128) -> FusedFrame:
    """A frame of one grey."""
    pixels = np.full((height, width, 3), value, np.uint8)
    counts = np.full((height, width), 24000, np.uint16)
    pair = FramePair(
        Frame(Stream.VISIBLE, pixels, 0, 1, TimestampSource.SIMULATED),
        Frame(Stream.THERMAL, counts, 0, 1, TimestampSource.SIMULATED),
    )
    levels = np.full((height, width), value, np.uint8)
    return FusedFrame(pixels.copy(), pair, 1.0, "fake", thermal_8bit=levels)


class Fakes:
    """A whole window whose pipelines do what the test says."""

    def __init__(self, application: QApplication, folder: Path, qtbot: QtBot) -> None:
        self.folder, self.qtbot, self.made = folder, qtbot, []
        self.session = Session(application, folder / "window.json", folder, self.make)
        self.session.controller.set_expert(True)
        self.window, self.controller = self.session.window, self.session.controller
        self.ended: list[bool] = []
        self.window.closed.connect(lambda: self.ended.append(True))
        self.window.show()

    def make(self, config: Any) -> Any:
        self.made.append(FakePipeline(config))
        return self.made[-1]

    def start(self, **sections: Any) -> Any:
        sections = {"recording": {"directory": str(self.folder)}} | sections
        self.controller.open_config(simulated_config(**sections))
        self.qtbot.waitUntil(lambda: self.controller.live.state is ControllerState.RUNNING)
        self.made[-1].latest.put(a_frame())
        return self.made[-1]

    def show(self, frame: FusedFrame | None = None) -> None:
        """Let the page take this picture, and measure on it."""
        self.made[-1].latest.put(frame or a_frame())
        self.controller.live.pull_frame()
        self.controller.live.pull_numbers()

    def close(self) -> None:
        """End the window and its threads."""
        self.controller.end()
        self.qtbot.waitUntil(lambda: bool(self.ended))
        assert self.session.close()
        self.session.take_down()
        assert sip.isdeleted(self.window) and sip.isdeleted(self.controller)
