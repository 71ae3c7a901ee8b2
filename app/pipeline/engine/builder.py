"""Builds engines in the background and hands them over warm.

Loading and compiling a network takes seconds, for which no picture waits.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from app.process import Worker, held_collector, return_free_memory
from fusion_core.engines.cache import BEFORE_MAKING
from fusion_core.engines.convert import convert_in_child
from fusion_core.engines.engine import AT_ONCE, NETWORK_ENGINES, FusionEngine
from fusion_core.engines.video_options import VideoOptions
from fusion_core.errors import EngineError, UsageError

__all__ = ["BuildFailure", "BuiltEngine", "EngineBuilder", "EngineFactory", "EngineSpec", "seconds_before_retry"]

_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 300.0
_WAIT_S = 0.2
_GPU_FAMILY = "tensorrt"  # of kinds in the cache of engines
_TIMED_LEAST, _TIMED_MOST, _TIMED_MS = 5, 25, 1000.0  # pictures, and what they take in all


def seconds_before_retry(failures: int) -> float:
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
        """For messages: engine, of a network with preset or weights."""
        if self.name not in NETWORK_ENGINES:
            return self.name
        return f"{self.name}:{self.weights.name if self.weights is not None else self.preset}"


@dataclass(frozen=True, slots=True, eq=False)
class BuiltEngine:
    """A warm engine, now owned by whoever takes it. weights_sha256, agc: of its checkpoint, None without one.

    fuse_ms: what a picture takes, median, measured beside whatever ran meanwhile.
    """

    spec: EngineSpec
    engine: FusionEngine
    size: tuple[int, int]
    weights_sha256: str | None = None
    agc: dict[str, Any] | None = None
    seconds: float = 0.0
    fuse_ms: float = 0.0


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
    stands_in: bool = False
    progress: float | None = None  # 0..1 of a conversion in another process
    cancelled: threading.Event = field(default_factory=threading.Event)


class EngineBuilder:
    """Owner thread of engines while they are being made; `take` hands them over. The newest request wins.

    An engine that is to stand in for others is built first, whatever is requested meanwhile.

    What fails at run time (EngineError, memory) is tried again after 5 s, 15 s, ... up to 5 minutes, for ever; a wrong
    request (UsageError: no such weights) is not.
    """

    def __init__(self, factory: EngineFactory, on_failure: Callable[[str, BaseException], None]) -> None:
        self._factory = factory
        self._changed = threading.Condition()
        self._request: _Request | None = None
        self._first: _Request | None = None  # for the engine that stands in
        self._stand_in: BuiltEngine | BuildFailure | None = None
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
            self._first = None
            self._cancel()
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, then free an engine that nobody took."""
        ended = self._worker.join(timeout_s)
        if ended:
            for left in (self.take(), self.take_stand_in()):
                if isinstance(left, BuiltEngine):
                    left.engine.close()
        return ended

    def request(self, spec: EngineSpec, after_s: float = 0.0) -> None:
        """Build this one, not before `after_s` from now; whatever else was being built is given up."""
        with self._changed:
            self._cancel()
            self._request = _Request(spec, time.monotonic() + after_s)
            self._changed.notify_all()

    def give_up(self) -> None:
        """Build what was requested last no more."""
        with self._changed:
            self._cancel()

    def request_stand_in(self, spec: EngineSpec) -> None:
        """Build the engine that stands in for others, before anything else."""
        with self._changed:
            if self._first is None and not (self._building is not None and self._building.stands_in):
                self._first = _Request(spec, 0.0, stands_in=True)
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

    def take_stand_in(self) -> BuiltEngine | BuildFailure | None:
        """As `take`, the engine that stands in for others."""
        if self._stand_in is None:
            return None
        with self._changed:
            result, self._stand_in = self._stand_in, None
            return result

    def tidy(self) -> None:
        """An engine was closed: its memory goes back to the system soon, in this thread. Returns at once."""
        self._untidy.set()

    @property
    def progress(self) -> float | None:
        """How far the conversion of what is being built is, 0..1; None while none is under way."""
        request = self._building
        return request.progress if request is not None else None

    @property
    def building(self) -> tuple[EngineSpec, float] | None:
        """What is being built just now and for how long, s; None while nothing is. Cheap enough for every frame."""
        request, began_s = self._building, self._began_s
        return None if request is None else (request.spec, max(0.0, time.monotonic() - began_s))

    @property
    def busy(self) -> bool:
        """Whether something is asked for and not yet finished."""
        with self._changed:
            return any(each is not None for each in (self._request, self._first, self._building))

    # ------------------------------------------------------------------ the thread

    def _cancel(self) -> None:
        self._request = None
        if self._building is not None and not self._building.stands_in:
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
            request = self._first if self._first is not None else self._request
            wait_s = _WAIT_S if request is None else min(_WAIT_S, request.due_s - time.monotonic())
            if request is None or wait_s > 0:
                self._changed.wait(wait_s)
                return None
            self._began_s = time.monotonic()
            self._building = request
            if request.stands_in:
                self._first = None
            else:
                self._request = None
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
                with self._converting(request, size, stopping):
                    engine.warm_up(*size)
                fuse_ms = _time_pictures(engine, *size) if spec.name in NETWORK_ENGINES else 0.0
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
        self._publish(request, BuiltEngine(spec, engine, size, sha256, agc, time.monotonic() - began_s, fuse_ms))

    @contextmanager
    def _converting(self, request: _Request, size: tuple[int, int], stopping: threading.Event) -> Iterator[None]:
        """Whatever is missing in the cache of engines is made in a child process first, once for each engine."""
        spec, asked = request.spec, set[str]()

        def ahead(kind: str) -> None:
            family = kind.partition("-")[0]
            if family in asked:
                return
            asked.add(family)
            on_gpu = family == _GPU_FAMILY
            name = family if spec.name == "auto" else spec.name  # not the engines that have failed before it
            failed = convert_in_child(
                *(name, spec.preset, spec.weights, spec.threads, spec.video, size),
                wanted=lambda: not (stopping.is_set() or request.cancelled.is_set()),
                progress=partial(setattr, request, "progress"),
            )
            request.progress = None
            if stopping.is_set() or request.cancelled.is_set():
                raise CancelledError(f"{spec.shown} is not wanted any more")  # no engine failed: none is to be left out
            if failed and on_gpu:  # minutes of the interpreter's lock, or a crash, beside the live picture
                raise EngineError(f"TensorRT could not build the network in a process of its own: {failed}")

        token = BEFORE_MAKING.set(ahead)
        try:
            yield
        finally:
            BEFORE_MAKING.reset(token)

    def _wait_for_size(self, request: _Request, stopping: threading.Event) -> tuple[int, int] | None:
        with self._changed:
            while self._size is None and not stopping.is_set() and not request.cancelled.is_set():
                self._changed.wait(_WAIT_S)
            return None if stopping.is_set() or request.cancelled.is_set() else self._size

    def _fail(self, request: _Request, error: Exception) -> None:
        retry_s: float | None = None
        if not isinstance(error, UsageError):
            retry_s = seconds_before_retry(request.attempt)
        with self._changed:
            self._building = None
            if request.cancelled.is_set():
                return
            if request.stands_in:
                self._stand_in = BuildFailure(request.spec, error, None)
                return
            self._result = BuildFailure(request.spec, error, retry_s)
            if retry_s is not None and self._request is None:
                self._request = _Request(request.spec, time.monotonic() + retry_s, request.attempt + 1)

    def _publish(self, request: _Request, built: BuiltEngine) -> None:
        with self._changed:
            self._building = None
            surplus: BuiltEngine | BuildFailure | None = built
            if request.stands_in:
                surplus, self._stand_in = self._stand_in, built
            elif not request.cancelled.is_set():
                surplus, self._result = self._result, built
        if isinstance(surplus, BuiltEngine):
            surplus.engine.close()


def _time_pictures(engine: FusionEngine, height: int, width: int) -> float:
    """Median time of a picture, ms; the engine has forgotten them afterwards."""
    random = np.random.default_rng(0)
    visible = random.integers(0, 256, (height, width, 3), np.uint8)
    thermal = random.integers(0, 256, (height, width), np.uint8)
    engine.fuse(visible, thermal)  # the first one waits for its own estimate
    taken_ms: list[float] = []
    while len(taken_ms) < _TIMED_LEAST or (len(taken_ms) < _TIMED_MOST and sum(taken_ms) < _TIMED_MS):
        began_s = time.perf_counter()
        engine.fuse(visible, thermal)
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
    engine.reset()
    return median(taken_ms)


def _checkpoint_facts(spec: EngineSpec) -> tuple[str | None, dict[str, Any] | None]:
    """SHA-256 of the weights, and the AGC they were trained with; (None, None) for engines without weights."""
    if spec.name in AT_ONCE or "fusion_core.checkpoint" not in sys.modules:
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
