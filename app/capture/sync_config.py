"""How a user wants visible and thermal frames paired, live and when a recording is paired anew."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FfcFallback", "OutputRate", "SyncConfig"]


class OutputRate(StrEnum):
    """Which stream's frames make the pairs."""

    THERMAL = "thermal"  # one pair a thermal frame: the smallest skew
    VISIBLE = "visible"  # one pair a visible frame, the last thermal held between: the smoothest picture


class FfcFallback(StrEnum):
    """What is shown when a shutter freeze outlasts `SyncConfig.hold_ms`."""

    VISIBLE_ONLY = "visible_only"
    HELD = "held"  # keep the last good thermal, marked STALE; its age is the pair's skew


class SyncConfig(BaseModel):
    """How visible and thermal frames become pairs. Thermal is the master clock."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_skew_ms: Annotated[float, Field(gt=0, le=2_000)] = 40.0
    """Frames further apart than this are not fused as a pair. 40 ms holds 25 fps visible with jitter."""
    output_rate: OutputRate = OutputRate.THERMAL
    """thermal: one output a thermal frame; visible: one output a visible frame, with the last thermal HELD between."""
    buffer_frames: Annotated[int, Field(ge=2, le=32)] = 4
    """Frames kept a stream; the oldest is dropped. More only if one camera delivers much later than the other."""
    stale_ms: Annotated[float, Field(ge=20, le=5_000)] = 150.0
    """A stream that gave nothing for this long (or 1.5 periods, if longer) is late: its last frame stands in, flagged
    HELD or REUSED_VISIBLE, until hold_ms."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1_000)] = 250.0
    """A thermal frame waits at most this long for its visible partner, also when visible is delivered much later.
    Without such a difference the wait is half a visible period."""
    hold_ms: Annotated[float, Field(ge=0, le=10_000)] = 1_000.0
    """The last good frame of a stream stands in for this long while it is late or its shutter is closed. After that the
    stream is lost, and the other one goes on alone until it has been steady for 0.3 s."""
    ffc_fallback: FfcFallback = FfcFallback.VISIBLE_ONLY
    """What is shown when a shutter freeze lasts longer than hold_ms."""
    reuse_visible: bool = True
    """A visible frame may serve a second thermal frame (flagged REUSED_VISIBLE). Off, that thermal frame is dropped."""
