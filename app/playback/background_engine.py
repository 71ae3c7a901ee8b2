"""An engine that is built beside the playback; until it is ready, a pyramid that undoes the shift stands in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from app.pipeline.engine.builder import BuildFailure, EngineBuilder, EngineSpec
from fusion_core.engines.engine import create_engine
from fusion_core.engines.video_options import VideoOptions

if TYPE_CHECKING:
    from fusion_core.engines.engine import FusionEngine

__all__ = ["BackgroundEngine"]

_STAND_IN = "ncc-pyramid"  # lays one picture on the other as a whole, and needs no network
_JOIN_S = 2.0  # a compilation cannot be broken off: it ends later by itself


class BackgroundEngine:
    """What `FuseStep` needs of an engine. One owner thread, but for `building_s`, `progress` and `arrived`."""

    def __init__(self, name: str, preset: str, weights: Path | None) -> None:
        self.error = ""
        self._engine: FusionEngine | None = None
        self._stand_in: FusionEngine | None = None
        self._told = True
        self._builder = EngineBuilder(create_engine, self._on_bug)
        self._builder.start()
        self._builder.request(EngineSpec(name, preset, weights, None, VideoOptions()))

    @property
    def name(self) -> str:
        """Of what fuses now."""
        return self._engine.name if self._engine is not None else _STAND_IN

    @property
    def building_s(self) -> float | None:
        """For how long the wanted engine has been building, s; None when it is ready or has failed."""
        if self._engine is not None or self.error:
            return None
        building = self._builder.building
        return building[1] if building is not None else 0.0

    @property
    def progress(self) -> float | None:
        """How far the conversion is, 0..1; None where that is not known."""
        return self._builder.progress

    def arrived(self) -> bool:
        """Whether the engine has become ready since the last call: what is shown should be fused again."""
        self._take()
        told, self._told = self._told, True
        return not told

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `FusionEngine.fuse`."""
        self._builder.set_size(*thermal.shape)
        self._take()
        if self._engine is not None:
            return self._engine.fuse(visible, thermal)
        if self._stand_in is None:
            self._stand_in = create_engine(_STAND_IN)
        return self._stand_in.fuse(visible, thermal)

    def reset(self) -> None:
        """Forget earlier pairs."""
        for engine in (self._engine, self._stand_in):
            if engine is not None:
                engine.reset()

    def close(self) -> None:
        """Free the engine; one that is being built is freed when it is."""
        self._builder.request_stop()
        self._builder.join(_JOIN_S)
        for engine in (self._engine, self._stand_in):
            if engine is not None:
                engine.close()
        self._engine = self._stand_in = None

    def _take(self) -> None:
        built = self._builder.take()
        if isinstance(built, BuildFailure):
            self.error = str(built.error)
            self._builder.give_up()
            structlog.get_logger("playback").warning("the network cannot be used", reason=self.error)
        elif built is not None:
            self._engine, self._told = built.engine, False

    def _on_bug(self, who: str, error: BaseException) -> None:
        self.error = f"unexpected: {type(error).__name__}: {error}"
        structlog.get_logger("playback").error("building failed", who=who, exc_info=error)
