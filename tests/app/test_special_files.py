"""Pipes, devices and endless files where the program looks for its own: nothing hangs, and memory does not grow."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.capture.cameras.av_camera import rtsp_url_with_credentials
from app.capture.config import CameraConfig
from app.commands.network.benchmark import _read_json, _read_ratios
from app.jobs.archive import _lines
from app.recording.config import RecordingConfig
from app.recording.segments import list_recordings, next_name
from app.recording.sidecar import read_sidecar
from app.rig.point_picking import read_points
from app.service.state.secrets import read_secret
from app.service.tasks.recording_repair import is_ended
from app.service.tasks.retention import has_event
from fusion_core.errors import LumithermError
from fusion_core.files import read_bounded, read_json

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="such files are there")
NAME = "recording-000001-20240101T000000Z"


def _login(path: Path) -> str:
    return rtsp_url_with_credentials("rtsp://h/x", CameraConfig(uri="rtsp://h/x", credentials_file=str(path)))


READERS: dict[str, Callable[[Path], object]] = {
    "sidecar": read_sidecar,
    "end of a sidecar": lambda path: is_ended(path.with_suffix(".mkv")),
    "events": lambda path: has_event(path.with_suffix(".mkv")),
    "secret": lambda path: read_secret(path, "x"),
    "login of a camera": _login,
    "log of an archive": _lines,
    "points": read_points,
    "ratios": _read_ratios,
    "benchmark": _read_json,
    "JSON": read_json,
    "YAML": lambda path: read_bounded(path, 1000),
}


def _within(seconds: float, call: Callable[[], object]) -> object:
    """What it gives, or raises; fails when it does not come back."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it hangs"
    return found[0]


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, what: str, kind: str) -> None:
    path = tmp_path / f"{NAME}.jsonl"
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    found = _within(20, lambda: READERS[what](path))
    if what in ("end of a sidecar", "events"):
        assert found is False
    else:
        assert isinstance(found, LumithermError | OSError | ValueError), found
        assert "secret" not in type(found).__name__ and len(str(found)) < 600


def test_a_sidecar_of_one_endless_line_takes_no_memory_to_look_for_events(tmp_path: Path) -> None:
    import resource

    path = tmp_path / f"{NAME}.jsonl"
    with path.open("wb") as file:
        file.truncate(600_000_000)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert has_event(path.with_suffix(".mkv")) is False
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_a_planted_number_does_not_end_the_recordings(tmp_path: Path) -> None:
    config = RecordingConfig(directory=tmp_path)
    for number in ("9" * 9, "9" * 12, "9" * 120, "000007"):
        (tmp_path / f"recording-{number}-20240101T000000Z.mkv").touch()
    name = next_name(config, 10**18, None)
    assert "-000008-" in name.name
    name.touch()
    assert name in list_recordings(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,nan\n",
        "1,2,3,inf\n",
        "1,2,3,1e300\n",
        "1,2\n",
        '"' + "x" * 200_000,
        "\0,1,2,3\n",
        "1,2,3," + "9" * 5000,
        "é",
    ],
)
def test_points_that_are_none_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LumithermError) as caught:
        read_points(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("said", [b"[" * 200_000, b"[]", b'"x"', b"\xff", b"", b"9" * 5000, b"x" * 70_000_000])
def test_who_answers_in_place_of_the_rig_is_told_from_it(said: bytes) -> None:
    import socket
    import tempfile

    from app.service.web.control import ask

    with tempfile.TemporaryDirectory(prefix="lt", dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder) / "x.sock"
        server.bind(str(path))
        server.listen(1)

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(10_000)
                connection.sendall(said + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(LumithermError, match="no running rig answers"):
            ask(path, "status", {}, 30)
        thread.join()


def test_a_line_of_an_archives_log_that_is_too_deep_is_passed_over(tmp_path: Path) -> None:
    from app.jobs.archive import _finished

    (tmp_path / "log").write_text("[" * 200_000 + '\n{"name": "a"}\n' + "9" * 5000 + "\n")
    assert set(_finished(tmp_path / "log")) == {"a"}


def test_a_pipe_in_place_of_a_log_or_of_certificates_is_waited_for_by_nobody(tmp_path: Path) -> None:
    from app.configuration.config import LoggingConfig
    from app.configuration.service import PushConfig
    from app.logging_setup import configure_logging
    from app.service.tasks.push import _tls_context

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    push = PushConfig.model_validate({"name": "a", "url": "rtsps://127.0.0.1:9/x", "tls_ca_file": str(pipe)})
    for call in (lambda: configure_logging(LoggingConfig(file=pipe)), lambda: _tls_context(push)):
        assert isinstance(_within(20, call), LumithermError)
