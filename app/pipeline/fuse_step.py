"""A pair of frames in, a fused frame out: AGC, alignment, fill and engine in their order, live and from files."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import cv2
import numpy as np

from app.pipeline.thermal_grid import ThermalGrid
from fusion_core.colour import with_strength
from fusion_core.engines.engine import FusionEngine, OverlappingEngine
from fusion_core.errors import BadInputError
from fusion_core.frames import Frame, FramePair, FusedFrame, ThermalAlignment
from fusion_core.thermal.agc import Agc
from fusion_core.thermal.field_of_view import ThermalWarp

if TYPE_CHECKING:
    from fusion_core.engines.gpu.runner import Fused

__all__ = ["FADING", "NO_ENGINE", "EngineOnDemand", "FuseStep", "Overlaps", "PairEngine", "TakesCounts", "fuse_levels"]

NO_ENGINE = "none"
"""Name of the engine where nothing is fused."""

_UNDER_WAY = 2  # pairs, of an engine that overlaps

FADING = "fading"
"""Note of a picture on the way between both cameras and one alone."""


class PairEngine(Protocol):
    """What a step needs of an engine: any `FusionEngine`, or one that stands for several."""

    @property
    def name(self) -> str: ...
    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray: ...
    def reset(self) -> None: ...


@runtime_checkable
class TakesCounts(PairEngine, Protocol):
    """A `PairEngine` that may do the AGC's table, the warp and the fill where its network runs."""

    @property
    def takes_counts(self) -> bool:
        """Whether the engine in use does."""

    def fuse_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> Fused | None:
        """See `fusion_core.engines.engine.CountsEngine`; None where the engine has failed and is another one now."""


@runtime_checkable
class Overlaps(PairEngine, Protocol):
    """A `PairEngine` that may take a pair before the one before is done."""

    @property
    def overlapping(self) -> OverlappingEngine | None:
        """The engine in use, if it does."""


@dataclass(slots=True)
class _UnderWay:
    """A pair that an engine has been given and not given back."""

    pair: FramePair
    levels: np.ndarray | None  # None: they come with the fused picture
    strength: float
    agc_limits: tuple[float, float] | None
    began_ms: float


