"""The fused stream pushed to a real RTSP server on the loopback, read back, with the server killed and frozen."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError
from support.live import wait_until
from support.rtsp_record_server import RecordServer, missing_reason
from support.service import secret_file
from support.whip_server import WhipServer, python_with_aiortc

from app.configuration.service import PushConfig
from app.pipeline.state.latest_slot import LatestSlot
from app.service.tasks.push import PushThread, resolve_url
from fusion_core.errors import ConfigError
from fusion_core.frames import Frame, FramePair, FusedFrame, Stream, TimestampSource

MISSING = missing_reason()
needs_server = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
OUTAGE_S = float(os.environ.get("LUMITHERM_PUSH_OUTAGE", "2"))  # s that the server is away; 30 for the figures
BITS = 16
CELL = int(os.environ.get("LUMITHERM_PUSH_CELL", "8"))  # px; 40 makes pictures of 640x480
HEIGHT, WIDTH = 12 * CELL, BITS * CELL


def numbered(number: int) -> FusedFrame:
    """A picture that carries its number as black and white columns."""
    row = np.repeat([(number >> bit & 1) * 200 + 20 for bit in range(BITS)], CELL).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)))
    visible = Frame(Stream.VISIBLE, pixels, number, time.monotonic_ns(), TimestampSource.ARRIVAL)
    return FusedFrame(pixels, FramePair(visible, None), 0.0, "test", time.monotonic_ns())


def number_of(picture: av.VideoFrame) -> int:
    return number_in(picture.to_ndarray(format="gray")[HEIGHT // 2])


def number_in(row: Any) -> int:
    return sum(1 << bit for bit in range(BITS) if row[bit * CELL + CELL // 2] > 120)


def push_config(**changes: Any) -> PushConfig:
    return PushConfig.model_validate({"encoder": "software", "retry_s": 0.3, "stall_s": 1.5, **changes})


class Feeder:
    """Puts numbered pictures at 20 a second; remembers when each was made, and the longest a put took."""

    def __init__(self) -> None:
        self.slot: LatestSlot[FusedFrame] = LatestSlot()
        self.made_ns: dict[int, int] = {}
        self.slowest_put_s = 0.0
        self._number = 0
        self._next_s = time.monotonic()

    def feed(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.put()

    def put(self) -> None:
        time.sleep(max(0.0, self._next_s - time.monotonic()))
        self._next_s = max(self._next_s + 0.05, time.monotonic())
        self._number += 1
        frame = numbered(self._number)
        self.made_ns[self._number] = frame.pair.timestamp_ns
        began_s = time.monotonic()
        self.slot.put(frame)
        self.slowest_put_s = max(self.slowest_put_s, time.monotonic() - began_s)

    def until(self, condition: Any, limit_s: float = 120) -> None:
        end_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end_s, "waited in vain"
            self.put()


@pytest.fixture
def feeder() -> Iterator[Feeder]:
    yield Feeder()


def latencies_ms(server: Any, feeder: Feeder) -> list[float]:
    """From made to read back, for every picture that the server got; decoded by FFmpeg."""
    decoder = av.CodecContext.create("h264", "r")
    found = []
    for arrived_ns, data in list(server.units):
        for picture in decoder.decode(av.Packet(data)):
            number = number_of(picture)
            if number in feeder.made_ns:
                found.append((arrived_ns - feeder.made_ns[number]) / 1e6)
    return found


@needs_server
@pytest.mark.rtsp
def test_pictures_arrive_and_a_killed_server_is_found_again(
    feeder: Feeder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures: list[BaseException] = []
    server = RecordServer()
    push = PushThread(push_config(url=server.url), feeder.slot, failures.append)
    push.start()
    try:
        feeder.until(lambda: len(server.units) >= 40)
        found = latencies_ms(server, feeder)
        assert len(found) >= 30, "the numbers cannot be read back"
        assert push.figures.connected and push.figures.reconnects == 0
        port = server.port
        server.kill()
        feeder.until(lambda: not push.figures.connected)
        feeder.feed(OUTAGE_S)
        assert push.figures.drops > 20  # counted while nobody takes them
        server = RecordServer(port)
        back_s = time.monotonic()
        feeder.until(lambda: len(server.units) >= 5)
        back_s = time.monotonic() - back_s
        assert push.figures.reconnects == 1
        again = latencies_ms(server, feeder)
        assert again, "the stream is not decodable after the server came back"
        server.freeze()
        feeder.feed(3.0)
        assert feeder.slowest_put_s < 1.0  # the producer never waits; a busy machine may be slow
        server.kill()
        server = RecordServer(port)
        feeder.until(lambda: len(server.units) >= 5)
    finally:
        stopped = push.stop()
        server.kill()
    assert stopped and failures == []
    found.sort()
    with capsys.disabled():
        print(
            f"\npush: added latency p50 {found[len(found) // 2]:.0f} ms, p95 {found[int(len(found) * 0.95)]:.0f} ms"
            f" over {len(found)} pictures; back {back_s:.1f} s after the server;"
            f" slowest put {feeder.slowest_put_s * 1e3:.1f} ms"
        )


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and a file with it and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; it makes the certificate")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *kind, *files, *names], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return folder / "cert.pem", both


@needs_server
@pytest.mark.rtsp
def test_rtsps_reaches_the_server_that_it_trusts_and_no_other(feeder: Feeder, tmp_path: Path) -> None:
    certificate, both = self_signed(tmp_path)
    with RecordServer(tls=both) as server:
        stranger = PushThread(push_config(url=server.url), feeder.slot, print)
        told: list[str] = []
        stranger._note = lambda error: told.append(str(error))  # type: ignore[method-assign]
        stranger.start()
        feeder.until(lambda: told)
        assert stranger.stop()
        assert "certificate" in told[0] and not server.units
        push = PushThread(push_config(url=server.url, tls_ca_file=certificate), feeder.slot, print)
        push.start()
        feeder.until(lambda: len(server.units) >= 10)
        assert push.stop()
        assert latencies_ms(server, feeder)
    with pytest.raises(ConfigError, match="tls_ca_file"):
        PushThread(push_config(url="rtsps://h/x", tls_ca_file=tmp_path / "none.pem"), feeder.slot, print)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed; it makes WHIP's key")
def test_whip_reaches_a_real_server_and_finds_it_again(
    feeder: Feeder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = python_with_aiortc()
    if python is None:
        pytest.skip("no Python with aiortc; set LUMITHERM_WHIP_PYTHON to one")
    token = "whip-token-" + "x" * 24
    server = WhipServer(python, token)
    wrong = PushThread(push_config(url=server.url), feeder.slot, print)
    told: list[str] = []
    wrong._note = lambda error: told.append(str(error))  # type: ignore[method-assign]
    wrong.start()
    feeder.until(lambda: told)
    assert wrong.stop() and not server.rows
    push = PushThread(push_config(url=server.url, token_file=secret_file(tmp_path, "t", token)), feeder.slot, print)
    push.start()
    try:
        feeder.until(lambda: len(server.rows) >= 60)
        found = sorted(
            (at_ns - feeder.made_ns[number]) / 1e6
            for at_ns, row in list(server.rows)
            if (number := number_in(row)) in feeder.made_ns
        )
        assert len(found) >= 40, "the numbers cannot be read back"
        port = server.port
        server.kill()
        feeder.until(lambda: not push.figures.connected)
        feeder.feed(OUTAGE_S)
        server = WhipServer(python, token, port)
        back_s = time.monotonic()
        feeder.until(lambda: len(server.rows) >= 5)
        back_s = time.monotonic() - back_s
    finally:
        stopped = push.stop()
        server.kill()
    assert stopped
    with capsys.disabled():
        print(
            f"\nWHIP: made to decoded p50 {found[len(found) // 2]:.0f} ms,"
            f" p95 {found[int(len(found) * 0.95)]:.0f} ms"
            f" over {len(found)} pictures; back {back_s:.1f} s after the server"
        )


def test_a_server_that_takes_nothing_is_given_up(feeder: Feeder) -> None:
    """It accepts the connection and never answers: the guard cuts it, for FFmpeg would wait on."""
    deaf = socket.create_server(("127.0.0.1", 0))
    push = PushThread(push_config(url=f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/x", stall_s=1), feeder.slot, print)
    push.start()
    try:
        accepted = []
        deaf.settimeout(0.01)

        def tried_again() -> bool:
            with contextlib.suppress(TimeoutError):
                accepted.append(deaf.accept()[0])
            return len(accepted) >= 4  # each attempt knocks once and connects once

        feeder.until(tried_again)
    finally:
        assert push.stop()
        deaf.close()
        for connection in accepted:
            connection.close()


def test_nobody_there_costs_pictures_on_this_stream_alone(feeder: Feeder) -> None:
    push = PushThread(push_config(url="rtsp://127.0.0.1:9/x"), feeder.slot, print)
    push.start()
    feeder.feed(1.0)
    assert not push.figures.connected and push.figures.frames == 0
    assert push.stop()


def test_addresses(tmp_path: Path) -> None:
    for url in ("ftp://x/y", "rtsp:///path", "rtsp://h:99999/x", "file:/etc/passwd", "concat:a|b"):
        with pytest.raises(ValidationError):
            push_config(url=url)
    with pytest.raises(ValidationError, match="either url or url_file"):
        push_config()
    assert resolve_url(push_config(url_file=secret_file(tmp_path, "u", "rtsps://u:p@h/x"))) == "rtsps://u:p@h/x"
    with pytest.raises(ConfigError) as caught:
        resolve_url(push_config(url_file=secret_file(tmp_path, "bad", "ftp://u:planted@h/x")))
    assert "planted" not in str(caught.value)
    wait_until(lambda: True)
