"""What the recorder tells of itself: its state, one moment of it, and what a finished recording holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from app.recording.writing.load import LoadStep

if TYPE_CHECKING:
    from app.recording.segments import SegmentInfo
    from app.recording.self_check import CheckReport

__all__ = ["LoadStep", "RecordingState", "RecordingStatus", "RecordingSummary"]


class RecordingState(StrEnum):
    """What the recorder does."""

    OFF = "off"
    BUFFERING = "buffering"  # keeps the seconds before an event in memory
    RECORDING = "recording"  # with a reason: not everything, or not as configured
    PAUSED = "paused"  # wants to record, but there is no space
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """One moment of the recorder; numbers count from the start of the recording.

    recording: somebody wants a recording, whether or not the disk allows it now. reason: why the state is not a plain
    one, "" when all is well. refused: pictures that found their queue full, by track; left_out: fused ones that were
    not recorded because encoding could not keep up; the two `..._in_all`: of all recordings. step: what is recorded
    under the present load. depths: pictures that wait, by track.
    """

    state: RecordingState = RecordingState.OFF
    reason: str = ""
    recording: bool = False
    path: Path | None = None
    seconds: float = 0.0
    bytes: int = 0
    frames: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    refused_in_all: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    left_out_in_all: int = 0
    depths: Mapping[str, int] = field(default_factory=dict)
    step: LoadStep = LoadStep.FULL
    disk_seconds_left: float | None = None
    encoder: str = ""
    segments: int = 0
    pre_event_seconds: float = 0.0
    pre_event_bytes: int = 0

    @property
    def queue_depth(self) -> int:
        """Pictures in the fullest queue."""
        return max(self.depths.values(), default=0)


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """What a finished recording consists of; `checks` is empty when self_check is off."""

    segments: tuple[SegmentInfo, ...]
    frames: dict[str, int]
    refused: Mapping[str, int]
    left_out: int
    seconds: float
    bytes: int
    checks: tuple[CheckReport, ...] = field(default=())

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that the self-check found wrong."""
        return tuple(f"{check.path.name}: {text}" for check in self.checks for text in check.problems)
