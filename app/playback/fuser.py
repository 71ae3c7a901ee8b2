"""Fuses what is played by one set of settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from fusion_core.engines.engine import NETWORK_ENGINES
from fusion_core.errors import BadInputError, ConfigError, LumithermError, RecordingError
from fusion_core.frames import Frame, FrameFlag, FramePair, FusedFrame, Stream, TimestampSource
from fusion_core.thermal.agc import Agc, AgcConfig

if TYPE_CHECKING:
    from app.pipeline.fuse_step import EngineOnDemand
    from app.playback.background_engine import BackgroundEngine
    from fusion_core.engines.engine import FusionEngine

__all__ = ["RECORDED", "FuseSettings", "PlaybackFuser"]

RECORDED = "recorded"
"""Name of the "engine" that shows the fused track as it was recorded."""
_LONGEST_GAP_S = 1.0  # pairs further apart start the AGC and the engine afresh


@dataclass(frozen=True, slots=True)
class FuseSettings:
    """How a pair is fused: an engine's name or RECORDED, its network and weights, the thermal AGC, and how
    strongly thermal goes in (see `fusion_core.colour.with_strength`)."""

    engine: str = RECORDED
    preset: str = "tiny"
    weights: Path | None = None
    agc: AgcConfig = field(default_factory=AgcConfig)
    strength: float = 1.0

    @property
    def label(self) -> str:
        """Short, for the picture's corner."""
        name = self.weights.stem if self.weights is not None else self.engine
        return name if self.engine == RECORDED else f"{name}, {self.agc.mode.value}"


class PlaybackFuser:
    """Fuses pairs by one set of settings; makes its engine when it is first needed. One owner thread.

    Args:
        calibration: aligns thermal, as it did when the pair was recorded. Where it cannot be read or does not fit,
            thermal is plainly scaled.
        background: build networks beside this, with something simpler standing in for them until then.
    """

    def __init__(self, settings: FuseSettings, calibration: Path | None, *, background: bool = False) -> None:
        from app.pipeline.fuse_step import EngineOnDemand, FuseStep  # brings codecs along: a window need not wait
        from app.pipeline.thermal_grid import ThermalGrid

        self.settings = settings
        self._engine: EngineOnDemand | BackgroundEngine | None = None
        if background and settings.engine in NETWORK_ENGINES:
            from app.playback.background_engine import BackgroundEngine

            self._engine = BackgroundEngine(settings.engine, settings.preset, settings.weights)
        elif settings.engine != RECORDED:
            self._engine = EngineOnDemand(self._make_engine)
        try:
            grid = ThermalGrid(calibration)
        except (BadInputError, ConfigError) as error:
            _warn(error)
            grid = ThermalGrid(None)
        self._step = FuseStep(self._engine, Agc(settings.agc), grid, on_fit=_warn, longest_gap_s=_LONGEST_GAP_S)

    def fuse(self, pair: FramePair | None, recorded: npt.NDArray[np.uint8] | None) -> FusedFrame:
        """Fuse a pair; `recorded`, its fused picture of then, stands for a missing visible frame or a missing pair.

        Raises:
            RecordingError: there is neither a pair nor a recorded picture. BadInputError: the pair cannot be fused.
            EngineError: the engine failed.
        """
        known = pair
        if recorded is not None and (known is None or known.visible is None):
            stand_in = Frame(Stream.VISIBLE, recorded, 0, 0, TimestampSource.FILE)
            known = FramePair(stand_in, None if known is None else known.thermal)
        if known is None:
            raise RecordingError("the pair holds no picture")
        self._step.strength = self.settings.strength
        frame = self._step.fuse(known)
        if self.settings.engine == RECORDED:
            frame = replace(frame, pixels=self._as_recorded(frame, recorded), engine=RECORDED)
        if pair is None:
            return frame
        flags = pair.flags
        if recorded is None and pair.visible is None:
            flags |= FrameFlag.THERMAL_ONLY
        if pair.thermal is None and (recorded is None or self.settings.engine != RECORDED):
            flags |= FrameFlag.VISIBLE_ONLY
        return replace(frame, pair=replace(pair, flags=flags))

    @property
    def building(self) -> tuple[float, float | None] | None:
        """For how long the network has been building, s, and how far it is, 0..1 or None; None while it is not."""
        engine = self._engine
        seconds = getattr(engine, "building_s", None)
        return None if seconds is None else (seconds, getattr(engine, "progress", None))

    def arrived(self) -> bool:
        """Whether the network has become ready since the last call."""
        arrived = getattr(self._engine, "arrived", None)
        return bool(arrived()) if arrived is not None else False

    def use_strength(self, strength: float) -> None:
        """Let thermal go in this strongly from the next pair on; the engine stays."""
        self.settings = replace(self.settings, strength=strength)

    def _as_recorded(self, frame: FusedFrame, recorded: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
        from fusion_core.colour import with_strength

        visible = frame.pair.visible
        if recorded is None:
            return frame.pixels
        if visible is None or visible.pixels.shape != recorded.shape:
            return recorded
        return with_strength(visible.pixels, recorded, self.settings.strength)

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._engine.close()

    def _make_engine(self) -> FusionEngine:
        from fusion_core.engines.engine import create_engine

        return create_engine(self.settings.engine, self.settings.preset, self.settings.weights)


def _warn(error: LumithermError | None) -> None:
    if error is not None:
        structlog.get_logger("playback").warning("thermal is only scaled", reason=str(error))
