"""What the window needs of the live pipeline, and the words that it tells its state with."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from app.pipeline.engine_seat import EngineSeat
    from app.pipeline.latest_slot import LatestSlot
    from app.pipeline.problems import PipelineProblem
    from app.pipeline.stats import Stats
    from fusion_core.thermal.agc import AgcConfig

__all__ = ["ControllerState", "Pipeline", "Readout"]


class ControllerState(StrEnum):
    """What the live page does."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Pipeline(Protocol):
    """What the window needs of `app.pipeline.live_fusion.LiveFusion`."""

    @property
    def latest(self) -> LatestSlot[FusedFrame]: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def errors(self) -> tuple[PipelineProblem, ...]: ...
    def start(self) -> None: ...
    def stop(self, timeout_s: float = 5.0) -> None: ...
    def note_shown(self, frame: FusedFrame) -> None: ...
    @property
    def last_recording(self) -> Any: ...
    def start_recording(self, label: str | None = None) -> None: ...
    def stop_recording(self, timeout_s: float = 5.0) -> Any: ...
    def mark_event(self, label: str) -> None: ...
    @property
    def engine(self) -> EngineSeat: ...
    def set_agc(self, config: AgcConfig) -> None: ...
    def agc_histogram(self) -> Any: ...
    def snapshot(self, folder: Path) -> Path: ...
    def set_calibration(self, path: Path | None) -> None: ...
    def camera_devices(self) -> tuple[str, str]: ...
    @property
    def offset_between_ms(self) -> float: ...
    def accept_correction(self) -> None: ...
    def discard_correction(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Readout:
    """A measured region: (top, left, height, width) as fractions of the picture, and its value in words."""

    region: tuple[float, float, float, float]
    text: str
