"""Logging: JSON or console lines, no passwords, no floods, libraries included."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app.configuration.config import LogFormat, LoggingConfig
from app.logging_setup import RateLimit, configure_logging
from fusion_core.errors import ConfigError


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level, show = list(root.handlers), root.level, warnings.showwarning
    yield
    logging.captureWarnings(False)
    warnings.showwarning = show
    for handler in [h for h in root.handlers if h not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_with_time_level_and_fields() -> None:
    stream = io.StringIO()
    configure_logging(LoggingConfig(), stream)
    structlog.get_logger("camera").info("reopened", stream="thermal", attempts=3)
    structlog.get_logger("camera").debug("detail")
    (line,) = lines(stream)
    assert line["event"] == "reopened"
    assert (line["level"], line["logger"], line["attempts"]) == ("info", "camera", 3)
    assert line["timestamp"].endswith("Z")


def test_console_format_is_for_people() -> None:
    stream = io.StringIO()
    configure_logging(LoggingConfig(format=LogFormat.CONSOLE), stream)
    structlog.get_logger("camera").warning("stalled", stream="thermal")
    assert "stalled" in stream.getvalue()
    assert "stream=thermal" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_passwords_are_hidden_wherever_they_stand(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(LoggingConfig(format=log_format), stream)
    logger = structlog.get_logger("camera")
    address = "rtsp://me:hunter2@192.0.2.1/a"
    logger.error(f"cannot open {address}", uri=address, tried=[address], more={"uri": address, "password": "hunter2"})
    logger.error("login", password="hunter2", token="hunter2")
    logging.getLogger("av").warning("failed: %s", address)
    try:
        raise OSError(f"no route to {address}")
    except OSError as error:
        logger.exception("failed", cause=error)
        logging.getLogger("av").exception("failed too")
    text = stream.getvalue()
    assert text.count("failed") >= 3
    assert "no route to" in text
    assert "hunter2" not in text


def test_library_messages_and_warnings_take_the_same_way() -> None:
    stream = io.StringIO()
    configure_logging(LoggingConfig(format=LogFormat.JSON), stream)
    logging.getLogger("libav.rtsp").warning("timeout after %d s", 5)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old setting", UserWarning, stacklevel=1)
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == ("timeout after 5 s", "libav.rtsp", "warning")
    assert "old setting" in second["event"]


def test_repeated_messages_are_counted_not_written() -> None:
    stream = io.StringIO()
    configure_logging(LoggingConfig(repeat_limit=3, repeat_interval_s=1000.0), stream)
    for number in range(50):
        structlog.get_logger("camera").warning("no frame", number=number)
        logging.getLogger("libav").warning("packet lost")
        structlog.get_logger("camera").warning(f"other {number}")
    events = [line["event"] for line in lines(stream)]
    assert events.count("no frame") == 3
    assert events.count("packet lost") == 3
    assert sum(event.startswith("other") for event in events) == 50


def test_rate_limit_tells_how_many_it_held_back() -> None:
    now_s = [0.0]
    limit = RateLimit(2, 10.0, lambda: now_s[0])
    assert [limit.admit("info", "a")[0] for _ in range(5)] == [True, True, False, False, False]
    assert limit.admit("info", "b") == (True, 0)
    now_s[0] = 10.5
    assert limit.admit("info", "a") == (True, 3)
    assert limit.admit("info", "a") == (True, 0)
    for number in range(5000):
        limit.admit("info", str(number))
    assert len(limit._seen) <= 512


def test_file_gets_json_beside_the_console(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "run.jsonl"
    configure_logging(LoggingConfig(format=LogFormat.CONSOLE, file=file), io.StringIO())
    structlog.get_logger("x").info("hello", n=1)
    configure_logging(LoggingConfig(), io.StringIO())  # closes the file
    assert json.loads(file.read_text(encoding="utf-8"))["n"] == 1


def test_file_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"logging\.file"):
        configure_logging(LoggingConfig(file=tmp_path / "blocked" / "run.jsonl"), io.StringIO())


def test_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(LoggingConfig(), first)
    configure_logging(LoggingConfig(), second)
    structlog.get_logger("x").info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1
