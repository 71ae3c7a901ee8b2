"""The newest log lines in memory, for the status page and `lumitherm ctl log`; secrets are hidden as in the log."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from fusion_core.redaction import redact

__all__ = ["LogLine", "LogRing"]

_MAX_TEXT = 1000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message. number: rising, so that a reader can ask for newer ones."""

    number: int
    when: str
    level: str
    text: str


class LogRing(logging.Handler):
    """A logging handler that keeps the last messages. Thread-safe."""

    def __init__(self, capacity: int = 500) -> None:
        super().__init__(logging.INFO)
        self._mutex = threading.Lock()
        self._lines: deque[LogLine] = deque(maxlen=capacity)
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        if isinstance(record.msg, dict):
            event = dict(record.msg)
            name = str(event.pop("event", ""))
            hidden = ("level", "logger", "timestamp", "exc_info", "_record", "_from_structlog")
            facts = " ".join(f"{key}={value}" for key, value in event.items() if key not in hidden)
            text = f"{name} {facts}".strip()
        else:
            text = record.getMessage()
        text = redact(" ".join(text.split()))[:_MAX_TEXT]
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        with self._mutex:
            self._number += 1
            self._lines.append(LogLine(self._number, when, record.levelname.lower(), text))

    def newer(self, than_number: int, limit: int = 200) -> list[LogLine]:
        """The newest messages after this number, oldest first."""
        with self._mutex:
            return [line for line in self._lines if line.number > than_number][-limit:]
