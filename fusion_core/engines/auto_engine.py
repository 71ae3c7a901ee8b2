"""The first engine that runs the network here: `create_engine("auto")`.

An engine that imports may still fail to build, load, allocate, capture or fuse its first frame. The next one is then
taken, once: what has failed is not tried again in this program, or live a rig would go round in circles. Only for want
of memory it is, by the next `create_engine`: memory comes and goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from fusion_core.errors import DeviceMemoryError, EngineError

if TYPE_CHECKING:
    from fusion_core.engines.engine import FusionEngine

__all__ = ["AutoEngine"]

NO_CUDA = "PyTorch sees no CUDA device"
_FAILED: dict[tuple[str, str], str] = {}  # engine and weights: why, in this program
_LAST_RESORT = "torch"
_log = structlog.get_logger("engine")


class AutoEngine:
    """Stands for one of several engines. Owner: the one thread that calls it; `warm_up` may run in another before."""

    def __init__(self, makers: Mapping[str, Callable[[], FusionEngine]], weights_sha256: str) -> None:
        """Make the first that starts; why others do not is logged.

        Args:
            makers: by name, the best first.
            weights_sha256: of the network, whose failures are its own.

        Raises:
            EngineError: none starts.
        """
        self._makers = dict(makers)
        self._weights = weights_sha256
        self._reasons: dict[str, str] = {}
        self._candidate = ""
        self._engine = self._next(None)

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def displacement_px(self) -> Any:
        """Of the engine in use; None where it has none."""
        return getattr(self._engine, "displacement_px", None)

    @property
    def fuse_counts(self) -> Any:
        """Of the engine in use, see `fusion_core.engines.engine.CountsEngine`; None where it has none."""
        return self._optional("fuse_counts")

    @property
    def begin(self) -> Any:
        """Of the engine in use, see `fusion_core.engines.engine.OverlappingEngine`; None where it has none."""
        return self._optional("begin")

    @property
    def begin_counts(self) -> Any:
        """As `begin`."""
        return self._optional("begin_counts")

    @property
    def finish(self) -> Any:
        """As `begin`."""
        return self._optional("finish")

    def warm_up(self, height: int, width: int) -> None:
        """Warm up the engine in use, and where that fails the next. Raises EngineError: none runs at this size."""
        while True:
            try:
                self._engine.warm_up(height, width)
                return
            except EngineError as error:
                self._engine = self._next(error)

    def fuse(self, visible: np.ndarray, thermal: np.ndarray) -> np.ndarray:
        """See `FusionEngine.fuse`. The engine that fails on a frame is not taken again; the caller makes another."""
        return self._noting(self._engine.fuse, visible, thermal)  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget what was carried over from earlier pictures."""
        self._engine.reset()

    def close(self) -> None:
        """Free the engine in use. Safe to call twice."""
        self._engine.close()

    def _optional(self, name: str) -> Any:
        known = getattr(self._engine, name, None)
        return None if known is None else partial(self._noting, known)

    def _noting(self, fuse: Callable[..., Any], *pictures: object) -> Any:
        try:
            return fuse(*pictures)
        except EngineError as error:
            self._note(error)
            raise

    def _note(self, error: EngineError) -> None:
        if self._candidate != _LAST_RESORT:
            _FAILED[self._candidate, self._weights] = str(error)

    def _next(self, failure: EngineError | None) -> FusionEngine:
        """Make the next engine that starts; failure: of the one in use, which is closed."""
        if failure is not None:
            self._reasons[self._candidate] = str(failure)
            if not isinstance(failure, DeviceMemoryError):
                self._note(failure)
            self._engine.close()
        while self._makers:
            self._candidate = next(iter(self._makers))
            make = self._makers.pop(self._candidate)
            failed = _FAILED.get((self._candidate, self._weights))
            if failed is not None:
                self._reasons[self._candidate] = f"it failed before in this program: {failed}"
                continue
            try:
                engine = make()
            except EngineError as error:
                self._reasons[self._candidate] = str(error)
                continue
            self._tell(engine.name)
            return engine
        raise EngineError(
            f"no engine runs the network here: {'; '.join(f'{k}: {v}' for k, v in self._reasons.items())}"
        )

    def _tell(self, name: str) -> None:
        # Without any CUDA device the two GPU engines are no loss, and not worth a warning at every start.
        without_cuda = [key for key, why in self._reasons.items() if why.startswith(NO_CUDA)]
        lost = self._candidate == _LAST_RESORT or len(without_cuda) < len(self._reasons)
        fields = {f"not_{key.replace('-', '_')}": reason for key, reason in self._reasons.items()}
        if lost or structlog.is_configured():  # a script that fuses wants no line for an engine that it expects
            (_log.warning if lost else _log.info)("engine chosen", engine=name, **fields)
