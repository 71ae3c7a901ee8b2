"""What went wrong lately, in words for the user; and what every part of the pipeline is given to tell it with."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from app.capture.cameras.camera import Clock
from app.pipeline.state.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PipelineContext", "PipelineProblem", "ProblemLog", "Severity"]

_KEPT = 100


class Severity(StrEnum):
    """How much a problem matters."""

    INFO = "info"  # it is over, or it mends itself
    WARNING = "warning"  # less than was asked for, but pictures go on
    ERROR = "error"  # pictures or recordings are being lost


@dataclass(frozen=True, slots=True)
class PipelineProblem:
    """One thing that happened. `source` says where: visible, thermal, engine, recording, calibration, pipeline."""

    when: datetime  # wall clock, UTC
    severity: Severity
    source: str
    text: str
    advice: str = ""


class ProblemLog:
    """Keeps the last hundred problems and writes each into the log. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._problems: deque[PipelineProblem] = deque(maxlen=_KEPT)
        self._logger: Any = structlog.get_logger("live")

    def add(
        self,
        severity: Severity,
        source: str,
        text: str,
        advice: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Note a problem. `error`: its traceback goes into the log."""
        problem = PipelineProblem(datetime.now(UTC), severity, source, text, advice)
        with self._lock:
            self._problems.append(problem)
        fields: dict[str, Any] = {"reason": text}
        if advice:
            fields["advice"] = advice
        if error is not None:
            fields["exc_info"] = error
        self._logger.log(_LEVELS[severity], f"{source} problem" if severity is not Severity.INFO else source, **fields)

    def recent(self) -> tuple[PipelineProblem, ...]:
        """The last problems, oldest first."""
        with self._lock:
            return tuple(self._problems)


_LEVELS = {Severity.INFO: 20, Severity.WARNING: 30, Severity.ERROR: 40}


@dataclass(frozen=True, slots=True)
class PipelineContext:
    """What every part of one pipeline shares. fail: ends the pipeline in order; takes who failed, and by what."""

    clock: Clock
    stats: Stats
    problems: ProblemLog
    fail: Callable[[str, BaseException], None]
