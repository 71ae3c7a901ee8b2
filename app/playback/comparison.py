"""A and B on live video: the pairs that the pipeline has fused are fused once more, by other settings.

Beside the pipeline, not in it: capture, fusion and recording do not know of it. B takes the newest picture when it is
done with the one before, so that a slow B costs B's rate and nothing else (but its share of the processor).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from app.pipeline.state.latest_slot import LatestSlot
from fusion_core.engines.engine import NETWORK_ENGINES
from fusion_core.errors import LumithermError
from fusion_core.frames import FusedFrame, ThermalAlignment
from fusion_core.thermal.agc import Agc, AgcConfig

if TYPE_CHECKING:
    from fusion_core.engines.engine import FusionEngine

__all__ = ["ComparedFrame", "Comparison", "ComparisonSettings"]

_WAIT_S = 0.1
_LONGEST_GAP_S = 1.0  # pictures further apart start AGC and engine afresh


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """How B fuses. agc: None = the levels that A was given; weights: None = the shipped ones of the preset."""

    engine: str = "pyramid"
    preset: str = "tiny"
    weights: Path | None = None
    agc: AgcConfig | None = None

    @property
    def label(self) -> str:
        """Short, for the picture's corner."""
        neural = self.engine in NETWORK_ENGINES
        model = (self.weights.stem if self.weights is not None else self.preset) if neural else ""
        parts = [self.engine, model, self.agc.mode.value if self.agc is not None else ""]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, eq=False)
class ComparedFrame:
    """A picture as the pipeline fused it, and B's picture of that pair: (H, W, 3) uint8 RGB, read-only."""

    frame: FusedFrame
    second: npt.NDArray[np.uint8]
    work_ms: float


class Comparison:
    """Fuses the newest picture of `source` again, for as long as it lives; the result is in `latest`.

    Thread: `comparison`, from `start` to `stop`; it owns B's engine, AGC and alignment. All methods may be called from
    any thread. What goes wrong is in `error`, and the next settings are tried afresh.

    Thermal is aligned as the pipeline aligned it, self-alignment included: each picture says how.

    Args:
        source: the pipeline's pictures.
    """

    def __init__(self, source: LatestSlot[FusedFrame], settings: ComparisonSettings) -> None:
        self.latest: LatestSlot[ComparedFrame] = LatestSlot()
        self.strength = 1.0
        """Of thermal in B, see `fusion_core.colour.with_strength`; what is set holds from the next picture on."""
        self._source = source
        self._lock = threading.Lock()
        self._settings = settings
        self._error = ""
        self._ready = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="comparison")

    def start(self) -> None:
        """Begin; the engine is built on the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """End the thread and free the engine; waits for a picture or an engine that is under way. Whether it ended."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def set_settings(self, settings: ComparisonSettings) -> None:
        """Fuse by these from the next picture on; `ready` is False until their first one."""
        with self._lock:
            if settings != self._settings:
                self._settings, self._ready, self._error = settings, False, ""

    @property
    def settings(self) -> ComparisonSettings:
        """What `set_settings` was given last."""
        with self._lock:
            return self._settings

    @property
    def ready(self) -> bool:
        """Whether `latest` holds pictures by the present settings."""
        with self._lock:
            return self._ready

    @property
    def error(self) -> str:
        """Why there is no B; "" if there is one or will be."""
        with self._lock:
            return self._error

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        fuser: _SecondFuser | None = None
        sequence = 0
        failed: ComparisonSettings | None = None
        try:
            while not self._stopping.is_set():
                newer = self._source.wait_newer(sequence, _WAIT_S)
                with self._lock:
                    settings = self._settings
                if newer is None or settings == failed:
                    sequence = newer[0] if newer is not None else sequence
                    continue
                sequence, frame = newer
                if fuser is not None and fuser.settings != settings:
                    fuser.close()
                    fuser = None
                try:
                    if fuser is None:
                        fuser = _SecondFuser(settings)
                    self._publish(settings, fuser.fuse(frame, self.strength))
                except Exception as error:  # B is given up, the thread waits for other settings; A goes on
                    failed = settings
                    self._note(settings, error)
        finally:
            if fuser is not None:
                fuser.close()

    def _publish(self, settings: ComparisonSettings, compared: ComparedFrame | None) -> None:
        if compared is None:
            return
        with self._lock:
            if settings == self._settings:
                self.latest.put(compared)
                self._ready = True

    def _note(self, settings: ComparisonSettings, error: Exception) -> None:
        text = str(error)
        if not isinstance(error, LumithermError):
            structlog.get_logger("comparison").error("comparison failed", exc_info=error)
            text = f"unexpected: {type(error).__name__}: {error}"
        with self._lock:
            if settings == self._settings:
                self._error, self._ready = text, False


class _SecondFuser:
    """B by one set of settings. One owner thread."""

    def __init__(self, settings: ComparisonSettings) -> None:
        from app.pipeline.fuse_step import EngineOnDemand, FuseStep  # brings OpenCV along: a window need not wait
        from app.pipeline.thermal_grid import ThermalGrid

        self.settings = settings
        self._engine = EngineOnDemand(self._make_engine)
        self._step = FuseStep(self._engine, Agc(settings.agc), ThermalGrid(None), longest_gap_s=_LONGEST_GAP_S)
        self._alignment: ThermalAlignment | None = None

    def fuse(self, frame: FusedFrame, strength: float) -> ComparedFrame | None:
        """B's picture; None while a camera is missing."""
        from app.pipeline.fuse_step import fuse_levels
        from app.pipeline.thermal_grid import ThermalGrid
        from fusion_core.colour import with_strength

        visible = frame.pair.visible
        if visible is None or frame.thermal_8bit is None:
            return None
        began_s = time.perf_counter()
        if self.settings.agc is None:
            second = fuse_levels(self._engine, visible.pixels, frame.thermal_8bit, frame.alignment)
        else:
            if frame.alignment is not self._alignment:
                self._alignment = frame.alignment
                self._step.use_grid(ThermalGrid.fixed(frame.alignment))
            second = self._step.fuse(frame.pair).pixels
        second = with_strength(visible.pixels, second, strength)
        second.flags.writeable = False
        return ComparedFrame(frame, second, (time.perf_counter() - began_s) * 1e3)

    def close(self) -> None:
        self._engine.close()

    def _make_engine(self) -> FusionEngine:
        from fusion_core.engines.engine import create_engine
        from fusion_core.engines.video_options import VideoOptions

        settings = self.settings
        return create_engine(settings.engine, settings.preset, settings.weights, video=VideoOptions())
