"""A pipeline that does what it is told, for controllers and windows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from app.configuration.config import AppConfig
from app.pipeline.latest_slot import LatestSlot
from app.pipeline.problems import PipelineProblem
from app.pipeline.stats import Stage, Stats
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource


class FakePipeline:
    """Notes the calls; frames are put into `latest` by the test."""

    def __init__(self, config: AppConfig, fail: Exception | None = None) -> None:
        self.config, self.fail = config, fail
        self.latest: LatestSlot[FusedFrame] = LatestSlot()
        self.stats = Stats()
        self.errors: tuple[PipelineProblem, ...] = ()
        self.calls: list[tuple[Any, ...]] = []
        self.last_recording = None
        self.engine = SimpleNamespace(
            request=lambda name, preset, weights: self.calls.append(("set_engine", str(name), str(preset), weights))
        )

    def start(self) -> None:
        self.calls.append(("start",))
        if self.fail is not None:
            raise self.fail

    def stop(self, timeout_s: float = 5.0) -> None:
        self.calls.append(("stop",))

    def note_shown(self, frame: FusedFrame) -> None:
        self.stats.frame(Stage.SHOWN)

    def start_recording(self, label: str | None = None) -> None:
        self.calls.append(("start_recording",))

    def stop_recording(self, timeout_s: float = 5.0) -> Any:
        self.calls.append(("stop_recording",))
        return SimpleNamespace(segments=(), seconds=1.0, bytes=1)

    def mark_event(self, label: str) -> None:
        self.calls.append(("mark_event", label))

    def set_agc(self, config: Any) -> None:
        self.calls.append(("set_agc", config))

    def agc_histogram(self) -> Any:
        return SimpleNamespace(counts=np.ones(256, np.int64), edges=np.arange(257.0), limits=(10.0, 20.0))

    def snapshot(self, folder: Path) -> Path:
        self.calls.append(("snapshot", folder))
        return folder / "x"

    def camera_devices(self) -> tuple[str, str]:
        return "usb visible", "usb thermal"

    @property
    def offset_between_ms(self) -> float:
        return 0.0

    def accept_correction(self) -> None:
        self.calls.append(("accept_correction",))

    def discard_correction(self) -> None:
        self.calls.append(("discard_correction",))

    def set_calibration(self, path: Path | None) -> None:
        self.calls.append(("set_calibration", path))


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
