"""Converting engines in a child process: what it tells, how it ends, and what it leaves in the cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fusion_core.engines.cache import EngineCache
from fusion_core.engines.convert import convert_in_child
from fusion_core.engines.video_options import VideoOptions


def convert(script: str, told: list[float]) -> str:
    return convert_in_child(
        *("openvino", "tiny", None, None, VideoOptions(), (64, 96)),
        wanted=lambda: True,
        progress=told.append,
        program=(sys.executable, "-c", script),
    )


def test_progress_is_told_and_other_lines_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[float] = []
    script = "print('progress 0.25'); print('a library speaks'); print('progress x'); print('progress 7')"
    assert convert(script, told) == ""
    assert told == [0.25, 1.0]
    assert "failed" not in capsys.readouterr().out


def said_in(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """What was logged, through `logging` where a test before has set it up."""
    return caplog.text + capsys.readouterr().out


def test_a_child_that_fails_is_told_with_its_last_words(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("raise SystemExit('no memory left')", []) == "ended with code 1; no memory left"
    assert "no memory left" in said_in(caplog, capsys)


def test_a_child_that_a_library_crashes_is_told(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """As TensorRT may: it costs the child and nothing else."""
    assert convert("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", []) == "ended with code -11"
    assert "ended with code -11" in said_in(caplog, capsys)


def test_a_child_that_cannot_be_started_is_told(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    none = ("/no/such/program",)
    options = ("openvino", "tiny", None, None, VideoOptions(), (64, 96))
    said = convert_in_child(*options, wanted=lambda: True, progress=lambda _: None, program=none)
    assert "no process can be started" in said
    assert "no process to convert the network in" in said_in(caplog, capsys)


def test_a_child_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    lines = ("import os, pathlib, time", f"pathlib.Path({str(file)!r}).write_text(str(os.getpid()))", "time.sleep(600)")
    answers = iter([True] * 50)  # for five seconds, unless it is there sooner
    assert not convert_in_child(
        *("openvino", "tiny", None, None, VideoOptions(), (64, 96)),
        wanted=lambda: next(answers, False) and not file.exists(),
        progress=lambda _: None,
        program=(sys.executable, "-c", "; ".join(lines)),
    )
    if file.exists() and file.read_text():
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


@pytest.mark.slow
def test_the_cache_holds_what_the_engine_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told: list[float] = []
    options = ("aligned-pyramid", "tiny", None, 1, VideoOptions(), (64, 96))
    assert convert_in_child(*options, wanted=lambda: True, progress=told.append) == ""
    assert told == sorted(told) and told[0] == 0.05 and told[-1] == 1.0
    kinds = [entry.key["kind"] for entry in EngineCache(tmp_path / "lumitherm" / "engines").entries()]
    assert kinds == ["openvino-estimate"]
