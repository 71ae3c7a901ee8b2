"""The engine in use: built in the background, swapped in between two pictures, replaced when it fails.

Loading and compiling a network takes seconds, for which no picture waits: a classical engine, the fallback, stands in.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.configuration.config import NEURAL_ENGINES, EngineConfig
from app.pipeline.problems import PipelineContext, Severity
from app.process import Worker, held_collector, return_free_memory
from fusion_core.engines.engine import FusionEngine, create_engine, default_threads
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import LumithermError, UsageError
from fusion_core.thermal.agc import AgcConfig, contract_differences, contract_of

__all__ = ["CLASSICAL", "BuildFailure", "BuiltEngine", "EngineBuilder", "EngineFactory", "EngineSeat", "EngineSpec"]

CLASSICAL = frozenset({"average", "pyramid", "ncc-pyramid", "edges"})
"""Engines that are ready at once and need no weights."""

_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 300.0
_WAIT_S = 0.2
_PROGRESS_S = 10
_SOUND_S = 60.0  # an engine that ran for longer before it failed starts over with the shortest wait


def _retry_s(failures: int) -> float:
    """How long to wait before the next attempt after this many failures before: 5 s, 15 s, ... up to 5 minutes."""
    return float(min(_FIRST_RETRY_S * 3.0**failures, _LONGEST_RETRY_S))


class EngineFactory(Protocol):
    """`fusion_core.engines.engine.create_engine`, or a test's stand-in."""

    def __call__(
        self, name: str, preset: str, weights: Path | None, threads: int | None, *, video: VideoOptions
    ) -> FusionEngine: ...


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine is wanted. video: what it carries over between pictures."""

    name: str
    preset: str
    weights: Path | None
    threads: int | None
    video: VideoOptions

    @property
    def shown(self) -> str:
        """For messages: engine with preset or weights."""
        if self.name in CLASSICAL:
            return self.name
        return f"{self.name}:{self.weights.name if self.weights is not None else self.preset}"


@dataclass(frozen=True, slots=True, eq=False)
class BuiltEngine:
    """A warm engine, now owned by whoever takes it. weights_sha256, agc: of its checkpoint, None without one."""

    spec: EngineSpec
    engine: FusionEngine
    size: tuple[int, int]
    weights_sha256: str | None = None
    agc: dict[str, Any] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class BuildFailure:
    """Why there is no engine. retry_s: when it is tried again, None = not until somebody asks."""

    spec: EngineSpec
    error: BaseException
    retry_s: float | None


@dataclass(slots=True)
class _Request:
    spec: EngineSpec
    due_s: float
    attempt: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)


class EngineBuilder:
    """Owner thread of engines while they are being made; `take` hands them over. The newest request wins.

    What fails at run time (EngineError, memory) is tried again after 5 s, 15 s, ... up to 5 minutes, for ever; a wrong
    request (UsageError: no such weights) is not.
    """

    def __init__(self, factory: EngineFactory, on_failure: Callable[[str, BaseException], None]) -> None:
        self._factory = factory
        self._changed = threading.Condition()
        self._request: _Request | None = None
        self._building: _Request | None = None
        self._began_s = 0.0
        self._result: BuiltEngine | BuildFailure | None = None
        self._size: tuple[int, int] | None = None
        self._untidy = threading.Event()
        self._worker = Worker("engine builder", self._run, on_failure)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def request_stop(self) -> None:
        """Ask the thread to end; a compilation that is under way cannot be broken off and ends later."""
        self._worker.request_stop()
        with self._changed:
            self._cancel()
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, then free an engine that nobody took."""
        ended = self._worker.join(timeout_s)
        if ended:
            left = self.take()
            if isinstance(left, BuiltEngine):
                left.engine.close()
        return ended

    def request(self, spec: EngineSpec, after_s: float = 0.0) -> None:
        """Build this one, not before `after_s` from now; whatever else was being built is given up."""
        with self._changed:
            self._cancel()
            self._request = _Request(spec, time.monotonic() + after_s)
            self._changed.notify_all()

    def set_size(self, height: int, width: int) -> None:
        """The size to warm up for; building waits for it after loading."""
        with self._changed:
            self._size = (height, width)
            self._changed.notify_all()

    def take(self) -> BuiltEngine | BuildFailure | None:
        """What has been finished since the last call; cheap enough for every frame."""
        if self._result is None:
            return None
        with self._changed:
            result, self._result = self._result, None
            return result

    def tidy(self) -> None:
        """An engine was closed: its memory goes back to the system soon, in this thread. Returns at once."""
        self._untidy.set()

    @property
    def building(self) -> tuple[EngineSpec, float] | None:
        """What is being built just now and for how long, s; None while nothing is. Cheap enough for every frame."""
        request, began_s = self._building, self._began_s
        return None if request is None else (request.spec, max(0.0, time.monotonic() - began_s))

    @property
    def busy(self) -> bool:
        """Whether something is asked for and not yet finished."""
        with self._changed:
            return self._request is not None or self._building is not None

    # ------------------------------------------------------------------ the thread

    def _cancel(self) -> None:
        self._request = None
        if self._building is not None:
            self._building.cancelled.set()
        if isinstance(self._result, BuildFailure):
            self._result = None

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            request = self._next()
            if request is not None:
                self._build(request, stopping)
            elif self._untidy.is_set():
                self._untidy.clear()
                return_free_memory()

    def _next(self) -> _Request | None:
        with self._changed:
            request = self._request
            wait_s = _WAIT_S if request is None else min(_WAIT_S, request.due_s - time.monotonic())
            if request is None or wait_s > 0:
                self._changed.wait(wait_s)
                return None
            self._began_s = time.monotonic()
            self._request, self._building = None, request
            return request

    def _build(self, request: _Request, stopping: threading.Event) -> None:
        spec = request.spec
        engine: FusionEngine | None = None
        began_s = time.monotonic()
        try:
            with held_collector():
                engine = self._factory(spec.name, spec.preset, spec.weights, spec.threads, video=spec.video)
                sha256, agc = _checkpoint_facts(spec)
            size = self._wait_for_size(request, stopping)
            if size is not None:
                engine.warm_up(*size)
        except Exception as error:  # told by the failure; the fallback goes on
            if engine is not None:
                engine.close()
            self._fail(request, error)
            return
        if size is None:
            engine.close()
            with self._changed:
                self._building = None
            return
        self._publish(request, BuiltEngine(spec, engine, size, sha256, agc, time.monotonic() - began_s))

    def _wait_for_size(self, request: _Request, stopping: threading.Event) -> tuple[int, int] | None:
        with self._changed:
            while self._size is None and not stopping.is_set() and not request.cancelled.is_set():
                self._changed.wait(_WAIT_S)
            return None if stopping.is_set() or request.cancelled.is_set() else self._size

    def _fail(self, request: _Request, error: Exception) -> None:
        retry_s: float | None = None
        if not isinstance(error, UsageError):
            retry_s = _retry_s(request.attempt)
        with self._changed:
            self._building = None
            if request.cancelled.is_set():
                return
            self._result = BuildFailure(request.spec, error, retry_s)
            if retry_s is not None and self._request is None:
                self._request = _Request(request.spec, time.monotonic() + retry_s, request.attempt + 1)

    def _publish(self, request: _Request, built: BuiltEngine) -> None:
        with self._changed:
            self._building = None
            before = self._result
            if not request.cancelled.is_set():
                self._result = built
                surplus = before.engine if isinstance(before, BuiltEngine) else None
            else:
                surplus = built.engine
        if surplus is not None:
            surplus.close()


