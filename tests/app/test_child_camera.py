"""Cameras in processes of their own: the same pictures, and nothing that happens to one reaches the rig."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.live import wait_until

from app.capture.cameras.av_camera import AvLiveCamera
from app.capture.cameras.camera import MonotonicClock, TimeBase
from app.capture.cameras.child_camera import ChildCamera, judge
from app.capture.cameras.factory import create_cameras
from app.capture.cameras.uri import parse_camera_uri
from app.capture.capture_thread import CaptureState, CaptureThread
from app.capture.config import CameraConfig
from fusion_core.errors import CameraLost, CameraTimeout, EndOfStream
from fusion_core.frames import Frame, Stream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cameras have processes of their own on Linux alone")
TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}{os.pathsep}{TESTS.parent}")


BUSY = ("still starting", "gave no picture")


def opened(camera: ChildCamera, busy_words: tuple[str, ...] = BUSY) -> ChildCamera:
    """Open it; a child may take some time to start on a busy machine."""
    end_s = time.monotonic() + 60
    while True:
        try:
            camera.open()
            return camera
        except CameraLost as error:
            busy = any(word in str(error) for word in busy_words)
            if not busy or time.monotonic() > end_s:
                raise


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _film(tmp_path_factory.mktemp("film"), Fraction(25), 60)


def _film(folder: Path, rate: Fraction, count: int) -> Path:
    path = folder / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        for number in range(count):
            pixels = np.full((64, 96, 3), 3 * number, np.uint8)
            pixels[number % 64] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def everything(camera: object) -> list[Frame]:
    frames = []
    while True:
        try:
            frames.append(camera.read(5.0))  # type: ignore[attr-defined]
        except EndOfStream:
            return frames


def test_the_same_pictures_come_out_though_all_are_kept(film: Path) -> None:
    here = create_cameras(CameraConfig(uri=f"file:{film}"), CameraConfig(uri="sim:thermal")).visible
    apart = create_cameras(CameraConfig(uri=f"file:{film}", own_process=True), CameraConfig(uri="sim:thermal")).visible
    assert isinstance(apart, ChildCamera)
    here.open()
    expected = everything(here)
    here.close()
    got = everything(opened(apart))
    apart.close()
    assert len(got) == len(expected) == 60
    for one, other in zip(got, expected, strict=True):
        assert np.array_equal(one.pixels, other.pixels) and not one.pixels.flags.writeable
        assert (one.index, one.ts_source, one.flags) == (other.index, other.ts_source, other.flags)
    steps = [(b.timestamp_ns - a.timestamp_ns) for a, b in itertools.pairwise(got)]
    assert steps == [(b.timestamp_ns - a.timestamp_ns) for a, b in itertools.pairwise(expected)]


def test_what_is_kept_is_not_painted_over(film: Path) -> None:
    camera = opened(ChildCamera(*_of(f"file:{film}?loop=1")))
    first = camera.read(5.0)
    corner, before = first.pixels[:8, :8], first.pixels.copy()
    del first
    for _ in range(150):
        camera.read(5.0)
    assert np.array_equal(corner, before[:8, :8])  # a cut holds the slot, too
    child = camera._child
    assert child is not None and len(child._out) <= 2
    del corner
    gc.collect()
    camera.read(5.0)
    assert len(child._out) <= 1  # the one that was read last
    camera.close()


def _of(uri: str, **changes: object) -> tuple[Stream, object, CameraConfig, TimeBase]:
    config = CameraConfig.model_validate({"uri": uri, **changes})
    return Stream.VISIBLE, parse_camera_uri(uri), config, TimeBase(MonotonicClock())  # type: ignore[return-value]


def test_network_cameras_run_apart_and_others_here_unless_told_otherwise() -> None:
    sim = CameraConfig(uri="sim:thermal")
    assert isinstance(create_cameras(CameraConfig(uri="rtsp://h/x"), sim).visible, ChildCamera)
    here = create_cameras(CameraConfig(uri="rtsp://h/x", own_process=False), sim).visible
    assert isinstance(here, AvLiveCamera)
    pair = create_cameras(CameraConfig(uri="sim:visible"), sim)
    assert not isinstance(pair.visible, ChildCamera) and not isinstance(pair.thermal, ChildCamera)


class Watched:
    """A capture thread on one camera, with what came of it."""

    def __init__(self, camera: object, config: CameraConfig) -> None:
        self.frames: list[tuple[float, int]] = []
        self.states: list[tuple[float, CaptureState, str]] = []
        self.thread = CaptureThread(
            camera,  # type: ignore[arg-type]
            Stream.VISIBLE,
            config,
            lambda frame: self.frames.append((time.monotonic(), frame.index)),
            on_state=lambda _, state, reason: self.states.append((time.monotonic(), state, reason)),
        )

    def __enter__(self) -> Watched:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.stop(20)


@pytest.mark.parametrize(
    ("sent", "word"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGSTOP, "was stopped")]
)
def test_a_child_that_dies_or_hangs_is_a_lost_camera(film: Path, sent: signal.Signals, word: str) -> None:
    stream, uri, config, base = _of(f"file:{film}?loop=1&realtime=1", reopen={"first_backoff_s": 0.1})
    camera = ChildCamera(stream, uri, config, base)  # type: ignore[arg-type]
    with Watched(camera, config) as watched:
        wait_until(lambda: len(watched.frames) > 10, 60)
        before, at_s = len(watched.frames), time.monotonic()
        assert camera.pid is not None
        os.kill(camera.pid, sent)
        lost = lambda: [one for one in watched.states if one[0] > at_s and one[1] is CaptureState.LOST]  # noqa: E731
        wait_until(lambda: bool(lost()), 30)
        lost_s = lost()[0][0] - at_s
        wait_until(lambda: len(watched.frames) > before + 20 and watched.frames[-1][0] > at_s + lost_s, 60)
        assert word in lost()[0][2], lost()
    print(f"{sent.name}: noticed after {lost_s:.2f} s")


def test_the_next_process_waits_and_takes_over_at_once(film: Path) -> None:
    """A stopped camera costs neither the time of a farewell, nor that of loading libraries, nor a back-off."""
    stream, uri, config, base = _of(
        f"file:{film}?loop=1&realtime=1", reopen={"first_backoff_s": 30, "max_backoff_s": 30}
    )
    camera = ChildCamera(stream, uri, config, base)  # type: ignore[arg-type]
    with Watched(camera, config) as watched:
        wait_until(lambda: len(watched.frames) > 10, 60)
        began_s = watched.frames[0][0]
        wait_until(lambda: camera._spare is not None and time.monotonic() > began_s + 6, 60)
        spare, child = camera._spare, camera._child
        assert spare is not None and child is not None
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: camera._child is spare, 20)  # without the back-off of 30 s
        wait_until(lambda: watched.states[-1][1] is CaptureState.STREAMING, 60)
    assert not child.alive and not spare.alive and camera._spare is None


def test_a_slow_camera_is_no_hung_one_and_a_stopped_one_is_found_before_its_next_picture(tmp_path: Path) -> None:
    camera = opened(ChildCamera(*_of(f"file:{_film(tmp_path, Fraction(2, 5), 8)}?realtime=1")))
    try:
        frames, timeouts, end_s = 0, 0, time.monotonic() + 5.5
        while time.monotonic() < end_s:
            try:
                camera.read(0.2)
                frames += 1
            except CameraTimeout:
                timeouts += 1
        assert frames in (2, 3, 4) and timeouts > 10
        assert camera.pid is not None
        os.kill(camera.pid, signal.SIGSTOP)
        with pytest.raises(CameraLost, match="was stopped"):
            for _ in range(4):
                with contextlib.suppress(CameraTimeout):
                    camera.read(0.2)
    finally:
        camera.close()
        camera.close()


@pytest.mark.parametrize(
    ("states", "still_s", "spent_s", "word"),
    [
        ("RS", 30.0, 0.0, ""),  # it waits for a busy processor
        ("SR", 30.0, 0.3, ""),
        ("DS", 30.0, 0.0, ""),  # it waits for a disk
        ("SS", 0.5, 0.0, ""),
        ("SS", 0.9, 0.5, ""),  # caught between two steps of its work
        ("", 30.0, 0.0, ""),  # it has gone, as its socket tells
        ("SS", 0.7, 0.0, "hangs"),
        ("RS", 1.2, 1.1, "hangs"),
        ("TT", 0.2, 0.0, "stopped"),
    ],
)
def test_a_process_is_judged_by_what_the_system_says_of_it(
    states: str, still_s: float, spent_s: float, word: str
) -> None:
    said = judge(states, still_s, spent_s, 1.0)
    assert (word in said) if word else said == ""
    assert bool(judge(states, still_s, spent_s, 1.0, beats=False)) is (word == "stopped")


def test_a_standstill_of_the_rig_itself_is_no_fault_of_its_camera(film: Path) -> None:
    camera = opened(ChildCamera(*_of(f"file:{film}?loop=1&realtime=1")))
    camera.read(5.0)
    child = camera._child
    assert child is not None
    for _ in range(3):
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(1.0)  # both stand: a machine that slept
        os.kill(child.pid, signal.SIGCONT)
        assert camera.read(5.0).index > 0
    camera.close()


HOSTILE = {
    "exit at the start": "ended with exit code 3",
    "silence": "gave no picture",
    "garbage": "makes no sense",
    "pictures of a terabyte": "wants to send pictures",
    "negative pictures": "wants to send pictures",
    "crash": "SIGSEGV",
    "a slot that is not there": "makes no sense",
    "larger than its slot": "makes no sense",
    "many channels": "makes no sense",
    "flood": "makes no sense",
    "leak": "allowed",
    "cut the memory short": "ended with exit code 1",
    "hang": "it does nothing",
    "spin": "of the processor",
}


@pytest.mark.parametrize("mode", HOSTILE)
def test_a_child_that_breaks_the_agreement_is_ended(mode: str) -> None:
    stream, uri, config, base = _of("rtsp://192.0.2.1/x", process_memory_mb=100, open_timeout_s=4)
    command = [sys.executable, "-m", "support.hostile_child", mode]
    camera = ChildCamera(stream, uri, config, base, command=command)  # type: ignore[arg-type]
    before_kb = _resident_kb()
    with pytest.raises(CameraLost, match=HOSTILE[mode]):
        opened(camera, BUSY[:1])
        end_s = time.monotonic() + 30
        held: list[Frame] = []
        while time.monotonic() < end_s:
            try:
                held.append(camera.read(0.2))
            except CameraTimeout:
                continue
            assert len(held) < 10_000
            if mode == "flood":
                time.sleep(0.02)  # slower than it sends
            del held[:-12]
    pid = camera.pid
    camera.close()
    camera.close()  # it will not be opened again
    if pid is not None:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert camera._spare is None
    assert _resident_kb() - before_kb < 60_000


def _resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


@pytest.fixture
def endless_describe() -> Iterator[int]:
    """An RTSP server that answers DESCRIBE with two gigabytes to come."""
    server = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def serve(client: socket.socket) -> None:
        with client:
            while request := client.recv(65_536):
                number = request.partition(b"CSeq:")[2].split(b"\r\n")[0].strip() or b"1"
                head = b"RTSP/1.0 200 OK\r\nCSeq: " + number + b"\r\n"
                if not request.startswith(b"DESCRIBE"):
                    client.sendall(head + b"Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n")
                    continue
                client.sendall(head + b"Content-Type: application/sdp\r\nContent-Length: 2000000000\r\n\r\nv=0\r\n")
                while not stopping.wait(0.001):
                    client.sendall(b"a=x:" + b"y" * 1_000_000 + b"\r\n")

    def accept() -> None:
        server.settimeout(0.2)
        while not stopping.is_set():
            try:
                client, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=_quietly, args=(serve, client), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1]
    stopping.set()
    thread.join()
    server.close()


def _quietly(serve: object, client: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the camera has gone
        serve(client)  # type: ignore[operator]


def test_a_camera_that_asks_for_two_gigabytes_gets_them_nowhere(endless_describe: int) -> None:
    config = CameraConfig(
        uri=f"rtsp://127.0.0.1:{endless_describe}/x", process_memory_mb=300, reopen={"first_backoff_s": 0.1}
    )
    camera = create_cameras(config, CameraConfig(uri="sim:thermal")).visible
    assert isinstance(camera, ChildCamera)
    before_kb, most_kb, most_child_kb = _resident_kb(), 0, 0
    with Watched(camera, config) as watched:
        end_s = time.monotonic() + 15
        while time.monotonic() < end_s:
            most_kb = max(most_kb, _resident_kb())
            for child in (camera._child, camera._spare):
                try:
                    size = Path(f"/proc/{child.pid}/statm").read_text() if child is not None else "0 0"
                except OSError:
                    continue
                most_child_kb = max(most_child_kb, int(size.split()[1]) * 4)
            time.sleep(0.05)
        assert any(state is CaptureState.LOST for _, state, _ in watched.states)
    more_mb = (most_kb - before_kb) / 1e3
    print(f"2 GB of DESCRIBE: rig +{more_mb:.0f} MB, camera's process at most {most_child_kb / 1e3:.0f} MB")
    assert most_kb - before_kb < 60_000 and most_child_kb < 900_000
