"""What the window needs of the live pipeline."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fusion_core.frames import FusedFrame

if TYPE_CHECKING:
    from app.pipeline.alignment import Alignment
    from app.pipeline.capture_supervisor import CaptureSupervisor
    from app.pipeline.engine.seat import EngineSeat
    from app.pipeline.fusion_thread import FusionThread
    from app.pipeline.state.latest_slot import LatestSlot
    from app.pipeline.state.problems import ProblemLog
    from app.pipeline.state.stats import Stats
    from app.recording.writing.recorder import Recorder

__all__ = ["ControllerState", "Pipeline"]


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
    def problems(self) -> ProblemLog: ...
    @property
    def cameras(self) -> CaptureSupervisor: ...
    @property
    def fusion(self) -> FusionThread: ...
    @property
    def engine(self) -> EngineSeat: ...
    @property
    def alignment(self) -> Alignment: ...
    @property
    def recording(self) -> Recorder: ...
    def start(self) -> None: ...
    def stop(self, timeout_s: float = 5.0) -> None: ...
    def note_shown(self, frame: FusedFrame) -> None: ...
    def snapshot(self, folder: Path) -> Path: ...