class FuseStep:
    """Turns pairs into fused frames. One owner thread; `engine` may be replaced between two pairs.

    Args:
        engine: closed by the caller, not here. None leaves the visible picture as it is.
        agc, grid: how counts become levels, and how levels come onto the visible grid.
        on_fit: called with the error when the calibration begins not to fit the pictures, which are plainly scaled
            from then on, and with None when it fits again. Without it the error is raised.
        longest_gap_s: a thermal frame later than this after the one before, or earlier than it, resets AGC and engine.
        now_ns: clock for `FusedFrame.fused_ns`.
        fade_s: how long the picture takes from both cameras to one alone and back; 0 = at once.
    """

    def __init__(
        self,
        engine: PairEngine | None,
        agc: Agc,
        grid: ThermalGrid,
        *,
        on_fit: Callable[[BadInputError | None], None] | None = None,
        longest_gap_s: float = math.inf,
        now_ns: Callable[[], int] = time.monotonic_ns,
        fade_s: float = 0.0,
    ) -> None:
        self.engine = engine
        self.strength = 1.0
        """0 to 1.5, see `fusion_core.colour.with_strength`; any thread may set it, from the next pair on."""
        self._agc, self._grid = agc, grid
        self._on_fit, self._longest_gap_s, self._now_ns = on_fit, longest_gap_s, now_ns
        self._fade = Fade(fade_s)
        self._fits = True
        self._size: tuple[int, int] | None = None  # of the visible pictures, (height, width)
        self._thermal_ns: int | None = None
        self._asked: tuple[Frame, float | None] | None = None  # thermal frame, and the time since the one before
        self._mapped: tuple[np.ndarray, np.ndarray] | None = None  # thermal counts, and their levels on the grid
        self._table: tuple[np.ndarray, np.ndarray] | None = None  # thermal counts, and the level of each
        self._under_way: deque[_UnderWay] = deque()

    @property
    def agc(self) -> Agc:
        """The AGC in use."""
        return self._agc

    @property
    def grid(self) -> ThermalGrid:
        """The alignment in use."""
        return self._grid

    def use_agc(self, agc: Agc) -> None:
        """Map the next pair by this AGC."""
        self._agc, self._mapped, self._table = agc, None, None

    def use_grid(self, grid: ThermalGrid) -> None:
        """Align the next pair by this grid."""
        self._grid, self._fits, self._mapped = grid, True, None

    def reset(self) -> None:
        """Forget earlier pairs: the next one is mapped and fused as if it were the first."""
        self._forget()
        self._thermal_ns = self._mapped = self._table = self._asked = None

    def _forget(self) -> None:
        self._agc.reset()
        if self.engine is not None:
            self.engine.reset()

    def fuse(self, pair: FramePair) -> FusedFrame:
        """Fuse a pair. Without thermal the visible picture stands for it, without visible the thermal levels in grey.

        Raises:
            BadInputError: the frames cannot be used, or the calibration does not fit them and `on_fit` is None.
            EngineError: the engine failed.
        """
        visible, thermal = pair.visible, pair.thermal
        if visible is not None and visible.pixels.shape[:2] != self._size:
            self._size, self._mapped = (visible.pixels.shape[0], visible.pixels.shape[1]), None
        began_ns = time.perf_counter_ns()
        done = self._fuse_on_device(visible, thermal) if visible is not None and thermal is not None else None
        levels = done[1] if done is not None else self._to_levels(thermal) if thermal is not None else None
        alignment: ThermalAlignment | None = None
        fuse_ms = 0.0
        if visible is None:
            assert levels is not None  # a pair has at least one frame; for the type checker
            pixels = np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB))
        elif levels is None:
            pixels = visible.pixels  # shared, not copied: it is read-only
        else:
            alignment = self._grid.alignment(*levels.shape) if self._fits else None
            pixels = visible.pixels
            if done is not None:
                pixels = with_strength(pixels, done[0], self.strength)
            elif self.engine is not None:
                began_ns = time.perf_counter_ns()
                pixels = fuse_levels(self.engine, pixels, levels, alignment, self.strength)
            fuse_ms = (time.perf_counter_ns() - began_ns) / 1e6
        faded = self._fade.lead_over(pixels, (visible is None, thermal is None), pair.timestamp_ns)
        return FusedFrame(
            pixels=faded,
            pair=pair,
            fuse_ms=fuse_ms,
            engine=self.engine.name if self.engine is not None else NO_ENGINE,
            fused_ns=self._now_ns(),
            thermal_8bit=levels,
            agc_limits=self._agc.limits if levels is not None else None,
            alignment=alignment,
            notes=() if faded is pixels else (FADING,),
        )

    def begin(self, pair: FramePair) -> list[FusedFrame]:
        """As `fuse`, where the engine allows it without waiting for this pair: while it computes, the next is read.

        Returns:
            The frames that are done, in the order of their pairs; `finish` gives the rest. Where the engine does one
            picture at a time, this pair's frame.

        Raises:
            As `fuse`; also for an earlier pair.
        """
        visible, thermal = pair.visible, pair.thermal
        engine = self.engine.overlapping if isinstance(self.engine, Overlaps) else None
        if engine is None or visible is None or thermal is None:
            return [*self.finish(), self.fuse(pair)]
        done = [self._finish_one()] if len(self._under_way) == _UNDER_WAY else []
        if visible.pixels.shape[:2] != self._size:
            done += self.finish()
            self._size, self._mapped = (visible.pixels.shape[0], visible.pixels.shape[1]), None
        began_ns = time.perf_counter_ns()
        levels = None
        given = self._device_inputs(thermal) if self._fits else None
        if given is not None:
            engine.begin_counts(visible.pixels, *given)
        else:
            levels = self._to_levels(thermal)
            alignment = self._grid.alignment(*levels.shape) if self._fits else None
            engine.begin(visible.pixels, levels if alignment is None else alignment.filled(levels, visible.pixels))
        began_ms = (time.perf_counter_ns() - began_ns) / 1e6
        self._under_way.append(_UnderWay(pair, levels, self.strength, self._agc.limits, began_ms))
        return done

    def finish(self) -> list[FusedFrame]:
        """Wait for all pairs that were begun. Raises EngineError: the engine failed."""
        return [self._finish_one() for _ in range(len(self._under_way))]

    def _finish_one(self) -> FusedFrame:
        assert isinstance(self.engine, Overlaps) and self.engine.overlapping is not None  # it has begun this one
        begun = self._under_way.popleft()
        began_ns = time.perf_counter_ns()
        fused = self.engine.overlapping.finish()
        levels = begun.levels if begun.levels is not None else fused.levels
        assert begun.pair.visible is not None and levels is not None
        levels.flags.writeable = False
        pixels = with_strength(begun.pair.visible.pixels, fused.pixels, begun.strength)
        faded = self._fade.lead_over(pixels, (False, False), begun.pair.timestamp_ns)
        return FusedFrame(
            pixels=faded,
            pair=begun.pair,
            fuse_ms=begun.began_ms + (time.perf_counter_ns() - began_ns) / 1e6,
            engine=self.engine.name,
            fused_ns=self._now_ns(),
            thermal_8bit=levels,
            agc_limits=begun.agc_limits,
            alignment=self._grid.alignment(*levels.shape) if self._fits else None,
            notes=() if faded is pixels else (FADING,),
        )

    def _fuse_on_device(self, visible: Frame, thermal: Frame) -> tuple[np.ndarray, np.ndarray] | None:
        """Fused picture and levels of an engine that takes counts; None where it does not, or they are no counts."""
        engine = self.engine
        if not isinstance(engine, TakesCounts) or not engine.takes_counts or not self._fits:
            return None
        given = self._device_inputs(thermal)
        fused = engine.fuse_counts(visible.pixels, *given) if given is not None else None
        if fused is None or fused.levels is None:
            return None
        fused.levels.flags.writeable = False
        return fused.pixels, fused.levels

    def _device_inputs(self, thermal: Frame) -> tuple[np.ndarray, np.ndarray, ThermalWarp | None] | None:
        """Counts, table and warp for an engine that takes counts; None where there are no such."""
        counts = thermal.pixels
        if self._size is None or counts.dtype.itemsize != 2:
            return None
        thermal_size = (counts.shape[0], counts.shape[1])
        warp = None
        if thermal_size != self._size or self._grid.calibration is not None:
            try:
                warp = self._grid.warp(self._size, thermal_size)
            except BadInputError:
                warp = None
            if warp is None:
                return None
        if self._table is None or self._table[0] is not counts:
            table = self._agc.level_table(counts, self._since_s(thermal))
            if table is None:
                return None
            self._table = counts, table
        return counts, self._table[1], warp

    def _since_s(self, thermal: Frame) -> float | None:
        """Since the thermal frame before; a gap makes everything be forgotten. Asked again it answers the same."""
        if self._asked is not None and self._asked[0] is thermal:
            return self._asked[1]
        since_s = None if self._thermal_ns is None else (thermal.timestamp_ns - self._thermal_ns) / 1e9
        self._thermal_ns = thermal.timestamp_ns
        if since_s is not None and math.isfinite(self._longest_gap_s) and not 0 <= since_s <= self._longest_gap_s:
            self._forget()
        self._asked = thermal, since_s
        return since_s

    def _to_levels(self, thermal: Frame) -> np.ndarray:
        """(H, W) uint8 on the visible grid, read-only. A held frame is not mapped again."""
        if self._mapped is not None and self._mapped[0] is thermal.pixels:
            return self._mapped[1]
        levels = self._align(self._agc.apply(thermal.pixels, self._since_s(thermal)))
        levels.flags.writeable = False
        self._mapped = (thermal.pixels, levels)
        return levels

    def _align(self, levels: np.ndarray) -> np.ndarray:
        if self._size is None:
            return levels  # no visible picture yet: thermal keeps its grid
        try:
            aligned = self._grid.to_visible(levels, *self._size)
        except BadInputError as error:
            if self._on_fit is None:
                raise
            if self._fits:
                self._on_fit(error)
            self._fits = False
            return ThermalGrid(None).to_visible(levels, *self._size)
        if not self._fits and self._on_fit is not None:
            self._on_fit(None)
        self._fits = True
        return aligned


