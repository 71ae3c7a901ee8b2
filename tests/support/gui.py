"""A pipeline that does what it is told, for controllers and windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from app.configuration.config import AppConfig
from app.pipeline.state.latest_slot import LatestSlot
from app.pipeline.state.problems import PipelineProblem
from app.pipeline.state.stats import Stage, Stats
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
