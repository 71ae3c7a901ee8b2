"""The engine in use: built in the background, swapped in between two pictures, replaced when it fails.

Loading and compiling a network takes seconds, for which no picture waits: the fallback stands in.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.configuration.config import NEURAL_ENGINES, EngineConfig, Preset
from app.pipeline.engine.builder import (
    BuildFailure,
    BuiltEngine,
    EngineBuilder,
    EngineFactory,
    EngineSpec,
    seconds_before_retry,
)
from app.pipeline.engine.preset_choice import PresetAction, PresetChoice, RateReading
from app.pipeline.state.problems import PipelineContext, Severity
from fusion_core.engines.engine import AT_ONCE, NETWORK_ENGINES, FusionEngine, create_engine
from fusion_core.engines.openvino_runtime import default_threads
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import LumithermError
from fusion_core.model_store import shipped_presets
from fusion_core.thermal.agc import AgcConfig, contract_differences, contract_of
from fusion_core.thermal.field_of_view import ThermalWarp

if TYPE_CHECKING:
    from fusion_core.engines.gpu.runner import Fused

__all__ = ["EngineSeat"]

_AT_ONCE_INSTEAD = "ncc-pyramid"  # undoes the shift of the whole picture
_STAND_IN_PRESET = "tiny"
_PROGRESS_S = 10
_SOUND_S = 60.0  # an engine that ran for longer before it failed starts over with the shortest wait


class EngineSeat:
    """Holds the engine that fuses. While the wanted one is being built, or has failed, the fallback fuses.

    The fallback aligns the pictures as the network does, for which it needs an estimate that takes seconds to build.
    Until then, and where there is none, another one stands in that is ready at once (the last resort).

    `request`, `name`, `build_s` and `weights_sha256` may be used by any thread, `prepare`, `start`, `request_stop` and
    `join` by the pipeline's; everything else belongs to the thread that fuses.
    """

    def __init__(self, config: EngineConfig, factory: EngineFactory, context: PipelineContext) -> None:
        self._config, self._factory, self._context = config, factory, context
        self._builder = EngineBuilder(factory, context.fail)
        self._choice: PresetChoice | None = None
        self._reading: RateReading | None = None  # the newest
        self._reading_is_new = False
        self._wanted = self._want(config.name.value, config.preset.value, config.weights)
        at_once = config.fallback.value in AT_ONCE
        self._last_resort = create_engine(config.fallback.value if at_once else _AT_ONCE_INSTEAD)
        self._stand_in = None if at_once else self._spec(config.fallback.value, _STAND_IN_PRESET, None)
        self._fallback = self._last_resort
        self._fallback_size: tuple[int, int] | None = None  # that it was built for; None = any
        self._engine = self._fallback
        self._reason: str | None = None  # why the engine is not the wanted one
        self._built: BuiltEngine | None = None  # None while the fallback, or a classical engine from the start, fuses
        self._size: tuple[int, int] | None = None  # of the visible pictures
        self._agc: AgcConfig | None = None
        self._since_s = 0.0
        self._failures = 0
        self._told = ""  # of the build under way

    # ------------------------------------------------------------------ any thread

    def request(self, name: str, preset: str = "tiny", weights: Path | None = None) -> None:
        """Build another engine in the background and swap it in between two pictures.

        With preset auto it is swapped in only if it keeps the cameras' rate, and replaced when it does not any more.
        If it cannot be built the present one goes on, and the problems and `stats` say why.
        """
        self._wanted = self._want(name, preset, weights)
        self._want_stand_in()
        self._builder.request(self._wanted)

    def observe(self, reading: RateReading) -> None:
        """What the pipeline keeps up with just now, for preset auto."""
        self._reading, self._reading_is_new = reading, True

    @property
    def name(self) -> str:
        """The engine in use, e.g. "openvino-bf16:tiny" or "pyramid"."""
        return self._engine.name

    @property
    def build_s(self) -> float | None:
        """For how long an engine has been building in the background, s; None while none is."""
        building = self._builder.building
        return building[1] if building is not None else None

    @property
    def build_progress(self) -> float | None:
        """How far the conversion of the engine that is being built is, 0..1; None where that is not known."""
        return self._builder.progress

    @property
    def weights_sha256(self) -> str | None:
        """Of the engine in use; None for one without weights."""
        built = self._built
        return built.weights_sha256 if built is not None else None

    # ------------------------------------------------------------------ the pipeline's thread

    def prepare(self) -> None:
        """Take the wanted engine if it is a classical one, else ask for it to be built."""
        spec = self._wanted
        if spec.name not in AT_ONCE:
            self._tell(f"{spec.shown} is being built")
            self._want_stand_in()
            self._builder.request(spec)
            return
        try:
            self._engine = self._factory(spec.name, spec.preset, None, spec.threads, video=spec.video)
        except LumithermError as error:
            self._context.problems.add(
                Severity.ERROR, "engine", f"{spec.shown} cannot be used: {error}; {self.name} fuses instead"
            )
            self._builder.request(spec, after_s=seconds_before_retry(0))
        self._tell(None)

    def start(self) -> None:
        """Begin to build in the background."""
        self._builder.start()

    def request_stop(self) -> None:
        """Ask the building thread to end."""
        self._builder.request_stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the building thread; whether it ended in time."""
        return self._builder.join(timeout_s)

    # ------------------------------------------------------------------ the thread that fuses

    def fit(self, height: int, width: int) -> None:
        """The visible pictures have this size: build for it, and build anew what was built for another."""
        if (height, width) == self._size:
            return
        self._size = (height, width)
        self._builder.set_size(height, width)
        if self._fallback_size not in (None, self._size):
            self._use_fallback(self._last_resort, None)
            self._want_stand_in()
        built = self._built
        if built is not None and built.size != self._size:
            reason = f"the visible picture is now {width}x{height}; the engine is built anew"
            self._context.problems.add(Severity.INFO, "engine", reason)
            self._fall_back(reason, again=True)
            self._builder.request(built.spec)

    def take_built(self) -> None:
        """Swap in what has been built since the last call, and tell of a build's progress or failure."""
        self._take_stand_in()
        self._follow_rate()
        self._tell_progress()
        result = self._builder.take()
        if isinstance(result, BuildFailure):
            again = f"; next attempt in {result.retry_s:.0f} s" if result.retry_s is not None else ""
            reason = f"{result.spec.shown} cannot be used: {result.error}"
            if self._choice is not None and self._built is not None:
                self._builder.give_up()  # a larger network: the one in use does
                self._choice.tried(time.monotonic(), math.inf, None)
            self._tell(reason)
            self._context.problems.add(
                Severity.ERROR,
                "engine",
                f"{reason}; {self.name} fuses instead{again}",
                "choose another engine, or fix what the message names",
            )
        elif result is not None and self._size is not None and result.size != self._size:
            result.engine.close()
            self._builder.request(result.spec)
        elif result is not None and not self._keeps_rate(result):
            result.engine.close()
        elif result is not None:
            self._close_engine()
            self._engine, self._built = result.engine, result
            self._since_s = time.monotonic()
            self._tell(None)
            self._context.problems.add(
                Severity.INFO,
                "engine",
                f"{self.name} fuses from now on, built in {result.seconds:.1f} s"
                + (f", {result.fuse_ms:.1f} ms a picture" if result.fuse_ms else ""),
            )
            self._compare_agc()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """As `FusionEngine.fuse`. An engine that fails costs the engine, not the picture; `name` then is another."""
        while True:
            try:
                return self._engine.fuse(visible, thermal)
            except Exception as error:
                if self._engine is self._last_resort:
                    raise
                self._replace_failed(error)

    @property
    def takes_counts(self) -> bool:
        """Whether the engine in use does the AGC's table, the warp and the fill itself."""
        return getattr(self._engine, "fuse_counts", None) is not None

    def fuse_counts(
        self, visible: np.ndarray, counts: np.ndarray, table: np.ndarray, warp: ThermalWarp | None
    ) -> Fused | None:
        """See `fusion_core.engines.engine.CountsEngine`. None: the engine has failed, and `name` is another."""
        fuse = getattr(self._engine, "fuse_counts", None)
        if fuse is None:
            return None
        try:
            return fuse(visible, counts, table, warp)  # type: ignore[no-any-return]
        except Exception as error:
            self._replace_failed(error)
            return None

    def reset(self) -> None:
        """Forget what the engine carried over from earlier pictures."""
        self._engine.reset()

    def set_agc(self, config: AgcConfig) -> None:
        """Warn when this AGC is not the one that the network was trained with, now and for engines to come."""
        self._agc = config
        self._compare_agc()

    def close(self) -> None:
        """Free all engines."""
        for engine in (self._engine, self._fallback, self._last_resort):
            engine.close()

    # ------------------------------------------------------------------ inside

    def _want(self, name: str, preset: str, weights: Path | None) -> EngineSpec:
        """What is to be built; with preset auto the first network to try, and others as the rate allows."""
        presets = shipped_presets() if preset == Preset.AUTO and name in NETWORK_ENGINES and weights is None else ()
        self._choice = PresetChoice(presets) if presets else None
        fixed = Preset.AUTO.fixed if preset == Preset.AUTO else preset
        return self._spec(name, presets[0] if presets else fixed, weights)

    def _follow_rate(self) -> None:
        """Preset auto: go down when pictures are lost, try a larger network when there is room."""
        choice, reading = self._choice, self._reading
        if choice is None or reading is None or not self._reading_is_new:
            return
        self._reading_is_new = False
        now_s = time.monotonic()
        action = choice.observe(now_s, reading)
        if action is PresetAction.STEP_DOWN:
            reason = f"{self.name} fused {reading.fused_hz:.1f} of {reading.captured_hz:.1f} pictures/s"
            self._fall_back(f"{reason}, too slow for this computer just now")
            again = f"{self.name} fuses instead, for {choice.wait_s(now_s):.0f} s at least"
            self._context.problems.add(Severity.WARNING, "engine", f"{reason}; {again}")
        elif action is PresetAction.TRY and choice.trying is not None:
            self._wanted = self._spec(self._wanted.name, choice.trying, None)
            self._builder.request(self._wanted)

    def _keeps_rate(self, built: BuiltEngine) -> bool:
        """Whether to take what was built; with preset auto by what a picture takes of the time there is."""
        choice = self._choice
        if choice is None or built.spec.preset != choice.trying:
            return True
        now_s = time.monotonic()
        if choice.tried(now_s, built.fuse_ms, self._reading):
            return True
        period_ms = (self._reading or RateReading(30.0, 0.0, None)).period_ms
        reason = f"{built.spec.shown} would take {built.fuse_ms:.0f} ms a picture, one comes every {period_ms:.0f} ms"
        if self._built is None:
            self._tell(reason)
        again = f"{self.name} goes on, for {choice.wait_s(now_s):.0f} s at least"
        self._context.problems.add(Severity.INFO, "engine", f"{reason}; {again}")
        return False

    def _spec(self, name: str, preset: str, weights: Path | None) -> EngineSpec:
        config = self._config
        threads = config.threads
        if threads is None and name in NEURAL_ENGINES:
            threads = default_threads()
        video = VideoOptions(
            config.align_every,
            config.align_smoothing,
            kernels_every=config.kernels_every,
            kernels_smoothing=config.kernels_smoothing,
            align_waits=False,
        )
        return EngineSpec(name, preset, weights if name not in AT_ONCE else None, threads, video)

    def _tell(self, reason: str | None) -> None:
        """Show what fuses, and why it is not what was asked for."""
        self._reason = reason
        self._context.stats.engine(self.name, reason)

    def _want_stand_in(self) -> None:
        if self._stand_in is not None and self._fallback is self._last_resort and self._wanted.name not in AT_ONCE:
            self._builder.request_stand_in(self._stand_in)

    def _take_stand_in(self) -> None:
        result = self._builder.take_stand_in()
        if isinstance(result, BuildFailure):
            self._context.problems.add(
                Severity.WARNING,
                "engine",
                f"{result.spec.shown} cannot stand in: {result.error}; {self._last_resort.name} does",
            )
        elif result is not None and self._size not in (None, result.size):
            result.engine.close()
            self._want_stand_in()
        elif result is not None:
            self._use_fallback(result.engine, result.size)

    def _use_fallback(self, engine: FusionEngine, size: tuple[int, int] | None) -> None:
        """Replace the fallback, also where it fuses just now."""
        before, self._fallback, self._fallback_size = self._fallback, engine, size
        if self._engine is before:
            self._engine = engine
            self._tell(self._reason)
        if before is not self._last_resort:
            before.close()

    def _replace_failed(self, error: Exception) -> None:
        if self._engine is self._fallback:
            self._context.problems.add(
                Severity.ERROR, "engine", f"{self.name} failed: {error}; {self._last_resort.name} fuses instead"
            )
            self._use_fallback(self._last_resort, None)
            return
        spec = self._built.spec if self._built is not None else self._wanted
        if time.monotonic() - self._since_s > _SOUND_S:
            self._failures = 0
        wait_s = seconds_before_retry(self._failures)
        self._failures += 1
        reason = f"{self.name} failed: {error}"
        self._context.problems.add(
            Severity.ERROR,
            "engine",
            f"{reason}; {self._fallback.name} fuses instead, next attempt in {wait_s:.0f} s",
            "if it fails again, choose another engine",
            None if isinstance(error, LumithermError) else error,
        )
        self._fall_back(reason, again=True)
        self._builder.request(spec, after_s=wait_s)

    def _fall_back(self, reason: str, *, again: bool = False) -> None:
        """Let the fallback fuse. again: what fused until now is about to be built anew."""
        if again and self._choice is not None:
            self._choice.lost(time.monotonic())
        self._close_engine()
        self._engine, self._built = self._fallback, None
        self._fallback.reset()
        self._tell(reason)
        self._context.stats.warn("agc", None)

    def _close_engine(self) -> None:
        if self._engine is not self._fallback:
            self._engine.close()
            self._builder.tidy()

    def _tell_progress(self) -> None:
        """While the fallback stands in: what is being built, how far its conversion is, and how long it takes."""
        building = self._builder.building
        if building is None or self._engine is not self._fallback:
            self._told = ""
            return
        shown, progress = building[0].shown, self._builder.progress
        text = f"{shown} is being built"
        if progress is not None:
            text = f"preparing {shown}, {progress:.0%}".replace("%", " %")
        elif building[1] >= _PROGRESS_S:
            text += f", {int(building[1] // _PROGRESS_S) * _PROGRESS_S} s so far"
        elif not self._told:
            return  # what is shown says why it is being built
        if text != self._told:
            self._told = text
            self._tell(text)

    def _compare_agc(self) -> None:
        trained = self._built.agc if self._built is not None else None
        differences: list[str] = []
        if trained is not None and self._agc is not None:
            differences = contract_differences(contract_of(self._agc), trained)
        text = f"the AGC differs from the one the network was trained with: {'; '.join(differences)}"
        self._context.stats.warn("agc", text if differences else None)