class Fade:
    """Leads from the pictures of one kind to those of the next, so that a camera comes and goes without a jump."""

    def __init__(self, seconds: float) -> None:
        self._ns = round(seconds * 1e9)
        self._kind: tuple[bool, bool] | None = None
        self._last: np.ndarray | None = None
        self._from: np.ndarray | None = None
        self._since_ns = 0

    def lead_over(self, pixels: np.ndarray, kind: tuple[bool, bool], time_ns: int) -> np.ndarray:
        """The picture to show, (H, W, 3) uint8: `pixels` itself, or its mix with the last one of another kind."""
        if not self._ns:
            return pixels
        if kind != self._kind:
            self._from, self._since_ns, self._kind = self._last, time_ns, kind
        share = (time_ns - self._since_ns) / self._ns
        before = self._from
        if before is None or before.shape != pixels.shape or not 0.0 <= share < 1.0:
            self._from, self._last = None, pixels
            return pixels
        self._last = np.asarray(cv2.addWeighted(before, 1.0 - share, pixels, share, 0.0))
        return self._last


def fuse_levels(
    engine: PairEngine,
    visible: np.ndarray,
    levels: np.ndarray,
    alignment: ThermalAlignment | None,
    strength: float = 1.0,
) -> np.ndarray:
    """Fuse two pictures on one grid; where thermal does not see, the engine is given a fill.

    Args:
        visible: (H, W, 3) uint8 RGB. levels: (H, W) uint8. alignment: None = thermal sees everything.
        strength: see `fusion_core.colour.with_strength`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    fused = engine.fuse(visible, levels if alignment is None else alignment.filled(levels, visible))
    return with_strength(visible, fused, strength)


class EngineOnDemand:
    """A `FusionEngine` that is made when the first pair comes, and warmed up whenever their size changes.

    Args:
        make: called once.
    """

    def __init__(self, make: Callable[[], FusionEngine]) -> None:
        self._make = make
        self._engine: FusionEngine | None = None
        self._size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Of the engine; NO_ENGINE before it is made."""
        return self._engine.name if self._engine is not None else NO_ENGINE

    def warm_up(self, height: int, width: int) -> None:
        """Make the engine and warm it up, unless both were done for this size. Raises EngineError, CheckpointError."""
        if self._engine is None:
            self._engine = self._make()
        if self._size != (height, width):
            self._engine.warm_up(height, width)
            self._engine.reset()
            self._size = (height, width)

    @property
    def overlapping(self) -> OverlappingEngine | None:
        """The engine, if it is one that overlaps; None before it is made."""
        engine: Any = self._engine
        return engine if getattr(engine, "begin_counts", None) is not None else None

    @property
    def takes_counts(self) -> bool:
        """Whether the engine does, see `TakesCounts`; False before it is made."""
        return getattr(self._engine, "fuse_counts", None) is not None

    def fuse_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> Fused | None:
        """See `fusion_core.engines.engine.CountsEngine`."""
        self.warm_up(*visible.shape[:2])
        fuse = getattr(self._engine, "fuse_counts", None)
        return fuse(visible, counts, table, warp) if fuse is not None else None

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `FusionEngine.fuse`."""
        self.warm_up(*thermal.shape)
        assert self._engine is not None  # by warm_up; for the type checker
        return self._engine.fuse(visible, thermal)

    def reset(self) -> None:
        """Forget earlier pairs."""
        if self._engine is not None:
            self._engine.reset()

    def close(self) -> None:
        """Close the engine if there is one."""
        if self._engine is not None:
            self._engine.close()
