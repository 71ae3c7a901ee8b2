"""The knock at a camera's port, on real sockets of the loopback."""

from __future__ import annotations

import socket

import pytest

from app.capture.cameras.uri import parse_camera_uri
from app.capture.reachability import PortWatch


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_a_port_that_was_closed_and_answers_again_has_come_back_once() -> None:
    port = _free_port()
    watch = PortWatch(parse_camera_uri(f"rtsp://user:secret@127.0.0.1:{port}/x"))
    assert watch.watched
    assert not watch.came_back()
    with socket.create_server(("127.0.0.1", port)):
        assert watch.came_back()
        assert not watch.came_back()  # told once


def test_a_server_that_accepts_and_is_silent_was_never_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = PortWatch(parse_camera_uri(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"))
        assert not watch.came_back()
        assert not watch.came_back()


def test_a_new_outage_forgets_the_last_one() -> None:
    port = _free_port()
    watch = PortWatch(parse_camera_uri(f"rtsp://localhost:{port}/x"))
    assert not watch.came_back()
    watch.reset()
    with socket.create_server(("127.0.0.1", port)):
        assert not watch.came_back()


@pytest.mark.parametrize("uri", ["rtsp://camera.example/x", "sim:thermal", "file:/a.mkv"])
def test_names_and_local_sources_are_not_watched(uri: str) -> None:
    watch = PortWatch(parse_camera_uri(uri))
    assert not watch.watched
    assert not watch.came_back()
