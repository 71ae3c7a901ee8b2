"""Logging for the whole application: structlog over the standard library, called once by the command line.

Console lines on a terminal, one JSON object a line otherwise. Passwords in addresses are hidden, and a message that
repeats itself is written a few times and then counted.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.configuration.config import LogFormat, LoggingConfig
from fusion_core.errors import ConfigError
from fusion_core.files import make_folder, refuse_planted
from fusion_core.redaction import HIDDEN, redacted

__all__ = ["RateLimit", "configure_logging", "redact_values"]

_MAX_FILE_BYTES = 20_000_000
_KEPT_FILES = 5
_MAX_MESSAGES = 512  # different messages watched for repetition
_SECRET_KEYS = frozenset(
    {"password", "passwd", "pwd", "credentials", "secret", "token", "access_token", "api_key", "authorization"}
)


def configure_logging(config: LoggingConfig, stream: TextIO | None = None) -> None:
    """Set up logging as the configuration says; calling it again replaces the set-up before.

    Messages of libraries (standard logging) and Python warnings go the way of our own.

    Args:
        stream: where console or JSON lines go; None = standard error.

    Raises:
        ConfigError: the log file cannot be written.
    """
    target = sys.stderr if stream is None else stream
    terminal = target.isatty()
    as_json = config.format is LogFormat.JSON or (config.format is LogFormat.AUTO and not terminal)
    handlers: list[logging.Handler] = [_handler(logging.StreamHandler(target), as_json, terminal)]
    if config.file is not None:
        handlers.append(_handler(_file_handler(config.file), as_json=True, colours=False))
    limit = RateLimit(config.repeat_limit, config.repeat_interval_s)
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if getattr(handler, "_lumitherm", False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.addFilter(_LimitLibraries(limit))
        root.addHandler(handler)
    root.setLevel(config.level.value.upper())
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            limit,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact_values(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """structlog processor: hide passwords in addresses, and the values of keys that hold secrets."""
    for key, value in event.items():
        event[key] = HIDDEN if key.lower() in _SECRET_KEYS else redacted(value, _SECRET_KEYS)
    return event


class RateLimit:
    """A structlog processor: lets an event of one level through at most `limit` times in `interval_s`.

    What was held back is told as `suppressed` with the first one that is written after it. Errors are never held back
    when they carry an exception. Thread-safe; remembers a bounded number of different messages.
    """

    def __init__(self, limit: int, interval_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._interval_s = interval_s
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], tuple[float, int, int]] = OrderedDict()

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if event.get("exc_info"):
            return event
        allowed, suppressed = self.admit(str(event.get("level", "")), str(event.get("event", "")))
        if not allowed:
            raise structlog.DropEvent
        if suppressed:
            event["suppressed"] = suppressed
        return event

    def admit(self, level: str, message: str) -> tuple[bool, int]:
        """Whether to write this message now, and how many were held back before it."""
        if self._interval_s <= 0:
            return True, 0
        now_s = self._clock_s()
        key = (level, message)
        with self._lock:
            start_s, written, held = self._seen.pop(key, (now_s, 0, 0))
            if now_s - start_s >= self._interval_s:
                start_s, written = now_s, 0
            allowed = written < self._limit
            self._seen[key] = (start_s, written + 1, 0) if allowed else (start_s, written, held + 1)
            while len(self._seen) > _MAX_MESSAGES:
                self._seen.popitem(last=False)
        return allowed, held if allowed else 0


class _LimitLibraries(logging.Filter):
    """Limits messages of libraries likewise; structlog's own have been through the limit already."""

    def __init__(self, limit: RateLimit) -> None:
        super().__init__()
        self._limit = limit

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict) or record.exc_info:
            return True
        verdict: bool | None = getattr(record, "_admitted", None)
        if verdict is None:  # one verdict for all handlers
            verdict, suppressed = self._limit.admit(record.levelname, f"{record.name}: {record.getMessage()}")
            record._admitted = verdict
            if suppressed:
                record.msg, record.args = f"{record.getMessage()} ({suppressed} suppressed)", ()
        return verdict


def _handler(handler: logging.Handler, as_json: bool, colours: bool) -> logging.Handler:
    renderer: Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    # Tracebacks become text first, so that an address in one is hidden like any other; local variables stay out.
    ending: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact_values,
        renderer,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=ending, foreign_pre_chain=_shared_processors()))
    handler._lumitherm = True  # type: ignore[attr-defined]  # so that a second call can take it away
    return handler


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _file_handler(path: Path) -> logging.Handler:
    try:
        make_folder(path.parent)
        refuse_planted(path)
        if path.is_fifo():  # opening it would wait for a reader, for ever
            raise OSError(errno.EINVAL, "it is a pipe")
        return logging.handlers.RotatingFileHandler(
            path, maxBytes=_MAX_FILE_BYTES, backupCount=_KEPT_FILES, encoding="utf-8"
        )
    except OSError as error:
        raise ConfigError(
            f"logging.file: {path} cannot be written ({error.strerror or error}); wanted a file in a folder of yours"
        ) from error