class EngineSeat:
    """Holds the engine that fuses. While the wanted one is being built, or has failed, the fallback fuses.

    `request`, `name`, `build_s` and `weights_sha256` may be used by any thread, `prepare`, `start`, `request_stop` and
    `join` by the pipeline's; everything else belongs to the thread that fuses.
    """

    def __init__(self, config: EngineConfig, factory: EngineFactory, context: PipelineContext) -> None:
        self._config, self._factory, self._context = config, factory, context
        self._builder = EngineBuilder(factory, context.fail)
        self._wanted = self._spec(config.name.value, config.preset.value, config.weights)
        self._fallback = create_engine(config.fallback.value)
        self._engine = self._fallback
        self._built: BuiltEngine | None = None  # None while the fallback, or a classical engine from the start, fuses
        self._size: tuple[int, int] | None = None  # of the visible pictures
        self._agc: AgcConfig | None = None
        self._since_s = 0.0
        self._failures = 0
        self._told_s = 0  # of the build under way

    # ------------------------------------------------------------------ any thread

    def request(self, name: str, preset: str = "tiny", weights: Path | None = None) -> None:
        """Build another engine in the background and swap it in between two pictures.

        If it cannot be built the present one goes on, and the problems and `stats` say why.
        """
        self._wanted = self._spec(name, preset, weights)
        self._builder.request(self._wanted)

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
    def weights_sha256(self) -> str | None:
        """Of the engine in use; None for one without weights."""
        built = self._built
        return built.weights_sha256 if built is not None else None

    # ------------------------------------------------------------------ the pipeline's thread

    def prepare(self) -> None:
        """Take the wanted engine if it is a classical one, else ask for it to be built."""
        spec, stats = self._wanted, self._context.stats
        if spec.name not in CLASSICAL:
            stats.engine(self.name, f"{spec.shown} is being built")
            self._builder.request(spec)
            return
        try:
            self._engine = self._factory(spec.name, spec.preset, None, spec.threads, video=spec.video)
        except LumithermError as error:
            self._context.problems.add(
                Severity.ERROR, "engine", f"{spec.shown} cannot be used: {error}; {self.name} fuses instead"
            )
            self._builder.request(spec, after_s=_retry_s(0))
        stats.engine(self.name)

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
        built = self._built
        if built is not None and built.size != self._size:
            reason = f"the visible picture is now {width}x{height}; the engine is built anew"
            self._context.problems.add(Severity.INFO, "engine", reason)
            self._fall_back(reason)
            self._builder.request(built.spec)

    def take_built(self) -> None:
        """Swap in what has been built since the last call, and tell of a build's progress or failure."""
        self._tell_progress()
        result = self._builder.take()
        if isinstance(result, BuildFailure):
            again = f"; next attempt in {result.retry_s:.0f} s" if result.retry_s is not None else ""
            reason = f"{result.spec.shown} cannot be used: {result.error}"
            self._context.stats.engine(self.name, reason)
            self._context.problems.add(
                Severity.ERROR,
                "engine",
                f"{reason}; {self.name} fuses instead{again}",
                "choose another engine, or mend what the message says",
            )
        elif result is not None and self._size is not None and result.size != self._size:
            result.engine.close()
            self._builder.request(result.spec)
        elif result is not None:
            self._close_engine()
            self._engine, self._built = result.engine, result
            self._since_s = time.monotonic()
            self._context.stats.engine(self.name)
            self._context.problems.add(
                Severity.INFO, "engine", f"{self.name} fuses from now on, built in {result.seconds:.1f} s"
            )
            self._compare_agc()

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """As `FusionEngine.fuse`. An engine that fails costs the engine, not the picture; `name` then is another."""
        try:
            return self._engine.fuse(visible, thermal)
        except Exception as error:
            if self._engine is self._fallback:
                raise
            self._replace_failed(error)
        return self._fallback.fuse(visible, thermal)

    def reset(self) -> None:
        """Forget what the engine carried over from earlier pictures."""
        self._engine.reset()

    def set_agc(self, config: AgcConfig) -> None:
        """Warn when this AGC is not the one that the network was trained with, now and for engines to come."""
        self._agc = config
        self._compare_agc()

    def close(self) -> None:
        """Free both engines."""
        self._engine.close()
        self._fallback.close()

    # ------------------------------------------------------------------ inside

    def _spec(self, name: str, preset: str, weights: Path | None) -> EngineSpec:
        config = self._config
        threads = config.threads
        if threads is None and name in NEURAL_ENGINES:
            threads = default_threads()
        video = VideoOptions(config.align_every, config.align_smoothing, config.kernels_every, config.kernels_smoothing)
        return EngineSpec(name, preset, weights if name not in CLASSICAL else None, threads, video)

    def _replace_failed(self, error: Exception) -> None:
        spec = self._built.spec if self._built is not None else self._wanted
        if time.monotonic() - self._since_s > _SOUND_S:
            self._failures = 0
        wait_s = _retry_s(self._failures)
        self._failures += 1
        reason = f"{self.name} failed: {error}"
        self._context.problems.add(
            Severity.ERROR,
            "engine",
            f"{reason}; {self._fallback.name} fuses instead, next attempt in {wait_s:.0f} s",
            "if it fails again, choose another engine",
            None if isinstance(error, LumithermError) else error,
        )
        self._fall_back(reason)
        self._builder.request(spec, after_s=wait_s)

    def _fall_back(self, reason: str) -> None:
        self._close_engine()
        self._engine, self._built = self._fallback, None
        self._fallback.reset()
        self._context.stats.engine(self.name, reason)
        self._context.stats.warn("agc", None)

    def _close_engine(self) -> None:
        if self._engine is not self._fallback:
            self._engine.close()
            self._builder.tidy()

    def _tell_progress(self) -> None:
        """Every ten seconds of a build, while the fallback stands in: which engine it is, and how long it takes."""
        building = self._builder.building
        if building is None or self._engine is not self._fallback:
            self._told_s = 0
        elif building[1] >= self._told_s + _PROGRESS_S:
            self._told_s = int(building[1])
            self._context.stats.engine(self.name, f"{building[0].shown} is being built, {self._told_s} s so far")

    def _compare_agc(self) -> None:
        trained = self._built.agc if self._built is not None else None
        differences: list[str] = []
        if trained is not None and self._agc is not None:
            differences = contract_differences(contract_of(self._agc), trained)
        text = f"the AGC differs from the one the network was trained with: {'; '.join(differences)}"
        self._context.stats.warn("agc", text if differences else None)


def _checkpoint_facts(spec: EngineSpec) -> tuple[str | None, dict[str, Any] | None]:
    """SHA-256 of the weights, and the AGC they were trained with; (None, None) for engines without weights."""
    if spec.name in CLASSICAL or "fusion_core.checkpoint" not in sys.modules:
        return None, None  # nobody has read weights
    from fusion_core.checkpoint import load_checkpoint
    from fusion_core.errors import CheckpointError
    from fusion_core.model_store import resolve_weights

    try:
        checkpoint = load_checkpoint(resolve_weights(spec.weights if spec.weights is not None else spec.preset))
    except CheckpointError:  # an engine that brings its own network (a test's)
        return None, None
    agc = checkpoint.facts.get("agc")
    return checkpoint.sha256, agc if isinstance(agc, dict) else None
